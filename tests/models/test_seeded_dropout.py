import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from sg_ray.models.seeded_dropout import SeededDropout, set_dropout_piece, set_dropout_seed


def seeded(probability: float, seed: int = 3) -> SeededDropout:
    dropout = SeededDropout(probability)
    set_dropout_seed(dropout, seed)
    return dropout


def kept(dropout: SeededDropout, *shape: int) -> torch.Tensor:
    return dropout(torch.ones(*shape)) != 0


def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    """Correlation of two masks: about 0 if they have nothing to do with each other."""
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]).float())[0, 1])


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.9])
def test_the_share_dropped_is_the_probability_and_the_mean_stays(probability: float) -> None:
    num_elements = 400_000
    dropped = seeded(probability)(torch.ones(num_elements))
    deviation = (probability * (1 - probability) / num_elements) ** 0.5
    assert (dropped == 0).float().mean().item() == pytest.approx(probability, abs=5 * deviation)
    assert dropped.max().item() == pytest.approx(1 / (1 - probability), rel=1e-4)
    assert len(dropped.unique()) == 2


def test_masks_of_seeds_modules_and_neighbours_are_independent() -> None:
    pair = nn.ModuleList([SeededDropout(0.5), SeededDropout(0.5)])
    set_dropout_seed(pair, 1)
    first, second = (kept(dropout, 300, 700) for dropout in pair)
    set_dropout_seed(pair, 2)
    next_seed = kept(pair[0], 300, 700)
    limit = 5 / first.numel() ** 0.5
    assert abs(agreement(first, second)) < limit
    assert abs(agreement(first, next_seed)) < limit
    for lag in (1, 2, 3, 4, 64, 700):
        flat = first.flatten()
        assert abs(agreement(flat[lag:], flat[:-lag])) < 1.1 * limit
    per_column = first.float().mean(0)
    assert (per_column - 0.5).abs().max() < 5 * (0.25 / 300) ** 0.5


def test_micro_batches_of_a_step_have_masks_of_their_own() -> None:
    dropout = seeded(0.5)
    first = kept(dropout, 200_000)
    set_dropout_piece(dropout, 1)
    second = kept(dropout, 200_000)
    assert abs(agreement(first, second)) < 5 / len(first) ** 0.5
    set_dropout_piece(dropout, 0)
    assert torch.equal(kept(dropout, 200_000), first), "a step that is done again"
    set_dropout_piece(dropout, 1)
    set_dropout_seed(dropout, 3)
    assert torch.equal(kept(dropout, 200_000), first), "a new step begins at its first"


def test_a_position_is_dropped_as_often_as_its_probability_says_over_the_steps() -> None:
    dropout = SeededDropout(0.1)
    num_steps = 2_000
    counts = torch.zeros(64)
    for step in range(num_steps):
        set_dropout_seed(dropout, step)
        counts += ~kept(dropout, 64)
    deviation = (0.09 / num_steps) ** 0.5
    assert (counts / num_steps - 0.1).abs().max() < 5 * deviation


def test_the_same_seed_gives_the_same_bits_and_more_rows_change_none() -> None:
    dropout = seeded(0.3)
    x = torch.randn(7, 5, dtype=torch.double)
    once = dropout(x)
    assert torch.equal(once, dropout(x))
    longer = torch.cat([x, torch.ones(4, 5, dtype=torch.double)])
    assert torch.equal(dropout(longer)[:7], once)


def test_the_bits_are_splitmix64_whatever_the_device() -> None:
    """Against numpy's unsigned arithmetic: neither the sign nor an overflow changes a bit."""
    dropout = seeded(0.5, seed=2**63 - 1)
    with np.errstate(over="ignore"):
        state = np.arange(250, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state += np.array(dropout.dropout_seed.item()).astype(np.uint64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    expected = state.view(np.int16)[:998] >= 0
    assert kept(dropout, 998).numpy().tolist() == expected.tolist()
    torch_state = torch.get_rng_state()
    dropout(torch.ones(9))
    assert torch.equal(torch.get_rng_state(), torch_state)


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.linear, self.second = SeededDropout(0.4), nn.Linear(6, 3), SeededDropout(0)
        self.last = SeededDropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.linear(self.first(x))))


def test_stacked_models_drop_what_each_drops_alone() -> None:
    torch.manual_seed(0)
    models = [TwoLayers() for _ in range(4)]
    x = torch.randn(4, 11, 6)
    seeds = [5, 2**62, 5, 0]
    parameters, buffers = stack_module_state(models)
    set_dropout_seed(buffers, seeds)

    def one(parameters: dict, buffers: dict, x: torch.Tensor) -> torch.Tensor:
        return functional_call(models[0], (parameters, buffers), (x,))

    stacked = vmap(one)(parameters, buffers, x)
    for model, seed, row, got in zip(models, seeds, x, stacked, strict=True):
        set_dropout_seed(model, seed)
        alone = model(row)
        assert torch.equal(alone == 0, got == 0)
        torch.testing.assert_close(alone, got)


def test_it_is_the_identity_in_evaluation_and_without_probability() -> None:
    x = torch.randn(5, 3)
    assert seeded(0.5).eval()(x) is x
    assert seeded(0.0)(x) is x


def test_the_gradient_passes_where_the_value_passed() -> None:
    dropout = seeded(0.5)
    x = torch.ones(50, requires_grad=True)
    dropped = dropout(x)
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())


def test_seeds_are_no_weights_and_are_filled_in_place() -> None:
    model = TwoLayers()
    before = model.first.dropout_seed
    set_dropout_seed(model, 9)
    assert model.first.dropout_seed is before
    assert before.item() != model.last.dropout_seed.item()
    assert "first.dropout_seed" not in model.state_dict()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_drops_what_a_cpu_drops() -> None:
    dropout = seeded(0.3)
    on_cpu = kept(dropout, 33, 65)
    on_gpu = dropout.cuda()(torch.ones(33, 65, device="cuda")) != 0
    assert torch.equal(on_cpu, on_gpu.cpu())
