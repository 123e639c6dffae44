"""What runs the jobs of a sweep: the seam between what is to be done and what does it.

Two forms hold to it: ``tune_executor`` (Ray Tune, on this machine or a cluster) and
``inline_executor`` (this process, one job at a time, without Ray).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sg_ray.cluster.epochs import Supplies
from sg_ray.config import Resources
from sg_ray.host.signals import StopRequest
from sg_ray.jobs.job import AnyJob, StackJob, TrainJob
from sg_ray.models.families import get_family
from sg_ray.models.family import EstimatorFamily
from sg_ray.records.record import Failure
from sg_ray.sweep.execute.worklist import Worklist
from sg_ray.sweep_folder import SweepFolder


@dataclass(frozen=True)
class Setting:
    """What jobs are run with: what they are given, what they take, and where they leave it."""

    supplies: Supplies
    folder: SweepFolder
    takes: Mapping[str, Resources]
    """By family, what one trial takes."""
    max_concurrent_trials: int | None = None
    grace_s: float | None = None
    """How long a stop waits for positions; None: as long as a save took, as measured."""
    own_metrics: tuple[str, ...] = ()
    """Those of the user's own that trials measure."""


@dataclass(frozen=True)
class Execution:
    """How far an executor came: to the end, or to a signal that ``positions`` tells of."""

    is_finished: bool
    positions: str = ""


class Executor(Protocol):
    """Runs jobs until a worklist has no more.

    Of each job it tells the worklist ``on_started``; of each epoch but the last it asks
    ``on_epoch`` whether to go on, and tells ``journal_epoch`` of all of them; then comes
    ``on_finished``, once ``failure_of_results`` has seen nothing missing. Of a stack, that is done
    for each of its trials, see ``tell_round``. A job whose process or machine was lost is handed
    out again, see ``lose``. Whatever it keeps lies in a new attempt of the sweep's folder, where
    ``newest_checkpoint`` finds it, after a kill too.
    """

    @property
    def is_here(self) -> bool:
        """Whether trials run in this very process: a breakpoint in one needs the terminal."""

    @property
    def has_joined(self) -> bool:
        """Whether trials run on a cluster, whose machines need not be as this one is."""

    def close(self) -> None:
        """End what a stop has left running for the sake of what is told first.

        Whoever made it calls this in the end, whatever came of ``execute``.
        """

    def check(self, takes: Mapping[str, Resources]) -> None:
        """Raise InputError, before anything is written, for what it could not run."""

    def machines(self) -> str:
        """Return one line for the user: the machines that the trials run on."""

    def told_at_once(self, takes: Mapping[str, Resources], at_most: int | None) -> str:
        """Return, for the user, how many trials run at once: ``at_most`` so many.

        Raises InputError as ``check``, which comes first.
        """

    def begin(self, takes: Mapping[str, Resources], log: Path) -> None:
        """Begin to start what trials run on, while data and features are made ready.

        ``execute`` waits for it, and does without; what it says goes to ``log``. Raises InputError
        if it cannot start.
        """

    def execute(self, worklist: Worklist, setting: Setting, stop: StopRequest) -> Execution:
        """Run what the worklist hands out.

        If ``stop`` is asked for first, running trials save their positions in the middle of an
        epoch, as far as they can. Raises what our own bookkeeping met (a full disk, say), and
        SgRayError if what runs the jobs itself ended.
        """


def lose(
    worklist: Worklist,
    job: AnyJob,
    failure: Failure,
    checkpoint: Path | None,
    max_failures: int,
    *,
    host: str | None = None,
) -> AnyJob | None:
    """Return a lost job to be handed out again; None if that was its last chance: it has failed.

    ``host`` is the node that it was lost on, if that is known.
    """
    if job.num_losses < max_failures:
        worklist.on_lost(job, failure.message, host)
        return job.lost()
    worklist.on_finished(job, {"failure": failure.model_dump()}, checkpoint, pruned=False)
    return None


def tell_round(
    worklist: Worklist, job: StackJob, result: Mapping[str, Any], max_failures: int
) -> tuple[StackJob | None, list[AnyJob]]:
    """Tell of a round of a stack; return what still trains, and who is to be handed out again.

    None of them is asked about: successive halving stops points of a search, not further seeds.
    """
    if reason := result.get("unstacked"):
        worklist.on_unstacked(job, reason)
        return None, list(job.jobs)
    ended: list[str] = []
    lost: list[AnyJob] = []
    job_of = {one.spec.trial_key: one for one in job.jobs}
    for told in result["members"]:
        one = job_of[told["trial_key"]]
        checkpoint = Path(told["checkpoint"]) if "checkpoint" in told else None
        if "epoch" in told:
            worklist.journal_epoch(one, told["epoch"], told["metrics"])
        if not told["done"]:
            continue
        ended.append(one.spec.trial_key)
        if lack := worklist.failure_of_results(one, told, checkpoint, pruned=False):
            again = lose(worklist, one, lack, checkpoint, max_failures)
            lost += [] if again is None else [again]
        else:
            worklist.on_finished(one, told, checkpoint, pruned=False)
    return job.without(ended), lost


def saves_position(job: AnyJob) -> bool:
    """Return whether a job can be stopped with its position saved.

    What is trained by steps can; an estimator's fit, a range test and a test are begun anew.
    """
    return isinstance(job, StackJob | TrainJob) and not isinstance(
        get_family(job.spec.family), EstimatorFamily
    )


def told_positions(num_saved: int, num_lost: int = 0) -> str:
    """Say what a stop has saved of the trainings it met."""
    if num_lost:
        return (
            f"{num_saved} of {num_saved + num_lost} trials saved their positions in time; the "
            "others go on from their last whole epoch"
        )
    return "positions saved" if num_saved else "no trial was in the middle of its training"
