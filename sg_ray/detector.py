"""A trained winner by itself: C functions in, probabilities out, from one exported folder.

A folder ``best/<model>/`` of a sweep holds ``model.json`` (see ``ModelCard``), the weights in
``best_model.pt``, the fitted tokenizer or vocabulary of each feature in ``features/<key>/``, the
architecture of a pretrained encoder in ``pretrained/``, and the same again, below ``branches/``,
for each model that a fusion builds on. Nothing else is read: no sweep, no data, no network.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from sg_ray.configuration import Configuration
from sg_ray.errors import InputError, TrainingError
from sg_ray.features.featuriser import Featuriser
from sg_ray.features.kinds import load_featuriser
from sg_ray.features.packed import FeatureKind, Features
from sg_ray.features.spec import FeatureSpec
from sg_ray.files import crc32_of
from sg_ray.models.families import ENTRY_POINTS, FAMILIES, get_family, plug_in
from sg_ray.models.family import (
    Branch,
    Classifier,
    Estimator,
    EstimatorFamily,
    Inputs,
    NeuralConfig,
    NeuralFamily,
    SplitData,
)
from sg_ray.plugins import FILE_SUFFIX, Plugin
from sg_ray.reading import read_model
from sg_ray.sweep_folder import (
    BEST,
    BEST_DIR,
    BRANCHES_DIR,
    FEATURES_DIR,
    MODEL_CARD,
    PRETRAINED_DIR,
    WINNER_CARD,
    SweepFolder,
)
from sg_ray.training.checkpoint import load_best, read_best
from sg_ray.training.inference import predict
from sg_ray.training.seeding import torch_stream

_LOGGER = logging.getLogger(__name__)

_WEIGHTS_SUFFIX = Path(BEST).suffix
_EXPORT_AGAIN = (
    "Have it exported again: python experiments/sweep.py --resume NAME, or for a training the same "
    "sg-ray train command."
)
_SPLIT = "new"
"""The functions to score, as a split like those of a data set."""


class ModelCard(BaseModel):
    """Content of ``model.json``: what the model is, and what it was made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    configuration: Configuration
    config_hash: str = ""
    seed: int
    trial_key: str
    threshold: float
    """From here on a probability means "vulnerable"; chosen on the validation split."""
    metrics: Mapping[str, float | None]
    data_fingerprint: str
    code_version: str
    branches: Mapping[str, Configuration]
    """Those that it builds on, by family."""
    own_code: Mapping[str, "OwnCodeNote"] = Field(default_factory=dict)
    """Of the family and those that it builds on: what is to be installed, or named, to load it."""
    checksums: Mapping[str, str] = Field(default_factory=dict)
    """CRC-32 of every other file of the folder but the weights, which have their own."""

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.configuration.model

    @property
    def family(self) -> str:
        """The code behind it."""
        return self.configuration.family


class OwnCodeNote(BaseModel):
    """Where the code of a family from outside came from. The code itself is never exported."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    reference: str
    """``MODULE:CLASS``, or ``FILE.py:CLASS`` without the folder."""
    package: str
    """What to install, with its version; "" of a file."""
    version: str

    @classmethod
    def of(cls, plugin: Plugin) -> Self:
        """Return the note of a family's code."""
        place = plugin.place if plugin.source is None else Path(plugin.place).name
        return cls(
            reference=f"{place}:{plugin.attribute}",
            package=plugin.package,
            version=plugin.version,
        )


class WinnerCard(BaseModel):
    """Content of ``winner.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    config_hash: str
    trial_key: str
    is_below_floor: bool = False
    """Whether the sweep's leaderboard has the floor above it."""


