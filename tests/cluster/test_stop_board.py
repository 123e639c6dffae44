"""A stop reaches the processes of trials by message: all of them, or those on one node."""

import time
from typing import Any

import pytest
import ray

from sg_ray.cluster.stop_board import StopBoard, hear_board
from sg_ray.host.stop_flag import StopFlag, StopReason

PATIENCE_S = 30.0


class Trial:
    """Stands where a trial's process does."""

    def __init__(self, board: Any) -> None:
        self._flag = StopFlag()
        hear_board(board, self._flag)

    def node_id(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def reason(self, patience_s: float) -> StopReason | None:
        deadline = time.monotonic() + patience_s
        while self._flag() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return self._flag()


def test_a_stop_reaches_who_waits_and_who_begins_later(ray_session: None) -> None:
    board = StopBoard()
    trial = ray.remote(num_cpus=0)(Trial)
    early = trial.remote(board.actor)
    assert ray.get(early.reason.remote(0.2)) is None
    board.ask_to_stop("0" * 56)  # another node's
    assert ray.get(early.reason.remote(0.2)) is None
    board.ask_to_stop(ray.get(early.node_id.remote()))
    assert ray.get(early.reason.remote(PATIENCE_S)) == "preempted"
    board.ask_to_stop()
    late = trial.remote(board.actor)
    assert ray.get(late.reason.remote(PATIENCE_S)) == "stop"
    deadline = time.monotonic() + PATIENCE_S
    while ray.get(early.reason.remote(0)) != "stop" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ray.get(early.reason.remote(0)) == "stop"
    board.close()
    for actor in (early, late):
        ray.kill(actor)


@pytest.mark.parametrize("num_messages", [50])
def test_messages_are_not_lost_between_two_questions(ray_session: None, num_messages: int) -> None:
    board = StopBoard()
    here = ray.get_runtime_context().get_node_id()
    for number in range(num_messages):
        board.ask_to_stop(f"{number:056d}")
    flag = StopFlag()
    hear_board(board.actor, flag)
    board.ask_to_stop(here)
    deadline = time.monotonic() + PATIENCE_S
    while flag() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert flag() == "preempted"
    board.close()
