"""`ray up` with clusters/own-machines.yaml over real sshd, then sweeps as its manual has them.

A laptop, a head and a worker. The environment is not installed there but made of the one that runs
the lab, as somebody does who has prepared .venv: `make install` sees its stamp and does nothing.
"""

import json
import re
import sys
import time
import venv
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import ROOT, Line, missing_namespaces, missing_programs
from ssh_hosts import HOME, SshHost, ssh_hosts

TITLE = "ray up over sshd: the plain command on the head, one line from the laptop, ray down"
PARTS = ("plain", "exec", "job", "stop")

PROJECT = HOME / "sg-ray"
CLUSTER = HOME / "own-machines.yaml"
SIZE = (
    "families=[gnn] data.num_samples=240 lr_range.enabled=false search.num_trials=2 "
    "replicate.top_k=1 replicate.seeds=[42] replicate.max_seeds=null replicate.variance_seeds=0 "
    "models.gnn.config.num_layers=1 models.gnn.config.hidden_dim=16 "
    "models.gnn.config.graphs.vocab_size=400 models.gnn.config.epochs=2"
)
LIMIT_S = 280.0
"""For a command: ten times what each takes on an idle machine, `ray up` apart (40 s)."""


def missing() -> str | None:
    """Return what this machine lacks."""
    programs = ("sshd", "ssh", "ssh-keygen", "rsync", "tmux", "make", "pgrep")
    return missing_programs(*programs) or missing_namespaces()


def run(folder: Path, parts: Collection[str] = ()) -> Iterator[Line]:
    """Bring a cluster up, run sweeps on it in each of the ways, bring it down."""
    wanted = parts or PARTS
    with ssh_hosts("rayup", 3, shared=folder) as (laptop, head, worker):
        lab = _Lab(folder, laptop, head, worker)
        yield lab.up()
        ways: dict[str, Callable[[], Iterator[Line]]] = {
            "plain": lab.plain,
            "exec": lab.one_line,
            "job": lab.job,
            "stop": lab.stop_a_job,
        }
        for part in PARTS:
            if part in wanted:
                yield from ways[part]()
        yield lab.fetched()
        yield from lab.down()


