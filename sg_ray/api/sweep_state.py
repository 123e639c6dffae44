"""How far a sweep is, from its journal and its lock; it may be running right now."""

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sg_ray.commands import from_here, sg_ray_command
from sg_ray.host.lock import is_held
from sg_ray.live.progress import Progress
from sg_ray.records.events import Event, SweepRanked, SweepResumed, SweepStarted
from sg_ray.records.journal import read_events
from sg_ray.sweep_folder import SweepFolder

State = Literal["running", "interrupted", "failed", "complete"]
"""``failed`` has come to its end, with trials that failed; ``interrupted`` has not, be it that it
was stopped, killed, or that something was in its way, such as a full disk."""


@dataclass(frozen=True)
class SweepState:
    """What a sweep is doing, and how far it has come.

    ``num_planned`` are the trials of the whole sweep, at least and at most. ``best`` is the best
    value of the objective of a single trial so far, by model.
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
        return self.state in ("complete", "failed")

    @property
    def next_step(self) -> str | None:
        """The command to type next; None while it runs.

        Where there is SLURM, and a script for it, that is sbatch: the machine may be a login node.
        """
        folder, script = from_here(self.folder.path), self.folder.batch_script
        match self.state:
            case "running":
                return None
            case "complete":
                return sg_ray_command("report", folder)
        if script.exists() and shutil.which("sbatch") is not None:
            return shlex.join(["sbatch", str(from_here(script))])
        return sg_ray_command("sweep", "--resume", folder)


def read_state(folder: SweepFolder, objective: str, *, is_held_here: bool = False) -> SweepState:
    """Return the state of the sweep in ``folder``, which ranks by ``objective``.

    ``is_held_here`` says that the caller holds the folder, so nobody runs the sweep.
    """
    is_running = not is_held_here and is_held(folder)  # first: what ends meanwhile told its end
    progress, is_ranked = Progress(objective), False
    for event in read_events(folder.events):
        if _is_start(event):
            progress.interrupt()
        is_ranked = not _is_start(event) and (is_ranked or isinstance(event, SweepRanked))
        progress.apply(event)
    return SweepState(
        folder=folder,
        state="running" if is_running else _state_of(progress.status, is_ranked),
        num_finished=progress.num_finished,
        num_planned=progress.num_planned,
        best=progress.best,
        last_event_at_ms=progress.now_ms,
    )


def _is_start(event: Event) -> bool:
    return isinstance(event, SweepStarted | SweepResumed)


def _state_of(status: str, is_ranked: bool) -> State:
    """Return the state of a sweep that nobody runs.

    A start that was in trouble itself says "failed" as well, but it ranks nothing.
    """
    if status == "completed":
        return "complete"
    return "failed" if status == "failed" and is_ranked else "interrupted"
