"""Run trials of one configuration as one stacked model, or say why they should not be."""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_ray.files import content_hash, write_json
from sg_ray.training.compute import Compute, make_compute
from sg_ray.training.loop import EpochResult, ShouldStop, Training, never
from sg_ray.training.saving import AT_EPOCHS, Saving
from sg_ray.training.seeding import arithmetic_as_before, deterministic
from sg_ray.training.shared_gpu import telling_neighbours_apart
from sg_ray.training.stacked import PAYS_BELOW, StackedTraining, own_failure, relative_cost
from sg_ray.trial.context import TrialContext
from sg_ray.trial.run import neural_of, training_of
from sg_ray.trial.spec import TrialSpec


@dataclass(frozen=True)
class StackedTrial:
    """One of the trials that train as one, in a folder of its own."""

    spec: TrialSpec
    folder: Path
    saving: Saving = AT_EPOCHS

    def training(self, context: TrialContext, compute: Compute) -> Training:
        """Return its training, which waits for the steps of the stack."""
        made = (self.spec, context, self.folder, compute, self.saving)
        return training_of(*made, is_stacked=True)


Ends = dict[str, EpochResult | Exception]
"""By trial key: the epoch that a trial has completed, or what has ended it."""


def run_stacked(
    trials: Sequence[StackedTrial],
    rows: Sequence[str],
    context: TrialContext,
    *,
    should_stop: ShouldStop = never,
    noted: Mapping[str, Any] | None = None,
) -> Generator[Ends]:
    """Train trials of one configuration as one model, round by round; see ``StackedTraining``.

    ``rows`` names the seed of each row, also of those without a trial. Each trial leaves in its
    folder what ``run_trial`` does. ``noted`` is the ``stack`` on record of one trained again.
    """
    with arithmetic_as_before(), telling_neighbours_apart():
        deterministic(context.num_threads)
        config = neural_of(trials[0].spec)[1]
        compute = make_compute(config, context.device)
        members: dict[int, Training] = {}
        failed: Ends = {}
        for trial in trials:
            try:
                made = trial.training(context, compute)
            except Exception as error:
                failed[trial.spec.trial_key] = own_failure(error)
                continue
            made.stack = made.stack or noted
            members[rows.index(trial.spec.row)] = made
        if failed:
            yield failed
        if not members:
            return
        key_of = {rows.index(trial.spec.row): trial.spec.trial_key for trial in trials}
        for news in StackedTraining(members, rows, config, compute).rounds(should_stop):
            yield {key_of[row]: one for row, one in news.items()}


def run_in_its_row(
    spec: TrialSpec, context: TrialContext, folder: Path, noted: Mapping[str, Any]
) -> Generator[EpochResult]:
    """Train one trial as it was in the stack that is ``noted``; the other rows are empty."""
    trial = StackedTrial(spec, folder)
    for news in run_stacked([trial], noted["seeds"], context, noted=noted):
        one = news[spec.trial_key]
        if isinstance(one, Exception):
            raise one
        yield one


def why_alone(
    trials: Sequence[StackedTrial], context: TrialContext, num_at_once: int
) -> str | None:
    """Return why trials should rather train each by itself, ``num_at_once`` beside each other.

    None: they should train as one. A few steps are timed here, once for a configuration, a device
    and a number of trials: later it is known from the folder of caches. Nothing is trained by it.
    """
    spec = trials[0].spec
    config = neural_of(spec)[1]
    compute = make_compute(config, context.device)
    if compute.precision.name == "fp16":
        return "fp16 scales the loss of each by its own factor"
    device = [context.environment[name] for name in ("device_name", "num_threads", "torch")]
    deciding = (spec.config_hash, spec.data_fingerprint, spec.code_version, len(trials), *device)
    path = context.cache_dir / "stacked_seeds" / f"{content_hash(deciding, 16)}.json"
    cost = _read_cost(path)
    if cost is None:
        with arithmetic_as_before():
            deterministic(context.num_threads)
            members = [_unsaved(one).training(context, compute) for one in trials]
            alone = _unsaved(trials[0]).training(context, compute)
            cost = relative_cost(alone, members, config, compute)
        write_json(path, {"cost": cost})
    told = f"{len(trials)} as one take as long as {cost:.1f} alone, and {num_at_once} run at once"
    return None if cost <= PAYS_BELOW * len(trials) / num_at_once else told


def _unsaved(trial: StackedTrial) -> StackedTrial:
    return StackedTrial(trial.spec, trial.folder / ".measured")


def _read_cost(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["cost"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
