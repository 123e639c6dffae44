"""Why Ray did not start on this machine: causes told apart by what it raised and what is here."""

import errno
import os
import re
import resource
import shutil
import sys
from pathlib import Path

import psutil
import ray.exceptions  # a file ray.py in the way is told as what it is

from sg_ray.errors import InputError
from sg_ray.host.folders import nearest_existing, require_writable
from sg_ray.host.process_limits import room_for_processes
from sg_ray.host.processes import descendants

_NUM_NEEDED_PROCESSES = 200
"""Processes and threads of a Ray with one worker on two CPUs: 195 were counted."""
_NUM_NEEDED_FILES = 128
_LONGEST_SOCKET_PATH = 107
"""Bytes; a limit of the kernel."""
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
"""The longest that Ray puts below its temporary folder; all dates are as long."""
_PLACES = ("RAY_TMPDIR", "TMPDIR")
_MIB = 2**20
_LITTLE_MIB = 200
_LEAST_MIB = 10
_SHARED_MEMORY = Path("/dev/shm")
_UNQUOTED = frozenset("'\\\n")
"""What Ray leaves as it is in the command of its workers, and its node process reads as syntax."""
_LATE = ("timed out", "failed to start gcs", "timeout", "persisted port")
_USUAL = {
    "RAY_USAGE_STATS_ENABLED",
    "RAY_prestart_worker_first_driver",
    "RAY_CHDIR_TO_TRIAL_DIR",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_TMPDIR",
    "RAY_CLIENT_MODE",
}
"""Variables that Ray or this program sets, or that have words of their own."""
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_RAISED = re.compile(r"[A-Za-z_][\w.]*(:|$)")
"""How the last line of a traceback begins: the exception's name, not set in."""


class TooLateError(InputError):
    """Ray needed more time than it had, more than once."""


class NodeDiedError(Exception):
    """Ray's node process has ended, and Ray would wait for it."""

    def __init__(self) -> None:
        super().__init__("its node process (raylet) ended while it started")


def node_is_alive() -> bool:
    """Return True if a node process of Ray runs below this one."""
    return any(_name(process) == "raylet" for process in descendants())


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:  # it has ended
        return ""


def refuse_what_cannot_hold_ray() -> None:
    """Raise InputError, by name, for limits with which Ray would fail late or without a word.

    Nothing is said or done in a process that runs Ray already.
    """
    if ray.is_initialized():
        return
    _refuse_paths_with_quotes()
    if shutil.which("bash") is None:
        raise InputError(
            "bash is in no folder of PATH, and Ray starts its workers by it: without it none would "
            "ever begin. Install it, or add its folder to PATH."
        )
    _refuse_few_processes()
    _refuse_few_files()
    folder = temporary_folder()
    if not str(folder).isascii():
        raise InputError(
            f"Ray's temporary folder {folder} ({_setter()}) has characters beyond ASCII, which Ray "
            "cannot take there. Set RAY_TMPDIR to another, such as RAY_TMPDIR=/tmp."
        )
    length = len(os.fsencode(folder / _SOCKET.format(pid=os.getpid())))
    if length > _LONGEST_SOCKET_PATH:
        raise InputError(
            f"Ray's temporary folder {folder} ({_setter()}) has too long a name: paths of sockets "
            f"may have {_LONGEST_SOCKET_PATH} bytes, and those below it would have {length}. Set "
            "RAY_TMPDIR to a shorter one, such as RAY_TMPDIR=/tmp."
        )
    require_writable(folder / "ray", "RAY_TMPDIR")
    _refuse_full(folder)
    if _SHARED_MEMORY.is_dir() and not os.access(_SHARED_MEMORY, os.W_OK):
        raise InputError(f"{_SHARED_MEMORY} cannot be written, and Ray keeps its objects there.")


def temporary_folder() -> Path:
    """Return the folder in which Ray keeps its sessions: RAY_TMPDIR, TMPDIR or ``/tmp``.

    Ray itself takes an empty variable for the working folder, and fails below a relative path.
    """
    given = (os.environ.get(name) for name in _PLACES)
    return Path(next(filter(None, given), "/tmp")).absolute()


