"""The files of a pretrained encoder or tokenizer: where they lie, and what they hold.

A name is that of a folder, or of a repository on the Hugging Face hub: then the local cache is
asked first and the network last. Code that lies among the files is never run.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sg_ray.errors import InputError
from sg_ray.setting_types import with_home

CONFIG_FILE = "config.json"
ADAPTER_FILE = "adapter_config.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
BPE_FILES = ("vocab.json", "merges.txt")
VOCABULARIES: Sequence[tuple[str, ...]] = (
    ("tokenizer.json",),
    BPE_FILES,
    ("vocab.txt",),
    ("spiece.model",),
    ("tokenizer.model",),
    ("sentencepiece.bpe.model",),
)
"""Any of these sets of files makes a tokenizer."""
_TOKENIZER_FILES = (
    *(file for files in VOCABULARIES for file in files),
    TOKENIZER_CONFIG_FILE,
    SPECIAL_TOKENS_FILE,
    "added_tokens.json",
)
_WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
"""Weights in one file, or the index of those in several; the first kind that is there counts."""
ENCODERS: Sequence[tuple[str, ...]] = tuple(
    (CONFIG_FILE, file) for files in _WEIGHTS for file in files
)
"""Any of these sets of files makes an encoder."""

_POINTER = b"version https://git-lfs"
_SMALL_FILES = ("*.json", "*.txt", "*.model")
_NUM_CHARS = 16


def encoder_folder(name: str) -> Path:
    """Return the local folder of an encoder: config.json and weights.

    Raises InputError if it lacks one of them, can neither be found nor downloaded, or comes with
    code of its own.
    """
    folder = _find(name, _ENCODER)
    if (folder / ADAPTER_FILE).is_file():
        raise InputError(
            f"pretrained: {name!r} holds an adapter ({ADAPTER_FILE}), which would be left out. "
            "Merge it into its encoder (peft: merge_and_unload), save that and give its folder."
        )
    check_no_code(f"pretrained: {name!r}", read_settings(folder / CONFIG_FILE))
    if not weight_files(folder):
        raise InputError(
            f"pretrained: {name!r} could not be loaded: {folder} lacks weights, whole in "
            "model.safetensors or pytorch_model.bin, or in all the parts that "
            "model.safetensors.index.json names. Put them there, or leave pretrained out to "
            "train from scratch."
        )
    return folder


def architecture_folder(name: str) -> Path:
    """Return the local folder of an encoder's config.json; weights need not be there."""
    folder = local_folder("pretrained", name)
    if folder is None:
        return encoder_folder(name)
    check_no_code(f"pretrained: {name!r}", read_settings(folder / CONFIG_FILE))
    return folder


def tokenizer_folder(name: str) -> Path:
    """Return the local folder of a tokenizer.

    Raises InputError if it holds none, or can neither be found nor downloaded.
    """
    folder = _find(name, _TOKENIZER)
    if not _has_vocabulary(folder):
        raise InputError(
            f"{folder} holds no tokenizer: it needs tokenizer.json, or vocab.json and merges.txt, "
            "or vocab.txt."
        )
    return folder


def local_folder(setting: str, name: str) -> Path | None:
    """Return the folder that ``name`` is; None if there is none: it may be of the hub.

    Raises InputError, beginning with ``setting``, if it cannot be looked into.
    """
    folder = with_home(Path(name))
    try:
        if not folder.is_dir():
            return None
        (folder / CONFIG_FILE).exists()
    except OSError as error:
        raise InputError(
            f"{setting}: the folder {folder} cannot be read ({error.strerror}). Give another, or "
            "make it readable."
        ) from error
    return folder


def can_only_be_a_folder(name: str) -> bool:
    """Return True for a name that no repository of the hub has."""
    return Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold an encoder's weights, none if they are not all there."""
    for single, index in _WEIGHTS:
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            parts = [folder / part for part in _parts(folder / index)]
            return [folder / index, *parts] if all(part.is_file() for part in parts) else []
    return []


def encoder_content(name: str) -> str:
    """Return the hash of what an encoder is: its config.json and weights."""
    folder = encoder_folder(name)
    return _content([folder / CONFIG_FILE, *weight_files(folder)])


def tokenizer_content(name: str) -> str:
    """Return the hash of a tokenizer's files."""
    folder = tokenizer_folder(name)
    return _content(path for file in _TOKENIZER_FILES if (path := folder / file).is_file())


