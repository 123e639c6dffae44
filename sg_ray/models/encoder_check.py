"""Whether an encoder reads whole functions, and nothing else: asked once, before it is trained on.

Not every architecture fits a readout: one token may stand for the function that has seen a part of
it only. So whatever a configuration says, what counts is what the encoder does.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sg_ray.errors import InputError
from sg_ray.models.family import Classifier, SplitData

_NUM_CHANGED = 8
"""Tokens at an end in which two probes differ."""
_NUM_SHORT = 8
_TOLERANCE = 1e-3
"""Of the largest number in an embedding; padding and batches change the order of sums."""

_NUM_VARIANTS = 4
"""Of each changed end: attention that is sure of itself may leave one of them out."""

LONG, SHORT = 0, 1
OTHER_ENDS = range(2, 2 + _NUM_VARIANTS)
OTHER_STARTS = range(OTHER_ENDS.stop, OTHER_ENDS.stop + _NUM_VARIANTS)
"""The probes, in order."""


def probes(num_tokens: int, ids: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return token sequences of at most ``num_tokens``, made of ``ids``.

    A long one, a short one, and some that differ from the long one in their last tokens alone, or
    in their first.
    """
    known = np.asarray(ids, dtype=np.int64)
    places = np.random.default_rng(0).integers(len(known), size=num_tokens)
    num_changed = max(1, min(_NUM_CHANGED, num_tokens // 2))
    is_end = np.arange(num_tokens) >= num_tokens - num_changed
    shifts = [1 + at * len(known) // (_NUM_VARIANTS + 1) for at in range(_NUM_VARIANTS)]
    ends = [known[(places + shift * is_end) % len(known)] for shift in shifts]
    starts = [known[(places + shift * is_end[::-1]) % len(known)] for shift in shifts]
    return [known[places], known[places[:_NUM_SHORT]], *ends, *starts]


def check_encoder(setting: str, build: Callable[[], Classifier], split: SplitData) -> None:
    """Raise InputError, beginning with ``setting``, if a model does not read what it is given.

    ``build`` loads it; ``split`` holds the ``probes``. Its embedding must be finite, depend on the
    last and on the first tokens of a function as long as any, not on the functions beside it in a
    batch, and be the same after each loading.
    """
    model = build().eval()
    long = _embedding(setting, model, split, LONG)
    if not bool(long.isfinite().all()):
        raise InputError(f"{setting} gives embeddings that are not finite. Use another encoder.")
    for others, part in ((OTHER_ENDS, "last"), (OTHER_STARTS, "first")):
        if all(torch.equal(long, _embedding(setting, model, split, other)) for other in others):
            raise InputError(
                f"{setting} does not see the {part} tokens of a function of {split.units[LONG]} "
                "tokens: the token that stands for it attends to others only. Use pooling=mean, a "
                "smaller max_tokens, or another encoder."
            )
    alone = _embedding(setting, model, split, SHORT)
    beside = _embedding(setting, model, split, SHORT, LONG)
    if float((alone - beside).abs().max()) > _TOLERANCE * float(alone.abs().max()):
        raise InputError(
            f"{setting} says something else of a function beside a longer one: it reads the "
            "padding, so the batch would decide what is learnt. Use another encoder."
        )
    if not torch.equal(long, _embedding(setting, build().eval(), split, LONG)):
        raise InputError(
            f"{setting} is another one each time it is loaded: some of its weights are drawn at "
            "random. Use another encoder."
        )


@torch.inference_mode()
def _embedding(setting: str, model: Classifier, split: SplitData, *indices: int) -> Tensor:
    """Return the embedding of the first of ``indices``, encoded in one batch with the others."""
    batch = split.collate(np.array(indices))
    try:
        return model.embed(batch)[0].float()
    except (IndexError, RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{setting} cannot read a function of {split.units[list(indices)].max()} tokens "
            f"({reason}). Use a smaller max_tokens, or another encoder."
        ) from error
