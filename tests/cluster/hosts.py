"""Hosts made of this machine, each with an address, a name, processes and a /tmp of its own.

    with hosts("nodes", 3, shared=folder) as (head, *workers):
        head.popen(["ray", "start", "--head", ...])
        workers[0].cut()

A host is a set of Linux namespaces whose first process ends when this one does, however that
comes about; with it the kernel ends all that runs in the host and removes its network and mounts.
So nothing can be left behind, and labs of other names cannot meet. As root only.
"""

import ctypes
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from lab import ROOT

_NETWORK = "10.77.0"
"""The hosts of each lab have a network of their own, so all labs may use the same addresses."""

_GATEWAY = f"{_NETWORK}.254"
_BRIDGE = "switch"
_CLONE_NEWPID = 0x20000000
_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """One host. Its root folder is this machine's, but for /tmp, /dev/shm and /etc/hosts."""

    def __init__(
        self, name: str, address: str, tmp: Path, room: "_Room", switch: "_Room", port: str
    ) -> None:
        self.name, self.address = name, address
        self.tmp = tmp
        """Its /tmp, as seen from this process."""
        self._room, self._switch, self._port = room, switch, port

    def popen(self, command: Sequence[str | Path], **settings: Any) -> subprocess.Popen[Any]:
        """Start a command there, as ``subprocess.Popen`` does here: the process is its own."""
        return self._room.popen(command, **settings)

    def run(
        self, command: Sequence[str | Path], *, timeout_s: float = 60.0, check: bool = True
    ) -> str:
        """Run a command there and return what it prints, errors too.

        Raises RuntimeError, with that text, if it fails and ``check`` is set.
        """
        process = self.popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        try:
            printed, _ = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        if check and process.returncode != 0:
            raise RuntimeError(f"{self.name}: {shlex.join(map(str, command))}: {printed}")
        return str(printed)

    def processes(self, *titles: str) -> list[psutil.Process]:
        """Return what runs there, by command lines (Ray sets those of its own) that begin so."""
        return [one for one in self._room.processes() if _command_line(one).startswith(titles)]

    def cut(self) -> None:
        """Lose in silence whatever is sent to this host or by it."""
        self._switch.run("ip", "link", "set", self._port, "nomaster")

    def mend(self) -> None:
        """Undo ``cut``."""
        self._switch.run("ip", "link", "set", self._port, "master", _BRIDGE)

    def slow_down(self, *, delay_s: float, loss: float) -> None:
        """Have all that it sends or gets come so much later, and a share of it never.

        Its interface is another one afterwards: what was connected is not any more.
        """
        self._switch.run("ip", "link", "delete", self._port)
        _plug_in_slowly(self._room, self._switch, self._port, delay_s, loss)
        _set_address(self._room, self.address)

    def kill(self) -> None:
        """End all that runs there, at once. The host stays, and can be used again."""
        self._room.kill()

    def bind(self, source: Path, target: Path) -> None:
        """Have this host see ``source`` at ``target``; both exist."""
        self._room.run("mount", "--bind", str(source), str(target))

    def set_names(self, addresses: dict[str, str]) -> None:
        """Have this host resolve these names; its own other names are forgotten."""
        lines = ["127.0.0.1 localhost", *(f"{a} {name}" for name, a in addresses.items())]
        self._room.run("sh", "-c", f"printf '%s\\n' {shlex.join(lines)} > /etc/hosts")


