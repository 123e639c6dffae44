"""The next batch is made while the device computes on this one."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

THREAD = "batches ahead"
"""Name of the thread."""

_PATIENCE_S = 0.1
"""Between two looks whether anybody still wants what is made."""


@contextmanager
def made_ahead(
    make: Callable[[Item], Made], items: Sequence[Item], depth: int
) -> Iterator[Iterator[Made]]:
    """Give ``map(make, items)``, of which a thread makes up to ``depth`` before they are asked for.

    An error in ``make`` is raised where its item is asked for. At the end of the context the thread
    has ended. With ``depth`` 0 there is none.
    """
    if depth == 0:
        yield map(make, items)
        return
    made: queue.Queue[tuple[Made | None, BaseException | None]] = queue.Queue(depth)
    is_over = threading.Event()
    arguments = (make, items, made, is_over)
    thread = threading.Thread(target=_fill, args=arguments, name=THREAD, daemon=True)
    thread.start()
    try:
        yield (_taken(made) for _ in items)
    finally:
        is_over.set()
        thread.join()


def _fill(
    make: Callable[[Item], Made],
    items: Sequence[Item],
    made: "queue.Queue[tuple[Made | None, BaseException | None]]",
    is_over: threading.Event,
) -> None:
    for item in items:
        try:
            entry: tuple[Made | None, BaseException | None] = (make(item), None)
        except BaseException as error:
            entry = (None, error)
        while not is_over.is_set():
            try:
                made.put(entry, timeout=_PATIENCE_S)
                break
            except queue.Full:
                continue
        if is_over.is_set() or entry[1] is not None:
            return


def _taken(made: "queue.Queue[tuple[Made | None, BaseException | None]]") -> Made:
    result, error = made.get()
    if error is not None:
        raise error
    return result  # type: ignore[return-value] # None only beside an error
