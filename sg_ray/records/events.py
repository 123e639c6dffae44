"""What can happen in a sweep or a training: one type for each kind of event.

The journal holds one event a line, as a flat JSON object: ``at_ms``, ``type`` and ``level``, then
the fields of its type. Whoever follows a journal takes each type with ``match``; ``assert_never``
after the last case makes the type checker name a type that was forgotten.

An event is made without its time, which the journal sets when it writes it. Values may be what
``to_plain`` understands; in the event they are plain.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from sg_ray.config import KeepWeights
from sg_ray.files import to_plain
from sg_ray.reading import Number, TimeMs
from sg_ray.records.planned import PlannedName, PlannedStage
from sg_ray.records.record import Stage, Status
from sg_ray.training.seeding import Stream

Level = Literal["info", "warning", "error"]
"""How loud an event is: "error" if something failed, "warning" if it did not go well."""
EndStatus = Literal["completed", "failed", "interrupted"]
"""How a sweep or a training by itself ended: "failed" if any part of it did."""
NodeNews = Literal["joined", "lost", "avoided", "noted"]
"""It came while the sweep ran; it is gone; nothing is trained there; it trains, but."""
RateSource = Literal["range test", "cache", "default"]
"""Where a learning rate comes from; "default" if the range test found none."""

PlainMapping = Annotated[Mapping[str, Any], BeforeValidator(to_plain)]
Metrics = Annotated[Mapping[str, Number | None], BeforeValidator(to_plain)]
"""Numbers by name; None where one is not finite."""

Identity = tuple[str | int, ...]

_LEVEL_OF_STATUS: Mapping[str, Level] = {"failed": "error", "interrupted": "warning"}


class EventBase(BaseModel):
    """What all events have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    at_ms: TimeMs = 0
    """When it was written: milliseconds since 1970, later than any event before it."""
    type: str

    @property
    def subject(self) -> str:
        """The key of the trial that it is about; "" for the sweep as a whole."""
        return ""

    @property
    def level(self) -> Level:
        """Follows from the fields, so it is none of them."""
        return "info"

    @property
    def identity(self) -> Identity | None:
        """What is equal for the same thing said twice; None for what may happen again."""
        return None

    def as_line(self) -> str:
        """Return the journal's line."""
        head = {"at_ms": self.at_ms, "type": self.type, "level": self.level}
        return json.dumps({**head, **self.model_dump()}, allow_nan=False) + "\n"


class TrialEvent(EventBase):
    """What happens to one trial."""

    trial_key: str

    @property
    def subject(self) -> str:
        """Its key."""
        return self.trial_key


class SweepStarted(EventBase):
    """A sweep was begun. The first event of its journal, which says who it is; said once."""

    type: Literal["sweep_started"] = "sweep_started"
    name: str
    sweep_id: str
    """By which MLflow knows the sweep for ever, also once its folder was moved or renamed."""
    plan: PlainMapping
    """The whole experiment, every setting resolved."""

    @property
    def identity(self) -> Identity:
        """There is one sweep in a folder."""
        return (self.type,)


class SweepResumed(EventBase):
    """A driver goes on with a sweep that was begun before."""

    type: Literal["sweep_resumed"] = "sweep_resumed"


class DataChecked(EventBase):
    """The samples were read, and features made of them."""

    type: Literal["data_checked"] = "data_checked"
    fingerprint: str
    """Hash of all samples and labels."""
    notes: Sequence[str]
    """Sentences about the data, and about earlier results that other data or code led to."""


class SweepPlanned(EventBase):
    """How many trials each stage of each model will have; the race may make it fewer."""

    type: Literal["plan"] = "plan"
    stages: Sequence[PlannedStage]


class StageStarted(EventBase):
    """A stage of a model began."""

    type: Literal["stage"] = "stage"
    model: str
    """"" for "prepare", which is for all of them."""
    stage: PlannedName | Literal["prepare"]
    num_trials: int
    """As planned; seeds that are added later come on top."""


class LearningRateFound(EventBase):
    """A model's learning rate is settled, for the search to go from."""

    type: Literal["lr_range"] = "lr_range"
    model: str
    learning_rate: float
    source: RateSource
    reason: str | None = None
    """Why the range test found none; None if it found one."""
    curve: Sequence[Mapping[str, Any]]
    """For each seed of the range test, the losses at the rates that it went through."""
    trial_key: str | None = None
    """The one trial of a training by itself; None in a sweep."""

    @property
    def subject(self) -> str:
        """The trial's key, if it is for one alone."""
        return self.trial_key or ""

    @property
    def level(self) -> Level:
        """A warning if the range test found none."""
        return "warning" if self.source == "default" else "info"


class TrialStarted(TrialEvent):
    """A trial was handed out for the first time; said once, however often it is resumed."""

    type: Literal["trial_started"] = "trial_started"
    model: str
    family: str
    """What kind of model it is."""
    name: str = ""
    """What people call its configuration: ``gnn lr 5e-3``; "" where it has no name."""
    stage: Stage
    config: PlainMapping
    """Every hyperparameter, in full."""
    config_hash: str
    seed: int
    streams: Mapping[Stream, int] = Field(default_factory=dict)
    """Seeds of single streams of random numbers, each in place of ``seed``."""

    @property
    def identity(self) -> Identity:
        """A trial starts once."""
        return (self.type, self.trial_key)


class TrialResumed(TrialEvent):
    """A trial goes on from a checkpoint."""

    type: Literal["trial_resumed"] = "trial_resumed"
    epoch: int
    """How many epochs are in it."""


