"""The weights of models of equal shapes as the rows of one matrix, and AdamW's steps on it.

Shape legend: K rows, P weights of a model (those that are decayed first).
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from sg_ray.models.family import NeuralConfig
from sg_ray.training.loop import Training

_ALIGNED = 16
"""Rows begin at multiples of so many numbers: alike in memory, they are computed alike."""


@dataclass(frozen=True)
class _Place:
    """Where a weight of a model lies in its row."""

    name: str
    shape: torch.Size
    start: int

    @property
    def stop(self) -> int:
        """Where it ends."""
        return self.start + int(self.shape.numel())

    def view_of(self, row: Tensor) -> Tensor:
        """Return the weight in a row, shaped as in the model."""
        return row[self.start : self.stop].view(self.shape)


class StackedWeights:
    """Weights, moments and buffers of the trainings of a stack, of which their models are views.

    ``flat``, shape [K, P], takes gradients. A training's model and optimiser read and save what
    lies in its row, so its files are those of a training alone.
    """

    def __init__(
        self,
        members: Mapping[int, Training],
        num_rows: int,
        config: NeuralConfig,
        device: torch.device,
    ) -> None:
        """Take over what the models and optimisers of ``members``, by row, hold."""
        self._members, self._config = dict(members), config
        first = next(iter(members.values()))
        self._places, self._num_decayed = _places(first)
        width = -(-max(place.stop for place in self._places) // _ALIGNED) * _ALIGNED
        self.flat = torch.zeros(num_rows, width, device=device, requires_grad=True)
        self._moments = [torch.zeros(num_rows, width, device=device) for _ in range(2)]
        # One for each group of weights: AdamW counts a step for each tensor that it changes.
        self._steps = torch.zeros(num_rows, 2, device=device)
        self.buffers = _stacked_buffers(members, num_rows, device)
        for row, member in members.items():
            self._take_over(row, member)

    def by_name(self) -> dict[str, Tensor]:
        """Return the weights of all rows by their names in a model, each [K, ...]."""
        sizes = [place.shape.numel() for place in self._places]
        parts = torch.split(self.flat, [*sizes, self.flat.shape[1] - sum(sizes)], dim=1)
        return {
            place.name: part.reshape(len(part), *place.shape)
            for place, part in zip(self._places, parts, strict=False)
        }

    def update(self, gradient: Tensor) -> Tensor:
        """Take each row's step by ``gradient`` [K, P]; return the norms before clipping, [K]."""
        norms: Tensor = torch.linalg.vector_norm(gradient, dim=1)
        # As ``clip_grad_norm_`` does it.
        shrink = (self._config.gradient_clip_norm / (norms + 1e-6)).clamp(max=1.0)
        gradient.mul_(shrink[:, None])
        rows_of_rate: dict[float, list[int]] = defaultdict(list)
        for row, member in self._members.items():
            rows_of_rate[member.optimiser.learning_rate].append(row)
        for learning_rate, rows in rows_of_rate.items():
            self._step(gradient, rows, learning_rate)
        for member in self._members.values():
            member.optimiser.count_step()
        return norms

    def clear(self, row: int) -> None:
        """Empty a row: it is changed no more, and what is computed of it stays finite."""
        del self._members[row]
        with torch.no_grad():
            self.flat[row].zero_()

    @torch.no_grad()
    def _step(self, gradient: Tensor, rows: Collection[int], learning_rate: float) -> None:
        cut = self._num_decayed
        for group, decay in enumerate((self._config.weight_decay, 0.0)):
            part = slice(0, cut) if group == 0 else slice(cut, None)
            params = [self.flat[row, part] for row in rows]
            adamw(
                params,
                [gradient[row, part] for row in rows],
                [self._moments[0][row, part] for row in rows],
                [self._moments[1][row, part] for row in rows],
                [],
                [self._steps[row, group] for row in rows],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=learning_rate,
                weight_decay=decay,
                eps=1e-8,
                maximize=False,
            )

    @torch.no_grad()
    def _take_over(self, row: int, member: Training) -> None:
        """Copy a training's weights and moments into its row, and have it read them there."""
        parameters = dict(member.model.named_parameters())
        states: dict[Tensor, dict[str, Tensor]] = {}
        for place in self._places:
            parameter = parameters[place.name]
            view = place.view_of(self.flat.detach()[row])
            view.copy_(parameter)
            parameter.data = view
            known = member.optimiser.state_of(parameter)
            own = {
                "step": self._steps[row, int(place.start >= self._num_decayed)],
                "exp_avg": place.view_of(self._moments[0][row]),
                "exp_avg_sq": place.view_of(self._moments[1][row]),
            }
            for name, value in known.items():
                own[name].copy_(value)
            states[parameter] = own
        member.optimiser.keep_elsewhere(states)


def _places(training: Training) -> tuple[list[_Place], int]:
    """Return where each weight lies in a row, and how many numbers of a row are decayed."""
    names = {parameter: name for name, parameter in training.model.named_parameters()}
    places: list[_Place] = []
    start, ends = 0, []
    for group in training.optimiser.groups:
        for parameter in group:
            places.append(_Place(names[parameter], parameter.shape, start))
            start += parameter.numel()
        ends.append(start)
    return places, ends[0]


def _stacked_buffers(
    members: Mapping[int, Training], num_rows: int, device: torch.device
) -> dict[str, Tensor]:
    """Return what the models hold beside the weights that are trained, each [K, ...]."""
    held = {row: _untrained(member.model) for row, member in members.items()}
    filler = next(iter(held.values()))
    return {
        name: torch.stack([held.get(row, filler)[name] for row in range(num_rows)]).to(device)
        for name in filler
    }


def _untrained(model: nn.Module) -> dict[str, Tensor]:
    frozen = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
    return {**dict(model.named_buffers()), **frozen}
