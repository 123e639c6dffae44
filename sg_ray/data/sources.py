"""Where samples come from: the built-in generator, a folder of JSONL files, or CodeXGLUE.

The row format is that of CodeXGLUE's defect detection (Lu et al., 2021), one JSON object a line:
``{"func": "int f(void) {...}", "target": 0, "idx": 17}``, with ``idx`` optional.
"""

import gzip
import json
import lzma
import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from sg_ray.data.checks import Removals, clean, describe
from sg_ray.data.samples import SPLITS, DataSet, Sample
from sg_ray.data.splits import stratified_subset
from sg_ray.data.synthetic import generate
from sg_ray.errors import InputError
from sg_ray.files import atomic_path

CODEXGLUE = "google/code_x_glue_cc_defect_detection"
PROBE_TIMEOUT_S = 5.0
CHUNK_BYTES = 2**16
NO_TEST_NOTE = "no test file: the test columns stay empty."
ROW_FORMAT = '{"func": "C SOURCE", "target": 0 or 1}'
FILE_STEMS = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}
HUB_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
COMPRESSION_SUFFIXES = ("", ".gz", ".xz", ".zst")

Size = Field(default=None, ge=2)


class SplitLimits(BaseModel):
    """How many samples of each split are used at most (a stratified, seeded subset)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: int | None = Size
    valid: int | None = Size
    test: int | None = Size


class DataConfig(BaseModel):
    """Which samples a sweep works on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path | None = None
    """A folder of train, valid and (optionally) test ``.jsonl`` files; wins over ``source``."""
    source: Literal["synthetic", "path", "codexglue"] = Field("synthetic", validate_default=True)
    num_samples: int = Field(default=3000, ge=20, multiple_of=2)
    """Of all synthetic splits together; even, because they come in vulnerable/fixed pairs."""
    seed: int = Field(default=0, ge=0)
    """Of the synthetic samples, and of the subsets that ``limit`` asks for."""
    limit: SplitLimits = SplitLimits()
    remove_duplicates: bool = False
    """Keep the first of the rows of a split that have the same text and label."""
    remove_conflicts: bool = False
    """Remove every row, in every split, of a text that carries both labels."""
    remove_leaks: bool = False
    """Remove from train what valid or test holds too; valid and test stay as they are."""

    @field_validator("source")
    @classmethod
    def _follow_path(cls, source: str, info: ValidationInfo) -> str:
        if info.data.get("path") is not None:
            return "path"
        if source == "path" and "path" in info.data:
            raise ValueError("source 'path' needs the folder: set data.path=DIR")
        return source


def load_data(config: DataConfig, cache_dir: Path | None = None) -> DataSet:
    """Read, check and (where the settings ask) reduce the data.

    What was removed is removed before a subset is drawn, so that ``limit`` is met exactly.
    A downloaded data set is kept in ``cache_dir`` and read from there the next time.
    Raises InputError that names the file and line, or what to download and where to put it.
    """
    data = _read(config, cache_dir)
    removals = Removals(config.remove_duplicates, config.remove_conflicts, config.remove_leaks)
    splits, report = clean(data.splits, removals)
    for split in ("train", "valid"):
        _require_both_labels(splits[split], f"{split} after the removals", "Switch one off.")
    notes = [*data.notes, *describe(report, removals)]
    for split, size in config.limit.model_dump().items():
        if size is not None and size < len(splits.get(split, ())):
            notes.append(f"{split}: a stratified subset, {size} of {len(splits[split])} rows.")
            splits[split] = stratified_subset(splits[split], size, config.seed)
    return DataSet(data.name, splits, tuple(notes))


