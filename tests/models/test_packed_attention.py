from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sg_ray.models.packed_attention import Form, Sequences, attend
from sg_ray.models.quick_dropout import QuickDropout

LENGTHS = (5, 9, 9, 1, 30)
NUM_TOKENS = sum(LENGTHS)


def sequences(lengths: Sequence[int]) -> Sequences:
    offsets = torch.tensor([0, *lengths]).cumsum(0).int()
    return Sequences(offsets, max(lengths))


def tokens(num: int, num_heads: int) -> Tensor:
    return torch.randn(num, num_heads, 8, requires_grad=True)


def one_by_one(query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
    """Attend with torch's own function, sequence by sequence."""
    parts = []
    sizes = [1] * len(LENGTHS) if len(query) == len(LENGTHS) else LENGTHS
    for q, k, v in zip(query.split(sizes), key.split(LENGTHS), value.split(LENGTHS), strict=True):
        distance = torch.arange(len(q))[:, None] - torch.arange(len(k))
        mask = torch.ones(len(q), len(k), dtype=torch.bool)
        if form.is_causal:
            mask &= distance >= 0
        if form.window is not None:
            mask &= distance.abs() <= form.window
        heads_first = (each.transpose(0, 1) for each in (q, k, v))
        out = scaled_dot_product_attention(*heads_first, mask, scale=form.scale, enable_gqa=True)
        parts.append(out.transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize(
    "form",
    [Form(), Form(scale=0.5), Form(is_causal=True), Form(window=3), Form(window=2, is_causal=True)],
    ids=str,
)
@pytest.mark.parametrize("num_key_heads", [4, 2])
def test_packed_attention_is_that_of_each_sequence_alone(form: Form, num_key_heads: int) -> None:
    torch.manual_seed(0)
    inputs = [tokens(NUM_TOKENS, num) for num in (4, num_key_heads, num_key_heads)]
    where = sequences(LENGTHS)
    direction = torch.randn(NUM_TOKENS, 4, 8)
    packed = attend(inputs[0], inputs[1], inputs[2], where, where, form)
    expected = one_by_one(inputs[0], inputs[1], inputs[2], form)
    torch.testing.assert_close(packed, expected)
    for own, other in zip(
        torch.autograd.grad(packed, inputs, direction),
        torch.autograd.grad(expected, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(own, other, atol=2e-5, rtol=1e-4)


def test_a_query_for_each_sequence_sees_all_of_its_tokens() -> None:
    torch.manual_seed(0)
    query, key, value = tokens(len(LENGTHS), 4), tokens(NUM_TOKENS, 4), tokens(NUM_TOKENS, 4)
    packed = attend(query, key, value, sequences([1] * 5), sequences(LENGTHS), Form())
    expected = one_by_one(query, key, value, Form())
    torch.testing.assert_close(packed, expected)
    gradients = [
        torch.autograd.grad(out.square().sum(), [query, key, value]) for out in (packed, expected)
    ]
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other, atol=2e-5, rtol=1e-4)


def test_dropout_of_attention_keeps_the_mean_and_takes_torchs_seed() -> None:
    where, form = sequences(LENGTHS), Form(dropout=0.5)
    torch.manual_seed(0)
    inputs = [torch.randn(NUM_TOKENS, 2, 8) for _ in range(3)]

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return attend(inputs[0], inputs[1], inputs[2], where, where, form)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    mean = torch.stack([draw(seed) for seed in range(500)]).mean(0)
    whole = attend(inputs[0], inputs[1], inputs[2], where, where, Form())
    assert float((mean - whole).abs().max()) < 0.5  # 5 standard errors of the worst of them


class TestQuickDropout:
    def test_share_and_scale(self) -> None:
        torch.manual_seed(3)
        ones = torch.ones(1001, 1003)
        for rate in (0.1, 0.5):
            dropped = QuickDropout(rate)(ones)
            kept = dropped[dropped != 0]
            torch.testing.assert_close(
                kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-4, atol=0
            )
            assert 1 - len(kept) / ones.numel() == pytest.approx(rate, abs=0.002)

    def test_the_gradient_goes_where_the_value_went(self) -> None:
        x = torch.randn(7, 5, requires_grad=True)
        dropped = QuickDropout(0.5)(x)
        (gradient,) = torch.autograd.grad(dropped.sum(), x)
        torch.testing.assert_close(gradient * x, dropped)

    def test_nothing_is_dropped_outside_of_training_or_at_rate_0(self) -> None:
        x = torch.randn(5)
        assert QuickDropout(0.5).eval()(x) is x
        assert QuickDropout(0.0)(x) is x
        assert not QuickDropout(1.0)(x).any()

    def test_same_seed_same_elements_whatever_the_number_of_threads(self) -> None:
        x, before = torch.ones(100_000), torch.get_num_threads()
        drawn = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(11)
            drawn.append(QuickDropout(0.3)(x))
        torch.set_num_threads(before)
        assert torch.equal(drawn[0], drawn[1])
