"""The CodeXGLUE defect-detection data set (Devign), downloaded once with the hub's own library.

Zhou et al. 2019, https://arxiv.org/abs/1909.03496; CodeXGLUE: https://arxiv.org/abs/2102.04664.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sg_ray.data.jsonl import sample_from_row, write_jsonl
from sg_ray.data.samples import SPLITS, Sample
from sg_ray.errors import InputError

HUB_NAME = "google/code_x_glue_cc_defect_detection"
_HUB_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_TIMEOUT_S = 10
_FOLDER = "codexglue"
"""Within the cache."""


def fetch_codexglue(folder: Path) -> None:
    """Make sure that ``folder`` holds ``train|valid|test.jsonl.xz``, downloading what is missing.

    Raises InputError, after seconds, that says what to put where if the hub cannot be reached.
    """
    missing = _missing(folder)
    if not missing:
        return
    downloaded = _download()
    for split in missing:
        rows = downloaded[_HUB_SPLITS[split]]
        write_jsonl(_split_file(folder, split), _samples(rows, split))


def is_downloaded(cache_dir: Path) -> bool:
    """Return True if nothing is left to download into ``cache_dir``."""
    return not _missing(cache_dir / _FOLDER)


def _missing(folder: Path) -> list[str]:
    return [split for split in SPLITS if not _split_file(folder, split).exists()]


def _split_file(folder: Path, split: str) -> Path:
    return folder / f"{split}.jsonl.xz"


def _samples(rows: Iterable[Mapping[str, Any]], split: str) -> list[Sample]:
    return [
        sample_from_row(row, f"{split}-{number}", f"{HUB_NAME}, {split}, row {number}")
        for number, row in enumerate(rows, start=1)
    ]


def _download() -> Any:
    # Their errors share no base class (network, proxy, cache, format, missing split): each means
    # that the data set is not to be had this way, and the remedy is the same.
    try:
        from datasets import load_dataset
        from huggingface_hub import HfApi

        # The library retries for 23 s without saying so; a look-up first fails at once.
        HfApi().dataset_info(HUB_NAME, timeout=_TIMEOUT_S)
        return load_dataset(HUB_NAME)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"data.source=codexglue: the hub data set {HUB_NAME} could not be downloaded "
            f"({reason}). On a machine with network access get its three splits as JSON Lines: "
            'train.jsonl, valid.jsonl and test.jsonl, one {"func": ..., "target": 0 or 1} on a '
            "line. Put them into one folder DIR and set data.path=DIR."
        ) from error
