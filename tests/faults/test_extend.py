"""``sg-ray extend`` and what a resume may change."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import DATABASE, INLINE, SWEEP, query, records, repeated_points, run_statuses

from sg_ray.cli import main
from sg_ray.sweep.execute.tune_hooks import PlanSearcher


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "records").iterdir()}


def seeds_by_config() -> dict[str, set[int]]:
    seeds: dict[str, set[int]] = {}
    for record in records(SWEEP):
        if record["configuration"]["model"] == "gnn":
            seeds.setdefault(record["config_hash"], set()).add(record["seed"])
    return seeds


def test_seeds_points_and_finalists_are_added_in_one_go(
    swept: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before, test_before = files(SWEEP), (SWEEP / "test.json").read_text()
    sweep_run = query(DATABASE, "select run_uuid, end_time from runs where name = 'tiny'")
    added = ["seeds=[7,3]", "search.num_trials=3", "replicate.top_k=2"]
    assert main(["extend", "tiny", *added, *INLINE]) == 0
    capfd.readouterr()

    assert Counter(record["stage"] for record in records(SWEEP)).items() >= {
        ("floor", 3),
        ("search", 3),
    }
    seeds_of = seeds_by_config()
    assert sorted(map(len, seeds_of.values()))[-2:] == [3, 3], "two finalists have every seed"
    assert files(SWEEP).items() >= before.items(), "an earlier record was touched"
    aside = (SWEEP / "set_aside" / "test-001.json").read_text()
    assert aside == test_before
    assert set(json.loads((SWEEP / "test.json").read_text())["seeds"]) == {"42", "7", "3"}

    ((run_id, ended),) = query(DATABASE, "select run_uuid, end_time from runs where name = 'tiny'")
    assert (run_id, ended > sweep_run[0][1]) == (sweep_run[0][0], True)
    assert run_statuses(DATABASE) == {"FINISHED": len(records(SWEEP)) + 1}
    assert repeated_points(DATABASE) == []

    after = files(SWEEP)
    assert main(["sweep", "--resume", "tiny", *INLINE]) == 0, (
        "what was added is part of the sweep now"
    )
    assert files(SWEEP) == after


@pytest.mark.parametrize(
    ("setting", "difference"),
    [
        ("search.num_trials=1", "search.num_trials: 2 before, 1 now"),
        ("search.seed=5", "search.seed: 0 before, 5 now"),
        ("models.gnn.config.epochs=9", "models.gnn.config.epochs: 4 before, 9 now"),
        ("data.num_samples=300", "data.num_samples: 240 before, 300 now"),
        ("objective=val_f1", "objective: 'val_roc_auc' before, 'val_f1' now"),
    ],
)
def test_whatever_does_not_only_add_is_refused(
    swept: Path, setting: str, difference: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in SWEEP.rglob("*") if path.is_file()}
    assert main(["extend", "tiny", setting]) == 2
    assert f"  {difference}" in capfd.readouterr().err
    after = {path: path.read_bytes() for path in SWEEP.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {".lock", "tracking.json"}  # the copied store lies in another place


def test_a_dry_run_shows_the_larger_plan_and_changes_nothing(
    swept: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in SWEEP.rglob("*") if path.is_file()}
    assert main(["extend", "tiny", "seeds=[7,3]", "search.num_trials=3", "--dry-run"]) == 0
    shown = capfd.readouterr().out
    assert "on record: 5 completed; the rest of the plan will be run" in shown
    assert "in all 8 trials" in shown
    assert {path: path.read_bytes() for path in SWEEP.rglob("*") if path.is_file()} == before


def test_fewer_seeds_take_none_away(swept: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = files(SWEEP)
    assert main(["extend", "tiny", "seeds=[42]", *INLINE]) == 0
    capfd.readouterr()
    assert files(SWEEP) == before


def test_a_plain_resume_does_not_extend(swept: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--resume", "tiny", "replicate.seeds=[42,7,3]"]) == 2
    assert "replicate.seeds: " in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("cpus", "num_at_once"), [(1, 2), (2, 1)])
def test_a_resume_may_take_other_resources(
    swept: Path, monkeypatch: pytest.MonkeyPatch, cpus: int, num_at_once: int
) -> None:
    """The test's Ray has two CPUs, and the sweep was begun with one trial at a time."""
    for record in records(SWEEP):
        if record["stage"] == "floor":
            (SWEEP / "records" / f"{record['trial_key']}.json").unlink()
    seen: list[int] = []
    suggest = PlanSearcher.suggest

    def noted(searcher: PlanSearcher, trial_id: str) -> Any:
        suggested = suggest(searcher, trial_id)
        seen.append(len(searcher._flight.jobs))
        return suggested

    monkeypatch.setattr(PlanSearcher, "suggest", noted)
    other = [f"resources.cpus={cpus}", "max_concurrent_trials=2"]
    assert main(["sweep", "--resume", "tiny", *other]) == 0
    assert max(seen) == num_at_once
    assert len(records(SWEEP)) == 5
    assert f"cpus: {cpus}.0" in (SWEEP / "sweep.yaml").read_text(), "it is not noted"
