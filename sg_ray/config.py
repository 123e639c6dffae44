"""An experiment: YAML and ``key=value`` overrides in, one frozen, validated object out."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import torch
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from sg_ray.data.sources import DataConfig
from sg_ray.errors import InputError
from sg_ray.files import content_hash
from sg_ray.models.families import get_family
from sg_ray.models.family import EstimatorFamily, FamilyConfig
from sg_ray.space import Dimension, check_space
from sg_ray.training.metrics import direction

FLOOR = "lexical"
"""The family that every leaderboard shows as the floor."""


class Settings(BaseModel):
    """Base of every section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(Settings):
    """What one trial takes. ``cpus`` and ``gpus`` are per worker; ``gpus`` may be a fraction.

    ``gpus: auto`` is 1 where the driver has a GPU and 0 elsewhere; behind a driver without one
    (the CPU head of a cluster), say the number.
    """

    cpus: float = Field(default=1, gt=0)
    gpus: float = Field(default=0, ge=0)
    num_workers: int = Field(default=1, ge=1)

    @field_validator("gpus", mode="before")
    @classmethod
    def _auto(cls, value: Any) -> Any:
        return float(torch.cuda.is_available()) if value == "auto" else value

    @model_validator(mode="after")
    def _whole_gpus_when_several(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus above 1 must be whole, got {self.gpus}")
        return self


class ModelSettings(Settings):
    """One family in an experiment: its baseline values, its search space, its resources."""

    config: Mapping[str, Any] = Field(default_factory=dict)
    space: Mapping[str, Dimension] = Field(default_factory=dict)
    resources: Resources | None = None


class LrRangeSettings(Settings):
    """The learning-rate range test before a family's search."""

    enabled: bool = True
    num_steps: int = Field(default=60, ge=10)
    num_seeds: int = Field(default=1, ge=1)
    max_samples: int = Field(default=2000, ge=1)
    cache_dir: Path = Path(".lr_cache")
    max_age_days: float = Field(default=7, ge=0)


class PruningSettings(Settings):
    """Asynchronous successive halving on epochs: after ``min_epochs`` the best 1/factor go on."""

    enabled: bool = True
    min_epochs: int = Field(default=1, ge=1)
    reduction_factor: int = Field(default=3, ge=2)


class SearchSettings(Settings):
    """Optuna's TPE over each family's space; trial 1 is always the experiment's own values."""

    num_trials: int = Field(default=16, ge=1)
    seed: int = Field(default=0, ge=0)
    pruning: PruningSettings = PruningSettings()


def _no_repeats(seeds: tuple[int, ...]) -> tuple[int, ...]:
    repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if repeated:
        raise ValueError(f"seeds must differ, repeated: {repeated}")
    return seeds


Seed = Annotated[int, Field(ge=0, lt=2**32)]


class ReplicateSettings(Settings):
    """The best ``top_k`` configurations of a family, each trained with every seed."""

    top_k: int = Field(default=2, ge=1)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_no_repeats)] = (
        42,
        2025,
        7,
    )


class TrackingSettings(Settings):
    """Where MLflow keeps the mirror of the records."""

    enabled: bool = True
    uri: str = "sqlite:///mlflow.db"