class EpochEnded(TrialEvent):
    """A trial came to the end of an epoch; said once of each, though it may be trained again."""

    type: Literal["epoch"] = "epoch"
    epoch: int
    """From 1."""
    metrics: Metrics

    @property
    def identity(self) -> Identity:
        """Each epoch of each trial."""
        return (self.type, self.trial_key, self.epoch)


class TrialFinished(TrialEvent):
    """A trial is on record, which holds the rest. Said once, or once more if it is taken back."""

    type: Literal["trial_finished"] = "trial_finished"
    status: Status
    epochs: int
    """How many it was trained for."""
    metrics: Metrics
    """Those of its best epoch."""

    @property
    def level(self) -> Level:
        """An error if it failed."""
        return _LEVEL_OF_STATUS.get(self.status, "info")

    @property
    def identity(self) -> Identity:
        """A trial ends once."""
        return (self.type, self.trial_key)


class TrialTakenBack(TrialEvent):
    """A trial's end does not count, for a process or machine was at fault. It is tried again."""

    type: Literal["trial_taken_back"] = "trial_taken_back"
    reason: str | None
    """What had gone wrong; None if that was a branch which it builds on."""

    @property
    def takes_back(self) -> Identity:
        """The identity of what may be said again."""
        return ("trial_finished", self.trial_key)


class JobLost(EventBase):
    """A job's process or machine died. It is handed out again."""

    type: Literal["job_lost"] = "job_lost"
    name: str
    """The job's name, as people read it."""
    reason: str
    trial_key: str | None = None
    """The trial that the job is; None if it is none."""
    host: str | None = None
    """The node that it ran on; None if that is not known, or if there is one alone."""

    @property
    def subject(self) -> str:
        """The trial's key, if it is one."""
        return self.trial_key or ""


class SweepWaiting(EventBase):
    """There are trials to run, and none has begun for some time."""

    type: Literal["waiting"] = "waiting"
    wait_s: int
    """For so many seconds."""
    reason: str


class NodeReported(EventBase):
    """What became known of a node of the cluster."""

    type: Literal["node"] = "node"
    host: str
    """Its name and address."""
    news: NodeNews
    reason: str = ""
    """Why it is avoided, or what is to be known; a sentence that names the node."""

    @property
    def level(self) -> Level:
        """A warning unless it is one node more."""
        return "info" if self.news == "joined" else "warning"


class FinalistDropped(EventBase):
    """The race gave a configuration up before it had all of its seeds; said once."""

    type: Literal["dropped"] = "dropped"
    model: str
    config_hash: str
    against: str
    """Hash of the configuration that is better."""
    after_seeds: int
    """On how many fresh seeds the two were compared by then."""

    @property
    def identity(self) -> Identity:
        """A configuration is given up once."""
        return (self.type, self.model, self.config_hash)


class WinnerTested(EventBase):
    """The winner was scored on the test split."""

    type: Literal["test_scored"] = "test_scored"
    model: str
    metrics: Metrics
    """Means over its seeds."""
    num_seeds: int = 0
    """How many those are; 0 where that was not noted."""
    is_below_floor: bool = False
    """Whether the floor is ranked above it."""


class WeightsLetGo(EventBase):
    """Weights of trials are about to be deleted: nothing that is planned reads them.

    A kill may come before all of them are gone; the rest is then said once more. A trial among
    them may be trained again later, and has weights then.
    """

    type: Literal["weights_let_go"] = "weights_let_go"
    keep_weights: KeepWeights
    """The setting by which they go."""
    trial_keys: Sequence[str]
    num_bytes: int
    """How large they are, together."""


class SweepRanked(EventBase):
    """Leaderboard, exported winners and verdict are written; the page comes next."""

    type: Literal["ranked"] = "ranked"
    status: EndStatus
    """As the end will have it."""

    @property
    def level(self) -> Level:
        """An error if any part of the sweep failed."""
        return _LEVEL_OF_STATUS.get(self.status, "info")


class SweepFinished(EventBase):
    """The driver is done. The last event, unless the sweep is resumed or extended."""

    type: Literal["sweep_finished"] = "sweep_finished"
    status: EndStatus

    @property
    def level(self) -> Level:
        """An error if any part of it failed, a warning if it was interrupted."""
        return _LEVEL_OF_STATUS.get(self.status, "info")


class TrainingStarted(EventBase):
    """A training by itself was begun, or gone on with; each start says so."""

    type: Literal["training_started"] = "training_started"
    name: str
    sweep_id: str
    """As of ``SweepStarted``; that of the journal's first event counts."""
    plan: PlainMapping
    """The experiment with this one trial's settings."""


class TrainingFinished(TrialEvent):
    """A training by itself ended."""

    type: Literal["training_finished"] = "training_finished"
    status: EndStatus

    @property
    def level(self) -> Level:
        """An error if it failed, a warning if it was interrupted."""
        return _LEVEL_OF_STATUS.get(self.status, "info")


Event = Annotated[
    SweepStarted
    | SweepResumed
    | DataChecked
    | SweepPlanned
    | StageStarted
    | LearningRateFound
    | TrialStarted
    | TrialResumed
    | EpochEnded
    | TrialFinished
    | TrialTakenBack
    | JobLost
    | SweepWaiting
    | NodeReported
    | FinalistDropped
    | WinnerTested
    | WeightsLetGo
    | SweepRanked
    | SweepFinished
    | TrainingStarted
    | TrainingFinished,
    Field(discriminator="type"),
]

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def event_of(fields: Mapping[str, Any]) -> Event:
    """Return the event with the fields of a journal's line. Raises ValidationError."""
    return _EVENT.validate_python({n: value for n, value in fields.items() if n != "level"})