def write_jsonl(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples in the row format, atomically, compressed as the name of ``path`` says.

    Raises InputError if the name ends in none of .jsonl, .jsonl.gz, .jsonl.xz and .jsonl.zst.
    """
    if not path.name.endswith(tuple(f".jsonl{suffix}" for suffix in COMPRESSION_SUFFIXES)):
        raise InputError(f"{path}: name it .jsonl, .jsonl.gz, .jsonl.xz or .jsonl.zst.")
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as file,
        _compressor(file, path.suffix) as stream,
    ):
        for sample in samples:
            row = {"func": sample.source, "target": sample.label, "idx": sample.sample_id}
            stream.write(json.dumps(row).encode("ascii") + b"\n")


def _read(config: DataConfig, cache_dir: Path | None) -> DataSet:
    if config.path is not None:
        return _read_folder(config.path.expanduser())
    if config.source == "codexglue":
        return _read_codexglue(cache_dir)
    return _make_synthetic(config.num_samples, config.seed)


def _make_synthetic(num_samples: int, seed: int) -> DataSet:
    """Split 80/10/10; the cuts fall between pairs, so that no split holds the fix of another."""
    samples = generate(num_samples, seed)
    num_held_out = num_samples // 2 // 10 * 2
    train_end, valid_end = num_samples - 2 * num_held_out, num_samples - num_held_out
    splits = {
        "train": samples[:train_end],
        "valid": samples[train_end:valid_end],
        "test": samples[valid_end:],
    }
    return DataSet("synthetic", splits)


def _read_folder(folder: Path, name: str | None = None) -> DataSet:
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder. Give one that holds train.jsonl and valid.jsonl."
        )
    paths = {split: _find_file(folder, split) for split in SPLITS}
    for split in ("train", "valid"):
        if paths[split] is None:
            raise InputError(
                f"{folder}: no {split}.jsonl (or .jsonl.gz, .jsonl.xz, .jsonl.zst). "
                f"Add it, one {ROW_FORMAT} a line."
            )
    splits = {split: _read_file(path, split) for split, path in paths.items() if path is not None}
    notes = () if "test" in splits else (NO_TEST_NOTE,)
    return DataSet(name or folder.resolve().name, splits, notes)


def _find_file(folder: Path, split: str) -> Path | None:
    names = [f"{stem}.jsonl{end}" for stem in FILE_STEMS[split] for end in COMPRESSION_SUFFIXES]
    found = [folder / name for name in names if (folder / name).exists()]
    if len(found) > 1:
        listed = " and ".join(path.name for path in found)
        raise InputError(f"{folder}: {listed} are both the {split} split. Keep one of them.")
    return found[0] if found else None


def _read_file(path: Path, split: str) -> list[Sample]:
    samples = [
        _parse_row(_parse_json(line, where), where, f"{split}-{where.line}")
        for where, line in _numbered_lines(path)
    ]
    if not samples:
        raise InputError(f"{path}: the file is empty. Give one {ROW_FORMAT} a line.")
    if split != "test":
        _require_both_labels(samples, str(path), "Add rows of the other.")
    return samples


@dataclass(frozen=True, slots=True)
class _Place:
    """A line (from 1) of the unpacked text of a file."""

    path: Path
    line: int

    def error(self, problem: str) -> InputError:
        return InputError(f"{self.path}:{self.line}: {problem}")


def _numbered_lines(path: Path) -> Iterator[tuple[_Place, bytes]]:
    """Yield the lines that are not blank, without a byte order mark."""
    number = 0
    try:
        for number, line in enumerate(_lines(path), start=1):
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if content.strip():
                yield _Place(path, number), content
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise InputError(
            f"{path}: cannot be unpacked after line {number} ({error}). The file is truncated or "
            "damaged: fetch it again."
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def _lines(path: Path) -> Iterator[bytes]:
    if path.suffix == ".zst":
        return _zstd_lines(path)
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    return _lines_of(cast(Callable[..., AbstractContextManager[BinaryIO]], opener), path)


def _lines_of(
    opener: Callable[..., AbstractContextManager[BinaryIO]], path: Path
) -> Iterator[bytes]:
    with opener(path, "rb") as file:
        yield from file


def _zstd_lines(path: Path) -> Iterator[bytes]:
    pending = b""
    with path.open("rb") as file:
        for chunk in _zstd_chunks(file):
            *lines, pending = (pending + chunk).split(b"\n")
            yield from lines
    yield pending


def _zstd_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Unpack frame after frame; zstandard's own reader takes a truncated frame for a whole one."""
    decoder = None
    while packed := file.read(CHUNK_BYTES):
        while packed:
            decoder = decoder or zstandard.ZstdDecompressor().decompressobj()
            yield decoder.decompress(packed)
            packed = decoder.unused_data
            if decoder.eof:
                decoder = None
    if decoder is not None:
        raise EOFError("the last frame ends early")


def _parse_json(line: bytes, where: _Place) -> Mapping[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise where.error(f"not UTF-8 at byte {error.start + 1}. Save the file as UTF-8.") from None
    except json.JSONDecodeError as error:
        raise where.error(f"not JSON ({error.msg}, column {error.colno}). {_WANTED}") from None
    except (ValueError, RecursionError) as error:
        raise where.error(f"not JSON that can be read ({error}). {_WANTED}") from None
    if not isinstance(row, dict):
        raise where.error(f"not a JSON object but {_type_name(row)}. {_WANTED}")
    return row


_WANTED = f"Give one {ROW_FORMAT} a line."


def _parse_row(row: Mapping[str, Any], where: _Place, default_id: str) -> Sample:
    """Check one row. Messages never quote source code: only numbers and types."""
    for key in ("func", "target"):
        if key not in row:
            raise where.error(f"key {key!r} is missing. {_WANTED}")
    source, target, idx = row["func"], row["target"], row.get("idx")
    if not isinstance(source, str):
        raise where.error(f"'func' must be a string, found {_type_name(source)}.")
    if not source.strip():
        raise where.error("'func' is empty. Remove the row or give the function's source.")
    if not isinstance(target, int):
        raise where.error(f"'target' must be 0 or 1, found {_type_name(target)}.")
    if target not in (0, 1):
        raise where.error(f"'target' must be 0 or 1, found {target}.")
    if idx is not None and (isinstance(idx, bool) or not isinstance(idx, int | str)):
        raise where.error(f"'idx' must be a number or a string, found {_type_name(idx)}.")
    return Sample(source, int(target), default_id if idx is None else str(idx))


def _type_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", float: "a fraction"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")


def _require_both_labels(samples: Sequence[Sample], where: str, advice: str) -> None:
    labels = {sample.label for sample in samples}
    if len(labels) < 2:
        found = f"only label {labels.pop()}" if labels else "no rows"
        raise InputError(f"{where}: {found}; both labels are needed. {advice}")


def _compressor(file: BinaryIO, suffix: str) -> AbstractContextManager[Any]:
    if suffix == ".gz":  # without name and time: equal samples, equal bytes
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
    if suffix == ".xz":
        return lzma.open(file, "wb")
    if suffix == ".zst":
        return zstandard.ZstdCompressor(level=10).stream_writer(file, closefd=False)
    return file


def _read_codexglue(cache_dir: Path | None) -> DataSet:
    """Read the copy in ``cache_dir``, which the first call downloads."""
    if cache_dir is None:
        return DataSet("codexglue", dict(_download_codexglue(None)))
    folder = cache_dir / "codexglue"
    files = {split: folder / f"{split}.jsonl.zst" for split in SPLITS}
    if not all(path.exists() for path in files.values()):
        for split, samples in _download_codexglue(cache_dir / "huggingface"):
            write_jsonl(files[split], samples)
    return _read_folder(folder, "codexglue")


def _download_codexglue(library_cache: Path | None) -> list[tuple[str, list[Sample]]]:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"data.source=codexglue: the package 'datasets' is not installed ({error}). Install it "
            "with pip install 'sg-ray[codexglue]', or set data.path=DIR to a folder that holds the "
            "data."
        ) from error
    if not datasets.config.HF_HUB_OFFLINE:
        _require_reachable(datasets.config.HF_ENDPOINT)
    try:
        hub = datasets.load_dataset(CODEXGLUE, cache_dir=library_cache and str(library_cache))
    except Exception as error:  # the library's, its HTTP client's and its file readers' own kinds
        raise _not_downloaded(error) from error
    return [(split, _hub_samples(hub[name], split)) for split, name in HUB_SPLITS.items()]


