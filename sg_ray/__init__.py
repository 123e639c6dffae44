"""sg-ray: learning-rate and seed sweeps for vulnerability detectors on Ray.

What Python programs use of it is named here, and imported when it is first asked for::

    import sg_ray

    sweep = sg_ray.run_sweep(sg_ray.load_experiment(settings={"name": "first"}))
    sweep.leaderboard
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sg_ray.version import __version__

if TYPE_CHECKING:
    from sg_ray.api.comparing import compare
    from sg_ray.api.experiments import load_experiment
    from sg_ray.api.one_model import train_model
    from sg_ray.api.running import resume_sweep, run_sweep
    from sg_ray.api.sweep_results import open_sweep
    from sg_ray.detector import Detector

__all__ = [
    "Detector",
    "__version__",
    "compare",
    "load_experiment",
    "open_sweep",
    "resume_sweep",
    "run_sweep",
    "train_model",
]

_HOMES = {
    "Detector": "sg_ray.detector",
    "compare": "sg_ray.api.comparing",
    "load_experiment": "sg_ray.api.experiments",
    "open_sweep": "sg_ray.api.sweep_results",
    "resume_sweep": "sg_ray.api.running",
    "run_sweep": "sg_ray.api.running",
    "train_model": "sg_ray.api.one_model",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch and Ray take seconds (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
