"""What to extract from source: the settings of each feature kind, hashed into its key."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from sg_ray.files import content_hash


class FeatureSpec(BaseModel):
    """Settings of one feature kind. Equal settings on equal data give one stored feature."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[str]
    version: ClassVar[int]
    """Raised when the same settings would give other arrays, so that old stores are not read."""

    @property
    def key(self) -> str:
        """Name of this kind with these settings, e.g. ``tokens-1f0c9a``."""
        settings: dict[str, Any] = {"version": self.version, **self.model_dump()}
        return f"{self.kind}-{content_hash(settings, 8)}"


class TokenSpec(FeatureSpec):
    """Byte-level BPE tokens, whole functions; families truncate when they collate.

    ``tokenizer`` is "train" (a BPE trained on the train split), or a folder or hub name of a
    pretrained one (a Hugging Face tokenizer, or a bare ``vocab.json`` + ``merges.txt``).
    ``collapse_whitespace`` makes one space of each run of whitespace before encoding, as CodeXGLUE
    does: half as many tokens for a tokenizer that was not made for indented code.
    """

    kind: ClassVar[str] = "tokens"
    version: ClassVar[int] = 1
    tokenizer: str = "train"
    vocab_size: int = Field(default=8192, ge=300, le=100_000)
    collapse_whitespace: bool = True


class GraphSpec(FeatureSpec):
    """Program graphs: AST, next-token, control-flow and def-use edges, or the sequential graph."""

    kind: ClassVar[str] = "graphs"
    version: ClassVar[int] = 1
    graph: Literal["program", "sequential"] = "program"
    vocab_size: int = Field(default=8192, ge=16, le=1_000_000)
    max_nodes: int = Field(default=2000, ge=8)


class TextSpec(FeatureSpec):
    """The source itself as UTF-8 bytes, for families that read text."""

    kind: ClassVar[str] = "text"
    version: ClassVar[int] = 1
