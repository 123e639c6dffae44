"""What a model says about every sample of a split, kept beside its weights."""

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sg_ray.errors import InputError
from sg_ray.files import atomic_path

UNREADABLE = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    LookupError,
    EOFError,
)
"""What reading a damaged archive of numpy or torch may raise."""


@dataclass(frozen=True)
class Predictions:
    """Labels (0 or 1) and probabilities of "vulnerable", both of shape [n], in split order.

    ``sample_ids``, shape [n] too, say which function each is of; None if the data have no ids.
    """

    labels: NDArray[np.int8]
    probabilities: NDArray[np.float64]
    sample_ids: NDArray[np.str_] | None = None


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions, atomically; equal ones become equal bytes.

    The ids are UTF-8 there, for numpy's own texts would take four bytes a character.
    """
    arrays: dict[str, NDArray[Any]] = {
        "labels": np.asarray(predictions.labels, dtype=np.int8),
        "probabilities": np.asarray(predictions.probabilities, dtype=np.float64),
    }
    if predictions.sample_ids is not None:
        arrays["sample_ids"] = np.char.encode(predictions.sample_ids, "utf-8", "surrogatepass")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stubs confuse names and flags


def read_predictions(path: Path) -> Predictions | None:
    """Return what ``write_predictions`` wrote; None if there is no file.

    Raises InputError that names the file if it is damaged.
    """
    if not path.exists():
        return None
    try:
        return _read(path)
    except (*UNREADABLE, OSError) as error:
        raise InputError(
            f"{path}: these are no valid predictions ({type(error).__name__}: {error}). Restore "
            "the file from a copy, or delete it: its trial then counts by its metrics alone."
        ) from error


def _read(path: Path) -> Predictions:
    with zipfile.ZipFile(path) as archive:  # numpy does not look at every checksum
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} has a wrong checksum")
    with np.load(path, allow_pickle=False) as content:
        labels, probabilities = content["labels"], content["probabilities"]
        ids = content.get("sample_ids")
    if (labels.dtype, probabilities.dtype) != (np.int8, np.float64):
        raise ValueError(f"it holds {labels.dtype} and {probabilities.dtype}")
    if labels.ndim != 1 or labels.shape != probabilities.shape:
        raise ValueError(f"it has shapes {list(labels.shape)} and {list(probabilities.shape)}")
    if not (np.isin(labels, (0, 1)) & (probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("a label or a probability is out of range")
    if ids is None:
        return Predictions(labels, probabilities)
    if ids.dtype.kind != "S" or ids.shape != labels.shape:
        raise ValueError(f"it has {ids.dtype} of shape {list(ids.shape)} for ids")
    return Predictions(labels, probabilities, np.char.decode(ids, "utf-8", "surrogatepass"))
