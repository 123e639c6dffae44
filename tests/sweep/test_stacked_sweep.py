"""Seeds that train as one in a sweep: each has its own record, and equals itself alone."""

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from executed_sweeps import bits, journal, types
from tiny_sweep import MODELS, read_json_records, tiny_experiment

from sg_ray.cli import main
from sg_ray.config import Experiment
from sg_ray.sweep.execute.choice import named_executor
from sg_ray.sweep.execute.worklist import Worklist
from sg_ray.sweep.run import Outcome, run_sweep
from sg_ray.training.loop import Training
from sg_ray.training.stacked import relative_cost

SEEDS = [42, 7, 3, 5]
STACKED = ["seed7", "seed3", "seed5"]
"""The first one is the search's."""


def experiment_in(folder: Path, *overrides: str) -> Experiment:
    """A sweep whose fusion has three seeds left after its search."""
    models = {
        name: {**model, "config": {**model["config"], "epochs": 1}, "space": {}}
        for name, model in MODELS.items()
    }
    models["fusion"]["config"] = {"epochs": 3, "batch_size": 32, "hidden_dim": 8}
    return tiny_experiment(
        folder,
        *overrides,
        families=["transformer", "gnn", "fusion"],
        models=models,
        data={"source": "synthetic", "num_samples": 120},
        search={"num_trials": 1},
        replicate={"top_k": 1, "seeds": SEEDS, "race_alpha": None},
        resources={"stack_seeds": "on"},
        max_concurrent_trials=1,
        tracking={"enabled": False},
    )


def run(experiment: Experiment, executor: str = "inline") -> Outcome:
    return run_sweep(experiment, executor=named_executor(executor))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    experiment = experiment_in(tmp_path_factory.mktemp("stacked"))
    assert run(experiment).problems == []
    return experiment


def copied(swept: Experiment, folder: Path) -> None:
    """Copy a sweep without what it knows of the seeds that were stacked."""
    root = swept.folder.path.parents[1]
    shutil.copytree(root, folder, dirs_exist_ok=True)
    (folder / "experiment.yaml").unlink()
    sweep = folder / "outputs/tiny"
    settings = sweep / "sweep.yaml"
    settings.write_text(settings.read_text().replace(str(root), str(folder)))
    forget_seeds(sweep)


def forget_seeds(sweep: Path) -> None:
    """Take out of a sweep what it knows of the fusions that come after the search's."""
    records = [r for r in read_json_records(sweep) if r["configuration"]["model"] == "fusion"]
    forgotten = {r["trial_key"] for r in records if r["seed"] != 42}
    assert len(forgotten) == 3
    for key in forgotten:
        (sweep / "records" / f"{key}.json").unlink()
        shutil.rmtree(sweep / "trials" / key)
    events = [json.loads(line) for line in (sweep / "events.jsonl").read_text().splitlines()]
    kept = [event for event in events if event.get("trial_key") not in forgotten]
    (sweep / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept))


@pytest.fixture
def begun(swept: Experiment, tmp_path: Path) -> Experiment:
    """A sweep as it was before its fusions were stacked."""
    copied(swept, tmp_path)
    return experiment_in(tmp_path)


def fusions(experiment: Experiment) -> dict[int, dict[str, Any]]:
    records = read_json_records(experiment.folder.path)
    return {r["seed"]: r for r in records if r["configuration"]["model"] == "fusion"}


def after_epoch(patch: pytest.MonkeyPatch, epoch: int) -> None:
    """Ask for a stop once a fusion of seed 3 has told of an epoch."""
    journal_epoch = Worklist.journal_epoch

    def journal_and_signal(self: Any, job: Any, this: int, metrics: Any) -> None:
        journal_epoch(self, job, this, metrics)
        if (job.spec.family, job.spec.seed, this) == ("fusion", 3, epoch):
            os.kill(os.getpid(), signal.SIGUSR1)

    patch.setattr(Worklist, "journal_epoch", journal_and_signal)


def test_each_seed_is_on_record_with_those_beside_which_it_was_trained(swept: Experiment) -> None:
    records = fusions(swept)
    assert sorted(records) == sorted(SEEDS)
    assert "stack" not in records[42]["environment"]
    for seed in (7, 3, 5):
        assert records[seed]["environment"]["stack"]["seeds"] == STACKED
        assert (records[seed]["status"], records[seed]["epochs"]) == ("completed", 3)
        assert (swept.folder.trial(records[seed]["trial_key"]) / "best_model.pt").exists()
    lines = [line for line in journal(swept.folder) if line.get("trial_key")]
    counts = Counter((line["trial_key"], line["type"]) for line in lines)
    for record in records.values():
        key = record["trial_key"]
        assert counts[key, "trial_started"] == counts[key, "trial_finished"] == 1
        assert counts[key, "epoch"] == 3
    assert not list(swept.folder.path.rglob("last.pt"))


