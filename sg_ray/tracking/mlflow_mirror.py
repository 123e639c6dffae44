"""Mirrors a sweep's journal into MLflow, each event exactly once, whatever is killed when.

Nothing is written to MLflow while a trial runs except through the journal, and every write can be
repeated: runs are found by tag before they are made, parameters do not change, and a metric's
identity in MLflow is (run, key, timestamp, step, value), all of which the journal fixes. The
position in ``tracking.json`` only saves time: without it the whole journal is replayed, to no
effect.

One experiment per sweep name; in it one run for the sweep and below it one per trial. A training
outside of a sweep has a run of its own, below none. At the sweep's end the winner is logged as a
model and registered.
"""

import logging
import re
import shlex
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sg_ray.files import content_hash, write_json
from sg_ray.sweep.events import FIRST, TRACKING, Event, parse_event, read_events
from sg_ray.sweep.folders import require_writable
from sg_ray.tracking.mlflow_store import MlflowStore, exclusive, resolve_uri, sqlite_path
from sg_ray.tracking.replay import ENDINGS, PARENT, Replay, SweepIdentity
from sg_ray.tracking.views import CONFIGURATIONS, view_address

if TYPE_CHECKING:
    from sg_ray.config import Experiment

EVENTS_PER_COMMIT = 500
SECONDS_BETWEEN_PASSES = 1.0
SECONDS_BEFORE_RETRY = 30.0

_log = logging.getLogger(__name__)


def mirror_of(experiment: "Experiment", folder: Path | None = None) -> "MlflowMirror | NoMirror":
    """Return the mirror that an experiment asks for; its URI is relative to the current folder.

    The journal lies in ``folder``; None: in the sweep's. Raises InputError for a URI that MLflow
    does not write to, and for a SQLite database in a folder that cannot be written.
    """
    if not experiment.tracking.enabled:
        return NoMirror()
    uri = resolve_uri(experiment.tracking.uri, Path.cwd())
    database = sqlite_path(uri)
    if database is not None:
        require_writable(database.parent, "tracking.uri")
    return MlflowMirror(
        folder or experiment.sweep_dir,
        uri,
        experiment.name,
        register_model=experiment.tracking.register_model,
    )


@dataclass(frozen=True)
class SyncResult:
    """What a replay did: events mirrored by this mirror, events still to do, what went wrong."""

    num_mirrored: int
    num_pending: int
    error: str | None


class Position(BaseModel):
    """Content of ``tracking.json``: how far which journal has been mirrored to where."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    store: str = ""
    """Hash of the store's URI, which may hold a password."""
    experiment: str = ""
    sweep_id: str = ""
    offset: int = 0
    """Bytes of the journal that have been mirrored."""
    run_ids: Mapping[str, str] = Field(default_factory=dict)
    """MLflow run by trial key; the sweep's own under the empty key."""


