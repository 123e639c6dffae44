from collections import Counter

import pytest

from sg_ray.data.samples import Sample
from sg_ray.data.splits import split_pairs, stratified_subset
from sg_ray.data.synthetic import generate
from sg_ray.errors import InputError

SAMPLES = [Sample(f"int f{n};", int(n % 4 == 0), f"train-{n}") for n in range(200)]


def _num_by_label(samples):
    return Counter(sample.label for sample in samples)


@pytest.mark.parametrize(
    ("num_samples", "num_vulnerable"), [(2, 1), (3, 1), (20, 5), (100, 25), (199, 50)]
)
def test_a_subset_keeps_order_and_label_shares(num_samples, num_vulnerable):
    subset = stratified_subset(SAMPLES, num_samples, seed=0)
    assert len(subset) == num_samples
    assert subset == [sample for sample in SAMPLES if sample in subset]
    assert _num_by_label(subset)[1] == pytest.approx(num_vulnerable, abs=1)
    assert _num_by_label(subset)[1] >= 1


def test_a_subset_depends_on_the_seed_alone():
    assert stratified_subset(SAMPLES, 50, seed=0) == stratified_subset(SAMPLES, 50, seed=0)
    assert stratified_subset(SAMPLES, 50, seed=0) != stratified_subset(SAMPLES, 50, seed=1)


def test_a_subset_of_more_than_there_are_is_all():
    assert stratified_subset(SAMPLES, 1000, seed=0) == SAMPLES


def test_a_rare_label_is_kept():
    rare = [Sample("int v;", 1, "v"), *(Sample(f"int f{n};", 0, str(n)) for n in range(999))]
    assert _num_by_label(stratified_subset(rare, 10, seed=0)) == {0: 9, 1: 1}


def test_too_small_a_subset_is_refused():
    with pytest.raises(InputError, match="cannot hold 2 labels"):
        stratified_subset(SAMPLES, 1, seed=0)


@pytest.mark.parametrize("num_samples", [20, 22, 400])
def test_pairs_stay_together(num_samples):
    samples = generate(num_samples, seed=0)
    splits = split_pairs(samples, seed=0)
    pair_ids = {split: {sample.sample_id[:-2] for sample in part} for split, part in splits.items()}
    assert all(splits.values())
    assert sum(map(len, pair_ids.values())) == num_samples // 2
    assert len(set.union(*pair_ids.values())) == num_samples // 2
    assert all(_num_by_label(part)[0] == _num_by_label(part)[1] for part in splits.values())
    assert len(splits["train"]) == pytest.approx(0.8 * num_samples, abs=2)
