"""Dropout whose mask follows from a seed that a tensor holds, by arithmetic alone.

``nn.Dropout`` draws from a generator: its mask depends on the device, on what was drawn before, and
under ``torch.func.vmap`` on how many models are stacked. Here a mask is a hash of (seed, number of
the module, position in the mask), so it is the same on a CPU and on a GPU, for one model alone and
for one of a stack, launched kernel by kernel and in a captured CUDA graph.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

SEED = "dropout_seed"
PIECE = "dropout_piece"
"""Names of the buffers, the last part of their names in a model."""

# SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
_INCREMENT = 0x9E3779B97F4A7C15
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)

_LANES = 4
"""16-bit lanes in a hash of 64 bits: each is one element's number."""

_NUM_LEVELS = 1 << 16


class SeededDropout(nn.Module):
    """Drop each element with ``probability``, to the nearest 1/65,536; scale up the others.

    The same mask comes again until ``set_dropout_seed`` is called, before each step, or
    ``set_dropout_piece``, before each micro-batch of it. Positions count along the flattened mask,
    so further rows at its end change none before them.
    """

    dropout_seed: Tensor
    dropout_piece: Tensor

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self._num_dropped = min(round(probability * _NUM_LEVELS), _NUM_LEVELS - 1)
        # Not weights: the training gives them anew in each step.
        self.register_buffer(SEED, torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer(PIECE, torch.zeros((), dtype=torch.int64), persistent=False)

    @property
    def is_active(self) -> bool:
        """Whether anything is dropped: in training, with a probability above 0."""
        return self.training and self._num_dropped > 0

    def mask(self, like: Tensor) -> Tensor:
        """Return what ``like`` is to be multiplied by, in its shape and type; 0 or the scale."""
        return masks([self], like)[0]

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with elements dropped if training."""
        return x * self.mask(x) if self.is_active else x

    def extra_repr(self) -> str:
        """Return the probability, as ``nn.Dropout`` shows it."""
        return f"p={self.probability}"


def masks(dropouts: Sequence[SeededDropout], like: Tensor) -> Tensor:
    """Return each one's ``mask`` [M, ...], made together: they are of one probability."""
    num_elements, num_dropped = like.numel(), dropouts[0]._num_dropped
    position = torch.arange(-(-num_elements // _LANES), device=like.device)
    seeds, pieces = (
        torch.stack([getattr(dropout, name) for dropout in dropouts]) for name in (SEED, PIECE)
    )
    starts = seeds + pieces * _signed(_FACTORS[0])
    hashes = _mixed(position * _signed(_INCREMENT) + starts[:, None])
    lanes = hashes.view(torch.int16)[:, :num_elements].reshape(-1, *like.shape)
    is_kept = lanes >= num_dropped - _NUM_LEVELS // 2
    return is_kept.to(like.dtype) * (_NUM_LEVELS / (_NUM_LEVELS - num_dropped))


def set_dropout_seed(model: nn.Module | Mapping[str, Tensor], seed: int | Sequence[int]) -> None:
    """Give every ``SeededDropout`` of ``model`` the mask of ``seed``, each one of its own.

    ``model`` may also be its buffers by name, as ``torch.func.stack_module_state`` returns those of
    K models; then ``seed`` holds K numbers, and model k drops what it would drop alone with seed k.
    Buffers are filled in place, so a captured graph reads the new seed.
    """
    buffers = _buffers(model)
    for number, buffer in enumerate(_held(buffers, SEED), start=1):
        if isinstance(seed, int):
            buffer.fill_(_module_seed(seed, number))
        else:
            buffer.copy_(torch.tensor([_module_seed(one, number) for one in seed]))
    set_dropout_piece(buffers, 0)


def set_dropout_piece(model: nn.Module | Mapping[str, Tensor], number: int) -> None:
    """Give a step's micro-batch of this number, from 0, masks of its own; ``model`` as above."""
    for buffer in _held(model, PIECE):
        buffer.fill_(number)


def _buffers(model: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return dict(model.named_buffers()) if isinstance(model, nn.Module) else model


def _held(model: nn.Module | Mapping[str, Tensor], kind: str) -> list[Tensor]:
    return [buffer for name, buffer in _buffers(model).items() if name.split(".")[-1] == kind]


def _module_seed(seed: int, number: int) -> int:
    """Return the SplitMix64 hash of ``seed`` moved on by ``number``, as a signed integer."""
    mixed = (_hashed(seed) + number * _INCREMENT) % 2**64
    return _signed(_hashed(mixed))


def _hashed(number: int) -> int:
    """Return ``_mixed`` of one Python number, without a sign."""
    first, second, last = _SHIFTS
    number %= 2**64
    number = (number ^ (number >> first)) * _FACTORS[0] % 2**64
    number = (number ^ (number >> second)) * _FACTORS[1] % 2**64
    return number ^ (number >> last)


def _mixed(numbers: Tensor) -> Tensor:
    """Return SplitMix64's finaliser of each number, int64 in and out; products wrap around."""
    first, second, last = _SHIFTS
    numbers = (numbers ^ _shifted(numbers, first)) * _signed(_FACTORS[0])
    numbers = (numbers ^ _shifted(numbers, second)) * _signed(_FACTORS[1])
    return numbers ^ _shifted(numbers, last)


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """Shift right as if unsigned: int64 fills up with the sign, which the mask takes away."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    """Return the int64 that has the bits of this unsigned number."""
    return number - 2**64 if number >= 2**63 else number
