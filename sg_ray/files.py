"""Durable files: atomic writes, strict JSON of any metric or setting, content hashes."""

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import socket
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

NUM_SHOWN = 8
"""Digits of a configuration's hash in tables, sentences and names of folders."""

_LEFTOVER_NAME = re.compile(r"\..+\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)\.\w+\.tmp")
"""A temporary file, named after its target, the host and process that write it, and chance."""

_LEFTOVER_MAX_AGE_S = 86_400
"""Nothing is written for longer: what is older was left by a host that is gone."""

_BLOCK_BYTES = 2**20


@contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed over it.

    A reader, or a kill at any moment, sees the old file or the whole new one. So does a power cut,
    unless ``durable`` is turned off, for many small files that are synced or checked afterwards.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _new_beside(path)
    try:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> int:
    """Delete the temporary files that killed writers left anywhere below ``folder``; count them.

    Safe while others write there: a file goes if its process on this host is dead, or if nobody
    has touched it for a day.
    """
    dead = leftovers(folder)
    for path in dead:
        path.unlink(missing_ok=True)
    return len(dead)


def leftovers(folder: Path) -> list[Path]:
    """Return the files that ``remove_leftovers`` would delete."""
    found = (path for path in files_below(folder) if path.match(".*.tmp"))
    return [path for path in found if _is_leftover(path)]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder; what vanishes meanwhile, folders too, is passed over."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as strict JSON, atomically."""
    write_text(path, json.dumps(to_plain(value), indent=2, allow_nan=False) + "\n")


def to_plain(value: Any) -> Any:
    """Turn any metric or setting into plain JSON values.

    Tensors and numpy arrays become numbers or nested lists; enums their value; dataclasses and
    pydantic models mappings; paths strings; sets sorted lists; dates and times ISO 8601 strings.
    NaN and the infinities become None: strict JSON has no word for them.

    Raises TypeError that names the place of a value without a meaning in JSON: bytes, complex
    numbers, durations (which need a unit), classes, and whatever else is not data.
    """
    return _plain(value, "")


def _plain(value: Any, place: str) -> Any:
    """Return ``value``, found at ``place`` (``.key[index]``), as exact built-in types."""
    if isinstance(value, Enum):
        return _plain(value.value, place)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | str):
        return int(value) if isinstance(value, int) else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, date | datetime | time_of_day):
        return value.isoformat()
    if isinstance(value, Mapping):
        return _plain_mapping(value, place)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return _in_order(_plain(item, f"{place}{{}}") for item in value)
    return _plain_object(value, place)


def _plain_mapping(mapping: Mapping[Any, Any], place: str) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, item in mapping.items():
        name = _plain(key, place)
        if not isinstance(name, str | int | float):
            raise TypeError(f"cannot write a key of type {type(key).__name__} {_where(place)}")
        if str(name) in plain:
            raise TypeError(f"cannot write two keys that both read {str(name)!r} {_where(place)}")
        plain[str(name)] = _plain(item, f"{place}.{name}")
    return plain


def _plain_object(value: Any, place: str) -> Any:
    if isinstance(value, type):
        raise _no_json(value, place)
    if is_dataclass(value):
        return _plain_mapping({f.name: getattr(value, f.name) for f in fields(value)}, place)
    if hasattr(value, "model_dump"):  # pydantic
        return _plain(value.model_dump(), place)
    # numpy's durations and times would come out as bare numbers of some unit
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if not hasattr(value, "tolist") or kind in ("m", "M"):
        raise _no_json(value, place)
    try:
        items = value.tolist()
    except RuntimeError as error:  # a tensor without values, or not of one piece
        raise _no_json(value, place) from error
    return _plain(items, place)


def _no_json(value: Any, place: str) -> TypeError:
    return TypeError(f"cannot write {type(value).__name__} as JSON {_where(place)}")


def _where(place: str) -> str:
    return f"(at {place.removeprefix('.')})" if place else "(at the top)"


def _in_order(items: Iterable[Any]) -> list[Any]:
    """Sort the members of a set, by value if they have an order, else by their JSON."""
    members = list(items)
    try:
        return sorted(members)
    except TypeError:
        return sorted(members, key=lambda member: json.dumps(member, sort_keys=True))


def content_hash(value: Any, num_chars: int = 12) -> str:
    """Return the SHA-256 of ``value`` as canonical JSON, shortened to ``num_chars`` hex digits."""
    text = json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:num_chars]


def short_hash(whole: str) -> str:
    """Return a configuration's hash as people read it: what groups results is the whole."""
    return whole[:NUM_SHOWN]


def crc32_of(path: Path) -> str:
    """Return a file's CRC-32: quick, and enough against damage that nobody intended."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum = zlib.crc32(block, checksum)
    return f"{checksum:08x}"


def drop_torn_line(path: Path) -> None:
    """Cut off the last line of a journal if a kill or a full disk left it without its end."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def copy_durably(source: Path, target: Path) -> None:
    """Copy a file with its times; it is on the disk when this returns."""
    shutil.copy2(source, target)
    _sync(target)


def link_or_copy_durably(source: Path, target: Path) -> None:
    """Give a file that is on the disk, and is only ever replaced, a second name.

    Where the file system knows no such links, or the names lie on two, it is copied. Raises
    FileExistsError if there is a target.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if not source.exists():  # said of the source, whatever the file system made of it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source) from error
        copy_durably(source, target)


def rename_durably(folder: Path, target: Path) -> None:
    """Rename a folder whose files are on the disk; its names, old and new, are so as well then."""
    _sync(folder)
    folder.rename(target)
    _sync(target.parent)


def _host_tag() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_leftover(path: Path) -> bool:
    try:
        age_s = time.time() - path.lstat().st_mtime
    except FileNotFoundError:  # renamed by its writer
        return False
    name = _LEFTOVER_NAME.fullmatch(path.name)
    if path.is_symlink() or not path.is_file():
        return False
    if name is not None and name["host"] == _host_tag() and not _is_running(int(name["pid"])):
        return True
    return age_s > _LEFTOVER_MAX_AGE_S


def _is_running(pid: int) -> bool:
    import psutil  # here, for commands that write nothing start without it

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, OverflowError):  # too large a number is a name made by hand
        return False
    except psutil.AccessDenied:
        return True


def _new_beside(path: Path) -> Path:
    """Create an empty file beside ``path``, which others may read as the umask says.

    The system itself applies the umask: to ask for it is to set it, for every thread.
    """
    chance = secrets.token_hex(4)
    temporary = path.with_name(f".{path.name}.{_host_tag()}-{os.getpid()}.{chance}.tmp")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    return temporary


def _sync(path: Path) -> None:
    """Have the disk hold a file, or a folder's list of names, as far as its file system can.

    Some cannot for folders (FUSE), and say so; that is no failed write.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)
