"""Several sweeps side by side, as a table for pandas."""

from pathlib import Path
from typing import Any

import pandas as pd

from sg_ray.api.places import named_folder
from sg_ray.api.sweep_results import SweepResults
from sg_ray.errors import InputError
from sg_ray.report.text.results import ConfigurationResults, Origin, read_configurations
from sg_ray.report.text.tables import line_of

_Key = tuple[Origin, str, str]


def compare(*sweeps: str | Path | SweepResults) -> pd.DataFrame:
    """Return the configurations of several sweeps or trainings: what ``sg-ray report`` shows.

    Each of ``sweeps`` is a sweep's name or results, or any folder with trials below it. A line is
    a configuration; a trial that is in several of them counts once. Columns: ``folders`` (those
    that hold trials of it), ``model``, ``config_hash``, ``data_fingerprint``, ``code_version``,
    ``num_seeds`` completed, ``num_failed``, ``num_pruned``, ``seeds``, ``METRIC_mean`` and
    ``METRIC_sd`` of every metric, and ``config.SETTING`` of every setting. Means of other data
    or other code are not comparable: look at ``data_fingerprint`` and ``code_version``.

    Raises InputError if a folder holds no trials, or if a file is damaged::

        sg_ray.compare("quick", "quick-wider").sort_values("val_roc_auc_mean")
    """
    if not sweeps:
        raise InputError("compare: name at least one sweep.")
    folders = [_folder(sweep) for sweep in sweeps]
    holders: dict[_Key, list[str]] = {}
    for folder in folders:
        for one in read_configurations(folder):
            holders.setdefault(_key(one), []).append(folder.name)
    together = read_configurations(*folders)
    return pd.DataFrame([_line(one, holders[_key(one)]) for one in together])


def _folder(sweep: str | Path | SweepResults) -> Path:
    if isinstance(sweep, SweepResults):
        return sweep.folder.path
    return named_folder(Path(sweep)).absolute()


def _key(configuration: ConfigurationResults) -> _Key:
    return configuration.origin, configuration.model, configuration.config_hash


def _line(configuration: ConfigurationResults, holders: list[str]) -> dict[str, Any]:
    settings = {f"config.{name}": value for name, value in configuration.settings.items()}
    return {"folders": " ".join(holders), **line_of(configuration), **settings}
