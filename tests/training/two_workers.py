"""What two processes do together in test_training_workers.py."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny_classifier import TinyClassifier, tiny_config, tiny_split

from sg_ray.errors import SgRayError
from sg_ray.models.family import Batch
from sg_ray.training.compute import make_compute
from sg_ray.training.loop import make_training, never, predict
from sg_ray.training.saving import AT_EPOCHS, Saving
from sg_ray.training.seeding import Seeds
from sg_ray.training.workers import SingleWorker, TorchGroup, Workers

CPU = torch.device("cpu")
CONFIG = tiny_config(epochs=2)
STATE = {
    "matrix": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
    "nothing": torch.empty(0, 3),
    "nested": [{"step": torch.tensor(3.0), "betas": (0.9, 0.999), "flag": torch.tensor(True)}],
    "text": "plain",
}
"""Of all kinds that a position holds, and a tensor that does not lie in one piece."""


class SparseClassifier(TinyClassifier):
    """Has a parameter that only long samples use."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0)
        self.for_long = torch.nn.Parameter(torch.full((8,), 0.1))

    def embed(self, batch: Batch) -> torch.Tensor:
        vectors = super().embed(batch)
        is_long = (batch["words"] > 0).sum(dim=1, keepdim=True) > 12
        if not is_long.any():
            return vectors
        return torch.where(is_long, vectors * self.for_long.exp(), vectors)


def sparse_model() -> SparseClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SparseClassifier()


def run_training(
    folder: Path,
    workers: Workers,
    should_stop: Callable[[], bool] = never,
    config=CONFIG,
    model: TinyClassifier | None = None,
    saving: Saving = AT_EPOCHS,
) -> dict[str, object]:
    """45 samples in batches of 4: the last batch of an epoch has one, so rank 1 has none."""
    model = model or sparse_model()
    split = tiny_split(30, seed=1)
    config = config.model_copy(update={"batch_size": 4})
    results = make_training(
        model,
        tiny_split(45),
        split,
        config,
        seeds=Seeds(1),
        objective="val_roc_auc",
        folder=folder,
        identity={"family": "tiny"},
        compute=make_compute(config, CPU, workers),
        saving=saving,
    ).epochs(should_stop)
    metrics = [dict(result.metrics) for result in results]
    probabilities = predict(model, split, config, device=CPU, workers=workers)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return {"weights": weights, "metrics": metrics, "probabilities": probabilities.tolist()}


class WholeClassifier(TinyClassifier):
    """Its weights are all reached by every pass, and it says so."""

    reaches_every_parameter = True


def whole_model() -> WholeClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WholeClassifier(dropout=0.0)


class CountingGroup(TorchGroup):
    """Counts the states that this rank has not read itself."""

    num_sent = 0

    def state_from_first(self, state: dict[str, Any] | None) -> dict[str, Any]:
        self.num_sent += state is None
        return super().state_from_first(state)


def error_of(action: Callable[[], object]) -> str:
    try:
        action()
    except SgRayError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def after_seven_steps_on_rank_1(rank: int) -> Callable[[], bool]:
    steps = iter(range(1, 100))
    return lambda: next(steps) == 7 and rank == 1


def broken_on_rank_1(rank: int) -> TinyClassifier:
    model = sparse_model()

    def break_logits(module, inputs, logits):
        return logits * (float("nan") if rank == 1 and module.training else 1.0)

    model.register_forward_hook(break_logits)
    return model


def cramped_on_rank_1(rank: int) -> TinyClassifier:
    """Memory for one sample at once on rank 1."""
    model = sparse_model()

    def check(module, inputs):
        if rank == 1 and len(inputs[0]["words"]) > 1:
            raise torch.OutOfMemoryError("out of memory")

    model.register_forward_pre_hook(check)
    return model


def cramped_in_backward() -> TinyClassifier:
    """No memory for any backward pass, also that of one sample, in which gradients go round."""
    model = sparse_model()

    def exhaust(gradient):
        raise torch.OutOfMemoryError("out of memory")

    model.head.weight.register_hook(exhaust)
    return model


def scenarios(rank: int, folder: Path) -> None:
    """Run on each rank; leaves ``rank<k>.pt``."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    group = TorchGroup(CPU)
    # Only rank 0's folder is the shared one: no other rank reads or writes files.
    own = folder if rank == 0 else folder / "elsewhere"
    counting = CountingGroup(CPU)
    found = {
        "together": run_training(own / "together", group),
        # Rank 0's clock counts: by rank 1's, no position would ever be due.
        "by_time": run_training(own / "by_time", group, saving=Saving(1e-9 if rank == 0 else None)),
        "gathered": group.gather(torch.arange(rank * 3)),
        "any": [group.any_true(flag) for flag in (False, rank == 1, True)],
        "stopped": error_of(
            lambda: run_training(own / "stopped", group, after_seven_steps_on_rank_1(rank))
        ),
        "resumed": run_training(own / "stopped", counting),
        "num_sent": counting.num_sent,
        "stopped_in_sight": error_of(
            lambda: run_training(folder / "seen", group, after_seven_steps_on_rank_1(rank))
        ),
        "resumed_in_sight": run_training(folder / "seen", counting),
        "num_sent_in_sight": counting.num_sent,
        "whole": run_training(own / "whole", group, model=whole_model()),
        "states": group.state_from_first(STATE if rank == 0 else None),
        "refused": error_of(
            lambda: run_training(own / "stopped", group, config=tiny_config(epochs=9))
        ),
        "diverged": error_of(
            lambda: run_training(own / "diverged", group, model=broken_on_rank_1(rank))
        ),
        "cramped": run_training(own / "cramped", group, model=cramped_on_rank_1(rank)),
        "exhausted": error_of(
            lambda: run_training(own / "exhausted", group, model=cramped_in_backward())
        ),
    }
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def alone(folder: Path, model: TinyClassifier | None = None) -> dict[str, object]:
    """Return what one worker gets."""
    return run_training(folder, SingleWorker(), model=model)
