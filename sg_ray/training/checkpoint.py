"""The files of a trial's folder, written so that a kill at any moment leaves them consistent.

``last.pt`` is the commit: whatever it says has happened. A new best model and its predictions are
written beside it first, and take their places after it; ``metrics.jsonl`` is a view of its history.
"""

import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from sg_ray.errors import InputError, TrainingError
from sg_ray.files import atomic_path, content_hash, to_plain, write_json, write_text
from sg_ray.models.family import Classifier
from sg_ray.sweep_folder import (
    BEST,
    LAST,
    METADATA,
    METRICS,
    NEXT_BEST,
    NEXT_PREDICTIONS,
    VALID_PREDICTIONS,
)
from sg_ray.training.position import Progress
from sg_ray.training.predictions import UNREADABLE, Predictions, read_predictions, write_predictions

BEST_KEYS = frozenset({"model_state_dict", "config", "identity", "epoch", "metrics", "threshold"})

SETTINGS = ("config", "identity", "seed", "streams", "objective")
"""The entries of ``last.pt`` that must be equal for a trial to go on from it."""

KEYS = frozenset(
    {
        "epoch",
        "step_in_epoch",
        "global_step",
        "model_state_dict",
        "optimizer_state_dict",
        "scheduler_state_dict",
        "scaler_state_dict",
        "rng_state",
        "fallbacks",
        "best_val_f1",
        "best",
        "num_collapsed",
        "history",
        "partial",
        *SETTINGS,
    }
    - {"streams"}  # earlier versions had none
)


_TENSOR = re.compile(r"/data/(\d+)$")
"""The part of a file of ``torch.save`` that holds one tensor's numbers."""


@dataclass(frozen=True)
class Best:
    """The best model so far: what ``best_model.pt`` holds, and what it says of the valid split."""

    content: Mapping[str, Any]
    predictions: Predictions


def commit(
    folder: Path, last: Mapping[str, Any], best: Best | None, check: Callable[[], None]
) -> None:
    """Write ``last.pt``, ``metrics.jsonl`` and, unless it is None, a new best model.

    ``check`` is called before each step: it raises if somebody else works in the folder by now.
    """
    check()
    if best is not None:
        write_predictions(folder / NEXT_PREDICTIONS, best.predictions)
        _write(folder / NEXT_BEST, best.content)
        check()
    _write(folder / LAST, last)
    if best is not None:
        check()
        _promote(folder)
    write_history(folder, last["history"])


