"""Byte-level BPE tokens: trained on the train split, or those of a pretrained model."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sg_ray.errors import InputError
from sg_ray.features.featuriser import Map, to_utf8
from sg_ray.features.packed import Ragged
from sg_ray.features.pretrained_files import (
    BPE_FILES,
    SPECIAL_TOKENS_FILE,
    TOKENIZER_CONFIG_FILE,
    check_content,
    check_no_code,
    local_folder,
    quiet_hugging_face,
    read_settings,
    tokenizer_content,
    tokenizer_folder,
)
from sg_ray.features.spec import TokenSpec
from sg_ray.files import write_json, write_text
from sg_ray.host.helper_thread import hearing_signals

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""Ids 0 to 4 of a trained tokenizer, as in RoBERTa."""

MAX_WORD_BYTES = 1000
"""Longer runs of letters, digits or signs are cut into pieces of this length: merging such a run
takes time that grows with its square, and teaches nothing."""

_SPECIAL_TOKENS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bos_id": (("cls_token", "bos_token"), ("<s>", "[CLS]", "<|endoftext|>")),
    "pad_id": (("pad_token",), ("<pad>", "[PAD]")),
    "eos_id": (("sep_token", "eos_token"), ("</s>", "[SEP]", "<|endoftext|>")),
    "unk_id": (("unk_token",), ("<unk>", "[UNK]")),
}
"""What a tokenizer's own settings call each special token; the names that pretrained tokenizers
without such settings use. The first found is taken."""

_STATE_FILE = "tokenizer.json"


class TokenFeaturiser:
    """Encodes whole functions as token ids, without special tokens.

    Text that spells a special token, such as ``"<s>"`` in a string, is encoded as plain text.
    Arrays: ``ids`` uint16 if the vocabulary fits, else int32.
    """

    def __init__(
        self, spec: TokenSpec, tokenizer: Tokenizer, names: Mapping[str, Any] | None = None
    ) -> None:
        """``names`` are a tokenizer's own settings, such as ``bos_token``.

        Raises InputError if it has neither a token to start a sequence nor one to end it.
        """
        self.spec = spec
        self._tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokens = {key: self._special_token(key, names or {}) for key in _SPECIAL_TOKENS}
        if self._tokens["bos_id"] is None and self._tokens["eos_id"] is None:
            raise InputError(
                f"tokenizer {spec.tokenizer!r} has no token to start or to end a function with. "
                f"Name one in its {TOKENIZER_CONFIG_FILE} (cls_token, bos_token, sep_token or "
                "eos_token), use another, or `tokenizer: train`."
            )

    @property
    def meta(self) -> dict[str, Any]:
        """How many ids there are, and special ids: None for one that the tokenizer lacks."""
        ids = {
            key: None if token is None else self._tokenizer.token_to_id(token)
            for key, token in self._tokens.items()
        }
        return {"vocab_size": self._num_ids, **ids}

    @classmethod
    def inputs(cls, spec: TokenSpec) -> Mapping[str, str]:
        """Return the library's version, and what else decides the tokens.

        That is how words are cut, or the hash of a pretrained tokenizer's files, if the settings
        do not name it.
        """
        inputs = {"tokenizers": version("tokenizers")}
        if spec.tokenizer == "train":
            return {**inputs, "max_word_bytes": str(MAX_WORD_BYTES)}
        if spec.tokenizer_content is None and local_folder("tokenizer", spec.tokenizer):
            inputs["files"] = tokenizer_content(spec.tokenizer)
        return inputs

    @classmethod
    def fit(cls, spec: TokenSpec, sources: Sequence[str], run: Map = map) -> Self:  # noqa: ARG003
        """Train on ``sources`` (a pure function of them), or load the pretrained tokenizer.

        Raises InputError if that one cannot be read, or is not the one that ``spec`` means.
        """
        if spec.tokenizer == "train":
            texts = [_prepare(spec, source) for source in sources]
            return cls(spec, _train(texts, spec.vocab_size))
        content = tokenizer_content(spec.tokenizer)
        check_content("tokenizer", spec.tokenizer, content, spec.tokenizer_content)
        return cls._read(spec, tokenizer_folder(spec.tokenizer))

    @classmethod
    def load(cls, spec: TokenSpec, folder: Path) -> Self:
        """Restore what ``save`` wrote."""
        return cls._read(spec, folder)

    @classmethod
    def _read(cls, spec: TokenSpec, folder: Path) -> Self:
        return cls(spec, _read_folder(folder), _special_names(folder))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, which other libraries read as well."""
        write_text(folder / _STATE_FILE, self._tokenizer.to_str())
        names = {_SPECIAL_TOKENS[key][0][-1]: token for key, token in self._tokens.items()}
        write_json(folder / TOKENIZER_CONFIG_FILE, names)

    def encode(self, sources: Sequence[str]) -> dict[str, Ragged]:
        """Return the token ids of each source."""
        texts = [_prepare(self.spec, source) for source in sources]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        dtype = np.uint16 if self._num_ids <= 2**16 else np.int32
        ids = [np.array(encoding.ids, dtype=dtype) for encoding in encodings]
        packed = Ragged.pack([np.zeros(0, dtype=dtype), *ids])
        return {"ids": Ragged(packed.values, packed.offsets[1:])}

    @cached_property
    def _num_ids(self) -> int:
        """One more than the highest id: there may be gaps."""
        return max(self._tokenizer.get_vocab().values(), default=-1) + 1

    def _special_token(self, key: str, names: Mapping[str, Any]) -> str | None:
        settings, usual = _SPECIAL_TOKENS[key]
        if named := [names[setting] for setting in settings if setting in names]:
            candidates = [_text(token) for token in named]
        else:
            candidates = list(usual)
        known = (t for t in candidates if t and self._tokenizer.token_to_id(t) is not None)
        return next(known, None)


def _text(token: Any) -> str | None:
    """Return a special token, which settings hold as text or as a mapping."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else None


