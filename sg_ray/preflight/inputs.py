"""Checks of what a sweep reads: data, pretrained models, branches trained elsewhere."""

from collections.abc import Sequence

from sg_ray.data.codexglue import HUB_NAME
from sg_ray.data.samples import Sample
from sg_ray.errors import InputError
from sg_ray.models.families import get_family
from sg_ray.preflight.context import Context
from sg_ray.preflight.finding import Finding
from sg_ray.preflight.readiness import is_here
from sg_ray.prepare.prepare import check_data as check_objective_on
from sg_ray.prepare.pretrained_folders import Pretrained, pretrained_of
from sg_ray.training.checkpoint import read_best

_HUB_TIMEOUT_S = 10
_DATA_REMEDY = (
    'put its splits into a folder DIR as train.jsonl, valid.jsonl and test.jsonl, {"func": ..., '
    '"target": 0 or 1} on a line, and set data.path=DIR'
)


def check_data(context: Context) -> Finding:
    """The data set can be read, and passes the checks that a sweep makes."""
    if not is_here(context.experiment.data, context.experiment.cache_dir):
        return _not_downloaded(f"data set {HUB_NAME}", "dataset", HUB_NAME, _DATA_REMEDY)
    splits = context.data.splits
    check_objective_on(context.data, context.experiment.objective)
    rows = ", ".join(f"{split} {_describe(samples)}" for split, samples in splits.items())
    notes = context.data.notes
    if notes:
        return Finding.warn(f"{rows}; {'; '.join(notes)}")
    return Finding.ok(f"{rows}; no duplicates, conflicts or leaks")


def _describe(samples: Sequence[Sample]) -> str:
    share = sum(sample.label for sample in samples) / len(samples)
    return f"{len(samples)} rows ({share:.0%} vulnerable)"


def check_pretrained(context: Context) -> Finding:
    """The files of pretrained encoders and tokenizers are here, and read whole functions."""
    models = context.experiment.all_models
    named = [one for model in models for one in pretrained_of(model)]
    for one in named:
        finding = _look_for(one)
        if finding is not None:
            return finding
    if not named:
        return Finding.ok("none is asked for")
    for model in models:
        get_family(model.family).check(model.settings)
    names = ", ".join(dict.fromkeys(one.name for one in named))
    return Finding.ok(f"files are here: {names}; encoders load, and read whole functions")


def _look_for(wanted: Pretrained) -> Finding | None:
    """Return what is wrong with a folder or hub name; None if its files are here."""
    setting, name = wanted.setting, wanted.name
    if wanted.is_folder:
        wanted.check_folder()
        return None
    if any(all(_is_cached(name, file) for file in some) for some in wanted.alternatives):
        return None
    remedy = f"run: hf download {name} --local-dir DIR; copy DIR here and set {setting}=DIR"
    return _not_downloaded(f"{setting}: {name}", "model", name, remedy)


def _is_cached(name: str, file: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, file), str)
    except HFValidationError as error:
        raise InputError(
            f"{name!r} is no folder here, and no name of the hub ({error})."
        ) from error


def _not_downloaded(what: str, repo_type: str, hub_name: str, remedy: str) -> Finding:
    """A download belongs to the sweep; here only: would it be possible?"""
    from huggingface_hub import HfApi

    try:
        HfApi().repo_info(hub_name, repo_type=repo_type, timeout=_HUB_TIMEOUT_S)
    except Exception as error:  # network, proxy, offline mode, unknown name: no common base class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Finding.fail(
            f"{what} is not here, and the hub cannot be asked for it ({reason}). "
            f"On a machine with network access {remedy}"
        )
    return Finding.warn(
        f"{what} is not here yet: the sweep would download it when it starts, preflight does so "
        "with --download, and until then nothing can be trained on it here",
        blocks=True,
    )


def check_branches(context: Context) -> Finding:
    """The branches that ``branches_from`` names are there for every seed, and can be read."""
    experiment = context.experiment
    given = context.given_branches
    for name, branches in given.items():
        if len(branches) < len(experiment.replicate.seeds):
            seeds = ", ".join(map(str, experiment.replicate.seeds))
            return Finding.fail(
                f"branches_from={experiment.branches_from}: has {name} for {len(branches)} of "
                f"the seeds {seeds}. Train the others there, or set replicate.seeds to those it has"
            )
        for branch in branches:
            read_best(branch.folder)
    found = ", ".join(f"{len(branches)} x {name}" for name, branches in given.items())
    return Finding.ok(f"{found} from {experiment.branches_from}")
