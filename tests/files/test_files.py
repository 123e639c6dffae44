"""Files survive a kill at any moment, and JSON takes any metric or setting."""

import errno
import json
import os
import random
import stat
import subprocess
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum, IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from repeated_writer import NUM_ROWS

from sg_ray.files import (
    atomic_path,
    content_hash,
    remove_leftovers,
    to_plain,
    write_json,
    write_text,
)

ROOT = Path(__file__).parents[2]
NUM_KILLS = 40
MOST_KILLS = 400


class Colour(Enum):
    RED = "red"
    PATH = Path("a/b")


class Word(StrEnum):
    YES = "yes"


class Level(IntEnum):
    HIGH = 3


class Pair(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True)
class Outcome:
    name: str
    loss: Any


class Settings(BaseModel):
    folder: Path
    rates: tuple[float, ...]


PLAIN = {
    "null": (None, None),
    "true": (True, True),
    "text": ("caf\u00e9 \ud800", "caf\u00e9 \ud800"),
    "large integer": (2**80, 2**80),
    "NaN": (float("nan"), None),
    "infinities": ([float("inf"), -float("inf")], [None, None]),
    "path": (Path("a/b.c"), "a/b.c"),
    "pure path": (PurePosixPath("/a"), "/a"),
    "enum": (Colour.RED, "red"),
    "enum of a path": (Colour.PATH, "a/b"),
    "enum of texts": (Word.YES, "yes"),
    "enum of integers": (Level.HIGH, 3),
    "named tuple": (Pair(0.5, 1.0), [0.5, 1.0]),
    "set": ({10, 9, 2}, [2, 9, 10]),
    "set of several types": (frozenset({"b", 2, None}), ["b", 2, None]),
    "set of dataclasses": ({Outcome("b", 1), Outcome("a", 2)}, [
        {"name": "b", "loss": 1}, {"name": "a", "loss": 2},
    ]),
    "mapping": (OrderedDict({1: "a", Path("b"): 2, Word.YES: {}}), {"1": "a", "b": 2, "yes": {}}),
    "dataclass": (Outcome("a", torch.tensor(0.5)), {"name": "a", "loss": 0.5}),
    "pydantic": (Settings(folder=Path("x"), rates=(1, 2)), {"folder": "x", "rates": [1.0, 2.0]}),
    "date": (date(2025, 11, 23), "2025-11-23"),
    "time": (datetime(2025, 11, 23, 8, 5, tzinfo=UTC), "2025-11-23T08:05:00+00:00"),
    "numpy float": (np.float32(0.5), 0.5),
    "numpy NaN": (np.float64("nan"), None),
    "numpy integer": (np.int16(7), 7),
    "numpy truth": (np.bool_(True), True),
    "numpy text": (np.str_("a"), "a"),
    "numpy array": (np.array([[1, 2], [3, 4]], dtype=np.uint8), [[1, 2], [3, 4]]),
    "numpy array with a gap": (np.array([1.0, np.nan]), [1.0, None]),
    "numpy array without dimensions": (np.array(3), 3),
    "numpy array of truths": (np.array([True, False]), [True, False]),
    "tensor without dimensions": (torch.tensor(3), 3),
    "tensor": (torch.tensor([[0.5], [float("inf")]]), [[0.5], [None]]),
    "tensor of truths": (torch.tensor([True]), [True]),
    "bfloat16 tensor": (torch.tensor([0.5, 2.0], dtype=torch.bfloat16), [0.5, 2.0]),
    "tensor with a gradient": (torch.tensor(1.5, requires_grad=True), 1.5),
    "part of a graph": (torch.ones(2, requires_grad=True) * 2, [2.0, 2.0]),
    "empty tensor": (torch.zeros(0, 3), []),
}  # fmt: skip


@pytest.mark.parametrize(("value", "plain"), PLAIN.values(), ids=PLAIN)
def test_any_metric_or_setting_is_written_as_strict_json(
    tmp_path: Path, value: Any, plain: Any
) -> None:
    write_json(tmp_path / "a.json", {"value": value})
    text = (tmp_path / "a.json").read_text(encoding="ascii")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert json.loads(text, parse_constant=refuse) == {"value": plain}
    assert _types(to_plain(value)) <= {dict, list, str, int, float, bool, type(None)}