def check_content(setting: str, name: str, now: str, meant: str | None) -> None:
    """Raise InputError if what lies at ``name`` is not what was meant (None: anything)."""
    if meant not in (None, now):
        raise InputError(
            f"{setting}: {name!r} holds other files now: their hash is {now}, meant were those of "
            f"{meant}. Bring those back, or start anew under another name=..."
        )


def read_settings(path: Path) -> Mapping[str, Any]:
    """Return a JSON file's settings. Raises InputError if it is missing or holds none."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise InputError(f"{path} cannot be read ({reason}). Fetch it again.") from error
    if not isinstance(settings, dict):
        raise InputError(f"{path} holds no settings, but a {type(settings).__name__}.")
    return settings


def check_no_code(what: str, settings: Mapping[str, Any]) -> None:
    """Raise InputError if ``settings`` name classes that lie beside them as Python files."""
    if settings.get("auto_map"):
        raise InputError(
            f"{what} needs code of its own (auto_map); sg-ray runs none. Give one that the "
            "transformers library knows by itself."
        )


@contextmanager
def quiet_hugging_face() -> Iterator[None]:
    """Keep download bars, retries and loading reports off the console."""
    from transformers.utils import logging as hf_logging

    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    had_bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if had_bars:
            hf_logging.enable_progress_bar()


@dataclass(frozen=True)
class _Kind:
    """What is looked for. Of ``downloads``, file names, more are fetched until it ``is_whole``."""

    setting: str
    is_whole: Callable[[Path], bool]
    downloads: Sequence[Sequence[str]]
    advice: str


def _find(name: str, kind: _Kind) -> Path:
    """Return the folder that ``name`` is or, of a hub name, the one that the cache has or gets."""
    folder = local_folder(kind.setting, name)
    if folder is not None:
        return folder
    if can_only_be_a_folder(name):
        raise InputError(f"{kind.setting}: the folder {name} does not exist. {kind.advice}")
    cached = _cached(name)
    if cached is not None and kind.is_whole(cached):
        return cached
    return _downloaded(name, kind)


def _cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for file in (CONFIG_FILE, *_TOKENIZER_FILES):
        try:
            found = try_to_load_from_cache(name, file)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None


def _downloaded(name: str, kind: _Kind) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with quiet_hugging_face():
            for patterns in kind.downloads:
                folder = Path(snapshot_download(name, allow_patterns=list(patterns)))
                if kind.is_whole(folder):
                    break
    except Exception as error:  # network, proxy, offline mode, unknown name: no common base class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{kind.setting}: {name!r} could not be loaded: it is no folder here, not in the local "
            f"cache, and the Hugging Face hub cannot give it ({reason}). On a machine with network "
            f"access run: hf download {name} --local-dir DIR; copy DIR here and give its path. "
            f"{kind.advice}"
        ) from error
    return folder


def _has_vocabulary(folder: Path) -> bool:
    return any(all((folder / file).is_file() for file in files) for files in VOCABULARIES)


_ENCODER = _Kind(
    "pretrained",
    lambda folder: bool(weight_files(folder)),
    ((*_SMALL_FILES, "model*.safetensors"), ("pytorch_model*",)),
    "Give a folder with config.json and weights, or a hub name, or leave pretrained out to train "
    "from scratch.",
)
_TOKENIZER = _Kind(
    "tokenizer",
    _has_vocabulary,
    (_SMALL_FILES,),
    "Give a folder with tokenizer.json, or with vocab.json and merges.txt, or `tokenizer: train`.",
)


def _parts(index: Path) -> list[str]:
    names = read_settings(index).get("weight_map")
    if (
        not names
        or not isinstance(names, dict)
        or not all(isinstance(part, str) for part in names.values())
    ):
        raise InputError(f"{index} names no files (weight_map). Fetch it again.")
    return sorted(set(names.values()))


def _content(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0")
        try:
            status = path.stat()
            digest.update(_file_hash(path.resolve(), status.st_size, status.st_mtime_ns))
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}). Fetch it again."
            ) from error
    return digest.hexdigest()[:_NUM_CHARS]


@lru_cache(maxsize=256)
def _file_hash(path: Path, size: int, modified_ns: int) -> bytes:
    """Read a file once, unless it has changed since: weights may be gigabytes."""
    del size, modified_ns  # part of what is remembered
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise InputError(
                f"{path} holds no data, but says where Git LFS keeps them. Fetch them: run "
                "`git lfs pull` there."
            )
        file.seek(0)
        return hashlib.file_digest(file, "sha256").digest()