class Experiment(Settings):
    """Everything a sweep needs to know, resolved."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    output_dir: Path = Path("outputs")
    cache_dir: Path = Path(".cache")
    data: DataConfig = DataConfig()
    families: Annotated[tuple[str, ...], Field(min_length=1)] = ("transformer", "gnn", "fusion")
    models: Mapping[str, ModelSettings] = Field(default_factory=dict)
    branches_from: Path | None = None
    """A finished sweep's folder whose winners are the branches, when ``families`` lacks them."""
    objective: str = "val_roc_auc"
    lr_range: LrRangeSettings = LrRangeSettings()
    search: SearchSettings = SearchSettings()
    replicate: ReplicateSettings = ReplicateSettings()
    resources: Resources = Resources()
    max_concurrent_trials: int | None = Field(default=None, ge=1)
    max_failures: int = Field(default=2, ge=0)
    """How often a trial whose process or machine died starts again from its last checkpoint."""
    tracking: TrackingSettings = TrackingSettings()

    @property
    def sweep_dir(self) -> Path:
        """The folder of this sweep, absolute: workers run in folders of their own."""
        return (self.output_dir / self.name).absolute()

    @property
    def all_families(self) -> tuple[str, ...]:
        """The floor, then the experiment's families with those that others build on first."""
        ordered = sorted(
            (name for name in dict.fromkeys(self.families) if name != FLOOR),
            key=lambda name: len(get_family(name).branches),
        )
        return (FLOOR, *ordered)

    def baseline(self, family: str) -> FamilyConfig:
        """Return the experiment's own values for a family."""
        settings = self.models.get(family, ModelSettings())
        config: FamilyConfig = get_family(family).Config.model_validate(settings.config)
        return config

    def space(self, family: str) -> Mapping[str, Dimension]:
        """Return the search space of a family; empty if it is not searched."""
        return self.models.get(family, ModelSettings()).space

    def resources_of(self, family: str) -> Resources:
        """Return what one trial of a family takes; one that fits in one go takes no GPU."""
        takes = self.models.get(family, ModelSettings()).resources or self.resources
        if isinstance(get_family(family), EstimatorFamily):
            return Resources(cpus=takes.cpus)
        return takes

    @property
    def identity(self) -> dict[str, Any]:
        """The part that decides the results; a resume may change only the rest."""
        deciding = ("data", "families", "models", "branches_from", "objective", "lr_range")
        whole = self.model_dump(mode="json")
        kept = {key: whole[key] for key in (*deciding, "search", "replicate")}
        kept["models"] = {
            name: {key: value for key, value in settings.items() if key != "resources"}
            for name, settings in kept["models"].items()
        }
        return kept

    @property
    def identity_hash(self) -> str:
        """Hash of ``identity``."""
        return content_hash(self.identity)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file and apply ``key=value`` overrides.

    Raises InputError that names the file (and line), the key and the value that is wrong.
    """
    content, lines = _read_yaml(path)
    for override in overrides:
        key, value = _parse_override(override)
        _set_key(content, key, value, override)
    _inline_spaces(content, path.parent)
    for override in overrides:  # what came from the command line has no line in the file
        lines.pop(tuple(override.partition("=")[0].split(".")), None)
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        raise InputError(_explain(error, path, lines)) from error
    _check_models(experiment, path)
    return experiment


def resolved_yaml(experiment: Experiment) -> str:
    """Return the experiment as YAML that ``load_experiment`` reads back to an equal object."""
    return yaml.safe_dump(
        experiment.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=False
    )


def _check_models(experiment: Experiment, path: Path) -> None:
    direction(experiment.objective)
    for name in (*experiment.families, *experiment.models):
        family = get_family(name)
        settings = experiment.models.get(name, ModelSettings())
        try:
            baseline = family.Config.model_validate(settings.config)
        except ValidationError as error:
            raise InputError(_explain(error, path, {}, f"models.{name}.config")) from error
        check_space(settings.space, baseline, f"{path}: models.{name}.space")
        missing = [b for b in family.branches if b not in experiment.families]
        if missing and name in experiment.families and experiment.branches_from is None:
            raise InputError(
                f"{path}: families: {name} builds on {' and '.join(missing)}. Add "
                f"{' and '.join(missing)} to families, or name a finished sweep that holds them: "
                "branches_from=outputs/NAME."
            )


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file. Give the path of an experiment YAML.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[tuple[str, ...], int] = {}
        _collect_lines(node, (), lines, path)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise InputError(f"{path}: must hold a mapping of settings, found {found}.")
    return content, lines


def _collect_lines(
    node: yaml.Node | None, key: tuple[str, ...], lines: dict[tuple[str, ...], int], path: Path
) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for name_node, value_node in node.value:
        inner = (*key, str(name_node.value))
        line = name_node.start_mark.line + 1
        if inner in lines:
            raise InputError(
                f"{path}:{line}: {'.'.join(inner)} is given twice (first on line {lines[inner]})."
            )
        lines[inner] = line
        _collect_lines(value_node, inner, lines, path)


def _parse_override(override: str) -> tuple[list[str], Any]:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(
            f"{override!r}: an override is written key=value, e.g. data.limit.train=100."
        )
    try:
        return key.split("."), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{override!r}: the value is not valid YAML.") from error


def _set_key(content: dict[str, Any], key: list[str], value: Any, override: str) -> None:
    for name in key[:-1]:
        inner = content.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InputError(f"{override!r}: {name} is not a section.")
        content = inner
    content[key[-1]] = value


def _inline_spaces(content: dict[str, Any], folder: Path) -> None:
    """Replace each ``space: FILE`` (relative to the experiment's folder) by what the file holds."""
    models = content.get("models")
    if not isinstance(models, dict):
        return
    for name, settings in models.items():
        if isinstance(settings, dict) and isinstance(settings.get("space"), str):
            path = folder / settings["space"]
            space, lines = _read_yaml(path)
            for dimension, value in space.items():
                try:
                    Dimension.model_validate(value)
                except ValidationError as error:
                    raise InputError(_explain(error, path, lines, dimension)) from error
            models[name] = {**settings, "space": space}


def _explain(
    error: ValidationError, path: Path, lines: Mapping[tuple[str, ...], int], prefix: str = ""
) -> str:
    messages = []
    for problem in error.errors(include_url=False):
        key = (*prefix.split("."), *map(str, problem["loc"])) if prefix else problem["loc"]
        names = tuple(map(str, key))
        line = next(
            (lines[names[:n]] for n in range(len(names), 0, -1) if names[:n] in lines), None
        )
        where = f"{path}:{line}" if line else f"{path}"
        messages.append(f"{where}: {'.'.join(names)}: {_reason(problem, error)}")
    return "\n".join(messages)


def _reason(problem: Any, error: ValidationError) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown key{_suggestion(problem, error)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "tuple_type":
        message = "Input should be a list, e.g. [a, b]"
    if problem["type"] == "model_type":
        message = "Input should be a section with settings of its own, e.g. data.limit.train=100"
    if problem["type"] == "missing":
        return f"{message}"
    return f"{message} (got {problem['input']!r})"[:500]


def _suggestion(problem: Any, error: ValidationError) -> str:
    known = _fields_at(error.title, problem["loc"][:-1])
    close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _fields_at(title: str, loc: Sequence[Any]) -> list[str]:
    """Names of the settings in the section that ``loc`` leads to, as far as the models tell."""
    model: Any = Experiment if title == Experiment.__name__ else None
    for name in loc:
        field = model.model_fields.get(name) if model is not None else None
        annotation = field.annotation if field is not None else None
        model = (
            annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel)
            else None
        )
    return sorted(model.model_fields) if model is not None else []
