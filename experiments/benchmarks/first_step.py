"""From the command to the first training step, with warm caches, beside a plain script.

    python experiments/benchmarks/first_step.py

Both train a small RoBERTa from scratch on the same 1,000 functions, searched by Optuna's TPE on Ray
Tune and logged to MLflow in SQLite. The plain script is what most people write: a Tuner with
OptunaSearch and Ray's MLflow callback, whose trials start a ``TorchTrainer``; its tokens lie on the
disk already, and so do our features. Ours reads and checks the data and trains the lexical floor
first. The moment is the same for both: the end of the first step of any optimiser of torch's, noted
by a hook that a ``sitecustomize`` puts into every Python process. Each is ended there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from commands import PATIENCE_S
from figures import Figure, Measured, environment_of, print_figures, times_better

ROOT = Path(__file__).parents[2]
ROUNDS = 2
_POLL_S = 0.02
_MAX_TOKENS = 128
_EXPERIMENT = """
name: first
data: {source: synthetic, num_samples: 1000}
families: [transformer]
models:
  transformer:
    space: {learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}}
    config:
      learning_rate: 1.0e-3
      epochs: 1
      num_layers: 2
      hidden_dim: 64
      feed_forward_dim: 128
      num_heads: 4
      max_tokens: 128
      tokens: {vocab_size: 1024}
lr_range: {enabled: false}
search: {num_trials: 2}
replicate: {top_k: 1, seeds: [42]}
"""
_HOOK = '''
"""Notes when the first step of an optimiser has ended, once torch is imported."""
import os, sys, time
from importlib.abc import MetaPathFinder

class _Finder(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torch.optim.optimizer":
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec
        spec = find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            module.register_optimizer_step_post_hook(note)
        spec.loader.exec_module = exec_module
        return spec

def note(*_):
    path = os.environ["FIRST_STEP_NOTE"]
    try:
        with open(path, "x") as file:
            file.write(repr(time.time()))
    except FileExistsError:
        pass

sys.meta_path.insert(0, _Finder())
'''


def measure(today: Path | None) -> Measured:  # noqa: ARG001 - the baseline is a script
    """Measure both in turn, after a run of each that warms their caches."""
    with tempfile.TemporaryDirectory(prefix="sg-ray-") as name:  # short, for Ray's sockets
        folder = Path(name)
        hooks, temporary = folder / "hooks", folder / "t"
        hooks.mkdir()
        temporary.mkdir()
        (hooks / "sitecustomize.py").write_text(_HOOK, encoding="utf-8")
        experiment = folder / "first.yaml"
        experiment.write_text(_EXPERIMENT, encoding="utf-8")
        ours = [sys.executable, str(ROOT / "experiments" / "sweep.py"), str(experiment)]
        plain = [sys.executable, __file__, "--plain", str(folder)]
        environment = environment_of(ROOT)
        environment |= {"TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary)}
        environment["PYTHONPATH"] = os.pathsep.join([str(hooks), environment["PYTHONPATH"]])
        took_s: tuple[list[float], list[float]] = ([], [])
        for number in range(1 + ROUNDS):
            shutil.rmtree(folder / "outputs", ignore_errors=True)
            seconds = _first_step_s(ours, folder, environment)
            if number == 0:
                _keep_tokens(folder)
            took_s[0].append(seconds)
            shutil.rmtree(folder / "ray", ignore_errors=True)
            took_s[1].append(_first_step_s(plain, folder, environment))
    warm = [median(seconds[1:]) for seconds in took_s]
    note = f"medians of {ROUNDS}"
    return [Figure("plain script", warm[0], warm[1], "s", times_better(3), note=note)]


def _first_step_s(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Run a command until the first step of any optimiser; return the seconds.

    Raises RuntimeError, with the end of its output, if it ends before.
    """
    from sg_ray.host.processes import end, trees

    note, output = folder / "first_step", folder / "output.txt"
    note.unlink(missing_ok=True)
    began_s = time.time()
    with output.open("w", encoding="utf-8") as text:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "FIRST_STEP_NOTE": str(note)},
            stdin=subprocess.DEVNULL,
            stdout=text,
            stderr=subprocess.STDOUT,
        )
        while not _is_written(note):
            if process.poll() is not None or time.time() - began_s > PATIENCE_S:
                break
            time.sleep(_POLL_S)
        end(trees([process.pid]), patience_s=0)
        process.wait()
    if not _is_written(note):
        raise RuntimeError(f"{' '.join(command)} took no step:\n{output.read_text()[-2000:]}")
    return float(note.read_text(encoding="utf-8")) - began_s


