"""The actor that runs a sweep's jobs, without Tune."""

from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from tiny_sweep import tiny_experiment

from sg_ray.cluster.nodes.premises import Premises
from sg_ray.cluster.stop_board import StopBoard
from sg_ray.jobs.job import TrainJob
from sg_ray.single.train_one import prepare_training
from sg_ray.sweep.execute.actor import JOB, Shared, TrialActor
from sg_ray.trial.own_code import OwnCode

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_process_that_ends_before_its_first_step_leaves_the_job_to_another(
    ray_session: None, tmp_path: Path, num_workers: int
) -> None:
    """Tune gives a job whose process is slow to start to one that has become free."""
    setting = f"resources.num_workers={num_workers}"
    experiment = tiny_experiment(tmp_path, "families=[gnn]", setting)
    training = prepare_training(experiment, "gnn", 42, tmp_path / "run")
    job = TrainJob(spec=training.spec, resources=experiment.model("gnn").resources, stage="search")
    board = StopBoard()
    shared = Shared(
        features_ref=ray.put(training.context.features),
        own_code=OwnCode(()),
        cache_dir=experiment.cache_dir.absolute(),
        folder=training.folder,
        attempt=training.folder.new_attempt,
        max_failures=0,
        premises=Premises(),
        checkpoint_every_s=None,
        board=board.actor,
    )

    def process() -> Any:
        remote = ray.remote(num_cpus=0)(tune.with_parameters(TrialActor, shared=shared))
        return remote.remote({JOB: job.model_dump_json()})

    def step(trainer: Any) -> dict[str, Any]:
        return ray.get(trainer.train.remote(), timeout=120)

    trainer = process()
    assert step(trainer)["epoch"] == 1
    slow = process()
    assert step(trainer)["epoch"] == 2
    ray.get(slow.stop.remote(), timeout=60)
    last = step(trainer)
    assert (last["epoch"], last["done"]) == (3, True), last
    assert "failure" not in last
    ray.get(trainer.stop.remote(), timeout=60)
    board.close()
