"""A cluster of many nodes, played: planner, worklist and placement are real, trials are not.

    python played_cluster.py SHAPE NUM_TRIALS FOLDER

Prints the driver's milliseconds and bytes a trial as JSON; those of Optuna's study apart. A process
of its own, so that its memory is what this one sweep took.
"""

import gc
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
from played_sweep import SEEDS

from sg_ray.cluster.placing.capacity import Capacity
from sg_ray.cluster.placing.packing import Machine
from sg_ray.config import Experiment, Resources
from sg_ray.files import content_hash
from sg_ray.host.signals import StopRequest
from sg_ray.jobs.job import AnyJob, TrainJob
from sg_ray.records.journal import Journal
from sg_ray.records.planned import planned_stages
from sg_ray.sweep.execute.executor import Execution, Setting
from sg_ray.sweep.execute.room import Room
from sg_ray.sweep.execute.worklist import Worklist
from sg_ray.sweep.plan.ledger import Identity, Ledger
from sg_ray.sweep.plan.planner import Planner
from sg_ray.sweep.plan.search import ModelSearch
from sg_ray.sweep_folder import METADATA, METRICS

NUM_NODES = 200
NODE = Machine(8, 1)
NUM_EPOCHS = 3
SHAPES = ("points", "seeds")
"""What the trials are: points of a search, or seeds of few configurations."""


class Stopwatch:
    """The seconds of this process that calls have taken."""

    def __init__(self) -> None:
        self.took_s = 0.0

    def time(self, owner: type, *names: str) -> None:
        """Have methods of a class count."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began_s = time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                self.took_s += time.process_time() - began_s

        return call


class PlayedCluster:
    """An executor whose trials end out of order, each with made-up metrics."""

    is_here = False
    has_joined = False

    def __init__(self, num_trials: int) -> None:
        """It ends after so many trials."""
        self._num_trials = num_trials
        self.num_most_at_once = 0

    def check(self, takes: Mapping[str, Resources]) -> None:
        """Nothing is too large."""

    def told_at_once(self, takes: Mapping[str, Resources], at_most: int | None) -> str:
        """Nobody asks."""
        raise NotImplementedError

    def begin(self, takes: Mapping[str, Resources], log: Path) -> None:
        """All machines are there."""

    def execute(self, worklist: Worklist, setting: Setting, stop: StopRequest) -> Execution:
        """Fill the nodes, end one trial at random, and so on."""
        rng = random.Random(0)
        takes = set(setting.takes.values())
        room = Room(takes, lambda: Capacity((NODE,) * NUM_NODES), setting.max_concurrent_trials)
        attempt = setting.folder.new_attempt
        running: list[AnyJob] = []
        num_done = 0
        while num_done < self._num_trials:
            while not room.is_full(gap := room.beside(running, 0)):
                job = worklist.next_job(gap)
                if job is None:
                    break
                worklist.on_started(job)
                running.append(job)
            if not running:
                return Execution(is_finished=True)
            self.num_most_at_once = max(self.num_most_at_once, len(running))
            last, index = len(running) - 1, rng.randrange(len(running))
            running[index], running[last] = running[last], running[index]
            self._end(worklist, running.pop(), attempt)
            num_done += 1
        return Execution(is_finished=False)

    def _end(self, worklist: Worklist, job: AnyJob, attempt: Path) -> None:
        assert isinstance(job, TrainJob)
        checkpoint = attempt / job.name / "checkpoint_000000"
        checkpoint.mkdir(parents=True)
        epochs = [{"epoch": number, **metrics_of(job, number)} for number in epoch_numbers()]
        (checkpoint / METRICS).write_text("".join(f"{json.dumps(one)}\n" for one in epochs))
        (checkpoint / METADATA).write_text(json.dumps({"environment": {"precision": "fp32"}}))
        for number in epoch_numbers():
            metrics = metrics_of(job, number)
            if number < NUM_EPOCHS:
                assert not worklist.on_epoch(job, number, metrics)
            worklist.journal_epoch(job, number, metrics)
        result = {"done": True, "epoch": NUM_EPOCHS, "environment": {"host": "node"}}
        assert worklist.failure_of_results(job, result, checkpoint, pruned=False) is None
        worklist.on_finished(job, result, checkpoint, pruned=False)


def epoch_numbers() -> range:
    return range(1, NUM_EPOCHS + 1)


def metrics_of(job: TrainJob, epoch: int) -> dict[str, float]:
    """Scores that leave every configuration in the race."""
    score = 0.6 + 0.2 * random.Random(content_hash([job.spec.trial_key, epoch])).random()
    return {"val_roc_auc": score, "val_f1": score, "val_loss": 1 - score, "epoch_time_s": 1.0}


def planned(shape: str, num_trials: int, folder: Path) -> Experiment:
    """Return an experiment of at least so many trials of one family."""
    num_seeds = num_trials // 10
    seeds = list(SEEDS) if shape == "points" else list(range(1, num_seeds + 1))
    return Experiment.model_validate(
        {
            "name": shape,
            "output_dir": folder,
            "families": ["gnn"],
            "models": {"gnn": {"space": {"learning_rate": {"log_uniform": [1e-5, 1e-1]}}}},
            "resources": {"cpus": 8, "gpus": 1},
            "lr_range": {"enabled": False},
            "search": {
                "num_trials": num_trials if shape == "points" else 11,
                "pruning": {"enabled": False},
            },
            "replicate": {"top_k": 11, "seeds": seeds, "race_alpha": None},
        }
    )


def run(shape: str, num_trials: int, folder: Path) -> dict[str, Any]:
    """Run a sweep; return what a trial of it cost the driver."""
    experiment = planned(shape, num_trials, folder)
    models = [model for model in experiment.all_models if not model.is_floor]
    stages = planned_stages(models, experiment.rules)
    identity = Identity("data", "code", has_test_split=False)
    planner = Planner(models, experiment.rules, Ledger(experiment.folder, {}), identity, {})
    cluster = PlayedCluster(num_trials)
    takes = {model.name: model.resources for model in models}
    process, of_optuna = psutil.Process(), Stopwatch()
    of_optuna.time(ModelSearch, "ask", "assign", "tell")
    with closing(Journal(experiment.folder.events)) as journal:
        worklist = Worklist(planner, stages, journal)
        setting = Setting(None, experiment.folder, takes)  # type: ignore[arg-type]
        gc.collect()
        bytes_before, began_s = process.memory_info().rss, time.process_time()
        cluster.execute(worklist, setting, StopRequest())
        took_s = time.process_time() - began_s
        gc.collect()
        taken_bytes = process.memory_info().rss - bytes_before
    num_done = len(planner.ledger.records)
    assert num_done == num_trials, num_done
    return {
        "shape": shape,
        "num_trials": num_trials,
        "num_at_once": cluster.num_most_at_once,
        "ms_a_trial": 1000 * (took_s - of_optuna.took_s) / num_trials,
        "ms_of_optuna": 1000 * of_optuna.took_s / num_trials,
        "kib_a_trial": taken_bytes / num_trials / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
