"""Which files of a sweep's folder each event of its journal has as artifacts in MLflow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_ray.records.journal import Event
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
    key = event.trial_key or ""
    if event.type == "sweep_started":
        yield Upload("", folder.settings)
    elif event.type == "lr_range":
        picture = folder.range_test_picture(event.data["family"])
        yield Upload(key, picture.with_suffix(".json"), "lr_range", event.data)
        yield Upload(key, picture, "lr_range")
    elif event.type == "trial_finished":
        yield Upload(key, folder.record(key))
        yield Upload(key, (folder.path if is_single else folder.trial(key)) / METADATA)
        if is_single:
            yield Upload(key, folder.training_settings)
    elif event.type == "sweep_finished":
        yield from (Upload("", path) for path in sweep_artifacts(folder))
