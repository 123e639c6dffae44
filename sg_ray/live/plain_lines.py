"""Lines for work that is not a sweep: features being made, epochs of a single training."""

import sys

from sg_ray.training.loop import EpochResult

_BAR_WIDTH = 30


def show_progress(kind: str, done: int, total: int) -> None:
    """Draw a bar on a terminal; elsewhere write one line when a feature kind is complete."""
    if sys.stdout.isatty():
        filled = _BAR_WIDTH * done // max(total, 1)
        bar = "#" * filled + "." * (_BAR_WIDTH - filled)
        print(f"\r{kind:<10} [{bar}] {done}/{total}", end="\n" if done >= total else "", flush=True)
    elif done >= total:
        print(f"{kind}: {total} functions", flush=True)


def show_epoch(result: EpochResult) -> None:
    """Write one line an epoch."""
    names = ("train_loss", "val_loss", "val_accuracy", "val_f1", "val_roc_auc")
    shown = "  ".join(
        f"{name} {result.metrics[name]:.4f}" for name in names if name in result.metrics
    )
    mark = "  *" if result.is_best else ""
    print(f"epoch {result.epoch}  {shown}{mark}", flush=True)
