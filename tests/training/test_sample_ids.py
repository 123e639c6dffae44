"""Predictions say of which function each of them is."""

from pathlib import Path

import numpy as np
import pytest

from sg_ray.data.jsonl import write_jsonl
from sg_ray.data.samples import DataSet, Sample
from sg_ray.data.sources import DataConfig, load_data
from sg_ray.data.synthetic.generator import generate
from sg_ray.errors import InputError
from sg_ray.features.build import prepare_features
from sg_ray.features.packed import Features, pack_texts
from sg_ray.models.families import FAMILIES
from sg_ray.models.family import EstimatorFamily, Inputs
from sg_ray.sweep_folder import VALID_PREDICTIONS
from sg_ray.training.estimator import fit_estimator
from sg_ray.training.predictions import Predictions, read_predictions, write_predictions

IDS = np.array(["7", "a b", "\u2713 CVE-1", "\ud800"])
KEPT = Predictions(np.array([0, 1, 1, 0], dtype=np.int8), np.array([0.25, 1.0, 0.5, 0.0]), IDS)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data: ids that are numbers and texts, repeats within and across the splits."""
    folder = tmp_path_factory.mktemp("data")
    samples = generate(240, seed=3)
    named = [
        Sample(sample.source, sample.label, f"CVE-{at}/f" if at % 2 else str(at))
        for at, sample in enumerate(samples)
    ]
    parts = {"train": named[:120], "valid": named[120:180], "test": named[180:]}
    parts["valid"] = [parts["train"][0], *parts["valid"], *parts["valid"][:5]]
    for split, part in parts.items():
        write_jsonl(folder / f"{split}.jsonl", part)
    return folder


def predicted(data: DataSet, folder: Path) -> Predictions:
    family = FAMILIES["lexical"]
    assert isinstance(family, EstimatorFamily)
    config = family.Config()
    features = prepare_features(data, family.feature_specs(config), folder / "cache")
    fit_estimator(
        family,
        config,
        Inputs(features),
        seed=1,
        objective="val_roc_auc",
        folder=folder,
        identity={},
    )
    found = read_predictions(folder / VALID_PREDICTIONS)
    assert found is not None
    return found


def test_after_limits_and_removals_they_are_those_of_the_right_functions(
    given: Path, tmp_path: Path
) -> None:
    config = DataConfig(
        source="jsonl",
        path=given,
        limit={"valid": 40},
        remove_duplicates=True,
        remove_leaks=True,
        remove_conflicts=True,
    )
    data = load_data(config)
    found = predicted(data, tmp_path / "once")
    valid = data.splits["valid"]
    assert found.sample_ids is not None
    assert found.sample_ids.tolist() == [sample.sample_id for sample in valid]
    assert len(set(found.sample_ids)) == 40, "the repeats are gone"
    whole = load_data(DataConfig(source="jsonl", path=given))
    written = {s.sample_id: s for part in whole.splits.values() for s in part}
    for name, label in zip(found.sample_ids, found.labels, strict=True):
        assert written[str(name)].label == label
    assert all(written[sample.sample_id].source == sample.source for sample in valid)

    # The same functions in another order: each is told the same of, by its id.
    backwards = DataSet(data.name, {**data.splits, "valid": valid[::-1]})
    again = predicted(backwards, tmp_path / "again")
    assert again.sample_ids is not None
    assert again.sample_ids.tolist() == found.sample_ids.tolist()[::-1]
    of_id = dict(zip(again.sample_ids, again.probabilities, strict=True))
    assert [of_id[name] for name in found.sample_ids] == found.probabilities.tolist()


def test_stored_features_are_met_by_the_ids_of_now(given: Path, tmp_path: Path) -> None:
    data = load_data(DataConfig(source="jsonl", path=given))
    predicted(data, tmp_path)
    renamed = {
        split: [Sample(s.source, s.label, f"new {s.sample_id}") for s in part]
        for split, part in data.splits.items()
    }
    other = DataSet(data.name, renamed)
    assert other.fingerprint == data.fingerprint, "the features are taken from the store"
    found = predicted(other, tmp_path)
    assert found.sample_ids is not None
    assert all(name.startswith("new ") for name in found.sample_ids)


def test_ids_of_any_kind_come_back(tmp_path: Path) -> None:
    write_predictions(tmp_path / "kept.npz", KEPT)
    found = read_predictions(tmp_path / "kept.npz")
    assert found is not None
    assert found.sample_ids is not None
    assert found.sample_ids.tolist() == IDS.tolist()


def test_there_may_be_none(tmp_path: Path) -> None:
    assert Features("data", {}, {}).sample_ids("valid") is None
    write_predictions(tmp_path / "kept.npz", Predictions(KEPT.labels, KEPT.probabilities))
    found = read_predictions(tmp_path / "kept.npz")
    assert found is not None
    assert found.sample_ids is None


def test_an_empty_split_has_no_ids_but_a_place_for_them() -> None:
    features = Features("data", {}, {}, {"test": pack_texts([])})
    found = features.sample_ids("test")
    assert found is not None
    assert found.shape == (0,)


def test_one_long_id_makes_no_room_for_all() -> None:
    packed = pack_texts(["a" * 100_000, *("b" for _ in range(1000))])
    assert packed.values.nbytes == 101_000


@pytest.mark.parametrize("ids", [np.array([b"a"]), np.array([1, 2, 3, 4]), np.array([b"\xff"] * 4)])
def test_what_are_no_ids_is_refused(tmp_path: Path, ids: np.ndarray) -> None:
    path = tmp_path / VALID_PREDICTIONS
    with path.open("wb") as file:
        np.savez(file, labels=KEPT.labels, probabilities=KEPT.probabilities, sample_ids=ids)
    with pytest.raises(InputError, match="no valid predictions"):
        read_predictions(path)
