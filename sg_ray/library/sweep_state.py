"""How far a sweep is, from its journal and its lock; it may be running right now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sg_ray.commands import from_here, sg_ray_command
from sg_ray.host.lock import is_held
from sg_ray.live.progress import Progress
from sg_ray.records.events import SweepResumed, SweepStarted
from sg_ray.records.journal import read_events
from sg_ray.sweep_folder import SweepFolder

State = Literal["running", "interrupted", "failed", "complete"]
"""``failed`` has come to its end, with trials that failed; ``interrupted`` has not."""

_OF_STATUS: Mapping[str, State] = {"completed": "complete", "failed": "failed"}


@dataclass(frozen=True)
class SweepState:
    """What a sweep is doing, and how far it has come.

    ``num_planned`` are the trials of the whole sweep, at least and at most. ``best`` is the best
    value of the objective so far, by model.
    """

    folder: SweepFolder
    state: State
    num_finished: int
    num_planned: tuple[int, int]
    best: Mapping[str, float]
    last_event_at_ms: int
    """0 if nothing has happened yet."""

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end."""
        return self.state in _OF_STATUS.values()

    @property
    def next_step(self) -> str | None:
        """The command to type next; None while it runs."""
        folder = from_here(self.folder.path)
        match self.state:
            case "running":
                return None
            case "complete":
                return sg_ray_command("report", folder)
        return sg_ray_command("sweep", "--resume", folder)


def read_state(folder: SweepFolder, objective: str) -> SweepState:
    """Return the state of the sweep in ``folder``, which ranks by ``objective``."""
    is_running = is_held(folder)  # asked first: what ends meanwhile has told its end
    progress = Progress(objective)
    for event in read_events(folder.events):
        if isinstance(event, SweepStarted | SweepResumed):
            progress.interrupt()
        progress.apply(event)
    return SweepState(
        folder=folder,
        state="running" if is_running else _OF_STATUS.get(progress.status, "interrupted"),
        num_finished=progress.num_finished,
        num_planned=progress.num_planned,
        best=progress.best,
        last_event_at_ms=progress.now_ms,
    )