def _is_written(note: Path) -> bool:
    return note.exists() and note.stat().st_size > 0


def _keep_tokens(folder: Path) -> None:
    """Write the tokens that our sweep has made as a plain script would keep them, padded."""
    import torch
    from plain_trainings import padded_ids

    from sg_ray.config import load_experiment
    from sg_ray.prepare.branches import GivenBranches
    from sg_ray.prepare.prepare import prepare, read_data

    cache = folder / ".cache"
    experiment = load_experiment(folder / "first.yaml")
    models = experiment.all_models
    data = read_data(experiment.data, cache, experiment.objective)
    features = prepare(models, GivenBranches(models, None, None), data, cache, None)
    kind = next(kind for kind in features.kinds.values() if "pad_id" in kind.meta)
    tokens = {
        "ids": torch.from_numpy(padded_ids(kind, _MAX_TOKENS)),
        "labels": torch.from_numpy(features.labels["train"].astype("float32")),
        "vocab_size": int(kind.meta["vocab_size"]),
        "pad_id": int(kind.meta["pad_id"]),
    }
    torch.save(tokens, folder / "tokens.pt")


def _run_plain(folder: Path) -> None:
    """Search a learning rate as most people write it."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", log_to_driver=False)
    database = f"sqlite:///{folder / 'plain.db'}"
    tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, folder=folder), {"cpu": 0.01}),
        param_space={"learning_rate": tune.loguniform(1e-4, 1e-2)},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=2, search_alg=OptunaSearch(seed=0)
        ),
        run_config=tune.RunConfig(
            name="plain",
            storage_path=str(folder / "ray"),
            verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=database, experiment_name="plain")],
        ),
    ).fit()
    ray.shutdown()


def _trial(config: dict[str, float], folder: Path) -> None:
    from ray import train, tune
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        _worker,
        train_loop_config={**config, "folder": str(folder)},
        scaling_config=train.ScalingConfig(num_workers=1),
        run_config=train.RunConfig(
            name=tune.get_context().get_trial_id(), storage_path=str(folder / "ray")
        ),
    )
    metrics = trainer.fit().metrics or {}
    tune.report({"loss": float(metrics["loss"])})


def _worker(config: dict[str, Any]) -> None:
    """Train one epoch of Hugging Face's own classifier on the padded tokens."""
    import torch
    from ray import train
    from torch.utils.data import DataLoader, TensorDataset
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaForSequenceClassification

    tokens = torch.load(Path(config["folder"]) / "tokens.pt")
    settings = RobertaConfig(
        vocab_size=tokens["vocab_size"],
        max_position_embeddings=_MAX_TOKENS + tokens["pad_id"] + 1,
        pad_token_id=tokens["pad_id"],
        num_labels=1,
        num_hidden_layers=2,
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=4,
    )
    model = RobertaForSequenceClassification(settings).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=config["learning_rate"])
    samples = TensorDataset(tokens["ids"], tokens["labels"])
    for ids, labels in DataLoader(samples, batch_size=32, shuffle=True):
        logits = model(input_ids=ids, attention_mask=ids.ne(tokens["pad_id"])).logits.squeeze(-1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with tempfile.TemporaryDirectory() as checkpoint:
        torch.save(model.state_dict(), Path(checkpoint) / "model.pt")
        train.report({"loss": float(loss)}, checkpoint=train.Checkpoint.from_directory(checkpoint))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plain:
        _run_plain(given.plain)
    else:
        print_figures(measure(None))
