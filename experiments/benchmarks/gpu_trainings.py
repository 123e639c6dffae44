"""The trainings that are timed on a GPU, of real and of tiny size, from packed features.

Runs with the sg-ray of another checkout as well: as a process of its own it times one training and
prints the rate as JSON::

    PYTHONPATH=CHECKOUT python experiments/benchmarks/gpu_trainings.py '{"features": "FILE", ...}'
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from figures import environment_of
from gpu_pack import read_pack
from step_rate import Rate, Training

from sg_ray.models.families import FAMILIES
from sg_ray.models.family import Inputs
from sg_ray.training.seeding import deterministic

What = Literal["gnn", "codebert", "fusion"]

SEED = 0
_WIDTHS = {"transformer": 768, "gnn": 128}
"""Of the embeddings that a fusion head reads."""
_PATIENCE_S = 200


@dataclass(frozen=True)
class Scale:
    """How large what is trained is, and how many steps are timed."""

    encoder: tuple[int, int, int, int]
    """Layers, width, heads, width inside the feed-forward layers."""
    max_tokens: int
    encoder_batch: int
    graph_dim: int
    graph_layers: int
    graph_batch: int
    warm_up: int
    steps: int
    matmul_dim: int
    num_seeds: int

    @property
    def roberta(self) -> dict[str, int]:
        """The encoder's sizes as Hugging Face calls them."""
        layers, width, heads, inner = self.encoder
        return {
            "num_hidden_layers": layers,
            "hidden_size": width,
            "num_attention_heads": heads,
            "intermediate_size": inner,
        }


REAL = Scale((12, 768, 12, 3072), 400, 64, 128, 4, 32, 20, 40, 8192, 8)
TINY = Scale((2, 32, 2, 64), 64, 4, 16, 2, 4, 2, 6, 128, 2)
"""Seconds on a CPU: shows that the script runs, not how fast anything is."""

Size = Literal["real", "tiny"]
SCALES: Mapping[Size, Scale] = {"real": REAL, "tiny": TINY}


@dataclass(frozen=True)
class Place:
    """Where features lie, what computes, and the sizes to train."""

    features: Path
    device: str = "cuda"
    size: Size = "real"

    @property
    def scale(self) -> Scale:
        """The sizes to train."""
        return SCALES[self.size]


@dataclass(frozen=True)
class Job:
    """One training that a process of its own times.

    ``share`` bounds its part of the GPU's memory. It writes ``ready`` once it could begin, and
    begins when ``go`` is there. ``world`` processes train together as one group.
    """

    features: str
    device: str
    size: Size
    what: What = "gnn"
    share: float | None = None
    ready: str | None = None
    go: str | None = None
    rank: int = 0
    world: int = 0
    rendezvous: str = ""


def gnn_training(place: Place, workers: Any = None) -> Training:
    """Return a graph network's training on packed graphs."""
    scale, family = place.scale, FAMILIES["gnn"]
    config = family.Config.model_validate(
        {
            "hidden_dim": scale.graph_dim,
            "num_layers": scale.graph_layers,
            "batch_size": scale.graph_batch,
            "epochs": 1,
            "max_units_per_micro_batch": 65_536,
        }
    )
    return _training(place, family, config, "unused", config.graphs.key, workers)


def fusion_training(place: Place, workers: Any = None) -> Training:
    """Return a fusion head's training on outputs of frozen branches that nobody trained."""
    from sg_ray.models.fusion import BranchOutputs, FrozenFusion, FrozenSplit, FusionHead

    scale, config = place.scale, FAMILIES["fusion"].Config.model_validate({"epochs": 1})
    rng = np.random.default_rng(SEED)

    def split(num_samples: int) -> FrozenSplit:
        labels = (rng.random(num_samples) < 0.5).astype(np.int8)
        outputs = {
            name: BranchOutputs(
                rng.normal(size=(num_samples, width)).astype(np.float32),
                rng.normal(size=num_samples).astype(np.float32),
            )
            for name, width in _WIDTHS.items()
        }
        return FrozenSplit(labels, outputs)

    def build() -> Any:
        torch.manual_seed(SEED)
        head = FusionHead(list(_WIDTHS.values()), [1.0] * len(_WIDTHS), config)
        return FrozenFusion(list(_WIDTHS), head)

    deterministic(threads=_threads(place))
    num_train = config.batch_size * (scale.warm_up + scale.steps + 1)
    device = torch.device(place.device)
    return Training(build, split(num_train), split(256), config, device, workers)


