"""The way of a model that is searched: range test, points of the search, seeds of the finalists.

A model that builds on others waits for the configurations of theirs that it is built on.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from sg_ray.config import Model, Rules
from sg_ray.configuration import Configuration
from sg_ray.jobs.job import AnyJob, LrRangeJob, TrainJob
from sg_ray.records.leaderboard import Row, rank
from sg_ray.records.record import RunRecord
from sg_ray.short_names import ShortNames
from sg_ray.sweep.plan.ledger import Identity, Ledger
from sg_ray.sweep.plan.model_plan import ModelPlan
from sg_ray.sweep.plan.search import ModelSearch, Point
from sg_ray.trial.spec import BranchSource, TrialSpec

_LOGGER = logging.getLogger(__name__)


class SearchPlan(ModelPlan):
    """A model that is searched, then replicated."""

    def __init__(
        self,
        model: Model,
        rules: Rules,
        ledger: Ledger,
        identity: Identity,
        branches: Mapping[str, Callable[[int], BranchSource | None]],
    ) -> None:
        """``branches`` maps a family to "the trial of its model with this seed, if known"."""
        super().__init__(model, rules, ledger, identity)
        self._branches = branches
        self._lr_range_started = False
        self._search: ModelSearch | None = None
        self._points: dict[str, Point] = {}
        self._lost: list[Point] | None = None
        self._configurations: dict[int, Configuration] = {}
        known = (record.configuration for record in ledger.of_model(model.name))
        self._names = ShortNames(model.baseline, known)
        self._finalists: list[Configuration] | None = None
        self._branch: Configuration | None = None
        if not (rules.lr_range.enabled and model.is_neural):
            ledger.learning_rates.setdefault(model.name, None)

    @property
    def _first_seed(self) -> int:
        return self._rules.replicate.seeds[0]

    def branch_sources(self, seed: int) -> Mapping[str, BranchSource]:
        """Return the branches' winners with this seed."""
        sources = {name: find(seed) for name, find in self._branches.items()}
        return {name: source for name, source in sources.items() if source is not None}

    def next_job(self) -> AnyJob | None:
        """Return a range test, then the search's points, then the finalists' seeds."""
        if not self.has_branches(self._first_seed):
            return None
        if self.model.name not in self._ledger.learning_rates:
            return self._lr_range_job()
        return self._next_lost_point() or self._next_point() or self._next_replicate()

    def has_branches(self, seed: int) -> bool:
        """Return True if a trial with this seed has all that it builds on."""
        return len(self.branch_sources(seed)) == len(self._branches)

    @property
    def finished(self) -> bool:
        """True once the finalists in the race have every planned seed on record."""
        return self._known_finalists() is not None and self._has_planned_seeds

    @property
    def finalists(self) -> list[Configuration]:
        """The best of the search; empty until it has ended."""
        return self._known_finalists() or []

    def on_epoch(self, trial_key: str, epoch: int, objective: float | None) -> bool:
        """Report to the search; True if successive halving drops the point."""
        point = self._points.get(trial_key)
        if point is None or self._search is None or objective is None:
            return False
        return self._search.report(point.number, epoch, objective)

    def on_finished(self, record: RunRecord) -> None:
        """Tell the search."""
        super().on_finished(record)
        point = self._points.pop(record.trial_key, None)
        if point is None or self._search is None:
            return
        if record.failure is None or not record.failure.is_infrastructure:
            self._tell(point, record)  # else it stays open, for the start that tries it again

    def winner(self) -> Row | None:
        """Return the best finalist over all its seeds, once the planned ones are on record."""
        return self._best_over(self._rules.replicate.all_seeds)

    @property
    def branch(self) -> Configuration | None:
        """The configuration that others build on: the winner by the seeds planned at first.

        More seeds or search trials may change who wins. Were others built on the new winner, all
        of theirs would begin anew: they keep to what they have been built on.
        """
        if self._branch is None:
            best = self._branch_on_record or self._best_over(self._rules.replicate.seeds)
            self._branch = None if best is None else best.configuration
        return self._branch

    @property
    def _branch_on_record(self) -> RunRecord | None:
        """A trial of this model on which another one has been built."""
        records = self._ledger.records
        keys = self._ledger.built_on(self.model.family)
        own = (records[key] for key in keys if key in records)
        return next((record for record in own if record.model == self.model.name), None)

    @property
    def _replicated(self) -> list[Configuration]:
        """Those in the race, and what others build on."""
        in_race, built_on = super()._replicated, self._branch_on_record
        if built_on is None or built_on.configuration in in_race:
            return in_race
        return [*in_race, built_on.configuration]

    def branch_with_seed(self, seed: int) -> BranchSource | None:
        """Return the ``branch``'s trial with this seed, for others to build on."""
        branch = self.branch
        if branch is None:
            return None
        record = self._ledger.records.get(self.spec(branch, seed).trial_key)
        if record is None:
            return None
        # One that failed kept no weights: what builds on it fails too, under its own name.
        return BranchSource(
            trial_key=record.trial_key,
            configuration=record.configuration,
            config_hash=record.config_hash,
            folder=self._ledger.folder.trial(record.trial_key),
            weights=record.weights,
        )

    def _best_over(self, seeds: Sequence[int]) -> Row | None:
        if not self.finished:
            return None
        records = [r for of_seed in self.trials(seeds).values() for r in of_seed.values()]
        rows = rank(
            records,
            objective=self._rules.objective,
            seeds=seeds,
            race_alpha=self._rules.replicate.race_alpha,
        )
        return next((row for row in rows if row.seeds), None)

    def _lr_range_job(self) -> LrRangeJob | None:
        if self._lr_range_started:
            return None
        self._lr_range_started = True
        settings = self._rules.lr_range
        return LrRangeJob(
            spec=self.spec(self.model.baseline, self._first_seed),
            resources=self.model.resources,
            num_steps=settings.num_steps,
            num_seeds=settings.num_seeds,
            max_samples=settings.max_samples,
        )

    def _open_search(self) -> ModelSearch:
        if self._search is None:
            journal = self._ledger.folder.search(self.model.name)
            if not journal.exists() and any(
                record.stage == "search" for record in self._ledger.of_model(self.model.name)
            ):
                _LOGGER.warning(
                    "%s is missing: the search asks for its points anew; those on record are not "
                    "trained again",
                    journal,
                )
            self._search = ModelSearch(
                journal,
                self.model,
                self._rules.search,
                objective=self._rules.objective,
                learning_rate=self._ledger.learning_rates[self.model.name],
            )
        return self._search

    @property
    def _lost_points(self) -> list[Point]:
        """Points of the search whose record was deleted, as is advised for a damaged one.

        They are as old as this start: what ends later is on record before the search is told.
        """
        records = self._ledger.records
        if self._lost is None:
            points = self._open_search().finished_points()
            self._lost = [point for key, point in points.items() if key not in records]
        self._lost = [p for p in self._lost if self._search_spec(p).trial_key not in records]
        return self._lost

    def _next_lost_point(self) -> TrainJob | None:
        for lost in self._lost_points:
            spec = self._search_spec(lost)
            job = self.job(spec, "search")
            if job is not None:
                self._points[spec.trial_key] = lost
                return job
        return None

    def _search_spec(self, point: Point) -> TrialSpec:
        return self.spec(self._configuration(point), self._first_seed)

    def _configuration(self, point: Point) -> Configuration:
        """Return a point's configuration, made once: plans are asked many times a second."""
        if point.number not in self._configurations:
            configuration = self.model.configured(point.values)
            self._configurations[point.number] = self._names.named(configuration)
        return self._configurations[point.number]

    def _next_point(self) -> TrainJob | None:
        while (point := self._open_search().ask()) is not None:
            spec = self._search_spec(point)
            job = self.job(spec, "search")
            if job is not None:
                self._open_search().assign(point.number, spec.trial_key)
                self._points[spec.trial_key] = point
                return job
            self._take_over(point, spec.trial_key)
        return None

    def _take_over(self, point: Point, trial_key: str) -> None:
        """Tell the search what is known of a point tried before; it is not trained again."""
        self._open_search().mark_if_repeated(point.number, trial_key)
        record = self._ledger.records.get(trial_key)
        if record is not None:
            self._tell(point, record)
        else:
            self._open_search().tell(point.number, "failed", None)

    def _tell(self, point: Point, record: RunRecord) -> None:
        value = record.metrics.get(self._rules.objective)
        self._open_search().tell(point.number, record.status, value)

    @property
    def _search_is_over(self) -> bool:
        ready = (
            self.has_branches(self._first_seed) and self.model.name in self._ledger.learning_rates
        )
        if not ready or self._points or not self._open_search().exhausted:
            return False
        return not self._lost_points

    def _known_finalists(self) -> list[Configuration] | None:
        """Return the best ``top_k`` configurations of the search, once it has ended.

        Those that have raced before stay, although a longer search may have found better ones.
        """
        if self._finalists is None and self._search_is_over:
            own = [r for r in self._ledger.of_model(self.model.name) if self._is_planned(r)]
            searched = [r for r in own if r.stage == "search"]
            rows = rank(searched, objective=self._rules.objective, seeds=(self._first_seed,))
            found = [row.configuration for row in rows if row.seeds]
            raced = [r.configuration for r in own if r.stage == "replicate"]
            self._finalists = list(dict.fromkeys([*found[: self._rules.replicate.top_k], *raced]))
        return self._finalists

    def _is_planned(self, record: RunRecord) -> bool:
        """Return False for a trial with a stream of its own, or built on other branches."""
        return self.spec(record.configuration, record.seed).trial_key == record.trial_key

    def _next_replicate(self) -> TrainJob | None:
        return None if self._known_finalists() is None else self._next_planned_seed("replicate")
