"""Checks of what is installed and of the services that a sweep starts or writes to."""

import importlib
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sg_ray.cluster.chosen_address import LOCAL, chosen_address
from sg_ray.cluster.placing.admission import any_group, check_fits
from sg_ray.cluster.placing.at_once import told_at_once
from sg_ray.cluster.placing.capacity import capacity_at
from sg_ray.cluster.placing.packing import Machine, num_mixed
from sg_ray.cluster.ray_address import check_address
from sg_ray.cluster.ray_check import RayReport, check_ray
from sg_ray.preflight.context import Context
from sg_ray.preflight.finding import Finding
from sg_ray.sweep_folder import RAY_LOG
from sg_ray.tracking.check import check_store

_PACKAGE = "sg-ray"
_MODULES = {
    "grpcio": "grpc",
    "pyyaml": "yaml",
    "ruamel-yaml": "ruamel.yaml",
    "scikit-learn": "sklearn",
}
"""Where the module is not called as the package."""
_IMPORTED_ELSEWHERE = "mlflow"
"""Its own check imports it, with telemetry turned off before."""


def check_packages(_context: Context) -> Finding:
    """Every package that sg-ray requires is there, at a version it allows, and can be imported."""
    try:
        wanted = [Requirement(text) for text in requires(_PACKAGE) or ()]
    except PackageNotFoundError:
        return Finding.warn(f"{_PACKAGE} itself is not installed, so versions were not compared")
    core = [requirement for requirement in wanted if _applies(requirement, extra="")]
    problems = [problem for requirement in core for problem in _problems(requirement)]
    problems += [problem for requirement in core for problem in _import_problems(requirement.name)]
    if problems:
        return Finding.fail(
            f"{'; '.join(problems)}. Install what pyproject.toml names: make install, or "
            "pip install -c constraints.txt -e ."
        )
    shown = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "optuna", "mlflow"))
    return Finding.ok(f"{len(core)} packages as required: {shown}, ...")


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _problems(requirement: Requirement) -> Iterator[str]:
    """Name a package that is missing or of a wrong version; the same for what its extras need."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        yield f"{requirement.name} is not installed"
        return
    if not requirement.specifier.contains(found, prereleases=True):
        yield f"{requirement.name} is {found}, wanted {requirement.specifier}"
    for extra in requirement.extras:
        for inner in map(Requirement, requires(requirement.name) or ()):
            if _applies(inner, extra) and not _applies(inner, extra=""):
                yield from _problems(inner)


def _import_problems(package: str) -> Iterator[str]:
    name = canonicalize_name(package)
    if name == _IMPORTED_ELSEWHERE:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a package says of itself is no failure
            importlib.import_module(_MODULES.get(name, name.replace("-", "_")))
    except Exception as error:  # whatever a broken installation comes up with
        yield f"{package} cannot be imported ({type(error).__name__}: {error})"


def check_ray_session(context: Context) -> Finding:
    """Ray starts on this machine, runs a task, and has room for a trial of every family.

    Where RAY_ADDRESS names a cluster, that answers and has the room, or may get it.
    """
    takes = context.experiment.resources_by_model
    address = chosen_address(None)
    if address != LOCAL:
        check_address(address)
        check_fits(takes, capacity_at(address)[1].at_most)
        return Finding.ok(told_at_once(takes, address, at_most=None))
    several_workers = any_group(takes)
    report = check_ray(context.folder / RAY_LOG, several_workers=several_workers)
    context.ray_report = report
    cpus, gpus = (report.resources.get(name, 0) for name in ("CPU", "GPU"))
    machines = [Machine(cpus, int(gpus))]
    check_fits(takes, machines)
    num_trials = num_mixed(machines, takes).total()
    found = (
        f"starts in {report.start_s:.1f} s, a task takes {report.task_s:.1f} s; it sees "
        f"{_counted(cpus, 'CPU')}, {_counted(gpus, 'GPU')}: {_counted(num_trials, 'trial')} at once"
    )
    return _judge_state_service(report, found, needed=several_workers)


def _judge_state_service(report: RayReport, found: str, *, needed: bool) -> Finding:
    """Train frees the workers of a trial that ended badly by what the state service says."""
    if report.state_service_error is not None:
        silent = f"Ray's state service does not answer ({report.state_service_error})"
        if not needed:
            return Finding.warn(f"{found}; {silent}, which only num_workers > 1 needs")
        return Finding.fail(
            f"{silent}: the workers of a trial that dies would never be freed. Install "
            "ray[default], let 127.0.0.1 past any proxy (no_proxy), or set num_workers=1"
        )
    if needed and not report.is_only_ray and report.dead_cluster is None:
        return Finding.warn(
            f"{found}; another Ray runs on this machine, and Train cannot tell the two apart: the "
            "workers of a trial that dies may never be freed. End the other one before the sweep"
        )
    if report.dead_cluster is not None:
        return Finding.warn(
            f"{found}; a cluster is noted as this machine's that does not answer any more "
            f"({report.dead_cluster}). Trials with num_workers > 1 may look for it: delete the "
            "file ray_current_cluster in Ray's temporary folder"
        )
    return Finding.ok(f"{found}; the state service answers")


def _counted(number: float, noun: str) -> str:
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"


def check_tracking(context: Context) -> Finding:
    """The MLflow store takes a run with a file, as the sweep would write it."""
    experiment = context.experiment
    tracking = experiment.tracking
    if not tracking.enabled:
        return Finding.ok("turned off by tracking.enabled=false")
    report = check_store(tracking.uri, Path.cwd(), experiment.name, experiment.folder)
    if report.warning and tracking.register_model:
        return Finding.warn(f"{report.detail}; {report.warning}")
    return Finding.ok(report.detail)
