"""The training loop of every neural family: one EpochResult after another.

It knows nothing of who drives it, so it runs unchanged in a test, in a Tune actor and in a group
of workers.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from enum import IntEnum
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sg_ray.errors import Collapsed, Diverged, InputError, SgRayError
from sg_ray.files import to_plain
from sg_ray.host.stop_flag import StopReason
from sg_ray.models.family import Classifier, NeuralConfig, SplitData
from sg_ray.models.seeded_dropout import set_dropout_seed
from sg_ray.statistics.own_metrics import Metric
from sg_ray.training import checkpoint
from sg_ray.training.ahead import made_ahead
from sg_ray.training.batches import Indices, epoch_batches, num_batches
from sg_ray.training.captured_step import CapturedStep
from sg_ray.training.checkpoint import Best, best_content, load_best, write_metadata
from sg_ray.training.collapse import is_collapsed
from sg_ray.training.compute import Compute, environment
from sg_ray.training.fixed_shapes import FixedShapes, fixed_split
from sg_ray.training.inference import predict, predict_logits
from sg_ray.training.metrics import check_objective, sigmoid, validation_metrics
from sg_ray.training.optimiser import Optimiser, linear_schedule
from sg_ray.training.position import EpochResult, Progress
from sg_ray.training.predictions import Predictions
from sg_ray.training.saving import AT_EPOCHS, Pace, Saving
from sg_ray.training.seeding import Seeds, allow_nondeterminism, determinism, stream_seed
from sg_ray.training.step import Launched, Prepared, StepOutcome, Stepper

__all__ = ["EpochResult", "Interrupted", "load_best", "make_training", "never", "predict"]


class Interrupted(SgRayError):  # noqa: N818 - somebody's wish, not an error
    """``should_stop`` said so; ``last.pt`` holds the position, mid-epoch."""

    exit_code = 130

    def __init__(self, message: str = "", reason: StopReason = "stop") -> None:
        super().__init__(message)
        self.reason = reason


ShouldStop = Callable[[], StopReason | bool | None]
"""Asked after each step: why to stop (True: all do), or something empty to go on."""


class _Order(IntEnum):
    """What is done after a step; the highest of what the workers' processes say."""

    GO_ON = 0
    SAVE = 1
    LEAVE = 2
    STOP = 3
    DIVERGED = 4


def never() -> bool:
    """Return False: nobody asks the training to stop."""
    return False


def make_training(
    model: Classifier,
    train_split: SplitData,
    valid_split: SplitData,
    config: NeuralConfig,
    *,
    seeds: Seeds,
    objective: str,
    folder: Path,
    identity: Mapping[str, Any],
    compute: Compute,
    saving: Saving = AT_EPOCHS,
    valid_ids: NDArray[np.str_] | None = None,
    own_metrics: Sequence[Metric] = (),
    is_stacked: bool = False,
) -> "Training":
    """Return a training of ``model`` that stands where ``folder`` left it.

    ``seeds`` are those with which ``model`` was built: its weights are there already.
    ``valid_ids``, shape [n], name the samples of ``valid_split`` in the predictions that are kept.
    ``own_metrics`` are the user's, measured too. ``saving`` says when positions are saved beside
    those at the end of each epoch. ``is_stacked``: its steps are taken by a ``StackedTraining``,
    together with those of others.

    Raises InputError for settings that cannot work or a ``last.pt`` of other settings; and
    TrainingError if ``last.pt`` is broken.
    """
    check_objective(objective, valid_split.labels)
    for name, split in (("train", train_split), ("valid", valid_split)):
        if len(split.labels) == 0:
            raise InputError(f"the {name} split is empty. Check the data source and its limits.")
    settings = {
        "config": config.model_dump(mode="json"),
        "identity": to_plain(identity),
        "seed": seeds.seed,
        "streams": dict(seeds.streams),
        "objective": objective,
    }
    return Training(
        model, train_split, valid_split, config, seeds, settings, folder, compute, saving,
        valid_ids, own_metrics, is_stacked=is_stacked,
    )  # fmt: skip


