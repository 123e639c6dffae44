"""Where samples come from: generated, a folder or files of JSON Lines, or CodeXGLUE."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sg_ray.data.codexglue import fetch_codexglue
from sg_ray.data.jsonl import PACKED_SUFFIXES, read_jsonl, write_jsonl
from sg_ray.data.names import notes_on_names
from sg_ray.data.repeats import Removals, check_splits
from sg_ray.data.samples import SPLITS, DataSet, Sample
from sg_ray.data.splits import split_pairs, stratified_subset
from sg_ray.data.synthetic import generate, mislabel
from sg_ray.errors import InputError
from sg_ray.setting_types import MaybeFile, MaybeFolder, Seed, StrictModel, with_home

__all__ = ["DataConfig", "SplitLimits", "check_paths", "load_data", "write_folder", "write_jsonl"]

_FILE_STEMS = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}
_MIN_SYNTHETIC = 20
"""Ten pairs: the fewest that give every split one."""


Limit = Annotated[int, Field(ge=2, le=1_000_000_000)]


class SplitLimits(StrictModel):
    """At most this many samples of each split, drawn by seed with the labels in proportion."""

    train: Limit | None = None
    """Functions of the train split that are kept, to try a sweep out in minutes. None: all."""
    valid: Limit | None = None
    """Functions of the validation split that are kept. Fewer make every comparison less certain.
    None: all."""
    test: Limit | None = None
    """Functions of the test split that are kept. None: all."""


class DataConfig(StrictModel):
    """Which data set to read and what to take out of it.

    Files win over ``path`` and ``source``, a ``path`` over ``source``: that is "files" or "path".
    """

    source: Literal["synthetic", "path", "files", "codexglue"] = "synthetic"
    """``synthetic``: built-in pairs of functions, made by ``seed``. ``codexglue``: Devign,
    downloaded. ``path`` and ``files`` follow from the next settings."""
    path: MaybeFolder = None
    """Folder with ``train|valid|test.jsonl``, each also ``.gz``, ``.xz`` or ``.zst``. Wins over
    ``source``."""
    train_file: MaybeFile = None
    """One JSONL file for the train split, whatever its name, packed as its suffix says. Wins
    over ``path``; needs ``valid_file`` beside it."""
    valid_file: MaybeFile = None
    """The same for the validation split."""
    test_file: MaybeFile = None
    """The same for the test split. None: there is none, and the winner is not scored on it."""
    num_samples: int = Field(default=4000, ge=_MIN_SYNTHETIC, le=200_000, multiple_of=2)
    """Functions of the synthetic set over all splits (80/10/10), in pairs."""
    label_noise: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Share of the synthetic functions, of each split, whose label is wrong, as some real ones
    are. Raise it to see how a sweep copes with data like that."""
    seed: Seed = 0
    """Draws the synthetic set and the subsets of ``limit``. Not the seed of a trial."""
    limit: SplitLimits = SplitLimits()
    """At most so many functions of each split, drawn with the labels in proportion."""
    remove_duplicates: bool = False
    """Keep one of the rows of a split that hold the same code with the same label. False: they
    are counted and told, and stay."""
    remove_conflicts: bool = False
    """Take out rows that hold the same code with different labels. False: they are told, and
    stay."""
    remove_leaks: bool = False
    """Take rows that also occur in valid or test out of train, never out of those. False: they
    are told, and the scores flatter."""

    @model_validator(mode="before")
    @classmethod
    def _source_of_location(cls, values: Any) -> Any:
        """A given location wins, so that ``data.path=DIR`` works on any experiment."""
        if not isinstance(values, dict):
            return values
        if any(values.get(_file_key(split)) is not None for split in SPLITS):
            without = {name: value for name, value in values.items() if name != "path"}
            return {**without, "source": "files"}
        if values.get("path") is not None:
            return {**values, "source": "path"}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "path" and self.path is None:
            raise ValueError(
                'source "path" needs data.path=DIR: the folder with train.jsonl, valid.jsonl'
            )
        missing = [_file_key(s) for s in ("train", "valid") if s not in self.files]
        if self.source == "files" and missing:
            given = f"not given: {', '.join(missing)}"
            raise ValueError(f"train_file and valid_file belong together ({given})")
        if len(set(self.files.values())) < len(self.files):
            raise ValueError("train_file, valid_file and test_file must be different files")
        return self

    @property
    def files(self) -> Mapping[str, Path]:
        """The files given, by split."""
        given = {split: getattr(self, _file_key(split)) for split in SPLITS}
        return {split: with_home(path) for split, path in given.items() if path is not None}

    @property
    def removals(self) -> Removals:
        """What the checks are to remove."""
        return Removals(self.remove_duplicates, self.remove_conflicts, self.remove_leaks)


def check_paths(config: DataConfig) -> None:
    """Raise InputError if a folder or file that ``config`` names is missing; read nothing."""
    if config.path is not None:
        _require_folder(with_home(config.path))
    for split, path in config.files.items():
        if not path.is_file():
            problem = "is not a file" if path.exists() else "does not exist"
            raise InputError(
                f"data.{_file_key(split)}: {path} {problem}. Set it to a JSON Lines file with one "
                '{"func": ..., "target": 0 or 1} on a line.'
            )


