import numpy as np
import pytest

from sg_ray.errors import InputError
from sg_ray.training.batches import (
    POOL_BATCHES,
    epoch_order,
    micro_batches,
    num_batches,
    optimisation_batches,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def lengths(num_samples: int) -> np.ndarray:
    return rng(9).integers(1, 500, num_samples)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("num_samples", [1, 7, 8, 9, 700])
def test_an_epoch_takes_every_sample_once_in_batches_of_the_exact_size(num_samples, padded):
    order = epoch_order(np.zeros(num_samples, np.int8), rng(), weighted=False)
    batches = optimisation_batches(order, lengths(num_samples), 8, rng(), padded=padded)
    assert sorted(np.concatenate(batches)) == list(range(num_samples))
    assert len(batches) == num_batches(num_samples, 8)
    sizes = sorted(len(batch) for batch in batches)
    assert sizes[1:] == [8] * (len(batches) - 1)
    assert sizes[0] == (num_samples % 8 or 8)


def test_batches_hold_samples_of_similar_length_and_come_in_mixed_order():
    units = lengths(8 * POOL_BATCHES)
    order = epoch_order(np.zeros(len(units), np.int8), rng(), weighted=False)
    batches = optimisation_batches(order, units, 8, rng(), padded=True)
    spans = [np.ptp(units[batch]) for batch in batches]
    assert np.mean(spans) < np.ptp(units) / 10
    firsts = [units[batch[0]] for batch in batches]
    assert firsts != sorted(firsts)


def test_packed_batches_cost_nearly_the_same_and_come_in_mixed_order():
    # Heavy tails as those of program graphs: the longest is as long as eight of the others.
    units = np.maximum(1, rng(3).lognormal(4, 1.0, 16 * POOL_BATCHES).astype(np.int64))
    order = epoch_order(np.zeros(len(units), np.int8), rng(), weighted=False)
    costs = [
        [
            int(units[batch].sum())
            for batch in optimisation_batches(order, units, 16, rng(), padded=p)
        ]
        for p in (False, True)
    ]
    dealt, sorted_ = (np.array(each) for each in costs)
    typical = np.median(dealt)
    assert np.quantile(dealt, 0.75) < 1.1 * dealt.min()
    assert dealt.max() < typical + units.max()
    assert np.ptp(sorted_) > 2 * typical
    assert list(dealt) != sorted(dealt)


def test_left_over_samples_are_not_chosen_by_length():
    units = np.arange(1, 80)
    leftovers = set()
    for seed in range(30):
        order = epoch_order(np.zeros(79, np.int8), rng(seed), weighted=False)
        batches = optimisation_batches(order, units, 8, rng(), padded=True)
        leftovers.update(next(batch for batch in batches if len(batch) == 7))
    assert min(leftovers) < 10
    assert max(leftovers) > 68


def test_weighted_order_balances_the_classes():
    labels = (np.arange(4000) < 200).astype(np.int8)
    order = epoch_order(labels, rng(), weighted=True)
    assert len(order) == 4000
    assert labels[order].mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("present", "absent"), [(1, "class 0"), (0, "class 1")])
def test_weighted_order_names_an_empty_class(present, absent):
    with pytest.raises(InputError, match=absent):
        epoch_order(np.full(9, present, np.int8), rng(), weighted=True)


@pytest.mark.parametrize("padded", [True, False])
def test_micro_batches_keep_the_budget_and_lose_nothing(padded):
    units = lengths(300)
    indices = rng(1).permutation(300)[:200]
    pieces = micro_batches(indices, units, 900, padded=padded)
    assert sorted(np.concatenate(pieces)) == sorted(indices)
    costs = [len(piece) * units[piece].max() if padded else units[piece].sum() for piece in pieces]
    assert max(costs) <= 900
    assert len(pieces) < 2.1 * units[indices].sum() / 900


@pytest.mark.parametrize("padded", [True, False])
def test_a_sample_above_the_budget_is_a_micro_batch_of_its_own(padded):
    pieces = micro_batches(np.arange(4), np.array([5, 1000, 5, 2000]), 100, padded=padded)
    assert [list(piece) for piece in pieces] == [[3], [1], [0, 2]]


def test_packed_micro_batches_cost_nearly_the_same_and_are_as_many_as_asked_for():
    units = lengths(40)
    for at_least in (1, 9, 40, 50):
        pieces = micro_batches(np.arange(40), units, 3_000, padded=False, at_least=at_least)
        costs = [units[piece].sum() for piece in pieces]
        assert len(pieces) == min(40, max(at_least, -(-units.sum() // 3_000)))
        assert max(costs) - min(costs) <= units.max()


def test_no_samples_give_no_micro_batches():
    assert micro_batches(np.arange(0), np.arange(0), 10, padded=True) == []
