"""What the sweep cost: hours by model and stage, and when what ran."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sg_ray.records.record import RunRecord
from sg_ray.report.page.charts.bars import Part, stacked_bar
from sg_ray.report.page.charts.scales import Scale
from sg_ray.report.page.charts.timeline import Span, time_scale, timeline_axis, timeline_row
from sg_ray.report.page.content import Sweep
from sg_ray.report.page.sections.section import Legend, Section

STAGES = ("floor", "search", "replicate", "variance", "train")
_UNITS = (("h", 3600.0, 7200.0), ("min", 60.0, 120.0), ("s", 1.0, 0.0))
"""Unit, its seconds, and the least span that it suits."""


@dataclass(frozen=True)
class _Clock:
    """The axis of the sweep's time, from the start of its first trial."""

    first_ms: int
    unit: str
    unit_s: float
    positions: Scale

    def span(self, record: RunRecord) -> Span:
        """Return when a trial ran."""
        start, end = (
            (at_ms - self.first_ms) / 1000 / self.unit_s
            for at_ms in (record.started_at_ms, record.finished_at_ms)
        )
        name = f"{record.stage} {record.title} seed {record.seed_text}, {record.status}"
        return Span(name, start, end, _style(record.stage))


@dataclass(frozen=True)
class ModelCost:
    """One model's training time by stage; ``gpu_s`` is that time multiplied by its GPUs."""

    model: str
    by_stage_s: Mapping[str, float]
    num_trials: int
    gpu_s: float
    bar: Markup
    timeline: Markup

    @property
    def total_s(self) -> float:
        """Seconds over all stages."""
        return sum(self.by_stage_s.values())


@dataclass(frozen=True)
class CostContent:
    """Costs by model; ``wall_s`` from the first event to the last, pauses included."""

    models: Sequence[ModelCost]
    stages: Sequence[str]
    wall_s: float | None
    axis: Markup
    legend: Sequence[Legend]

    @property
    def gpu_s(self) -> float:
        """Seconds over all models, multiplied by their GPUs."""
        return sum(one.gpu_s for one in self.models)

    @property
    def total_s(self) -> float:
        """Seconds of training over all models."""
        return sum(one.total_s for one in self.models)

    def stage_s(self, stage: str) -> float:
        """Seconds of training in one stage."""
        return sum(one.by_stage_s.get(stage, 0.0) for one in self.models)


def section(sweep: Sweep) -> Section | None:
    """Return the section; None before a trial has ended."""
    if not sweep.records:
        return None
    stages = [stage for stage in STAGES if any(r.stage == stage for r in sweep.records)]
    clock = _clock(sweep.records)
    content = CostContent(
        models=_model_costs(sweep, clock),
        stages=stages,
        wall_s=_wall_s(sweep),
        axis=timeline_axis(clock.positions, clock.unit),
        legend=[Legend(stage, _style(stage)) for stage in stages],
    )
    return Section("cost", "Cost", "cost.html.jinja", content)


def num_gpus(sweep: Sweep, record: RunRecord) -> float:
    """Return how many GPUs a trial took, by sweep.yaml; 0 if it ran on a CPU."""
    if record.environment.get("device") != "cuda":
        return 0.0
    takes = sweep.model_settings(record.model).get("resources")
    takes = takes or sweep.settings.get("resources") or {}
    return float(takes.get("gpus") or 1) * int(takes.get("num_workers") or 1)


def _model_costs(sweep: Sweep, clock: _Clock) -> list[ModelCost]:
    by_model = {
        model: [record for record in sweep.records if record.model == model]
        for model in sweep.models
    }
    most_s = max(sum(r.train_time_s for r in records) for records in by_model.values())
    return [
        ModelCost(
            model=model,
            by_stage_s=_by_stage(records),
            num_trials=len(records),
            gpu_s=sum(r.train_time_s * num_gpus(sweep, r) for r in records),
            bar=_bar(model, _by_stage(records), most_s),
            timeline=timeline_row(
                [clock.span(record) for record in records],
                clock.positions,
                label=f"{model}: when its {len(records)} trials ran",
            ),
        )
        for model, records in by_model.items()
    ]


def _by_stage(records: Sequence[RunRecord]) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)
    for record in records:
        seconds[record.stage] += record.train_time_s
    return dict(seconds)


def _bar(model: str, by_stage_s: Mapping[str, float], most_s: float) -> Markup:
    parts = [
        Part(f"{stage}: {by_stage_s[stage]:.0f} s", by_stage_s[stage], _style(stage))
        for stage in STAGES
        if stage in by_stage_s
    ]
    label = f"{model}: " + ", ".join(part.name for part in parts)
    return stacked_bar(parts, most_s, label=label)


def _clock(records: Sequence[RunRecord]) -> _Clock:
    first_ms = min(record.started_at_ms for record in records)
    span_s = max(1e-3, max(record.finished_at_ms for record in records) / 1000 - first_ms / 1000)
    unit, unit_s = next((name, seconds) for name, seconds, least in _UNITS if span_s >= least)
    return _Clock(first_ms, unit, unit_s, time_scale(span_s / unit_s))


def _style(stage: str) -> str:
    return f"part stage-{stage}"


def _wall_s(sweep: Sweep) -> float | None:
    if len(sweep.events) < 2:
        return None
    return (sweep.events[-1].at_ms - sweep.events[0].at_ms) / 1000
