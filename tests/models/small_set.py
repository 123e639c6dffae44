"""A small real set, featurised, and small configurations of every family."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from devices import CPU
from made_up_features import made_up_features

from sg_ray.data.samples import DataSet, Sample
from sg_ray.data.synthetic.generator import generate
from sg_ray.features.packed import Features
from sg_ray.features.spec import FeatureSpec
from sg_ray.models.families import FAMILIES
from sg_ray.models.family import Branch, FamilyConfig, Inputs, NeuralFamily

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "lexical": {"min_df": 1},
    "transformer": {
        "tokens": {"vocab_size": 400},
        "num_layers": 2,
        "hidden_dim": 32,
        "num_heads": 2,
        "max_tokens": 64,
    },
    "gnn": {"hidden_dim": 16, "num_layers": 2},
    "fusion": {"hidden_dim": 16},
}
"""What keeps a family small; a family without an entry runs with its defaults."""

SPLITS = {"train": slice(0, 40), "valid": slice(40, 60), "test": slice(60, 72)}


def small_config(family: str, **settings: Any) -> Any:
    return FAMILIES[family].Config.model_validate({**SETTINGS.get(family, {}), **settings})


@cache
def small_samples() -> dict[str, list[Sample]]:
    samples = generate(72, seed=0)
    return {split: samples[part] for split, part in SPLITS.items()}


@cache
def small_features(*specs: FeatureSpec) -> Features:
    """Featurise as a sweep does. The arrays stay mapped after their folder is gone."""
    from sg_ray.features.build import prepare_features  # with parsers

    with TemporaryDirectory() as folder:
        return prepare_features(DataSet("small", small_samples()), specs, Path(folder))


def small_inputs(family: str, config: FamilyConfig, device: torch.device = CPU) -> Inputs:
    """Inputs of ``family``; its branches are built, not trained. Off the CPU nothing is parsed."""
    branches = {name: small_branch(name, device) for name in FAMILIES[family].branches}
    specs = FAMILIES[family].feature_specs(config)
    if device == CPU:
        return Inputs(small_features(*specs), branches)
    sizes = {split: part.stop - part.start for split, part in SPLITS.items()}
    return Inputs(made_up_features(sizes, *specs), branches, device=device)


@cache
def small_branch(name: str, device: torch.device = CPU) -> Branch:
    family = FAMILIES[name]
    assert isinstance(family, NeuralFamily)
    config = small_config(name)
    inputs = small_inputs(name, config, device)
    torch.manual_seed(1)
    model = family.build(config, inputs).eval().to(device)
    splits = {split: family.split_data(config, inputs, split) for split in SPLITS}
    return Branch(name, f"{name}-untrained", lambda: model, splits)
