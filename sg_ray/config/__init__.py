"""An experiment: YAML and ``key=value`` overrides in, one frozen, validated object out."""

from sg_ray.config.experiment import (
    Experiment,
    KeepWeights,
    LrRangeSettings,
    ModelSettings,
    PruningSettings,
    ReplicateSettings,
    Rules,
    SearchSettings,
    TrackingSettings,
)
from sg_ray.config.load import load_experiment
from sg_ray.config.model import FLOOR, Model
from sg_ray.config.resources import Resources
from sg_ray.config.values import Given

__all__ = [
    "FLOOR",
    "Experiment",
    "Given",
    "KeepWeights",
    "LrRangeSettings",
    "Model",
    "ModelSettings",
    "PruningSettings",
    "ReplicateSettings",
    "Resources",
    "Rules",
    "SearchSettings",
    "TrackingSettings",
    "load_experiment",
]
