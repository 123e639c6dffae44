from pathlib import Path

import pytest

from sg_ray.cli import main
from sg_ray.data.jsonl import write_jsonl
from sg_ray.data.repeats import Removals, check_splits
from sg_ray.data.samples import Sample


def _rows(*rows: tuple[str, int]) -> list[Sample]:
    return [Sample(source, label, str(number)) for number, (source, label) in enumerate(rows)]


SPLITS = {
    "train": _rows(
        ("int a;", 0),
        ("int   a;\n", 0),  # repeats the first
        ("int b;", 0),
        ("int b;", 1),  # conflicts
        ("int c;", 1),  # in valid too
        ("int d;", 0),  # in test too, with the other label
        ("int e;", 1),
    ),
    "valid": _rows(("int\tc;", 1), ("int v;", 0), ("int v;", 0), ("int w;", 1)),
    "test": _rows(("int d;", 1), ("int w;", 1), ("int t;", 0)),
}


def _sources(splits, split):
    return [sample.source for sample in splits[split]]


def test_everything_is_counted_and_nothing_removed_by_default():
    splits, report = check_splits(SPLITS, Removals())
    assert splits == SPLITS
    assert report.num_duplicates == {"train": 1, "valid": 1, "test": 0}
    assert report.num_conflicts == {"train": 2, "valid": 0, "test": 0}
    assert report.num_leaks == {
        ("train", "valid"): 1,
        ("train", "test"): 1,
        ("valid", "test"): 1,
    }
    assert report.num_removed == {"train": 0, "valid": 0, "test": 0}
    assert report.notes == (
        "train: 1 rows repeat an earlier row; kept (data.remove_duplicates=true removes them)",
        "valid: 1 rows repeat an earlier row; kept (data.remove_duplicates=true removes them)",
        "train: 2 rows have a text that occurs with both labels; "
        "kept (data.remove_conflicts=true removes them)",
        "valid: 1 rows also occur in train; kept (data.remove_leaks=true removes them from train)",
        "test: 1 rows also occur in train; kept (data.remove_leaks=true removes them from train)",
        "test: 1 rows also occur in valid; kept (evaluation splits are never altered for a leak)",
    )


def test_leaks_leave_train_and_never_the_evaluation_splits():
    splits, report = check_splits(SPLITS, Removals(leaks=True))
    assert _sources(splits, "train") == ["int a;", "int   a;\n", "int b;", "int b;", "int e;"]
    assert (splits["valid"], splits["test"]) == (SPLITS["valid"], SPLITS["test"])
    assert report.num_removed == {"train": 2, "valid": 0, "test": 0}
    assert "valid: 1 rows also occur in train; removed from train" in report.notes
    assert "train: 2 rows removed" in report.notes


def test_of_duplicates_the_first_row_is_kept():
    splits, report = check_splits(SPLITS, Removals(duplicates=True))
    assert _sources(splits, "train") == [
        "int a;", "int b;", "int b;", "int c;", "int d;", "int e;",
    ]  # fmt: skip
    assert _sources(splits, "valid") == ["int\tc;", "int v;", "int w;"]
    assert report.num_removed == {"train": 1, "valid": 1, "test": 0}


def test_of_conflicts_no_row_is_kept():
    splits, _ = check_splits(SPLITS, Removals(conflicts=True))
    assert "int b;" not in _sources(splits, "train")
    assert len(splits["train"]) == 5


def test_clean_data_leaves_no_notes():
    clean = {"train": _rows(("int a;", 0)), "valid": _rows(("int b;", 1))}
    _, report = check_splits(clean, Removals(True, True, True))
    assert report.notes == ()


def test_text_that_is_no_utf8_can_be_checked():
    _, report = check_splits({"train": _rows(("\ud800", 0), ("\ud800", 0))}, Removals())
    assert report.num_duplicates == {"train": 1}


def test_the_command_tells_what_it_finds_and_fails_only_of_what_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, samples in SPLITS.items():
        write_jsonl(tmp_path / f"{split}.jsonl", samples)
    assert main(["data", "check", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("repeat", "both labels", "also occur in train"))
    valid = tmp_path / "valid.jsonl"
    valid.write_text(f'{valid.read_text()}{{"func": "int z;"}}\n')
    assert main(["data", "check", str(tmp_path)]) == 2
    assert f"{valid}, line 5: " in capsys.readouterr().err
