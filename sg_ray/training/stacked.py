"""Trainings of one configuration that differ in their seeds, computed as one on one device.

Small models leave a device idle: what a step costs is its launches, not its arithmetic. K of them
take the same launches as one if each operation works on all (``torch.func.vmap`` over a functional
call, as in PyTorch's tutorial on model ensembling). All weights lie in one matrix with a row for
each seed; so do gradients and the optimiser's moments, and a training's own model and optimiser
are views of its row. Each keeps its order of samples, its dropout, its norm, schedule and files.

A row's bits depend on the shapes alone, never on what other rows hold: on how many rows there are,
which of them it is, and how far batches are filled up. That is noted as its ``stack``. A training
that has ended leaves its row empty, and one that is resumed or trained again for itself finds its
row among empty ones.

Shape legend: K rows, P weights of a model, S samples that a batch has room for.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.functional import binary_cross_entropy_with_logits

from sg_ray.errors import InfrastructureError, InputError, OutOfMemory
from sg_ray.host.disk import disk_trouble
from sg_ray.models.family import Batch, Capacity, FixedSplit, NeuralConfig, SplitData
from sg_ray.models.seeded_dropout import set_dropout_piece, set_dropout_seed
from sg_ray.training.batches import Indices
from sg_ray.training.compute import Compute
from sg_ray.training.fallbacks import ADVICE, guard_memory
from sg_ray.training.loop import Interrupted, ShouldStop, Training
from sg_ray.training.position import EpochResult
from sg_ray.training.shared_gpu import refuse_what_neighbours_took
from sg_ray.training.stacked_weights import StackedWeights
from sg_ray.training.step import StepOutcome

Round = Mapping[int, EpochResult | Exception]
"""By row: the epoch that a training has completed, or what has ended it."""

PAYS_BELOW = 0.8
"""Of the time that trainings alone take, a stack may take so much: else it is not worth it."""

Result = TypeVar("Result")
_WARM_UP_STEPS, _TIMED_STEPS = 3, 10
_NO_SAMPLES: Indices = np.empty(0, dtype=np.int64)


class StackedTraining:
    """Trainings in the rows of one stack; whichever of them has ended leaves the others as is."""

    def __init__(
        self,
        members: Mapping[int, Training],
        seeds: Sequence[str],
        config: NeuralConfig,
        compute: Compute,
    ) -> None:
        """``members`` by row; a row may be empty. ``seeds`` names those of all rows, empty or not.

        All have ``config`` and share ``compute``. Raises InputError if their positions are of
        different stacks, or if their splits have no fixed shapes.
        """
        self._live = dict(members)
        self._config, self._compute = config, compute
        self._num_rows, self._rows = len(seeds), range(len(seeds))
        self._splits = {row: _fixed(member.train_split) for row, member in members.items()}
        self._valid_splits = {row: _fixed(member.valid_split) for row, member in members.items()}
        self._labels = {r: split.labels.astype(np.float32) for r, split in self._splits.items()}
        self._weights = StackedWeights(members, self._num_rows, config, compute.device)
        self._skeleton = next(iter(members.values())).model
        self._batches: dict[int, list[Indices]] = {}
        self._note = self._noted(seeds)
        for member in members.values():
            member.stack = self._note

    def rounds(self, should_stop: ShouldStop) -> Generator[Round]:
        """Yield, round by round, what became of the trainings; a round has at least one of them.

        An epoch's result comes after its files are written. Raises Interrupted, with all positions
        saved, after ``should_stop``, asked after each step, said yes; and what concerns all.
        """
        ended = {row: member.ended() for row, member in self._live.items()}
        if news := {row: result for row, result in ended.items() if result is not None}:
            yield self._told(dict(news))
        while self._live:
            yield self._told(self._round(should_stop))

    def drop(self, row: int) -> None:
        """Leave a training as it is, e.g. because it is pruned: its row is empty from now on."""
        del self._live[row]
        self._batches.pop(row, None)
        self._weights.clear(row)

    def _told(self, news: dict[int, EpochResult | Exception]) -> Round:
        for row, one in news.items():
            if isinstance(one, Exception) or one.stop_reason is not None:
                self.drop(row)
        return news

    def _round(self, should_stop: ShouldStop) -> dict[int, EpochResult | Exception]:
        """Train until at least one has completed its epoch, or has been ended by an error."""
        news: dict[int, EpochResult | Exception] = {}
        for row, member in self._live.items():
            if not self._batches.get(row):
                _own(news, row, member.check_collapse)
                self._batches[row] = member.batches_left()
        while not news and all(self._batches.values()):
            self._take_step(should_stop, news)
        complete = {r: m for r, m in self._live.items() if r not in news and not self._batches[r]}
        if complete:
            self._complete(complete, news)
        return news

    def _take_step(self, should_stop: ShouldStop, news: dict[int, EpochResult | Exception]) -> None:
        """Take a step of all; note those that it has ended, or who are at the end of an epoch."""
        began_s = time.perf_counter()
        outcomes = self._step({row: self._batches[row].pop(0) for row in self._live})
        stop = should_stop()
        step_time_s = (time.perf_counter() - began_s) / len(self._live)
        interrupted: Interrupted | None = None
        for row, member in self._live.items():
            try:
                _own(news, row, partial(member.advance, outcomes[row], step_time_s, stop))
            except Interrupted as one:  # the others save their positions too
                interrupted = one
        if interrupted is not None:
            raise interrupted

    def _complete(
        self,
        complete: Mapping[int, Training],
        news: dict[int, EpochResult | Exception],
    ) -> None:
        """Validate those that are at the end of an epoch, and have them write its files."""
        began_s = time.perf_counter()
        logits = self._valid_logits()
        took_s = (time.perf_counter() - began_s) / len(complete)
        for row, member in complete.items():
            own = partial(member.complete_epoch, logits[row], took_s)
            if (result := _own(news, row, own)) is not None:
                news[row] = result

    def _step(self, batches: Mapping[int, Indices]) -> dict[int, StepOutcome]:
        """Change each row's weights by the gradient of its mean loss over its batch."""
        torch.manual_seed(0)  # nothing draws from it, and its state is part of a position
        seeds = [self._live[r].dropout_seed() if r in self._live else 0 for r in self._rows]
        set_dropout_seed(self._weights.buffers, seeds)
        rates = {row: member.optimiser.learning_rate for row, member in self._live.items()}
        try:
            losses, gradient = self._compute.fallbacks.repeat_until_done(
                lambda: self._collect(batches), undo=lambda: None
            )
            norms = self._weights.update(gradient)
        except torch.OutOfMemoryError as error:
            refuse_what_neighbours_took(error)
            raise OutOfMemory(
                f"out of memory where a step cannot be redone: {error}. Stack fewer seeds "
                f"(resources.stack_seeds). {ADVICE}"
            ) from error
        loss_of, norm_of = torch.stack([losses, norms]).tolist()  # the only wait for the device
        return {row: StepOutcome(loss_of[row], norm_of[row], rates[row]) for row in batches}

    def _collect(self, batches: Mapping[int, Indices]) -> tuple[Tensor, Tensor]:
        """Return the loss summed over each row's batch, [K], and the gradient of its mean, [K, P].

        Batches are cut as they are for a training alone; a row with fewer pieces has empty ones.
        """
        pieces = {row: self._cut(self._splits[row], batch) for row, batch in batches.items()}
        shares = torch.zeros(self._num_rows)
        for row, batch in batches.items():
            shares[row] = 1 / len(batch)
        put = self._compute.put
        losses = torch.zeros(self._num_rows, device=self._compute.device)
        gradient = torch.zeros_like(self._weights.flat, requires_grad=False)
        capacity = self._capacity("train")
        self._skeleton.train()
        for at in range(max(map(len, pieces.values()))):
            held = {row: own[at] for row, own in pieces.items() if at < len(own)}
            set_dropout_piece(self._weights.buffers, at)
            with self._guarding(self._splits, held):
                logits = self._forward(self._splits, held, capacity)
                piece_losses = self._losses(logits, held)
                total = (piece_losses * put(shares)).sum()
                gradient += torch.autograd.grad(total, self._weights.flat)[0]
            losses += piece_losses.detach()
        return losses, gradient

    def _losses(self, logits: Tensor, held: Mapping[int, Indices]) -> Tensor:
        """Return each row's loss summed over the samples that it holds, [K]; ``logits`` [K, S]."""
        labels = np.zeros(logits.shape, dtype=np.float32)
        is_sample = np.zeros(logits.shape, dtype=np.float32)
        for row, piece in held.items():
            labels[row, : len(piece)] = self._labels[row][piece]
            is_sample[row, : len(piece)] = 1.0
        put = self._compute.put
        losses = binary_cross_entropy_with_logits(
            logits, put(torch.from_numpy(labels)), reduction="none"
        )
        return (losses * put(torch.from_numpy(is_sample))).sum(dim=1)

    def _valid_logits(self) -> dict[int, NDArray[np.float64]]:
        """Return the validation logits of each row that is not empty, in the split's order, [n]."""
        self._skeleton.eval()
        with torch.inference_mode():
            return self._compute.fallbacks.repeat_until_done(self._validate, undo=lambda: None)

    def _validate(self) -> dict[int, NDArray[np.float64]]:
        splits = {row: self._valid_splits[row] for row in self._live}
        split = next(iter(splits.values()))
        found = {row: np.empty(len(split.labels), dtype=np.float64) for row in splits}
        capacity = self._capacity("valid")
        for piece in self._cut(split, np.arange(len(split.labels))):
            held = dict.fromkeys(splits, piece)
            with self._guarding(splits, held):
                logits = self._forward(splits, held, capacity).cpu().numpy()
            for row in splits:
                found[row][piece] = logits[row, : len(piece)]
        return found

    def _forward(
        self, splits: Mapping[int, FixedSplit], held: Mapping[int, Indices], capacity: Capacity
    ) -> Tensor:
        """Return the logits of the samples that each row holds, then of dummies, float32 [K, S]."""
        some = next(iter(splits.values()))
        filler = some.collate_fixed(_NO_SAMPLES, capacity) if len(held) < self._num_rows else {}
        rows = [
            splits[row].collate_fixed(held[row], capacity) if row in held else filler
            for row in self._rows
        ]
        batch = {
            name: self._compute.put(torch.stack([one[name] for one in rows])) for name in rows[0]
        }
        with self._compute.precision.autocast():
            logits: Tensor = vmap(self._call)(self._weights.by_name(), self._weights.buffers, batch)
        return logits.float()

    def _call(self, weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Batch) -> Tensor:
        logits: Tensor = functional_call(self._skeleton, (weights, buffers), (batch,))
        return logits

    def _cut(self, split: SplitData, indices: Indices) -> list[Indices]:
        return self._compute.fallbacks.cut(indices, split.units, padded=split.padded)

    @contextmanager
    def _guarding(
        self, splits: Mapping[int, FixedSplit], held: Mapping[int, Indices]
    ) -> Iterator[None]:
        """Blame a lack of memory on the largest of the pieces: all are cut smaller then."""
        largest = max(held, key=lambda row: int(splits[row].units[held[row]].sum()))
        with guard_memory(splits[largest].units[held[largest]], padded=splits[largest].padded):
            yield

    def _capacity(self, split: Literal["train", "valid"]) -> Capacity:
        """Return the shapes of a split's batches; others once memory has run out."""
        if self._note["max_units"] != self._compute.fallbacks.max_units:
            self._note.update(self._shapes())
        capacity: Capacity = self._note[split]
        return capacity

    def _noted(self, seeds: Sequence[str]) -> dict[str, Any]:
        """Return the stack as it was, or as it begins."""
        known = [member.stack for member in self._live.values() if member.stack is not None]
        if any(note["seeds"] != list(seeds) for note in known):
            raise InputError(
                f"positions of trainings beside {known[0]['seeds']} cannot go on beside "
                f"{list(seeds)}. Start them anew, or resume each stack by itself."
            )
        for note in known:
            self._compute.fallbacks.limit_units(int(note["max_units"]))
        if known:
            return dict(min(known, key=lambda note: int(note["max_units"])))
        return {"seeds": list(seeds), **self._shapes()}

    def _shapes(self) -> dict[str, Any]:
        """Return what holds every batch of every row, of all epochs, and the valid split's."""
        train = [
            split.capacity(
                [
                    piece
                    for epoch in range(1, self._config.epochs + 1)
                    for batch in self._live[row].batches_of_epoch(epoch)
                    for piece in self._cut(split, batch)
                ]
            )
            for row, split in self._splits.items()
            if row in self._live
        ]
        valid = [
            split.capacity(self._cut(split, np.arange(len(split.labels))))
            for row, split in self._valid_splits.items()
            if row in self._live
        ]
        return {
            "max_units": self._compute.fallbacks.max_units,
            "train": _largest(train),
            "valid": _largest(valid),
        }


