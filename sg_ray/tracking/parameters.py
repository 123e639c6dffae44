"""Which settings of a trial are parameters in MLflow: the few by which trials can be compared."""

from collections.abc import Mapping
from typing import Any

from sg_ray.training.seeding import Stream

ALWAYS_SHOWN = ("learning_rate", "batch_size", "epochs")
"""Settings that everybody looks for, searched or not."""


def trial_parameters(
    model: str,
    config: Mapping[str, Any],
    seed: int,
    plan: Mapping[str, Any],
    streams: Mapping[Stream, int] | None = None,
) -> dict[str, Any]:
    """Return what a trial shows: model, seed, and those settings that the sweep searches.

    A stream of random numbers with a seed of its own shows it, e.g. as ``seed.init``.

    What all trials of a model share is in the sweep's ``sweep.yaml`` and the trial's record. Where
    no plan tells what is searched, as for ``sg-ray train``, it is the whole configuration.
    """
    flat = flatten(config)
    space = _space(model, plan)
    if space is not None:
        flat = {name: value for name, value in flat.items() if name in {*space, *ALWAYS_SHOWN}}
    own_seeds = {f"seed.{stream}": own for stream, own in (streams or {}).items()}
    return {"model": model, **flat, "seed": seed, **own_seeds}


def sweep_parameters(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return what a sweep's own run shows, of what an extension leaves as it is."""
    shown = {
        "objective": plan.get("objective"),
        "families": ", ".join(plan.get("families", ())),
        "data": plan.get("data", {}).get("source"),
    }
    return {name: str(value) for name, value in shown.items() if value}


def shown_parameters(plan: Mapping[str, Any]) -> list[str]:
    """Return the settings that trials of a sweep show, the searched ones first."""
    spaces = [_space(model, plan) or {} for model in plan.get("families", ())]
    searched = sorted({name for space in spaces for name in space})
    return list(dict.fromkeys([*searched, *ALWAYS_SHOWN]))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one level, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _space(model: str, plan: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the model's search space, empty if it is not searched; None if no plan tells."""
    if "models" not in plan:
        return None
    space: Mapping[str, Any] = (plan["models"].get(model) or {}).get("space") or {}
    return space
