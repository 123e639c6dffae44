"""A feature store that a disk has damaged: noticed, also at the same size, and built again."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sg_ray.data.samples import DataSet, Sample
from sg_ray.features.build import prepare_features, store_dir
from sg_ray.features.spec import GraphSpec

SPEC = GraphSpec(vocab_size=64)
DATA = DataSet(
    "toy",
    {
        split: [Sample(f"int f{i}(int n) {{ return n + {i}; }}", i % 2, str(i)) for i in numbers]
        for split, numbers in {"train": range(20), "valid": range(20, 30)}.items()
    },
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    prepare_features(DATA, [SPEC], tmp_path)
    return store_dir(tmp_path, DATA.fingerprint, SPEC)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 0x10
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("damage", [flip_a_byte, cut], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(
    "name", ["train.node_token.values.npy", "valid.edges.offsets.npy", "featuriser.json"]
)
def test_a_damaged_file_is_noticed_and_made_again(
    store: Path,
    tmp_path: Path,
    name: str,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = {path.name: path.read_bytes() for path in store.iterdir()}
    damage(store / name)
    with caplog.at_level(logging.WARNING):
        prepare_features(DATA, [SPEC], tmp_path)
    assert f"{store} cannot be used: {name}" in caplog.text
    assert "building it again" in caplog.text
    assert {path.name: path.read_bytes() for path in store.iterdir()} == whole


def test_a_number_changed_in_the_description_is_noticed(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    meta = json.loads((store / "meta.json").read_text())
    name = next(name for name, value in meta["meta"].items() if isinstance(value, int))
    meta["meta"][name] += 1
    (store / "meta.json").write_text(json.dumps(meta))
    with caplog.at_level(logging.WARNING):
        features = prepare_features(DATA, [SPEC], tmp_path)
    assert "meta.json was changed" in caplog.text
    assert features.kinds[SPEC.key].meta[name] == meta["meta"][name] - 1


def test_a_store_from_before_checksums_is_read(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    meta = json.loads((store / "meta.json").read_text())
    old = {name: value for name, value in meta.items() if name not in ("crc32", "own_hash")}
    (store / "meta.json").write_text(json.dumps(old))
    before = (store / "meta.json").stat().st_mtime_ns
    with caplog.at_level(logging.WARNING):
        features = prepare_features(DATA, [SPEC], tmp_path)
    assert caplog.text == ""
    assert (store / "meta.json").stat().st_mtime_ns == before
    kinds = features.split(SPEC.key, "train")["node_kind"]
    assert np.all(kinds.lengths > 0)
