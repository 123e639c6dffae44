"""Mirrors a sweep's journal into MLflow, each event exactly once, whatever is killed when.

Nothing is written to MLflow while a trial runs except through the journal, and every write can be
repeated: runs are found by tag before they are made, parameters do not change, and a metric's
identity in MLflow is (run, key, timestamp, step, value), all of which the journal fixes. The
position in ``tracking.json`` only saves time: without it the whole journal is replayed, to no
effect.

Files and the winner's weights are sent once the events are through. One that cannot be stored holds
up nothing: its event is noted in ``tracking.json`` and tried again, at once a few times at most.

One experiment per sweep name; in it one run for the sweep and below it one per trial. A training
outside of a sweep has a run of its own, below none. At the sweep's end the winner is logged as a
model and registered.
"""

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sg_ray.commands import from_here, sg_ray_command
from sg_ray.errors import InputError
from sg_ray.files import content_hash, write_json
from sg_ray.host.folders import require_writable
from sg_ray.records.events import (
    DataChecked,
    Event,
    StageStarted,
    SweepFinished,
    SweepPlanned,
    SweepResumed,
    SweepStarted,
    TrainingFinished,
    TrainingStarted,
)
from sg_ray.records.journal import read_events
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.address import Address, find_address
from sg_ray.tracking.client import import_mlflow, open_client
from sg_ray.tracking.mirror_position import (
    Position,
    begins_a_line,
    count_events,
    events_from,
    read_position,
)
from sg_ray.tracking.mlflow_experiments import of_trainings, owner_of
from sg_ray.tracking.mlflow_store import MlflowStore, exclusive
from sg_ray.tracking.replay import PARENT, Replay, SweepIdentity
from sg_ray.tracking.troubles import Refusal, StoreTrouble, trouble_of
from sg_ray.tracking.views import CONFIGURATIONS, view_address

if TYPE_CHECKING:
    from sg_ray.config import TrackingSettings

EVENTS_PER_COMMIT = 500
SECONDS_BETWEEN_PASSES = 1.0
SECONDS_BEFORE_RETRY = 30.0
_TURN_S = 30.0
"""How long another process may hold the folder's mirror before that is told, and tried again."""
MAX_FAILURES_IN_A_ROW = 3
"""After so many files that could not be stored the others wait: their place is away."""
_PREPARATION = (SweepStarted, SweepResumed, DataChecked, SweepPlanned, StageStarted)
"""Events for which alone the mirror does not set to work."""

_log = logging.getLogger(__name__)


def address_of(settings: "TrackingSettings") -> Address:
    """Return the store that the settings ask for; its URI is relative to the current folder.

    Raises InputError for a URI that MLflow does not write to, for credentials that are not there,
    and for a SQLite database in a folder that cannot be written.
    """
    address = find_address(settings.uri, Path.cwd())
    if address.database is not None:
        require_writable(address.database.parent, "tracking.uri")
    return address


def check_tracking(settings: "TrackingSettings") -> None:
    """Raise InputError, as ``address_of`` does, if tracking is on and its store is none."""
    if settings.enabled:
        address_of(settings)


def mirror_of(
    settings: "TrackingSettings", name: str, folder: SweepFolder
) -> "MlflowMirror | NoMirror":
    """Return the mirror that the settings of the experiment called ``name`` ask for.

    The journal lies in ``folder``. Raises InputError as ``address_of``.
    """
    if not settings.enabled:
        return NoMirror()
    return MlflowMirror(folder, address_of(settings), name, register_model=settings.register_model)


@dataclass(frozen=True)
class Page:
    """Where a sweep's table of configurations is: in which store, and there at which address."""

    address: Address
    view: str


