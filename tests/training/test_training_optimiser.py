from collections.abc import Callable

import pytest
import torch
from tiny_classifier import tiny_config, tiny_model
from torch import nn

from sg_ray.training.optimiser import Optimiser, linear_schedule, parameter_groups


def constant(step: int) -> float:
    return 1.0


def optimiser(
    model: nn.Module, scaler: torch.amp.GradScaler, schedule: Callable[[int], float] = constant
) -> Optimiser:
    return Optimiser(model, tiny_config(gradient_clip_norm=1.0), schedule, scaler)


def scaler(enabled: bool = True) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", enabled=enabled)


def loss_of(model: nn.Linear, factor: float = 1.0) -> torch.Tensor:
    return factor * model(torch.ones(2, 3)).square().sum()


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def test_clipping_sees_true_gradients_and_a_scaled_step_equals_a_plain_one():
    norms, weights = [], []
    for enabled in (True, False):
        model = linear()
        learner = optimiser(model, scaler(enabled))
        learner.backward(loss_of(model, 50.0))
        norms.append(float(learner.step()))
        weights.append(model.weight.detach().clone())
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    assert norms[0] > 1.0  # clipping did something
    torch.testing.assert_close(weights[0], weights[1])


def test_adamw_gets_a_gradient_of_at_most_the_clip_norm():
    model = linear()
    learner = optimiser(model, scaler())
    seen = []

    def spy(adamw, *_):
        seen.append(torch.stack([p.grad.norm() for p in model.parameters()]).norm())

    learner._adamw.register_step_pre_hook(spy)
    learner.backward(loss_of(model, 1000.0))
    learner.step()
    assert float(seen[0]) == pytest.approx(1.0, rel=1e-4)


def test_an_overflow_leaves_weights_and_schedule_alone_and_lowers_the_scale():
    model = linear()
    learner = optimiser(model, scaler(), linear_schedule(tiny_config(warmup_ratio=0.5), 10))
    before = model.weight.detach().clone()
    rate = learner.learning_rate
    learner.backward(loss_of(model, float("inf")))
    learner.step()
    assert torch.equal(model.weight, before)
    assert learner.learning_rate == rate
    assert learner.state_dict()["scaler_state_dict"]["scale"] == 2.0**15
    learner.backward(loss_of(model))
    learner.step()
    assert not torch.equal(model.weight, before)
    assert learner.learning_rate > rate


def test_schedule_rises_to_the_peak_and_ends_just_above_zero():
    factor = linear_schedule(tiny_config(warmup_ratio=0.2), 10)
    assert [factor(step) for step in range(11)] == pytest.approx(
        [0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0.0]
    )


@pytest.mark.parametrize("warmup_ratio", [0.0, 1.0])
@pytest.mark.parametrize("num_steps", [1, 3])
def test_schedule_takes_no_step_at_zero_in_extreme_settings(warmup_ratio, num_steps):
    factor = linear_schedule(tiny_config(warmup_ratio=warmup_ratio), num_steps)
    factors = [factor(step) for step in range(num_steps)]
    assert min(factors) > 0
    assert max(factors) == 1.0


def test_biases_norms_and_vectors_are_not_decayed():
    model = tiny_model()
    model.scale = nn.Parameter(torch.ones(3))
    model.wide_norm = nn.LayerNorm((2, 3))
    names = {parameter: name for name, parameter in model.named_parameters()}
    decayed, free = parameter_groups(model, 0.1)
    assert {names[p] for p in decayed["params"]} == {"words.weight", "head.weight"}
    assert {names[p] for p in free["params"]} == set(names.values()) - {
        "words.weight",
        "head.weight",
    }
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_frozen_and_shared_parameters():
    model = tiny_model()
    model.words.requires_grad_(False)
    model.tied = nn.Linear(8, 1)
    model.tied.weight = model.head.weight
    decayed, _ = parameter_groups(model, 0.1)
    assert decayed["params"] == [model.head.weight]
