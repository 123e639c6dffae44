"""Range tests kept between sweeps, keyed by configuration, data and code."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sg_ray.config import LrRangeSettings
from sg_ray.errors import InputError
from sg_ray.files import content_hash, write_json
from sg_ray.reading import read_model
from sg_ray.trial.spec import TrialSpec

_SECONDS_PER_DAY = 86_400

_LOGGER = logging.getLogger(__name__)


class _Kept(BaseModel):
    """``LrRange.as_dict()``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    suggestion: float | None
    reason: str | None
    curves: Sequence[Mapping[str, Any]]


def read(settings: LrRangeSettings, spec: TrialSpec) -> Mapping[str, Any] | None:
    """Return the kept result of the same test; None if there is none, or it is too old.

    None also, with a warning, if it is damaged.
    """
    path = _path(settings, spec)
    try:
        age_s = time.time() - path.stat().st_mtime
    except OSError:
        return None
    if not 0 <= age_s <= settings.max_age_days * _SECONDS_PER_DAY:
        return None
    try:
        kept = read_model(path, _Kept, what="range test", remedy="The test is made again.")
    except InputError as error:
        _LOGGER.warning("%s", error)
        return None
    return kept.model_dump()


def write(settings: LrRangeSettings, spec: TrialSpec, found: Mapping[str, Any]) -> None:
    """Keep a result."""
    write_json(_path(settings, spec), found)


def _path(settings: LrRangeSettings, spec: TrialSpec) -> Path:
    deciding = (spec.trial_key, settings.num_steps, settings.num_seeds, settings.max_samples)
    other_code = () if spec.trained_with is None else (spec.trained_with,)
    name = f"{spec.model}-{content_hash((*deciding, *other_code), 16)}.json"
    return settings.cache_dir / name
