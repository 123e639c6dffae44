"""Which nodes of a joined cluster may train: each is asked before, and avoided if it may not.

What is asked, and looked at by the same function here, is in ``node_question``. A node that may not
is held: placement groups of our own take its CPUs and GPUs until the sweep ends.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import ray
from ray import cloudpickle
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from sg_ray.cluster.losses import infrastructure_failure, places_in
from sg_ray.cluster.nodes import node_question
from sg_ray.cluster.nodes.node_answer import MODULES, NodeAnswer, faults, notes
from sg_ray.cluster.nodes.placement_groups import HOLD
from sg_ray.cluster.nodes.premises import Premises
from sg_ray.cluster.placing.admission import TakesByModel
from sg_ray.cluster.placing.packing import Machine, hold, least_bundles
from sg_ray.cluster.ray_private.core_names import raylet
from sg_ray.config import Resources
from sg_ray.errors import InputError
from sg_ray.files import write_text
from sg_ray.records.events import NodeNews
from sg_ray.sweep_folder import SweepFolder

_PATIENCE_S = 90.0
"""For an answer: most of it is the start of a process on a cold file system."""
_LOOK_EVERY_S = 3.0
_ASK_AGAIN_S = 120.0
_HOLD_WAIT_S = 5.0
_NUM_TOLD = 3
_HEAD = "node:__internal_head__"
"""A resource that the head alone has: from there the workers of a trial are led."""

Tell = Callable[[str, NodeNews, str], None]
"""Takes a node's name, what is new of it, and a sentence."""


@dataclass(frozen=True)
class Node:
    """A living node of the cluster."""

    id: str
    host: str
    address: str
    has: Mapping[str, float]
    """Its resources, by Ray's names."""

    @property
    def name(self) -> str:
        """How people find it."""
        return f"{self.host} ({self.address})"


def living_nodes() -> dict[str, Node]:
    """Return the cluster's nodes by id."""
    living = (found for found in ray.nodes() if found["Alive"])
    return {
        found["NodeID"]: Node(
            found["NodeID"],
            found["NodeManagerHostname"],
            found["NodeManagerAddress"],
            found["Resources"],
        )
        for found in living
    }