def _special_names(folder: Path) -> Mapping[str, Any]:
    paths = (folder / SPECIAL_TOKENS_FILE, folder / TOKENIZER_CONFIG_FILE)
    found = [read_settings(path) for path in paths if path.is_file()]
    return {name: token for settings in found for name, token in settings.items()}


def _prepare(spec: TokenSpec, source: str) -> str:
    text = to_utf8(source).decode("utf-8")
    return " ".join(text.split()) if spec.collapse_whitespace else text


def _train(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    tokenizer = _byte_level(models.BPE())
    cut = pre_tokenizers.FixedLength(length=MAX_WORD_BYTES)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([tokenizer.pre_tokenizer, cut])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    hearing_signals(partial(tokenizer.train_from_iterator, texts, trainer, length=len(texts)))
    return tokenizer


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _read_folder(folder: Path) -> Tokenizer:
    if (folder / _STATE_FILE).is_file():
        return _read_tokenizer(folder / _STATE_FILE)
    if all((folder / name).is_file() for name in BPE_FILES):
        return _read_bpe(folder)
    return _convert(folder)


def _read_bpe(folder: Path) -> Tokenizer:
    vocab, merges = (str(folder / name) for name in BPE_FILES)
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


def _convert(folder: Path) -> Tokenizer:
    """Return a tokenizer of another form (vocab.txt, SentencePiece) as the library converts it."""
    from transformers import AutoTokenizer

    if (folder / TOKENIZER_CONFIG_FILE).is_file():
        settings = read_settings(folder / TOKENIZER_CONFIG_FILE)
        check_no_code(f"tokenizer: {folder}", settings)
    try:
        with quiet_hugging_face():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        backend: Tokenizer = tokenizer.backend_tokenizer
    except Exception as error:  # whatever a folder of anybody's making leads the library to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{folder}: its tokenizer cannot be read ({reason}). Give a folder with "
            "tokenizer.json, or `tokenizer: train`."
        ) from error
    return backend
