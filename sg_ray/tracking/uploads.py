"""Which files of a sweep's folder each event of its journal has as artifacts in MLflow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_ray.records.events import (
    Event,
    LearningRateFound,
    SweepFinished,
    SweepStarted,
    TrialFinished,
)
from sg_ray.sweep_folder import METADATA, SweepFolder


def sweep_artifacts(folder: SweepFolder) -> list[Path]:
    """Return the files of a whole sweep that go along, once it has ended."""
    return [folder.settings, folder.leaderboard, folder.verdict, folder.report]


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


def uploads_of(event: Event, folder: SweepFolder, *, is_single: bool) -> Iterator[Upload]:
    """Yield what an event brings along, of a sweep's journal or of a single training's.

    A file need not exist: a failed trial has no metadata, an interrupted sweep no verdict.
    """
    match event:
        case SweepStarted():
            yield Upload("", folder.settings)
        case LearningRateFound():
            picture = folder.range_test_picture(event.model)
            content = event.model_dump(exclude={"at_ms", "type", "trial_key"})
            yield Upload(event.subject, picture.with_suffix(".json"), "lr_range", content)
            yield Upload(event.subject, picture, "lr_range")
        case TrialFinished(trial_key=key):
            yield Upload(key, folder.record(key))
            yield Upload(key, (folder.path if is_single else folder.trial(key)) / METADATA)
            if is_single:
                yield Upload(key, folder.training_settings)
        case SweepFinished():
            yield from (Upload("", path) for path in sweep_artifacts(folder))