class NodeCheck:
    """Asks each node once, and again where something was lost; holds those that may not train."""

    def __init__(self, folder: SweepFolder, own_code: Sequence[str], tell: Tell) -> None:
        """``own_code`` are references to the user's installed modules that trials run."""
        self._folder, self._own_code, self._tell = folder, own_code, tell
        self._nodes: dict[str, Node] = {}
        self._seen: dict[str, Node] = {}
        """Those that are gone, too."""
        self._asked: dict[str, tuple[Any, float]] = {}
        """By node, the answer to come and when it was asked for."""
        self._avoided: dict[str, str] = {}
        """By node, why."""
        self._ask_again_at_s: dict[str, float] = {}
        """By node that is avoided: somebody may mend it."""
        self._holds: dict[str, list[PlacementGroup]] = {}
        self._passed: set[str] = set()
        self._next_look_s = 0.0

    def __enter__(self) -> Self:
        write_text(self.token, self.token.name)
        return self

    def __exit__(self, *_: object) -> None:
        for node_id in list(self._holds):
            self._release(node_id)
        for path in self._folder.node_tokens:
            path.unlink(missing_ok=True)

    @cached_property
    def token(self) -> Path:
        """The file that a node must read; its name is new, so that no cache knows it."""
        return self._folder.node_token(secrets.token_hex(8))

    @property
    def premises(self) -> Premises:
        """What each process that trains makes sure of, however it came to be there."""
        return Premises(token=self.token)

    @property
    def usable(self) -> list[Node]:
        """The nodes that have passed."""
        out = self._avoided.keys() | self._asked.keys()
        return [node for node_id, node in self._nodes.items() if node_id not in out]

    def away(self) -> set[str]:
        """Return the ids of the nodes on which no trial may begin now."""
        return {*self._avoided, *self._holds}

    def ask_all(self, takes: TakesByModel) -> None:
        """Ask every node, and wait. Raises InputError if none is left that fits a trial."""
        for node in living_nodes().values():
            self._nodes[node.id] = self._seen[node.id] = node
            self._ask(node)
        while self._asked:
            ray.wait([answer for answer, _ in self._asked.values()], timeout=0.5)
            self._collect()
        deadline = time.monotonic() + _HOLD_WAIT_S
        for group in (group for groups in self._holds.values() for group in groups):
            group.wait(max(0.1, deadline - time.monotonic()))
        self._require_room(takes)

    def look(self) -> None:
        """Ask nodes that have joined, hear the answers, take note of those that are gone.

        Waits for nothing; does so every few seconds, however often it is called.
        """
        if time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + _LOOK_EVERY_S
        living = living_nodes()
        for node_id in self._nodes.keys() - living.keys():
            self._tell(self._nodes[node_id].name, "lost", "")
            self._forget(node_id)
        for node_id in living.keys() - self._nodes.keys():
            self._nodes[node_id] = self._seen[node_id] = living[node_id]
            self._hold(living[node_id])
            self._ask(living[node_id])
        for node_id in self._avoided.keys() - self._asked.keys():
            if time.monotonic() > self._ask_again_at_s[node_id]:
                self._ask(self._nodes[node_id])
        if self._asked:
            self._collect(joined=True)

    def lost_on(self, text: str) -> str | None:
        """Return the name of the node on which a process was lost, by what Ray says of it.

        The node is asked again, and meanwhile nothing begins there. None if Ray does not say which,
        or if there is one alone.
        """
        places = places_in(text)
        there = [node for node in self._seen.values() if places & {node.id, node.address}]
        for node in there:
            is_asked = node.id in self._asked.keys() | self._avoided.keys()
            if node.id in self._nodes and not is_asked:
                self._hold(node)
                self._ask(node)
        names = {node.name for node in there}
        return names.pop() if names and len(self._seen) > 1 else None

    def _ask(self, node: Node) -> None:
        # In a process of its own: one that is kept would know what it had imported before.
        question = ray.remote(num_cpus=0, max_retries=1, max_calls=1)(node_question.answer)
        pinned = question.options(
            name=f"sg_ray asks {node.host}", label_selector={raylet.RAY_NODE_ID_KEY: node.id}
        )
        with _by_value():
            answer = pinned.remote(*self._question(node.id))
        self._asked[node.id] = answer, time.monotonic()

    def _question(self, node_id: str) -> tuple[str, str, str, Sequence[str], Sequence[str]]:
        return (
            str(self.token),
            self.token.name,
            str(self._mark(node_id)),
            MODULES,
            self._own_code,
        )

    def _mark(self, node_id: str) -> Path:
        """Return the file that a node writes in answer."""
        return self.token.with_name(f"{self.token.name}-{node_id}")

    @cached_property
    def _here(self) -> NodeAnswer:
        return NodeAnswer(**node_question.answer(*self._question("here")))

    def _collect(self, *, joined: bool = False) -> None:
        """Hear those who have answered; give up those who are gone, or too late."""
        living = living_nodes()
        answers = [answer for answer, _ in self._asked.values()]
        ready = set(ray.wait(answers, num_returns=len(answers), timeout=0)[0])
        for node_id, (answer, asked_at_s) in list(self._asked.items()):
            node = self._nodes[node_id]
            if node_id not in living:
                self._forget(node_id)
            elif answer in ready:
                self._hear(node, answer, joined=joined)
            elif time.monotonic() - asked_at_s > _PATIENCE_S:
                ray.cancel(answer, force=True)
                self._avoid(node, _no_answer(node, f"within {_PATIENCE_S:g} s"))

    def _hear(self, node: Node, answer: Any, *, joined: bool) -> None:
        try:
            there = NodeAnswer(**ray.get(answer))
        except RayError as error:
            reason = infrastructure_failure(f"{type(error).__name__}: {error}").message
            self._avoid(node, _no_answer(node, f"({reason})"))
            return
        found = faults(node.name, there, self._here, self._folder.path)
        if not found and node_question.read_trouble(self._mark(node.id), self.token.name):
            found = [
                f"output_dir is not shared: what {node.name} writes to {self._folder} cannot be "
                "read here. Set output_dir to a folder that all nodes see."
            ]
        if found:
            self._avoid(node, " ".join(found))
            return
        del self._asked[node.id]
        self._release(node.id)
        is_mended = self._avoided.pop(node.id, None) is not None
        if node.id in self._passed and not is_mended:
            return
        self._passed.add(node.id)
        if joined:
            self._tell(node.name, "joined", "")
        for note in notes(there, self._here):
            self._tell(node.name, "noted", note)

    def _avoid(self, node: Node, reason: str) -> None:
        self._asked.pop(node.id, None)
        self._ask_again_at_s[node.id] = time.monotonic() + _ASK_AGAIN_S
        self._hold(node)
        if self._avoided.get(node.id) != reason:
            self._avoided[node.id] = reason
            self._tell(node.name, "avoided", reason)

    def _hold(self, node: Node) -> None:
        """Take what the node has, in portions: what is in use by others is taken once it is free.

        Each is half of what is left, so that those which fit now take all that is free now.
        """
        if node.id in self._holds:
            return
        self._holds[node.id] = [
            placement_group(
                [{kind: amount}],
                name=f"{HOLD} {secrets.token_hex(8)}",  # Ray wants it to be nobody else's
                bundle_label_selector=[{raylet.RAY_NODE_ID_KEY: node.id}],
            )
            for kind in ("CPU", "GPU")
            for amount in _portions(int(node.has.get(kind, 0)))
        ]

    def _release(self, node_id: str) -> None:
        for group in self._holds.pop(node_id, []):
            with suppress(RayError, ValueError):
                remove_placement_group(group)

    def _forget(self, node_id: str) -> None:
        self._nodes.pop(node_id, None)
        self._asked.pop(node_id, None)
        self._avoided.pop(node_id, None)
        self._release(node_id)

    def _require_room(self, takes: TakesByModel) -> None:
        avoided = [self._nodes[node_id] for node_id in self._avoided]
        for model, one in takes.items():
            is_led = not (one.is_group and any(_HEAD in node.has for node in avoided))
            if (is_led and _fits(one, self.usable)) or not _fits(one, [*self.usable, *avoided]):
                continue  # that nothing would ever fit is for those to say who count the whole
            reasons = list(self._avoided.values())
            more = len(reasons) - _NUM_TOLD
            rest = f" And {more} nodes more; the sweep's journal names each." if more > 0 else ""
            raise InputError(
                f"no node is left that a {model} trial may run on. "
                f"{' '.join(reasons[:_NUM_TOLD])}{rest}"
            )


@contextmanager
def _by_value() -> Iterator[None]:
    """Have the question travel with its code: the node may have another, or none."""
    cloudpickle.register_pickle_by_value(node_question)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(node_question)


def _portions(amount: int) -> Iterator[int]:
    while amount > 1:
        yield amount // 2
        amount -= amount // 2
    if amount:
        yield amount


def _no_answer(node: Node, how: str) -> str:
    return (
        f"{node.name} does not answer {how}: no process of Ray's could be started there, or it "
        "ended. What Ray logs on that node tells more."
    )


def _fits(takes: Resources, nodes: Sequence[Node]) -> bool:
    """Return whether a trial fits on these nodes while they are empty."""
    machines = [Machine(node.has.get("CPU", 0), int(node.has.get("GPU", 0))) for node in nodes]
    return hold(machines, least_bundles(takes))
