"""Plays the executor of a plan, without Ray: a formula answers jobs instead of a training."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from sg_ray.config import Experiment, Model
from sg_ray.files import content_hash
from sg_ray.jobs.job import LrRangeJob, TrainJob
from sg_ray.records.record import Failure, RunRecord
from sg_ray.sweep.plan.ledger import Identity, Ledger
from sg_ray.sweep.plan.planner import Planner
from sg_ray.trial.spec import TrialSpec

LOST = Failure(kind="InfrastructureError", message="out of memory", traceback="")
SEEDS = (42, 2025, 7)


def experiment(tmp_path: Path, **settings: object) -> Experiment:
    space = {"learning_rate": {"log_uniform": [1e-5, 1e-1]}}
    return Experiment.model_validate(
        {
            "name": "planned",
            "output_dir": tmp_path,
            "models": {
                name: {"space": space, "config": {"learning_rate": 1e-3}}
                for name in ("transformer", "gnn", "fusion")
            },
            "objective": "val_f1",
            "search": {"num_trials": 4, "pruning": {"enabled": False}},
            "replicate": {"top_k": 2, "seeds": list(SEEDS)},
            **settings,
        }
    )


def any_score(spec: TrialSpec) -> float:
    return random.Random(spec.trial_key).random()


class Sweep:
    """Plays the executor: takes jobs, and finishes them with a made-up score."""

    def __init__(
        self,
        plan: Experiment,
        failing: tuple[str, ...] = (),
        score: Callable[[TrialSpec], float] = any_score,
        models: Sequence[Model] | None = None,
    ) -> None:
        """``models`` are the experiment's unless they are given."""
        self.plan, self.failing, self.score = plan, failing, score
        self.models = plan.all_models if models is None else models
        self.machines_work = True
        self.ledger = Ledger(plan.folder, {})
        self.trained: list[str] = []
        self.restart()

    def restart(self) -> None:
        identity = Identity("data", "code", has_test_split=False)
        ledger = Ledger(
            self.plan.folder, dict(self.ledger.records), dict(self.ledger.learning_rates)
        )
        self.ledger = ledger
        self.planner = Planner(self.models, self.plan.rules, ledger, identity, {})

    def finish(self, job: TrainJob | LrRangeJob) -> None:
        if isinstance(job, LrRangeJob):
            self.ledger.learning_rates[job.spec.model] = 3e-3
            return
        self.trained.append(job.spec.trial_key)
        failed = job.spec.model in self.failing or not self.machines_work
        score = self.score(job.spec)
        record = RunRecord(
            trial_key=job.spec.trial_key,
            stage=job.stage,
            configuration=job.spec.configuration,
            config_hash=job.spec.config_hash,
            seed=job.spec.seed,
            streams=job.spec.streams,
            status="failed" if failed else "completed",
            objective=job.spec.objective,
            metrics={} if failed else {"val_f1": score},
            best_epoch=1,
            epochs=job.spec.configuration.values.get("epochs", 1),
            history=[],
            branches={name: source.trial_key for name, source in job.spec.branches.items()},
            data_fingerprint="data",
            code_version="code",
            started_at_ms=0,
            finished_at_ms=len(self.trained),
            train_time_s=0.0,
            environment={},
            failure=None if self.machines_work else LOST,
        )
        self.planner.on_finished(record)

    def run(self, max_jobs: int = 10_000) -> None:
        """Finish jobs two at a time, in random order, until none is left."""
        chooser = random.Random(content_hash(self.trained))
        running: list[TrainJob | LrRangeJob] = []
        for _ in range(max_jobs):
            while len(running) < 2 and (job := self.planner.next_job()) is not None:
                running.append(job)
            if not running:
                return
            self.finish(running.pop(chooser.randrange(len(running))))

    def run_alone(self, num_jobs: int) -> None:
        """Finish up to ``num_jobs`` one after the other."""
        for _ in range(num_jobs):
            job = self.planner.next_job()
            if job is None:
                return
            self.finish(job)
