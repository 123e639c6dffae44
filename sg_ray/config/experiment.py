"""The settings of an experiment: frozen, validated sections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainSerializer, PrivateAttr, Strict, model_validator

from sg_ray.config.model import FLOOR, Model
from sg_ray.config.own_code import PluginSettings
from sg_ray.config.resources import Resources
from sg_ray.config.written import plain_settings
from sg_ray.config.yaml_text import write_yaml
from sg_ray.data.sources import DataConfig
from sg_ray.files import content_hash
from sg_ray.models.families import FAMILIES, builds_on, get_family
from sg_ray.models.family import EstimatorFamily
from sg_ray.redaction import hide_credentials
from sg_ray.setting_types import (
    Count,
    MaybeOwnFolder,
    Name,
    NoneOrMoreSeeds,
    NumSeeds,
    OwnFolder,
    Seed,
    Seeds,
    StrictModel,
    Text,
)
from sg_ray.space import Dimension
from sg_ray.statistics.own_metrics import Direction
from sg_ray.sweep_folder import SweepFolder

MAX_TRIALS = 100_000
"""More points of a search than anybody trains: a typo, which would fill the memory."""


class ModelSettings(StrictModel):
    """One family in an experiment: its baseline values, its search space, its resources."""

    config: Mapping[str, Any] = Field(default_factory=dict)
    """The family's own values, and always the first point of its search. What is left out has
    its default."""
    space: Mapping[str, Dimension] = Field(default_factory=dict)
    """What the search may vary: a distribution a name, in a file or inline. Empty: the family is
    trained with its own values only."""
    resources: Resources | None = None
    """What one trial of this family takes, in place of the experiment's ``resources``. For a
    family that needs a GPU among others that do not."""


class LrRangeSettings(StrictModel):
    """The learning-rate range test before a family's search."""

    enabled: bool = True
    """Test learning rates before the search, and search about the rate that was found. False:
    the bounds of the space hold as they are written."""
    num_steps: int = Field(default=60, ge=10, le=100_000)
    """Optimisation steps of a test, over which the rate grows. 60 to 100 give suggestions to
    rely on; each costs as much as a step of training."""
    num_seeds: NumSeeds = 1
    """Tests a family, each of another seed. A rate is suggested only if more than half of them
    find one: raise it where the suggestion jumps about."""
    max_samples: Count = 2000
    """At most so many samples of the train split make the test's batches. More only helps where
    the batches are large."""
    cache_dir: OwnFolder = Path(".lr_cache")
    """Where suggestions are kept, so that the next sweep over the same model and data does not
    test again."""
    max_age_days: float = Field(default=7.0, ge=0, le=1e6)
    """Days for which a kept suggestion is taken. 0: every sweep tests anew."""


class PruningSettings(StrictModel):
    """Asynchronous successive halving on epochs: after ``min_epochs`` the best 1/factor go on."""

    enabled: bool = True
    """Stop trials of the search early that are far behind. False: every trial trains all its
    epochs."""
    min_epochs: Count = 1
    """No trial is stopped before so many epochs. Raise it if good configurations of yours start
    slowly."""
    reduction_factor: int = Field(default=3, ge=2, le=1_000_000)
    """At each rung the best one of so many trials goes on. Higher stops more of them, sooner."""


class SearchSettings(StrictModel):
    """Optuna's TPE over each family's space; trial 1 is always the experiment's own values."""

    num_trials: int = Field(default=16, ge=1, le=MAX_TRIALS)
    """Configurations that the search of each family tries, its own values among them. The cost
    of a search grows with it; see "expected best" in the report for what fewer would have found."""
    seed: Seed = 0
    """Draws the points of the search. Another one is another search, of other points."""
    pruning: PruningSettings = PruningSettings()
    """Which trials are stopped before their last epoch."""

    def num_points(self, model: Model) -> int:
        """Return how many configurations a model's search tries: one if it is not searched."""
        return self.num_trials if model.space else 1