@dataclass(frozen=True)
class _Lab:
    folder: Path
    laptop: SshHost
    head: SshHost
    worker: SshHost

    def up(self) -> Line:
        """Prepare the machines as the manual asks for it, and start the cluster."""
        for machine in (self.head, self.worker):
            self._prepare(machine)
        _write_cluster(self.laptop, self.head, self.worker)
        self._ray("get-auth-token", "--generate")
        began = time.monotonic()
        self._ray("up", "-y", str(CLUSTER))
        up_s = time.monotonic() - began
        status = self._wait_for_both_nodes()
        both_s = time.monotonic() - began
        return Line(
            "ray up",
            f"the head in {up_s:.0f} s, the worker after {both_s:.0f} s",
            is_ok="4.0 CPU" in status or len(re.findall(r"node_[0-9a-f]+", status)) == 2,
        )

    def plain(self) -> Iterator[Line]:
        """Type the plain command on the head, in a shell and as `ssh HEAD COMMAND`."""
        said = self._on_head(f"cd sg-ray && python experiments/sweep.py name=plain {SIZE}")
        machines = said.splitlines()[0]
        ok = re.fullmatch(r"machines: cluster at [0-9.]+:6379, 2 nodes, \d+ CPUs, 0 GPUs", machines)
        yield Line("python experiments/sweep.py on the head", machines, is_ok=ok is not None)
        yield self._complete("plain")
        local = self._on_head(
            f"cd sg-ray && python experiments/sweep.py --dry-run --address local name=plain {SIZE}"
        )
        here = local.splitlines()[0]
        yield Line("--address local", here, is_ok=here.startswith("machines: this one"))
        yield self._private_ports()

    def one_line(self) -> Iterator[Line]:
        """Give one line on the laptop; the sweep goes on without it."""
        sweep = f"cd sg-ray && python experiments/sweep.py name=line {SIZE}"
        began = time.monotonic()
        self._ray("exec", "--tmux", str(CLUSTER), sweep)
        back_s = time.monotonic() - began
        self._wait_for_report("line")
        yield Line(
            "ray exec --tmux", f"is back after {back_s:.0f} s, the sweep goes on", is_ok=True
        )
        yield self._complete("line")

    def job(self) -> Iterator[Line]:
        """Submit a job by the tunnel that `ray dashboard` makes."""
        with self._tunnel():
            said = self._submit("job", "--", "python", "experiments/sweep.py", "name=job")
        first = next((one for one in said.splitlines() if one.startswith("machines:")), said[-500:])
        yield Line("ray job submit", first, is_ok="2 nodes" in first and "succeeded" in said)
        yield self._complete("job")

    def stop_a_job(self) -> Iterator[Line]:
        raise NotImplementedError

    def fetched(self) -> Line:
        """Fetch all results."""
        self._ray("rsync-down", str(CLUSTER), "sg-ray/outputs/", f"{HOME}/outputs/")
        names = sorted(path.name for path in (self.laptop.home / "outputs").glob("*/report.html"))
        reports = sorted(
            p.parent.name for p in (self.laptop.home / "outputs").glob("*/report.html")
        )
        return Line("ray rsync-down", f"reports of {', '.join(reports)}", is_ok=bool(names))

    def down(self) -> Iterator[Line]:
        """End the cluster."""
        self._ray("down", "-y", str(CLUSTER))
        left = self._raylets(self.head)
        yield Line("ray down", f"raylets left on the head: {left}", is_ok=left == 0)
        refused = self._on_head(
            f"cd sg-ray && python experiments/sweep.py --dry-run name=later {SIZE} || true"
        )
        told = refused.strip().splitlines()[-1]
        ok = "RAY_ADDRESS=127.0.0.1:6379" in told and "--address local" in told
        yield Line("a sweep after it", told, is_ok=ok)

    def _prepare(self, machine: SshHost) -> None:
        """Give a machine .venv and the folder of results that all of them share."""
        project = machine.home / PROJECT.name
        project.mkdir()
        _make_environment(project / ".venv")
        shared = self.folder / "outputs"
        shared.mkdir(exist_ok=True)
        (project / "outputs").mkdir()
        machine.host.bind(shared, PROJECT / "outputs")

    def _ray(self, *arguments: str, timeout_s: float = LIMIT_S) -> str:
        """Run a command of Ray's on the laptop, in the checkout."""
        ray = Path(sys.executable).parent / "ray"
        log = self.folder / "laptop.log"
        return self.laptop.run([ray, *arguments], cwd=ROOT, timeout_s=timeout_s, log=log)

    def _on_head(self, line: str) -> str:
        return self.laptop.ssh(self.head, line, timeout_s=LIMIT_S, log=self.folder / "head.log")

    def _wait_for_both_nodes(self) -> str:
        def status() -> str:
            said = self._on_head("ray status")
            return said if len(re.findall(r"^ 1 ", said, re.MULTILINE)) else ""

        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            said = self._on_head("ray status")
            if "/4.0 CPU" in said:
                return said
            time.sleep(2)
        return said

    def _wait_for_report(self, name: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        report = self.folder / "outputs" / name / "report.html"
        while not report.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{report}: not there after {LIMIT_S:g} s")
            time.sleep(1)

    def _complete(self, name: str) -> Line:
        """Look at a sweep's records: all trained, and on both machines if they say on which."""
        records = [
            json.loads(path.read_text(encoding="utf-8"))
            for path in (self.folder / "outputs" / name / "records").glob("*.json")
        ]
        failed = [record for record in records if record["status"] != "complete"]
        return Line(
            f"records of {name}", f"{len(records)} trials, {len(failed)} failed",
            is_ok=bool(records) and not failed,
        )  # fmt: skip

    def _private_ports(self) -> Line:
        """From another machine, neither dashboard nor MLflow answers; on the head both do."""
        raise NotImplementedError

    def _raylets(self, machine: SshHost) -> int:
        found = machine.host.run(["pgrep", "-c", "-x", "raylet"], check=False)
        return int(found)


def _write_cluster(laptop: SshHost, head: SshHost, worker: SshHost) -> None:
    """Change the lines of the file that are marked as the user's."""
    text = (ROOT / "clusters" / "own-machines.yaml").read_text(encoding="utf-8")
    yours = {
        "head_ip": head.name,
        "worker_ips": f"[{worker.name}]",
        "ssh_user": "root",
    }
    for key, value in yours.items():
        text, count = re.subn(rf"^(\s*{key}:) .*  # yours.*$", rf"\1 {value}", text, flags=re.M)
        assert count == 1, key
    (laptop.home / CLUSTER.name).write_text(text, encoding="utf-8")


def _make_environment(folder: Path) -> None:
    """Make a .venv that has the packages of the one that runs this, and the project beside it."""
    venv.create(folder, symlinks=True)
    here = Path(sys.executable).parent
    python = PROJECT / ".venv" / "bin" / "python"
    packages = next(iter((folder / "lib").glob("python*/site-packages")))
    others = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "lab.pth").write_text(f"{PROJECT}\n{others}\n")
    for name in ("ray", "sg-ray"):
        script = (here / name).read_text(encoding="utf-8").split("\n", 1)[1]
        (folder / "bin" / name).write_text(f"#!{python}\n{script}")
        (folder / "bin" / name).chmod(0o755)
    (folder / ".run").touch()
