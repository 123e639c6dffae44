"""The hub's CodeXGLUE as our files; the hub itself is stood in for by rows in its format."""

from pathlib import Path

import pytest

from sg_ray.data import codexglue
from sg_ray.data.jsonl import read_jsonl, write_jsonl
from sg_ray.data.samples import Sample
from sg_ray.errors import InputError


def hub_rows(split: str) -> list[dict[str, object]]:
    return [
        {"id": 7, "func": f"int {split}() {{}}", "target": True, "project": "p", "commit_id": "c"},
        {"id": 8, "func": f"void {split}() {{}}", "target": False, "project": "p"},
    ]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, object]]]:
    rows = {split: hub_rows(split) for split in ("train", "validation", "test")}
    monkeypatch.setattr(codexglue, "_download", lambda: rows)
    return rows


def test_only_missing_splits_are_written_each_from_its_own(hub: dict, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl.xz", [Sample("int kept() {}", 0, "mine")])
    codexglue.fetch_codexglue(tmp_path)
    read = {
        split: [(s.source, s.label) for s in read_jsonl(tmp_path / f"{split}.jsonl.xz", split)]
        for split in ("train", "valid", "test")
    }
    assert read == {
        "train": [("int kept() {}", 0)],
        "valid": [("int validation() {}", 1), ("void validation() {}", 0)],
        "test": [("int test() {}", 1), ("void test() {}", 0)],
    }


def test_a_row_of_the_hub_that_is_wrong_is_named_and_its_split_not_written(
    hub: dict, tmp_path: Path
) -> None:
    hub["validation"][1]["target"] = 3
    with pytest.raises(InputError, match=r"valid, row 2"):
        codexglue.fetch_codexglue(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"train.jsonl.xz"}
