"""What a range test found: taken from the cache or run, drawn, and noted in the folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sg_ray.config import LrRangeSettings
from sg_ray.files import atomic_path, write_json
from sg_ray.reading import read_model
from sg_ray.records import lr_cache
from sg_ray.records.events import LearningRateFound, RateSource
from sg_ray.records.journal import Journal
from sg_ray.sweep_folder import SweepFolder
from sg_ray.trial.spec import TrialSpec

Found = Mapping[str, Any]
"""``LrRange.as_dict()``: suggestion (or None), reason (why there is none), curves."""


class LearningRate(BaseModel):
    """Content of ``lr_range/MODEL.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    learning_rate: float
    source: RateSource
    reason: str | None
    curve: Sequence[Mapping[str, Any]]
    suggestion: float | None


def cached(settings: LrRangeSettings, spec: TrialSpec) -> Found | None:
    """Return an earlier result of the same configuration, data and code, if recent enough."""
    return lr_cache.read(settings, spec)


def from_result(settings: LrRangeSettings, spec: TrialSpec, result: Mapping[str, Any]) -> Found:
    """Return what a finished job found, kept for later; a failed one found nothing."""
    failure = result.get("failure")
    if failure:
        reason = f"{failure['kind']}: {failure['message']}"
        return {"suggestion": None, "reason": reason, "curves": []}
    found: Found = result["lr_range"]
    lr_cache.write(settings, spec, found)
    return found


def note(
    folder: SweepFolder,
    journal: Journal,
    spec: TrialSpec,
    found: Found,
    *,
    source: RateSource,
    trial_key: str | None = None,
) -> None:
    """Write lr_range/MODEL.json and .png to a sweep's (or training's) folder, and an event."""
    model, suggestion, own = spec.model, found["suggestion"], spec.configuration.values
    noted = LearningRate(
        model=model,
        learning_rate=own["learning_rate"] if suggestion is None else suggestion,
        source="default" if suggestion is None else source,
        reason=found["reason"],
        curve=found["curves"],
        suggestion=suggestion,
    )
    draw(folder.range_test_picture(model), model, found)
    write_json(folder.range_test(model), noted)
    journal.append(
        LearningRateFound(
            model=model,
            learning_rate=noted.learning_rate,
            source=noted.source,
            reason=noted.reason,
            curve=noted.curve,
            trial_key=trial_key,
        )
    )


def read_learning_rates(folder: SweepFolder) -> dict[str, float | None]:
    """Return the suggestions on record, by model. Raises InputError that names a damaged file."""
    return {entry.model: entry.suggestion for entry in _on_record(folder)}


def read_failed_range_tests(folder: SweepFolder) -> dict[str, str]:
    """Return why, by model, those on record found nothing."""
    found = _on_record(folder)
    return {entry.model: entry.reason or "" for entry in found if entry.suggestion is None}


def _on_record(folder: SweepFolder) -> list[LearningRate]:
    remedy = "Restore it from a copy, or delete it: the range test is then made again."
    paths = sorted(folder.range_tests.glob("*.json"))
    return [read_model(path, LearningRate, what="range test", remedy=remedy) for path in paths]


def draw(path: Path, model: str, found: Found) -> None:
    """Draw loss against learning rate, one line a seed, as a PNG. Nothing if there is no curve."""
    from matplotlib.figure import Figure  # takes a second; no pyplot, so no global state

    curves = [curve for curve in found["curves"] if curve["losses"]]
    if not curves:
        return
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="training loss")
    for curve in curves:
        axes.plot(curve["learning_rates"], curve["losses"], label=f"seed {curve['seed']}")
    if found["suggestion"] is not None:
        label = f"suggested {found['suggestion']:.2g}"
        axes.axvline(found["suggestion"], color="black", linestyle="--", label=label)
    axes.set_title(f"{model}: learning-rate range test")
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
