"""What a process does when a pass through the model fails in a way it can mend by itself.

Out of memory: samples go through in smaller pieces. No deterministic version of an operation:
nondeterministic ones are allowed. Either holds for the rest of the trial, and the work that failed
is done again from its start, so that a result never mixes the two ways.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sg_ray.errors import OutOfMemory
from sg_ray.training.batches import Indices, micro_batches
from sg_ray.training.seeding import allow_nondeterminism, nondeterministic_operation
from sg_ray.training.shared_gpu import refuse_what_neighbours_took

Result = TypeVar("Result")

_LOG = logging.getLogger(__name__)

ADVICE = (
    "Lower what one sample may cost (tokens or nodes), the size of the model, or the number of "
    "trials that share a device; on a GPU, bf16 takes less than fp32."
)


class PieceTooLarge(Exception):  # noqa: N818 - caught where the work is repeated
    """Memory ran out in a pass over these samples; the pass left nothing behind but gradients."""

    def __init__(self, num_samples: int, num_units: int) -> None:
        """``num_units`` is what the pass cost as a micro-batch."""
        super().__init__(f"{num_samples} samples, {num_units} units")
        self.num_samples = num_samples
        self.num_units = num_units


class Fallbacks:
    """How far one process of a trial had to depart from its settings."""

    def __init__(self, max_units: int) -> None:
        """``max_units`` is the budget of a micro-batch in tokens or nodes, to begin with."""
        self._max_units = max_units

    @property
    def max_units(self) -> int:
        """The budget of a micro-batch now."""
        return self._max_units

    def limit_units(self, max_units: int) -> None:
        """Lower the budget to ``max_units`` unless it is that low already."""
        self._max_units = min(self._max_units, max_units)

    def cut(self, indices: Indices, units: NDArray[np.int64], *, padded: bool) -> list[Indices]:
        """Return ``micro_batches`` of these samples by the budget, as it is lowered so far."""
        return micro_batches(indices, units, self._max_units, padded=padded)

    def repeat_until_done(self, work: Callable[[], Result], undo: Callable[[], object]) -> Result:
        """Return ``work()``, done again after ``undo()`` each time something could be mended.

        E.g. a step of 16,384 units in one piece runs out of memory: the gradients collected so far
        are dropped (``undo``), the budget falls to 8,192, and the step is taken anew in two pieces,
        which add up to the same gradient.

        ``work`` cuts its samples by ``cut`` and guards each pass by ``guard_memory``. Raises
        OutOfMemory if a pass over one sample was too large.
        """
        while True:
            try:
                return work()
            except PieceTooLarge as failed:
                self._lower(failed)
            except RuntimeError as error:
                operation = nondeterministic_operation(error)
                if operation is None:
                    raise
                allow_nondeterminism(operation)
            # Not in the handlers above: until they are left they keep the pass's tensors alive.
            undo()
            torch.cuda.empty_cache()

    def _lower(self, failed: PieceTooLarge) -> None:
        """Halve the budget, from what failed, since a budget above that would change nothing."""
        if failed.num_samples == 1:
            raise OutOfMemory(
                f"out of memory in a pass over a single sample of {failed.num_units} units. "
                + ADVICE
            ) from failed
        self._max_units = failed.num_units // 2
        _LOG.warning(
            "out of memory with %d samples at once: at most %d units in a micro-batch from now on",
            failed.num_samples,
            self._max_units,
        )


@contextmanager
def guard_memory(units: NDArray[np.int64], *, padded: bool) -> Iterator[None]:
    """Turn torch.OutOfMemoryError in a pass over samples of these units into PieceTooLarge.

    Raises InfrastructureError if that is not for this process to mend.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        refuse_what_neighbours_took(error)
        num_units = len(units) * units.max() if padded else units.sum()
        raise PieceTooLarge(len(units), int(num_units)) from error
