"""What to extract from source: the settings of each feature kind, hashed into its key."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from sg_ray.files import content_hash
from sg_ray.setting_types import HubNameOrFolder, StrictModel

_CONTENT = "_content"


def by_content(settings: Any) -> Any:
    """Return settings as they count: what lies at a place, if that is known, and not the place.

    A setting ``X`` may name a folder or a hub repository, and ``X_content`` be the hash of what is
    there. A copy elsewhere is then the same, and other files under the same name are not.
    """
    if not isinstance(settings, Mapping):
        return settings
    unknown = {name for name, v in settings.items() if name.endswith(_CONTENT) and v is None}
    places = {name.removesuffix(_CONTENT) for name in settings if name.endswith(_CONTENT)}
    places -= {name.removesuffix(_CONTENT) for name in unknown}
    return {n: by_content(v) for n, v in settings.items() if n not in unknown | places}


def contents(settings: Any) -> dict[str, str]:
    """Return the hashes ``X_content`` in settings, by name, at whatever depth."""
    if not isinstance(settings, Mapping):
        return {}
    own = {n: v for n, v in settings.items() if n.endswith(_CONTENT) and v is not None}
    deeper = (contents(value) for value in settings.values())
    return {**own, **{n: v for found in deeper for n, v in found.items()}}


class FeatureSpec(StrictModel):
    """Settings of one feature kind. Equal settings on equal data give one stored feature."""

    kind: ClassVar[str]
    version: ClassVar[int]
    """Raised when the same settings would give other arrays, so that old stores are not read."""

    @property
    def key(self) -> str:
        """Name of this kind with these settings, e.g. ``tokens-1f0c9a``."""
        settings: dict[str, Any] = {"version": self.version, **by_content(self.model_dump())}
        return f"{self.kind}-{content_hash(settings, 8)}"


class TokenSpec(FeatureSpec):
    """Byte-level BPE tokens, whole functions; families truncate when they collate."""

    kind: ClassVar[str] = "tokens"
    version: ClassVar[int] = 1
    tokenizer: HubNameOrFolder = "train"
    """``train``: a byte-level BPE trained on the train split. Else the folder or hub name of a
    pretrained one: a Hugging Face tokenizer, or a bare ``vocab.json`` + ``merges.txt``."""
    tokenizer_content: str | None = None
    """Hash of a pretrained tokenizer's files. None: whatever is there; a sweep fills it in."""
    vocab_size: int = Field(default=8192, ge=300, le=100_000)
    """Tokens that a trained BPE may hold. More make functions shorter and the embedding larger."""
    collapse_whitespace: bool = True
    """Make one space of each run of whitespace before encoding, as CodeXGLUE does: half as many
    tokens for a tokenizer that was not made for indented code."""


class GraphSpec(FeatureSpec):
    """Program graphs: AST, next-token, control-flow and def-use edges, or the sequential graph."""

    kind: ClassVar[str] = "graphs"
    version: ClassVar[int] = 2
    graph: Literal["program", "sequential"] = "program"
    """``program``: AST, next-token, control-flow and def-use edges. ``sequential``: next-token
    edges alone, to see what the others are worth."""
    vocab_size: int = Field(default=8192, ge=16, le=1_000_000)
    """Most frequent texts of nodes that are told apart; all others are one."""
    max_nodes: int = Field(default=2000, ge=8, le=1_000_000)
    """Larger graphs are cut. Lower it if memory runs out."""


class TextSpec(FeatureSpec):
    """The source itself as UTF-8 bytes, for families that read text."""

    kind: ClassVar[str] = "text"
    version: ClassVar[int] = 1