class ReplicateSettings(StrictModel):
    """The best ``top_k`` configurations of a family race over seeds.

    All of them get each seed in turn; the first is the one that the search used.
    """

    top_k: int = Field(default=2, ge=1, le=MAX_TRIALS)
    """How many of a family's best configurations are trained on every seed. Only these get more
    than one seed; the others are known by the search's alone, with its luck."""
    seeds: Seeds = (42, 2025, 7)
    """Seeds on which they are trained, in this order; the search uses the first. More seeds tell
    smaller differences apart: a pair takes 6 at least, several pairs more, and the report says
    how many."""
    race_alpha: Annotated[float, Field(gt=0, lt=1)] | None = 0.1
    """A configuration that cannot win any more gets no further seed; one of the best is dropped
    with at most this probability. Higher saves more seeds. None: nobody is dropped."""
    max_seeds: NumSeeds | None = None
    """What ``seeds`` leave undecided gets more of them, up to so many in all. None: no more than
    ``seeds``."""
    budget_epochs: Count | None = None
    """Epochs of training of a family, its search included, within which it gets more seeds: what
    successive halving and the race save goes to the undecided. None: ``max_seeds`` is the limit."""
    variance_seeds: NoneOrMoreSeeds = 0
    """The winner is trained again so often with other first weights alone, and as often with
    another order of the data alone: which of the two does the variance over seeds come from? 0
    leaves the question out."""

    @model_validator(mode="after")
    def _room_for_seeds(self) -> Self:
        if self.max_seeds is not None and self.max_seeds < len(self.seeds):
            raise ValueError(f"max_seeds {self.max_seeds} is below the number of seeds")
        return self

    @property
    def extra_seeds(self) -> tuple[int, ...]:
        """The seeds beyond the planned ones, in order: 1, 2, 3, ... without those planned."""
        num_extra = max(0, (self.max_seeds or 0) - len(self.seeds))
        return tuple(islice((seed for seed in count(1) if seed not in self.seeds), num_extra))

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Every seed that a configuration may get, in the order of the rounds."""
        return (*self.seeds, *self.extra_seeds)

    def num_finalists(self, num_points: int) -> int:
        """Return how many of a search's points get more seeds, unless the race drops them."""
        return min(self.top_k, num_points)

    @property
    def num_variance_trials(self) -> int:
        """How many trials split the winner's variance: as many for each of the two."""
        return 2 * self.variance_seeds


class TrackingSettings(StrictModel):
    """Where MLflow keeps the mirror of the records.

    Credentials in ``uri`` stay in this process: dumped, printed, pickled it says ``***`` for them.
    """

    enabled: bool = True
    """Mirror the sweep to MLflow while it runs. The records do not need it: `sg-ray track sync`
    makes up for it later."""
    uri: Annotated[Text, PlainSerializer(hide_credentials), Field(repr=False)] = (
        "sqlite:///mlflow.db"
    )
    """The MLflow store: ``sqlite:///FILE``, relative to the current folder, or the address of a
    server. Credentials belong in the environment."""
    register_model: bool = True
    """Copy the winner's weights to MLflow and register them under the sweep's name. False saves
    their space there."""

    def __getstate__(self) -> dict[Any, Any]:
        """Return what a pickle holds, which Ray may write to a disk."""
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], "uri": hide_credentials(self.uri)}}


@dataclass(frozen=True)
class Rules:
    """The settings that every model of a sweep is searched, replicated and ranked by."""

    objective: str
    lr_range: LrRangeSettings
    search: SearchSettings
    replicate: ReplicateSettings
    own_metrics: Mapping[str, Direction] = field(default_factory=dict)


KeepWeights = Literal["all", "finalists", "winner"]
"""Whose weights stay once a sweep is done; all else of a trial always does."""


