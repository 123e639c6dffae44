"""The checks in order; one that fails keeps only those that need it from running."""

import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from sg_ray.config import Experiment, Model
from sg_ray.errors import SgRayError
from sg_ray.host.processes import descendants, is_alive
from sg_ray.preflight.context import Context, temporary_folder
from sg_ray.preflight.finding import Finding
from sg_ray.preflight.inputs import check_branches, check_data, check_pretrained
from sg_ray.preflight.machine import check_devices, check_disk
from sg_ray.preflight.plan import check_records, check_seeds, check_sweep_folder
from sg_ray.preflight.software import check_packages, check_ray_session, check_tracking
from sg_ray.prepare.pretrained_folders import pretrained_of

_ENOUGH_DETAIL = 1000
"""Characters; an unexpected error's message may go on for pages."""


@dataclass(frozen=True)
class Check:
    """A named check. It returns a finding, or raises: SgRayError for what the user can mend."""

    name: str
    run: Callable[[Context], Finding]
    needs: tuple[str, ...] = ()
    """Names of earlier checks without which this one cannot run."""


_BRANCHES = Check("branches", check_branches, ("data",))


@dataclass(frozen=True)
class Result:
    """A check's name, what it found, and how long that took."""

    name: str
    finding: Finding
    duration_s: float


def run_checks(experiment: Experiment) -> Generator[Result]:
    """Run every check of an experiment; yield each result as soon as there is one.

    Nothing is written outside a temporary folder, which is gone when the last result comes.
    """
    running_before = descendants()
    with temporary_folder() as folder:
        context = Context(experiment, folder)
        findings: dict[str, Finding] = {}
        for check in checks_of(experiment.all_models, has_begun=experiment.folder.is_sweep):
            result = _timed(check.name, partial(_carry_out, check, context, findings))
            findings[check.name] = result.finding
            yield result
    clean_up = partial(check_clean_up, folder, context, running_before)
    yield _timed("clean-up", clean_up)


def checks_of(models: Sequence[Model], *, has_begun: bool) -> list[Check]:
    """Return the checks of an experiment with these models, in order."""
    names = {model.name for model in models}
    steps = [
        Check(_step_name(model.name), partial(check_step, model=model), _needs(model, names))
        for model in models
    ]
    branches = [_BRANCHES] if any(_BRANCHES.name in step.needs for step in steps) else []
    return [
        Check("packages", check_packages),
        Check("sweep folder", check_sweep_folder),
        Check("seeds", check_seeds),
        Check("devices", check_devices),
        Check("data", check_data),
        *([Check("records", check_records, ("sweep folder", "data"))] if has_begun else []),
        Check("pretrained", check_pretrained),
        *branches,
        Check("mlflow", check_tracking),
        Check("ray", check_ray_session),
        *steps,
        Check("disk", check_disk, tuple(step.name for step in steps)),
    ]


def check_step(context: Context, model: Model) -> Finding:
    """A model trains for a step on real functions: forward, backward, validation, checkpoint."""
    step = context.step(model.name)
    what = "a step" if model.is_neural else "fit"
    memory = "GPU memory" if step.device.type == "cuda" else "memory of this process so far"
    found = (
        f"{what} on {step.num_rows} rows, {step.num_weights:,} weights on {step.device.type}, "
        f"{step.duration_s:.1f} s, peak {memory} {step.peak_mb:.0f} MB"
    )
    return Finding.ok(found) if step.fallback is None else Finding.warn(f"{found}; {step.fallback}")


def check_clean_up(
    folder: Path, context: Context, running_before: frozenset[psutil.Process]
) -> Finding:
    """Nothing that the checks started or wrote is left.

    What ran before them may start processes meanwhile, such as workers of a Ray held already.
    """
    report = context.ray_report
    folders = [folder, *([report.session_dir] if report and report.session_dir else [])]
    processes = descendants(beside=running_before) | (report.processes if report else frozenset())
    left = [str(path) for path in folders if path.exists()]
    left += [f"process {process.pid}" for process in processes if is_alive(process)]
    if left:
        return Finding.fail(f"still there: {', '.join(left)}. End or delete them by hand")
    return Finding.ok("no process, temporary folder or Ray session is left")


def _step_name(model: str) -> str:
    return f"train {model}"


def _needs(model: Model, names: Collection[str]) -> tuple[str, ...]:
    """Return the checks without which a model cannot train for a step; ``names`` are of all."""
    needs = ["packages", "devices", "data"]
    if pretrained_of(model):
        needs.append("pretrained")
    needs += [
        _step_name(branch) if branch in names else _BRANCHES.name
        for branch in model.branches.values()
    ]
    return tuple(dict.fromkeys(needs))


def _carry_out(check: Check, context: Context, findings: Mapping[str, Finding]) -> Finding:
    blocking = [name for name in check.needs if findings[name].blocks]
    if blocking:
        return Finding.skip(f"needs {', '.join(blocking)}")
    try:
        return check.run(context)
    except SgRayError as error:
        return Finding.fail(str(error))
    except Exception as error:  # one check must not keep the others from running
        message = f"{type(error).__name__}: {str(error)[:_ENOUGH_DETAIL]}"
        return Finding.fail(f"{message} (unforeseen; a sweep would most likely meet it too)")


def _timed(name: str, work: Callable[[], Finding]) -> Result:
    started = time.perf_counter()
    finding = work()
    return Result(name, finding, time.perf_counter() - started)
