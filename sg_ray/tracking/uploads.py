"""Which files of a sweep's folder each event of its journal has as artifacts in MLflow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_ray.records.journal import Event
from sg_ray.records.learning_rates import picture_path
from sg_ray.records.record import record_path, trial_dir
from sg_ray.training.checkpoint import METADATA

SWEEP_ARTIFACTS = ("sweep.yaml", "leaderboard.csv", "verdict.json", "report.html")


@dataclass(frozen=True)
class Upload:
    """A file, or a JSON value under a name, that goes to a run's artifacts, into ``folder``.

    The run is known by its key; the sweep's own has none.
    """

    key: str
    path: Path
    folder: str | None = None
    content: Mapping[str, Any] | None = None
    """In place of a file, which ``path`` then only names."""


def uploads_of(event: Event, sweep_dir: Path, *, is_single: bool) -> Iterator[Upload]:
    """Yield what an event brings along, of a sweep's journal or of a single training's.

    A file need not exist: a failed trial has no metadata, an interrupted sweep no verdict.
    """
    key = event.trial_key or ""
    if event.type == "sweep_started":
        yield Upload("", sweep_dir / "sweep.yaml")
    elif event.type == "lr_range":
        picture = picture_path(sweep_dir, event.data["family"])
        yield Upload(key, picture.with_suffix(".json"), "lr_range", event.data)
        yield Upload(key, picture, "lr_range")
    elif event.type == "trial_finished":
        yield Upload(key, record_path(sweep_dir, key))
        yield Upload(key, (sweep_dir if is_single else trial_dir(sweep_dir, key)) / METADATA)
        if is_single:
            yield Upload(key, sweep_dir / "experiment.yaml")
    elif event.type == "sweep_finished":
        yield from (Upload("", sweep_dir / name) for name in SWEEP_ARTIFACTS)
