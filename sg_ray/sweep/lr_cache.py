"""Range tests kept between sweeps, keyed by configuration, data and code."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sg_ray.files import content_hash, write_json
from sg_ray.sweep.jobs import LrRangeJob

_SECONDS_PER_DAY = 86_400


def read(cache_dir: Path, job: LrRangeJob, *, max_age_days: float) -> Mapping[str, Any] | None:
    """Return the kept result of the same test; None if there is none, or it is too old."""
    path = _path(cache_dir, job)
    try:
        age_s = time.time() - path.stat().st_mtime
        if not 0 <= age_s <= max_age_days * _SECONDS_PER_DAY:
            return None
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def write(cache_dir: Path, job: LrRangeJob, found: Mapping[str, Any]) -> None:
    """Keep a result."""
    write_json(_path(cache_dir, job), found)


def _path(cache_dir: Path, job: LrRangeJob) -> Path:
    settings = (job.num_steps, job.num_seeds, job.max_samples)
    return cache_dir / f"{job.spec.family}-{content_hash([job.spec.trial_key, *settings], 16)}.json"
