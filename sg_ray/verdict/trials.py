"""A sweep's folder as a verdict sees it: configurations with their seeds in order."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from sg_ray.config import Experiment, Resources, Rules, load_experiment
from sg_ray.config.own_code import MetricSettings
from sg_ray.records.leaderboard import Row, is_number, rank
from sg_ray.records.record import RunRecord, read_records
from sg_ray.statistics.scores import DEFAULT_THRESHOLD
from sg_ray.sweep_folder import VALID_PREDICTIONS, SweepFolder
from sg_ray.training.metrics import direction
from sg_ray.training.predictions import Predictions, read_predictions


@dataclass(frozen=True)
class Trial:
    """One seed of a configuration.

    ``score`` is its objective, None if it failed. ``threshold`` is what it decides at, chosen on
    validation. ``hours`` of training are multiplied by its GPUs where it used any.
    """

    key: str
    seed: int
    score: float | None
    threshold: float = DEFAULT_THRESHOLD
    hours: float = 0.0
    uses_gpu: bool = False
    predictions: Predictions | None = None


@dataclass(frozen=True)
class Contender:
    """A row of the leaderboard with its trials, in the order of the seeds.

    ``chosen_on`` is the seed of the search, on whose strength it was chosen; None for the floor,
    which nobody chose.
    """

    row: Row
    trials: Sequence[Trial]
    chosen_on: int | None

    @property
    def model(self) -> str:
        """The model that it belongs to."""
        return self.row.model

    @property
    def fresh(self) -> list[Trial]:
        """Trials with seeds that had no part in choosing it, failed ones included."""
        return [trial for trial in self.trials if trial.seed != self.chosen_on]

    @property
    def judged(self) -> list[Trial]:
        """The trials that its mean is over: the fresh ones with a score or, without any, all."""
        return _scored(self.fresh) or _scored(self.trials)

    @property
    def is_in_race(self) -> bool:
        """Whether the race has not given it up."""
        return self.row.dropped is None

    @property
    def trial_hours(self) -> float:
        """Mean hours of one trial: of those with a score or, without any, of all."""
        hours = [trial.hours for trial in _scored(self.trials) or self.trials]
        return sum(hours) / len(hours)

    @property
    def uses_gpu(self) -> bool:
        """Whether its hours are those of GPUs."""
        return any(trial.uses_gpu for trial in self.trials)

    def trial(self, seed: int) -> Trial:
        """Return the trial with a seed that it has."""
        return next(trial for trial in self.trials if trial.seed == seed)


@dataclass(frozen=True)
class Results:
    """What a sweep has come to so far.

    ``seeds`` are in the order in which they count: the planned ones, then those that were added.
    ``contenders`` are the rows of the leaderboard, best first. ``records`` leave out the trials
    that vary one stream of random numbers only; those are ``variants``. Both are oldest first.
    ``place`` is how a command line names the sweep; ``takes`` is what one trial of a model takes.
    ``metric_code`` is where the objective's code was, if it is one of the user's own.
    """

    sweep: str
    place: str
    rules: Rules
    seeds: Sequence[int]
    contenders: Sequence[Contender]
    records: Sequence[RunRecord] = ()
    variants: Sequence[RunRecord] = ()
    takes: Mapping[str, Resources] = field(default_factory=dict)
    metric_code: str = ""

    @property
    def objective(self) -> str:
        """The name of what the sweep ranks by."""
        return self.rules.objective

    @property
    def lower_is_better(self) -> bool:
        """Whether a low objective is good."""
        return direction(self.objective) == "minimise"

    @property
    def search_seed(self) -> int:
        """The seed that every trial of the search has."""
        return self.rules.replicate.seeds[0]

    @property
    def winner(self) -> Contender | None:
        """The first of the leaderboard with a mean that is neither dropped nor the floor."""
        models = (c for c in self.contenders if c.is_in_race and not c.row.is_floor)
        return next((contender for contender in models if contender.judged), None)

    @property
    def models(self) -> dict[str, list[Contender]]:
        """The finalists of each model, best first: those with fresh seeds, else the best one."""
        by_model: dict[str, list[Contender]] = defaultdict(list)
        for contender in self.contenders:
            by_model[contender.model].append(contender)
        return {
            model: [one for one in members if one.fresh] or members[:1]
            for model, members in by_model.items()
        }

    def common_seeds(self, a: Contender, b: Contender) -> tuple[int, ...]:
        """Return the fresh seeds, in order, up to the first that one of the two lacks.

        A seed that came early waits for those before it, so that what counts depends on neither
        the order of arrival nor on how often one looked.
        """
        have = {trial.seed for trial in a.fresh} & {trial.seed for trial in b.fresh}
        wanted = [seed for seed in self.seeds if seed not in (a.chosen_on, b.chosen_on)]
        return tuple(takewhile(lambda seed: seed in have, wanted))


def read_results(folder: SweepFolder) -> Results:
    """Read what a sweep's folder holds. The sweep need not be finished.

    Raises InputError that names the file if sweep.yaml, a record or a file of predictions is
    missing or not valid.
    """
    experiment = load_experiment(folder.settings, loads_code=False)
    everything = read_records(folder).values()
    records = [record for record in everything if record.counts_as_seed]
    models = dict.fromkeys(record.model for record in records)
    rules, takes = experiment.rules, {name: experiment.resources_of(name) for name in models}
    seeds = rules.replicate.all_seeds
    rows = rank(
        records,
        objective=rules.objective,
        seeds=seeds,
        race_alpha=rules.replicate.race_alpha,
    )
    return Results(
        sweep=experiment.name,
        place=_place_of(experiment.name, experiment.output_dir),
        rules=rules,
        seeds=seeds,
        contenders=[_contender(row, rules, records, folder, takes) for row in rows],
        records=records,
        variants=[record for record in everything if not record.counts_as_seed],
        takes=takes,
        metric_code=_metric_code(experiment.objective, experiment.plugins.metrics),
    )


def _metric_code(objective: str, own_metrics: Mapping[str, MetricSettings]) -> str:
    own = own_metrics.get(objective.removeprefix("val_"))
    return "" if own is None else own.code


def _place_of(name: str, output_dir: Path) -> str:
    """Return how a command line names the sweep: where it is usual by name, else by its folder."""
    is_usual = output_dir == Experiment.model_fields["output_dir"].default
    return name if is_usual else str(output_dir / name)


def cost_hours(takes: Mapping[str, Resources], record: RunRecord) -> float:
    """Return the hours of a trial's training, times its GPUs where it used any."""
    hours = record.train_time_s / 3600
    if not used_gpu(record):
        return hours
    own = takes[record.model]
    return hours * (own.gpus or 1) * own.num_workers


