"""What holds a cluster's CPUs and GPUs: placement groups and actors, and whose they are."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group

from sg_ray.cluster.ray_private.core_names import gcs_messages, state

HOLD = "sg_ray: node not used"
"""How the names of groups begin that keep trials away from a node."""

_GROUP = "placement group"
_KINDS = ("CPU", "GPU")
_NUM_TOLD = 3
_EXPECTED_FOR_S = 60.0
_LOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class Holder:
    """A placement group, or an actor outside of any, that has CPUs or GPUs or waits for them."""

    what: str
    """``placement group``, or an actor's class."""
    id: str
    job: str
    """The job that made it, by Ray's number."""
    actor: str
    """The actor that made it; "" if a driver did, or if it is an actor itself."""
    takes: Mapping[str, float]
    has_it: bool
    """Whether it has them already."""

    def __str__(self) -> str:
        amounts = " and ".join(f"{amount:g} {kind}s" for kind, amount in self.takes.items())
        return f"{self.what} {self.id} with {amounts}, of job {self.job}"


def placement_groups() -> list[Holder]:
    """Return the cluster's placement groups, whoever made them."""
    kinds = gcs_messages.PlacementGroupTableData
    table = state._connect_and_get_accessor().get_placement_group_table()
    groups = [kinds.FromString(raw) for raw in table]
    return [
        Holder(
            what=_GROUP,
            id=group.placement_group_id.hex(),
            job=group.creator_job_id.hex(),
            actor=_known(group.creator_actor_id),
            takes=_total(bundle.unit_resources for bundle in group.bundles),
            has_it=group.state == kinds.CREATED,
        )
        for group in groups
        if group.state != kinds.REMOVED
    ]


def remove_groups_of_actor(actor_id: str) -> None:
    """Remove what an actor has asked for that is being ended."""
    for group in placement_groups():
        if group.actor == actor_id:
            _remove(group)


class LeftGroups:
    """Placement groups of this job whose actor has died: nobody can use them, and Ray keeps them.

    It does so until the job ends; where the request came after the actor's end, for ever.
    """

    def __init__(self) -> None:
        self._until_s = self._next_look_s = 0.0

    def expect(self) -> None:
        """Take note that an actor has died, or is about to."""
        self._until_s = time.monotonic() + _EXPECTED_FOR_S

    def look(self) -> None:
        """Remove them, for a minute from when they were expected. Waits for nothing."""
        now_s = time.monotonic()
        if self._next_look_s <= now_s < self._until_s:
            self._next_look_s = now_s + _LOOK_EVERY_S
            self.remove()

    def remove(self) -> None:
        """Remove those that there are now."""
        job = ray.get_runtime_context().get_job_id()
        groups = [group for group in placement_groups() if group.job == job and group.actor]
        if not groups:
            return
        dead = {actor.actor_id.hex() for actor in cluster_actors() if _is_dead(actor)}
        for group in groups:
            if group.actor in dead:
                _remove(group)


def told_holders() -> str:
    """Say what of other jobs holds CPUs and GPUs, and how what was left behind is removed."""
    own = ray.get_runtime_context().get_job_id()
    holders = [*(one for one in placement_groups() if one.has_it), *_actors()]
    others = [one for one in holders if one.job != own and one.takes]
    if not others:
        return ""
    ended = {job["JobID"] for job in state.job_table() if job["IsDead"]}
    shown = [f"{one}, which has ended" if one.job in ended else str(one) for one in others]
    more = f"; and {len(shown) - _NUM_TOLD} more" if len(shown) > _NUM_TOLD else ""
    left = [one.id for one in others if one.job in ended and one.what == _GROUP]
    remedy = f". What its job has left is removed by: {_command(left[0])}" if left else ""
    return f"held by {'; '.join(shown[:_NUM_TOLD])}{more}{remedy}"


def _actors() -> list[Holder]:
    """Return the living actors that take CPUs or GPUs, and are in no placement group."""
    return [
        Holder(
            what=actor.class_name or "actor",
            id=actor.actor_id.hex(),
            job=actor.job_id.hex(),
            actor="",
            takes=_of_kinds(actor.required_resources),
            has_it=True,
        )
        for actor in cluster_actors()
        if not _is_dead(actor) and not actor.HasField("placement_group_id")
    ]


def cluster_actors() -> list[Any]:
    """Return Ray's notes of all actors, those that have died too."""
    table = state._connect_and_get_accessor().get_actor_table(None, None)
    return [gcs_messages.ActorTableData.FromString(raw) for raw in table]


def _is_dead(actor: Any) -> bool:
    return bool(actor.state == gcs_messages.ActorTableData.DEAD)


def _known(actor_id: bytes) -> str:
    """Return an actor's id; "" for that of none."""
    return "" if actor_id == ray.ActorID.nil().binary() else actor_id.hex()


def _of_kinds(resources: Mapping[str, float]) -> dict[str, float]:
    return {kind: resources[kind] for kind in _KINDS if resources.get(kind, 0) > 0}


def _total(bundles: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for bundle in bundles:
        total.update(_of_kinds(bundle))
    return dict(total)


def _remove(group: Holder) -> None:
    remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group.id)))


def _command(group_id: str) -> str:
    """Return the shell line that removes a placement group, on a node of the cluster."""
    return (
        'python -c "import ray; from ray.util.placement_group import PlacementGroup; '
        "ray.init('auto'); ray.util.remove_placement_group("
        f"PlacementGroup(ray.PlacementGroupID.from_hex('{group_id}')))\""
    )
