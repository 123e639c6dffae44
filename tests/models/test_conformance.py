"""What every family must hold; a new row in FAMILIES is tested by being there."""

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from devices import CPU, CUDA, GPU_MARKS
from pydantic import ValidationError
from small_set import small_config, small_inputs, small_samples
from torch import nn

from sg_ray.errors import InputError
from sg_ray.models.families import FAMILIES, get_family
from sg_ray.models.family import (
    Batch,
    Classifier,
    EstimatorFamily,
    FamilyConfig,
    Inputs,
    NeuralConfig,
    NeuralFamily,
    SplitData,
)

NEURAL = [name for name, family in FAMILIES.items() if isinstance(family, NeuralFamily)]
ESTIMATORS = [name for name, family in FAMILIES.items() if isinstance(family, EstimatorFamily)]
SETTINGS = [
    *[(name, {}) for name in NEURAL],
    ("transformer", {"pooling": "mean"}),
    ("gnn", {"layer": "gated"}),
    ("fusion", {"mode": "fine_tune"}),
]
VARIANTS = [
    pytest.param(
        (name, settings, device),
        id="-".join([name, *settings.values(), *(["cuda"] if device == CUDA else [])]),
        marks=GPU_MARKS if device == CUDA else (),
    )
    for device in (CPU, CUDA)
    for name, settings in SETTINGS
]

all_families = pytest.mark.parametrize("name", FAMILIES)
all_variants = pytest.mark.parametrize("variant", VARIANTS)
Variant = tuple[str, dict[str, Any], torch.device]


class Built:
    """A family's variant with its inputs and an untrained model, on its device."""

    def __init__(self, variant: Variant) -> None:
        name, settings, self.device = variant
        family = FAMILIES[name]
        assert isinstance(family, NeuralFamily)
        self.family: NeuralFamily[Any] = family
        self.config: FamilyConfig = small_config(name, **settings)
        self.inputs: Inputs = small_inputs(name, self.config, self.device)
        self.split: SplitData = family.split_data(self.config, self.inputs, "train")
        self.model: Classifier = self.build(seed=0)

    def build(self, seed: int) -> Classifier:
        torch.manual_seed(seed)
        return self.family.build(self.config, self.inputs).eval().to(self.device)

    def batch(self, *indices: int) -> Batch:
        batch = self.split.collate(np.array(indices, dtype=np.int64))
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    @property
    def atol(self) -> float:
        """How far logits may be apart that are the same but for the order of sums."""
        return 1e-5 if self.device == CPU else 1e-4

    def shaken_model(self) -> Classifier:
        """The model with random weights everywhere, also where a new one starts at zero."""
        torch.manual_seed(7)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return self.model


@all_variants
def test_shapes_of_embedding_and_logits(variant: Variant) -> None:
    built = Built(variant)
    embedding = built.model.embed(built.batch(0, 1, 2))
    assert embedding.shape == (3, built.model.embedding_dim)
    assert built.model.classify(embedding).shape == (3,)
    torch.testing.assert_close(built.model.classify(embedding), built.model(built.batch(0, 1, 2)))


@all_variants
def test_every_parameter_gets_a_gradient(variant: Variant) -> None:
    built = Built(variant)
    model = built.shaken_model()
    model(built.batch(0, 1, 2, 3)).square().sum().backward()
    lacking = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert lacking == []


@all_variants
def test_a_pass_over_one_sample_reaches_every_parameter(variant: Variant) -> None:
    """As several workers take it: they look for none that was not reached."""
    built = Built(variant)
    assert built.model.reaches_every_parameter
    built.model.train()(built.batch(0)).sum().backward()
    missed = [name for name, p in built.model.named_parameters() if p.grad is None]
    assert missed == []


