"""Where the processes of trials, on all machines, learn that they are to stop: by message.

A file would do on one machine. Clients of NFS may show a new one a minute later.
"""

import asyncio
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError

from sg_ray.cluster.ray_private.core_names import raylet
from sg_ray.host.stop_flag import StopFlag, StopReason

_POLL_S = 60.0
"""So often a process asks anew: a message that a broken connection has lost comes then."""
_RETRY_S = 1.0
_MAX_LISTENERS = 1_000_000


class Board:
    """The actor: it answers who asks once there is something new to tell."""

    def __init__(self) -> None:
        self._all_stop = False
        self._leaving: set[str] = set()
        self._changed = asyncio.Event()

    async def ask_to_stop(self, node_id: str | None = None) -> None:
        """Have all processes stop, or those on a node that is to be taken away."""
        if node_id is None:
            self._all_stop = True
        else:
            self._leaving.add(node_id)
        told, self._changed = self._changed, asyncio.Event()
        told.set()

    async def next_reason(self, node_id: str, known: StopReason | None) -> StopReason | None:
        """Return why a process on a node is to stop, once that is not what it knows already.

        After a minute without news it returns, too.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                while self._reason(node_id) == known:
                    await self._changed.wait()
        return self._reason(node_id)

    def _reason(self, node_id: str) -> StopReason | None:
        if self._all_stop:
            return "stop"
        return "preempted" if node_id in self._leaving else None


class StopBoard:
    """The board of a driver, on the driver's node. Ray is initialised."""

    def __init__(self) -> None:
        self.actor: Any = helper_actor(Board)
        """For ``hear_board``; it may be sent to other processes."""

    def ask_to_stop(self, node_id: str | None = None) -> None:
        """Have all trials save their positions and stop, or those on one node (Ray's hex id).

        It holds for trials that begin later, too. Returns at once; asking twice is asking once.
        """
        self.actor.ask_to_stop.remote(node_id)

    def close(self) -> None:
        """End the actor."""
        with suppress(RayError):
            ray.kill(self.actor)


def hear_board(board: Any, flag: StopFlag) -> None:
    """Have a thread of this process tell ``flag`` what the actor ``board`` tells this node.

    The thread ends with the board.
    """
    node_id = ray.get_runtime_context().get_node_id()
    threading.Thread(target=_listen, args=(board, node_id, flag), daemon=True).start()


def _listen(board: Any, node_id: str, flag: StopFlag) -> None:
    known: StopReason | None = None
    while known != "stop":
        try:  # waited for in Python: a thread inside Ray may break the process's end
            answer: Future[StopReason | None] = board.next_reason.remote(node_id, known).future()
            known = answer.result()
        except ActorUnavailableError:
            time.sleep(_RETRY_S)
        except RayError:
            return  # the board is gone, and its driver with it: Ray ends this process
        if known is not None:
            flag.tell(known)


def helper_actor(actor_class: type) -> Any:
    """Start an actor without CPUs on this node, which must not go away with a worker's machine.

    Any number of calls of its asynchronous methods may wait at a time.
    """
    options = {**on_this_node(), "max_concurrency": _MAX_LISTENERS}
    return ray.remote(**options)(actor_class).remote()


def on_this_node() -> dict[str, Any]:
    """Return options of a helper actor that must not go away with a worker's machine."""
    here = ray.get_runtime_context().get_node_id()
    return {"num_cpus": 0, "label_selector": {raylet.RAY_NODE_ID_KEY: here}}
