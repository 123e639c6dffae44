"""Byte-level BPE tokens: trained on the train split, or those of a pretrained model."""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sg_ray.errors import InputError
from sg_ray.features.featuriser import to_utf8
from sg_ray.features.packed import Ragged
from sg_ray.features.spec import TokenSpec
from sg_ray.files import write_text

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""Ids 0 to 4 of a trained tokenizer, as in RoBERTa."""

_SPECIAL_NAMES = {
    "bos_id": ("<s>", "[CLS]", "<|endoftext|>"),
    "pad_id": ("<pad>", "[PAD]"),
    "eos_id": ("</s>", "[SEP]", "<|endoftext|>"),
    "unk_id": ("<unk>", "[UNK]"),
}
"""Names that pretrained tokenizers use for each special token, the first found is taken."""

_STATE_FILE = "tokenizer.json"
_VOCAB_FILES = ("vocab.json", "merges.txt")


class TokenFeaturiser:
    """Encodes whole functions as token ids, without special tokens.

    Text that spells a special token, such as ``"<s>"`` in a string, is encoded as plain text.
    Arrays: ``ids`` uint16 if the vocabulary fits, else int32.
    """

    def __init__(self, spec: TokenSpec, tokenizer: Tokenizer) -> None:
        """Raise InputError if ``tokenizer`` lacks a token to start, end or pad a sequence."""
        self.spec = spec
        self._tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._special_ids = {name: self._special_id(name) for name in _SPECIAL_NAMES}
        if missing := [n for n in ("bos_id", "eos_id", "pad_id") if self._special_ids[n] is None]:
            raise InputError(
                f"tokenizer {spec.tokenizer!r} has no token for {', '.join(missing)}. Use one made "
                f"for an encoder such as RoBERTa or BERT, or `tokenizer: train`."
            )

    @property
    def meta(self) -> dict[str, Any]:
        """Vocabulary size and special ids; ``unk_id`` may be None."""
        return {"vocab_size": self._vocab_size, **self._special_ids}

    @classmethod
    def inputs(cls, spec: TokenSpec) -> Mapping[str, str]:
        """Return the library's version, and a hash of the files of a local pretrained tokenizer."""
        inputs = {"tokenizers": version("tokenizers")}
        folder = Path(spec.tokenizer)
        if spec.tokenizer != "train" and folder.is_dir():
            inputs["files"] = _hash_files(folder)
        return inputs

    @classmethod
    def fit(cls, spec: TokenSpec, sources: Sequence[str]) -> Self:
        """Train on ``sources`` (a pure function of them), or load the pretrained tokenizer.

        Raises InputError if that one cannot be read.
        """
        if spec.tokenizer == "train":
            return cls(
                spec, _train([_prepare(spec, source) for source in sources], spec.vocab_size)
            )
        return cls(spec, _load_pretrained(spec.tokenizer))

    @classmethod
    def load(cls, spec: TokenSpec, folder: Path) -> Self:
        """Restore from ``tokenizer.json``."""
        return cls(spec, Tokenizer.from_file(str(folder / _STATE_FILE)))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``, which other libraries read as well."""
        write_text(folder / _STATE_FILE, self._tokenizer.to_str())

    def encode(self, sources: Sequence[str]) -> dict[str, Ragged]:
        """Return the token ids of each source."""
        texts = [_prepare(self.spec, source) for source in sources]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        dtype = np.uint16 if self._vocab_size <= 2**16 else np.int32
        ids = [np.array(encoding.ids, dtype=dtype) for encoding in encodings]
        packed = Ragged.pack([np.zeros(0, dtype=dtype), *ids])
        return {"ids": Ragged(packed.values, packed.offsets[1:])}

    @property
    def _vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def _special_id(self, name: str) -> int | None:
        ids = map(self._tokenizer.token_to_id, _SPECIAL_NAMES[name])
        return next((token_id for token_id in ids if token_id is not None), None)


def _prepare(spec: TokenSpec, source: str) -> str:
    text = to_utf8(source).decode("utf-8")
    return " ".join(text.split()) if spec.collapse_whitespace else text


def _train(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _load_pretrained(name: str) -> Tokenizer:
    folder = Path(name)
    if folder.is_dir():
        return _load_folder(folder)
    if folder.is_absolute() or name.startswith((".", "~")):
        raise InputError(
            f"tokenizer folder {name} does not exist. Give a folder with tokenizer.json, or with "
            f"vocab.json and merges.txt, or `tokenizer: train`."
        )
    return _load_from_hub(name)


def _load_folder(folder: Path) -> Tokenizer:
    if (folder / _STATE_FILE).is_file():
        return _read_tokenizer(folder / _STATE_FILE)
    if not all((folder / name).is_file() for name in _VOCAB_FILES):
        raise InputError(
            f"{folder} holds no tokenizer: it needs tokenizer.json, or vocab.json and merges.txt."
        )
    vocab, merges = (str(folder / name) for name in _VOCAB_FILES)
    try:
        tokenizer = _byte_level(models.BPE.from_file(vocab, merges))
    except Exception as error:  # the library raises Exception itself
        raise InputError(
            f"{vocab} and {merges} are not a byte-level BPE vocabulary ({error}). "
            f"Fetch the tokenizer's files again."
        ) from error
    known = set(tokenizer.get_vocab(with_added_tokens=False))
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token in known])
    return tokenizer


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise InputError(
            f"{path} is not a Hugging Face tokenizer ({error}). Fetch the tokenizer's files again."
        ) from error


def _load_from_hub(name: str) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(
            f"tokenizer {name!r} is neither a folder here nor reachable on the Hugging Face hub "
            f"({type(error).__name__}). Give a folder with tokenizer.json, or with vocab.json and "
            f"merges.txt, or `tokenizer: train`."
        ) from error
    if not tokenizer.is_fast:
        raise InputError(
            f"tokenizer {name!r} has no fast version. Use another, or `tokenizer: train`."
        )
    backend: Tokenizer = tokenizer.backend_tokenizer
    return backend


def _hash_files(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (_STATE_FILE, *_VOCAB_FILES):
        path = folder / name
        if path.is_file():
            digest.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
