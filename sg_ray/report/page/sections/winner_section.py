"""The winner on the test split, and how each model's winner decides on validation."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sg_ray.records.leaderboard import Row
from sg_ray.report.page.charts.calibration_curve import reliability_diagram
from sg_ray.report.page.content import Sweep
from sg_ray.report.page.sections.section import Section
from sg_ray.statistics.own_metrics import OWN_METRICS
from sg_ray.verdict.model import Standing, TestScore

_SHOWN = ("roc_auc", "pr_auc", "f1", "accuracy", "mcc", "precision", "recall", "loss")


@dataclass(frozen=True)
class MetricLine:
    """One metric of the winner on both splits; ``gap`` is validation minus test."""

    metric: str
    validation: float | None
    test: float | None

    @property
    def gap(self) -> float | None:
        """Validation minus test, as numbers."""
        if self.validation is None or self.test is None:
            return None
        return self.validation - self.test


@dataclass(frozen=True)
class WinnerContent:
    """The winner's row with its scores; ``score`` is what the verdict says about the test.

    ``num_earlier`` is how often the test split was read before: the sweep was extended since.
    """

    row: Row
    score: TestScore | None
    metrics: Sequence[MetricLine]
    num_earlier: int
    is_below_floor: bool


@dataclass(frozen=True)
class Diagnosis:
    """How one configuration decides on validation; ``cells`` by truth, then by decision."""

    standing: Standing
    style: str
    reliability: Markup | None


def on_test(sweep: Sweep) -> Section | None:
    """Return the winner's scores on the test split; None if they were not read."""
    row = next((row for row in sweep.rows if row.test), None)
    if row is None:
        return None
    score = sweep.verdict.test if sweep.verdict else None
    metrics = [
        MetricLine(name, row.means.get(f"val_{name}"), row.test.get(f"test_{name}"))
        for name in (*_SHOWN, *OWN_METRICS)
        if f"test_{name}" in row.test
    ]
    floor = sweep.floor
    is_below_floor = floor is not None and floor.rank < row.rank
    num_earlier = len(sweep.folder.tests_set_aside)
    content = WinnerContent(row, score, metrics, num_earlier, is_below_floor)
    return Section("test", "Winner on the test split", "winner.html.jinja", content)


def diagnoses(sweep: Sweep) -> Section | None:
    """Return confusion and calibration of each model's best; None without predictions."""
    found = [
        _diagnosis(sweep, standing)
        for standing in _best_of_models(sweep)
        if standing.confusion is not None or standing.reliability
    ]
    if not found:
        return None
    return Section("decisions", "Decisions and calibration", "decisions.html.jinja", found)


def _diagnosis(sweep: Sweep, standing: Standing) -> Diagnosis:
    drawing = None
    if standing.reliability:
        error = standing.calibration_error
        spoken = "" if error is None else f"; expected calibration error {error:.4f}"
        drawing = reliability_diagram(
            standing.reliability,
            label=f"{standing.configuration.title(standing.config_hash)}: predicted probability "
            "against the share of vulnerable functions, in "
            f"{len(standing.reliability)} bins{spoken}",
        )
    return Diagnosis(standing, sweep.model_styles.get(standing.model, ""), drawing)


def _best_of_models(sweep: Sweep) -> list[Standing]:
    best: dict[str, Standing] = {}
    for row in sweep.rows:
        standing = sweep.standing(row.model, row.config_hash)
        if standing is not None:
            best.setdefault(row.model, standing)
    return list(best.values())