@all_variants
def test_overfits_eight_samples(variant: Variant) -> None:
    built = Built(variant)
    indices = np.arange(8, dtype=np.int64)
    batch = built.batch(*indices)
    labels = torch.from_numpy(built.split.labels[indices]).float().to(built.device)
    optimiser = torch.optim.AdamW(built.model.parameters(), lr=1e-2)
    for _ in range(300):
        loss = nn.functional.binary_cross_entropy_with_logits(built.model(batch), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss.item() < 0.1:
            break
    assert loss.item() < 0.1


@all_variants
def test_padding_and_batch_mates_do_not_change_a_logit(variant: Variant) -> None:
    built = Built(variant)
    model = built.shaken_model()
    shortest, longest = int(built.split.units.argmin()), int(built.split.units.argmax())
    together = model(built.batch(shortest, longest, 3, 5))
    alone = torch.cat([model(built.batch(index)) for index in (shortest, longest, 3, 5)])
    assert together.std() > 1e-3
    torch.testing.assert_close(together, alone, atol=built.atol, rtol=0)


@all_variants
def test_permuting_samples_permutes_logits(variant: Variant) -> None:
    built = Built(variant)
    model = built.shaken_model()
    order = np.random.default_rng(0).permutation(10)
    straight, permuted = model(built.batch(*range(10))), model(built.batch(*order))
    torch.testing.assert_close(straight[torch.from_numpy(order)], permuted, atol=built.atol, rtol=0)


@all_variants
def test_equal_seeds_build_equal_weights(variant: Variant) -> None:
    built = Built(variant)
    first, again, other = (built.build(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@all_variants
def test_building_leaves_numpy_and_python_generators_alone(variant: Variant) -> None:
    import random

    built = Built(variant)
    before = random.getstate(), np.random.get_state()[1].tolist()
    built.build(seed=0)
    assert before == (random.getstate(), np.random.get_state()[1].tolist())


@all_variants
def test_saved_weights_restore_the_logits(variant: Variant) -> None:
    built = Built(variant)
    expected = built.shaken_model()(built.batch(0, 1, 2))
    file = io.BytesIO()
    torch.save(built.model.state_dict(), file)
    file.seek(0)
    restored = built.build(seed=9)
    restored.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(restored(built.batch(0, 1, 2)), expected, atol=0, rtol=0)


@all_variants
def test_splits_know_their_labels_and_costs(variant: Variant) -> None:
    built = Built(variant)
    for split, labels in built.inputs.features.labels.items():
        data = built.family.split_data(built.config, built.inputs, split)
        assert data.labels.tolist() == labels.tolist()
        assert data.units.shape == labels.shape
        assert data.units.min() >= 1


@all_variants
def test_one_sample_makes_a_batch(variant: Variant) -> None:
    built = Built(variant)
    for index in (0, int(built.split.units.argmax()), len(built.split.labels) - 1):
        assert built.model(built.batch(index)).shape == (1,)


@all_families
def test_unknown_keys_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="learning_rat3"):
        FAMILIES[name].Config.model_validate({"learning_rat3": 1e-3})


@all_families
def test_feature_specs_are_hashable_and_stable(name: str) -> None:
    family, config = FAMILIES[name], small_config(name)
    reread = family.Config.model_validate(config.model_dump(mode="json"))
    assert reread == config
    specs = tuple(family.feature_specs(config))
    assert hash(specs) == hash(tuple(family.feature_specs(reread)))
    assert [s.key for s in specs] == [s.key for s in family.feature_specs(reread)]


@all_families
def test_rows_agree_with_their_families(name: str) -> None:
    family = FAMILIES[name]
    assert family.name == name
    assert get_family(name) is family
    assert set(family.branches) <= set(FAMILIES)
    low, high = family.lr_range
    assert 0 < low < high
    if isinstance(family, NeuralFamily):
        config = family.Config()
        assert isinstance(config, NeuralConfig)
        assert low <= config.learning_rate <= high


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_predict_the_same_when_restored(name: str) -> None:
    family, config = FAMILIES[name], small_config(name)
    assert isinstance(family, EstimatorFamily)
    inputs = small_inputs(name, config)
    fitted = family.fit(config, inputs, seed=3)
    file = io.BytesIO()
    torch.save(fitted.state(), file)
    file.seek(0)
    restored = family.load(config, torch.load(file, weights_only=True))
    for split, samples in small_samples().items():
        probabilities = fitted.predict_proba(inputs, split)
        assert probabilities.shape == (len(samples),)
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
        assert probabilities.std() > 0
        assert (probabilities == restored.predict_proba(inputs, split)).all()
        again = family.fit(config, inputs, seed=3).predict_proba(inputs, split)
        assert (probabilities == again).all()


def test_order_of_families_is_the_order_of_tables() -> None:
    assert list(FAMILIES) == ["lexical", "transformer", "gnn", "fusion"]


def test_unknown_family_is_refused_with_the_known_names() -> None:
    with pytest.raises(InputError, match=r"'rnn'.*lexical, transformer, gnn, fusion"):
        get_family("rnn")


def test_importing_the_table_loads_no_heavy_library() -> None:
    heavy = {"transformers", "torch_geometric", "sklearn", "scipy", "tokenizers", "tree_sitter"}
    code = f"import sys, sg_ray.models.families; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == "[]"
