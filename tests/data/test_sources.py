import gzip
import json
import os
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from sg_ray.data.codexglue import fetch_codexglue
from sg_ray.data.jsonl import read_jsonl, write_jsonl
from sg_ray.data.samples import Sample
from sg_ray.data.sources import DataConfig, check_paths, load_data, write_folder
from sg_ray.errors import InputError

ROOT = Path(__file__).parents[2]
DEVIGN = Path(os.environ.get("SG_RAY_DEVIGN", ROOT.parent / "shared" / "devign"))


def _samples(split: str, num_samples: int = 20) -> list[Sample]:
    """Return functions whose numbers say nothing of their labels."""
    names = [f"{split}_{n ^ (n // 2 % 2)}" for n in range(num_samples)]
    return [Sample(f"int {name};", n % 2, f"{split}-{n}") for n, name in enumerate(names)]


@pytest.fixture
def folder(tmp_path) -> Path:
    for split in ("train", "valid", "test"):
        write_jsonl(tmp_path / f"{split}.jsonl", _samples(split))
    return tmp_path


def test_the_default_is_a_clean_synthetic_set_in_three_splits():
    data = load_data(DataConfig())
    assert {split: len(samples) for split, samples in data.splits.items()} == {
        "train": 3200,
        "valid": 400,
        "test": 400,
    }
    assert data.notes == ()
    assert data.name == "synthetic-4000-seed0"


def test_the_synthetic_set_follows_its_seed():
    first, again, other = (load_data(DataConfig(num_samples=40, seed=seed)) for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_folder_is_read(folder):
    data = load_data(DataConfig(path=folder))
    assert data.splits == {split: _samples(split) for split in ("train", "valid", "test")}
    assert (data.name, data.notes) == (folder.name, ())


def test_a_folder_without_test_has_no_test_split_and_a_note(folder):
    (folder / "test.jsonl").unlink()
    data = load_data(DataConfig(path=folder))
    assert set(data.splits) == {"train", "valid"}
    assert data.notes == ("test: there is no test file, so no test score will be reported",)


def test_val_is_another_name_for_valid(folder):
    text = (folder / "valid.jsonl").read_bytes()
    (folder / "valid.jsonl").unlink()
    (folder / "val.jsonl.gz").write_bytes(gzip.compress(text))
    assert load_data(DataConfig(path=folder)).splits["valid"] == _samples("valid")


@pytest.mark.parametrize("name", ["val.jsonl", "valid.jsonl.xz"])
def test_two_files_for_one_split_are_refused(folder, name):
    write_jsonl(folder / name, _samples("valid"))
    with pytest.raises(InputError, match=r"has valid\.jsonl.* and va.* for the valid split"):
        load_data(DataConfig(path=folder))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_missing_split_is_refused(folder, split):
    (folder / f"{split}.jsonl").unlink()
    with pytest.raises(InputError, match=rf"no {split} split\. Add one of: {split}\.jsonl"):
        load_data(DataConfig(path=folder))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (Path.mkdir, "is no file"),
        (os.mkfifo, "is no file"),
        (lambda path: path.symlink_to("gone"), "is a link to what does not exist"),
        (lambda path: path.symlink_to(path.name), "is a link to what does not exist"),
    ],
)
def test_a_split_that_is_no_file_is_refused_and_never_waited_for(folder, split, make, problem):
    path = folder / f"{split}.jsonl"
    path.unlink()
    make(path)
    with pytest.raises(InputError, match=f"{split}.jsonl {problem}. Put the {split} split there"):
        load_data(DataConfig(path=folder))


def test_a_missing_folder_and_a_file_are_refused(folder):
    with pytest.raises(InputError, match=r"nowhere does not exist"):
        load_data(DataConfig(path=folder / "nowhere"))
    with pytest.raises(InputError, match=r"train\.jsonl is not a folder"):
        load_data(DataConfig(path=folder / "train.jsonl"))


def test_an_empty_test_file_is_refused(folder):
    (folder / "test.jsonl").write_text("")
    with pytest.raises(InputError, match=r"test\.jsonl is empty"):
        load_data(DataConfig(path=folder))


