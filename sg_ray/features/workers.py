"""Worker processes for features: they die with their parent and leave signals to it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from sg_ray.errors import InputError
from sg_ray.features.featuriser import Featuriser
from sg_ray.features.kinds import load_featuriser

MIN_SAMPLES_FOR_WORKERS = 2_000
"""Below this, starting processes takes longer than they save."""

CHUNK_SIZE = 256
"""Functions encoded at a time."""


@contextmanager
def worker_pool(num_workers: int, kind: str) -> Iterator[ProcessPoolExecutor]:
    """Yield processes that make features of ``kind``; on the way out they are ended.

    There are as many as ``num_workers``. Raises InputError if one of them is killed.
    """
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        num_workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        yield pool
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
        pool.shutdown(cancel_futures=True)


@lru_cache(maxsize=1)
def worker_featuriser(folder: Path) -> Featuriser[Any]:
    """Return the featuriser in ``folder``, loaded once in a worker's life."""
    return load_featuriser(folder)


def _start_worker() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