def used_gpu(record: RunRecord) -> bool:
    """Whether a trial ran on a GPU."""
    return bool(record.environment.get("device") == "cuda")


def threshold_of(record: RunRecord) -> float:
    """Return what a trial decides at: the threshold chosen on validation, 0.5 without one."""
    threshold = record.metrics.get("val_threshold")
    return threshold if is_number(threshold) else DEFAULT_THRESHOLD


def score_of(record: RunRecord, objective: str) -> float | None:
    """Return a trial's objective; None if it did not complete with one."""
    value = record.metrics.get(objective)
    return value if record.status == "completed" and is_number(value) else None


def _contender(
    row: Row,
    rules: Rules,
    records: Sequence[RunRecord],
    folder: SweepFolder,
    takes: Mapping[str, Resources],
) -> Contender:
    seeds = rules.replicate.all_seeds
    wanted = {*row.seeds, *row.failed_seeds}
    newest = {
        record.seed: record
        for record in records
        if (record.model, record.config_hash) == (row.model, row.config_hash)
        and record.status != "pruned"
        and record.seed in wanted
    }
    in_order = sorted(newest, key=lambda seed: (seed not in seeds, _place(seed, seeds), seed))
    return Contender(
        row=row,
        trials=[_trial(newest[seed], rules.objective, folder, takes) for seed in in_order],
        chosen_on=None if row.is_floor else seeds[0],
    )


def _trial(
    record: RunRecord, objective: str, folder: SweepFolder, takes: Mapping[str, Resources]
) -> Trial:
    score = score_of(record, objective)
    path = folder.trial(record.trial_key) / VALID_PREDICTIONS
    return Trial(
        key=record.trial_key,
        seed=record.seed,
        score=score,
        threshold=threshold_of(record),
        hours=cost_hours(takes, record),
        uses_gpu=used_gpu(record),
        predictions=None if score is None else read_predictions(path),
    )


def _place(seed: int, seeds: Sequence[int]) -> int:
    return seeds.index(seed) if seed in seeds else len(seeds)


def _scored(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.score is not None]