def test_train_needs_both_labels(folder):
    write_jsonl(folder / "train.jsonl", _samples("train")[::2])
    with pytest.raises(InputError, match="every target in train is 0"):
        load_data(DataConfig(path=folder))


def test_an_evaluation_split_of_one_label_gets_a_note(folder):
    write_jsonl(folder / "valid.jsonl", _samples("valid")[1::2])
    notes = load_data(DataConfig(path=folder)).notes
    assert notes == ("valid: every label is 1; scores such as ROC-AUC are undefined on it",)


def test_leaks_are_reported_or_removed_from_train(folder):
    write_jsonl(folder / "valid.jsonl", [*_samples("valid"), *_samples("train")[:3]])
    kept = load_data(DataConfig(path=folder))
    cleaned = load_data(DataConfig(path=folder, remove_leaks=True))
    assert "valid: 3 rows also occur in train" in kept.notes[0]
    assert (len(kept.splits["train"]), len(cleaned.splits["train"])) == (20, 17)
    assert cleaned.splits["valid"] == kept.splits["valid"]


def test_removing_everything_is_refused(folder):
    write_jsonl(folder / "valid.jsonl", _samples("train"))
    with pytest.raises(InputError, match="leaves nothing of train"):
        load_data(DataConfig(path=folder, remove_leaks=True))


def test_limits_are_stratified_and_seeded(folder):
    def load(seed: int):
        limit = {"train": 10, "valid": 4}
        return load_data(DataConfig(path=folder, limit=limit, seed=seed))

    data = load(0)
    assert {split: len(samples) for split, samples in data.splits.items()} == {
        "train": 10,
        "valid": 4,
        "test": 20,
    }
    assert sum(sample.label for sample in data.splits["train"]) == 5
    assert data.fingerprint == load(0).fingerprint != load(1).fingerprint


@pytest.mark.parametrize("source", [{}, {"source": "synthetic"}, {"source": "codexglue"}])
def test_a_given_path_wins_over_the_source(folder, source):
    data = load_data(DataConfig(path=folder, **source))
    assert data.splits["train"] == _samples("train")


@pytest.fixture
def files(folder) -> dict[str, Path]:
    """A file of its own, with a name of its own, for each split."""
    for split in ("train", "valid", "test"):
        (folder / f"{split}.jsonl").rename(folder / f"my_{split}.json")
    return {f"{split}_file": folder / f"my_{split}.json" for split in ("train", "valid", "test")}


def test_single_files_are_read_and_win_over_path_and_source(files):
    data = load_data(DataConfig(path="/nowhere", source="codexglue", **files))
    assert data.splits == {split: _samples(split) for split in ("train", "valid", "test")}
    assert (data.name, data.notes) == ("my_train.json", ())


def test_files_without_test_have_no_test_split_and_a_note(files):
    del files["test_file"]
    data = load_data(DataConfig(**files))
    assert set(data.splits) == {"train", "valid"}
    assert data.notes == ("test: there is no test file, so no test score will be reported",)


def test_files_may_be_packed_and_below_home(files, monkeypatch):
    folder = files["valid_file"].parent
    write_jsonl(folder / "v.jsonl.xz", _samples("valid")[:6])
    monkeypatch.setenv("HOME", str(folder))
    data = load_data(DataConfig(**{**files, "valid_file": "~/v.jsonl.xz"}))
    assert data.splits["valid"] == _samples("valid")[:6]


def test_a_bad_row_of_a_file_is_named_by_file_and_line(files):
    path = files["valid_file"]
    path.write_text(path.read_text() + '{"func": "int f;", "target": 2}\n')
    with pytest.raises(InputError, match=rf"{path}, line 21: target is 2"):
        load_data(DataConfig(**files))


def test_leaks_between_files_are_found(files):
    write_jsonl(files["valid_file"].with_suffix(".jsonl"), _samples("train")[:4])
    data = load_data(
        DataConfig(**{**files, "valid_file": files["valid_file"].with_suffix(".jsonl")})
    )
    assert data.notes[0].startswith("valid: 4 rows also occur in train")


