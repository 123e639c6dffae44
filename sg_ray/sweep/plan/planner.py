"""What is left to do: one place that decides it, from the records and the search journals alone.

A first start is the same code with nothing on record. Families go their ways independently, see
``family_plans`` and ``search_plan``. What the planned seeds leave undecided gets more of them in
the end, see ``extra_seeds``; last come the trials that split the winner's variance, see
``variance_trials``.
"""

from collections.abc import Callable, Mapping, Sequence

from sg_ray.code_version import code_version
from sg_ray.config import FLOOR, Experiment
from sg_ray.data.samples import DataSet
from sg_ray.models.families import get_family
from sg_ray.prepare.branches import GivenBranches
from sg_ray.records.leaderboard import Row, rank
from sg_ray.records.learning_rates import read_learning_rates
from sg_ray.records.record import RunRecord, read_records
from sg_ray.sweep.plan.extra_seeds import ExtraSeeds
from sg_ray.sweep.plan.family_plan import FamilyPlan, FloorPlan
from sg_ray.sweep.plan.jobs import AnyJob, TrainJob
from sg_ray.sweep.plan.ledger import Identity, Ledger
from sg_ray.sweep.plan.search_plan import SearchPlan
from sg_ray.sweep.plan.variance_trials import VarianceTrials
from sg_ray.trial import BranchSource


class Planner:
    """All families of an experiment; asked for the next job whenever there is room for one."""

    def __init__(
        self,
        experiment: Experiment,
        ledger: Ledger,
        identity: Identity,
        given_branches: Mapping[str, Callable[[int], BranchSource | None]],
    ) -> None:
        """``given_branches`` are trained outside this sweep, by family."""
        self.ledger = ledger
        self.has_test_split = identity.has_test_split
        self._experiment = experiment
        self.plans: dict[str, FamilyPlan] = {}
        for family in experiment.all_families:
            if family == FLOOR:
                self.plans[family] = FloorPlan(family, experiment, ledger, identity)
                continue
            branches = {
                name: given_branches[name]
                if name in given_branches
                else self._search_plan(name).branch_with_seed
                for name in get_family(family).branches
            }
            self.plans[family] = SearchPlan(family, experiment, ledger, identity, branches)
        self._extra_seeds = ExtraSeeds(experiment, self.plans)
        self._variance_trials = VarianceTrials(experiment, self.plans, self.winner)

    @property
    def finished(self) -> bool:
        """True once no family has anything left to do."""
        return self._has_all_seeds and self._variance_trials.settled

    @property
    def _has_all_seeds(self) -> bool:
        return self._has_planned_seeds and self._extra_seeds.settled

    @property
    def _has_planned_seeds(self) -> bool:
        """True once every family that can be finished is."""
        return all(plan.finished or self._is_blocked(name) for name, plan in self.plans.items())

    def _is_blocked(self, family: str) -> bool:
        """Return True if what a family builds on has ended without anything to build on."""
        names = [name for name in get_family(family).branches if name in self.plans]
        return any(
            self._is_blocked(name)
            or (self.plans[name].finished and self.plans[name].branch is None)
            for name in names
        )

    def next_job(self) -> AnyJob | None:
        """Return a job that can start now, or None: wait for what runs, or nothing is left."""
        for plan in self.plans.values():
            job = plan.next_job()
            if job is not None:
                return job
        if not self._has_planned_seeds:
            return None
        if not self._extra_seeds.settled:
            return self._extra_seeds.next_job()
        return self._variance_trials.next_job()

    def on_epoch(self, job: TrainJob, epoch: int, objective: float | None) -> bool:
        """Take note of an epoch; return True if the trial should be given up."""
        return self.plans[job.spec.family].on_epoch(job.spec.trial_key, epoch, objective)

    def on_finished(self, record: RunRecord) -> None:
        """Take note of a finished trial."""
        self.ledger.add(record)
        self.plans[record.family].on_finished(record)

    def winners(self) -> dict[str, Row]:
        """Return each finished family's winner, the floor left out."""
        plans = (plan for plan in self.plans.values() if isinstance(plan, SearchPlan))
        rows = {plan.family: plan.winner() for plan in plans}
        return {family: row for family, row in rows.items() if row is not None}

    def winner(self) -> Row | None:
        """Return the best of the families' winners (never the floor); None if none completed."""
        hashes = {row.config_hash for row in self.winners().values()}
        rows = rank(
            [r for r in self.ledger.records.values() if r.config_hash in hashes],
            objective=self._experiment.objective,
            seeds=self._experiment.replicate.all_seeds,
        )
        return next((row for row in rows if row.seeds), None)

    def _search_plan(self, family: str) -> SearchPlan:
        plan = self.plans[family]
        assert isinstance(plan, SearchPlan)
        return plan


def make_planner(
    experiment: Experiment, data: DataSet, *, branch_seeds: Sequence[int] = ()
) -> Planner:
    """Return the plan of what the sweep's folder does not hold yet.

    Raises InputError if ``branches_from`` lacks a branch that is needed, or one of its seeds in
    ``branch_seeds``.
    """
    folder = experiment.folder
    identity = Identity(data.fingerprint, code_version(), "test" in data.splits)
    ledger = Ledger(folder, read_records(folder), read_learning_rates(folder))
    given = GivenBranches(experiment, data.fingerprint)
    given.require(branch_seeds)
    return Planner(experiment, ledger, identity, given.by_family)
