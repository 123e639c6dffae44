"""One model's way through the stages of a sweep, from the records and its journal alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sg_ray.config import Model, Resources, Rules
from sg_ray.configuration import Configuration
from sg_ray.jobs.job import AnyJob, TrainJob
from sg_ray.records.race import drops
from sg_ray.records.record import RunRecord, Stage
from sg_ray.statistics.racing import Drop
from sg_ray.sweep.plan.ledger import Identity, Ledger
from sg_ray.trial.spec import BranchSource, TrialSpec

_SpecKey = tuple[Configuration, int, tuple[tuple[str, ...], ...]]
"""A configuration, a seed, and which branches it builds on."""

Fits = Callable[[Resources], bool]
"""Whether there is room now for a trial that takes so much. What does not fit is not decided yet:
a point of a search is chosen when it is handed out, by all that is known then."""


def all_fit(takes: Resources) -> bool:
    """Say that there is room for any trial."""
    del takes
    return True


_RecordsBySeed = dict[int, RunRecord]
_Found = TypeVar("_Found")


class ModelPlan:
    """One model's way through the stages. Subclasses say which trials the model needs."""

    def __init__(self, model: Model, rules: Rules, ledger: Ledger, identity: Identity) -> None:
        self.model = model
        self._rules = rules
        self._ledger = ledger
        self._identity = identity
        self._in_flight: dict[str, TrainJob] = {}
        self._specs: dict[_SpecKey, TrialSpec] = {}
        self._looked_up: dict[Configuration, dict[int, RunRecord | None]] = {}
        self._worked_out: dict[object, Any] = {}
        self._worked_out_at = -1
        self._first_open: tuple[list[Configuration], int] = ([], 0)

    def next_job(self) -> AnyJob | None:
        """Return a job that can start now, or None: wait for what runs, or there is none left."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """True once every trial of the model is on record."""
        raise NotImplementedError

    def on_epoch(self, trial_key: str, epoch: int, objective: float | None) -> bool:
        """Take note of an epoch; return True if the trial should be given up."""
        del trial_key, epoch, objective
        return False

    def on_finished(self, record: RunRecord) -> None:
        """Take note of a finished trial, already in the ledger."""
        self._in_flight.pop(record.trial_key, None)
        found = self._looked_up.get(record.configuration)
        spec = self.spec(record.configuration, record.seed) if found is not None else None
        if found is not None and spec is not None and spec.trial_key == record.trial_key:
            found[record.seed] = self._ledger.records[record.trial_key]

    def spec(self, configuration: Configuration, seed: int) -> TrialSpec:
        """Return the trial of one configuration and seed of this model."""
        branches = self.branch_sources(seed)
        # Plans are asked many times a second, and a spec's key is a hash of all that it holds.
        identities = tuple(tuple(source.identity) for source in branches.values())
        key = (configuration, seed, identities)
        if key not in self._specs:
            self._specs[key] = TrialSpec(
                configuration=configuration,
                seed=seed,
                objective=self._rules.objective,
                data_fingerprint=self._identity.data_fingerprint,
                code_version=self._identity.code_version_of(configuration.family),
                branches=branches,
                trained_with=self._identity.trained_with.get(configuration.family),
                own_metrics=self._rules.own_metrics,
            )
        return self._specs[key]

    def branch_sources(self, seed: int) -> Mapping[str, BranchSource]:
        """Return the trained branches that a trial with this seed builds on."""
        del seed
        return {}

    def has_branches(self, seed: int) -> bool:
        """Return True if a trial with this seed has all that it builds on."""
        del seed
        return True

    @property
    def branch(self) -> Configuration | None:
        """The configuration that other models build on, if there is one and it is known."""
        return None

    @property
    def finalists(self) -> list[Configuration]:
        """Configurations that get every seed unless the race drops them; empty: not yet known."""
        raise NotImplementedError

    def trials(self, seeds: Sequence[int]) -> dict[str, dict[int, RunRecord]]:
        """Return the finalists' records by the configuration's hash and, of ``seeds``, the seed."""
        return self._once_a_record(("trials", tuple(seeds)), lambda: self._find_trials(seeds))

    def _find_trials(self, seeds: Sequence[int]) -> dict[str, dict[int, RunRecord]]:
        first = self._rules.replicate.seeds[0]
        return {
            self.spec(finalist, first).config_hash: self._records_of(finalist, seeds)
            for finalist in self.finalists
        }

    def _records_of(self, configuration: Configuration, seeds: Sequence[int]) -> _RecordsBySeed:
        """Return the configuration's records by seed, in the order of ``seeds``."""
        looked_up = self._looked_up.setdefault(configuration, {})
        # What a trial builds on becomes known by and by, and is part of its key.
        is_settled = not self.model.branches
        found: dict[int, RunRecord] = {}
        for seed in seeds:
            record = looked_up.get(seed)
            if record is None and not (is_settled and seed in looked_up):
                key = self.spec(configuration, seed).trial_key
                record = looked_up[seed] = self._ledger.records.get(key)
            if record is not None:
                found[seed] = record
        return found

    def _once_a_record(self, what: object, work_out: Callable[[], _Found]) -> _Found:
        """Return what follows from the records and the finalists, once those are known.

        Plans are asked many times a second, and a record comes once in a while.
        """
        if not self.finalists:
            return work_out()
        if self._worked_out_at != self._ledger.version:
            self._worked_out_at = self._ledger.version
            self._worked_out.clear()
        if what not in self._worked_out:
            self._worked_out[what] = work_out()
        found: _Found = self._worked_out[what]
        return found

    def dropped(self, seeds: Sequence[int]) -> dict[str, Drop]:
        """Return the finalists that a race over ``seeds`` drops."""
        return self._once_a_record(("dropped", tuple(seeds)), lambda: self._race(seeds))

    def _race(self, seeds: Sequence[int]) -> dict[str, Drop]:
        replicate = self._rules.replicate
        if replicate.race_alpha is None:
            return {}
        rounds = [seed for seed in seeds if seed != replicate.seeds[0]]
        return drops(self.trials(seeds), rounds, self._rules.objective, replicate.race_alpha)

    def in_race(self, seeds: Sequence[int]) -> list[Configuration]:
        """Return the finalists that a race over ``seeds`` leaves."""
        first = self._rules.replicate.seeds[0]
        dropped = self.dropped(seeds)
        return [one for one in self.finalists if self.spec(one, first).config_hash not in dropped]

    def is_on_record(self, configuration: Configuration, seed: int) -> bool:
        """Return True if the trial has finished."""
        return self.is_known(self.spec(configuration, seed))

    def is_known(self, spec: TrialSpec) -> bool:
        """Return True if the trial has finished."""
        return spec.trial_key in self._ledger.records

    def extra_job(self, configuration: Configuration, seed: int) -> TrainJob | None:
        """Return the job of one more seed; None if it is on record, or running."""
        return self.job(self.spec(configuration, seed), "replicate")

    def num_epochs(self, seeds: Sequence[int]) -> int:
        """Return how many epochs the model's trials with ``seeds`` took."""
        records = [r for r in self._ledger.of_model(self.model.name) if r.counts_as_seed]
        return sum(record.epochs for record in records if record.seed in seeds)

    def job(self, spec: TrialSpec, stage: Stage) -> TrainJob | None:
        """Return the job of ``spec``; None if it is on record, or running."""
        job = self.open_job(spec, stage)
        if job is not None:
            self.claim(job)
        return job

    def open_job(self, spec: TrialSpec, stage: Stage) -> TrainJob | None:
        """Return what ``job`` would, and leave it open: whoever runs it has to ``claim`` it."""
        if spec.trial_key in self._ledger.records or spec.trial_key in self._in_flight:
            return None
        return TrainJob(spec=spec, stage=stage, resources=self.model.resources)

    def job_again(self, spec: TrialSpec, stage: Stage) -> TrainJob:
        """Claim and return the job of a trial on record, to be trained once more."""
        job = TrainJob(spec=spec, stage=stage, resources=self.model.resources)
        self.claim(job)
        return job

    def is_in_flight(self, trial_key: str) -> bool:
        """Return whether the job of that trial is claimed and not finished."""
        return trial_key in self._in_flight

    def claim(self, job: TrainJob) -> None:
        """Take note that an open job is run."""
        self._in_flight[job.spec.trial_key] = job

    def open_seeds(self, job: TrainJob) -> Iterator[TrainJob]:
        """Yield the open jobs of other planned seeds of the configuration that a job trains."""
        for seed in self._rules.replicate.seeds:
            if self.has_branches(seed):
                one = self.open_job(self.spec(job.spec.configuration, seed), job.stage)
                if one is not None:
                    yield one

    def _next_planned_seed(self, stage: Stage) -> TrainJob | None:
        """Return the next missing trial of those that get the planned seeds, seed by seed."""
        replicated, seeds = self._replicated, self._rules.replicate.seeds
        before, first_open = self._first_open
        first_open = first_open if before == replicated else 0
        for index in range(first_open, len(seeds)):
            for configuration in replicated if self.has_branches(seeds[index]) else ():
                job = self.job(self.spec(configuration, seeds[index]), stage)
                if job is not None:
                    self._first_open = (replicated, first_open)
                    return job
            if index == first_open and self.has_branches(seeds[index]):
                first_open += 1  # all of this seed are on record, or run
        self._first_open = (replicated, first_open)
        return None

    @property
    def _replicated(self) -> list[Configuration]:
        """Those that get the planned seeds: still in the race after what is known of them."""
        return self.in_race(self._rules.replicate.seeds)

    @property
    def _has_planned_seeds(self) -> bool:
        """True once those that get the planned seeds have all of them on record."""
        replicated = self._replicated
        # From the last seed on, which is the last to be on record: most often one look is enough.
        return all(
            self._records_of(one, (seed,))
            for seed in reversed(self._rules.replicate.seeds)
            for one in replicated
        )


class FloorPlan(ModelPlan):
    """The floor: its baseline configuration with every seed, neither tuned nor searched."""

    @property
    def finalists(self) -> list[Configuration]:
        """The only configuration."""
        return [self.model.baseline]

    def next_job(self) -> AnyJob | None:
        """Return the next missing seed."""
        return self._next_planned_seed("floor")

    def extra_job(self, configuration: Configuration, seed: int) -> TrainJob | None:
        """Return the job of one more seed; None if it is on record, or running."""
        return self.job(self.spec(configuration, seed), "floor")

    @property
    def finished(self) -> bool:
        """True once every planned seed is on record."""
        return self._has_planned_seeds
