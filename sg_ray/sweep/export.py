"""The winners, each as a folder that scores new functions without the sweep it came from."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from sg_ray.config import Experiment
from sg_ray.features.build import store_dir
from sg_ray.features.spec import FeatureSpec
from sg_ray.files import write_json
from sg_ray.sweep.planner import Planner
from sg_ray.sweep.records import RunRecord, trial_dir
from sg_ray.training.metrics import is_better
from sg_ray.trial import BranchSource


def export_winners(
    experiment: Experiment, data_fingerprint: str, planner: Planner, specs: Sequence[FeatureSpec]
) -> None:
    """Write ``best/<family>/`` for each family's winner, from its best seed by the objective."""
    records = planner.ledger.records
    for family, row in planner.winners().items():
        of_winner = [
            r for r in records.values() if r.config_hash == row.config_hash and r.seed in row.seeds
        ]
        best = _best(of_winner)
        spec = planner.plans[family].spec(best.config, best.seed)
        folder = experiment.sweep_dir / "best" / family
        _export(best, spec.branches, trial_dir(experiment.sweep_dir, best.trial_key), folder)
        _copy_featurisers(experiment.cache_dir, data_fingerprint, specs, folder / "features")


def _best(records: Sequence[RunRecord]) -> RunRecord:
    best = records[0]
    for record in records[1:]:
        value, so_far = (r.metrics.get(r.objective) for r in (record, best))
        if value is not None and is_better(record.objective, value, so_far):
            best = record
    return best


def _export(
    record: RunRecord, branches: Mapping[str, BranchSource], trained: Path, folder: Path
) -> None:
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(trained, temporary)
    write_json(
        temporary / "model.json",
        {
            "family": record.family,
            "config": record.config,
            "seed": record.seed,
            "trial_key": record.trial_key,
            "threshold": record.metrics.get("val_threshold"),
            "metrics": record.metrics,
            "data_fingerprint": record.data_fingerprint,
            "code_version": record.code_version,
            "branches": {name: source.config for name, source in branches.items()},
        },
    )
    for name, source in branches.items():
        shutil.copytree(source.folder, temporary / "branches" / name)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


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