@dataclass(frozen=True)
class SyncResult:
    """What a replay did, and what went wrong.

    ``num_mirrored`` events by this mirror; ``num_pending`` still to do, ``num_unsent`` of them only
    for want of their files; ``num_refused`` events and values that MLflow does not take.
    """

    num_mirrored: int
    num_pending: int
    error: str | None
    num_unsent: int = 0
    num_refused: int = 0
    advice: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether MLflow has all there is."""
        return not (self.num_pending or self.error or self.num_refused)


class MlflowMirror:
    """Replays ``events.jsonl`` of a sweep folder into MLflow, in the background or on demand.

    As a listener of the journal it only wakes its thread. An MLflow that cannot be reached stops
    nothing: one warning is logged, the mirror tries again, and ``close`` tells what is pending.

    A relative path of a database counts from the folder that is current now: Ray changes it.
    """

    def __init__(
        self,
        folder: SweepFolder,
        store: str | Address,
        experiment: str,
        *,
        register_model: bool = True,
    ) -> None:
        self._register_model = register_model
        self._folder = SweepFolder(folder.path.resolve())
        here = Path.cwd()
        self._address = store if isinstance(store, Address) else find_address(store, here)
        self._experiment = experiment
        self._journal = self._folder.events
        self._position_path = self._folder.position_of_mirror
        begin, saved = self._beginning(), read_position(self._position_path)
        is_same_place = (saved.store, saved.experiment) == (begin.store, begin.experiment)
        self._position = saved if is_same_place else begin
        self._replay: Replay | None = None
        self._num_mirrored = self._num_refused = 0
        self._trouble: StoreTrouble | None = None
        self._file_trouble: str | None = None
        self._files_wait_until_s = 0.0
        self._told: set[str] = set()
        self._was_told = False
        self._pass_lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Tell the thread that the journal has grown, and that this process is who writes it.

        It sets to work with the first trial: to open a store takes imports of seconds, which Ray
        and its processes need to start.
        """
        self._was_told = True
        if not isinstance(event, _PREPARATION):
            self.wake()

    def start(self) -> None:
        """Mirror in a background thread, beginning with what is there already."""
        self._begin()
        self.wake()

    def _begin(self) -> None:
        """Have a thread wait; MLflow is imported before, in the caller's: see ``client``."""
        if self._address.has_typed_credentials:
            self._tell(
                "tracking.uri has credentials: they are used, and written nowhere. For "
                f"--resume, extend and track sync set {self._address.variables} in the environment."
            )
        import_mlflow()
        self._closing.clear()
        self._thread = threading.Thread(target=self._run, name="mlflow-mirror", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have the thread look at the journal soon."""
        self._wake.set()

    def sync(self, *, is_over: bool = False) -> SyncResult:
        """Mirror all there is now, in this thread. Errors are in the result.

        ``is_over`` says that nobody works on the folder any more: runs that the journal leaves
        open, because a kill or a full disk kept it from saying how they ended, are ended.
        """
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
        if not result.is_complete:
            _log.warning("%s", self._last_words(result, timeout_s))
        return result

    def _last_words(self, result: SyncResult, timeout_s: float) -> str:
        num_events = result.num_pending - result.num_unsent
        missing = [f"{num_events} events"] if num_events else []
        missing += [f"files of {result.num_unsent} events"] if result.num_unsent else []
        if not missing:
            lost = f"{result.num_refused} events or values" if result.num_refused else "nothing"
            return f"MLflow: {lost} of {self._journal} left out ({result.error or 'see above'})"
        why = result.error or self._file_trouble or f"still busy after {timeout_s:.0f} s"
        sync = sg_ray_command("track", "sync", from_here(self._folder.path))
        advice = f"{result.advice}. Then run" if result.advice else "Run"
        return (
            f"MLflow: {' and '.join(missing)} of {self._journal} are not mirrored yet ({why}). "
            f"Nothing is lost. {advice}: {sync}"
        )

    @property
    def shown(self) -> str:
        """The store's address, without credentials."""
        return self._address.shown

    def run_ids(self) -> dict[str, str]:
        """Return the MLflow run of each trial mirrored so far, by trial key."""
        return {key: run for key, run in self._position.run_ids.items() if key != PARENT}

    def where_to_look(self) -> list[str]:
        """Return the lines that say where MLflow shows the sweep: a command, or a server's address.

        A server that was not reached has none.
        """
        if not self._address.is_server:
            return [sg_ray_command("ui", from_here(self._folder.path))]
        if self._replay is None:
            return []
        view = view_address(self._replay.experiment_id, CONFIGURATIONS)
        return [f"{self._address.page}/{view}"]

    def page(self) -> Page:
        """Return the page of the sweep as it was mirrored. Raises InputError, StoreTrouble."""
        folder, database = from_here(self._folder.path), self._address.database
        run_id = self._position.run_ids.get(PARENT)
        if run_id is None or (database is not None and not database.exists()):
            sync = sg_ray_command("track", "sync", folder)
            raise InputError(f"{folder}: not in {self._address.shown} yet. To send it: {sync}")
        try:
            run = open_client(self._address).get_run(run_id)
        except Exception as error:  # whatever MLflow, its database or its server raises
            raise trouble_of(error, self._address) from error
        return Page(self._address, view_address(run.info.experiment_id, CONFIGURATIONS))

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            is_last = self._closing.is_set()
            self._pass(is_over=is_last and self._was_told, is_patient=not is_last)
            if is_last:
                return
            if self._trouble is None:
                self._closing.wait(SECONDS_BETWEEN_PASSES)
            else:
                self._tell(f"MLflow mirror of {self._folder.name}: {self._trouble}")
                self._closing.wait(SECONDS_BEFORE_RETRY)
                self.wake()

    def _pass(self, *, is_over: bool, is_patient: bool = False) -> None:
        """Mirror what there is; ``is_patient`` lets files that failed just now wait."""
        try:
            if not self._journal.exists():
                return
            with self._pass_lock, exclusive(self._folder.mirror_lock, _TURN_S):
                self._mirror_journal()
                if not is_patient or time.monotonic() >= self._files_wait_until_s:
                    self._send_files()
                if is_over and self._replay is not None:
                    self._end_open_runs(self._replay)
                if is_over and self._replay is None and self._result().num_pending:
                    raise self._beginning_lost()
            self._trouble = None
        except Exception as error:  # whatever MLflow, its database or its server raises
            self._trouble = trouble_of(error, self._address)
            self._num_refused = self._result().num_refused
            self._replay = None  # what it knows of the store may be wrong by now

    def _tell(self, text: str) -> None:
        """Warn once of the same thing."""
        if text not in self._told:
            self._told.add(text)
            _log.warning("%s", text)

    def _mirror_journal(self) -> None:
        saved = read_position(self._position_path)
        if self._replay is None or saved != self._position:
            self._open(saved)
        while self._replay is not None:
            events, offset = events_from(self._journal, self._position.offset, EVENTS_PER_COMMIT)
            if not events:
                break
            for _, event in events:
                self._replay.apply(event)
            self._replay.flush()
            self._num_mirrored += len(events)
            with_files = [begin for begin, event in events if self._replay.has_files(event)]
            self._commit(offset, (*self._position.unsent, *with_files))

    def _send_files(self) -> None:
        """Send the files of events that are through; keep those that cannot be stored for later."""
        replay, left, num_failures = self._replay, list(self._position.unsent), 0
        if replay is None or not left:
            return
        failed: list[int] = []
        while left and num_failures < MAX_FAILURES_IN_A_ROW:
            refused = self._send_files_of(replay, left[0])
            num_failures = num_failures + 1 if refused else 0
            failed += left[:1] if refused else []
            del left[0]
        if failed:
            self._files_wait_until_s = time.monotonic() + SECONDS_BEFORE_RETRY
        else:
            self._file_trouble = None
        # Those that failed come last: they may never be stored, and hold up no other.
        self._commit(self._position.offset, (*left, *failed))

    def _send_files_of(self, replay: Replay, offset: int) -> list[Refusal]:
        """Send the files of the event at a place in the journal; return what was not stored."""
        events, _ = events_from(self._journal, offset, 1)
        refused = [one for _, event in events for one in replay.send(event)]
        for what, error in (one.args for one in refused):
            why = replay.reason(error)
            if why != self._file_trouble:
                self._file_trouble = why
                self._tell(f"MLflow does not store {what}: {why}. All else is mirrored.")
        return refused

    def _end_open_runs(self, replay: Replay) -> None:
        """End what the journal began and does not end."""
        last = deque(read_events(self._journal), maxlen=1)
        if last and not isinstance(last[0], SweepFinished | TrainingFinished):
            replay.end_open_runs(last[0].at_ms)

    def _open(self, saved: Position) -> None:
        sweep = _read_identity(self._journal)
        if sweep is None:
            return
        name, owner = self._experiment, owner_of(self._folder, self._address)
        if sweep.is_single_training:
            name, owner = of_trainings(name)
        store = MlflowStore(self._address, name, sweep.sweep_id, owner)
        if store.experiment_name != name:
            self._tell(
                f"MLflow: an experiment {name} of another folder is there already. "
                f"This sweep is experiment {store.experiment_name}, and so is its model."
            )
        self._replay = Replay(
            store,
            sweep,
            self._folder,
            store.find_runs(),
            register_model=self._register_model,
        )
        begin = self._beginning().model_copy(update={"sweep_id": sweep.sweep_id})
        is_same_place = begin == saved.model_copy(update={"offset": 0, "run_ids": {}, "unsent": ()})
        has_all_runs = saved.run_ids.items() <= self._replay.run_ids().items()
        is_known = is_same_place and has_all_runs and begins_a_line(self._journal, saved.offset)
        self._position = saved if is_known else begin

    def _beginning_lost(self) -> StoreTrouble:
        command = sg_ray_command("sweep", "--resume", from_here(self._folder.path))
        return StoreTrouble(
            f"{self._journal} does not say which sweep or training it is of: its beginning is lost",
            f"For a sweep it is written anew by: {command}",
        )

    def _beginning(self) -> Position:
        return Position(
            store=content_hash(str(self._address.database or self._address.page)),
            experiment=self._experiment,
        )

    def _commit(self, offset: int, unsent: tuple[int, ...]) -> None:
        assert self._replay is not None
        run_ids = self._replay.run_ids()
        update = {"offset": offset, "run_ids": run_ids, "unsent": unsent}
        self._position = self._position.model_copy(update=update)
        with suppress(OSError):  # a full disk, say: the position only saves time
            write_json(self._position_path, self._position)

    def _result(self) -> SyncResult:
        num_events = count_events(self._journal, self._position.offset)
        num_unsent, trouble = len(self._position.unsent), self._trouble
        return SyncResult(
            self._num_mirrored,
            num_events + num_unsent,
            trouble.problem if trouble is not None else None,
            num_unsent,
            self._num_refused + (self._replay.num_refused if self._replay is not None else 0),
            trouble.advice if trouble is not None else "",
        )


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

    def where_to_look(self) -> list[str]:
        """Return nothing: there is no page."""
        return []


def _read_identity(journal: Path) -> SweepIdentity | None:
    """Return the identity that the journal's beginning gives; None if there is none."""
    for event in read_events(journal):
        if isinstance(event, SweepStarted | TrainingStarted):
            return SweepIdentity.of(event)
    return None