class Training:
    """One training: its parts, its progress, its files."""

    model: Classifier
    train_split: SplitData
    valid_split: SplitData
    optimiser: Optimiser
    stack: Mapping[str, Any] | None
    """What its bits depend on beside its own where it is one of a stack: see ``StackedTraining``.
    As ``last.pt`` has it, or None of one that begins."""

    def __init__(
        self,
        model: Classifier,
        train_split: SplitData,
        valid_split: SplitData,
        config: NeuralConfig,
        seeds: Seeds,
        settings: Mapping[str, Any],
        folder: Path,
        compute: Compute,
        saving: Saving,
        valid_ids: NDArray[np.str_] | None,
        own_metrics: Sequence[Metric],
        *,
        is_stacked: bool = False,
    ) -> None:
        self._saving = saving
        self._pace = Pace()
        self._valid_ids = valid_ids
        self._own_metrics = own_metrics
        self.model = model.to(compute.device)
        self._buffers = dict(self.model.named_buffers())
        self.train_split = train_split
        self.valid_split = valid_split
        self._config = config
        self._seeds = seeds
        self._settings = settings
        self._folder = folder
        self._compute = compute
        self._workers = compute.workers
        num_steps = config.epochs * num_batches(len(train_split.labels), config.batch_size)
        self.optimiser = Optimiser(
            model, config, linear_schedule(config, num_steps), compute.precision.grad_scaler()
        )
        self._is_stacked = is_stacked
        self._way = "stacked" if is_stacked else "plain"
        self.stack = None
        self._progress = self._restore()
        self._stepper = Stepper(model, train_split, self.optimiser, compute, self._shapes())
        # Only what computes beside this process leaves it time for anything else.
        is_device = compute.device.type != "cpu"
        self._lead = 2 if is_device else 0
        # On several workers all decide together after each step.
        self._lag = 1 if is_device and self._workers.world_size == 1 else 0
        self._counted_s = 0.0

    def epochs(self, should_stop: ShouldStop) -> Iterator[EpochResult]:
        """Yield the result of each epoch that is left, after its files are written.

        An interrupted training goes on, inside an epoch if need be, and on one worker ends in the
        same bits; of a finished one the last result is yielded again. ``model`` is left with its
        last weights: see ``load_best``. torch's global generator is reseeded before every step.

        Raises Diverged if loss, gradient or logits are not finite; Collapsed if
        ``config.collapse_patience`` validations in a row show a collapsed model; OutOfMemory if
        memory does not hold one sample; Interrupted after ``should_stop``, asked after every step,
        said yes on any worker.
        """
        if (last := self.ended()) is not None:
            yield last
            return
        while True:
            self.check_collapse()
            self._train_epoch(should_stop)
            started = time.perf_counter()
            logits = predict_logits(self.model, self.valid_split, self._compute)
            result = self.complete_epoch(logits, time.perf_counter() - started)
            yield result
            if result.stop_reason is not None:
                return

    def _shapes(self) -> FixedShapes | None:
        """Return the shapes of all steps, where they are wanted and the split has them."""
        wish, max_units = self._config.fixed_shapes, self._config.max_units_per_micro_batch
        split = fixed_split(self.train_split)
        is_wanted = wish == "on" or (wish == "auto" and CapturedStep.suits(self._compute))
        # Once memory ran out, a training goes on in other pieces: so does one that is resumed.
        is_cut = self._compute.fallbacks.max_units < max_units
        is_alone = self._workers.world_size == 1 and not self._is_stacked
        if split is None or not is_wanted or not is_alone or is_cut:
            return None
        epochs = range(1, self._config.epochs + 1)
        batches = chain.from_iterable(self.batches_of_epoch(epoch) for epoch in epochs)
        return FixedShapes.of(split, batches, max_units)

    def ended(self) -> EpochResult | None:
        """Return the last result of a training that was at its end already; None of any other."""
        if not self._progress.history:
            return None
        last = self._result()
        if last.stop_reason is None:
            return None
        self._write_metadata(last.stop_reason)
        return last

    def _train_epoch(self, should_stop: ShouldStop) -> None:
        """Take the steps that are left of the current epoch."""
        self.model.train()
        unread: deque[Launched] = deque()
        self._counted_s = time.perf_counter()
        with made_ahead(self._stepper.prepare, self.batches_left(), self._lead) as prepared:
            for batch in prepared:
                unread.append(self._launch(batch, len(unread)))
                stop = should_stop()
                self._read(unread, stop, leave=0 if stop or self._is_due() else self._lag)
        self._read(unread, None, leave=0)

    def _read(self, unread: deque[Launched], stop: StopReason | bool | None, leave: int) -> None:
        """Read and count the oldest steps until ``leave`` are left; save or stop at the last."""
        while len(unread) > leave:
            outcome = unread.popleft().read()
            now_s = time.perf_counter()
            step_time_s, self._counted_s = now_s - self._counted_s, now_s
            self.advance(outcome, step_time_s, stop, is_last=not unread)

    def take_step(self, batch: Indices) -> StepOutcome:
        """Change the weights by the gradient of a batch; ``advance`` counts it."""
        return self._launch(self._stepper.prepare(batch)).read()

    def _launch(self, batch: Prepared, num_unread: int = 0) -> Launched:
        seed = self.dropout_seed(num_unread)
        torch.manual_seed(seed)
        set_dropout_seed(self._buffers, seed)
        launched = self._stepper.launch(batch)
        self._way = self._stepper.way
        return launched

    def batches_of_epoch(self, epoch: int) -> list[Indices]:
        """Return the optimisation batches of an epoch, from 1."""
        return epoch_batches(self.train_split, self._config, self._seeds.order, epoch)

    def batches_left(self) -> list[Indices]:
        """Return the batches of the current epoch with which no step was taken yet."""
        progress = self._progress
        return self.batches_of_epoch(progress.epoch + 1)[progress.step_in_epoch :]

    def advance(
        self,
        outcome: StepOutcome,
        step_time_s: float,
        stop: StopReason | bool | None,
        *,
        is_last: bool = True,
    ) -> None:
        """Count a step that was taken, and do what is to be done after it.

        Raises Diverged by its outcome, and Interrupted where ``stop`` says so. If it is not the
        last that was taken, weights are those of a later step: they are neither saved nor left.
        """
        self._progress.advance(outcome.loss_sum, outcome.learning_rate, step_time_s)
        self._heed(stop, outcome, is_last=is_last)

    def dropout_seed(self, num_unread: int = 0) -> int:
        """Return a seed of this step and rank, so that dropout needs no state to be saved.

        ``num_unread`` steps are taken already, but not counted.
        """
        position = (self._progress.global_step + num_unread, self._workers.rank)
        return stream_seed(self._seeds.dropout, "dropout", *position)

    def _heed(self, stop: StopReason | bool | None, outcome: StepOutcome, *, is_last: bool) -> None:
        """Do what any rank has to, all ranks together: leave, or save the position and go on."""
        self._pace.asked()
        own = self._own_order(stop, outcome, is_last=is_last)
        order = _Order(self._workers.highest(own))
        if order == _Order.GO_ON:
            return
        if order == _Order.DIVERGED:
            raise Diverged(
                f"diverged: loss sum {outcome.loss_sum}, gradient norm {outcome.gradient_norm} at "
                f"{self._progress.position}, learning rate {outcome.learning_rate:.3g}. "
                "Lower learning_rate or raise warmup_ratio."
            )
        with self._pace.saving():
            self._commit()
            if self._workers.rank == 0:
                self._saving.put_away()
        if order > _Order.SAVE:
            raise Interrupted(
                f"stopped at {self._progress.position}; {self._folder} holds the position.",
                "preempted" if order == _Order.LEAVE else "stop",
            )

    def _own_order(
        self, stop: StopReason | bool | None, outcome: StepOutcome, *, is_last: bool
    ) -> _Order:
        if self._stepper.is_diverged(outcome):
            return _Order.DIVERGED
        if not is_last:
            return _Order.GO_ON
        if stop:
            return _Order.LEAVE if stop == "preempted" else _Order.STOP
        return _Order.SAVE if self._is_due() else _Order.GO_ON

    def _is_due(self) -> bool:
        """Return whether a position is to be saved; clocks differ, that of rank 0 counts."""
        return self._workers.rank == 0 and self._pace.is_due(self._saving.every_s)

    def complete_epoch(self, logits: NDArray[np.float64], validation_time_s: float) -> EpochResult:
        """Write the epoch's files and return its result.

        ``logits``, shape [n], are those of the valid split. Raises Diverged if one is not finite.
        """
        self._check_finite(logits)
        labels = self.valid_split.labels
        partial = self._progress.partial
        num_samples = len(self.train_split.labels)
        metrics = {
            "train_loss": self._total_loss() / num_samples,
            "scheduled_learning_rate": partial["learning_rate"],
            "samples_per_s": num_samples / partial["train_time_s"],
            "epoch_time_s": partial["train_time_s"] + validation_time_s,
            **validation_metrics(labels, logits, self._own_metrics),
        }
        collapsed = is_collapsed(labels, logits, self._compute.precision.resolution)
        self._progress.complete_epoch(metrics, self._settings["objective"], collapsed=collapsed)
        result = self._result()
        predictions = Predictions(labels, sigmoid(logits), self._valid_ids)
        with self._pace.saving():
            self._commit(predictions if result.is_best else None)
        if result.stop_reason is not None:
            self._write_metadata(result.stop_reason)
        return replace(result, longest_gap_s=self._pace.longest_gap_s, save_s=self._pace.save_s)

    def check_collapse(self) -> None:
        """Raise Collapsed once patience is over; it is kept in ``last.pt``, so a resume does too.

        Asked before an epoch: a training that is at its end has nothing left to save.
        """
        patience, progress = self._config.collapse_patience, self._progress
        if patience is None or progress.num_collapsed < patience:
            return
        raise Collapsed(
            f"collapsed: the last {progress.num_collapsed} validations, up to epoch "
            f"{progress.epoch}, gave every sample the same answer (val_roc_auc "
            f"{progress.history[-1]['val_roc_auc']:.4f}). Lower learning_rate or raise "
            "warmup_ratio; with collapse_patience null such a training goes on."
        )

    def _check_finite(self, logits: NDArray[np.float64]) -> None:
        if not np.isfinite(logits).all():
            raise Diverged(
                f"diverged: validation logits are not finite after {self._progress.position}, "
                f"learning rate {self._progress.partial['learning_rate']:.3g}. "
                "Lower learning_rate or raise warmup_ratio."
            )

    def _total_loss(self) -> float:
        """Return the epoch's loss so far, summed over all ranks."""
        own = torch.tensor([self._progress.partial["loss_sum"]], dtype=torch.float64)
        return float(self._workers.gather(own).sum())

    def _result(self) -> EpochResult:
        return self._progress.last_result(self._config.epochs, self._config.early_stopping_patience)

    def _commit(self, best_predictions: Predictions | None = None) -> None:
        """Write the position, and a model that is the best so far with its predictions; on rank 0.

        ``best_predictions`` are those of such a model, on the validation split.
        """
        loss_sum = self._total_loss()
        fallbacks = self._fallbacks()
        if self._workers.rank == 0:
            states = {"model_state_dict": self.model.state_dict(), **self.optimiser.state_dict()}
            if self._is_stacked:  # a file of rows would hold all that they are rows of
                states = _own_copies(states)
            best = None
            if best_predictions is not None:
                content = best_content(states["model_state_dict"], self._settings, self._progress)
                best = Best(content, best_predictions)
            last = {
                **asdict(self._progress),
                **self._settings,
                **states,
                "rng_state": torch.get_rng_state(),
                "fallbacks": fallbacks,
            }
            last["partial"]["loss_sum"] = loss_sum
            checkpoint.commit(self._folder, last, best, self._saving.check)
        self._workers.barrier()  # whoever goes on finds the files

    def _restore(self) -> Progress:
        """Return the position in ``last.pt``, as rank 0 reads it, and load the states there."""
        own = self._read_last()
        is_read = isinstance(own, dict)
        found = self._workers.from_first(checkpoint.last_id(self._folder) if is_read else own)
        if isinstance(found, SgRayError):
            raise found
        if found is None:
            return Progress()
        if self._workers.rank != 0:  # from the disk that all share, if they do
            own = checkpoint.read_same_last(self._folder, found)
        assert not isinstance(own, SgRayError)
        last = self._workers.state_from_first(own)
        self.stack = last["fallbacks"].get("stack")
        if (self.stack is not None) != self._is_stacked:
            how = "alone" if self.stack is None else f"beside {', '.join(self.stack['seeds'])}"
            raise InputError(
                f"{self._folder} holds the position of a training {how}, and it goes on in no "
                "other way. Use another folder, or delete the file to train from the start."
            )
        self.model.load_state_dict(last["model_state_dict"])
        self.optimiser.load_state_dict(last)
        torch.set_rng_state(last["rng_state"])
        self._compute.fallbacks.limit_units(last["fallbacks"]["max_units_per_micro_batch"])
        self._way = last["fallbacks"]["step"]
        if last["fallbacks"]["determinism"] == "weak":
            allow_nondeterminism()
        progress = Progress(**{name: last[name] for name in Progress.__dataclass_fields__})
        if self._workers.rank != 0:
            progress.partial["loss_sum"] = 0.0  # rank 0 goes on with the sum of all
        return progress

    def _read_last(self) -> dict[str, Any] | SgRayError | None:
        """Read on rank 0; an error is returned, for the other ranks wait for an answer."""
        if self._workers.rank != 0:
            return None
        try:
            return checkpoint.read_last(self._folder, self._settings)
        except SgRayError as error:
            return error

    def _fallbacks(self) -> dict[str, Any]:
        """Return what any rank had to fall back to; all ranks go on from it after an interruption.

        With it a resumed training cuts its batches and picks its operations as before.
        """
        max_units = torch.tensor([self._compute.fallbacks.max_units])
        is_weak = self._workers.any_true(determinism() == "weak")
        return {
            "max_units_per_micro_batch": int(self._workers.gather(max_units).min()),
            "determinism": "weak" if is_weak else determinism(),
            "step": self._way,
            **({} if self.stack is None else {"stack": self.stack}),
        }

    def _write_metadata(self, stop_reason: str) -> None:
        surroundings = {
            **environment(self._compute.device, torch.get_num_threads()),
            "precision": self._compute.precision.name,
            "num_workers": self._workers.world_size,
            "batches": "padded" if self.train_split.padded else "packed",
            **self._fallbacks(),
        }
        if self._workers.rank == 0:
            write_metadata(self._folder, self._settings, self._progress, stop_reason, surroundings)


def _own_copies(state: Any) -> Any:
    """Return a state with tensors that share their memory with no other."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {key: _own_copies(value) for key, value in state.items()}
    return [_own_copies(value) for value in state] if isinstance(state, list) else state
