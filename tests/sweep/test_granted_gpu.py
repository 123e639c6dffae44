"""B4: a GPU that Ray granted and torch cannot use is a failure of the machine, not a slow run."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sg_ray.cli import main
from sg_ray.config import Resources
from sg_ray.errors import InfrastructureError
from sg_ray.preflight.context import device_of
from sg_ray.sweep.execute.actor import TrialActor
from sg_ray.sweep_folder import SweepFolder
from sg_ray.training.compute import device_for

MESSAGE = "torch .* cannot use: is a CUDA build of torch installed"


@pytest.fixture(autouse=True)
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_b04_no_share_of_a_gpu_becomes_the_cpu() -> None:
    assert device_for(0).type == device_of(Resources()).type == "cpu"
    for gpus in (0.25, 1, 2):
        with pytest.raises(InfrastructureError, match=MESSAGE):
            device_for(gpus)
        with pytest.raises(InfrastructureError, match=f"gpus={gpus:g}"):
            device_of(Resources(gpus=gpus))


def test_b04_an_actor_hands_the_failure_to_tune() -> None:
    actor = object.__new__(TrialActor)
    actor._shared = SimpleNamespace(families={}, cache_dir=Path(), folder=SweepFolder(Path()))
    actor._features = None
    actor._folder = Path()
    actor._job = SimpleNamespace(resources=Resources(gpus=1), spec=None)
    with pytest.raises(InfrastructureError, match=MESSAGE):
        actor._open()


def test_b04_a_training_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("data.num_samples=60", "resources.gpus=1", "tracking.enabled=false")
    experiment = str(Path(__file__).parents[2] / "experiments" / "quick.yaml")
    assert main(["train", "lexical", experiment, *settings]) == 0  # it never takes a GPU
    assert main(["train", "gnn", experiment, *settings]) == 1
    assert "cannot use" in capsys.readouterr().err
