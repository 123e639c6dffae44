"""What is left to do: one place that decides it, from the records and the search journals alone.

A first start is the same code with nothing on record. Models go their ways independently, see
``model_plan`` and ``search_plan``. What the planned seeds leave undecided gets more of them in
the end, see ``extra_seeds``; then come the trials that split the winner's variance, see
``variance_trials``, and last those that are trained again for their weights, see ``weights_again``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from sg_ray.code_version import code_version
from sg_ray.config import Model, Rules
from sg_ray.data.samples import DataSet
from sg_ray.jobs.job import AnyJob, TrainJob
from sg_ray.prepare.branches import GivenBranches
from sg_ray.records.code_versions import CodeVersions, trial_code_version
from sg_ray.records.leaderboard import Row, leaderboard, rank
from sg_ray.records.learning_rates import read_learning_rates
from sg_ray.records.record import RunRecord, read_records
from sg_ray.records.weights import trials_let_go
from sg_ray.sweep.plan.extra_seeds import ExtraSeeds
from sg_ray.sweep.plan.ledger import Identity, Ledger
from sg_ray.sweep.plan.model_plan import Fits, FloorPlan, ModelPlan, all_fit
from sg_ray.sweep.plan.search_plan import SearchPlan
from sg_ray.sweep.plan.variance_trials import VarianceTrials
from sg_ray.sweep.plan.weights_again import WeightsAgain
from sg_ray.sweep_folder import SweepFolder
from sg_ray.trial.spec import BranchSource


class Planner:
    """All models of a sweep; asked for the next job whenever there is room for one."""

    def __init__(
        self,
        models: Sequence[Model],
        rules: Rules,
        ledger: Ledger,
        identity: Identity,
        given_branches: Mapping[str, Callable[[int], BranchSource | None]],
    ) -> None:
        """``models``: those that others build on first. ``given_branches``, by model, are
        trained outside this sweep.
        """
        self.ledger = ledger
        self.has_test_split = identity.has_test_split
        self.rules = rules
        self.plans: dict[str, ModelPlan] = {}
        for model in models:
            if model.is_floor:
                self.plans[model.name] = FloorPlan(model, rules, ledger, identity)
                continue
            branches = {
                family: given_branches[name]
                if name in given_branches
                else self._search_plan(name).branch_with_seed
                for family, name in model.branches.items()
            }
            self.plans[model.name] = SearchPlan(model, rules, ledger, identity, branches)
        self._extra_seeds = ExtraSeeds(self.plans, rules.replicate, rules.objective)
        self._variance_trials = VarianceTrials(self.plans, rules.replicate, self.winner)
        self._weights_again = WeightsAgain(self.plans, ledger, self.winners)

    @property
    def finished(self) -> bool:
        """True once no model has anything left to do."""
        has_all = self._has_all_seeds and self._variance_trials.settled
        return has_all and self._weights_again.settled

    @property
    def _has_all_seeds(self) -> bool:
        return self._has_planned_seeds and self._extra_seeds.settled

    @property
    def _has_planned_seeds(self) -> bool:
        """True once every model that can be finished is."""
        return all(plan.finished or self._is_blocked(name) for name, plan in self.plans.items())

    def _is_blocked(self, model: str) -> bool:
        """Return True if what a model builds on has ended without anything to build on."""
        names = [name for name in self.plans[model].model.branches.values() if name in self.plans]
        return any(
            self._is_blocked(name)
            or (self.plans[name].finished and self.plans[name].branch is None)
            for name in names
        )

    def next_job(self, fits: Fits = all_fit) -> AnyJob | None:
        """Return a job that can start now, or None: wait for what runs, or nothing is left.

        Models of whose trials none ``fits`` are passed over: each goes its way independently.
        """
        for name, plan in self.plans.items():
            if plan.finished or self._is_blocked(name) or not fits(plan.model.resources):
                continue
            job = plan.next_job()
            if job is not None:
                return job
        if not self._has_planned_seeds:
            return self._extra_seeds.next_job(fits, has_planned_seeds=False)
        if not self._extra_seeds.settled:
            return self._extra_seeds.next_job(fits)
        if not self._variance_trials.settled:
            return self._variance_trials.next_job(fits)
        return self._weights_again.next_job(fits)

    def open_seeds(self, job: TrainJob) -> Iterator[TrainJob]:
        """Yield jobs that differ from ``job`` in their seed alone, and could begin as well.

        Points of a search differ in more, and an extra seed waits for the decision on the last.
        Whoever runs one has to ``claim`` it.
        """
        match job.stage:
            case "replicate" if job.spec.seed in self.rules.replicate.seeds:
                yield from self.plans[job.spec.model].open_seeds(job)
            case "variance":
                yield from self._variance_trials.open_trials()

    def claim(self, job: TrainJob) -> None:
        """Take note that a job of ``open_seeds`` is run."""
        self.plans[job.spec.model].claim(job)

    def on_epoch(self, job: TrainJob, epoch: int, objective: float | None) -> bool:
        """Take note of an epoch; return True if the trial should be given up."""
        return self.plans[job.spec.model].on_epoch(job.spec.trial_key, epoch, objective)

    def on_finished(self, record: RunRecord) -> None:
        """Take note of a finished trial."""
        self.ledger.add(record)
        self.plans[record.model].on_finished(record)

    def winners(self) -> dict[str, Row]:
        """Return each finished model's winner, the floor left out."""
        plans = (plan for plan in self.plans.values() if isinstance(plan, SearchPlan))
        rows = {plan.model.name: plan.winner() for plan in plans}
        return {model: row for model, row in rows.items() if row is not None}

    def winner(self) -> Row | None:
        """Return the best of the models' winners (never the floor); None if none completed."""
        hashes = {row.config_hash for row in self.winners().values()}
        rows = rank(
            [r for r in self.ledger.records.values() if r.config_hash in hashes],
            objective=self.rules.objective,
            seeds=self.rules.replicate.all_seeds,
        )
        return next((row for row in rows if row.seeds), None)

    @property
    def winner_is_below_floor(self) -> bool:
        """True if the leaderboard has the floor above the ``winner``."""
        winner = self.winner()
        if winner is None:
            return False
        rows = leaderboard(self.ledger.folder, self.ledger.records, self.rules)
        first = next(row for row in rows if row.is_floor or row.config_hash == winner.config_hash)
        return first.is_floor

    def _search_plan(self, model: str) -> SearchPlan:
        plan = self.plans[model]
        assert isinstance(plan, SearchPlan)
        return plan


def make_planner(
    models: Sequence[Model],
    rules: Rules,
    folder: SweepFolder,
    data: DataSet,
    given_branches: GivenBranches,
) -> Planner:
    """Return the plan of what the sweep's folder does not hold yet."""
    families = [model.family for model in models]
    counted = CodeVersions.of(folder).by_family(families, rules.own_metrics)
    of_now = {family: trial_code_version(family, rules.own_metrics) for family in families}
    identity = Identity(
        data.fingerprint,
        code_version(),
        "test" in data.splits,
        counted,
        {family: version for family, version in of_now.items() if version != counted[family]},
    )
    ledger = Ledger(
        folder, read_records(folder), read_learning_rates(folder), trials_let_go(folder)
    )
    return Planner(models, rules, ledger, identity, given_branches.by_model)
