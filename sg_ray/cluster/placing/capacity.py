"""What a cluster has for trials now, and what it may get: asked of Ray again and again."""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sg_ray.cluster.placing.packing import Machine
from sg_ray.cluster.ray_address import ask_for_nodes
from sg_ray.cluster.ray_private.core_names import state

_MOST_OF_A_TYPE = 1_000
"""So many machines of a type are counted on, where its number has no limit."""
_TYPES_LOOKED_UP_EVERY_S = 60.0
_CONFIG = "--autoscaling-config="


@dataclass(frozen=True)
class Capacity:
    """The machines of a cluster for trials.

    ``to_come`` are those that an autoscaler may add; ``may_grow`` says that one may add others, of
    which nothing is known.
    """

    machines: tuple[Machine, ...]
    to_come: tuple[Machine, ...] = ()
    may_grow: bool = False

    @property
    def at_most(self) -> tuple[Machine, ...]:
        """All that there may be at once, as far as it is known."""
        return self.machines + self.to_come


@dataclass(frozen=True)
class NodeType:
    """A kind of machine that an autoscaler may start.

    ``machine`` is None if it is not known before one has joined: those of one's own, say.
    """

    machine: Machine | None
    max_nodes: int


class Growth:
    """What the autoscaler of a cluster may start; looked up once a minute, for it takes a while."""

    def __init__(self, gcs_address: str, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._gcs_address, self._now_s = gcs_address, now_s
        self._types: list[NodeType] | None = None
        self._next_look_s = -math.inf

    def __call__(self) -> list[NodeType] | None:
        """Return its node types, as ``node_types``."""
        if self._now_s() >= self._next_look_s:
            self._next_look_s = self._now_s() + _TYPES_LOOKED_UP_EVERY_S
            self._types = node_types(self._gcs_address)
        return self._types


def capacity(growth: Growth | None = None, *, away: Collection[str] = ()) -> Capacity:
    """Return what the cluster that this process has joined has for trials.

    Without ``growth`` it neither grows nor shrinks. Nodes that are being drained take nothing new,
    and those whose ids are in ``away`` are left alone.
    """
    leaving = {*draining_nodes(), *away}
    alive = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
    machines = tuple(_machine(node["Resources"]) for node in alive)
    return Capacity(machines) if growth is None else _with_what_may_come(machines, growth())


def capacity_at(address: str) -> tuple[str, Capacity]:
    """Return the HOST:PORT of a cluster, and what it has, without joining it.

    Raises InputError if none answers.
    """
    place, nodes = ask_for_nodes(address)
    return place, _with_what_may_come(tuple(map(_machine, nodes)), node_types(place))


def draining_nodes() -> set[str]:
    """Return the ids of the nodes that are about to be taken away."""
    return set(state.get_draining_nodes())


def node_types(gcs_address: str) -> list[NodeType] | None:
    """Return what the autoscaler of a cluster may start; none if it has no autoscaler.

    Ray does not tell of it, so the autoscaler's own configuration is read. Its process runs beside
    the head, as the driver does; None if it is not seen from here (in Kubernetes, or on another
    node), and if the file cannot be read.
    """
    for command in _commands():
        is_autoscaler = any(part.endswith("monitor.py") for part in command)
        if is_autoscaler and f"--gcs-address={gcs_address}" in command:
            given = [part.removeprefix(_CONFIG) for part in command if part.startswith(_CONFIG)]
            return _read_types(Path(given[0]).expanduser()) if given else []
    return None


def _with_what_may_come(machines: tuple[Machine, ...], types: list[NodeType] | None) -> Capacity:
    if types is None:
        return Capacity(machines, may_grow=True)
    known = [(one.machine, one.max_nodes) for one in types if one.machine is not None]
    to_come = tuple(_to_come(known, machines))
    num_unknown = sum(one.max_nodes for one in types if one.machine is None)
    num_here = len(machines) - 1 - (sum(number for _, number in known) - len(to_come))  # the head
    return Capacity(machines, to_come, may_grow=num_unknown > num_here)


def _commands() -> Iterator[list[str]]:
    for process in psutil.process_iter(["cmdline"]):
        yield (
            process.info["cmdline"] or []
        )  # None of a process that is another user's, or has ended


def _read_types(path: Path) -> list[NodeType] | None:
    try:
        config = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        most, head = int(config.get("max_workers", _MOST_OF_A_TYPE)), config.get("head_node_type")
        types = [
            _node_type(given, most, default=0 if name == head else most)
            for name, given in config["available_node_types"].items()
        ]
        return [one for one in types if one.max_nodes > 0]
    except (OSError, YAMLError, KeyError, TypeError, ValueError, AttributeError):
        return None  # Ray reads it too, and says what is wrong with it


def _node_type(given: Mapping[str, Any], most: int, *, default: int) -> NodeType:
    has = given.get("resources") or {}
    is_known = "CPU" in has or "GPU" in has
    max_nodes = min(most, int(given.get("max_workers", default)))
    return NodeType(_machine(has) if is_known else None, max_nodes)


def _to_come(types: Iterable[tuple[Machine, int]], here: Iterable[Machine]) -> Iterator[Machine]:
    """Yield the machines of each type that are not here yet. A node is known by what it has."""
    found = Counter(here)
    for machine, max_nodes in types:
        num_here = min(found[machine], max_nodes)
        found[machine] -= num_here
        yield from [machine] * (max_nodes - num_here)


def _machine(resources: Mapping[str, float]) -> Machine:
    return Machine(float(resources.get("CPU", 0)), int(resources.get("GPU", 0)))
