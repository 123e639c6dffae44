"""``sg-ray data sample``: a small data set that stands for a large one."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sg_ray.cli import main
from sg_ray.data.jsonl import read_jsonl, write_jsonl
from sg_ray.data.samples import Sample

SIZES = {"train": (300, 100), "valid": (40, 10), "test": (38, 12)}
"""Functions with label 0 and with label 1."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for split, (num_safe, num_vulnerable) in SIZES.items():
        labels = [0] * num_safe + [1] * num_vulnerable
        rows = [Sample(f"int {split}_{n};", y, f"{split}/{n}") for n, y in enumerate(labels)]
        write_jsonl(tmp_path / "source" / f"{split}.jsonl", rows)
    return tmp_path / "source"


def sample(folder: Path | None, out: Path, num: int, *options: str) -> int:
    source = [] if folder is None else [str(folder)]
    return main(["data", "sample", "--num", str(num), "--out", str(out), *options, *source])


def rows_in(folder: Path) -> dict[str, list[Sample]]:
    return {path.stem: read_jsonl(path, path.stem) for path in folder.glob("*.jsonl")}


@pytest.mark.parametrize("num", [6, 7, 50, 499, 500])
def test_a_sample_keeps_the_shares_of_splits_and_labels(
    source: Path, tmp_path: Path, num: int
) -> None:
    assert sample(source, tmp_path / "out", num) == 0
    sampled, whole = rows_in(tmp_path / "out"), rows_in(source)
    assert sum(map(len, sampled.values())) == num
    for split, rows in sampled.items():
        assert rows == [row for row in whole[split] if row in rows], "rows as they were, in order"
        if num >= 50:  # enough for more than the two of each split
            assert len(rows) == pytest.approx(num * len(whole[split]) / 500, abs=1)
        num_by_label = Counter(row.label for row in rows)
        assert min(num_by_label[0], num_by_label[1]) >= 1
        share = SIZES[split][1] / len(whole[split])
        assert num_by_label[1] == pytest.approx(share * len(rows), abs=1)


def test_the_same_seed_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert sample(source, tmp_path / name, 100, "--seed", seed) == 0
    first, again, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc"
    )
    assert set(first) == {"train.jsonl", "valid.jsonl", "test.jsonl"}
    assert first == again != other


def test_without_a_folder_the_built_in_data_is_sampled(tmp_path: Path) -> None:
    assert sample(None, tmp_path / "out", 100) == 0
    sizes = {split: len(rows) for split, rows in rows_in(tmp_path / "out").items()}
    assert sizes == {"train": 80, "valid": 10, "test": 10}


def test_keys_of_a_row_are_kept(source: Path, tmp_path: Path) -> None:
    assert sample(source, tmp_path / "out", 6) == 0
    rows = [json.loads(line) for line in (tmp_path / "out/test.jsonl").read_text().splitlines()]
    assert all(row["func"] == f"int test_{row['idx'].removeprefix('test/')};" for row in rows)


def test_a_split_of_one_label_is_sampled(source: Path, tmp_path: Path) -> None:
    write_jsonl(source / "test.jsonl", [Sample("int only;", 1, "x")])
    assert sample(source, tmp_path / "out", 20) == 0
    assert len(rows_in(tmp_path / "out")["test"]) == 1


@pytest.mark.parametrize("num", [-1, 0, 5, 501])
def test_too_few_and_too_many_are_refused(
    source: Path, tmp_path: Path, num: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(source, tmp_path / "out", num) == 2
    message = f"cannot sample {num} of 500 functions (train 400, valid 50, test 50). Ask for 6 to"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_source_is_never_overwritten(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows_in(source)
    assert sample(source, source / ".." / "source", 10) == 2
    assert "is the folder to sample from" in capsys.readouterr().err
    assert rows_in(source) == before


def test_a_sample_does_not_mix_with_an_earlier_one(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(source, tmp_path / "out", 20) == 0
    (source / "test.jsonl").unlink()
    assert sample(source, tmp_path / "out", 20) == 2
    assert "test.jsonl is there already" in capsys.readouterr().err
