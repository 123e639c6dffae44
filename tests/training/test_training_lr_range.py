import math

import numpy as np
import pytest
import torch
from tiny_classifier import TinyClassifier, tiny_config, tiny_model, tiny_split

from sg_ray.errors import InputError
from sg_ray.files import to_plain
from sg_ray.models.family import Classifier
from sg_ray.training.lr_range import LrCurve, LrRange, find_edge, narrow, range_test

RATES = np.geomspace(1e-6, 1.0, 80)


def noise(level: float = 0.7, seed: int = 0) -> np.ndarray:
    return level + np.random.default_rng(seed).normal(0, 0.02, 80)


def edge_of(losses: np.ndarray) -> float | None:
    return find_edge(LrCurve(0, RATES[: len(losses)].tolist(), losses.tolist()))


def run(seeds: tuple[int, ...] = (1, 2, 3), build=tiny_model, **changes) -> LrRange:
    settings = {"low": 1e-5, "high": 10.0, "num_steps": 80, **changes}
    config = tiny_config(batch_size=32, max_units_per_micro_batch=10_000)
    return range_test(
        build, tiny_split(300), config, seeds=seeds, device=torch.device("cpu"), **settings
    )


def test_edge_is_the_minimum_of_a_loss_that_falls_and_rises():
    losses = noise()
    losses[30:50] -= np.linspace(0, 0.4, 20)
    losses[50:] += np.linspace(-0.4, 2, 30)
    assert RATES[46] < edge_of(losses) < RATES[54]


def test_edge_of_a_loss_that_only_rises_is_where_it_rises():
    losses = noise()
    losses[55:] += 0.1
    assert RATES[50] < edge_of(losses) < RATES[57]


def test_a_descent_after_the_rise_is_not_mistaken_for_learning():
    losses = noise()
    losses[55:65] += 0.5
    losses[65:] -= 0.3
    assert RATES[50] < edge_of(losses) < RATES[57]


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_has_no_edge(seed):
    assert edge_of(noise(seed=seed)) is None


def test_a_curve_too_short_has_no_edge():
    assert edge_of(noise()[:9]) is None


def test_a_suggestion_lies_where_the_tiny_model_learns():
    found = run()
    assert found.reason is None
    assert 1e-3 < found.suggestion < 0.5
    assert [curve.seed for curve in found.curves] == [1, 2, 3]
    for curve in found.curves:
        assert len(curve.losses) == len(curve.learning_rates) <= 80
        assert curve.learning_rates[0] == pytest.approx(1e-5)
    assert to_plain(found.as_dict())["curves"][0]["seed"] == 1


def test_the_same_test_gives_the_same_curves_and_leaves_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert run((1,)) == run((1,))
    assert torch.equal(torch.rand(2), expected)


def test_samples_come_from_a_part_of_the_split():
    seen = set()
    split = tiny_split(300)
    collate = split.collate
    split.collate = lambda indices: seen.update(indices.tolist()) or collate(indices)
    range_test(
        tiny_model,
        split,
        tiny_config(),
        seeds=[1],
        low=1e-5,
        high=1e-3,
        num_steps=20,
        max_samples=20,
        device=torch.device("cpu"),
    )
    assert len(seen) == 20


def test_rates_too_low_to_matter_give_a_reason_instead():
    found = run(low=1e-12, high=1e-10)
    assert found.suggestion is None
    assert "neither fell nor rose between learning rates 1e-12 and 1e-10" in found.reason


class ExplodingClassifier(TinyClassifier):
    def classify(self, embedding: torch.Tensor) -> torch.Tensor:
        return super().classify(embedding) * math.nan


def explode(seed: int) -> Classifier:
    return ExplodingClassifier()


def test_a_loss_that_is_never_finite_gives_a_reason_instead():
    found = run(build=explode)
    assert found.suggestion is None
    assert "blew up after 0 steps" in found.reason


def test_half_of_the_seeds_are_not_enough():
    def build(seed: int) -> Classifier:
        return explode(seed) if seed > 1 else tiny_model(seed)

    assert run((1, 2), build=build).suggestion is None
    assert run((0, 1, 2), build=build).suggestion is not None


def test_the_walk_stops_when_the_loss_blows_up():
    (curve,) = run((1,), high=1e6).curves
    assert len(curve.losses) < 80
    assert max(curve.losses) < math.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": 0.0}, "0 < low < high"),
        ({"low": 20.0}, "0 < low < high"),
        ({"num_steps": 9}, "num_steps >= 10"),
        ({"seeds": ()}, "at least one seed"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        run(**changes)


@pytest.mark.parametrize(
    ("suggestion", "expected"),
    [(1e-3, (1e-4, 1e-2)), (1e-6, (1e-6, 1e-5)), (1e-9, (1e-6, 1e-5)), (5.0, (1e-2, 1e-1))],
)
def test_narrow_keeps_a_decade_on_either_side_within_the_space(suggestion, expected):
    assert narrow(suggestion, 1e-6, 1e-1) == pytest.approx(expected)
