"""`ray up` with clusters/own-machines.yaml over real sshd, then sweeps as its manual has them.

A laptop, a head and a worker. The environment is not installed there but made of the one that runs
the lab, as somebody does who has prepared .venv: `make install` sees its stamp and does nothing.
"""

import json
import re
import shlex
import sys
import time
import venv
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from lab import ROOT, Line, missing_namespaces, missing_programs
from ssh_hosts import HOME, SshHost, ssh_hosts

TITLE = "ray up over sshd: the plain command on the head, one line from the laptop, ray down"
PARTS = ("plain", "exec", "job", "rayjob", "stop")

RAY = Path(sys.executable).parent / "ray"
PROJECT = HOME / "sg-ray"
CLUSTER = HOME / "own-machines.yaml"
DASHBOARD = "http://127.0.0.1:8265"
SWEEP = "python experiments/sweep.py"
SIZE = (
    "families=[gnn] data.num_samples=240 lr_range.enabled=false search.num_trials=2 "
    "replicate.top_k=1 replicate.seeds=[42] replicate.max_seeds=null replicate.variance_seeds=0 "
    "models.gnn.config.num_layers=1 models.gnn.config.hidden_dim=16 "
    "models.gnn.config.graphs.vocab_size=400 models.gnn.config.epochs=2"
)
LONG = (
    SIZE.replace("epochs=2", "epochs=150").replace("num_samples=240", "num_samples=1200")
    + " search.pruning.enabled=false models.gnn.config.early_stopping_patience=null"
    " models.gnn.config.collapse_patience=null"
)
"""So long that a stop, which takes 10 s to get there, meets a trial."""
LIMIT_S = 400.0
"""For a command: ten times what the longest takes here."""


def missing() -> str | None:
    """Return what this machine lacks."""
    programs = ("sshd", "ssh", "ssh-keygen", "rsync", "tmux", "make", "pgrep", "curl")
    return missing_programs(*programs) or missing_namespaces()


def run(folder: Path, parts: Collection[str] = ()) -> Iterator[Line]:
    """Bring a cluster up, run sweeps on it in each of the ways, bring it down."""
    with ssh_hosts("rayup", 3, shared=folder) as (laptop, head, worker):
        lab = _Lab(folder, laptop, head, worker)
        yield lab.up()
        ways = (lab.plain, lab.one_line, lab.job, lab.job_as_of_kubernetes, lab.stop_a_job)
        for name, way in zip(PARTS, ways, strict=True):
            if not parts or name in parts:
                yield from way()
        yield lab.fetched()
        yield from lab.down()


