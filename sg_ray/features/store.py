"""The feature store: one folder of memory-mapped arrays per feature kind and data set.

A folder holds ``<split>.<array>.values.npy`` and ``.offsets.npy``, the fitted featuriser, and
``meta.json``, which states the size and checksum of every file and is written last. Folders appear
whole, by one rename: whatever kills a build, a reader sees the old folder, the new one, or none.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from sg_ray.errors import SgRayError
from sg_ray.features.packed import FeatureKind, Ragged
from sg_ray.files import atomic_path, content_hash, crc32_of, write_json

_META_FILE = "meta.json"
_WORK_SUFFIX = ".building"
_LOCK_SUFFIX = ".lock"
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class UnusableStoreError(Exception):
    """A stored feature is damaged or outdated. Build it again."""


def write_kind(folder: Path, kind: FeatureKind, description: Mapping[str, Any]) -> None:
    """Write ``kind`` into ``folder``, which holds the featuriser's files; meta.json comes last.

    ``description`` (plain JSON values) says what the arrays depend on.
    """
    for split, arrays in kind.splits.items():
        for name, ragged in arrays.items():
            for part in ("values", "offsets"):
                _write_array(_array_path(folder, split, name, part), getattr(ragged, part))
    files = sorted(folder.iterdir())
    meta = {
        "description": description,
        "meta": kind.meta,
        "splits": {split: sorted(arrays) for split, arrays in kind.splits.items()},
        "file_sizes": {path.name: path.stat().st_size for path in files},
        "crc32": {path.name: crc32_of(path) for path in files},
    }
    write_json(folder / _META_FILE, {**meta, "own_hash": content_hash(meta)})


def read_kind(
    folder: Path, description: Mapping[str, Any], *, verify_content: bool = False
) -> FeatureKind:
    """Return what ``write_kind`` wrote, memory-mapped and read-only.

    ``verify_content`` reads every file once and compares checksums; otherwise sizes are compared.
    Stores from before there were checksums pass.

    Raises FileNotFoundError if there is no ``folder``, UnusableStoreError if it is not whole or
    was written for another ``description``.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    try:
        stored = json.loads((folder / _META_FILE).read_text(encoding="utf-8"))
        if stored["description"] != description:
            raise ValueError("built with other library versions or tokenizer files")
        _check_own_hash(stored)
        _check_sizes(folder, stored["file_sizes"])
        if verify_content:
            _check_content(folder, stored.get("crc32", {}))
        splits = {
            split: {name: _read_ragged(folder, split, name) for name in names}
            for split, names in stored["splits"].items()
        }
        return FeatureKind(stored["meta"], splits)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableStoreError(f"{folder} cannot be used: {error}") from error


@contextmanager
def building(folder: Path, is_good: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield an empty folder to build in; on success it becomes ``folder``.

    If another build was faster its result is kept, provided that it ``is_good``; anything else in
    the place is replaced. What dead builds of ``folder`` left behind is removed first.

    Raises SgRayError that names ``folder`` if its disk is full or takes no files.
    """
    try:
        with _work_beside(folder) as new:
            yield new
            _publish(new, folder, is_good)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise SgRayError(
            f"{folder}: features cannot be written ({os.strerror(error.errno)}). Free space there, "
            "or choose another cache_dir=..., and give the same command again."
        ) from error


@contextmanager
def _work_beside(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside ``folder`` that is gone afterwards."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead_builds(folder)
    work, lock = _claim_work_folder(folder)
    try:
        new = work / "new"
        new.mkdir(parents=True)
        yield new
    finally:
        _remove_build(work)
        lock.release()


def _array_path(folder: Path, split: str, name: str, part: str) -> Path:
    return folder / f"{split}.{name}.{part}.npy"


def _write_array(path: Path, array: NDArray[Any]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            np.save(file, array, allow_pickle=False)
        except OSError as error:
            if error.errno is not None:
                raise
            # numpy says no more than that fewer bytes were written than it was given
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _read_ragged(folder: Path, split: str, name: str) -> Ragged:
    values = _map_array(_array_path(folder, split, name, "values"))
    offsets = _map_array(_array_path(folder, split, name, "offsets"))
    if offsets[0] != 0 or offsets[-1] != len(values):
        raise ValueError(f"offsets of {split}.{name} do not match its values")
    return Ragged(values, offsets)


def _map_array(path: Path) -> NDArray[Any]:
    """Map an array as a plain ndarray: a np.memmap object would not survive pickling as a map."""
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _check_sizes(folder: Path, sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        found = (folder / name).stat().st_size
        if found != size:
            raise ValueError(f"{name} has {found} bytes, not {size}")


def _check_own_hash(stored: Mapping[str, Any]) -> None:
    content = {name: value for name, value in stored.items() if name != "own_hash"}
    if stored.get("own_hash") not in (None, content_hash(content)):
        raise ValueError(f"{_META_FILE} was changed since it was written")


def _check_content(folder: Path, checksums: Mapping[str, str]) -> None:
    for name, checksum in checksums.items():
        if crc32_of(folder / name) != checksum:
            raise ValueError(f"{name} was changed since it was written (wrong checksum)")


def _publish(new: Path, folder: Path, is_good: Callable[[Path], bool]) -> None:
    while True:
        try:
            new.rename(folder)
            return
        except OSError:
            if not folder.exists():
                raise
        if is_good(folder):
            return
        _set_aside(folder, new.with_name("old"))


def _set_aside(folder: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    try:
        folder.rename(target)
    except FileNotFoundError:
        return  # another build has set it aside


def _claim_work_folder(folder: Path) -> tuple[Path, FileLock]:
    """Return a new folder beside ``folder``, and the lock that says its build is alive.

    The lock lies beside the work folder and is held before that exists. The kernel frees it with
    its process, also on ``kill -9``, which a file naming a process id would not show.
    """
    while True:
        handle, name = tempfile.mkstemp(
            prefix=f".{folder.name}.", suffix=_LOCK_SUFFIX, dir=folder.parent
        )
        os.close(handle)
        lock = _lock_at(Path(name))
        if _try(lock) and Path(name).exists():
            return _work_folder(Path(name)), lock
        lock.release()  # a cleaning build met the file before it was locked


def _remove_dead_builds(folder: Path) -> None:
    for path in folder.parent.glob(f".{folder.name}.*{_LOCK_SUFFIX}"):
        lock = _lock_at(path)
        with suppress(PermissionError):  # somebody else's, who will clean up
            if _try(lock):
                _remove_build(_work_folder(path))
                lock.release()


def _remove_build(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    work.with_suffix(_LOCK_SUFFIX).unlink(missing_ok=True)


def _work_folder(lock_path: Path) -> Path:
    return lock_path.with_suffix(_WORK_SUFFIX)


def _lock_at(path: Path) -> FileLock:
    """Return a lock that the kernel keeps: a file that stands for one would outlive a kill."""
    return FileLock(path, fallback_to_soft=False)


def _try(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True
