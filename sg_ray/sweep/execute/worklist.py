"""Between planner and executor: turns finished jobs into records, events and learning rates."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sg_ray.cluster.losses import infrastructure_failure
from sg_ray.jobs.checkpoints import (
    drop_checkpoints,
    drop_group_of_other_code,
    is_finished,
    keep_results,
    lacks_results,
    newest_checkpoint,
    read_environment,
)
from sg_ray.jobs.job import AnyJob, LrRangeJob, StackJob, TestJob, TrainJob, trainings_of
from sg_ray.models.families import get_family
from sg_ray.models.family import NeuralFamily
from sg_ray.records import learning_rates
from sg_ray.records.events import (
    EpochEnded,
    FinalistDropped,
    JobLost,
    NodeNews,
    NodeReported,
    RateSource,
    StageStarted,
    SweepWaiting,
    TrialFinished,
    TrialResumed,
    TrialStarted,
)
from sg_ray.records.journal import Journal
from sg_ray.records.planned import PlannedName, PlannedStage, num_planned
from sg_ray.records.record import (
    Failure,
    RunRecord,
    now_ms,
    read_history,
    read_surroundings,
    record_of,
    write_record,
)
from sg_ray.sweep.execute.winner_scoring import WinnerTest
from sg_ray.sweep.plan.model_plan import Fits, all_fit
from sg_ray.sweep.plan.planner import Planner
from sg_ray.training.checkpoint import read_stack, weights_id
from sg_ray.trial.spec import job_name

_LOGGER = logging.getLogger(__name__)


class Worklist:
    """The executor's view of a sweep: jobs out, outcomes in."""

    def __init__(self, planner: Planner, stages: Sequence[PlannedStage], journal: Journal) -> None:
        """``stages`` are those that the planner has by plan."""
        self._planner, self._rules, self._stages = planner, planner.rules, stages
        self._journal, self._folder = journal, planner.ledger.folder
        self._winner_test = WinnerTest(planner, journal, self._folder)
        self._announced: set[tuple[str, str]] = set()
        self._told_drops: set[tuple[str, str]] = set()
        self._started_at_ms: dict[str, int] = {}
        self._trained_alone: set[str] = set()
        self._problems: list[str] = []
        for record in planner.ledger.records.values():  # a kill may have come after the record
            plan = planner.plans.get(record.model)
            if plan is not None and not planner.ledger.lacks_weights(record.trial_key):
                spec = plan.spec(record.configuration, record.seed).with_streams(record.streams)
                self._settle(record, job_name(spec))

    def next_job(self, fits: Fits = all_fit) -> AnyJob | None:
        """Return the next job that ``fits``, with the checkpoint it goes on from, or None."""
        while (job := self._planner.next_job(fits)) is not None:
            if isinstance(job, TrainJob):
                self._announce(job.spec.model, job.stage)
                job = self._from_checkpoint(job)
                if not self._is_given_up(job):
                    return self._with_other_seeds(job)
            elif not (isinstance(job, LrRangeJob) and self._take_cached_learning_rate(job)):
                return job
        return self._winner_test.next_job(fits) if self._planner.finished else None

    def again(self, job: AnyJob) -> AnyJob | None:
        """Return a job that was lost with the newest checkpoint that it left.

        None if it was to be given up after the last of its epochs: it is on record then.
        """
        match job:
            case TrainJob():
                job = self._from_checkpoint(job)
                return None if self._is_given_up(job) else _in_its_row(job)
            case StackJob():
                jobs = tuple(map(self._from_checkpoint, job.jobs))
                return job.model_copy(update={"jobs": jobs, "is_measured": False})
        return job

    @property
    def test_scored(self) -> bool:
        """True if the winner has its test scores, or there is no test split."""
        return self._winner_test.done

    @property
    def problems(self) -> list[str]:
        """What went wrong outside of trials, in sentences for the user."""
        return [*self._problems, *self._winner_test.problems]

    def on_started(self, job: AnyJob) -> None:
        """Journal the start of a trial, or of several."""
        if isinstance(job, StackJob):
            for one in job.jobs:
                self.on_started(one)
        elif isinstance(job, TrainJob):
            self._started_at_ms.setdefault(job.spec.trial_key, now_ms())
            self._journal.append(
                TrialStarted(
                    trial_key=job.spec.trial_key,
                    model=job.spec.model,
                    family=job.spec.family,
                    name=job.spec.configuration.name,
                    stage=job.stage,
                    config=job.spec.configuration.values,
                    config_hash=job.spec.config_hash,
                    seed=job.spec.seed,
                    streams=job.spec.streams,
                )
            )
        elif isinstance(job, LrRangeJob):
            self._announce(job.spec.model, "lr_range")

    def on_unstacked(self, job: StackJob, reason: str) -> None:
        """Take note that seeds of a model train each by itself, in this start of the sweep."""
        self._trained_alone.add(job.spec.model)
        _LOGGER.info("%s: seeds are trained each by itself: %s", job.spec.model, reason)

    def on_lost(self, job: AnyJob, reason: str, host: str | None = None) -> None:
        """Journal that a job's process or machine died; it is handed out again."""
        trainings = trainings_of(job)
        for one in trainings or (job,):
            key = one.spec.trial_key if trainings else None
            self._journal.append(JobLost(name=one.name, reason=reason, trial_key=key, host=host))

    def on_node(self, host: str, news: NodeNews, reason: str) -> None:
        """Journal what became known of a node of the cluster."""
        self._journal.append(NodeReported(host=host, news=news, reason=reason))

    def on_waiting(self, wait_s: float, reason: str) -> None:
        """Journal that no trial has begun for so long."""
        self._journal.append(SweepWaiting(wait_s=round(wait_s), reason=reason))

    def on_epoch(self, job: TrainJob, epoch: int, metrics: Mapping[str, float | None]) -> bool:
        """Return True if the trial should be given up after this epoch."""
        return self._planner.on_epoch(job, epoch, metrics.get(self._rules.objective))

    def journal_epoch(self, job: TrainJob, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """Journal an epoch's metrics."""
        self._journal.append(EpochEnded(trial_key=job.spec.trial_key, epoch=epoch, metrics=metrics))

    def on_finished(
        self, job: AnyJob, result: Mapping[str, Any], checkpoint: Path | None, *, pruned: bool
    ) -> None:
        """Write down what became of a job."""
        match job:
            case TrainJob():
                self._record(job, result, checkpoint, pruned=pruned)
            case StackJob():
                self._record_all(job, result)
            case LrRangeJob():
                found = learning_rates.from_result(self._rules.lr_range, job.spec, result)
                self._use_learning_rate(job, found, source="range test")
            case TestJob():
                self._winner_test.on_finished(job, result)

    def _record_all(self, job: StackJob, result: Mapping[str, Any]) -> None:
        """Write down what became of trials that were lost together, each by what it has left."""
        for one in job.jobs:
            checkpoint = newest_checkpoint(self._folder, one)
            if checkpoint is not None and is_finished(checkpoint):
                self._record(
                    one, {"environment": read_environment(checkpoint)}, checkpoint, pruned=False
                )
            else:
                self._record(one, result, checkpoint, pruned=False)

    def failure_of_results(
        self, job: AnyJob, result: Mapping[str, Any], checkpoint: Path | None, *, pruned: bool
    ) -> Failure | None:
        """Return a failure if a training that says it went well left nothing to show for it."""
        if not isinstance(job, TrainJob) or result.get("failure"):
            return None
        num_epochs = 1 if pruned else int(result.get("epoch") or 0)
        lack = lacks_results(checkpoint, num_epochs=num_epochs, is_whole=not pruned)
        return None if lack is None else infrastructure_failure(lack)

    def _with_other_seeds(self, job: TrainJob) -> TrainJob | StackJob:
        """Return a job, or a stack with as many other seeds of its configuration as may be in it.

        One that was interrupted goes on as it was trained: alone, or in its row, beside those of
        the same stack.
        """
        rows = _rows_of(job.resume_from)
        limit = self._max_stacked(job) if job.resume_from is None else len(rows or ())
        if limit < 2:
            return job
        jobs = [job]
        for other in self._planner.open_seeds(job):
            if len(jobs) < limit and self._goes_with(other, rows):
                self._planner.claim(other)
                jobs.append(self._from_checkpoint(other))
        if rows is None and len(jobs) == 1:
            return job
        is_measured = rows is None and job.resources.stack_seeds == "auto"
        return StackJob.of(jobs, rows or [one.row for one in jobs], is_measured=is_measured)

    def _max_stacked(self, job: TrainJob) -> int:
        family, limit = get_family(job.spec.family), job.resources.max_stacked
        if limit < 2 or not isinstance(family, NeuralFamily):
            return 1
        if job.spec.model in self._trained_alone:
            return 1
        config = family.Config.model_validate(job.spec.configuration.values)
        return limit if family.can_stack(config) else 1

    def _goes_with(self, other: TrainJob, rows: tuple[str, ...] | None) -> bool:
        """Return whether a job may join a stack that begins, or goes on with these rows."""
        drop_group_of_other_code(self._folder, other)
        checkpoint = newest_checkpoint(self._folder, other)
        if rows is None or checkpoint is None:
            return checkpoint is None and (rows is None or other.row in rows)
        return _rows_of(checkpoint) == rows

    def _from_checkpoint(self, job: TrainJob) -> TrainJob:
        """Return the job with the newest checkpoint that an interruption left of it, if any."""
        drop_group_of_other_code(self._folder, job)
        checkpoint = newest_checkpoint(self._folder, job)
        if checkpoint is None:
            return job
        key, epoch = job.spec.trial_key, len(read_history(checkpoint))
        if not self._planner.ledger.lacks_weights(key):  # else they alone are made again
            self._journal.append(TrialResumed(trial_key=key, epoch=epoch))
        return job.model_copy(update={"resume_from": checkpoint})

    def _is_given_up(self, job: TrainJob) -> bool:
        """Record a trial as pruned if a kill came between that decision and its record.

        The epochs in its checkpoint are reported again, for the kill may have come before that.
        """
        if job.resume_from is None or is_finished(job.resume_from):
            return False
        for metrics in read_history(job.resume_from):
            if self.on_epoch(job, int(metrics["epoch"] or 0), metrics):
                result = {"environment": read_environment(job.resume_from)}
                self._record(job, result, job.resume_from, pruned=True)
                return True
        return False

    def _announce(self, model: str, stage: PlannedName) -> None:
        if (model, stage) not in self._announced:
            self._announced.add((model, stage))
            num_trials = num_planned(self._stages, model, stage)
            self._journal.append(StageStarted(model=model, stage=stage, num_trials=num_trials))

    def _record(
        self,
        job: TrainJob,
        result: Mapping[str, Any],
        checkpoint: Path | None,
        *,
        pruned: bool,
    ) -> None:
        spec = job.spec
        failure = result.get("failure")
        if failure and self._planner.ledger.lacks_weights(spec.trial_key):
            self._leave_on_record(job, Failure(**failure))
            return
        history: list[dict[str, float | None]] = []
        environment = dict(result.get("environment", {}))
        if checkpoint is not None:
            folder = keep_results(self._folder, spec.trial_key, checkpoint, model=failure is None)
            history = read_history(folder)
            environment |= read_surroundings(folder)
        for epoch in history:  # one that a kill kept from being told is told now
            metrics = {name: value for name, value in epoch.items() if name != "epoch"}
            self.journal_epoch(job, int(epoch["epoch"] or 0), metrics)
        record = record_of(
            spec,
            job.stage,
            history,
            status="failed" if failure else "pruned" if pruned else "completed",
            started_at_ms=self._started_at_ms.get(spec.trial_key, now_ms()),
            environment=environment,
            failure=Failure(**failure) if failure else None,
            weights=weights_id(self._folder.trial(spec.trial_key)),
        )
        write_record(self._folder, record)
        self._planner.on_finished(record)
        self._settle(record, job.base_name)
        self._tell_drops(record.model)

    def _leave_on_record(self, job: TrainJob, failure: Failure) -> None:
        """Keep the record of a trial that failed as it was trained again for its weights."""
        before = self._planner.ledger.records[job.spec.trial_key]
        self._planner.plans[before.model].on_finished(before)
        told = (
            f"{job.spec.name} could not be trained again for its weights: {failure.message}. Its "
            "record stands; the next start tries once more."
        )
        self._problems.append(told)
        _LOGGER.warning("%s", told)  # the winner may be missing, which ends the sweep before

    def _settle(self, record: RunRecord, base_name: str) -> None:
        """Do what follows from a record; doing it again changes nothing."""
        self._journal.append(
            TrialFinished(
                trial_key=record.trial_key,
                status=record.status,
                epochs=record.epochs,
                metrics=record.metrics,
            )
        )
        if record.failure is None or not record.failure.is_infrastructure:
            drop_checkpoints(self._folder, record.trial_key, base_name)

    def _tell_drops(self, model: str) -> None:
        """Journal which finalists the race has given up; the journal says each once."""
        seeds = self._rules.replicate.all_seeds
        for drop in self._planner.plans[model].dropped(seeds).values():
            if (model, drop.config) in self._told_drops:
                continue
            self._told_drops.add((model, drop.config))
            self._journal.append(
                FinalistDropped(
                    model=model,
                    config_hash=drop.config,
                    against=drop.against,
                    after_seeds=drop.after_seeds,
                )
            )

    def _take_cached_learning_rate(self, job: LrRangeJob) -> bool:
        found = learning_rates.cached(self._rules.lr_range, job.spec)
        if found is None:
            return False
        self._use_learning_rate(job, found, source="cache")
        return True

    def _use_learning_rate(
        self, job: LrRangeJob, found: learning_rates.Found, *, source: RateSource
    ) -> None:
        learning_rates.note(self._folder, self._journal, job.spec, found, source=source)
        self._planner.ledger.learning_rates[job.spec.model] = found["suggestion"]


def _rows_of(checkpoint: Path | None) -> tuple[str, ...] | None:
    """Return the rows of the stack in which a checkpoint was trained; None: in none."""
    return None if checkpoint is None else read_stack(checkpoint)


def _in_its_row(job: TrainJob) -> TrainJob | StackJob:
    rows = _rows_of(job.resume_from)
    return job if rows is None else StackJob.of([job], rows)