class _Scorer(Protocol):
    def score(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return the probabilities of the one split in ``inputs``, shape [n]."""
        ...


@dataclass(frozen=True)
class Detector:
    """An exported model, ready to score functions that nobody has seen."""

    card: ModelCard
    device: torch.device
    _scorer: _Scorer
    _featurisers: Mapping[str, Featuriser[Any]]

    @classmethod
    def load(
        cls,
        folder: Path | str,
        device: torch.device | None = None,
        *,
        families: Sequence[str] = (),
    ) -> Self:
        """Load ``best/<model>/``, or the winner of a sweep's folder, onto ``device``.

        ``device`` None takes a GPU if there is one. ``families`` name the code of families of
        one's own that no installed package brings, e.g. ``./bilstm.py:BiLstm``. Raises InputError
        if the folder holds no exported model, lacks a part of it, or if a part is damaged; or if
        its family is not known.
        """
        for reference in families:
            plug_in(reference)
        folder = model_folder(Path(folder))
        card = read_card(folder)
        _check_files(folder, card)
        _make_known(folder, card)
        if device is None:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        featurisers = {
            spec.key: load_featuriser(folder / FEATURES_DIR / spec.key)
            for spec in features_read(card)
        }
        inputs = Inputs(_features(card, featurisers), device=device)
        return cls(card, device, _load(folder, card, inputs), featurisers)

    @property
    def threshold(self) -> float:
        """The probability from which on a function counts as vulnerable."""
        return self.card.threshold

    def predict(self, sources: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability of "vulnerable" of each function, shape [n], in their order.

        They are batched as in training, so the same functions in the same order give the same bits
        as there on the same device and number of threads, and in another order the same numbers
        up to rounding. Raises InputError for anything but a sequence of strings.
        """
        if isinstance(sources, str) or not all(isinstance(source, str) for source in sources):
            raise InputError("sources: expected a list of C functions, each one string.")
        if not sources:
            return np.empty(0, dtype=np.float64)
        features = _features(self.card, self._featurisers, list(sources))
        return self._scorer.score(Inputs(features, device=self.device))

    def decide(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which of ``probabilities``, shape [n], mean "vulnerable"."""
        return probabilities >= self.threshold


def model_folder(folder: Path) -> Path:
    """Return ``folder`` if it is an exported model, or that of a sweep's winner or of a training.

    Raises InputError that says what to name instead.
    """
    for candidate in (folder, SweepFolder(folder).detector):
        if (candidate / MODEL_CARD).is_file():
            return candidate
    best = folder if (folder / WINNER_CARD).is_file() else SweepFolder(folder).best
    winner = read_winner(best)
    if winner is None:
        problem = f"holds no {MODEL_CARD}" if folder.is_dir() else "is not a folder"
        raise InputError(
            f"{folder}: {problem}. Name the folder of a finished sweep (outputs/NAME), one of its "
            f"exported models (outputs/NAME/{BEST_DIR}/MODEL), or the folder of a finished "
            "training."
        )
    return best / winner.model


def read_winner(best_dir: Path) -> WinnerCard | None:
    """Return what ``best/`` says of the sweep's winner; None if there is none.

    Raises InputError that names the file if it is damaged.
    """
    path = best_dir / WINNER_CARD
    if not path.exists():
        return None
    return read_model(path, WinnerCard, what="note of the winner", remedy=_EXPORT_AGAIN)


def is_below_floor(folder: Path) -> bool:
    """Whether an exported model is known as its sweep's winner, with the floor above it.

    A note of the winner that cannot be read makes nothing known: the model does not need it.
    """
    place = folder.resolve()
    try:
        winner = read_winner(place.parent)
    except InputError:
        return False
    return winner is not None and winner.model == place.name and winner.is_below_floor


def read_card(folder: Path) -> ModelCard:
    """Read ``model.json``. Raises InputError that names the file if it is missing or not valid."""
    what = "card of an exported model"
    return read_model(folder / MODEL_CARD, ModelCard, what=what, remedy=_EXPORT_AGAIN)


def checksums_of(folder: Path) -> dict[str, str]:
    """Return the CRC-32 of an exported model's files, by path; see ``ModelCard.checksums``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): crc32_of(path)
        for path in files
        if path != folder / MODEL_CARD and path.suffix != _WEIGHTS_SUFFIX
    }


def _check_files(folder: Path, card: ModelCard) -> None:
    """Raise InputError that names a file that is missing or not the one that was exported."""
    found = checksums_of(folder)
    for name, checksum in card.checksums.items():
        if found.get(name) != checksum:
            problem = "was changed since it was written" if name in found else "is missing"
            raise InputError(f"{folder / name}: {problem}. {_EXPORT_AGAIN}")


def _make_known(folder: Path, card: ModelCard) -> None:
    """Make sure that the model's families are here. Raises InputError that says what to install.

    Code comes from an installed package or from the user, never from the model's folder.
    """
    for name in (card.family, *card.branches):
        note = card.own_code.get(name)
        if note is None:
            continue
        if name not in FAMILIES:
            FAMILIES.plug_in(_installed(folder, name, note))
        if FAMILIES.plugin(name).version != note.version:
            _LOGGER.warning(
                "%s was trained with another version of the code of %s (%s): the numbers may be "
                "others, or the weights not fit", folder, name, note.reference,
            )  # fmt: skip


def _installed(folder: Path, name: str, note: OwnCodeNote) -> Plugin:
    place, _, attribute = note.reference.rpartition(":")
    if not place.endswith(FILE_SUFFIX):
        plugin = Plugin.of(note.reference)
        home = folder.resolve()
        if plugin.package and not any(path.is_relative_to(home) for path in plugin.places):
            return plugin
    what = note.package or f"a package that offers {name} as an entry point of {ENTRY_POINTS}"
    file = f"{place}:{attribute}" if place.endswith(FILE_SUFFIX) else f"FILE.py:{attribute}"
    raise InputError(
        f"{folder}: its family {name} ({note.reference}) is not part of sg-ray, and a model brings "
        f"no code along. Install {what}, or name the code: --family {file} (in Python, before: "
        f"sg_ray.models.families.plug_in({file!r}))"
    )


def features_read(card: ModelCard) -> Sequence[FeatureSpec]:
    """Return the feature kinds that a model and what it builds on read."""
    specs: dict[str, FeatureSpec] = {}
    for one in (card.configuration, *card.branches.values()):
        family = get_family(one.family)
        config = family.Config.model_validate(one.values)
        specs |= {spec.key: spec for spec in family.feature_specs(config)}
    return list(specs.values())


@dataclass(frozen=True)
class _Fitted:
    """A model that was fitted in one go."""

    estimator: Estimator

    def score(self, inputs: Inputs) -> NDArray[np.float64]:
        return self.estimator.predict_proba(inputs, _SPLIT)


@dataclass(frozen=True)
class _Network:
    """A trained network and those that it builds on."""

    family: NeuralFamily[Any]
    config: NeuralConfig
    model: Classifier
    branches: Mapping[str, "_Network"]

    def score(self, inputs: Inputs) -> NDArray[np.float64]:
        return predict(self.model, self._split(inputs), self.config, device=inputs.device)

    def _split(self, inputs: Inputs) -> SplitData:
        branches = {name: branch.as_branch(inputs) for name, branch in self.branches.items()}
        return self.family.split_data(self.config, replace(inputs, branches=branches), _SPLIT)

    def as_branch(self, inputs: Inputs) -> Branch:
        """Return the network as what another builds on; its split is there if ``inputs`` has it."""
        splits = {_SPLIT: self._split(inputs)} if inputs.features.labels else {}
        return Branch(self.family.name, None, lambda: self.model, splits)


def _load(folder: Path, card: ModelCard, inputs: Inputs) -> _Scorer:
    family = get_family(card.family)
    if isinstance(family, EstimatorFamily):
        config = family.Config.model_validate(card.configuration.values)
        with _naming_the_way_out():
            weights = read_best(folder)["model_state_dict"]
        return _Fitted(family.load(config, weights))
    branches = dict(_load_branches(folder, card, inputs))
    return _load_network(folder, card.configuration, branches, inputs)


def _load_branches(folder: Path, card: ModelCard, inputs: Inputs) -> Iterator[tuple[str, _Network]]:
    for name, configuration in card.branches.items():
        yield name, _load_network(folder / BRANCHES_DIR / name, configuration, {}, inputs)


def _load_network(
    folder: Path,
    configuration: Configuration,
    branches: Mapping[str, _Network],
    inputs: Inputs,
) -> _Network:
    family = get_family(configuration.family)
    assert isinstance(family, NeuralFamily)
    config = _loadable(family.Config.model_validate(configuration.values), folder, inputs.device)
    given = {branch: network.as_branch(inputs) for branch, network in branches.items()}
    with torch_stream(0, "init"):  # the caller's random numbers are not ours to draw
        model = family.build(config, replace(inputs, branches=given, is_restoring=True))
    with _naming_the_way_out():
        load_best(model, folder)
    return _Network(family, config, model.to(inputs.device).eval(), branches)


@contextmanager
def _naming_the_way_out() -> Iterator[None]:
    """Say of damaged weights how to have them again here, which is not to train."""
    try:
        yield
    except TrainingError as error:
        raise InputError(f"{error} Here: {_EXPORT_AGAIN}") from error


def _loadable(config: NeuralConfig, folder: Path, device: torch.device) -> NeuralConfig:
    """Return the configuration with what this machine has in place of what the training had."""
    changes: dict[str, Any] = {}
    if (folder / PRETRAINED_DIR).is_dir():
        changes["pretrained"] = str(folder / PRETRAINED_DIR)
    if config.precision == "fp16" and device.type != "cuda":
        changes["precision"] = "fp32"
    return config.model_copy(update=changes)


def _features(
    card: ModelCard,
    featurisers: Mapping[str, Featuriser[Any]],
    sources: Sequence[str] | None = None,
) -> Features:
    """Return the features of ``sources``, unlabelled; None: only what models size themselves by."""
    labels = {} if sources is None else {_SPLIT: np.zeros(len(sources), dtype=np.int8)}
    kinds = {
        key: FeatureKind(f.meta, {} if sources is None else {_SPLIT: f.encode(sources)})
        for key, f in featurisers.items()
    }
    return Features(card.data_fingerprint, labels, kinds)
