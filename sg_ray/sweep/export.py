"""The winners, each as a folder that scores new functions without the sweep it came from."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from sg_ray.config import Experiment
from sg_ray.features.build import store_dir
from sg_ray.features.spec import FeatureSpec
from sg_ray.files import write_json
from sg_ray.sweep.leaderboard import Row
from sg_ray.sweep.planner import Ledger
from sg_ray.sweep.records import RunRecord, trial_dir
from sg_ray.training.metrics import is_better


def export_winners(
    experiment: Experiment,
    data_fingerprint: str,
    ledger: Ledger,
    winners: Mapping[str, Row],
    specs: Sequence[FeatureSpec],
) -> None:
    """Write ``best/<family>/`` for each family's winner, from its best seed by the objective."""
    for family, row in winners.items():
        records = [
            r
            for r in ledger.records.values()
            if r.config_hash == row.config_hash and r.seed in row.seeds
        ]
        folder = experiment.sweep_dir / "best" / family
        _export(_best(records), ledger, folder)
        _copy_featurisers(experiment.cache_dir, data_fingerprint, specs, folder / "features")


def _best(records: Sequence[RunRecord]) -> RunRecord:
    best = records[0]
    for record in records[1:]:
        value, so_far = (r.metrics.get(r.objective) for r in (record, best))
        if value is not None and is_better(record.objective, value, so_far):
            best = record
    return best


def _export(record: RunRecord, ledger: Ledger, folder: Path) -> None:
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    _copy_trial(record, ledger, temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _copy_trial(record: RunRecord, ledger: Ledger, folder: Path) -> None:
    shutil.copytree(trial_dir(ledger.sweep_dir, record.trial_key), folder)
    write_json(
        folder / "model.json",
        {
            "family": record.family,
            "config": record.config,
            "seed": record.seed,
            "trial_key": record.trial_key,
            "threshold": record.metrics.get("val_threshold"),
            "metrics": record.metrics,
            "data_fingerprint": record.data_fingerprint,
            "code_version": record.code_version,
            "branches": list(record.branches),
        },
    )
    for name, trial_key in record.branches.items():
        if trial_key in ledger.records:
            _copy_trial(ledger.records[trial_key], ledger, folder / "branches" / name)


def _copy_featurisers(
    cache_dir: Path, data_fingerprint: str, specs: Sequence[FeatureSpec], folder: Path
) -> None:
    """Copy the fitted state (tokenizer, vocabulary), not the arrays."""
    for spec in specs:
        source = store_dir(cache_dir, data_fingerprint, spec)
        shutil.copytree(
            source,
            folder / spec.key,
            ignore=shutil.ignore_patterns("*.npy"),
            dirs_exist_ok=True,
        )
