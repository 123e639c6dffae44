"""Is this the sweep that was begun under its name? Its settings are kept in ``sweep.yaml``."""

import math
from typing import Any

from sg_ray.config import (
    Experiment,
    ReplicateSettings,
    SearchSettings,
    load_experiment,
)
from sg_ray.errors import InputError
from sg_ray.files import write_text
from sg_ray.records.folder_format import require_own_format, write_format
from sg_ray.records.winner_scores import set_test_aside


def begin(experiment: Experiment, *, extends: bool = False) -> bool:
    """Write sweep.yaml, or check that the sweep begun under this name is the same.

    ``extends`` allows more search trials, finalists and seeds; the winner is then scored on the
    test split anew. Return True if it was begun before. Raises InputError that shows the
    difference if it is another sweep.
    """
    path = experiment.folder.settings
    resumed = path.exists()
    if resumed:
        check_same_sweep(experiment, extends=extends)
        if load_experiment(path, loads_code=False).identity != experiment.identity:
            set_test_aside(experiment.folder)
    write_format(experiment.folder)
    write_text(path, f"# identity: {experiment.identity_hash}\n{experiment.to_yaml()}")
    return resumed


def check_same_sweep(experiment: Experiment, *, extends: bool = False) -> None:
    """Raise InputError that shows the difference if another sweep was begun under this name."""
    path = experiment.folder.settings
    require_own_format(experiment.folder)
    before = load_experiment(path, loads_code=False)
    expected = before
    if extends:
        search = _only_grown_search(before.search, experiment.search)
        replicate = _only_grown_seeds(before.replicate, experiment.replicate)
        expected = before.model_copy(update={"search": search, "replicate": replicate})
    differences = _differences("", expected.identity, experiment.identity)
    if not differences:
        return
    way_out = (
        "extend only adds: seeds, and more of search.num_trials, replicate.top_k, "
        "replicate.max_seeds, replicate.variance_seeds or replicate.budget_epochs."
        if extends
        else f"Choose another name=..., go on with the old settings by --resume {experiment.name}, "
        f"or delete {experiment.folder}."
    )
    shown = "\n".join(f"  {line}" for line in differences)
    raise InputError(
        f"{path}: a sweep called {experiment.name!r} was begun with other settings:\n{shown}\n"
        f"{way_out}"
    )


def _only_grown_search(before: SearchSettings, now: SearchSettings) -> SearchSettings:
    """Return ``before`` with as many trials as ``now``, unless those are fewer."""
    return before.model_copy(update={"num_trials": max(before.num_trials, now.num_trials)})


def _only_grown_seeds(before: ReplicateSettings, now: ReplicateSettings) -> ReplicateSettings:
    """Return ``before`` with those settings of ``now`` that only add trials."""
    keeps_seeds = now.seeds[: len(before.seeds)] == before.seeds
    return before.model_copy(
        update={
            "top_k": max(before.top_k, now.top_k),
            "seeds": now.seeds if keeps_seeds else before.seeds,
            "variance_seeds": max(before.variance_seeds, now.variance_seeds),
            "max_seeds": _larger(before.max_seeds, now.max_seeds, none=0),
            "budget_epochs": _larger(before.budget_epochs, now.budget_epochs, none=math.inf),
        }
    )


def _larger(before: int | None, now: int | None, *, none: float) -> int | None:
    """Return the one that allows more; ``none`` is what None allows."""
    return max(before, now, key=lambda limit: none if limit is None else limit)


def _differences(key: str, was: Any, now: Any) -> list[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        return [
            line
            for name in sorted({*was, *now})
            for line in _differences(f"{key}.{name}" if key else name, was.get(name), now.get(name))
        ]
    return [] if was == now else [f"{key}: {_told(was)} before, {_told(now)} now"]


def _told(value: Any) -> str:
    """Return a value; of a whole section, which is there once only, that it is there."""
    return "settings" if isinstance(value, dict) else repr(value)
