"""A finished trial as a folder that ``sg_ray.detector`` loads without what it came from."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from sg_ray.commands import sg_ray_command
from sg_ray.configuration import Configuration
from sg_ray.detector import ModelCard, OwnCodeNote, checksums_of, features_read
from sg_ray.errors import InputError
from sg_ray.features.build import store_dir
from sg_ray.files import write_json
from sg_ray.models.families import BUILT_IN, FAMILIES
from sg_ray.models.pretrained import save_architecture
from sg_ray.records.record import RunRecord, read_history, read_surroundings
from sg_ray.records.weights import why_missing
from sg_ray.sweep_folder import (
    BEST,
    BRANCHES_DIR,
    FEATURES_DIR,
    METADATA,
    METRICS,
    MODEL_CARD,
    PRETRAINED_DIR,
    RECORDS,
    SweepFolder,
)
from sg_ray.training.checkpoint import read_best
from sg_ray.trial.spec import BranchSource

_LOGGER = logging.getLogger(__name__)


def export_model(
    record: RunRecord,
    branches: Mapping[str, BranchSource],
    trained: Path,
    cache_dir: Path,
    folder: Path,
) -> None:
    """Write one finished trial as ``folder``, which a reader sees whole or not at all.

    ``trained`` holds the trial's files, ``branches`` say where those of what it builds on lie, and
    below ``cache_dir`` are its features. Raises InputError if the weights are gone.
    """
    temporary = _emptied_scratch(folder)
    card = _card(record, branches)
    _copy_trained(trained, record.configuration, temporary)
    for name, source in branches.items():
        _copy_trained(source.folder, source.configuration, temporary / BRANCHES_DIR / name)
    for spec in features_read(card):
        made = store_dir(cache_dir, record.data_fingerprint, spec)
        _copy_featuriser(made, temporary / FEATURES_DIR / spec.key)
    card = card.model_copy(update={"checksums": checksums_of(temporary)})
    write_json(temporary / MODEL_CARD, card)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def withdraw_model(folder: Path) -> None:
    """Remove an exported model, if there is one, in one step for a reader."""
    if folder.exists():
        scratch = _emptied_scratch(folder)
        folder.rename(scratch)
        shutil.rmtree(scratch)


def _emptied_scratch(folder: Path) -> Path:
    scratch = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    return scratch


def _card(record: RunRecord, branches: Mapping[str, BranchSource]) -> ModelCard:
    threshold = record.metrics.get("val_threshold")
    return ModelCard(
        configuration=record.configuration,
        config_hash=record.config_hash,
        seed=record.seed,
        trial_key=record.trial_key,
        threshold=0.5 if threshold is None else threshold,
        metrics=record.metrics,
        data_fingerprint=record.data_fingerprint,
        code_version=record.code_version,
        branches={name: source.configuration for name, source in branches.items()},
        own_code={
            name: OwnCodeNote.of(FAMILIES.plugin(name))
            for name in (record.family, *branches)
            if name not in BUILT_IN
        },
    )


def _copy_trained(trained: Path, configuration: Configuration, folder: Path) -> None:
    """Copy a trial's weights and metrics, and what its architecture follows from."""
    folder.mkdir(parents=True)
    if not (trained / BEST).exists():
        raise InputError(_missing(trained))
    _check_trained(trained)
    for name in (BEST, METADATA, METRICS):
        if (trained / name).exists():
            shutil.copy2(trained / name, folder / name)
    if isinstance(pretrained := configuration.values.get("pretrained"), str):
        _save_architecture(pretrained, folder / PRETRAINED_DIR)


def _missing(trained: Path) -> str:
    sweep, key = SweepFolder(trained.parent.parent), trained.name
    reason = why_missing(sweep, key)
    if reason is None:
        return (
            f"{trained / BEST} is missing, so its model cannot be exported. Restore the file, or "
            f"delete {RECORDS}/{key}.json to train that trial again."
        )
    again = sg_ray_command("reproduce", f"{sweep}:{key}", "--output-dir", "DIR")
    return f"{reason} To have them, train it again: {again}, or a sweep with keep_weights=all."


def _check_trained(trained: Path) -> None:
    """Raise an error that names a damaged file: here, and not when the model is loaded."""
    read_best(trained)
    read_history(trained)
    read_surroundings(trained)


def _save_architecture(name: str, folder: Path) -> None:
    """Write a pretrained encoder's ``config.json``; its weights are in ``best_model.pt``."""
    try:
        save_architecture(name, folder)
    except InputError as error:
        _LOGGER.warning("the exported model needs %s wherever it is loaded (%s)", name, error)


def _copy_featuriser(store: Path, folder: Path) -> None:
    """Copy the fitted state (tokenizer, vocabulary), not the arrays."""
    shutil.copytree(store, folder, ignore=shutil.ignore_patterns("*.npy", "meta.json"))
