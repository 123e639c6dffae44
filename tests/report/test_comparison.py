"""Several sweeps on one page, and the command that makes it."""

from pathlib import Path

import pytest
from page_parser import check
from sample_sweep import SEEDS, make_record, write_sample_sweep
from sample_verdict import write_sample_verdict

from sg_ray.cli import main
from sg_ray.errors import InputError
from sg_ray.records.record import read_records, write_record
from sg_ray.report.page.comparison import write_comparison
from sg_ray.sweep_folder import SweepFolder

OBJECTIVES = {"val_roc_auc": 0.71, "val_loss": 0.52, "val_f1": 0.62}


def write_sweep(folder: Path, family: str = "gnn", **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    objective = changes.get("objective", "val_roc_auc")
    (folder / "sweep.yaml").write_text(f"name: {folder.name}\nobjective: {objective}\n")
    for number, seed in enumerate(SEEDS):
        metrics = {name: value + 0.01 * number for name, value in OBJECTIVES.items()}
        record = make_record(family, {"width": folder.name}, seed, metrics=metrics, **changes)
        write_record(SweepFolder(folder), record)
    return folder


def compared(*folders: Path):
    path = folders[0].parent / "compared.html"
    assert write_comparison(folders, path) == path
    return check(path.read_text(encoding="utf-8"))


def test_sweeps_of_the_same_data_are_ranked_together(tmp_path):
    write_sample_sweep(tmp_path / "demo")
    write_sample_verdict(tmp_path / "demo")
    page = compared(tmp_path / "demo", write_sweep(tmp_path / "other", "transformer"))
    assert page.headings == ["Sweeps", "By model", "Ranking", "Seeds"]
    ranking = page.section("ranking")
    rows = ranking[ranking.index("<tbody") :].split("<tr")[1:]
    assert len(rows) == 8
    assert rows[0].index("fusion") < rows[0].index("demo")
    assert sum('data-label="Sweep">other<' in row for row in rows) == 1
    assert "is undecided" in page.section("sweeps")  # one has a verdict
    assert "this sweep has no verdict" in page.section("sweeps")


def test_seeds_share_one_axis_only_if_they_may_be_compared(tmp_path):
    one = write_sweep(tmp_path / "one")
    far = write_sweep(tmp_path / "far")
    for record in read_records(SweepFolder(far)).values():
        metrics = {"val_roc_auc": record.metrics["val_roc_auc"] - 0.3}
        write_record(SweepFolder(far), record.model_copy(update={"metrics": metrics}))
    axes = compared(one, far).section("seeds").split('class="strip-axis"')[1:]
    assert len({axis.split("</svg>")[0] for axis in axes}) == 1
    for record in read_records(SweepFolder(far)).values():
        write_record(SweepFolder(far), record.model_copy(update={"data_fingerprint": "zzzz"}))
    axes = compared(one, far).section("seeds").split('class="strip-axis"')[1:]
    assert len({axis.split("</svg>")[0] for axis in axes}) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data_fingerprint": "zzzz"}, "The data fingerprints differ"),
        ({"objective": "val_loss"}, "The objectives differ (one: val_roc_auc; two: val_loss)"),
    ],
)
def test_other_data_or_objectives_are_told_and_not_ranked(tmp_path, changes, told):
    page = compared(write_sweep(tmp_path / "one"), write_sweep(tmp_path / "two", **changes))
    assert told in page.text
    assert "Not to be ranked together" in page.text
    assert page.headings == ["Sweeps", "By model", "Seeds"]


def test_other_code_is_shown_and_ranked(tmp_path):
    newer = write_sweep(tmp_path / "two", code_version="newer")
    page = compared(write_sweep(tmp_path / "one"), newer)
    assert "Ranking" in page.headings
    assert "newer" in page.section("sweeps")


def test_a_minimised_objective_is_ranked_upwards(tmp_path):
    one = write_sweep(tmp_path / "one", objective="val_loss")
    two = write_sweep(tmp_path / "two", objective="val_loss")
    for record in read_records(SweepFolder(two)).values():
        metrics = {"val_loss": record.metrics["val_loss"] - 0.3}
        write_record(SweepFolder(two), record.model_copy(update={"metrics": metrics}))
    ranking = compared(one, two).section("ranking")
    assert ranking.index('data-label="Sweep">two<') < ranking.index('data-label="Sweep">one<')


def test_sweeps_of_one_name_are_told_apart(tmp_path):
    page = compared(write_sweep(tmp_path / "a" / "s"), write_sweep(tmp_path / "b" / "s", "fusion"))
    assert "s (1)" in page.text
    assert "s (2)" in page.text


def test_a_sweep_without_a_result_can_be_compared(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "sweep.yaml").write_text("name: empty\nobjective: val_roc_auc\n")
    assert "No model has finished" in compared(write_sweep(tmp_path / "one"), empty).text


def test_a_folder_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no sweep \(no sweep\.yaml\)"):
        write_comparison([write_sweep(tmp_path / "one"), tmp_path], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_command_compares_and_prints_ascii(tmp_path, capsys):
    one, two = write_sweep(tmp_path / "one"), write_sweep(tmp_path / "two", "fusion")
    page = tmp_path / "new" / "page.html"
    assert main(["report", str(one), str(two), "--html", str(page)]) == 0
    printed = capsys.readouterr().out
    assert printed.replace(str(tmp_path), "").isascii()  # the place is the user's own word
    assert printed.splitlines()[-1] == str(page)
    assert {"gnn", "fusion"} <= set(printed.split())
    assert "Sweeps compared" in page.read_text(encoding="utf-8")
    assert not (one / "report.html").exists()


def test_several_folders_without_a_page_are_tables_only(tmp_path, capsys):
    one, two = write_sweep(tmp_path / "one"), write_sweep(tmp_path / "two")
    assert main(["report", str(one), str(two)]) == 0
    assert not list(tmp_path.rglob("*.html"))
    assert capsys.readouterr().out.count("mean of 3") == 2


def test_one_sweeps_page_goes_where_it_is_wanted(tmp_path, capsys):
    one, page = write_sweep(tmp_path / "one"), tmp_path / "page.html"
    assert main(["report", str(one), "--html", str(page)]) == 0
    assert page.exists()
    assert not (one / "report.html").exists()
    assert main(["report", str(one)]) == 0
    assert (one / "report.html").read_bytes() == page.read_bytes()


def test_the_same_sweep_twice_counts_once_in_the_tables(tmp_path, capsys):
    one = write_sweep(tmp_path / "one")
    assert main(["report", str(one), str(one)]) == 0
    twice = capsys.readouterr().out
    assert main(["report", str(one)]) == 0
    assert capsys.readouterr().out.startswith(twice.rstrip("\n"))


def test_case_57_sweeps_of_other_arithmetic_are_ranked_with_a_warning(tmp_path):
    one = write_sweep(tmp_path / "one", environment={"device": "cpu", "precision": "fp32"})
    gpu = {"device": "cuda", "device_name": "H100", "precision": "bf16"}
    two = write_sweep(tmp_path / "two", environment=gpu)
    section = compared(one, two).section("sweeps")
    assert "gnn was not always trained alike: sweep one in fp32, sweep two in bf16." in section
    assert "sweep one on a CPU, sweep two on H100." in section
    three = write_sweep(tmp_path / "three", environment=gpu)
    assert "trained alike" not in compared(two, three).section("sweeps")
