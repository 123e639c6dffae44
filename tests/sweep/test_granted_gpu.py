"""B4: a GPU that Ray granted and torch cannot use is a failure of the machine, not a slow run."""

from pathlib import Path

import pytest
import torch

from sg_ray.cli import main
from sg_ray.cluster.epochs import Supplies
from sg_ray.config import Resources
from sg_ray.configuration import Configuration
from sg_ray.errors import InfrastructureError
from sg_ray.jobs.job import TrainJob
from sg_ray.jobs.job_run import JobRun
from sg_ray.training.compute import device_for
from sg_ray.training.loop import never
from sg_ray.trial.context import TrialContext
from sg_ray.trial.spec import TrialSpec

MESSAGE = "torch .* cannot use: is a CUDA build of torch installed"


@pytest.fixture(autouse=True)
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_b04_no_share_of_a_gpu_becomes_the_cpu() -> None:
    assert device_for(0).type == "cpu"
    for gpus in (0.25, 1, 2):
        with pytest.raises(InfrastructureError, match=MESSAGE):
            device_for(gpus)
        with pytest.raises(InfrastructureError, match=f"gpus={gpus:g}"):
            TrialContext.of(Resources(gpus=gpus), None, Path())


def test_b04_a_job_hands_the_failure_to_its_executor() -> None:
    spec = TrialSpec(
        configuration=Configuration(model="gnn", family="gnn", values={}), seed=1,
        objective="val_f1", data_fingerprint="", code_version="",
    )  # fmt: skip
    job = TrainJob(spec=spec, resources=Resources(gpus=1), stage="search")
    supplies = Supplies(None, Path())
    with pytest.raises(InfrastructureError, match=MESSAGE):
        JobRun(job, supplies, Path(), should_stop=never)


def test_b04_a_training_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("data.num_samples=60", "resources.gpus=1", "tracking.enabled=false")
    experiment = str(Path(__file__).parents[2] / "experiments" / "quick.yaml")
    assert main(["train", "lexical", experiment, *settings]) == 0  # it never takes a GPU
    assert main(["train", "gnn", experiment, *settings]) == 1
    assert "cannot use" in capsys.readouterr().err