@contextmanager
def hosts(prefix: str, number: int, *, shared: Path) -> Iterator[list[Host]]:
    """Yield hosts PREFIX-1, PREFIX-2 ... that reach each other by name and see folder ``shared``.

    It is at the same path on all of them, also if that lies in /tmp; so are checkout and Python.
    """
    names = {f"{prefix}-{i}": f"{_NETWORK}.{i}" for i in range(1, number + 1)}
    with ExitStack() as stack:
        own = tempfile.TemporaryDirectory(prefix=f"{prefix}-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(own))
        switch = stack.enter_context(_room(_SWITCH_SET_UP))
        made = []
        for index, (name, address) in enumerate(names.items()):
            host_folder = folder / name
            room = stack.enter_context(_room(_host_set_up(name, host_folder, shared.resolve())))
            port = f"port{index}"
            _plug_in(room, address, switch, port)
            host = Host(name, address, host_folder / "tmp", room, switch, port)
            host.set_names(names)
            made.append(host)
        yield made


_SWITCH_SET_UP = f"""
ip link add {_BRIDGE} type bridge
ip addr add {_GATEWAY}/24 dev {_BRIDGE}
ip link set {_BRIDGE} up
echo 1 > /proc/sys/net/ipv4/ip_forward
"""
"""It forwards to nowhere, so what looks for the world outside hears at once that there is none."""


def _host_set_up(name: str, folder: Path, shared: Path) -> str:
    """Return the commands that give a host its name and its folders, before it has a network."""
    tmp = folder / "tmp"
    tmp.mkdir(parents=True)
    tmp.chmod(0o1777)
    (folder / "hosts").touch()
    lines = ["ip link set lo up", f"hostname {name}", "mount -t tmpfs tmpfs /dev/shm"]
    for seen in dict.fromkeys((shared, ROOT, Path(sys.prefix), Path(sys.base_prefix))):
        if seen.is_relative_to("/tmp"):
            place = tmp / seen.relative_to("/tmp")
            place.mkdir(parents=True, exist_ok=True)
            lines.append(f"mount --bind {shlex.quote(str(seen))} {shlex.quote(str(place))}")
    hosts_file = shlex.quote(str(folder / "hosts"))
    lines += [
        f"mount --bind {hosts_file} /etc/hosts",
        f"mount --rbind {shlex.quote(str(tmp))} /tmp",
    ]
    return "\n".join(lines)


def _plug_in(room: "_Room", address: str, switch: "_Room", port: str) -> None:
    """Join a host to the switch by a pair of interfaces."""
    # Not by ``switch.run``: the number of the other's process is one among processes here.
    pair = ["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0"]
    at_switch = ["nsenter", "--target", str(switch.pid), "--net"]
    subprocess.run([*at_switch, *pair, "netns", str(room.pid)], check=True)
    switch.run("ip", "link", "set", port, "master", _BRIDGE, "up")
    _set_address(room, address)


def _plug_in_slowly(room: "_Room", switch: "_Room", port: str, delay_s: float, loss: float) -> None:
    """Join a host to the switch by a process that carries what is sent."""
    ends = [str(room.pid), "eth0", str(switch.pid), port]
    program = Path(__file__).with_name("slow_link.py")
    command = [sys.executable, program, *ends, str(delay_s), str(loss)]
    carrier = switch.popen_outside(command, stdout=subprocess.PIPE, text=True)
    assert carrier.stdout is not None
    with carrier.stdout as told:
        if told.readline() != "ready\n":
            raise RuntimeError("the slow link could not be made")
    switch.run("ip", "link", "set", port, "master", _BRIDGE, "up")


def _set_address(room: "_Room", address: str) -> None:
    # The others remember the hardware's, and would ask again only after seconds.
    hardware = f"02:00:00:00:00:{int(address.rpartition('.')[2]):02x}"
    room.run("ip", "link", "set", "eth0", "address", hardware)
    room.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
    room.run("ip", "link", "set", "eth0", "up")
    room.run("ip", "route", "add", "default", "via", _GATEWAY)


class _Room:
    """Namespaces of network, mounts, names and processes, held by their first process."""

    def __init__(self, holder: subprocess.Popen[bytes], pid: int) -> None:
        self._holder, self.pid = holder, pid
        self._inside = _namespace(pid)
        self._started: list[subprocess.Popen[Any]] = []

    def popen(self, command: Sequence[str | Path], **settings: Any) -> subprocess.Popen[Any]:
        enter = ["nsenter", "--target", str(self.pid), "--net", "--mount", "--uts", "--wd=."]
        return self.popen_outside([*enter, "--", *command], **settings)

    def popen_outside(
        self, command: Sequence[str | Path], **settings: Any
    ) -> subprocess.Popen[Any]:
        """Start what ends with the others here, yet has this process's network and mounts."""
        with _children_among_those_of(self.pid):
            process = subprocess.Popen(list(map(str, command)), **settings)
        self._started = [one for one in self._started if one.poll() is None] + [process]
        return process

    def run(self, *command: str) -> None:
        process = self.popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        printed, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{shlex.join(command)}: {printed}")

    def processes(self) -> list[psutil.Process]:
        return [one for one in psutil.process_iter() if _namespace(one.pid) == self._inside]

    def kill(self) -> None:
        self.popen(["sh", "-c", "kill -KILL -1"]).wait()
        self._reap()

    def end(self) -> None:
        assert self._holder.stdin is not None
        with suppress(BrokenPipeError):
            self._holder.stdin.close()
        self._reap()  # the first process waits until those below are gone, zombies too
        self._holder.wait()

    def _reap(self) -> None:
        for process in self._started:
            process.wait()


@contextmanager
def _room(set_up: str) -> Iterator[_Room]:
    """Yield namespaces in which the commands ``set_up`` have been run."""
    # It reads a pipe of which this process has the only other end, and lets the kernel forget
    # whoever dies there without a parent.
    first = f"set -e\n{set_up}\necho ready\nexec env --ignore-signal=CHLD cat >/dev/null"
    apart = ["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    holder = subprocess.Popen(
        ["unshare", *apart, "sh", "-c", first],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stderr is not None
    with holder.stdout as told, holder.stderr as errors:
        if told.readline() != b"ready\n":
            raise RuntimeError(f"a host could not be made: {errors.read().decode()}")
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text(encoding="ascii")
    room = _Room(holder, int(children))
    try:
        yield room
    finally:
        room.end()


def _namespace(pid: int) -> str | None:
    """Return which namespace of processes one is in; None if it has ended."""
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return None


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def _children_among_those_of(pid: int) -> Iterator[None]:
    """Have what this thread starts be born in the namespace of processes that ``pid`` is in."""
    _let_children_be_born_in(f"/proc/{pid}/ns/pid")
    try:
        yield
    finally:
        _let_children_be_born_in("/proc/self/ns/pid")


def _let_children_be_born_in(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, _CLONE_NEWPID) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)
