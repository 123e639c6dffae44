"""What nobody needs any more of sweeps that have come to their end.

A resume of them trains nothing, and a report reads records, predictions and weights, all of which
stay. What goes is made again where it is wanted: features of data that no unfinished sweep reads,
what fusions noted of their branches, checkpoints of trials that are on record. Gone for good are
only the temporary files of processes that died.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sg_ray.api.places import sweeps_in
from sg_ray.api.sweep_state import SweepState, read_state
from sg_ray.config import Experiment, load_experiment
from sg_ray.errors import InputError
from sg_ray.features.build import features_dir
from sg_ray.files import leftovers
from sg_ray.host.cache_lock import alone_in_cache
from sg_ray.host.lock import locked
from sg_ray.host.scratch import dead_scratch
from sg_ray.models.fusion import BRANCH_OUTPUTS
from sg_ray.records.events import DataChecked
from sg_ray.records.journal import read_events
from sg_ray.records.record import read_records
from sg_ray.sweep_folder import SweepFolder


@dataclass(frozen=True)
class Removable:
    """A file or folder that may go, and how large it is."""

    path: Path
    num_bytes: int


@dataclass(frozen=True)
class Cleaning:
    """What may go of some sweeps, and, in sentences, why others are left alone."""

    removables: Sequence[Removable]
    left_alone: Sequence[str]

    @property
    def num_bytes(self) -> int:
        """How much that is."""
        return sum(one.num_bytes for one in self.removables)


@dataclass(frozen=True)
class _Sweep:
    folder: SweepFolder
    experiment: Experiment
    state: SweepState

    @property
    def cache(self) -> Path:
        """Where its features lie; relative settings count from here."""
        return self.experiment.cache_dir.resolve()

    def data_fingerprints(self) -> set[str]:
        """Return those of the data that it has read.

        Folders are called by them, and the sweep may be a stranger's: what is no hash, such as a
        way out of the cache, is none.
        """
        events = read_events(self.folder.events)
        noted = {event.fingerprint for event in events if isinstance(event, DataChecked)}
        noted |= {record.data_fingerprint for record in read_records(self.folder).values()}
        return {one for one in noted if re.fullmatch(r"[0-9a-f]+", one)}


def clean(folders: Sequence[SweepFolder], *, dry: bool = False) -> Cleaning:
    """Delete what nobody needs of those of the sweeps that have come to their end.

    Each is held meanwhile, and so is its cache, from which nothing goes while something uses it.
    ``dry`` deletes nothing, and returns the same. Raises InputError that names the file if a sweep
    cannot be read, or if one is begun right now.
    """
    sweeps = [_read(folder) for folder in folders]
    with ExitStack() as held:
        if not dry:
            sweeps = [_hold(sweep, held) if sweep.state.is_over else sweep for sweep in sweeps]
        over = [sweep for sweep in sweeps if sweep.state.is_over]
        caches = dict.fromkeys(sweep.cache for sweep in over)
        in_use = [one for one in caches if not held.enter_context(alone_in_cache(one))]
        idle = [sweep for sweep in over if sweep.cache not in in_use]
        paths = dict.fromkeys([*_of_sweeps(over), *_of_caches(idle, sweeps), *dead_scratch()])
        removables = [Removable(path, _size(path)) for path in paths]
        if not dry:
            for path in paths:
                _remove(path)
    left_alone = [_why_not(sweep) for sweep in sweeps if not sweep.state.is_over]
    left_alone += [f"{one}: left alone, a sweep or a training uses it" for one in in_use]
    return Cleaning(removables, left_alone)


def _read(folder: SweepFolder, *, is_held_here: bool = False) -> _Sweep:
    experiment = load_experiment(folder.settings, loads_code=False)
    state = read_state(folder, experiment.objective, is_held_here=is_held_here)
    return _Sweep(folder, experiment, state)


def _hold(sweep: _Sweep, held: ExitStack) -> _Sweep:
    """Hold a sweep, and read it again: it may have gone on before it was held."""
    held.enter_context(locked(sweep.folder))
    return _read(sweep.folder, is_held_here=True)


def _of_sweeps(sweeps: Iterable[_Sweep]) -> Iterator[Path]:
    """Yield what lies in the sweeps' own folders."""
    for sweep in sweeps:
        folder = sweep.folder
        failures = (record.failure for record in read_records(folder).values())
        is_retried = any(failure and failure.is_infrastructure for failure in failures)
        places = [] if is_retried else [folder.tune, folder.groups]  # from where it would go on
        yield from (place for place in places if place.exists())
        yield from leftovers(folder.path)


def _of_caches(sweeps: Sequence[_Sweep], named: Sequence[_Sweep]) -> Iterator[Path]:
    """Yield the features of the sweeps' data, unless one that is not over reads them, too.

    Looked at are the sweeps beside them; what runs holds the cache, wherever it lies. One that has
    not read its data yet might read any.
    """
    known = {sweep.folder.path.absolute() for sweep in sweeps}  # held by us, not running
    parents = dict.fromkeys(sweep.folder.path.absolute().parent for sweep in named)
    neighbours = [place for parent in parents for place in sweeps_in(parent)]
    others = [_read(place) for place in neighbours if place.path not in known]
    unfinished = [other for other in others if not other.state.is_over]
    for sweep in sweeps:
        users = [other for other in unfinished if other.cache == sweep.cache]
        needed = [other.data_fingerprints() for other in users]
        if not all(needed):
            continue
        for fingerprint in sorted(sweep.data_fingerprints() - set().union(*needed)):
            features = features_dir(sweep.cache, fingerprint)
            outputs = (sweep.cache / BRANCH_OUTPUTS).glob(f"*-{fingerprint}-*.npz")
            yield from sorted(outputs)
            yield from [features] if features.is_dir() else []


def _why_not(sweep: _Sweep) -> str:
    reason = "it is running" if sweep.state.state == "running" else "its resume needs all it has"
    return f"{sweep.folder}: left alone, {reason}"


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())


def _remove(path: Path) -> None:
    """Delete a file or folder; it may be gone already. Raises InputError if it cannot be."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be deleted ({error.strerror}).") from error
