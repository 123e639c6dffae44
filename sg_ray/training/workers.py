"""The processes that train one model together. One process is the usual case."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sg_ray.models.family import Classifier


class Workers(Protocol):
    """What the loop needs of the other processes. All of them call each method in step."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """Number of processes."""
        ...

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return ``model`` such that its backward pass averages gradients over the workers."""
        ...

    def without_sync(self, wrapped: nn.Module) -> AbstractContextManager[Any]:
        """Return a context in which backward passes of ``wrapped`` only add up locally."""
        ...

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all ranks joined along their first dimension, in rank order.

        Their first dimensions may differ, also be 0.
        """
        ...

    def any_true(self, flag: bool) -> bool:
        """Return whether ``flag`` is true on any rank."""
        ...

    def highest(self, value: int) -> int:
        """Return the highest ``value`` of all ranks."""
        ...

    def from_first(self, value: Any) -> Any:
        """Return the ``value`` of rank 0 on every rank; a small one."""
        ...

    def state_from_first(self, state: dict[str, Any] | None) -> dict[str, Any]:
        """Return the state that rank 0 has, and any rank that has the same one already.

        A state is made of mappings and lists, of CPU tensors and plain values. None: this rank has
        none yet. Only those get it sent, tensor by tensor, by way of no device.
        """
        ...

    def barrier(self) -> None:
        """Wait until every rank is here."""
        ...


class SingleWorker:
    """This process alone."""

    rank = 0
    world_size = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return ``model``."""
        return model

    def without_sync(self, wrapped: nn.Module) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Return a context that does nothing."""
        return nullcontext()

    def gather(self, tensor: Tensor) -> Tensor:
        """Return ``tensor``."""
        return tensor

    def any_true(self, flag: bool) -> bool:
        """Return ``flag``."""
        return flag

    def highest(self, value: int) -> int:
        """Return ``value``."""
        return value

    def from_first(self, value: Any) -> Any:
        """Return ``value``."""
        return value

    def state_from_first(self, state: dict[str, Any] | None) -> dict[str, Any]:
        """Return ``state``."""
        assert state is not None
        return state

    def barrier(self) -> None:
        """Return at once."""


ALONE = SingleWorker()


def workers_of_group(device: torch.device) -> Workers:
    """Return the default group of ``torch.distributed`` as the loop sees it; this is one of them.

    A group of one exchanges nothing, and pays for nothing.
    """
    return TorchGroup(device) if dist.get_world_size() > 1 else ALONE


class TorchGroup:
    """The default group of ``torch.distributed``, which the caller has set up."""

    def __init__(self, device: torch.device) -> None:
        """``device`` is this process's own; its tensors are the ones exchanged."""
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()
        self._device = device

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return ``model`` in DistributedDataParallel, with the weights of rank 0.

        Parameters that a batch does not reach are looked for in each pass, unless the model says
        that there are none: a family from outside need not know about workers.
        """
        reaches_all = isinstance(model, Classifier) and model.reaches_every_parameter
        wrapped = DistributedDataParallel(
            model, find_unused_parameters=not reaches_all, gradient_as_bucket_view=True
        )
        wrapped.broadcast_buffers = False  # as an argument it has two names, by release of torch
        return wrapped

    def without_sync(self, wrapped: nn.Module) -> AbstractContextManager[Any]:
        """Return DistributedDataParallel's context without gradient exchange."""
        assert isinstance(wrapped, DistributedDataParallel)
        return wrapped.no_sync()

    def gather(self, tensor: Tensor) -> Tensor:
        """Join tensors of different length: sizes first, then contents padded to the longest."""
        tensor = tensor.to(self._device)
        sizes = self._all_gather(torch.tensor([len(tensor)], device=self._device))
        longest = int(max(sizes))
        padded = tensor.new_zeros(longest, *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = self._all_gather(padded)
        return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])

    def any_true(self, flag: bool) -> bool:
        """Reduce the flag over ranks by maximum."""
        return bool(self.highest(int(flag)))

    def highest(self, value: int) -> int:
        """Reduce the value over ranks by maximum."""
        values = torch.tensor([value], device=self._device)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return int(values.item())

    def from_first(self, value: Any) -> Any:
        """Broadcast a picklable value; the group's processes are one program and trust each other.

        It lets rank 0 alone read files, so that workers on other machines need not see them.
        """
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self._device)
        return box[0]

    def state_from_first(self, state: dict[str, Any] | None) -> dict[str, Any]:
        """Send it from memory to memory (gloo) to the ranks that have none, if there are any."""
        lacks = self.gather(torch.tensor([state is None]))
        ranks = [rank for rank, lacking in enumerate(lacks.tolist()) if lacking]
        if not ranks:
            assert state is not None
            return state
        group = dist.new_group([0, *ranks], backend="gloo")  # all ranks must ask for it
        if self.rank == 0 or state is None:
            state = _sent_from_first(state, group)
            dist.destroy_process_group(group)
        return state

    def barrier(self) -> None:
        """Wait for the group."""
        dist.barrier()

    def _all_gather(self, tensor: Tensor) -> Sequence[Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor)
        return parts


@dataclass(frozen=True)
class _Sent:
    """Stands for a tensor in a state that is sent without its tensors."""

    shape: torch.Size
    dtype: torch.dtype


def _sent_from_first(state: Any, group: dist.ProcessGroup | None) -> Any:
    """Return rank 0's state; the others of the group have None. One tensor at a time travels."""
    box = [_without_tensors(state)]
    dist.broadcast_object_list(box, src=0, group=group, device=torch.device("cpu"))
    return _with_tensors(box[0], state, group)


def _without_tensors(state: Any) -> Any:
    match state:
        case Tensor():
            return _Sent(state.shape, state.dtype)
        case dict():
            return {key: _without_tensors(value) for key, value in state.items()}
        case list():
            return [_without_tensors(value) for value in state]
    return state


def _with_tensors(outline: Any, state: Any, group: dist.ProcessGroup | None) -> Any:
    """Send the tensors of ``state``, or receive those of its outline where it is None."""
    match outline:
        case _Sent():
            tensor = torch.empty(outline.shape, dtype=outline.dtype) if state is None else state
            if tensor.numel() > 0:  # as bytes, for gloo does not know all kinds of numbers
                sent = tensor.contiguous()
                dist.broadcast(sent.reshape(-1).view(torch.uint8), src=0, group=group)
            return tensor
        case dict():
            parts = {key: None if state is None else state[key] for key in outline}
            return {key: _with_tensors(outline[key], parts[key], group) for key in outline}
        case list():
            own = [None] * len(outline) if state is None else state
            return [_with_tensors(*pair, group) for pair in zip(outline, own, strict=True)]
    return outline