@contextmanager
def codebert_training(place: Place, workers: Any = None) -> Iterator[Training]:
    """Yield the training of an encoder of CodeBERT's size, with random weights, as if pretrained.

    Its configuration is RoBERTa's own, so dropout of attention is on, as in CodeXGLUE's recipe.
    """
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaModel

    from sg_ray.features.pretrained_files import quiet_hugging_face

    scale, family = place.scale, FAMILIES["transformer"]
    meta = read_pack(place.features, "tokens", "graphs").kinds["tokens"].meta
    torch.manual_seed(SEED)
    settings = RobertaConfig(
        vocab_size=meta["vocab_size"],
        max_position_embeddings=scale.max_tokens + meta["pad_id"] + 1,
        type_vocab_size=1,
        pad_token_id=meta["pad_id"],
        bos_token_id=meta["bos_id"],
        eos_token_id=meta["eos_id"],
        **scale.roberta,
    )
    with TemporaryDirectory(prefix="sg-ray-encoder-") as folder:
        with quiet_hugging_face():
            RobertaModel(settings, add_pooling_layer=False).save_pretrained(folder)
        config = family.Config.model_validate(
            {
                "pretrained": folder,
                "max_tokens": scale.max_tokens,
                "batch_size": scale.encoder_batch,
                "epochs": 1,
                "max_units_per_micro_batch": 65_536,
                "precision": "bf16",
            }
        )
        yield _training(place, family, config, config.tokens.key, "unused", workers)


def _training(
    place: Place, family: Any, config: Any, tokens_key: str, graphs_key: str, workers: Any
) -> Training:
    deterministic(threads=_threads(place))
    device = torch.device(place.device)
    inputs = Inputs(read_pack(place.features, tokens_key, graphs_key), device=device)

    def build() -> Any:
        torch.manual_seed(SEED)
        return family.build(config, inputs)

    train, valid = (family.split_data(config, inputs, split) for split in ("train", "valid"))
    return Training(build, train, valid, config, device, workers)


SMALL_TRAININGS: Mapping[str, Callable[..., Training]] = {
    "gnn": gnn_training,
    "fusion": fusion_training,
}
"""Those that leave a device idle, and are stacked."""


def _threads(place: Place) -> int:
    """Return the threads of a trial: one on a CPU, where others run beside it."""
    return 1 if place.device == "cpu" else torch.get_num_threads()


def rate_of(job: Job) -> Rate:
    """Time one training in this process."""
    place = Place(Path(job.features), job.device, job.size)
    device = torch.device(job.device)
    if job.share is not None and device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(job.share, device)
    if job.world and device.type == "cuda":
        torch.cuda.set_device(job.rank % torch.cuda.device_count())
    with _group(job, device) as workers:
        if job.what != "codebert":
            made = SMALL_TRAININGS[job.what](place, workers)
            return _when_all_are_ready(job, made)
        with codebert_training(place, workers) as training:
            return _when_all_are_ready(job, training)


def rates_apart(jobs: Sequence[Job], checkout: Path) -> list[Rate]:
    """Time trainings at once, each in a process of its own with the sg-ray of ``checkout``.

    They begin together. Raises RuntimeError, with what it printed, if one of them fails.
    """
    with TemporaryDirectory(prefix="sg-ray-at-once-") as folder:
        go, rendezvous = Path(folder) / "go", Path(folder) / "group"
        ready = [Path(folder) / f"ready-{number}" for number in range(len(jobs))]
        processes = [
            _started(replace(job, ready=str(one), go=str(go), rendezvous=str(rendezvous)), checkout)
            for job, one in zip(jobs, ready, strict=True)
        ]
        try:
            _wait_until(lambda: all(one.exists() for one in ready), processes)
            go.touch()
            answers = [process.communicate(timeout=_PATIENCE_S) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        for process, (_, errors) in zip(processes, answers, strict=True):
            if process.returncode != 0:
                raise RuntimeError(f"a training apart failed: {errors[-2000:]}")
        return [Rate(**json.loads(printed.splitlines()[-1])) for printed, _ in answers]


def _started(job: Job, checkout: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, __file__, json.dumps(asdict(job))],
        env=environment_of(checkout),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_until(is_so: Any, processes: Sequence["subprocess.Popen[str]"]) -> None:
    """Wait; raise RuntimeError if a process ends before, or it takes too long."""
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        for process in processes:
            if process.poll() is not None:
                raise RuntimeError(f"a training apart failed: {process.communicate()[1][-2000:]}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"trainings apart are not ready after {_PATIENCE_S} s")
        time.sleep(0.05)


def _when_all_are_ready(job: Job, training: Training) -> Rate:
    training.build()  # what is loaded and compiled once is not timed
    if job.ready is not None and job.go is not None:
        Path(job.ready).touch()
        while not Path(job.go).exists():
            time.sleep(0.01)
    scale = SCALES[job.size]
    return training.rate(scale.warm_up, scale.steps, profiles=job.share is None and not job.world)


@contextmanager
def _group(job: Job, device: torch.device) -> Iterator[Any]:
    """Yield the job's workers, a group of ``torch.distributed``; None if it trains alone."""
    if not job.world:
        yield None
        return
    import torch.distributed as dist

    from sg_ray.training.workers import TorchGroup

    has_own_gpu = device.type == "cuda" and torch.cuda.device_count() >= job.world
    dist.init_process_group(
        "nccl" if has_own_gpu else "gloo",
        init_method=f"file://{job.rendezvous}",
        rank=job.rank,
        world_size=job.world,
    )
    try:
        yield TorchGroup(device)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    print(json.dumps(asdict(rate_of(Job(**json.loads(sys.argv[1]))))))