def _types(value: Any) -> set[type]:
    """Exact types: a subclass may write itself in its own way."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {type(value)}.union(*(_types(item) for item in inner))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_tensors_on_a_gpu_are_written() -> None:
    assert to_plain(torch.tensor([1.5], device="cuda", requires_grad=True)) == [1.5]


MEANINGLESS = {
    "bytes": (b"a", "bytes"),
    "complex number": (1j, "complex"),
    "complex tensor": (torch.tensor(1j), "complex"),
    "tensor without values": (torch.empty(2, device="meta"), "Tensor"),
    "sparse tensor": (torch.eye(2).to_sparse(), "Tensor"),
    "duration": (timedelta(seconds=1), "timedelta"),
    "numpy duration": (np.timedelta64(1, "ns"), "timedelta64"),
    "numpy time": (np.datetime64("2025-11-23", "ns"), "datetime64"),
    "class": (dict, "type"),
    "dataclass itself": (Outcome, "type"),
    "pydantic model itself": (Settings, "ModelMetaclass"),
    "function": (len, "builtin_function_or_method"),
    "generator": ((i for i in ()), "generator"),
}


@pytest.mark.parametrize(("value", "name"), MEANINGLESS.values(), ids=MEANINGLESS)
def test_what_has_no_meaning_in_json_is_refused_by_place(
    tmp_path: Path, value: Any, name: str
) -> None:
    with pytest.raises(TypeError, match=rf"cannot write {name} .*\(at metrics\.curve\[1\]\)"):
        write_json(tmp_path / "a.json", {"metrics": {"curve": [0, value]}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mapping", [{1: "a", "1": "b"}, {Path("a"): 1, "a": 2}])
def test_keys_that_would_be_one_are_refused(mapping: dict[Any, Any]) -> None:
    with pytest.raises(TypeError, match=r"two keys that both read .* \(at inner\)"):
        to_plain({"inner": mapping})


@pytest.mark.parametrize("key", [None, ("a", 1), float("nan")])
def test_keys_that_are_no_names_are_refused(key: Any) -> None:
    with pytest.raises(TypeError, match="cannot write a key of type"):
        to_plain({key: 1})


def test_equal_content_has_an_equal_hash() -> None:
    assert content_hash({"b": {2, 1}, "a": np.float32(0.5)}) == content_hash(
        {"a": 0.5, "b": [1, 2]}
    )
    assert content_hash({"a": 1}) != content_hash({"a": 2})


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_file_killed_at_any_moment_is_absent_or_whole(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "a.json"
    numbers = []
    for kill in range(MOST_KILLS):
        if kill >= NUM_KILLS and list(tmp_path.glob(".*.tmp")):  # one came during a write
            break
        num_left = len(list(tmp_path.glob(".*.tmp")))
        waits = kill % 4 > 0  # the others are killed while the first file may not be there yet
        _kill_writer(path, waits, rng.uniform(0, 0.1))
        assert len(list(tmp_path.glob(".*.tmp"))) <= num_left + 1
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            assert content["rows"] == [f"row {content['number']}"] * NUM_ROWS
            numbers.append(content["number"])
        if kill % 10 == 9:
            path.unlink(missing_ok=True)
    assert len(set(numbers)) > 1
    assert len(list(tmp_path.glob(".*.tmp"))) > 0, "no kill came during a write"
    remove_leftovers(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"a.json"}


def _kill_writer(path: Path, waits: bool, delay_s: float) -> None:
    process = subprocess.Popen(
        [sys.executable, ROOT / "tests/files/repeated_writer.py", path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    if waits:
        process.stdout.readline()
    time.sleep(delay_s)
    process.kill()
    process.communicate()


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    write_text(tmp_path / "b" / "kept.tmp", "")
    with atomic_path(tmp_path / "b" / "own.json") as living:
        own = f"-{os.getpid()}."
        assert own in living.name
        dead = living.with_name(living.name.replace(own, f"-{_dead_pid()}."))
        dead.touch()
        assert remove_leftovers(tmp_path) == 1
        assert not dead.exists()
        assert living.exists()
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["kept.tmp", "own.json"]


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_of_another_host_go_after_a_day(tmp_path: Path) -> None:
    path = tmp_path / f".a.json.00000000-{_dead_pid()}.abc.tmp"
    path.touch()
    assert remove_leftovers(tmp_path) == 0
    two_days_ago_s = time.time() - 2 * 86_400
    os.utime(path, (two_days_ago_s, two_days_ago_s))
    assert remove_leftovers(tmp_path) == 1


def test_files_can_be_read_by_others_as_the_umask_says(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "")
    (tmp_path / "b").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_b25_a_folder_that_cannot_be_synced_fails_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some FUSE mounts; a file that cannot be synced for want of a disk still fails."""
    real, code = os.fsync, errno.EINVAL

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for code in (errno.EINVAL, errno.ENOTSUP):
        write_text(tmp_path / "a", str(code))
        assert (tmp_path / "a").read_text() == str(code)
    code = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_text(tmp_path / "b", "")


def test_b25_writing_leaves_the_umask_of_other_threads_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def umask(mask: int) -> int:
        raise AssertionError("the umask is the whole process's")

    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "umask", umask)
            write_text(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
