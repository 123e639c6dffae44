"""Ray on a node of a batch job, for as long as the job's script keeps a pipe open.

    python -m sg_ray.cluster.job_node --folder DIR head IP        # on the script's node
    python -m sg_ray.cluster.job_node --folder DIR join ADDRESS   # on each other node
    python -m sg_ray.cluster.job_node --folder DIR await N        # until N nodes are there

``head`` and ``join`` run until standard input ends, then end what they have started and remove the
folder. Batch systems signal every process of a job when it ends: Ray must not hear it, or it would
go before the trials have saved where they are.
"""

import argparse
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import ray

from sg_ray.cluster.patience import PATIENCE
from sg_ray.cluster.session import memory_settings
from sg_ray.host.cpus import num_cpus
from sg_ray.host.processes import descendants, end
from sg_ray.host.signals import SIGNALS

_PATIENCE_S = 300.0
"""For all nodes to be there. Python on a shared disk may take a minute to be read."""
_POLL_S = 0.5
_RAY_FOLDER = "ray"
"""Below a folder that is the user's alone: Ray opens its own to everybody."""
_ADDRESS = f"{_RAY_FOLDER}/ray_current_cluster"
"""Ray's own note."""


def main() -> int:
    """Do what the command line says; return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("head").add_argument("ip")
    verbs.add_parser("join").add_argument("address")
    verbs.add_parser("await").add_argument("number", type=int)
    asked = parser.parse_args()
    if asked.verb == "await":
        return _await(asked.folder, asked.number)
    place = [f"--address={asked.address}"] if asked.verb == "join" else _head(asked.ip)
    return _stay(asked.folder, place)


def _await(folder: Path, number: int) -> int:
    """Print the cluster's address once it has ``number`` nodes; return 1 if it never has."""
    deadline = time.monotonic() + _PATIENCE_S
    note = folder / _ADDRESS
    while not (note.exists() and note.read_text()):
        if time.monotonic() > deadline:
            return _too_late("Ray did not start on the first node")
        time.sleep(_POLL_S)
    address = note.read_text().strip()
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    there = 0
    while (there := sum(node["Alive"] for node in ray.nodes())) < number:
        if time.monotonic() > deadline:
            return _too_late(f"{there} of {number} nodes have joined")
        time.sleep(_POLL_S)
    print(address)
    return 0


def _too_late(what: str) -> int:
    print(f"error: {what} within {_PATIENCE_S:.0f} s; Ray's log of the job tells more",
          file=sys.stderr)  # fmt: skip
    return 1


def _stay(folder: Path, place: list[str]) -> int:
    """Run Ray until standard input ends; return 1 if it ends by itself."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # Ray's processes inherit it
    if not folder.exists():
        folder.mkdir(mode=0o700)
    os.environ.update(PATIENCE)
    # No secret is in the command: the token is in the environment.
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *place]
    command += [f"--temp-dir={folder / _RAY_FOLDER}", *_own_ports(), *_share(os.environ)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while child.poll() is None and not _has_ended(sys.stdin.fileno()):
        pass
    is_asked = child.poll() is None
    end(descendants(), patience_s=0)
    child.wait()
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if is_asked else 1


def _has_ended(stream: int) -> bool:
    """Wait a moment; return whether nothing will ever come from ``stream`` any more."""
    readable, _, _ = select.select([stream], [], [], _POLL_S)
    return bool(readable) and os.read(stream, 1024) == b""


def _head(ip: str) -> list[str]:
    dashboard, client = _free_ports(2)
    return [
        "--head",
        f"--node-ip-address={ip}",
        "--port=0",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}",
        "--disable-usage-stats",
    ]


def _own_ports() -> list[str]:
    """Have Ray take ports that are free, where its usual ones may be another job's."""
    return ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]


def _free_ports(number: int) -> list[int]:
    """Return ports that are free now, each another one."""
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _share(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the options that give Ray the job's share of this node."""
    yield f"--num-cpus={num_cpus()}"
    if (gpus := environ.get("SLURM_GPUS_ON_NODE", "")).isdigit():
        yield f"--num-gpus={gpus}"
    memory = memory_settings()
    if memory:
        yield f"--object-store-memory={memory['object_store_memory']}"
        yield f"--memory={memory['_memory']}"


if __name__ == "__main__":
    sys.exit(main())
