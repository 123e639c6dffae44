"""AdamW with warm-up and linear decay, loss scaling and gradient clipping, in the right order."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from sg_ray.models.family import NeuralConfig

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)


class Optimiser:
    """Everything between the loss of a batch and the next weights.

    AdamW decays weights apart from the gradient (Loshchilov and Hutter, arXiv 1711.05101). Use:
    ``backward`` once per micro-batch, then ``step`` once.
    """

    def __init__(
        self,
        model: nn.Module,
        config: NeuralConfig,
        schedule: Callable[[int], float],
        scaler: torch.amp.GradScaler,
    ) -> None:
        """``schedule`` gives each step's learning rate relative to the configured one."""
        groups = parameter_groups(model, config.weight_decay)
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        # Fused: one pass over the weights; 2 to 4 times faster than the others on CPU as well.
        self._adamw = AdamW(groups, lr=config.learning_rate, fused=True)
        self._schedule = LambdaLR(self._adamw, schedule)
        self._scaler = scaler
        self._clip_norm = config.gradient_clip_norm

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(self._adamw.param_groups[0]["lr"])

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` to what has been collected since the last step."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self) -> Tensor:
        """Change the weights and forget the gradient; return its norm before clipping, shape [].

        Clipping works on true gradients, so it comes after unscaling. If fp16 gradients overflowed
        the scaler leaves the weights alone, and then the schedule does not advance either.
        """
        self._scaler.unscale_(self._adamw)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        scale = self._scaler.get_scale()
        self._scaler.step(self._adamw)
        self._scaler.update()
        if self._scaler.get_scale() >= scale:
            self._schedule.step()
        self.zero_grad()
        return norm

    def clip_and_apply(self) -> Tensor:
        """Do the arithmetic of ``step`` without a scaler; return the norm, shape []."""
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        self._adamw.step()
        return norm

    @contextmanager
    def reading_rate_from(self, learning_rate: Tensor) -> Iterator[None]:
        """Have AdamW read its rate from a tensor, [], on the device: a recorded step reads it anew.

        Afterwards it has its own rate again.
        """
        groups = self._adamw.param_groups
        before = [(group["lr"], group["capturable"]) for group in groups]
        for group in groups:
            group["lr"], group["capturable"] = learning_rate, True
        try:
            yield
        finally:
            for group, (rate, capturable) in zip(groups, before, strict=True):
                group["lr"], group["capturable"] = rate, capturable

    def zero_grad(self) -> None:
        """Forget the gradient collected since the last step."""
        self._adamw.zero_grad(set_to_none=True)

    @property
    def groups(self) -> list[list[nn.Parameter]]:
        """The weights that are decayed, and those that are not."""
        return [list(group["params"]) for group in self._adamw.param_groups]

    def state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return AdamW's ``step``, ``exp_avg`` and ``exp_avg_sq`` of a weight; none before any."""
        return dict(self._adamw.state.get(parameter, {}))

    def keep_elsewhere(self, states: Mapping[Tensor, dict[str, Tensor]]) -> None:
        """Have ``state_of`` each weight be these tensors; somebody else takes the steps."""
        self._adamw.state.update(states)
        self._adamw._opt_called = True  # type: ignore[attr-defined] # else its schedule warns

    def count_step(self) -> None:
        """Go on to the next step's learning rate, after a step that somebody else has taken."""
        self._schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of optimiser, schedule and scaler under their checkpoint keys."""
        return {
            "optimizer_state_dict": self._adamw.state_dict(),
            "scheduler_state_dict": self._schedule.state_dict(),
            "scaler_state_dict": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._adamw.load_state_dict(state["optimizer_state_dict"])
        self._schedule.load_state_dict(state["scheduler_state_dict"])
        self._scaler.load_state_dict(state["scaler_state_dict"])


def linear_schedule(config: NeuralConfig, num_steps: int) -> Callable[[int], float]:
    """Return warm-up and linear decay over a whole training of ``num_steps`` steps.

    The factor rises to 1 at the last warm-up step and reaches 0 after the last step of all, so no
    step is taken with a learning rate of 0.
    """
    num_warmup_steps = round(config.warmup_ratio * num_steps)
    num_decay_steps = max(1, num_steps - num_warmup_steps)

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return (step + 1) / num_warmup_steps
        return max(0.0, (num_steps - step) / num_decay_steps)

    return factor


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters: biases, norms and vectors are not decayed."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter, decays in _trainable(model):
        (decayed if decays else free).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def _trainable(model: nn.Module) -> Iterator[tuple[nn.Parameter, bool]]:
    """Yield each trainable parameter once, and whether weight decay applies to it."""
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                is_free = parameter.ndim <= 1 or name == "bias" or isinstance(module, NORMS)
                yield parameter, not is_free