def test_missing_paths_are_named_without_reading_anything(files, tmp_path):
    check_paths(DataConfig(**files))
    check_paths(DataConfig())
    (tmp_path / "broken.jsonl").write_text("not JSON")
    check_paths(DataConfig(**{**files, "valid_file": tmp_path / "broken.jsonl"}))
    for key in files:
        with pytest.raises(InputError, match=rf"data\.{key}: .*nothing\.jsonl does not exist"):
            check_paths(DataConfig(**{**files, key: tmp_path / "nothing.jsonl"}))
    with pytest.raises(InputError, match=r"data\.test_file: .* is not a file"):
        check_paths(DataConfig(**{**files, "test_file": tmp_path}))
    with pytest.raises(InputError, match=r"data\.path: .*nowhere does not exist"):
        check_paths(DataConfig(path=tmp_path / "nowhere"))


def test_a_folder_is_not_mixed_with_what_lies_there(folder):
    with pytest.raises(InputError, match=r"test\.jsonl is there already and would mix"):
        write_folder(folder, {"train": _samples("train"), "valid": _samples("valid")})
    (folder / "test.jsonl").unlink()
    write_folder(folder, {"train": _samples("other"), "valid": _samples("valid")})
    assert load_data(DataConfig(path=folder)).splits["train"] == _samples("other")
    write_jsonl(folder / "val.jsonl.gz", _samples("valid"))
    with pytest.raises(InputError, match=r"val\.jsonl\.gz is there already"):
        write_folder(folder, {"train": _samples("train"), "valid": _samples("valid")})
    assert read_jsonl(folder / "train.jsonl", "train") == _samples("other")


@pytest.mark.parametrize(
    "settings",
    [
        {"source": "files"},
        {"train_file": "a.jsonl"},
        {"valid_file": "a.jsonl", "path": "."},
        {"train_file": "a.jsonl", "test_file": "c.jsonl"},
        {"train_file": "a.jsonl", "valid_file": "a.jsonl"},
        {"source": "path"},
        {"num_samples": 41},
        {"num_samples": 18},
        {"limit": {"train": 1}},
        {"limit": {"dev": 5}},
        {"samples": 5},
        {"source": "devign"},
    ],
)
def test_inconsistent_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        DataConfig(**settings)


def test_settings_survive_a_round_trip(folder):
    files = {"train_file": folder / "a.jsonl", "valid_file": folder / "b.jsonl"}
    for config in (
        DataConfig(),
        DataConfig(path=folder, limit={"train": 10}),
        DataConfig(path=folder, **files),
    ):
        assert DataConfig(**json.loads(config.model_dump_json())) == config


def test_without_a_network_codexglue_says_what_to_put_where(tmp_path, no_network):
    with pytest.raises(InputError) as caught:
        load_data(DataConfig(source="codexglue"), tmp_path)
    message = str(caught.value)
    assert "google/code_x_glue_cc_defect_detection" in message
    assert "train.jsonl, valid.jsonl and test.jsonl" in message
    assert "set data.path=DIR" in message
    assert not (tmp_path / "codexglue").exists()


def test_codexglue_is_downloaded_once(tmp_path, no_network):
    for split in ("train", "valid", "test"):
        write_jsonl(tmp_path / "codexglue" / f"{split}.jsonl.xz", _samples(split))
    fetch_codexglue(tmp_path / "codexglue")
    data = load_data(DataConfig(source="codexglue"), tmp_path)
    assert (data.name, len(data.splits["test"])) == ("codexglue", 20)


@pytest.mark.skipif(not DEVIGN.is_dir(), reason="Devign is not at hand (set SG_RAY_DEVIGN)")
def test_devign_has_its_published_size_and_known_flaws():
    data = load_data(DataConfig(path=DEVIGN))
    assert {split: len(data.splits[split]) for split in ("train", "valid")} == {
        "train": 21_854,
        "valid": 2_732,
    }
    assert sum(sample.label for sample in data.splits["train"]) == 10_018
    assert any(note.startswith("valid: 8 rows also occur in train") for note in data.notes)


@pytest.fixture
def no_network(monkeypatch):
    """Fail every name look-up at once, as on a machine without a network."""

    def fail(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