class Experiment(StrictModel):
    """Everything a sweep needs to know, resolved."""

    name: Name
    """Name of the sweep: its folder is ``output_dir/name``, and MLflow's experiment is called
    so."""
    output_dir: OwnFolder = Path("outputs")
    """Folder of all sweeps. Every machine that trains must see it."""
    cache_dir: OwnFolder = Path(".cache")
    """Folder of features and of frozen branches' outputs. It may be deleted: they are made
    again."""
    data: DataConfig = DataConfig()
    """Which functions the models learn from and are judged by."""
    families: Annotated[tuple[str, ...], Field(min_length=1), Strict(False)] = (
        "transformer",
        "gnn",
        "fusion",
    )
    """Which families are compared. The lexical floor always runs too."""
    models: Mapping[str, ModelSettings] = Field(default_factory=dict)
    """Each family's own values, search space and resources; a family left out has its defaults
    and is not searched."""
    plugins: PluginSettings = PluginSettings()
    """Code from outside of sg-ray that the experiment uses."""
    branches_from: MaybeOwnFolder = None
    """What holds the trained branches when ``families`` lacks them: a finished sweep's folder,
    or one with results of ``sg-ray train``."""
    objective: str = "val_roc_auc"
    """The validation metric that search, race, leaderboard and verdict go by. Choose it before
    the first run: whoever changes it after looking has chosen the winner."""
    metrics: Annotated[tuple[Text, ...], Strict(False)] = ()
    """Metrics of your own that are measured beside those that always are, each by its code
    (``FILE.py:NAME`` or ``MODULE:NAME``), or by name if an installed package offers it."""
    lr_range: LrRangeSettings = LrRangeSettings()
    """The learning-rate range test before each family's search."""
    search: SearchSettings = SearchSettings()
    """How many configurations of a family are tried, and which of them stop early."""
    replicate: ReplicateSettings = ReplicateSettings()
    """How many of them are trained again on how many seeds."""
    resources: Resources = Resources()
    """What one trial takes, unless its family says otherwise."""
    max_concurrent_trials: int | None = Field(default=None, ge=1, le=MAX_TRIALS)
    """At most so many trials run at once, however many would fit. None: as many as CPUs and GPUs
    allow, those of nodes that join included. Lower it if memory runs out."""
    max_failures: int = Field(default=2, ge=0, le=1_000)
    """How often a trial whose process or machine died starts again from its last checkpoint.
    Raise it on machines that are taken away often."""
    checkpoint_every_s: Annotated[float, Field(gt=0, le=1e6)] | None = 300.0
    """So often a trial saves its position in the middle of an epoch, in seconds: what the death of
    a machine or a `kill -9` costs at most. None: at the end of each epoch only."""
    grace_s: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """How long a stop waits for trials to save their positions, in seconds; longer while one is
    still being written. None: three times what a save took, and a step, but half a minute at
    least."""
    keep_weights: KeepWeights = "finalists"
    """Whose weights stay in ``trials/`` once the sweep is done: of all trials, of the
    configurations that raced over seeds, or of each family's winner alone. What others build on
    stays too, and so do records and predictions. A sweep that is extended trains again what it
    turns out to need."""
    tracking: TrackingSettings = TrackingSettings()
    """The mirror of the records in MLflow."""
    _lacked_gpu: tuple[str, ...] = PrivateAttr(default=())

    @property
    def lacked_gpu(self) -> tuple[str, ...]:
        """What to give in place of each ``auto`` that asked for a GPU where there was none.

        As ``key=value``, for an A100 with 40 GB. Known of an experiment as it was read, not of one
        whose ``auto`` was settled before.
        """
        return self._lacked_gpu

    def with_lacked_gpu(self, settings: tuple[str, ...]) -> Self:
        """Return the experiment with what ``lacked_gpu`` is to say."""
        experiment = self.model_copy()
        experiment._lacked_gpu = settings
        return experiment

    @property
    def folder(self) -> SweepFolder:
        """The folder of this sweep, absolute: workers run in folders of their own."""
        return SweepFolder((self.output_dir / self.name).absolute())

    @property
    def rules(self) -> Rules:
        """What holds for all models."""
        return Rules(self.objective, self.lr_range, self.search, self.replicate, self.own_metrics)

    @property
    def own_metrics(self) -> dict[str, Direction]:
        """What is to be done with each of ``metrics``."""
        known = self.plugins.directions
        return {name: known[name] for name in self.metrics if name in known}

    @property
    def all_models(self) -> tuple[Model, ...]:
        """The floor, then the experiment's models with those that others build on first."""
        return tuple(map(self.model, self.model_names))

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names of ``all_models``, known also where the code of one is not."""
        names = dict.fromkeys(name for name in self.families if name != FLOOR)
        return (FLOOR, *sorted(names, key=lambda name: len(builds_on(self.family_of(name)))))

    def family_of(self, name: str) -> str:
        """Return the family of a model: today a model is called as its family is."""
        return name

    def model(self, name: str) -> Model:
        """Return one of the experiment's models, or what it would be.

        Raises InputError for the name of no family.
        """
        given, called = self.models.get(name, ModelSettings()), self.family_of(name)
        family = get_family(called)
        return Model(
            name=name,
            family=called,
            settings=family.Config.model_validate(given.config),
            space=given.space,
            resources=self.resources_of(name),
            branches={branch: branch for branch in family.branches},
        )

    @property
    def resources_by_model(self) -> dict[str, Resources]:
        """What one trial of each model takes."""
        return {name: self.resources_of(name) for name in self.model_names}

    def resources_of(self, name: str) -> Resources:
        """Return what one trial of a model takes; one that fits in one go takes no GPU."""
        takes = self.models.get(name, ModelSettings()).resources or self.resources
        is_fitted = isinstance(FAMILIES.get(self.family_of(name)), EstimatorFamily)
        return Resources(cpus=takes.cpus) if is_fitted else takes

    def only(
        self, name: str, *, config: Mapping[str, Any] | None = None, seed: int | None = None
    ) -> Self:
        """Return the experiment with one model and nothing to search.

        ``config`` are its values, ``seed`` is its only one, where they are settled.
        """
        settings = self.models.get(name, ModelSettings()).model_copy(update={"space": {}})
        if config is not None:
            settings = settings.model_copy(update={"config": config})
        seeds = self.replicate.seeds if seed is None else (seed,)
        return self.model_copy(
            update={
                "families": (name,),
                "models": {**self.models, name: settings},
                "replicate": self.replicate.model_copy(update={"seeds": seeds}),
            }
        )

    def with_code(self, family: str, reference: str) -> Self:
        """Return the experiment that knows where the code of a family of one's own is."""
        families = {**self.plugins.families, family: reference}
        plugins = self.plugins.model_copy(update={"families": families})
        return self.model_copy(update={"plugins": plugins})

    def without_unused_models(self) -> Self:
        """Return the same sweep without the settings of families that it does not compare."""
        used = {name: one for name, one in self.models.items() if name in self.model_names}
        return self.model_copy(update={"models": used})

    def to_yaml(self) -> str:
        """Return YAML that ``load_experiment`` reads back to an equal experiment."""
        return write_yaml(plain_settings(self))

    @property
    def identity(self) -> dict[str, Any]:
        """The part that decides the results; a resume may change only the rest.

        Models are told by what their families make of the values: a default that is written out is
        the same as one that is left out, and so are two ways to write a number.
        """
        asked = ("data", "branches_from", "objective", "metrics")
        deciding = (*asked, "lr_range", "search", "replicate")
        models = {name: self._identity_of(name) for name in self.model_names}
        kept = self.model_dump(mode="json", include=set(deciding))
        return {**kept, "families": list(models), "models": models}

    def _identity_of(self, name: str) -> dict[str, Any]:
        given, family = self.models.get(name, ModelSettings()), self.family_of(name)
        # Of a family whose code is not here, nor was it asked for, it is what was given.
        values = self.model(name).baseline.values if family in FAMILIES else given.config
        dimensions = given.space.items()
        return {
            "config": values,
            "space": {n: one.model_dump(mode="json", exclude_none=True) for n, one in dimensions},
        }

    @property
    def identity_hash(self) -> str:
        """Hash of ``identity``."""
        return content_hash(self.identity)
