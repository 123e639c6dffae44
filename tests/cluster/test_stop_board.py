"""A stop reaches the processes of trials by message: all of them, or those on one node."""

import time

import ray

from sg_ray.cluster.stop_board import StopBoard, hear_board
from sg_ray.host.stop_flag import StopFlag, StopReason

PATIENCE_S = 30.0
OTHER_NODES = [f"{number:056x}" for number in range(50)]


def listener(board: StopBoard) -> StopFlag:
    """Return the flag of one more process on this node, as far as the board can tell."""
    flag = StopFlag()
    hear_board(board.actor, flag)
    return flag


def becomes(flag: StopFlag, reason: StopReason) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while flag() != reason and time.monotonic() < deadline:
        time.sleep(0.01)
    return flag() == reason


def test_a_stop_reaches_who_waits_and_who_begins_later(ray_session: None) -> None:
    board = StopBoard()
    early = listener(board)
    for node in OTHER_NODES:
        board.ask_to_stop(node)
    time.sleep(0.3)
    assert early() is None
    board.ask_to_stop(ray.get_runtime_context().get_node_id())
    assert becomes(early, "preempted")
    assert becomes(listener(board), "preempted")
    board.ask_to_stop()
    assert becomes(early, "stop")
    assert becomes(listener(board), "stop")
    board.close()


def test_who_listens_to_a_board_that_is_gone_goes_on(ray_session: None) -> None:
    board = StopBoard()
    flag = listener(board)
    board.close()
    time.sleep(0.3)
    assert flag() is None
