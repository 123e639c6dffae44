"""Between planner and executor: turns finished jobs into records, events and learning rates."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sg_ray.config import Experiment
from sg_ray.files import write_json
from sg_ray.sweep import lr_cache
from sg_ray.sweep.checkpoints import (
    drop_checkpoints,
    is_finished,
    keep_results,
    newest_checkpoint,
    read_environment,
)
from sg_ray.sweep.events import Journal
from sg_ray.sweep.jobs import AnyJob, LrRangeJob, TestJob, TrainJob, job_name
from sg_ray.sweep.planner import Planner
from sg_ray.sweep.records import Failure, RunRecord, Status, write_record
from sg_ray.sweep.winner_test import WinnerTest
from sg_ray.training.metrics import is_better
from sg_ray.trial import now_ms


class Worklist:
    """The executor's view of a sweep: jobs out, outcomes in."""

    def __init__(
        self, experiment: Experiment, planner: Planner, journal: Journal, sweep_dir: Path
    ) -> None:
        self._experiment, self._planner = experiment, planner
        self._journal, self._sweep_dir = journal, sweep_dir
        self._winner_test = WinnerTest(experiment, planner, journal, sweep_dir)
        self._announced: set[tuple[str, str]] = set()
        self._started_at_ms: dict[str, int] = {}
        for record in planner.ledger.records.values():  # a kill may have come after the record
            plan = planner.plans.get(record.family)
            if plan is not None:
                self._settle(record, job_name(plan.spec(record.config, record.seed)))

    def next_job(self) -> AnyJob | None:
        """Return the next job with the checkpoint it goes on from, or None."""
        while (job := self._planner.next_job()) is not None:
            if isinstance(job, TrainJob):
                self._announce(job.spec.family, job.stage)
                job = self._from_checkpoint(job)
                if not self._is_given_up(job):
                    return job
            elif not (isinstance(job, LrRangeJob) and self._take_cached_learning_rate(job)):
                return job
        return self._winner_test.next_job() if self._planner.finished else None

    @property
    def test_scored(self) -> bool:
        """True if the winner has its test scores, or there is no test split."""
        return self._winner_test.done

    @property
    def problems(self) -> list[str]:
        """What went wrong outside of trials, in sentences for the user."""
        return self._winner_test.problems

    def on_started(self, job: AnyJob) -> None:
        """Journal the start of a trial."""
        if isinstance(job, TrainJob):
            self._started_at_ms.setdefault(job.spec.trial_key, now_ms())
            self._journal.append(
                "trial_started",
                job.spec.trial_key,
                family=job.spec.family,
                stage=job.stage,
                config=job.spec.config,
                config_hash=job.spec.config_hash,
                seed=job.spec.seed,
            )
        elif isinstance(job, LrRangeJob):
            self._announce(job.spec.family, "lr_range")

    def on_epoch(self, job: TrainJob, epoch: int, metrics: Mapping[str, float | None]) -> bool:
        """Return True if the trial should be given up after this epoch."""
        return self._planner.on_epoch(job, epoch, metrics.get(self._experiment.objective))

    def journal_epoch(self, job: TrainJob, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """Journal an epoch's metrics."""
        self._journal.append("epoch", job.spec.trial_key, epoch=epoch, metrics=metrics)

    def on_finished(
        self, job: AnyJob, result: Mapping[str, Any], checkpoint: Path | None, *, pruned: bool
    ) -> None:
        """Write down what became of a job."""
        match job:
            case TrainJob():
                self._record(job, result, checkpoint, pruned=pruned)
            case LrRangeJob():
                self._note_learning_rate(job, result)
            case TestJob():
                self._winner_test.on_finished(job, result)

    def _from_checkpoint(self, job: TrainJob) -> TrainJob:
        """Return the job with the newest checkpoint that an interruption left of it, if any."""
        checkpoint = newest_checkpoint(self._sweep_dir, job)
        if checkpoint is None:
            return job
        epoch = len(read_history(checkpoint))
        self._journal.append("trial_resumed", job.spec.trial_key, epoch=epoch)
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

    def _announce(self, family: str, stage: str) -> None:
        if (family, stage) not in self._announced:
            self._announced.add((family, stage))
            num_trials = self._planner.plans[family].stages.get(stage, 1)
            self._journal.append("stage", family=family, stage=stage, num_trials=num_trials)

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
        history: list[dict[str, float | None]] = []
        if checkpoint is not None:
            folder = keep_results(
                self._sweep_dir, spec.trial_key, checkpoint, weights=failure is None
            )
            history = read_history(folder)
        for epoch in history:  # one that a kill kept from being told is told now
            metrics = {name: value for name, value in epoch.items() if name != "epoch"}
            self.journal_epoch(job, int(epoch["epoch"] or 0), metrics)
        status: Status = "failed" if failure else "pruned" if pruned else "completed"
        best = best_epoch(history, spec.objective)
        record = RunRecord(
            trial_key=spec.trial_key,
            family=spec.family,
            stage=job.stage,
            config=spec.config,
            config_hash=spec.config_hash,
            seed=spec.seed,
            status=status,
            objective=spec.objective,
            metrics={name: v for name, v in (best or {}).items() if name != "epoch"},
            best_epoch=int(best["epoch"] or 0) if best else None,
            epochs=len(history),
            history=history,
            branches={name: source.trial_key for name, source in spec.branches.items()},
            data_fingerprint=spec.data_fingerprint,
            code_version=spec.code_version,
            started_at_ms=self._started_at_ms.get(spec.trial_key, now_ms()),
            finished_at_ms=now_ms(),
            train_time_s=sum(epoch.get("epoch_time_s") or 0.0 for epoch in history),
            environment=result.get("environment", {}),
            failure=Failure(**failure) if failure else None,
        )
        write_record(self._sweep_dir, record)
        self._planner.on_finished(record)
        self._settle(record, job.name)

    def _settle(self, record: RunRecord, name: str) -> None:
        """Do what follows from a record; doing it again changes nothing."""
        self._journal.append(
            "trial_finished",
            record.trial_key,
            status=record.status,
            epochs=record.epochs,
            metrics=record.metrics,
        )
        drop_checkpoints(self._sweep_dir, record.trial_key, name)

    def _take_cached_learning_rate(self, job: LrRangeJob) -> bool:
        """Use an earlier range test of the same configuration, data and code, if recent enough."""
        settings = self._experiment.lr_range
        found = lr_cache.read(settings.cache_dir, job, max_age_days=settings.max_age_days)
        if found is None:
            return False
        self._use_learning_rate(job, found, source="cache")
        return True

    def _note_learning_rate(self, job: LrRangeJob, result: Mapping[str, Any]) -> None:
        failure = result.get("failure")
        if failure:
            reason = f"{failure['kind']}: {failure['message']}"
            found: Mapping[str, Any] = {"suggestion": None, "reason": reason, "curves": []}
        else:
            found = result["lr_range"]
            lr_cache.write(self._experiment.lr_range.cache_dir, job, found)
        self._use_learning_rate(job, found, source="range test")

    def _use_learning_rate(self, job: LrRangeJob, found: Mapping[str, Any], *, source: str) -> None:
        family, suggestion = job.spec.family, found["suggestion"]
        own = job.spec.config["learning_rate"]
        data = {
            "family": family,
            "learning_rate": own if suggestion is None else suggestion,
            "source": "default" if suggestion is None else source,
            "reason": found["reason"],
            "curve": found["curves"],
        }
        write_json(learning_rate_path(self._sweep_dir, family), {**data, "suggestion": suggestion})
        self._planner.ledger.learning_rates[family] = suggestion
        self._journal.append("lr_range", **data)


def read_history(folder: Path) -> list[dict[str, float | None]]:
    """Return the epochs in a trial's metrics.jsonl."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def best_epoch(
    history: Sequence[Mapping[str, float | None]], objective: str
) -> Mapping[str, float | None] | None:
    """Return the first of the epochs with the best objective; None if none has a value."""
    best: Mapping[str, float | None] | None = None
    for epoch in history:
        value = epoch.get(objective)
        if value is not None and is_better(objective, value, best[objective] if best else None):
            best = epoch
    return best


def learning_rate_path(sweep_dir: Path, family: str) -> Path:
    """Where the result of a family's range test lies."""
    return sweep_dir / "lr_range" / f"{family}.json"


def read_learning_rates(sweep_dir: Path) -> dict[str, float | None]:
    """Return the suggestions on record, by family."""
    paths = sorted((sweep_dir / "lr_range").glob("*.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return {entry["family"]: entry["suggestion"] for entry in found}
