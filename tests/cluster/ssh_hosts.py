"""Hosts with an ssh server each and a home folder of their own: what `ray up` works on.

The user is root, whose home is in the host's own /tmp, with the dotfiles that a new user gets. All
have one key, so each may log in to each.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hosts import Host, hosts

HOME = Path("/tmp/home")
"""Of the user, on each host."""

_SSHD = "/usr/sbin/sshd"
_CONFIG = """
HostKey /tmp/ssh_host_key
AuthorizedKeysFile /tmp/home/.ssh/authorized_keys
PermitRootLogin yes
PasswordAuthentication no
StrictModes no
UsePAM no
PrintMotd no
Subsystem sftp internal-sftp
PidFile none
"""
_ANSWERS_WITHIN_S = 20.0


class SshHost:
    """A host whose user has logged in."""

    def __init__(self, host: Host) -> None:
        self.host, self.name, self.address = host, host.name, host.address
        self.home = host.tmp / HOME.relative_to("/tmp")
        """The user's home, as seen from this process."""

    @property
    def environment(self) -> dict[str, str]:
        """What a new login has: nothing of this process but the language and where programs are."""
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL") if name in os.environ}
        programs = f"{Path(sys.executable).resolve().parent}:/usr/local/bin:/usr/bin:/bin"
        return {**kept, "HOME": str(HOME), "USER": "root", "PATH": programs, "SHELL": "/bin/bash"}

    def popen(
        self, command: Sequence[str | Path], *, cwd: Path = HOME, log: Path
    ) -> "subprocess.Popen[bytes]":
        """Start a command of the user's there; what it prints goes to ``log``."""
        with log.open("wb") as out:
            return self.host.popen(
                ["env", "-C", cwd, *command], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def run(
        self, command: Sequence[str | Path], *, cwd: Path = HOME, timeout_s: float, log: Path
    ) -> str:
        """Run a command of the user's there; return what it printed. Raises RuntimeError."""
        process = self.popen(command, cwd=cwd, log=log)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            process.kill()
            process.wait()
        printed = log.read_text(encoding="utf-8", errors="replace")
        if code != 0:
            ended = "did not end" if code is None else f"ended with {code}"
            raise RuntimeError(f"{self.name}: {' '.join(map(str, command))} {ended}:\n{printed}")
        return printed

    def ssh(self, other: "SshHost", line: str, *, timeout_s: float, log: Path) -> str:
        """Run a line in another host's shell, as `ssh HOST LINE` does."""
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        command = ["ssh", *options, "-o", "LogLevel=ERROR", f"root@{other.name}", line]
        return self.run(command, timeout_s=timeout_s, log=log)


@contextmanager
def ssh_hosts(prefix: str, number: int, *, shared: Path) -> Iterator[list[SshHost]]:
    """Yield hosts as of ``hosts``, with sshd on port 22 of each."""
    with hosts(prefix, number, shared=shared) as made:
        key = shared / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        users = [_with_user(host, key) for host in made]
        key.unlink()
        for user in users:
            _start_sshd(user)
        yield users


def _with_user(host: Host, key: Path) -> SshHost:
    user = SshHost(host)
    shutil.copytree("/etc/skel", user.home)
    keys = user.home / ".ssh"
    keys.mkdir(mode=0o700)
    shutil.copy(key, keys / "id_ed25519")
    shutil.copy(key.with_suffix(".pub"), keys / "authorized_keys")
    # A login has the Python that runs this lab, as a user's who has installed one.
    python = Path(sys.executable).resolve().parent
    with (user.home / ".profile").open("a", encoding="utf-8") as profile:
        profile.write(f'\nPATH="{python}:$PATH"\n')
    users = Path("/etc/passwd").read_text(encoding="utf-8").splitlines()
    others = [line for line in users if not line.startswith("root:")]
    passwd = host.tmp / "passwd"
    passwd.write_text("\n".join([f"root:x:0:0:root:{HOME}:/bin/bash", *others]) + "\n")
    host.bind(Path("/tmp/passwd"), Path("/etc/passwd"))
    return user


def _start_sshd(user: SshHost) -> None:
    host = user.host
    host.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])
    host.run(["mkdir", "/run/sshd"])
    host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/tmp/ssh_host_key"])
    (host.tmp / "sshd_config").write_text(_CONFIG)
    log = host.tmp / "sshd.log"
    with log.open("wb") as out:
        host.popen(
            [_SSHD, "-D", "-e", "-f", "/tmp/sshd_config"],
            env={"PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    deadline = time.monotonic() + _ANSWERS_WITHIN_S
    while b"listening on" not in log.read_bytes():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{host.name}: sshd: {log.read_text()}")
        time.sleep(0.1)
