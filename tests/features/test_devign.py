"""All of Devign, where a copy of it lies at hand."""

import json
import lzma
import os
import time
from pathlib import Path

import numpy as np
import pytest

from sg_ray.data.samples import DataSet, Sample
from sg_ray.features.build import prepare_features
from sg_ray.features.spec import GraphSpec, TokenSpec

PROJECT_ROOT = Path(__file__).parents[2]
NUM_ROWS = {"train": 21_854, "valid": 2_732}


def read_devign() -> DataSet:
    folder = Path(os.environ.get("SG_RAY_DEVIGN", PROJECT_ROOT.parent / "shared" / "devign"))
    if not folder.is_dir():
        pytest.skip(f"no Devign in {folder}; SG_RAY_DEVIGN names its folder")
    return DataSet("devign", {split: read_split(folder, split) for split in NUM_ROWS})


def read_split(folder: Path, split: str) -> list[Sample]:
    with lzma.open(folder / f"{split}.jsonl.xz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Sample(row["func"], row["target"], str(row["idx"])) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("spec", [TokenSpec(), GraphSpec()], ids=lambda spec: spec.kind)
def test_every_function_is_featurised(tmp_path, spec):
    data = read_devign()
    start_s = time.perf_counter()
    features = prepare_features(data, [spec], tmp_path, num_workers=os.cpu_count() or 1)
    took_s = time.perf_counter() - start_s
    first = {"tokens": "ids", "graphs": "node_kind"}[spec.kind]
    for split, num_rows in NUM_ROWS.items():
        lengths = features.split(spec.key, split)[first].lengths
        assert len(lengths) == num_rows
        assert np.all(lengths >= 1)
    num_functions = sum(NUM_ROWS.values())
    print(f"{spec.kind}: {took_s:.1f} s, {num_functions / took_s:.0f} functions/s")