def read_last(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of ``last.pt``, or None if there is none, and tidy up after a kill.

    Raises InputError if it belongs to other ``settings``, TrainingError if it cannot be read or
    the best model it speaks of is missing.
    """
    path = folder / LAST
    if not path.exists():
        return None
    last = _read(path, KEYS)
    _check_settings(path, last, settings)
    _finish_commit(folder, last)
    write_history(folder, last["history"])
    return last


def last_id(folder: Path) -> str:
    """Return what tells the content of ``last.pt`` from any other, in no time."""
    with zipfile.ZipFile(folder / LAST) as archive:
        return content_hash([(e.filename, e.CRC, e.file_size) for e in archive.infolist()], 64)


def read_same_last(folder: Path, wanted_id: str) -> dict[str, Any] | None:
    """Return the content of ``last.pt`` if it is the wanted one; None if it is not, or not here.

    Changes nothing: another process works in the folder.
    """
    try:
        if last_id(folder) != wanted_id:
            return None
        return _read(folder / LAST, KEYS)  # with its checksums, of which the id is made
    except (*UNREADABLE, OSError, TrainingError):
        return None


def check_resumable(folder: Path) -> Mapping[str, Any]:
    """Return the identity of the trial that can go on from ``folder``. Changes nothing.

    Raises TrainingError for a checkpoint that is missing or broken, InputError for broken
    predictions.
    """
    last = _read(folder / LAST, KEYS)
    if last["best"] is not None:
        _check_best(folder, last["best"]["epoch"])
    for name in (VALID_PREDICTIONS, NEXT_PREDICTIONS):
        read_predictions(folder / name)
    identity: Mapping[str, Any] = last["identity"]
    return identity


def read_place(folder: Path) -> tuple[int, int] | None:
    """Return how many epochs, and steps of the next, lie behind ``last.pt``; None if unreadable.

    Its tensors are left on the disk, so that this is quick.
    """
    try:
        last = torch.load(folder / LAST, map_location="cpu", weights_only=True, mmap=True)
        return int(last["epoch"]), int(last["step_in_epoch"])
    except (*UNREADABLE, OSError, TypeError):
        return None


def read_stack(folder: Path) -> tuple[str, ...] | None:
    """Return the names of the seeds beside which ``last.pt`` was trained; None: alone."""
    last = torch.load(folder / LAST, map_location="cpu", weights_only=True, mmap=True)
    stack = last["fallbacks"].get("stack")
    return None if stack is None else tuple(stack["seeds"])


def read_best(folder: Path) -> dict[str, Any]:
    """Return the content of ``best_model.pt``. Raises TrainingError if it is missing or broken."""
    return _read(folder / BEST, BEST_KEYS)


def weights_id(folder: Path) -> str | None:
    """Return what tells the tensors in ``best_model.pt`` from all others; None if it has none.

    They are told by the checksums that the file's table of contents holds, in no time. Not by the
    whole file: that says how long each epoch took, too.
    """
    path = folder / BEST
    try:
        status = path.stat()
        return _weights_id(path, status.st_size, status.st_mtime_ns)
    except (OSError, zipfile.BadZipFile):
        return None


@lru_cache(maxsize=1024)
def _weights_id(path: Path, size: int, modified_ns: int) -> str | None:
    del size, modified_ns  # part of what is remembered
    with zipfile.ZipFile(path) as archive:
        entries = [(_TENSOR.search(e.filename), e) for e in archive.infolist()]
    found = sorted((int(m[1]), e.CRC, e.file_size) for m, e in entries if m is not None)
    return content_hash(found) if found else None


def load_best(model: Classifier, folder: Path) -> dict[str, Any]:
    """Load the best weights into ``model``; return the rest: epoch, metrics, threshold, ...

    Raises TrainingError if ``best_model.pt`` is missing or broken, or is of another model.
    """
    best = read_best(folder)
    try:
        model.load_state_dict(best.pop("model_state_dict"))
    except RuntimeError as error:
        raise TrainingError(f"{folder / BEST} is of another model. {error}") from error
    return best


def best_content(
    state: Mapping[str, Any], settings: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """Return what ``best_model.pt`` holds after an epoch that is the best so far."""
    assert progress.best is not None
    metrics = progress.best["metrics"]
    return {
        "model_state_dict": state,
        "config": settings["config"],
        "identity": settings["identity"],
        "epoch": progress.best["epoch"],
        "metrics": metrics,
        "threshold": metrics["val_threshold"],
    }


def write_best(folder: Path, best: Best) -> None:
    """Write the files of a best model that has no epochs, hence no ``last.pt``."""
    write_predictions(folder / VALID_PREDICTIONS, best.predictions)
    _write(folder / BEST, best.content)


def write_metadata(
    folder: Path,
    settings: Mapping[str, Any],
    progress: Progress,
    stop_reason: str,
    environment: Mapping[str, Any],
) -> None:
    """Write ``training_metadata.json``, the summary of a finished training.

    ``metrics`` are those of the best epoch by the objective; ``best_val_f1`` is the highest F1 of
    any epoch.
    """
    best = progress.best
    summary = {
        **settings,
        "best_val_f1": progress.best_val_f1,
        "best_epoch": best["epoch"] if best else None,
        "metrics": best["metrics"] if best else {},
        "num_epochs": progress.epoch,
        "stop_reason": stop_reason,
        "total_time_s": sum(row["epoch_time_s"] for row in progress.history),
        "environment": environment,
    }
    write_json(folder / METADATA, summary)


def write_history(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write ``metrics.jsonl``, one epoch a line."""
    lines = [json.dumps(to_plain(row), allow_nan=False) + "\n" for row in history]
    write_text(folder / METRICS, "".join(lines))


def _best_file(folder: Path, best_epoch: int) -> Path:
    """Return the file with the weights of ``best_epoch``; a kill may have left it un-renamed."""
    waiting = folder / NEXT_BEST
    if waiting.exists() and _read(waiting, BEST_KEYS)["epoch"] == best_epoch:
        return waiting
    return folder / BEST


def _check_best(folder: Path, best_epoch: int) -> None:
    """Raise TrainingError if the best model cannot be read, or is another epoch's."""
    path = _best_file(folder, best_epoch)
    epoch = _read(path, BEST_KEYS)["epoch"]
    if epoch != best_epoch:
        raise _broken(path, f"it is of epoch {epoch}, and {LAST} says {best_epoch} is the best")


def _finish_commit(folder: Path, last: Mapping[str, Any]) -> None:
    """Rename a new best model that ``last.pt`` knows of; drop one that it does not."""
    if last["best"] is not None:
        best_epoch = last["best"]["epoch"]
        path = _best_file(folder, best_epoch)
        if not path.exists():
            raise TrainingError(
                f"{path} is missing, though {LAST} says epoch {best_epoch} is the best. "
                f"Restore it, or delete {folder / LAST} to train this trial from the start."
            )
        _check_best(folder, best_epoch)
        read_predictions(folder / VALID_PREDICTIONS)
        if path.name == NEXT_BEST:
            _promote(folder)
    (folder / NEXT_BEST).unlink(missing_ok=True)
    (folder / NEXT_PREDICTIONS).unlink(missing_ok=True)


def _promote(folder: Path) -> None:
    """Put a new best model in its place. Its weights go last: they tell whether it is done."""
    if (folder / NEXT_PREDICTIONS).exists():  # not if a kill came here, or of earlier versions
        (folder / NEXT_PREDICTIONS).replace(folder / VALID_PREDICTIONS)
    (folder / NEXT_BEST).replace(folder / BEST)


def _check_settings(path: Path, last: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    differences = [
        f"  {name}: {was!r} in the file, {now!r} now"
        for key in SETTINGS
        for name, was, now in _differences(key, last.get(key, {}), settings[key])
    ]
    if differences:
        raise InputError(
            f"{path} belongs to another trial:\n" + "\n".join(differences) + "\n"
            "Use another folder, or delete the file to train from the start."
        )


def _differences(name: str, was: Any, now: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(was, dict) and isinstance(now, dict):
        keys = sorted(was.keys() | now.keys())
        pairs = [(f"{name}.{key}", was.get(key), now.get(key)) for key in keys]
        return [found for pair in pairs for found in _differences(*pair)]
    return [] if was == now else [(name, was, now)]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        save(temporary, content)


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as torch does. Raises the disk's own error, of one that is full above all.

    torch writes into a file that is given by its name by itself, and of a full disk it says that a
    position is unexpected.
    """
    with path.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def _read(path: Path, keys: frozenset[str]) -> dict[str, Any]:
    if not path.exists():
        raise TrainingError(f"{path} does not exist: no epoch was completed, or it was deleted.")
    if not path.is_file():
        raise _broken(path, "it is a folder")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load itself does not look at checksums
            if damaged := archive.testzip():
                raise _broken(path, f"{damaged} has a wrong checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise _broken(path, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    if not isinstance(content, dict):
        raise _broken(path, f"it holds a {type(content).__name__}")
    if missing := keys - content.keys():
        raise _broken(path, f"it lacks {', '.join(sorted(missing))}")
    return content


def _broken(path: Path, reason: str) -> TrainingError:
    return TrainingError(
        f"{path} is not a usable checkpoint ({reason}). "
        "Restore it from a copy, or delete it, and the trial's record if it has one, to train "
        "this trial from the start."
    )
