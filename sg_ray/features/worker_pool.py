"""Worker processes for features: they die with their parent and leave signals to it."""

import gc
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from sg_ray.errors import InputError
from sg_ray.features.featuriser import Featuriser, Map
from sg_ray.features.kinds import load_featuriser
from sg_ray.host.helper_thread import HelperThread, helper_thread

MIN_SAMPLES_FOR_WORKERS = 2_000
"""Below this, starting processes takes longer than they save."""

_OBJECTS_PER_COLLECTION = 100_000

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class WorkerPool:
    """Processes that make features, started when there is work for them."""

    _executor: ProcessPoolExecutor
    _starter: HelperThread

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield ``function(item)`` for each item, in order.

        An interruption waits until the workers are started: one that is cut off while it is told
        what to do would say so with a traceback.
        """
        return self._starter.finish(lambda: self._executor.map(function, items))


@contextmanager
def worker_pool(num_workers: int, kind: str) -> Iterator[WorkerPool]:
    """Yield processes that make features of ``kind``; on the way out they are ended.

    There are at most ``num_workers``. Raises InputError if one of them is killed.
    """
    before = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        num_workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        with helper_thread() as starter:
            yield WorkerPool(executor, starter)
    except KeyboardInterrupt:  # a worker may be minutes from the end of what it has begun
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise
    except BrokenProcessPool as error:
        raise InputError(
            f"one of {num_workers} workers that built {kind} was killed, most likely for want of "
            "memory. There is one for each CPU that this process may use: free memory, or put "
            "`taskset -c 0` before the command, which leaves it a single one."
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def workers(num_workers: int, kind: str, num_samples: int) -> Iterator[Map]:
    """Yield what calls functions with chunks of samples: here, or on worker processes."""
    if num_workers <= 1 or num_samples < MIN_SAMPLES_FOR_WORKERS:
        yield map
        return
    with worker_pool(num_workers, kind) as pool:
        yield pool.map


@lru_cache(maxsize=1)
def worker_featuriser(folder: Path) -> Featuriser[Any]:
    """Return the featuriser in ``folder``, loaded once in a worker's life."""
    return load_featuriser(folder)


def _start_worker() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    gc.freeze()  # what was imported is no garbage, and little of what is made here is
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