def first_words(error: BaseException) -> str:
    """Return the line of an error's message that says most, without colours.

    Ray may quote a log: then that is its last line about an error.
    """
    lines = [line.rstrip() for line in without_colours(str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    raised = [line for line in lines[1:] if _RAISED.match(line)]
    said = raised[-1] if raised and lines[0].startswith("The last ") else lines[0]
    return said.strip()


def without_colours(text: str) -> str:
    """Return ``text`` without the codes by which a terminal colours it."""
    return _COLOUR.sub("", text)


def is_late(error: BaseException) -> bool:
    """Return True if Ray gave up waiting, which more time may mend."""
    return any(sign in str(error).lower() for sign in _LATE)


def why_not_started(error: BaseException) -> str:
    """Return, for the user, why a Ray of this machine's own did not start, and what to do."""
    known = _by_error_number(error) if isinstance(error, OSError) else None
    if known is not None:
        return known
    logs = temporary_folder() / "ray/session_latest/logs"
    more = f" {logs} tells more." if isinstance(error, NodeDiedError) else ""
    return f"Ray did not start on this machine: {first_words(error)}.{_suspects()}{more}"


def why_too_late(error: BaseException, waited_s: float, num_tries: int) -> str:
    """Return, for the user, that Ray needed more time than it had, more than once."""
    return (
        f"Ray did not start on this machine, tried {num_tries} times in {waited_s:.0f} s "
        f"({first_words(error)}).{_suspects()} If the machine is busy, try again when it is less "
        f"so; {temporary_folder() / 'ray/session_latest/logs'} tells more."
    )


def _by_error_number(error: OSError) -> str | None:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return _few_files()
    if error.errno == errno.EAGAIN:
        return f"Ray could start no more processes or threads ({error.strerror}).{_suspects()}"
    if error.filename is None or error.errno is None:
        return None
    place = Path(os.fsdecode(error.filename))
    advice = f"set RAY_TMPDIR to a folder that can be written (it is {temporary_folder()})"
    token = Path("~/.ray/auth_token").expanduser()
    if token.is_relative_to(place):
        advice = "Ray needs a writable HOME, for its token"
    return f"Ray did not start on this machine: {place}: {error.strerror}; {advice}."


def _refuse_paths_with_quotes() -> None:
    move = "Move the checkout with its .venv to another folder"
    change = "Set RAY_TMPDIR to another folder, such as RAY_TMPDIR=/tmp"
    own = {sys.executable: move, ray.__file__: move, str(temporary_folder()): change}
    for path, advice in own.items():
        if set(path) & _UNQUOTED:
            raise InputError(
                f"a quote, a backslash or a line feed is in the path {path!r}: Ray cannot start "
                f"its workers there. {advice}."
            )


def _refuse_few_processes() -> None:
    room = room_for_processes()
    if room is not None and room.num_left < _NUM_NEEDED_PROCESSES:
        raise InputError(
            f"too few processes are allowed: {room.limit} leaves {max(0, room.num_left)} more "
            f"processes and threads, and Ray takes about {_NUM_NEEDED_PROCESSES}. Raise the limit "
            "(ulimit -u, or the container's), or end other programs of this user."
        )


def _refuse_few_files() -> None:
    if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < _NUM_NEEDED_FILES:
        raise InputError(_few_files())


def _few_files() -> str:
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"too few open files are allowed (ulimit -Hn is {allowed}) for Ray, which takes at least "
        f"{_NUM_NEEDED_FILES}. Raise the limit."
    )


def _refuse_full(folder: Path) -> None:
    free_mib = shutil.disk_usage(nearest_existing(folder)).free // _MIB
    if free_mib < _LEAST_MIB:
        raise InputError(
            f"Ray's temporary folder {folder} ({_setter()}) has {free_mib} MB free, too little for "
            "its logs. Free some, or set RAY_TMPDIR to a larger disk."
        )


def _setter() -> str:
    return next((name for name in _PLACES if os.environ.get(name)), "the default")


def _suspects() -> str:
    """Name what is unusual here and may be the cause; each in a sentence."""
    return "".join(
        f" {sentence}" for sentence in [*_tight_limits(), *_full_folders(), *_set_here()]
    )


def _tight_limits() -> list[str]:
    found = []
    room = room_for_processes()
    if room is not None and room.num_left < 2 * _NUM_NEEDED_PROCESSES:
        found.append(f"{room.limit} leaves {max(0, room.num_left)} more processes and threads.")
    for name, kind in (("ulimit -v", resource.RLIMIT_AS), ("ulimit -f", resource.RLIMIT_FSIZE)):
        allowed, _ = resource.getrlimit(kind)
        if allowed != resource.RLIM_INFINITY:
            found.append(f"{name} is {allowed // 1024} KiB, which Ray may exceed.")
    return found


def _full_folders() -> list[str]:
    found = []
    for folder in (_SHARED_MEMORY, temporary_folder()):
        try:
            free_mib = shutil.disk_usage(folder).free // _MIB
        except OSError as error:
            found.append(f"{folder}: {error.strerror}.")
            continue
        if free_mib < _LITTLE_MIB:
            found.append(f"{folder} has {free_mib} MB free.")
    return found


def _set_here() -> list[str]:
    names = sorted(name for name in os.environ if name.startswith("RAY_") and name not in _USUAL)
    return [f"These variables are set: {', '.join(names)}."] if names else []
