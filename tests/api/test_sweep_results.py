"""A sweep's results as tables: what ``open_sweep`` and ``compare`` say of a real sweep."""

import csv
import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

import sg_ray
from sg_ray.api.sweep_results import SweepResults
from sg_ray.errors import InputError
from sg_ray.host.lock import locked
from sg_ray.sweep_folder import SweepFolder

SWEEP = Path("outputs/tiny")


@pytest.fixture
def sweep(swept: Path) -> SweepResults:
    return sg_ray.open_sweep("tiny")


def test_the_leaderboard_is_the_file_s(sweep: SweepResults) -> None:
    table = sweep.leaderboard
    with (SWEEP / "leaderboard.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(table["rank"]) == [1, 2]
    assert list(table["config_hash"]) == [line["config_hash"] for line in lines]
    assert dict(zip(table["model"], table["is_floor"], strict=True)) == {
        "gnn": False,
        "lexical": True,
    }
    for name in ("val_roc_auc_mean", "val_roc_auc_sd", "test_f1"):
        told = [float(line[name] or "nan") for line in lines]
        assert table[name].tolist() == pytest.approx(told, rel=1e-5, nan_ok=True)
    assert table.set_index("model")["config.graphs.vocab_size"]["gnn"] == 400


def test_trials_seeds_and_curves_are_those_on_record(sweep: SweepResults) -> None:
    records = [json.loads(path.read_text()) for path in (SWEEP / "records").glob("*.json")]
    trials, curves, seeds = sweep.trials, sweep.curves, sweep.seeds
    assert set(trials["trial_key"]) == {record["trial_key"] for record in records}
    assert trials["train_time_s"].sum() == pytest.approx(sum(r["train_time_s"] for r in records))
    assert (trials["failure"] == "").all()
    assert len(curves) == sum(record["epochs"] for record in records)
    best = curves.groupby("trial_key")["val_roc_auc"].max()
    for record in records:
        assert best[record["trial_key"]] == record["metrics"]["val_roc_auc"]
    assert list(zip(seeds["rank"], seeds["seed"], strict=True)) == [
        (1, 7),
        (1, 42),
        (2, 7),
        (2, 42),
    ]
    means = seeds.groupby("rank")["val_roc_auc"].mean()
    assert means.tolist() == sweep.leaderboard["val_roc_auc_mean"].tolist()


def test_predictions_give_the_recorded_score(sweep: SweepResults) -> None:
    from sklearn.metrics import roc_auc_score

    table = sweep.predictions
    assert set(table["split"]) == {"valid", "test"}
    winner = sweep.leaderboard.query("not is_floor")["config_hash"].iloc[0]
    assert set(table[table["split"] == "test"]["config_hash"]) == {winner}
    scores = sweep.trials.set_index("trial_key")["val_roc_auc"]
    for key, group in table[table["split"] == "valid"].groupby("trial_key"):
        assert group["sample"].tolist() == list(range(len(group)))
        assert roc_auc_score(group["label"], group["probability"]) == pytest.approx(scores[key])


def test_the_verdict_and_the_notebook_s_view(sweep: SweepResults) -> None:
    written = json.loads((SWEEP / "verdict.json").read_text())
    assert sweep.verdict.headline == written["headline"]
    assert sweep.state == "complete"
    assert str(sweep) == "outputs/tiny: complete, 5 of 5 trials"
    shown = sweep._repr_html_()
    assert shown.count("<tr") == 3
    assert "report.html" in shown
    assert sweep.leaderboard["config_hash"][0][:8] in shown


def test_a_sweep_that_was_killed_is_shown_as_far_as_it_came(sweep: SweepResults) -> None:
    """Its last record is gone as if it had never been written, and nobody told the end."""
    last = sweep.trials["trial_key"].iloc[-1]
    SweepFolder(SWEEP).record(last).unlink()
    SweepFolder(SWEEP).verdict.write_text("an old one")
    journal = SweepFolder(SWEEP).events
    lines = journal.read_text().splitlines(keepends=True)
    ends = ("ranked", "sweep_finished", "test_scored")
    kept = [
        line
        for line in lines
        if (event := json.loads(line))["type"] not in ends
        and (event["type"], event.get("trial_key")) != ("trial_finished", last)
    ]
    journal.write_text("".join(kept))
    assert sweep.state == "interrupted"
    assert "4 of 5 trials" in repr(sweep)
    assert len(sweep.trials) == 4
    unfinished = sweep.curves.query("trial_key == @last")
    assert unfinished["epoch"].tolist() == [1, 2]
    assert sweep.verdict.standings
    with locked(SweepFolder(SWEEP)):
        assert sweep.state == "running"
        assert sweep.progress.next_step is None
        assert "running" in sweep._repr_html_()
    assert (sweep.progress.next_step or "").endswith("sweep --resume outputs/tiny")


def test_a_sweep_that_has_only_begun_has_empty_tables(swept: Path) -> None:
    folder = SweepFolder(Path("outputs/begun"))
    folder.path.mkdir()
    shutil.copy(SweepFolder(SWEEP).settings, folder.settings)
    sweep = sg_ray.open_sweep(folder.path)
    for table in (sweep.leaderboard, sweep.seeds, sweep.trials, sweep.curves, sweep.predictions):
        assert isinstance(table, pd.DataFrame)
        assert len(table) == 0
        assert "config_hash" in table
    assert sweep.state == "interrupted"
    assert "interrupted, 0 of 0 trials" in sweep._repr_html_()


def test_compare_shows_what_report_shows(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sg_ray.cli import main

    shutil.copytree(SWEEP, "outputs/other")
    for path in list(SweepFolder(Path("outputs/other")).records.glob("*.json")):
        record = json.loads(path.read_text())
        changed = {**record, "trial_key": f"0{path.stem}", "code_version": "0other"}
        path.with_name(f"0{path.name}").write_text(json.dumps(changed))
        path.unlink()
    table = sg_ray.compare("tiny", sg_ray.open_sweep("other"))
    assert main(["report", "tiny", "other", "--csv", "both.csv"]) == 0
    with Path("both.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(table) == len(lines) == 6
    for name in ("model", "config_hash", "code_version", "seeds", "num_failed"):
        assert [str(value) for value in table[name]] == [line[name] for line in lines]
    for value, line in zip(table["val_f1_sd"], lines, strict=True):
        assert (
            math.isnan(value)
            if line["val_f1_sd"] == ""
            else value == pytest.approx(float(line["val_f1_sd"]), rel=1e-5)
        )
    assert set(table["folders"]) == {"tiny", "other"}
    both = sg_ray.compare(SWEEP, SWEEP)
    assert both["folders"].tolist() == ["tiny tiny"] * 3
    with pytest.raises(InputError, match="at least one"):
        sg_ray.compare()


def test_a_finished_sweep_is_resumed_without_training(
    sweep: SweepResults, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sweep.seeds
    again = sg_ray.resume_sweep(sweep, {"max_concurrent_trials": 1}, executor="inline")
    assert "report.html" in capsys.readouterr().out
    pd.testing.assert_frame_equal(again.seeds, before)
    assert again.experiment.max_concurrent_trials == 1
    with pytest.raises(InputError, match=r"search\.num_trials: 2 before, 3 now"):
        sg_ray.resume_sweep("tiny", {"search.num_trials": 3})
    with pytest.raises(InputError, match="nobody: no sweep of that name"):
        sg_ray.resume_sweep("nobody")
