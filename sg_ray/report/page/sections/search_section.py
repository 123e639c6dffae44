"""The search: what was tried in which order, what it led to, and which settings mattered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sg_ray.records.leaderboard import is_number
from sg_ray.report.page.charts.bars import Part, stacked_bar
from sg_ray.report.page.charts.line_chart import Axis, Point, Series, line_chart
from sg_ray.report.page.charts.parallel import Coordinate, Thread, parallel_coordinates
from sg_ray.report.page.charts.scales import LEAST_SPAN
from sg_ray.report.page.content import Sweep
from sg_ray.report.page.searches import LEAST_TRIALS, ModelSearchView, importances, read_search
from sg_ray.report.page.sections.section import Figure, Legend, Section
from sg_ray.training.metrics import is_better
from sg_ray.verdict.model import VarianceShares


@dataclass(frozen=True)
class Bar:
    """A named share with its bar."""

    name: str
    share: float
    drawing: Markup


@dataclass(frozen=True)
class Importance:
    """How much each hyperparameter of a model mattered, or ``reason`` why that is not known."""

    model: str
    style: str
    bars: Sequence[Bar]
    num_trials: int
    reason: str = ""


@dataclass(frozen=True)
class Noise:
    """Where the variance of one configuration's score comes from."""

    shares: VarianceShares
    drawing: Markup
    legend: Sequence[Legend]


@dataclass(frozen=True)
class SearchContent:
    """Everything about the searches, model by model."""

    histories: Sequence[Figure]
    parallels: Sequence[Figure]
    importances: Sequence[Importance]
    noises: Sequence[Noise]


def section(sweep: Sweep) -> Section | None:
    """Return the section; None if no model has a completed search trial."""
    views = [view for model in sweep.models if (view := read_search(sweep, model))]
    views = [view for view in views if view.completed]
    variance = sweep.verdict.variance if sweep.verdict else ()
    if not views and not variance:
        return None
    titles = {record.config_hash: record.title for record in sweep.records}
    content = SearchContent(
        histories=[_history(sweep, view) for view in views],
        parallels=[f for view in views if (f := _parallel(sweep, view))],
        importances=[_importance(sweep, view) for view in views],
        noises=[
            _noise(shares, titles.get(shares.config_hash, shares.model)) for shares in variance
        ],
    )
    return Section("search", "Search", "search.html.jinja", content)


def _history(sweep: Sweep, view: ModelSearchView) -> Figure:
    done: list[Point] = [(t.number, t.score) for t in view.trials if t.score is not None]
    cut = [
        (float(trial.number), value)
        for trial in view.trials
        if trial.score is None and is_number(value := trial.record.metrics.get(view.objective))
    ]
    series = [
        Series("best so far", _best_so_far(done, view.objective), "line best"),
        Series("completed", done, "done", "dots"),
        Series("pruned or failed", cut, "hollow", "dots"),
    ]
    best = _best_so_far(done, view.objective)[-1][1]
    drawing = line_chart(
        series,
        label=f"{view.model}: {view.objective} of {len(view.trials)} trials, best {best:.4f}",
        x=Axis("trial, in the order of suggestion", "count"),
        y=Axis(view.objective, metric=view.objective),
    )
    numbering = "" if view.is_numbered_by_study else "; numbered by start, for lack of a journal"
    caption = f"{len(view.trials)} trials; hollow: pruned or failed; line: best so far{numbering}"
    return Figure(view.model, caption, drawing, sweep.model_styles.get(view.model, ""))


def _best_so_far(points: Sequence[Point], objective: str) -> list[Point]:
    best: float | None = None
    line: list[Point] = []
    for x, y in points:
        if is_better(objective, y, best):
            line += [] if best is None else [(x, best)]
            best = y
            line.append((x, y))
    return [*line, (points[-1][0], best)] if best is not None else line


def _parallel(sweep: Sweep, view: ModelSearchView) -> Figure | None:
    if not view.dimensions or len(view.completed) < 2:
        return None
    scores = [trial.score for trial in view.completed if trial.score is not None]
    coordinates = [*_coordinates(view), Coordinate(view.objective, scores, is_metric=True)]
    drawing = parallel_coordinates(
        coordinates,
        list(_threads(view, scores)),
        label=f"{view.model}: hyperparameters of {len(view.trials)} search trials. {_best(view)}",
    )
    caption = _best(view)
    return Figure(
        view.model, caption, drawing, sweep.model_styles.get(view.model, ""), is_wide=True
    )


def _coordinates(view: ModelSearchView) -> Iterator[Coordinate]:
    for one in view.dimensions:
        choices = list(dict.fromkeys(one.values)) if one.is_choice else None
        ordered = sorted(choices, key=str) if choices is not None else None
        yield Coordinate(one.name, one.values, one.is_log, ordered)


def _threads(view: ModelSearchView, scores: Sequence[float]) -> Iterator[Thread]:
    low, high = min(scores), max(scores)
    span = max(high - low, LEAST_SPAN)
    names = [one.name for one in view.dimensions]
    for trial in view.trials:
        values = {name: trial.record.configuration.values[name] for name in names}
        if trial.score is None:
            yield Thread(f"trial {trial.number}: {trial.record.status}", values, None)
            continue
        behind = high - trial.score if view.maximises else trial.score - low
        thread = {**values, view.objective: trial.score}
        yield Thread(f"trial {trial.number}: {trial.score:.4f}", thread, 1.0 - behind / span)


def _best(view: ModelSearchView) -> str:
    best = view.completed[0]
    for trial in view.completed[1:]:
        if trial.score is not None and is_better(view.objective, trial.score, best.score):
            best = trial
    shown = ", ".join(
        f"{one.name} {_short(best.record.configuration.values[one.name])}"
        for one in view.dimensions
    )
    return f"Best: trial {best.number} with {shown}."


def _importance(sweep: Sweep, view: ModelSearchView) -> Importance:
    style = sweep.model_styles.get(view.model, "")
    num_trials = len(view.completed)
    reason = _why_unknown(view)
    shares = {} if reason else importances(view)
    if not reason and not shares:
        reason = "all trials scored the same"
    bars = [
        Bar(name, share, stacked_bar([Part(name, share, "part")], 1.0, label=f"{share:.0%}"))
        for name, share in shares.items()
    ]
    return Importance(view.model, style, bars, num_trials, reason)


def _why_unknown(view: ModelSearchView) -> str:
    if not view.dimensions:
        return "nothing was varied"
    if len(view.dimensions) == 1:
        return f"only {view.dimensions[0].name} was varied"
    if len(view.completed) < LEAST_TRIALS:
        trials = "trial is" if len(view.completed) == 1 else "trials are"
        return f"{len(view.completed)} completed {trials} too few; it takes {LEAST_TRIALS}"
    return ""


def _noise(shares: VarianceShares, title: str) -> Noise:
    if shares.init_share is not None and shares.data_order_share is not None:
        seed = [
            ("initialisation", shares.init_share, "part"),
            ("data order", shares.data_order_share, "part second"),
        ]
    else:
        seed = [("seed", shares.seed_share, "part")]
    named = [*seed, ("sample of functions", shares.sampling_share, "part third")]
    parts = [Part(f"{name}: {share:.0%}", share, style) for name, share, style in named]
    label = f"{title}: " + ", ".join(part.name for part in parts)
    legend = [Legend(part.name, part.style) for part in parts]
    return Noise(shares, stacked_bar(parts, 1.0, label=label), legend)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
