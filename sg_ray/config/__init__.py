"""An experiment: YAML and ``key=value`` overrides in, one frozen, validated object out."""

from sg_ray.config.experiment import (
    FLOOR,
    Experiment,
    LrRangeSettings,
    ModelSettings,
    PruningSettings,
    ReplicateSettings,
    Resources,
    SearchSettings,
    Settings,
    TrackingSettings,
)
from sg_ray.config.load import load_experiment, resolved_yaml

__all__ = [
    "FLOOR",
    "Experiment",
    "LrRangeSettings",
    "ModelSettings",
    "PruningSettings",
    "ReplicateSettings",
    "Resources",
    "SearchSettings",
    "Settings",
    "TrackingSettings",
    "load_experiment",
    "resolved_yaml",
]
