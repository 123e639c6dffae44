from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_set import small_config, small_inputs
from torch import Tensor, nn

from sg_ray.errors import InputError
from sg_ray.features.packed import Features
from sg_ray.models.family import Batch, Branch, Classifier, Inputs
from sg_ray.models.fusion import Fusion, FusionConfig, fit_inverse_temperature
from sg_ray.training.compute import make_compute
from sg_ray.training.loop import make_training, never
from sg_ray.training.metrics import validation_metrics
from sg_ray.training.seeding import Seeds

NUM_SAMPLES = {"train": 1000, "valid": 600}
NUM_FEATURES = 60


@dataclass
class VectorSplit:
    vectors: NDArray[np.float32]
    labels: NDArray[np.int8]
    padded: bool = False

    @property
    def units(self) -> NDArray[np.int64]:
        return np.ones(len(self.labels), dtype=np.int64)

    def collate(self, indices: NDArray[np.int64]) -> Batch:
        return {"vectors": torch.from_numpy(self.vectors[indices])}


class Perceptron(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.embedding_dim = 32
        self.hidden = nn.Sequential(nn.Linear(NUM_FEATURES, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)

    def embed(self, batch: Batch) -> Tensor:
        hidden: Tensor = self.hidden(batch["vectors"])
        return hidden

    def classify(self, embedding: Tensor) -> Tensor:
        logits: Tensor = self.head(embedding)
        return logits.squeeze(-1)


def overfitted(split: VectorSplit) -> Perceptron:
    model = Perceptron()
    labels = torch.from_numpy(split.labels).float()
    batch = split.collate(np.arange(len(labels)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(100):
        loss = nn.functional.binary_cross_entropy_with_logits(model(batch), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05
    return model.eval()


@cache
def overfitted_inputs(transformer_signal: float, gnn_signal: float, seed: int) -> Inputs:
    """Branches that know their train split by heart; signals are distances of the class means."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    labels = {s: rng.integers(0, 2, size).astype(np.int8) for s, size in NUM_SAMPLES.items()}
    branches = {}
    for name, signal in (("transformer", transformer_signal), ("gnn", gnn_signal)):
        direction = rng.normal(size=NUM_FEATURES)
        direction *= signal / np.linalg.norm(direction)
        splits = {}
        for split, y in labels.items():
            noise = rng.normal(size=(len(y), NUM_FEATURES))
            splits[split] = VectorSplit((noise + np.outer(y - 0.5, direction)).astype("f4"), y)
        model = overfitted(splits["train"])
        branches[name] = Branch(name, f"{name}-{seed}", partial(lambda one: one, model), splits)
    return Inputs(Features(f"data-{seed}", labels, {}), branches)


def branch_metrics(inputs: Inputs, name: str, metric: str) -> float:
    branch = inputs.branches[name]
    split = branch.splits["valid"]
    with torch.inference_mode():
        logits = branch.model(split.collate(np.arange(len(split.labels))))
    return validation_metrics(split.labels, logits.numpy())[metric]


def fusion_metrics(inputs: Inputs, folder: Path, metric: str, **settings: Any) -> float:
    config = FusionConfig(epochs=4, **settings)
    torch.manual_seed(0)
    model = Fusion().build(config, inputs)
    epochs = make_training(
        model,
        Fusion().split_data(config, inputs, "train"),
        Fusion().split_data(config, inputs, "valid"),
        config,
        seeds=Seeds(0),
        objective="val_roc_auc",
        folder=folder,
        identity={"trial_key": "fusion"},
        compute=make_compute(config, torch.device("cpu")),
    ).epochs(never)
    return [epoch.metrics[metric] for epoch in epochs if epoch.is_best][-1]


@pytest.mark.parametrize("metric", ["val_f1", "val_roc_auc"])
@pytest.mark.parametrize("signals", [(2.0, 2.0), (2.5, 1.0), (0.2, 2.5)])
def test_fusing_overfitted_branches_is_no_worse_than_the_best(
    tmp_path: Path, signals: tuple[float, float], metric: str
) -> None:
    gains = []
    for seed in range(3):
        inputs = overfitted_inputs(*signals, seed)
        best = max(branch_metrics(inputs, name, metric) for name in inputs.branches)
        gains.append(fusion_metrics(inputs, tmp_path / str(seed), metric) - best)
    assert np.mean(gains) >= -0.01
    if signals == (2.0, 2.0):
        assert np.mean(gains) >= 0.03


class TestCache:
    def inputs(self, folder: Path) -> Inputs:
        return replace(overfitted_inputs(2.0, 2.0, 0), cache_dir=folder)

    def batches(self, inputs: Inputs) -> Mapping[str, Tensor]:
        split = Fusion().split_data(FusionConfig(), inputs, "train")
        return split.collate(np.arange(50))

    def without_models(self, inputs: Inputs) -> Inputs:
        """The same branches, whose models fail when they are run."""
        branches = {n: replace(b, load=Unusable) for n, b in inputs.branches.items()}
        return replace(inputs, branches=branches)

    def test_holds_what_the_branches_say(self, tmp_path: Path) -> None:
        inputs = self.inputs(tmp_path)
        self.batches(inputs)
        batch = self.batches(self.without_models(inputs))
        for name, branch in inputs.branches.items():
            own = branch.splits["train"].collate(np.arange(50))
            torch.testing.assert_close(batch[f"{name}/embedding"], branch.model.embed(own))
            torch.testing.assert_close(batch[f"{name}/logit"], branch.model(own))

    def test_b19_no_branch_is_loaded_where_its_outputs_are_cached(self, tmp_path: Path) -> None:
        inputs = self.inputs(tmp_path)
        config = FusionConfig()
        built = Fusion().build(config, inputs).eval()
        expected = built(self.batches(inputs))
        loaded: list[str] = []

        def count(name: str) -> Perceptron:
            loaded.append(name)
            return Perceptron()

        branches = {n: replace(b, load=partial(count, n)) for n, b in inputs.branches.items()}
        lazy = replace(inputs, branches=branches)
        model = Fusion().build(config, lazy).eval()
        assert model.embedding_dim == built.embedding_dim
        assert torch.equal(model(self.batches(lazy)), expected)
        assert loaded == []

    def test_b16_a_folder_that_cannot_be_written_caches_nothing(self, tmp_path: Path) -> None:
        expected = self.batches(self.inputs(tmp_path / "good"))
        (tmp_path / "file").write_text("where a folder should be")
        inputs = self.inputs(tmp_path / "file")
        batch = self.batches(inputs)
        assert all(torch.equal(batch[key], expected[key]) for key in expected)

    def test_is_not_shared_by_other_trials_data_or_splits(self, tmp_path: Path) -> None:
        inputs = self.inputs(tmp_path)
        self.batches(inputs)
        unusable = self.without_models(inputs)
        retrained = {n: replace(b, identity="other") for n, b in unusable.branches.items()}
        new_data = replace(unusable.features, data_fingerprint="other")
        with pytest.raises(NotImplementedError):
            self.batches(replace(unusable, branches=retrained))
        with pytest.raises(NotImplementedError):
            self.batches(replace(unusable, features=new_data))
        with pytest.raises(NotImplementedError):
            Fusion().split_data(FusionConfig(), unusable, "valid")

    def test_damaged_files_are_made_again(self, tmp_path: Path) -> None:
        inputs = self.inputs(tmp_path)
        expected = self.batches(inputs)
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        assert len(files) == 2
        files[0].write_bytes(files[0].read_bytes()[:1000])
        files[1].write_bytes(b"")
        again = self.batches(inputs)
        assert all(torch.equal(expected[key], again[key]) for key in expected)
        self.batches(self.without_models(inputs))

    def test_trials_may_fill_it_at_once(self, tmp_path: Path) -> None:
        inputs = self.inputs(tmp_path)
        with ThreadPoolExecutor(4) as pool:
            batches = list(pool.map(self.batches, [inputs] * 8))
        for batch in batches:
            assert all(torch.equal(batches[0][key], batch[key]) for key in batch)
        self.batches(self.without_models(inputs))
        # Nothing half-written is left beside the files.
        assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".npz"}


class Unusable(Perceptron):
    def embed(self, batch: Batch) -> Tensor:
        raise NotImplementedError


class TestFineTuning:
    CONFIG = small_config("fusion", mode="fine_tune")

    def test_starts_where_frozen_fusion_starts(self) -> None:
        inputs = small_inputs("fusion", self.CONFIG)
        indices = np.arange(6)
        logits = []
        for config in (self.CONFIG, small_config("fusion")):
            model = Fusion().build(config, inputs).eval()
            logits.append(model(Fusion().split_data(config, inputs, "train").collate(indices)))
        torch.testing.assert_close(*logits)

    def test_trains_copies_of_the_branches(self) -> None:
        inputs = small_inputs("fusion", self.CONFIG)
        before = {
            (name, key): value.clone()
            for name, branch in inputs.branches.items()
            for key, value in branch.model.state_dict().items()
        }
        model = Fusion().build(self.CONFIG, inputs)
        batch = Fusion().split_data(self.CONFIG, inputs, "train").collate(np.arange(4))
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        start = {key: value.clone() for key, value in model.state_dict().items()}
        model(batch).sum().backward()
        optimiser.step()
        for (name, key), value in before.items():
            assert torch.equal(inputs.branches[name].model.state_dict()[key], value)
        for name in inputs.branches:
            own = {k: v for k, v in model.state_dict().items() if f"members.{name}." in k}
            assert any(not torch.equal(value, start[key]) for key, value in own.items())

    def test_a_sample_costs_the_sum_of_its_branches(self) -> None:
        inputs = small_inputs("fusion", self.CONFIG)
        split = Fusion().split_data(self.CONFIG, inputs, "train")
        branches = [branch.splits["train"] for branch in inputs.branches.values()]
        assert (split.units == branches[0].units + branches[1].units).all()
        assert not split.padded

    def test_learning_rate_follows_the_mode(self) -> None:
        assert FusionConfig(mode="fine_tune").learning_rate == 2e-5
        assert FusionConfig(mode="frozen").learning_rate == FusionConfig().learning_rate
        assert FusionConfig(mode="fine_tune", learning_rate=1e-3).learning_rate == 1e-3


class TestTemperature:
    def test_recovers_the_scale_of_overconfident_logits(self) -> None:
        rng = np.random.default_rng(0)
        calibrated = rng.normal(scale=2.0, size=20_000)
        labels = (rng.random(20_000) < 1 / (1 + np.exp(-calibrated))).astype(np.int8)
        factor = fit_inverse_temperature((8 * calibrated).astype(np.float32), labels)
        assert factor == pytest.approx(1 / 8, rel=0.1)

    def test_useless_branches_hardly_count(self) -> None:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 2, 1000).astype(np.int8)
        assert fit_inverse_temperature((5.0 - 10 * labels).astype(np.float32), labels) == 0.01

    def test_a_saved_head_needs_no_validation_split(self) -> None:
        inputs = overfitted_inputs(2.5, 1.0, 0)
        trained = Fusion().build(FusionConfig(), inputs).eval()
        labels = {"train": inputs.features.labels["train"]}
        serving = replace(inputs, features=replace(inputs.features, labels=labels))
        model = Fusion().build(FusionConfig(), serving).eval()
        model.load_state_dict(trained.state_dict())
        batch = Fusion().split_data(FusionConfig(), serving, "train").collate(np.arange(9))
        assert torch.equal(model(batch), trained(batch))


@pytest.mark.parametrize(
    ("present", "missing"),
    [(["gnn"], "a trained transformer,"), ([], "a trained transformer and a trained gnn,")],
)
@pytest.mark.parametrize("mode", ["frozen", "fine_tune"])
def test_missing_branches_are_named(present: list[str], missing: str, mode: Any) -> None:
    inputs = overfitted_inputs(2.0, 2.0, 0)
    lacking = replace(inputs, branches={name: inputs.branches[name] for name in present})
    config = FusionConfig(mode=mode)
    with pytest.raises(InputError, match=f"{missing}.*branches_from=outputs/NAME"):
        Fusion().build(config, lacking)
    with pytest.raises(InputError, match=f"{missing}.*families: "):
        Fusion().split_data(config, lacking, "train")
