"""A SLURM of Debian's packages on hosts of a lab: a host to log in to, and compute nodes.

    with slurm_cluster(folder, num_nodes=2) as cluster:
        cluster.run_as(USERS[0], ["sbatch", "job.sh"])

Its daemons, key, sockets, state and configuration are its own, and so are its users: they are in
the hosts' /etc/passwd alone, not in this machine's.
"""

import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hosts import Host, hosts
from lab import ROOT

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "setpriv")
NUM_CPUS = 2
"""Of each node; so many are used if this machine has fewer, too."""
NODE_MEMORY_MB = 6000
SLURMD_TIMEOUT_S = 20
_PATIENCE_S = 60.0
_CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={controller}({controller_address})
SlurmUser=root
AuthType=auth/munge
# A job that is queued again waits for as long as a credential is valid; by default 120 s.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
# A node that is gone is noticed after 300 s by default.
SlurmdTimeout={slurmd_timeout_s}
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5
GresTypes=gpu
"""


@dataclass(frozen=True)
class User:
    """Somebody who may use the cluster, and nothing else of the machine."""

    name: str
    number: int


USERS = (User("slurmlab-a", 64101), User("slurmlab-b", 64102))


@dataclass(frozen=True)
class Cluster:
    """A running SLURM. ``login`` runs no jobs; ``nodes`` are called as in ``nodes[0].name``."""

    folder: Path
    login: Host
    nodes: tuple[Host, ...]

    def home(self, user: User) -> Path:
        """Return a user's own folder, which all hosts share."""
        return self.folder / user.name

    def environment(self, user: User) -> dict[str, str]:
        """Return what a user's shell has set."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home(user)),
            "USER": user.name,
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }

    def run_as(self, user: User, command: Sequence[str | Path], *, timeout_s: float = 90) -> str:
        """Run a command of a user on the login host, in its home; return what it prints.

        Raises RuntimeError, with that text, if it fails.
        """
        as_user = [f"--reuid={user.number}", f"--regid={user.number}", "--clear-groups"]
        process = self.login.popen(
            ["setpriv", *as_user, "--", *command],
            env=self.environment(user), cwd=self.home(user), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            printed, _ = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        if process.returncode != 0:
            raise RuntimeError(f"{shlex.join(map(str, command))}: {printed}")
        return str(printed)

    def job(self, number: int) -> dict[str, str]:
        """Return what SLURM says of a job, e.g. ``JobState`` and ``Restarts``."""
        shown = self.run_as(USERS[0], ["scontrol", "--oneliner", "show", "job", str(number)])
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)

    def start_node(self, host: Host) -> None:
        """Start SLURM's daemon on a node."""
        self._start(host, "slurmd", "-D", "-N", host.name)

    def _start(self, host: Host, *command: str) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            host.popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                cwd="/", env={**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")},
            )  # fmt: skip


@contextmanager
def slurm_cluster(folder: Path, *, num_nodes: int) -> Iterator[Cluster]:
    """Start a SLURM whose nodes can take jobs, for the length of the block.

    ``folder`` is what its hosts share. Raises RuntimeError if it does not start.
    """
    folder.chmod(0o755)
    with hosts("slurmlab", num_nodes + 1, shared=folder) as (login, *nodes):
        cluster = Cluster(folder, login, tuple(nodes))
        _write_configuration(cluster)
        _write_users(cluster)
        for host in (login, *nodes):
            host.bind(folder / "passwd", Path("/etc/passwd"))
            host.bind(folder / "group", Path("/etc/group"))
            _let_everybody_reach(host, folder, Path(sys.executable).resolve().parents[1])
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        files = {"key-file": key, "pid-file": folder / "munged.pid"}
        files |= {"socket": folder / "munge.socket", "seed-file": folder / "munge.seed"}
        options = [f"--{name}={path}" for name, path in files.items()]
        cluster._start(login, "munged", "--foreground", *options, f"--log-file={folder}/munged.log")
        wait_until((folder / "munge.socket").exists, "munged")
        cluster._start(login, "slurmctld", "-D")
        for node in nodes:
            cluster.start_node(node)
        wait_until(lambda: _all_idle(cluster), "all nodes idle")
        yield cluster


def wait_until(is_so: Callable[[], bool], what: str, *, within_s: float = _PATIENCE_S) -> float:
    """Return after how many seconds it was so. Raises TimeoutError that says what was not."""
    started = time.monotonic()
    while not is_so():
        if time.monotonic() - started > within_s:
            raise TimeoutError(f"not within {within_s:.0f} s: {what}")
        time.sleep(0.3)
    return time.monotonic() - started


def _write_configuration(cluster: Cluster) -> None:
    folder, login = cluster.folder, cluster.login
    text = _CONFIGURATION.format(
        controller=login.name, controller_address=login.address, folder=folder,
        slurmd_timeout_s=SLURMD_TIMEOUT_S,
    )  # fmt: skip
    for node in cluster.nodes:
        text += f"NodeName={node.name} NodeAddr={node.address} CPUs={NUM_CPUS} "
        text += f"RealMemory={NODE_MEMORY_MB} Gres=gpu:2\n"
    text += "PartitionName=lab Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
    (folder / "slurm.conf").write_text(text)
    pretended = [folder / "gpu0", folder / "gpu1"]
    for path in pretended:
        path.touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1] Flags=nvidia_gpu_env\n")
    (folder / "state").mkdir()


def _write_users(cluster: Cluster) -> None:
    people, groups = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
    for user in USERS:
        home = cluster.home(user)
        home.mkdir()
        os.chown(home, user.number, user.number)
        people += f"{user.name}:x:{user.number}:{user.number}::{home}:/bin/bash\n"
        groups += f"{user.name}:x:{user.number}:\n"
    (cluster.folder / "passwd").write_text(people)
    (cluster.folder / "group").write_text(groups)


def _let_everybody_reach(host: Host, folder: Path, place: Path) -> None:
    """Have the users of a host see ``place`` even if it lies in a folder that is closed to them."""
    closed = next((p for p in reversed(place.parents) if not p.stat().st_mode & 0o001), None)
    if closed is None:
        return
    aside = folder / "python"
    aside.mkdir(exist_ok=True)
    words = [shlex.quote(str(path)) for path in (place, aside, closed)]
    place_word, aside_word, closed_word = words
    host.run(
        ["sh", "-ec", f"mount --bind {place_word} {aside_word}; "
         f"mount -t tmpfs -o mode=755 tmpfs {closed_word}; mkdir -p {place_word}; "
         f"mount --bind {aside_word} {place_word}"]
    )  # fmt: skip


def _all_idle(cluster: Cluster) -> bool:
    try:
        shown = cluster.run_as(USERS[0], ["sinfo", "--noheader", "--format=%t %D"])
    except RuntimeError:  # the controller does not answer yet
        return False
    return shown.split() == ["idle", str(len(cluster.nodes))]
