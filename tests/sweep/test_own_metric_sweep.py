"""A sweep by a metric of the user's own, as the page tells it; its report where the code is not."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from sg_ray.cli import main
from sg_ray.records.record import read_records
from sg_ray.statistics.own_metrics import OWN_METRICS
from sg_ray.sweep_folder import SweepFolder

ROOT = Path(__file__).parents[2]
SWEEP = SweepFolder(Path("outputs/own"))
INLINE = ("--executor", "inline")

TINY = """
name: own
data: {num_samples: 240}
families: [gnn]
models:
  gnn:
    config: {epochs: 2, hidden_dim: 16, num_layers: 1, graphs: {vocab_size: 300}}
    space: {learning_rate: {log_uniform: [1e-4, 1e-2]}}
lr_range: {enabled: false}
search: {num_trials: 2}
replicate: {top_k: 1, seeds: [42, 1, 2]}
tracking: {enabled: false}
"""


def on_the_page(language: str) -> str:
    """Return what the section shows in a language."""
    page = (ROOT / "docs/own-model.md").read_text(encoding="utf-8")
    section = page.partition("## Your own metric")[2]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's metric, and a sweep by it."""
    folder, before = tmp_path_factory.mktemp("own"), Path.cwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        forget(patch)
        try:
            Path("cost.py").write_text(on_the_page("python"))
            Path("e.yaml").write_text(TINY + on_the_page("yaml"))
            assert main(["sweep", "e.yaml", *INLINE]) == 0
        finally:
            os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def there(swept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in that folder."""
    monkeypatch.chdir(swept)
    return swept


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OWN_METRICS, "_plugged", {})
    monkeypatch.setattr(OWN_METRICS, "_directions", {})


def verdict() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SWEEP.verdict.read_text())
    return found


def test_every_epoch_and_the_winners_test_have_it_and_the_lowest_wins() -> None:
    records = read_records(SWEEP).values()
    assert len(records) == 7
    assert all(isinstance(epoch["val_cost"], float) for r in records for epoch in r.history)
    for record in records:
        costs = [epoch["val_cost"] for epoch in record.history]
        assert record.metrics["val_cost"] == min(cost for cost in costs if cost is not None)
        assert record.own_metrics == {"cost": "minimise"}
        assert record.code_version.count("+") == 1, "the metric's code counts"
    scores = json.loads(SWEEP.test_scores.read_text())
    assert all("test_cost" in one for one in scores["seeds"].values())
    header, *rows = (line.split(",") for line in SWEEP.leaderboard.read_text().splitlines())
    means = [float(row[header.index("val_cost_mean")]) for row in rows]
    assert means == sorted(means)


def test_the_verdict_has_intervals_by_it() -> None:
    found = verdict()
    for standing in found["standings"]:
        assert standing["interval"]["low"] <= standing["mean"] <= standing["interval"]["high"]
    assert found["test"]["interval"] is not None
    comparison = found["questions"][0]["comparisons"][0]
    assert re.search(r"\d\.\d{4} less cost, 95 % interval", comparison["sentence"])
    assert "could not be measured" not in " ".join(found["notes"])


def test_a_resume_trains_nothing_again() -> None:
    records = {path: path.read_bytes() for path in SWEEP.records.iterdir()}
    assert main(["sweep", "--resume", "own", *INLINE]) == 0
    assert {path: path.read_bytes() for path in records} == records


def test_without_the_code_a_report_ranks_and_tells_what_it_leaves_out(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = verdict()
    source = there / "cost.py"
    source.rename(there / "moved.py")
    try:
        assert main(["report", "own"]) == 0
        assert "val_cost" in capsys.readouterr().out
        assert re.search(r"<t[dh][^>]*>\s*cost\s*<", (there / SWEEP.report).read_text())
        without = verdict()
        assert [one["interval"] for one in without["standings"]] == [None, None]
        assert [one["mean"] for one in without["standings"]] == [
            one["mean"] for one in before["standings"]
        ]
        assert without["test"]["interval"] is None
        (note,) = (one for one in without["notes"] if "could not be measured" in one)
        assert f"sg-ray report own --metric {source.resolve()}:cost" in note
        assert main(["sweep", "--resume", "own", *INLINE]) == 2
        assert "plugins.metrics.cost.code=FILE.py:cost" in capsys.readouterr().err

        forget(monkeypatch)
        other = (there / "moved.py").read_text().replace("0, 10", "0, 20")
        (there / "other.py").write_text(other)
        assert main(["report", "own", "--metric", "./other.py:cost"]) == 0
        assert any("other values than recorded" in note for note in verdict()["notes"])

        forget(monkeypatch)
        assert main(["report", "own", "--metric", "./moved.py:cost"]) == 0
        assert verdict() == before
    finally:
        (there / "moved.py").rename(source)


def test_a_changed_metric_is_another_version_of_the_code(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (there / "cost.py").read_text()
    (there / "cost.py").write_text(source.replace("0, 10", "0, 20"))
    try:
        assert main(["sweep", "--resume", "own", *INLINE]) == 2
        assert "another version of the code" in capsys.readouterr().err
    finally:
        (there / "cost.py").write_text(source)


def test_reproduce_measures_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    record = next(r for r in read_records(SWEEP).values() if r.model == "gnn")
    assert main(["reproduce", f"outputs/own:{record.trial_key}"]) == 0
    assert "bit" in capsys.readouterr().out