def load_data(
    config: DataConfig, cache_dir: Path | None = None, *, judges_names: bool = True
) -> DataSet:
    """Read, check and limit a data set. A download is kept under ``cache_dir`` if given.

    Whether names tell the label takes a second to find out, and may be left out.

    Raises InputError for anything unusable, with the file and line.
    """
    name, splits = _read(config, cache_dir)
    checked, report = check_splits(splits, config.removals)
    limited = {
        split: _limit(samples, getattr(config.limit, split), config.seed)
        for split, samples in checked.items()
    }
    notes = [*report.notes, *_split_notes(limited)]
    _require_labels(limited, name)
    if judges_names:
        notes += notes_on_names(limited)
    return DataSet(name, limited, tuple(notes))


def _read(config: DataConfig, cache_dir: Path | None) -> tuple[str, Mapping[str, list[Sample]]]:
    """Return the data set's name and its splits."""
    if config.source == "synthetic":
        name = f"synthetic-{config.num_samples}-seed{config.seed}"
        splits = split_pairs(generate(config.num_samples, config.seed), config.seed)
        return name, {
            split: mislabel(samples, config.label_noise, config.seed)
            for split, samples in splits.items()
        }
    if config.source == "codexglue":
        return "codexglue", _read_codexglue(cache_dir)
    if config.source == "files":
        check_paths(config)
        read = {split: read_jsonl(path, split) for split, path in config.files.items()}
        return config.files["train"].name, read
    assert config.path is not None  # the configuration's own check
    folder = with_home(config.path)
    return folder.resolve().name, read_folder(folder)


def _read_codexglue(cache_dir: Path | None) -> dict[str, list[Sample]]:
    if cache_dir is not None:
        folder = cache_dir / "codexglue"
        fetch_codexglue(folder)
        return read_folder(folder)
    with tempfile.TemporaryDirectory() as temporary:
        fetch_codexglue(Path(temporary))
        return read_folder(Path(temporary))


def read_folder(folder: Path) -> dict[str, list[Sample]]:
    """Read ``train``, ``valid`` and, if there is one, ``test``.

    Raises InputError for a missing or doubled file, and for any bad row.
    """
    _require_folder(folder)
    files = {split: _find_split_file(folder, split) for split in SPLITS}
    return {split: read_jsonl(file, split) for split, file in files.items() if file is not None}


def write_folder(folder: Path, splits: Mapping[str, Sequence[Sample]]) -> dict[str, Path]:
    """Write each split as ``<split>.jsonl``, replacing those, and return the files by split.

    Raises InputError, before anything is written, if ``folder`` holds further split files, which
    would be read as part of this data set.
    """
    files = {split: folder / f"{split}.jsonl" for split in splits}
    for path in (folder / name for split in SPLITS for name in _split_file_names(split)):
        if path.exists() and path not in files.values():
            raise InputError(
                f"{path} is there already and would mix with what is written. Delete it, or "
                "choose another folder with --out."
            )
    for split, path in files.items():
        write_jsonl(path, splits[split])
    return files


def _file_key(split: str) -> str:
    return f"{split}_file"


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(
            f"data.path: {folder} {problem}. Set it to the folder that holds train.jsonl and "
            "valid.jsonl."
        )


def _split_file_names(split: str) -> list[str]:
    return [f"{stem}.jsonl{suffix}" for stem in _FILE_STEMS[split] for suffix in PACKED_SUFFIXES]


def _find_split_file(folder: Path, split: str) -> Path | None:
    names = _split_file_names(split)
    found = [folder / name for name in names if os.path.lexists(folder / name)]
    if len(found) > 1:
        clash = " and ".join(path.name for path in found)
        raise InputError(f"{folder} has {clash} for the {split} split. Keep one of them.")
    if not found and split != "test":
        raise InputError(f"{folder} has no {split} split. Add one of: {', '.join(names)}.")
    if found and not found[0].is_file():
        problem = "is no file" if found[0].exists() else "is a link to what does not exist"
        raise InputError(f"{found[0]} {problem}. Put the {split} split there, or take it away.")
    return found[0] if found else None


def _limit(samples: Sequence[Sample], limit: int | None, seed: int) -> Sequence[Sample]:
    return samples if limit is None else stratified_subset(samples, limit, seed)


def _split_notes(splits: Mapping[str, Sequence[Sample]]) -> list[str]:
    notes = [
        f"{split}: every label is {samples[0].label}; scores such as ROC-AUC are undefined on it"
        for split, samples in splits.items()
        if split != "train" and len({sample.label for sample in samples}) == 1
    ]
    if "test" not in splits:
        notes.append("test: there is no test file, so no test score will be reported")
    return notes


def _require_labels(splits: Mapping[str, Sequence[Sample]], name: str) -> None:
    for split, samples in splits.items():
        if not samples:
            raise InputError(
                f"data set {name}: removing duplicates, conflicts and leaks leaves nothing of "
                f"{split}. Turn a data.remove_* setting off or bring more data."
            )
    labels = {sample.label for sample in splits["train"]}
    if len(labels) == 1:
        raise InputError(
            f"data set {name}: every target in train is {labels.pop()}. "
            "Training needs functions with target 0 and with target 1."
        )
