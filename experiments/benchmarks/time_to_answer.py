"""How long does a command take to say that it cannot run here, or that it can?

    python experiments/benchmarks/time_to_answer.py [--only NAME ...]

Runs the real commands in situations that keep Ray from starting or from being joined, one after
the other, and prints seconds, exit code and the line that tells. All is on this machine; an
address where nobody answers is to be told within 30 seconds, and the rest in seconds, too.
"""

import argparse
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
SMALL = [
    "families=[gnn]",
    "data.num_samples=240",
    "models.gnn.config.epochs=1",
    "lr_range.enabled=false",
    "search.num_trials=1",
    "replicate.top_k=1",
    "replicate.seeds=[42]",
    "replicate.max_seeds=null",
    "tracking.enabled=false",
]


@dataclass(frozen=True)
class Situation:
    """A command, what its environment is, and what is called in its process before it starts."""

    command: list[str]
    variables: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None


def main() -> None:
    """Run every situation and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", help="names of situations (default: all)")
    chosen = parser.parse_args().only
    with TemporaryDirectory(prefix="t", dir="/tmp") as name, _servers() as (silent, web):
        situations = _situations(Path(name), silent, web)
        print(f"{'situation':<28} seconds  exit  told")
        for title, situation in situations.items():
            if not chosen or title in chosen:
                print(f"{title:<28} {_answer(situation, Path(name))}", flush=True)


def _situations(folder: Path, silent: int, web: int) -> dict[str, Situation]:
    def joined(address: str) -> Situation:
        return Situation(["sweep", *SMALL, "--address", address])

    def here(**variables: str) -> Situation:
        return Situation(["preflight", *SMALL], variables)

    dead = folder / "dead"
    (dead / "ray").mkdir(parents=True)
    (dead / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
    return {
        "nobody at the address": joined("127.0.0.1:9"),
        "the address is silent": joined(f"127.0.0.1:{silent}"),
        "another server answers": joined(f"127.0.0.1:{web}"),
        "no such host": joined("nobody.invalid:6379"),
        "auto, and no cluster": Situation(
            ["sweep", *SMALL, "--address", "auto"], {"RAY_ADDRESS": "127.0.0.1:9"}
        ),
        "python -OO": here(PYTHONOPTIMIZE="2"),
        "a long temporary folder": here(RAY_TMPDIR=str(folder / ("d" * 130))),
        "few open files": Situation(["preflight", *SMALL], before=_allow_few_files),
        "a dead cluster is noted": here(RAY_TMPDIR=str(dead)),
        "no home": here(HOME="/proc/nowhere"),
        "all is well": here(),
    }


def _allow_few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def _answer(situation: Situation, folder: Path) -> str:
    """Return seconds, exit code, and what was told of Ray."""
    experiment = str(ROOT / "experiments" / "quick.yaml")
    command, *rest = situation.command
    began = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "sg_ray", command, experiment, *rest],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **situation.variables},
        preexec_fn=situation.before,
        capture_output=True,
        text=True,
    )
    took_s = time.perf_counter() - began
    lines = [*ended.stderr.splitlines(), *ended.stdout.splitlines()]
    told = [line for line in lines if line.startswith("error:") or line[5:9] == "ray "]
    return f"{took_s:7.1f}  {ended.returncode:4}  {' '.join((told or lines or ['-'])[0].split())}"


class _Quiet(BaseHTTPRequestHandler):
    """Answers every request with an error, and logs none."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _servers() -> Iterator[tuple[int, int]]:
    """Hold a port that says nothing and one that speaks HTTP; yield their numbers."""
    web = HTTPServer(("127.0.0.1", 0), _Quiet)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield silent.getsockname()[1], web.server_port
    web.shutdown()
    web.server_close()


if __name__ == "__main__":
    main()
