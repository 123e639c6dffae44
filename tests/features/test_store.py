import fcntl
import logging

import numpy as np
import pytest

from sg_ray.features.packed import FeatureKind, Ragged
from sg_ray.features.store import UnusableStoreError, building, read_kind, write_kind

DESCRIPTION = {"kind": "toy", "version": 1}
RAGGED = Ragged.pack([np.array([[1, 2]]), np.zeros((0, 2), dtype=int), np.array([[3, 4], [5, 6]])])
EMPTY = Ragged(np.zeros((0, 2), dtype=np.uint8), np.zeros(1, dtype=np.int64))
KIND = FeatureKind({"size": 7}, {"train": {"pairs": RAGGED}, "valid": {"pairs": EMPTY}})


def never(folder):
    return False


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "toy-1"


def build(folder):
    with building(folder, is_good=never) as temporary:
        (temporary / "state.txt").write_text("fitted", encoding="utf-8")
        write_kind(temporary, KIND, DESCRIPTION)


def test_what_was_written_is_read_back_mapped_and_read_only(folder):
    build(folder)
    kind = read_kind(folder, DESCRIPTION)
    pairs = kind.splits["train"]["pairs"]
    assert [pairs[i].tolist() for i in range(3)] == [[[1, 2]], [], [[3, 4], [5, 6]]]
    assert type(pairs.values) is np.ndarray
    assert isinstance(pairs.values.base, np.memmap)
    assert not pairs.values.flags.writeable
    empty = kind.splits["valid"]["pairs"].values
    assert (empty.shape, empty.dtype) == ((0, 2), np.uint8)
    assert kind.meta == {"size": 7}


def test_nothing_but_the_store_is_left(folder):
    build(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["toy-1"]


def test_no_folder_is_not_a_damaged_one(folder):
    with pytest.raises(FileNotFoundError):
        read_kind(folder, DESCRIPTION)


@pytest.mark.parametrize(
    "name", ["train.pairs.values.npy", "train.pairs.offsets.npy", "state.txt", "meta.json"]
)
@pytest.mark.parametrize("damage", ["cut", "gone", "longer"])
def test_damage_is_noticed(folder, name, damage):
    build(folder)
    content = (folder / name).read_bytes()
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content[:-3] if damage == "cut" else content + b"xyz")
    with pytest.raises(UnusableStoreError, match="cannot be used"):
        read_kind(folder, DESCRIPTION)


def test_offsets_of_other_values_are_noticed(folder):
    build(folder)
    np.save(folder / "train.pairs.offsets.npy", np.array([0, 1, 1, 4]))
    with pytest.raises(UnusableStoreError, match="do not match"):
        read_kind(folder, DESCRIPTION)


@pytest.mark.parametrize("text", ["", "[]", '{"description": {"kind": "toy", "version": 1}}'])
def test_meta_without_content_is_noticed(folder, text):
    build(folder)
    (folder / "meta.json").write_text(text, encoding="utf-8")
    with pytest.raises(UnusableStoreError):
        read_kind(folder, DESCRIPTION)


def test_store_of_another_version_is_not_read(folder):
    build(folder)
    with pytest.raises(UnusableStoreError, match="other"):
        read_kind(folder, DESCRIPTION | {"version": 2})


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failed_build_leaves_nothing(folder, error):
    def fail():
        with building(folder, is_good=never) as temporary:
            (temporary / "state.txt").write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        fail()
    assert list(folder.parent.iterdir()) == []


def test_faster_build_is_kept_if_good(folder):
    with building(folder, is_good=lambda found: True) as temporary:
        write_kind(temporary, FeatureKind({"size": 0}, {}), DESCRIPTION)
        build(folder)
    assert read_kind(folder, DESCRIPTION).meta == {"size": 7}


def test_bad_folder_in_the_place_is_replaced(folder):
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text("half", encoding="utf-8")
    build(folder)
    assert read_kind(folder, DESCRIPTION).meta == {"size": 7}
    assert [path.name for path in folder.parent.iterdir()] == ["toy-1"]


def test_dead_build_is_removed_and_a_living_one_is_not(folder, caplog):
    caplog.set_level(logging.DEBUG)
    dead = folder.parent / ".toy-1.abc.building"
    (dead / "new").mkdir(parents=True)
    (folder.parent / ".toy-1.abc.lock").touch()
    with building(folder, is_good=never) as living:
        assert not dead.exists()
        build(folder)
        assert living.is_dir()
        write_kind(living, KIND, DESCRIPTION)
    assert [path.name for path in folder.parent.iterdir()] == ["toy-1"]


def test_the_locked_build_of_another_process_is_left_alone(folder):
    other = folder.parent / ".toy-1.abc.building"
    (other / "new").mkdir(parents=True)
    with other.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build(folder)
        assert (other / "new").is_dir()
    build(folder)
    assert not other.exists()
