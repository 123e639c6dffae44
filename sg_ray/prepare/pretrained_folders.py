"""Pretrained encoders and tokenizers that an experiment names: are their files here?"""

from collections.abc import Sequence
from dataclasses import dataclass

from sg_ray.config import Model
from sg_ray.errors import InputError
from sg_ray.features.pretrained_files import (
    ENCODERS,
    VOCABULARIES,
    can_only_be_a_folder,
    local_folder,
)
from sg_ray.features.spec import TokenSpec
from sg_ray.models.families import get_family


@dataclass(frozen=True)
class Pretrained:
    """A setting that names a folder or hub repository, and which sets of files it may hold."""

    setting: str
    name: str
    alternatives: Sequence[tuple[str, ...]]

    @property
    def is_folder(self) -> bool:
        """Whether it can only be a folder, or is one. Raises InputError if that is locked."""
        is_here = local_folder(self.setting, self.name) is not None
        return is_here or can_only_be_a_folder(self.name)

    def check_folder(self) -> None:
        """Raise InputError unless the folder is there with its files."""
        files = ", or ".join(" and ".join(alternative) for alternative in self.alternatives)
        folder = local_folder(self.setting, self.name)
        if folder is None:
            raise InputError(
                f"{self.setting}: the folder {self.name} does not exist. Give one with {files}, or "
                "a hub name"
            )
        if not any(all((folder / file).is_file() for file in some) for some in self.alternatives):
            raise InputError(f"{self.setting}: {self.name} lacks {files}. Put them there")


def pretrained_of(model: Model) -> Sequence[Pretrained]:
    """Return the encoder and the tokenizers that the experiment's values of a model name."""
    prefix = f"models.{model.name}.config"
    encoder = getattr(model.settings, "pretrained", None)
    encoders = [Pretrained(f"{prefix}.pretrained", encoder, ENCODERS)] if encoder else []
    tokenizers = [
        Pretrained(f"{prefix}.tokens.tokenizer", spec.tokenizer, VOCABULARIES)
        for spec in get_family(model.family).feature_specs(model.settings)
        if isinstance(spec, TokenSpec) and spec.tokenizer != "train"
    ]
    return [*encoders, *tokenizers]


def check_folders(model: Model) -> None:
    """Raise InputError if a folder that the experiment's values of a model name lacks its files."""
    for wanted in pretrained_of(model):
        if wanted.is_folder:
            wanted.check_folder()
