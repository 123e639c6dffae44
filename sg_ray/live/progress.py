"""What the events so far say about a sweep: trials done, to come and running, best scores."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never, get_args

from sg_ray.files import short_hash
from sg_ray.records.events import (
    DataChecked,
    EpochEnded,
    Event,
    FinalistDropped,
    JobLost,
    LearningRateFound,
    NodeReported,
    StageStarted,
    SweepFinished,
    SweepPlanned,
    SweepRanked,
    SweepResumed,
    SweepStarted,
    SweepWaiting,
    TrainingFinished,
    TrainingStarted,
    TrialFinished,
    TrialResumed,
    TrialStarted,
    TrialTakenBack,
    WeightsLetGo,
    WinnerTested,
)
from sg_ray.records.planned import PlannedStage
from sg_ray.records.record import Stage
from sg_ray.training.metrics import is_better
from sg_ray.training.seeding import seed_name

TRIAL_STAGES = get_args(Stage)
UNFINISHED = ("running", "interrupted")

StageKey = tuple[str, str]
"""Model and stage; the model of "variance" is "", for the winner may be any."""


@dataclass
class Trial:
    """What the view knows of one trial; ``status`` is "running" or how it ended."""

    model: str
    stage: str
    config_hash: str
    seeds: str
    started_at_ms: int
    num_epochs: int | None = None
    """How many epochs it has at most, if its configuration says so."""
    short_name: str = ""
    """What people call its configuration: ``gnn lr 5e-3``; "" if it has no name."""
    status: str = "running"
    epoch: int = 0
    epoch_at_ms: int = 0

    @property
    def name(self) -> str:
        """E.g. "gnn lr 5e-3 1f0c9a2b-seed42"."""
        own = self.short_name or self.model
        return f"{own} {short_hash(self.config_hash)}-{self.seeds}"

    @property
    def name_in_model(self) -> str:
        """The same where the model is told already: "lr 5e-3 1f0c9a2b-seed42"."""
        return self.name.removeprefix(f"{self.model} ")


@dataclass
class Progress:
    """What the events so far say about a sweep. Events met twice change nothing."""

    objective: str
    stage: str = "prepare"
    model: str = ""
    status: str = ""
    planned: dict[StageKey, PlannedStage] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)
    preparing: str = ""
    """What is being made of how many samples, while features are made."""
    waiting: tuple[int, str] | None = None
    """For how many seconds no trial has begun, and why; None if anything happened since."""
    best: dict[str, float] = field(default_factory=dict)
    """Of each model the best value of a single trial, which is no mean over seeds."""
    learning_rates: dict[str, str] = field(default_factory=dict)
    durations_s: dict[str, list[float]] = field(default_factory=dict)
    """Seconds that finished trials took, by model."""
    range_tests_s: list[float] = field(default_factory=list)
    """Seconds that finished range tests took."""
    now_ms: int = 0
    """When the newest event was."""
    num_at_once: int = 1
    """How many trials ran side by side, at most."""
    _dropped: set[StageKey] = field(default_factory=set)
    """Model and hash of what the race gave up."""
    _range_test_began_ms: dict[str, int] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        """Take one event into account."""
        self.now_ms = max(self.now_ms, event.at_ms)
        self.waiting = None
        match event:
            case SweepPlanned():
                self.planned = {(one.model, one.stage): one for one in event.stages}
            case StageStarted():
                self._begin_stage(event)
            case LearningRateFound():
                self._take_learning_rate(event)
            case TrialStarted():
                self._start_trial(event)
            case EpochEnded():
                self._end_epoch(event)
            case TrialTakenBack():
                self._take_back(event)
            case TrialFinished():
                self._finish_trial(event)
            case FinalistDropped():
                self._dropped.add((event.model, event.config_hash))
            case SweepWaiting():
                self.waiting = event.wait_s, event.reason
            case SweepFinished():
                self.status = event.status
            case (
                SweepStarted()
                | SweepResumed()
                | DataChecked()
                | TrialResumed()
                | JobLost()
                | NodeReported()
                | WinnerTested()
                | WeightsLetGo()
                | SweepRanked()
                | TrainingStarted()
                | TrainingFinished()
            ):
                pass
            case _:
                assert_never(event)

    def interrupt(self) -> None:
        """Take note that the process that ran the trials so far has ended."""
        self.status, self.num_at_once = "", 1
        self._range_test_began_ms.clear()
        for trial in self.with_status("running"):
            trial.status = "interrupted"

    @property
    def models(self) -> list[str]:
        """Models met so far, in order."""
        planned = [model for model, _ in self.planned if model]
        started = [trial.model for trial in self.trials.values()]
        return list(dict.fromkeys([*self.learning_rates, *planned, *started]))

    @property
    def num_finished(self) -> int:
        """Trials that ended, in whichever way."""
        return sum(trial.status not in UNFINISHED for trial in self.trials.values())

    @property
    def num_planned(self) -> tuple[int, int]:
        """Trials of the whole sweep, at least and at most."""
        least = most = self.num_finished
        for _, to_come in self.to_come():
            least, most = least + to_come[0], most + to_come[1]
        return least, most

    def to_come(self) -> Iterator[tuple[StageKey, tuple[int, int]]]:
        """Yield, stage by stage, how many trials have yet to end, at least and at most."""
        if self.status == "completed":  # pruning may have left fewer finalists than planned
            return
        seen: dict[StageKey, list[Trial]] = {key: [] for key in self.planned}
        for trial in self.trials.values():
            seen.setdefault(_key(trial.model, trial.stage), []).append(trial)
        for key, trials in seen.items():
            if key[1] in TRIAL_STAGES:
                least, most = self._planned_trials(key, trials)
                ended = sum(trial.status not in UNFINISHED for trial in trials)
                yield key, (max(least, len(trials)) - ended, max(most, len(trials)) - ended)

    @property
    def range_tests_to_come(self) -> list[str]:
        """Models whose range test has not ended."""
        stages = [] if self.status == "completed" else list(self.planned)
        tests = [model for model, stage in stages if stage == "lr_range"]
        return [model for model in tests if model not in self.learning_rates]

    def running(self, model: str) -> list[Trial]:
        """Trials of ``model`` that run now."""
        return [trial for trial in self.with_status("running") if trial.model == model]

    def with_status(self, status: str) -> list[Trial]:
        """Trials of all models with this status."""
        return [trial for trial in self.trials.values() if trial.status == status]

    def outcomes(self, model: str) -> Counter[str]:
        """Finished trials of ``model``, by status."""
        statuses = (trial.status for trial in self.trials.values() if trial.model == model)
        return Counter(status for status in statuses if status not in UNFINISHED)

    def _planned_trials(self, key: StageKey, trials: Iterable[Trial]) -> tuple[int, int]:
        """Return a stage's trials, at least and at most, without those that the race spares."""
        plan = self.planned.get(key)
        if plan is None:
            return 0, 0
        least, most = plan.num_trials, plan.num_trials + plan.num_extra
        if key[1] != "replicate":
            return least, most
        done = Counter(trial.config_hash for trial in trials)
        shares = least // plan.num_finalists, most // plan.num_finalists
        for model, config_hash in self._dropped:
            if model == key[0]:
                least -= max(0, shares[0] - done[config_hash])
                most -= max(0, shares[1] - done[config_hash])
        return least, most

    def _begin_stage(self, event: StageStarted) -> None:
        self.preparing = ""
        self.stage, self.model = event.stage, event.model
        if event.stage == "lr_range":
            self._range_test_began_ms[event.model] = event.at_ms
        elif event.stage != "prepare":
            self._plan(event.model, event.stage, event.num_trials)

    def _plan(self, model: str, stage: Stage, num_trials: int) -> None:
        """Take note of how many trials a stage begins with."""
        key = _key(model, stage)
        known = self.planned.get(key, PlannedStage(model=key[0], stage=stage, num_trials=0))
        self.planned[key] = known.model_copy(update={"num_trials": num_trials})

    def _take_learning_rate(self, event: LearningRateFound) -> None:
        self.learning_rates[event.model] = f"{event.learning_rate:.2e} ({event.source})"
        began_ms = self._range_test_began_ms.pop(event.model, None)
        if began_ms is not None:
            self.range_tests_s.append((event.at_ms - began_ms) / 1000)

    def _start_trial(self, event: TrialStarted) -> None:
        key = event.trial_key
        if key in self.trials and self.trials[key].status != "interrupted":
            return
        self.trials[key] = Trial(
            model=event.model,
            stage=event.stage,
            config_hash=event.config_hash,
            seeds=seed_name(event.seed, event.streams),
            started_at_ms=event.at_ms,
            num_epochs=_num_epochs(event.config),
            short_name=event.name,
        )
        self.num_at_once = max(self.num_at_once, len(self.with_status("running")))

    def _end_epoch(self, event: EpochEnded) -> None:
        trial = self.trials.get(event.trial_key)
        if trial is not None and event.epoch > trial.epoch:
            trial.epoch, trial.epoch_at_ms = event.epoch, event.at_ms

    def _take_back(self, event: TrialTakenBack) -> None:
        trial = self.trials.get(event.trial_key)
        if trial is not None:
            trial.status = "interrupted"

    def _finish_trial(self, event: TrialFinished) -> None:
        trial = self.trials.get(event.trial_key)
        if trial is None or trial.status not in UNFINISHED:
            return
        was_running, trial.status = trial.status == "running", event.status
        if was_running and trial.status != "failed":
            seconds = (event.at_ms - trial.started_at_ms) / 1000
            self.durations_s.setdefault(trial.model, []).append(seconds)
        value = event.metrics.get(self.objective)
        if trial.status != "completed" or trial.stage == "variance" or value is None:
            return
        if is_better(self.objective, value, self.best.get(trial.model)):
            self.best[trial.model] = value


def _key(model: str, stage: str) -> StageKey:
    return ("" if stage == "variance" else model, stage)


def _num_epochs(config: Mapping[str, Any]) -> int | None:
    epochs = config.get("epochs")
    return epochs if isinstance(epochs, int) else None