def _hub_samples(rows: Iterable[Mapping[str, Any]], split: str) -> list[Sample]:
    """Check the rows of a downloaded split as if they were lines of a file."""
    numbered = enumerate(rows, start=1)
    return [
        _parse_row(
            {"func": row["func"], "target": row["target"], "idx": row.get("id")},
            _Place(Path(CODEXGLUE) / split, number),
            f"{split}-{number}",
        )
        for number, row in numbered
    ]


def _require_reachable(endpoint: str) -> None:
    """Fail within seconds without a network, where the library itself retries for half a minute.

    An HTTP error is an answer, and so is a certificate that only this probe does not know.
    """
    try:
        urlopen(Request(endpoint, method="HEAD"), timeout=PROBE_TIMEOUT_S).close()
    except HTTPError as error:
        error.close()
    except OSError as error:
        if not (isinstance(error, URLError) and isinstance(error.reason, ssl.SSLError)):
            raise _not_downloaded(error) from error


def _not_downloaded(error: Exception) -> InputError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return InputError(
        f"data.source=codexglue: {CODEXGLUE} cannot be downloaded ({reason}). Where there is a "
        f"network, download this data set's three splits (train, validation, test) from the "
        "Hugging Face Hub; put them into a folder here as train.jsonl, valid.jsonl and "
        f"test.jsonl, one {ROW_FORMAT} a line; and set data.path=DIR to that folder."
    )