def relative_cost(
    alone: Training, members: Sequence[Training], config: NeuralConfig, compute: Compute
) -> float:
    """Return how many steps of ``alone`` take as long as one of a stack of ``members``.

    All of them are new, and of no use afterwards: they have taken steps that nobody counts.
    """
    rows = [str(row) for row in range(len(members))]
    stack = StackedTraining(dict(enumerate(members)), rows, config, compute)
    batches = [member.batches_left() for member in members]
    steps = range(_WARM_UP_STEPS + _TIMED_STEPS)
    took_s: dict[str, list[float]] = {"alone": [], "stacked": []}
    for step in steps:  # in turn, so that a machine that gets slower does so for both
        held = {row: own[step % len(own)] for row, own in enumerate(batches)}
        began_s = time.perf_counter()
        alone.take_step(held[0])
        between_s = time.perf_counter()
        stack._step(held)
        took_s["alone"].append(between_s - began_s)
        took_s["stacked"].append(time.perf_counter() - between_s)
    stacked_s, alone_s = (median(took_s[way][_WARM_UP_STEPS:]) for way in ("stacked", "alone"))
    return stacked_s / alone_s


def _largest(capacities: Sequence[Capacity]) -> dict[str, int]:
    names = capacities[0]
    return {name: max(int(one[name]) for one in capacities) for name in names}


def _fixed(split: SplitData) -> FixedSplit:
    if not isinstance(split, FixedSplit):
        raise InputError(
            f"{type(split).__name__} has no fixed shapes, so its seeds cannot be trained as one. "
            "Set resources.stack_seeds=off."
        )
    return split


def _own(
    news: dict[int, EpochResult | Exception], row: int, work: Callable[[], Result]
) -> Result | None:
    """Return ``work()``; note what it raises, unless that concerns the other rows too."""
    try:
        return work()
    except Exception as error:
        news[row] = own_failure(error)
        return None


def own_failure(error: Exception) -> Exception:
    """Return what one of several trainings met, to be told of that one.

    Raised instead is what the others would meet too: a stop, a full disk, a folder that others
    work in.
    """
    if isinstance(error, Interrupted | InfrastructureError) or disk_trouble(error):
        raise error
    return error
