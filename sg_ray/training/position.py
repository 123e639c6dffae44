"""Where a training stands, and what it tells its caller after each epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sg_ray.training.metrics import is_better


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave.

    ``metrics``: train_loss, scheduled_learning_rate (of the last step, where the setting is the
    schedule's peak), samples_per_s (training alone), epoch_time_s (training and validation), and
    those of ``metrics.validation_metrics``.
    ``stop_reason`` is None while another epoch follows, else "epochs" or "early_stopping".
    ``longest_gap_s`` and ``save_s`` as of ``Pace``.
    """

    epoch: int
    metrics: Mapping[str, float]
    is_best: bool
    stop_reason: str | None
    longest_gap_s: float = field(default=0.0, compare=False)
    save_s: float = field(default=0.0, compare=False)


def _nothing_yet() -> dict[str, float]:
    return {"loss_sum": 0.0, "learning_rate": 0.0, "train_time_s": 0.0}


@dataclass
class Progress:
    """Position and results so far; with the states of model and optimiser it is ``last.pt``.

    ``epoch`` counts completed epochs; ``partial`` belongs to the one in progress. ``best`` has the
    best epoch by the objective, its value and metrics; ``best_val_f1`` is the highest of all.
    ``num_collapsed`` counts the last validations in a row that show a collapsed model.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    global_step: int = 0
    partial: dict[str, float] = field(default_factory=_nothing_yet)
    best: dict[str, Any] | None = None
    best_val_f1: float = 0.0
    num_collapsed: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def position(self) -> str:
        """The position in words, for messages."""
        return f"epoch {self.epoch + 1}, step {self.step_in_epoch}"

    def advance(self, loss_sum: float, learning_rate: float, time_s: float) -> None:
        """Count one optimisation step."""
        self.step_in_epoch += 1
        self.global_step += 1
        self.partial["loss_sum"] += loss_sum
        self.partial["learning_rate"] = learning_rate
        self.partial["train_time_s"] += time_s

    def complete_epoch(
        self, metrics: Mapping[str, float], objective: str, *, collapsed: bool = False
    ) -> None:
        """Count one epoch."""
        self.epoch += 1
        self.num_collapsed = self.num_collapsed + 1 if collapsed else 0
        self.step_in_epoch = 0
        self.partial = _nothing_yet()
        self.history.append({"epoch": self.epoch, **metrics})
        self.best_val_f1 = max(self.best_val_f1, metrics["val_f1"])
        value = metrics[objective]
        if is_better(objective, value, self.best["value"] if self.best else None):
            self.best = {"epoch": self.epoch, "value": value, "metrics": dict(metrics)}

    def last_result(self, num_epochs: int, patience: int | None) -> EpochResult:
        """Return the last completed epoch as it is told to the caller."""
        metrics = dict(self.history[-1])
        del metrics["epoch"]
        best_epoch = self.best["epoch"] if self.best else 0
        stop_reason = None
        if self.epoch >= num_epochs:
            stop_reason = "epochs"
        elif patience is not None and self.epoch - best_epoch >= patience:
            stop_reason = "early_stopping"
        return EpochResult(self.epoch, metrics, self.epoch == best_epoch, stop_reason)
