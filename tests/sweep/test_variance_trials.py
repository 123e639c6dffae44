"""Trials that vary one stream of random numbers alone: on record, and never a seed of anything."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sg_ray.config import Experiment
from sg_ray.configuration import Configuration
from sg_ray.errors import InputError
from sg_ray.files import short_hash, write_text
from sg_ray.jobs.job import TrainJob, parse_job
from sg_ray.prepare.branches import GivenBranches
from sg_ray.records.folder_format import write_format
from sg_ray.records.journal import Journal, read_events
from sg_ray.records.leaderboard import Row, rank
from sg_ray.records.planned import planned_stages
from sg_ray.records.record import (
    RunRecord,
    read_record,
    read_records,
    record_of,
    write_record,
)
from sg_ray.single.reproduce_one import _spec
from sg_ray.sweep.execute.worklist import Worklist
from sg_ray.sweep.plan.ledger import Identity, Ledger
from sg_ray.sweep.plan.planner import Planner
from sg_ray.sweep.winners import _best_records
from sg_ray.sweep_folder import SweepFolder
from sg_ray.trial.spec import TrialSpec, job_name

OBJECTIVE = "val_roc_auc"


def spec(seed: int = 42, *, family: str = "gnn", **changes: Any) -> TrialSpec:
    return TrialSpec(
        configuration=Configuration(model=family, family=family, values={"epochs": 2}),
        seed=seed,
        objective=OBJECTIVE,
        data_fingerprint="data",
        code_version="code",
        **changes,
    )


def recorded(trial: TrialSpec, stage: str, value: float, **changes: Any) -> RunRecord:
    record = record_of(
        trial,
        stage,
        [{"epoch": 1, OBJECTIVE: value, "epoch_time_s": 1.0}],
        status="completed",
        started_at_ms=0,
        environment={},
        failure=None,
    )
    return record.model_copy(update=changes)


SEEDS = (42, 7)
PLAIN = [recorded(spec(seed), "replicate", 0.7, finished_at_ms=1) for seed in SEEDS]
VARIED = [
    recorded(spec(42, streams={stream: 9}), "variance", 0.9, finished_at_ms=2)
    for stream in ("init", "order")
]
"""Better and newer than the seeds of their configuration."""


def experiment(folder: Path, **settings: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "varied",
            "output_dir": folder,
            "families": ["gnn"],
            "replicate": {"seeds": list(SEEDS)},
            **settings,
        }
    )


def planner(plan: Experiment, records: list[RunRecord]) -> Planner:
    ledger = Ledger(plan.folder, {record.trial_key: record for record in records})
    identity = Identity("data", "code", has_test_split=False)
    return Planner(plan.all_models, plan.rules, ledger, identity, {})


def test_a_record_tells_its_streams_and_reads_back(tmp_path: Path) -> None:
    write_record(SweepFolder(tmp_path), VARIED[0])
    found = read_record(SweepFolder(tmp_path).record(VARIED[0].trial_key))
    assert found == VARIED[0]
    assert (found.stage, found.streams, found.seed_text) == ("variance", {"init": 9}, "42, init 9")
    assert not found.counts_as_seed


def test_a_record_from_before_there_were_streams_reads_back(tmp_path: Path) -> None:
    write_record(SweepFolder(tmp_path), PLAIN[0])
    path = SweepFolder(tmp_path).record(PLAIN[0].trial_key)
    content = json.loads(path.read_text())
    del content["streams"]
    path.write_text(json.dumps(content))
    found = read_record(path)
    assert found == PLAIN[0]
    assert (found.streams, found.seed_text, found.counts_as_seed) == ({}, "42", True)


def test_a_record_with_an_unknown_stream_is_named(tmp_path: Path) -> None:
    write_record(SweepFolder(tmp_path), VARIED[0].model_copy(update={"streams": {"inti": 9}}))
    with pytest.raises(InputError, match="not a valid run record"):
        read_records(SweepFolder(tmp_path))


def test_a_job_carries_its_streams(tmp_path: Path) -> None:
    trial = spec(streams={"init": 9})
    takes = experiment(tmp_path).resources_of("gnn")
    job = TrainJob(spec=trial, stage="variance", resources=takes)
    again = parse_job(job.model_dump_json())
    assert again == job
    assert again.spec.trial_key == trial.trial_key
    config, key = short_hash(trial.config_hash), trial.trial_key[:8]
    assert again.base_name == f"gnn-{config}-seed42-init9-{key}"


def test_the_leaderboard_does_not_know_them() -> None:
    expected = rank(PLAIN, objective=OBJECTIVE, seeds=SEEDS)
    assert rank([*PLAIN, *VARIED], objective=OBJECTIVE, seeds=SEEDS) == expected
    assert rank(VARIED, objective=OBJECTIVE, seeds=SEEDS) == []


def plan_of(records: dict[str, RunRecord], winner: Row) -> Any:
    rules = SimpleNamespace(replicate=SimpleNamespace(all_seeds=SEEDS))
    ledger = SimpleNamespace(records=records)
    return SimpleNamespace(ledger=ledger, rules=rules, winners=lambda: {"gnn": winner})


def test_they_are_not_exported() -> None:
    records = {record.trial_key: record for record in (*PLAIN, *VARIED)}
    (row,) = rank(PLAIN, objective=OBJECTIVE, seeds=SEEDS)
    plan = plan_of(records, row)
    assert _best_records(plan) == {"gnn": PLAIN[0]}


def test_of_a_seed_the_newest_is_exported() -> None:
    """As the ranking counts them: another one may be better, and void."""
    stale = recorded(spec(SEEDS[0]), "replicate", 0.9, finished_at_ms=0)
    stale = stale.model_copy(update={"trial_key": "stale"})
    records = {record.trial_key: record for record in (stale, *PLAIN)}
    (row,) = rank(records.values(), objective=OBJECTIVE, seeds=SEEDS)
    plan = plan_of(records, row)
    assert _best_records(plan) == {"gnn": PLAIN[0]}


def test_other_families_do_not_build_on_them(tmp_path: Path) -> None:
    source = experiment(tmp_path, families=["transformer", "gnn"])
    write_text(source.folder.path / "sweep.yaml", source.to_yaml())
    write_format(source.folder)
    of_transformer = recorded(spec(family="transformer"), "replicate", 0.7)
    for record in (*PLAIN, *VARIED, of_transformer):
        write_record(source.folder, record)
    builder = experiment(tmp_path, families=["fusion"], branches_from=source.folder.path)
    find = GivenBranches(builder.all_models, builder.branches_from, "data").by_model["gnn"]
    for record in PLAIN:
        branch = find(record.seed)
        assert branch is not None
        assert branch.trial_key == record.trial_key


def test_branches_are_found_by_the_names_of_their_models(tmp_path: Path) -> None:
    source = experiment(tmp_path)
    write_text(source.folder.path / "sweep.yaml", source.to_yaml())
    write_format(source.folder)
    called = Configuration(model="wide", family="gnn", values={"epochs": 3})
    for record in PLAIN:
        own = spec(record.seed).with_configuration(called)
        write_record(source.folder, record)
        write_record(source.folder, recorded(own, "replicate", 0.6))
    fusion = replace(experiment(tmp_path).model("fusion"), branches={"gnn": "wide"})
    given = GivenBranches([fusion], source.folder.path, "data")
    assert given.of_model(fusion, SEEDS[0])["gnn"].configuration == called, "not the better gnn"
    assert list(given.by_model) == ["wide"]
    assert given.feature_specs, "it reads what its family reads"


def test_a_restart_settles_each_under_its_own_name(tmp_path: Path) -> None:
    plan = experiment(tmp_path)
    (record,) = VARIED[:1]
    attempt = plan.folder.path / "tune" / "attempt-001"
    plain = planner(plan, []).plans["gnn"].spec(PLAIN[0].configuration, 42)
    varied = plain.with_streams(record.streams)
    assert varied.trial_key == record.trial_key
    for trial in (plain, varied):
        (attempt / job_name(trial)).mkdir(parents=True)
    journal = Journal(plan.folder.path / "events.jsonl")
    Worklist(planner(plan, [record]), planned_stages(plan.all_models, plan.rules), journal)
    journal.close()
    assert [path.name for path in attempt.iterdir()] == [job_name(plain)]


def test_the_journal_tells_the_streams(tmp_path: Path) -> None:
    plan = experiment(tmp_path)
    journal = Journal(plan.folder.path / "events.jsonl")
    worklist = Worklist(planner(plan, []), planned_stages(plan.all_models, plan.rules), journal)
    takes = plan.resources_of("gnn")
    worklist.on_started(
        TrainJob(spec=spec(streams={"order": 9}), stage="variance", resources=takes)
    )
    journal.close()
    (event,) = [e for e in read_events(journal.path) if e.type == "trial_started"]
    assert (event.stage, event.streams) == ("variance", {"order": 9})


def test_one_is_trained_again_from_the_same_streams() -> None:
    assert _spec(VARIED[0], {}).streams == {"init": 9}
