"""Checks of the machine: processors, number formats, disk space."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from sg_ray.cluster.chosen_address import LOCAL, chosen_address
from sg_ray.cluster.placing.admission import check_fits_here, machine_here
from sg_ray.cluster.placing.packing import num_fitting
from sg_ray.config import Model, Resources, Rules
from sg_ray.features.build import store_dir
from sg_ray.features.packed import FeatureKind
from sg_ray.host.cpus import count_cpus
from sg_ray.host.folders import nearest_existing
from sg_ray.models.family import NeuralConfig
from sg_ray.models.fusion import BRANCH_OUTPUTS
from sg_ray.preflight.context import Context
from sg_ray.preflight.finding import Finding
from sg_ray.records.planned import planned_stages
from sg_ray.training.compute import device_for
from sg_ray.training.precision import resolve_precision
from sg_ray.training.shared_gpu import mps_is_on

_NUM_TUNE_CHECKPOINTS = 3
"""Of a running trial: Tune keeps two, and writes the next before it drops one."""
_MB = 2**20
_GB = 2**30
_AMPLE = 2
"""Free space below this many times the need is worth a warning."""


def check_devices(context: Context) -> Finding:
    """Every model's trials fit this machine, in a number format that it has.

    Those of a cluster (RAY_ADDRESS) need not fit here.
    """
    experiment = context.experiment
    if chosen_address(None) == LOCAL:
        check_fits_here(experiment.resources_by_model)
    models = "; ".join(map(_describe_model, experiment.all_models))
    found = f"{count_cpus()}, {_describe_gpus()}; {models}"
    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        return Finding.warn(
            f"{found}; there is an NVIDIA driver, but torch {torch.__version__} sees no GPU: see "
            '"PyTorch for CPU or GPU" in docs/quickstart.md'
        )
    return Finding.ok(found)


def _describe_model(model: Model) -> str:
    takes, config = model.resources, model.settings
    asked = f"{model.name} {takes.num_workers} x ({takes.cpus:g} CPU, {takes.gpus:g} GPU)"
    if not isinstance(config, NeuralConfig):
        return asked
    precision = resolve_precision(config.precision, device_for(takes.gpus))
    return f"{asked} on {precision.device_type} in {precision.name}"


def _describe_gpus() -> str:
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    if not devices:
        return "no GPU"
    named = [f"{device.name} {device.total_memory / _GB:.0f} GB" for device in devices]
    return ", ".join(named) + (", shared through NVIDIA MPS" if mps_is_on() else "")


@dataclass(frozen=True)
class Need:
    """Bytes that a sweep will write below a folder, at most and about."""

    folder: Path
    purpose: str
    num_bytes: int


def check_disk(context: Context) -> Finding:
    """Each disk that a sweep writes to has room for it. The need is measured on the first steps."""
    by_disk: dict[int, list[Need]] = defaultdict(list)
    for need in disk_needs(context):
        by_disk[nearest_existing(need.folder).stat().st_dev].append(need)
    findings = [_check_one_disk(needs) for needs in by_disk.values()]
    worst = max(findings, key=lambda finding: ("ok", "warn", "FAIL").index(finding.status))
    return Finding(worst.status, "; ".join(finding.detail for finding in findings))


def disk_needs(context: Context) -> list[Need]:
    """Return what a sweep will write, by folder.

    Checkpoints and models are as large as those of the first steps. Features grow with the length
    of the functions; those of validation, drawn at random, tell by how much.
    """
    experiment = context.experiment
    steps = {model: context.step(model) for model in context.models}
    checkpoint = max(step.checkpoint_bytes for step in steps.values())
    num_trials = _num_trials(context.models.values(), experiment.rules)
    num_running = _num_concurrent(experiment.resources_by_model, experiment.max_concurrent_trials)
    models = sum(
        (num_trials[model] + 1) * step.best_model_bytes  # one more is exported
        for model, step in steps.items()
    )
    running = num_running * checkpoint
    return [
        Need(experiment.output_dir, "checkpoints", _NUM_TUNE_CHECKPOINTS * running),
        Need(experiment.output_dir, "trained models", models),
        Need(context.folder.parent, "running trials", running),
        Need(experiment.cache_dir, "features", _feature_bytes(context)),
        Need(experiment.cache_dir, "branch outputs", _branch_output_bytes(context)),
    ]


def _check_one_disk(needs: list[Need]) -> Finding:
    folders = list(dict.fromkeys(need.folder for need in needs))
    total = sum(need.num_bytes for need in needs)
    free = min(shutil.disk_usage(nearest_existing(folder)).free for folder in folders)
    parts = ", ".join(f"{need.purpose} {_shown(need.num_bytes)}" for need in needs)
    names = ", ".join(map(str, folders))
    found = f"{names}: {_shown(free)} free, about {_shown(total)} needed ({parts})"
    if free < total:
        return Finding.fail(
            f"{found}. Free some, or set output_dir, cache_dir or TMPDIR to a larger disk"
        )
    if free < _AMPLE * total:
        return Finding.warn(found)
    return Finding.ok(found)


def _num_concurrent(takes: Mapping[str, Resources], at_most: int | None) -> int:
    """Return how many trials run at once, at most: of the model of which most fit."""
    fits = max(num_fitting([machine_here()], one) for one in takes.values())
    return min(fits, at_most or fits)


def _num_trials(models: Iterable[Model], rules: Rules) -> Counter[str]:
    """Return how many trials each model has by plan, at most."""
    found: Counter[str] = Counter()
    for stage in planned_stages(models, rules):
        if stage.stage in ("floor", "search", "replicate"):
            found[stage.model] += stage.num_trials + stage.num_extra
    return found


def _feature_bytes(context: Context) -> int:
    """Estimate the feature kinds that the cache does not hold yet."""
    data, subset = context.data, context.subset
    total = sum(len(s.source) for samples in data.splits.values() for s in samples)
    sampled = sum(len(sample.source) for sample in subset.splits["valid"])
    measured = sum(
        ragged.values.nbytes + ragged.offsets.nbytes
        for kind in _new_kinds(context)
        for ragged in kind.splits["valid"].values()
    )
    return measured * total // max(1, sampled)


def _new_kinds(context: Context) -> list[FeatureKind]:
    """Return the subset's feature kinds that the cache does not hold of the whole data."""
    cache_dir, fingerprint = context.experiment.cache_dir, context.data.fingerprint
    kinds = {
        spec: context.features_of(model).kinds[spec.key]
        for model in context.models
        for spec in context.specs_of(model)
    }
    return [k for spec, k in kinds.items() if not store_dir(cache_dir, fingerprint, spec).exists()]


def _branch_output_bytes(context: Context) -> int:
    """Scale what the first steps cached of their branches' outputs to all rows and seeds."""
    files = (context.cache_dir / BRANCH_OUTPUTS).glob("*")
    cached = sum(path.stat().st_size for path in files)
    num_cached_rows = sum(map(len, context.subset.splits.values()))
    num_rows = sum(map(len, context.data.splits.values()))
    num_seeds = len(context.experiment.replicate.all_seeds)
    return cached * num_rows * num_seeds // max(1, num_cached_rows)


def _shown(num_bytes: float) -> str:
    return f"{num_bytes / _GB:.1f} GB" if num_bytes >= _GB else f"{num_bytes / _MB:.0f} MB"
