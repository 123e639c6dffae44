"""One family's way through the stages of a sweep, from the records and its journal alone."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from sg_ray.config import Experiment
from sg_ray.records.race import drops
from sg_ray.records.record import RunRecord, Stage
from sg_ray.statistics.racing import Drop
from sg_ray.sweep.plan.jobs import AnyJob, TrainJob
from sg_ray.sweep.plan.ledger import Identity, Ledger
from sg_ray.trial import BranchSource, TrialSpec


class FamilyPlan:
    """One family's way through the stages. Subclasses say which trials the family needs."""

    def __init__(
        self, family: str, experiment: Experiment, ledger: Ledger, identity: Identity
    ) -> None:
        self.family = family
        self._experiment = experiment
        self._ledger = ledger
        self._identity = identity
        self._in_flight: dict[str, TrainJob] = {}
        self._specs: dict[tuple[Any, ...], tuple[Mapping[str, Any], TrialSpec]] = {}

    def next_job(self) -> AnyJob | None:
        """Return a job that can start now, or None: wait for what runs, or there is none left."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """True once every trial of the family is on record."""
        raise NotImplementedError

    def on_epoch(self, trial_key: str, epoch: int, objective: float | None) -> bool:
        """Take note of an epoch; return True if the trial should be given up."""
        del trial_key, epoch, objective
        return False

    def on_finished(self, record: RunRecord) -> None:
        """Take note of a finished trial, already in the ledger."""
        self._in_flight.pop(record.trial_key, None)

    def spec(self, config: Mapping[str, Any], seed: int) -> TrialSpec:
        """Return the trial of one configuration and seed of this family."""
        branches = self.branch_sources(seed)
        # Kept by identity: plans are asked many times a second, and hashing a configuration takes
        # longer than all the rest. The configuration is kept too, so that its id stays its own.
        key = (id(config), seed, *(tuple(source.identity) for source in branches.values()))
        if key not in self._specs:
            spec = TrialSpec(
                family=self.family,
                config=config,
                seed=seed,
                objective=self._experiment.objective,
                data_fingerprint=self._identity.data_fingerprint,
                code_version=self._identity.code_version,
                branches=branches,
            )
            self._specs[key] = (config, spec)
        return self._specs[key][1]

    def branch_sources(self, seed: int) -> Mapping[str, BranchSource]:
        """Return the trained branches that a trial with this seed builds on."""
        del seed
        return {}

    def has_branches(self, seed: int) -> bool:
        """Return True if a trial with this seed has all that it builds on."""
        del seed
        return True

    @property
    def branch(self) -> Mapping[str, Any] | None:
        """The configuration that other families build on, if there is one and it is known."""
        return None

    @property
    def finalists(self) -> list[Mapping[str, Any]]:
        """Configurations that get every seed unless the race drops them; empty: not yet known."""
        raise NotImplementedError

    def trials(self, seeds: Sequence[int]) -> dict[str, dict[int, RunRecord]]:
        """Return the finalists' records by the configuration's hash and, of ``seeds``, the seed."""
        first = self._experiment.replicate.seeds[0]
        found: dict[str, dict[int, RunRecord]] = {}
        for config in self.finalists:
            keys = {seed: self.spec(config, seed).trial_key for seed in seeds}
            records = self._ledger.records
            of_seed = {seed: records[key] for seed, key in keys.items() if key in records}
            found[self.spec(config, first).config_hash] = of_seed
        return found

    def dropped(self, seeds: Sequence[int]) -> dict[str, Drop]:
        """Return the finalists that a race over ``seeds`` drops."""
        replicate = self._experiment.replicate
        rounds = [seed for seed in seeds if seed != replicate.seeds[0]]
        return drops(self.trials(seeds), rounds, self._experiment.objective, replicate.race_alpha)

    def in_race(self, seeds: Sequence[int]) -> list[Mapping[str, Any]]:
        """Return the finalists that a race over ``seeds`` leaves."""
        first = self._experiment.replicate.seeds[0]
        dropped = self.dropped(seeds)
        return [c for c in self.finalists if self.spec(c, first).config_hash not in dropped]

    def is_on_record(self, config: Mapping[str, Any], seed: int) -> bool:
        """Return True if the trial has finished."""
        return self.is_known(self.spec(config, seed))

    def is_known(self, spec: TrialSpec) -> bool:
        """Return True if the trial has finished."""
        return spec.trial_key in self._ledger.records

    def extra_job(self, config: Mapping[str, Any], seed: int) -> TrainJob | None:
        """Return the job of one more seed, unless it is done or on its way."""
        return self.job(self.spec(config, seed), "replicate")

    def num_epochs(self, seeds: Sequence[int]) -> int:
        """Return how many epochs the family's trials with ``seeds`` took."""
        records = [r for r in self._ledger.of_family(self.family) if r.counts_as_seed]
        return sum(record.epochs for record in records if record.seed in seeds)

    def job(self, spec: TrialSpec, stage: Stage) -> TrainJob | None:
        """Return the job of ``spec``, unless it is done or on its way."""
        if spec.trial_key in self._ledger.records or spec.trial_key in self._in_flight:
            return None
        job = TrainJob(spec=spec, stage=stage, resources=self._experiment.resources_of(self.family))
        self._in_flight[spec.trial_key] = job
        return job

    def _next_planned_seed(self, stage: Stage) -> TrainJob | None:
        """Return the next missing trial of those that get the planned seeds, seed by seed."""
        configs = self._get_planned_seeds
        for seed in self._experiment.replicate.seeds:
            for config in configs if self.has_branches(seed) else ():
                job = self.job(self.spec(config, seed), stage)
                if job is not None:
                    return job
        return None

    @property
    def _get_planned_seeds(self) -> list[Mapping[str, Any]]:
        """The configurations that are still in the race after those seeds that are known."""
        return self.in_race(self._experiment.replicate.seeds)

    @property
    def _has_planned_seeds(self) -> bool:
        """True once those that get the planned seeds have all of them on record."""
        seeds, configs = self._experiment.replicate.seeds, self._get_planned_seeds
        return all(self.is_on_record(config, seed) for config in configs for seed in seeds)


class FloorPlan(FamilyPlan):
    """The floor: its baseline configuration with every seed, neither tuned nor searched."""

    @cached_property
    def finalists(self) -> list[Mapping[str, Any]]:
        """The only configuration."""
        return [self._experiment.baseline(self.family).model_dump(mode="json")]

    def next_job(self) -> AnyJob | None:
        """Return the next missing seed."""
        return self._next_planned_seed("floor")

    def extra_job(self, config: Mapping[str, Any], seed: int) -> TrainJob | None:
        """Return the job of one more seed, unless it is done or on its way."""
        return self.job(self.spec(config, seed), "floor")

    @property
    def finished(self) -> bool:
        """True once every planned seed is on record."""
        return self._has_planned_seeds
