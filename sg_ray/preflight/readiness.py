"""What a sweep would stumble over, found before it begins: nothing is written, no Ray is started.

``sweep``, ``extend``, ``--dry-run`` and ``preflight`` ask the same functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sg_ray.config import Experiment, Model
from sg_ray.data.codexglue import is_downloaded
from sg_ray.data.samples import DataSet
from sg_ray.data.sources import DataConfig, check_paths
from sg_ray.host.folders import require_writable
from sg_ray.prepare.branches import GivenBranches
from sg_ray.prepare.prepare import baselines, pinned, read_data
from sg_ray.prepare.pretrained_folders import check_folders
from sg_ray.records.begin import check_same_sweep
from sg_ray.records.changed import Change, find_change
from sg_ray.records.learning_rates import read_learning_rates
from sg_ray.records.record import read_records
from sg_ray.records.search_journal import read_search_journal
from sg_ray.records.winner_scores import read_scores
from sg_ray.sweep.execute.executor import Executor
from sg_ray.sweep_folder import SweepFolder


@dataclass(frozen=True)
class Readiness:
    """The data that a sweep would read, and what is to be said before it starts.

    ``data`` is None if only the sweep itself may fetch it.
    """

    data: DataSet | None
    change: Change | None = None
    """What is on record that was made with something else: somebody has to decide."""
    warnings: tuple[str, ...] = ()


def check_ready(
    experiment: Experiment, executor: Executor, *, extends: bool = False, downloads: bool = True
) -> Readiness:
    """Read the data and look at everything that a start would refuse.

    ``extends`` as of ``begin``; without ``downloads`` data that are not here yet are left alone.
    Raises InputError.
    """
    check_paths(experiment.data)
    executor.check(experiment.resources_by_model)
    check_folder(experiment, extends=extends)
    models = experiment.all_models
    for model in models:
        check_folders(model)
    if not downloads and not is_here(experiment.data, experiment.cache_dir):
        unseen = "the data are not downloaded yet, so they were not looked at"
        return Readiness(None, warnings=(unseen,))
    data = read_data(experiment.data, experiment.cache_dir, experiment.objective)
    given = GivenBranches(models, experiment.branches_from, data.fingerprint)
    given.require(experiment.replicate.seeds)
    return Readiness(data, what_has_changed(experiment.folder, models, data.fingerprint))


def check_folder(experiment: Experiment, *, extends: bool = False) -> None:
    """Raise InputError unless the sweep's folder is new, or can be gone on with.

    It can if its settings are these (or grow to these, if ``extends``) and no file is damaged on
    which the rest of the plan depends.
    """
    require_writable(experiment.folder.path, "output_dir")
    if experiment.lr_range.enabled:
        require_writable(experiment.lr_range.cache_dir, "lr_range.cache_dir")
    if not experiment.cache_dir.is_dir():  # one that is there may hold all that is needed
        require_writable(experiment.cache_dir, "cache_dir")
    folder = experiment.folder
    if not folder.is_sweep:
        return
    check_same_sweep(experiment, extends=extends)
    read_records(folder)
    read_learning_rates(folder)
    read_scores(folder)
    for journal in folder.search_journals:
        read_search_journal(journal)


def is_here(data: DataConfig, cache_dir: Path) -> bool:
    """Return False for data that would have to be downloaded."""
    return data.source != "codexglue" or is_downloaded(cache_dir)


def what_has_changed(
    folder: SweepFolder, models: Sequence[Model], data_fingerprint: str
) -> Change | None:
    """Return what is on record that a start would not count as it is; None if it keeps all."""
    if not any(folder.records.glob("*.json")):
        return None  # and nothing is read to be pinned
    return find_change(folder, data_fingerprint, baselines(pinned(models)))