@dataclass(frozen=True)
class _Lab:
    folder: Path
    """All of the hosts see it."""
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
        self._wait_until(lambda: " 2 local.cluster.node" in self._on_head("ray status"))
        both_s = time.monotonic() - began
        return Line("ray up", f"a head in {up_s:.0f} s, a worker after {both_s:.0f} s", is_ok=True)

    def plain(self) -> Iterator[Line]:
        """Type the plain command on the head."""
        said = self._on_head(f"cd sg-ray && {SWEEP} name=plain {SIZE}")
        first = said.splitlines()[0]
        ok = re.fullmatch(r"machines: cluster at [0-9.]+:6379, 2 nodes, \d+ CPUs, 0 GPUs", first)
        yield Line("the plain command on the head", first, is_ok=ok is not None)
        yield self._complete("plain")
        said = self._on_head(f"cd sg-ray && {SWEEP} --dry-run --address local name=plain {SIZE}")
        first = said.splitlines()[0]
        yield Line("--address local", first, is_ok=first.startswith("machines: this one ("))
        yield self._private_pages()

    def one_line(self) -> Iterator[Line]:
        """Give one line on the laptop; the sweep goes on without it."""
        began = time.monotonic()
        sweep = f"cd sg-ray && {SWEEP} name=line {SIZE}"
        self._ray("exec", "--tmux", str(CLUSTER), sweep)
        back_s = time.monotonic() - began
        report = self.folder / "outputs" / "line" / "report.html"
        is_first = not report.exists()
        self._wait_until(report.exists)
        told = f"back after {back_s:.0f} s, the sweep goes on without the laptop"
        yield Line("ray exec --tmux", told, is_ok=is_first)
        yield self._complete("line")
        servers = self._servers()
        self._ray("up", "-y", str(CLUSTER))
        told = "the same processes" if self._servers() == servers else "others"
        yield Line(
            "ray up once more", told, is_ok=told == "the same processes" and len(servers) > 1
        )

    def job(self) -> Iterator[Line]:
        """Submit a job by the tunnel that `ray dashboard` makes."""
        with self._tunnel():
            said = self._job("submit", "--", *SWEEP.split(), "name=job", *SIZE.split())
        first = next((one for one in said.splitlines() if one.startswith("machines:")), said[-500:])
        yield Line("ray job submit", first, is_ok=" 2 nodes," in first and "succeeded" in said)
        yield self._complete("job")

    def job_as_of_kubernetes(self) -> Iterator[Line]:
        """Submit what clusters/kuberay.yaml has KubeRay submit, here and of this size."""
        text = (ROOT / "clusters" / "kuberay.yaml").read_text(encoding="utf-8")
        (spec,) = (one["spec"] for one in yaml.safe_load_all(text) if one["kind"] == "RayJob")
        environment = spec["runtimeEnvYAML"].replace("/shared/sg-ray", str(PROJECT))
        (self.laptop.home / "environment.yaml").write_text(environment)
        shell, option, line = shlex.split(spec["entrypoint"].replace("/shared", str(HOME)))
        line = f"{line.partition(' experiments/prod')[0]} name=rayjob {SIZE}"
        options = ["--runtime-env", f"{HOME}/environment.yaml"]
        with self._tunnel():
            said = self._job("submit", *options, "--", shell, option, line)
        told = "succeeded" if "succeeded" in said else said[-500:]
        yield Line("the job of clusters/kuberay.yaml", told, is_ok=told == "succeeded")
        yield self._complete("rayjob")

    def stop_a_job(self) -> Iterator[Line]:
        """Stop a job in the middle of a trial, then go on with its sweep."""
        sweep = [*SWEEP.split(), "name=stopped", *LONG.split()]
        with self._tunnel():
            self._job("submit", "--no-wait", "--submission-id", "stopped", "--", *sweep)
            self._wait_until(lambda: len(self._epochs("stopped")) > 5)
            began = time.monotonic()
            self._job("stop", "stopped")
            took_s = time.monotonic() - began
            said = self._job("logs", "stopped")
        is_saved = "positions saved" in said or "position saved" in said
        told = "positions saved" if is_saved else said[-500:]
        yield Line("ray job stop", f"{told}, {took_s:.0f} s", is_ok=is_saved)
        before = len(self._epochs("stopped"))
        self._on_head(f"cd sg-ray && {SWEEP} --resume stopped")
        yield self._complete("stopped")
        epochs = self._epochs("stopped")
        num_twice = len(epochs) - len(set(epochs))
        told = f"{before} epochs before it, {len(epochs) - before} after it, {num_twice} twice"
        yield Line("the sweep goes on", told, is_ok=before < len(epochs) and num_twice == 0)

    def fetched(self) -> Line:
        """Fetch all results."""
        self._ray("rsync-down", str(CLUSTER), "sg-ray/outputs/", f"{HOME}/outputs/")
        here, there = (
            sorted(path.relative_to(outputs).as_posix() for path in outputs.glob("*/report.html"))
            for outputs in (self.laptop.home / "outputs", self.folder / "outputs")
        )
        return Line("ray rsync-down", ", ".join(here), is_ok=here == there != [])

    def down(self) -> Iterator[Line]:
        """End the cluster; what is typed on the head afterwards is told, and runs nowhere."""
        self._ray("down", "-y", str(CLUSTER))
        left = int(self.head.host.run(["pgrep", "-c", "-x", "raylet"], check=False))
        yield Line("ray down", f"raylets left on the head: {left}", is_ok=left == 0)
        said = self._on_head(f"cd sg-ray && {SWEEP} name=later {SIZE} || true").splitlines()[-1]
        ok = said.startswith("error: RAY_ADDRESS=127.0.0.1:6379: no") and "--address local" in said
        yield Line("the plain command after it", said, is_ok=ok)

    def _prepare(self, machine: SshHost) -> None:
        """Give a machine .venv and the folder of results that all of them share."""
        project = machine.home / PROJECT.name
        _make_environment(project / ".venv")
        shared = self.folder / "outputs"
        shared.mkdir(exist_ok=True)
        (project / "outputs").mkdir()
        machine.host.bind(shared, PROJECT / "outputs")

    def _ray(self, *arguments: str) -> str:
        """Run a command of Ray's on the laptop, in the checkout."""
        command = ["env", "RAY_AUTH_MODE=token", RAY, *arguments]
        log = self.folder / "laptop.log"
        return self.laptop.run(command, cwd=ROOT, timeout_s=LIMIT_S, log=log)

    def _job(self, command: str, *arguments: str) -> str:
        """Run `ray job` on the laptop, through the tunnel."""
        return self._ray("job", command, "--address", DASHBOARD, *arguments)

    @contextmanager
    def _tunnel(self) -> Iterator[None]:
        """Hold what `ray dashboard` does: the head's dashboard on the laptop's port 8265."""
        log = self.folder / "tunnel.log"
        tunnel = self.laptop.popen([RAY, "dashboard", CLUSTER], cwd=ROOT, log=log)
        try:
            again = ["--retry", "60", "--retry-delay", "1", "--retry-connrefused"]
            self.laptop.host.run(["curl", "-s", *again, DASHBOARD], timeout_s=LIMIT_S)
            yield
        finally:
            tunnel.terminate()
            tunnel.wait()

    def _on_head(self, line: str) -> str:
        log = self.folder / "head.log"
        return self.laptop.ssh(self.head, line, timeout_s=LIMIT_S, log=log)

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not is_so():
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {LIMIT_S:g} s in vain")
            time.sleep(1)

    def _epochs(self, name: str) -> list[tuple[str, int]]:
        """Return the epochs that a sweep's journal tells of: of which trial, and its number."""
        journal = self.folder / "outputs" / name / "events.jsonl"
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return [(one["trial_key"], one["epoch"]) for one in events if one["type"] == "epoch"]

    def _complete(self, name: str) -> Line:
        """Look at a sweep's records: each of them is of a trial that was trained to its end."""
        files = (self.folder / "outputs" / name / "records").glob("*.json")
        statuses = [json.loads(path.read_text(encoding="utf-8"))["status"] for path in files]
        told = f"{len(statuses)} trials: {', '.join(sorted(set(statuses)))}"
        return Line(f"records of {name}", told, is_ok=told == "3 trials: completed")

    def _servers(self) -> list[str]:
        """Return the ids of what the head serves with: Ray's node and MLflow."""
        found = self.head.host.run(["pgrep", "-f", "raylet/raylet |mlflow server"])
        return sorted(found.split())

    def _private_pages(self) -> Line:
        """On the head MLflow and the dashboard answer; from another machine neither does."""
        get = "curl -s -o /dev/null -w '%{http_code} ' -m 10 http://HOST:PORT/health"
        codes = []
        for machine, host in ((self.head, "127.0.0.1"), (self.worker, self.head.name)):
            lines = [get.replace("HOST:PORT", f"{host}:{port}") for port in (5000, 8265)]
            said = machine.host.run(["sh", "-c", "; ".join(lines)], check=False)
            codes.append(said.split())
        told = f"on the head {codes[0]}, from the worker {codes[1]} (000: closed, 401: no token)"
        return Line("MLflow, dashboard", told, is_ok=codes == [["200", "401"], ["000", "000"]])


def _write_cluster(laptop: SshHost, head: SshHost, worker: SshHost) -> None:
    """Change the lines of the file that are marked as the user's."""
    text = (ROOT / "clusters" / "own-machines.yaml").read_text(encoding="utf-8")
    yours = {"head_ip": head.name, "worker_ips": f"[{worker.name}]", "ssh_user": "root"}
    for key, value in yours.items():
        text, count = re.subn(rf"^(\s*{key}:) .*  # yours.*$", rf"\1 {value}", text, flags=re.M)
        assert count == 1, key
    (laptop.home / CLUSTER.name).write_text(text, encoding="utf-8")


def _make_environment(folder: Path) -> None:
    """Make a .venv that has the packages of the one that runs this, and the project beside it."""
    venv.create(folder, symlinks=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    others = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "lab.pth").write_text(f"{PROJECT}\n{others}\n")
    for name in ("ray", "sg-ray"):
        _, rest = (RAY.parent / name).read_text(encoding="utf-8").split("\n", 1)
        script = folder / "bin" / name
        script.write_text(f"#!{PROJECT}/.venv/bin/python\n{rest}")
        script.chmod(0o755)
    (folder / ".run").touch()