class MlflowMirror:
    """Replays ``events.jsonl`` of a sweep folder into MLflow, in the background or on demand.

    As a listener of the journal it only wakes its thread. An MLflow that cannot be reached stops
    nothing: one warning is logged, the mirror tries again, and ``close`` tells what is pending.

    ``uri`` comes from ``resolve_uri``: Ray changes the current folder.
    """

    def __init__(
        self, sweep_dir: Path, uri: str, experiment: str, *, register_model: bool = True
    ) -> None:
        self._register_model = register_model
        self._sweep_dir = sweep_dir.resolve()
        self._uri = uri
        self._experiment = experiment
        self._journal = self._sweep_dir / "events.jsonl"
        self._position_path = self._sweep_dir / TRACKING
        saved, store = self._saved_position(), content_hash(uri)
        is_same_place = (saved.store, saved.experiment) == (store, experiment)
        self._position = saved if is_same_place else Position(store=store, experiment=experiment)
        self._replay: Replay | None = None
        self._num_mirrored = 0
        self._error: str | None = None
        self._has_warned = False
        self._was_told = False
        self._pass_lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, event: Event) -> None:  # noqa: ARG002 - the journal is read instead
        """Tell the thread that the journal has grown, and that this process is who writes it."""
        self._was_told = True
        self.wake()

    def start(self) -> None:
        """Mirror in a background thread, beginning with what is there already."""
        self._closing.clear()
        self._thread = threading.Thread(target=self._run, name="mlflow-mirror", daemon=True)
        self._thread.start()
        self.wake()

    def wake(self) -> None:
        """Have the thread look at the journal soon."""
        self._wake.set()

    def sync(self, *, is_over: bool = False) -> SyncResult:
        """Mirror all there is now, in this thread. Errors are in the result.

        ``is_over`` says that nobody works on the folder any more: runs that the journal leaves
        open, because a kill or a full disk kept it from saying how they ended, are ended.
        """
        with self._pass_lock:
            self._pass(is_over=is_over)
        return self._result()

    def close(self, timeout_s: float = 60.0) -> SyncResult:
        """Mirror what is left, for at most ``timeout_s``, and end the thread.

        If it was this process that wrote the journal, nothing is left running.
        """
        if self._thread is None:
            return self.sync(is_over=self._was_told)
        self._closing.set()
        self.wake()
        self._thread.join(timeout_s)
        result = self._result()
        if result.num_pending:
            _log.warning(
                "MLflow: %d events of %s are not mirrored yet (%s). Nothing is lost: once %s can "
                "be reached, mirror them with: sg-ray track sync %s",
                result.num_pending,
                self._journal,
                result.error or f"still busy after {timeout_s:.0f} s",
                _without_password(self._uri),
                shlex.quote(str(self._sweep_dir)),
            )
        return result

    def run_ids(self) -> dict[str, str]:
        """Return the MLflow run of each trial mirrored so far, by trial key."""
        return {key: run for key, run in self._position.run_ids.items() if key != PARENT}

    def page(self) -> str | None:
        """Return where MLflow's page shows the configurations, as what follows its address.

        None if the store was not reached.
        """
        if self._replay is None:
            return None
        return view_address(self._replay.experiment_id, CONFIGURATIONS)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            is_last = self._closing.is_set()
            self.sync(is_over=is_last and self._was_told)
            if is_last:
                return
            if self._error is None:
                self._closing.wait(SECONDS_BETWEEN_PASSES)
            else:
                self._closing.wait(SECONDS_BEFORE_RETRY)
                self.wake()

    def _pass(self, *, is_over: bool) -> None:
        try:
            if not self._journal.exists():
                return
            with exclusive(self._sweep_dir / ".tracking.lock"):
                self._mirror_journal()
                if is_over and self._replay is not None:
                    self._end_open_runs(self._replay)
            self._error = None
        except Exception as error:  # whatever MLflow, its database or its server raises
            message = f"{type(error).__name__}: {error}".partition("\n")[0]
            self._error = _without_password(message)
            self._replay = None  # what it knows of the store may be wrong by now
            if not self._has_warned:
                self._has_warned = True
                _log.warning("MLflow mirror of %s: %s", self._sweep_dir.name, self._error)

    def _mirror_journal(self) -> None:
        saved = self._saved_position()
        if self._replay is None or saved != self._position:
            self._open(saved)
        while True:
            events, offset = _read_events(self._journal, self._position.offset)
            if self._replay is None or not events:
                return
            for event in events:
                self._replay.apply(event)
            self._replay.flush()
            self._num_mirrored += len(events)
            self._commit(offset)

    def _end_open_runs(self, replay: Replay) -> None:
        """End what the journal began and does not end."""
        last = deque(read_events(self._journal), maxlen=1)
        if last and last[0].type not in ENDINGS:
            replay.end_open_runs(last[0].at_ms)

    def _open(self, saved: Position) -> None:
        sweep = _read_identity(self._journal)
        if sweep is None:
            return
        store = MlflowStore(self._uri, self._experiment, sweep.sweep_id)
        self._replay = Replay(
            store,
            sweep,
            self._sweep_dir,
            store.find_runs(),
            register_model=self._register_model,
        )
        here = {"store": content_hash(self._uri), "experiment": self._experiment}
        begin = Position(**here, sweep_id=sweep.sweep_id)
        is_same_place = begin == saved.model_copy(update={"offset": 0, "run_ids": {}})
        has_all_runs = saved.run_ids.items() <= self._replay.run_ids().items()
        self._position = saved if is_same_place and has_all_runs else begin

    def _commit(self, offset: int) -> None:
        assert self._replay is not None
        update = {"offset": offset, "run_ids": self._replay.run_ids()}
        self._position = self._position.model_copy(update=update)
        with suppress(OSError):  # a full disk, say: the position only saves time
            write_json(self._position_path, self._position)

    def _saved_position(self) -> Position:
        try:
            return Position.model_validate_json(self._position_path.read_bytes())
        except (OSError, ValidationError):
            return Position()

    def _result(self) -> SyncResult:
        num_pending = sum(1 for _ in _whole_lines(self._journal, self._position.offset))
        return SyncResult(self._num_mirrored, num_pending, self._error)


class NoMirror:
    """Stands in for a mirror where tracking is turned off."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def __call__(self, event: Event) -> None:
        """Pass over an event."""

    def run_ids(self) -> dict[str, str]:
        """Return nothing: there are no runs."""
        return {}

    def page(self) -> None:
        """Return nothing: there is no page."""


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


def _read_identity(journal: Path) -> SweepIdentity | None:
    """Return the identity that the journal's beginning gives; None if there is none."""
    first = next((event for event in read_events(journal) if event.type in FIRST), None)
    return None if first is None else SweepIdentity.of(first, journal.parent)


def _read_events(
    journal: Path, offset: int, limit: int = EVENTS_PER_COMMIT
) -> tuple[list[Event], int]:
    """Return at most ``limit`` whole events from byte ``offset``, and the offset after them.

    What is no event is passed over; whoever opens the journal tells of it.
    """
    events: list[Event] = []
    for line in _whole_lines(journal, offset):
        if len(events) == limit:
            break
        offset += len(line)
        if (event := parse_event(line)) is not None:
            events.append(event)
    return events, offset


def _whole_lines(journal: Path, offset: int) -> Iterator[bytes]:
    if not journal.exists():
        return
    with journal.open("rb") as file:
        file.seek(offset)
        for line in file:
            if line.endswith(b"\n"):
                yield line