def test_each_seed_equals_itself_alone_and_the_two_ways_are_named(
    swept: Experiment, tmp_path: Path
) -> None:
    copied(swept, tmp_path)
    alone = experiment_in(tmp_path, "resources.stack_seeds=off")
    run(alone)
    for seed, record in fusions(swept).items():
        other = fusions(alone)[seed]
        assert "stack" not in other["environment"]
        for one, two in zip(record["history"], other["history"], strict=True):
            timed = {"epoch_time_s", "samples_per_s"}
            for name in one.keys() - timed:
                assert one[name] == pytest.approx(two[name], abs=1e-4)
    mixed = "seed 42 alone, seeds 7, 3 and 5 as one of 3 stacked"
    told, told_alone = (one.folder.verdict.read_text() for one in (swept, alone))
    assert told.count(mixed) > told_alone.count(mixed)  # the graph network's seeds are as they were


def test_a_stacked_trial_is_reproduced_bit_by_bit(
    swept: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    key = fusions(swept)[3]["trial_key"]
    assert main(["reproduce", f"{swept.folder.path}:{key[:8]}"]) == 0
    assert "bit-identical" in capsys.readouterr().out


@pytest.mark.parametrize("setting", ["on", "off"])
def test_a_stopped_stack_goes_on_to_the_same_bits_whatever_the_setting_says_now(
    swept: Experiment, begun: Experiment, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    with monkeypatch.context() as patch:
        after_epoch(patch, 2)
        stopped = run(begun)
    assert "positions saved" in stopped.notes
    assert len(list(begun.folder.path.rglob("last.pt"))) == 3
    again = experiment_in(begun.folder.path.parents[1], f"resources.stack_seeds={setting}")
    assert run(again).problems == []
    assert types(again.folder).count("trial_resumed") == 3
    assert bits(again.folder) == bits(swept.folder)


def test_a_seed_that_fails_leaves_the_others_as_they_are(
    swept: Experiment, begun: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = Training.complete_epoch

    def fail(self: Any, logits: Any, took_s: float) -> Any:
        if self._seeds.seed == 3 and self._progress.epoch == 1:
            raise ValueError("of one seed alone")
        return complete(self, logits, took_s)

    monkeypatch.setattr(Training, "complete_epoch", fail)
    outcome = run(begun)
    assert outcome.exit_code == 1
    records, before = fusions(begun), fusions(swept)
    assert (records[3]["status"], records[3]["epochs"]) == ("failed", 1)
    assert records[3]["failure"]["message"] == "of one seed alone"
    for seed in (42, 7, 5):
        assert records[seed]["metrics"]["val_roc_auc"] == before[seed]["metrics"]["val_roc_auc"]
        assert records[seed]["weights"] == before[seed]["weights"]


def test_a_limit_says_how_many_seeds_at_most(swept: Experiment, tmp_path: Path) -> None:
    copied(swept, tmp_path)
    limited = experiment_in(tmp_path, "resources.stack_seeds=2")
    run(limited)
    records = fusions(limited)
    assert records[3]["environment"]["stack"]["seeds"] == ["seed7", "seed3"]
    assert "stack" not in records[5]["environment"]


@pytest.mark.parametrize("cost", [0.1, 50.0], ids=["pays", "does not"])
def test_auto_stacks_where_it_is_measured_to_pay_and_measures_once(
    swept: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float
) -> None:
    measured = []

    def cost_as_given(*arguments: Any) -> float:
        measured.append(relative_cost(*arguments))
        return cost

    copied(swept, tmp_path)
    monkeypatch.setattr("sg_ray.trial.stacked.relative_cost", cost_as_given)
    for _ in range(2):
        auto = experiment_in(tmp_path, "resources.stack_seeds=auto")
        assert run(auto).problems == []
        stacks = [record["environment"].get("stack") for record in fusions(auto).values()]
        assert sum(stack is not None for stack in stacks) == (3 if cost < 1 else 0)
        if cost < 1:
            assert bits(auto.folder) == bits(swept.folder)
        forget_seeds(auto.folder.path)
    (found,) = measured
    assert found > 0


@pytest.mark.slow
def test_by_tune_a_stack_gives_the_same_bits_and_a_stop_saves_its_positions(
    swept: Experiment, begun: Experiment, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        after_epoch(patch, 1)
        assert "positions saved" in run(begun, "tune").notes
    assert run(begun, "tune").problems == []
    assert bits(begun.folder) == bits(swept.folder)
