"""B2: what a fusion builds on is told by its weights, not only by the trial that they are of."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from exported_models import CONFIGS, Workshop

from sg_ray.configuration import Configuration
from sg_ray.errors import InputError
from sg_ray.records.record import RunRecord, record_of
from sg_ray.sweep_folder import VALID_PREDICTIONS
from sg_ray.training.checkpoint import weights_id
from sg_ray.trial.run import run_trial
from sg_ray.trial.spec import BranchSource, TrialSpec


def source(spec: TrialSpec, folder: Path) -> BranchSource:
    return BranchSource(
        trial_key=spec.trial_key,
        configuration=spec.configuration,
        config_hash=spec.config_hash,
        folder=folder,
        weights=weights_id(folder),
    )


def fusion_of(branches: dict[str, BranchSource], like: TrialSpec) -> TrialSpec:
    values = {**like.configuration.values, **CONFIGS["fusion"], "epochs": 1}
    configuration = Configuration(model=like.model, family=like.family, values=values)
    changed = {**like.model_dump(), "branches": branches}
    return TrialSpec.model_validate(changed).with_configuration(configuration)


def probabilities(spec: TrialSpec, workshop: Workshop, folder: Path) -> np.ndarray:
    list(run_trial(spec, workshop.context(spec), folder))
    with np.load(folder / VALID_PREDICTIONS) as told:
        return told["probabilities"]


def trained_again(spec: TrialSpec, workshop: Workshop, folder: Path, seed: int) -> Path:
    """Train a branch's settings with ``seed``, which stands for other hardware: other weights."""
    other = spec.model_copy(update={"seed": seed})
    list(run_trial(other, workshop.context(other), folder))
    return folder


def test_b02_equal_weights_have_one_name_however_long_they_took(workshop, trained, tmp_path):
    spec = trained["gnn"][0]
    first = weights_id(workshop.folder / "trials" / spec.trial_key)
    assert weights_id(trained_again(spec, workshop, tmp_path / "same", spec.seed)) == first
    assert weights_id(trained_again(spec, workshop, tmp_path / "other", 8)) != first
    assert weights_id(tmp_path / "nothing") is None


def test_b02_a_retrained_branch_never_meets_old_embeddings(workshop, trained, tmp_path):
    fusion = trained["fusion"][0]
    parts = {
        name: source(trained[name][0], workshop.folder / "trials" / trained[name][0].trial_key)
        for name in ("transformer", "gnn")
    }
    before = fusion_of(parts, fusion)
    old = probabilities(before, workshop, tmp_path / "old")

    gnn = trained["gnn"][0]
    folder = trained_again(gnn, workshop, tmp_path / "gnn", 8)
    after = fusion_of({**parts, "gnn": source(gnn, folder)}, fusion)
    new = probabilities(after, workshop, tmp_path / "new")

    assert after.branches["gnn"].trial_key == before.branches["gnn"].trial_key
    assert after.trial_key != before.trial_key
    assert after.config_hash == before.config_hash
    assert not np.array_equal(old, new)
    shutil.rmtree(workshop.folder / "cache" / "branch_outputs")
    assert np.array_equal(probabilities(after, workshop, tmp_path / "uncached"), new)
    told = record(after).branch_weights
    assert told == {name: part.weights for name, part in after.branches.items()}


def record(spec: TrialSpec) -> RunRecord:
    return record_of(
        spec, "search", [], status="completed", started_at_ms=0, environment={}, failure=None
    )


def test_b02_weights_that_are_not_those_on_record_are_refused(workshop, trained, tmp_path):
    gnn = trained["gnn"][0]
    folder = trained_again(gnn, workshop, tmp_path / "gnn", 8)
    parts = {
        name: source(trained[name][0], workshop.folder / "trials" / trained[name][0].trial_key)
        for name in ("transformer", "gnn")
    }
    parts["gnn"] = parts["gnn"].model_copy(update={"folder": folder})
    spec = fusion_of(parts, trained["fusion"][0])
    with pytest.raises(InputError, match="holds other weights than those of gnn"):
        list(run_trial(spec, workshop.context(spec), tmp_path / "fusion"))
