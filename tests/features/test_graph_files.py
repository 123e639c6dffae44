"""Graphs as one file a function: what is in them, and that an interrupted export goes on."""

import contextlib
import json
import os
import random
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_builds import make_data
from graph_exports import SPEC, export, start_export

from sg_ray.cli import main
from sg_ray.data.jsonl import write_jsonl
from sg_ray.errors import InputError
from sg_ray.features.build import prepare_features
from sg_ray.features.graph_files import export_graphs
from sg_ray.features.kinds import load_featuriser
from sg_ray.features.spec import GraphSpec

NUM_SLOW = 2100
"""Enough functions for worker processes to be used."""


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "graphs"
    export(folder, 60)
    return folder


@pytest.fixture(scope="module")
def slow_reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("slow") / "graphs"
    export(folder, NUM_SLOW)
    return files_in(folder)


def test_each_function_is_a_file_that_pytorch_geometric_reads(
    exported: Path, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it uses torch.jit
        from torch_geometric.data import Data

    data = make_data(60)
    packed = prepare_features(data, [SPEC], tmp_path).kinds[SPEC.key].splits
    for split, samples in data.splits.items():
        for i, sample in enumerate(samples):
            path = exported / split / f"sample_{i:05d}.pt"
            graph = Data(**torch.load(path, weights_only=True))
            assert graph.validate(raise_on_error=True)
            nodes = [packed[split][name][i] for name in ("node_kind", "node_token")]
            np.testing.assert_array_equal(graph.x, np.stack(nodes, axis=1))
            np.testing.assert_array_equal(graph.edge_index.T, packed[split]["edges"][i])
            np.testing.assert_array_equal(graph.edge_type, packed[split]["edge_type"][i])
            assert graph.y.tolist() == [sample.label]
            assert {t.dtype for t in graph.to_dict().values()} == {torch.int64}
    assert len(list(exported.rglob("sample_*.pt"))) == 80


def test_a_file_holds_its_own_graph_only(exported: Path) -> None:
    sizes = [path.stat().st_size for path in (exported / "train").glob("*.pt")]
    assert max(sizes) < 20_000


def test_the_manifest_says_what_the_graphs_are(exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest["complete"] is True
    assert manifest["data_fingerprint"] == make_data(60).fingerprint
    assert manifest["num_graphs"] == {"train": 60, "valid": 20}
    assert manifest["settings"]["max_samples"] is None
    assert manifest["settings"]["spec"]["vocab_size"] == 64
    assert manifest["edge_type_names"][0] == "ast"
    content = torch.load(exported / "train" / "sample_00000.pt", weights_only=True)
    assert content.keys() == manifest["tensors"].keys()
    ids = json.loads((exported / "valid" / "sample_ids.json").read_text())
    assert ids == [sample.sample_id for sample in make_data(60).splits["valid"]]


def test_new_functions_get_the_same_numbers(exported: Path) -> None:
    source = make_data(60).splits["valid"][3].source
    arrays = load_featuriser(exported / "featuriser").encode([source])
    stored = torch.load(exported / "valid" / "sample_00003.pt", weights_only=True)
    np.testing.assert_array_equal(stored["x"][:, 1], arrays["node_token"][0])


def test_workers_write_the_same_bytes(tmp_path: Path, slow_reference: dict[str, bytes]) -> None:
    export(tmp_path, NUM_SLOW, num_workers=2)
    assert files_in(tmp_path) == slow_reference


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_export_goes_on_where_it_was(
    tmp_path: Path, slow_reference: dict[str, bytes], num_workers: int
) -> None:
    folder, rng = tmp_path / "graphs", random.Random(num_workers)
    process = start_export(folder, NUM_SLOW, num_workers)
    while int(process.stdout.readline().split()[0]) < 512:
        pass
    time.sleep(rng.uniform(0, 0.3))
    process.kill()
    process.communicate()
    wait_until_ended(process.pid)
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("sample_*.pt")}
    assert 512 <= len(kept) < NUM_SLOW
    assert json.loads((folder / "manifest.json").read_text())["complete"] is False
    done: list[int] = []
    export(folder, NUM_SLOW, progress=lambda kind, num_done, total: done.append(num_done))
    assert done[0] >= len(kept)
    assert done[-1] == NUM_SLOW + 20
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert files_in(folder) == slow_reference


def wait_until_ended(group: int) -> None:
    """Workers notice that their parent was killed a moment later."""
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(group, 0)
            time.sleep(0.05)


def test_a_damaged_or_missing_file_is_written_again(exported: Path) -> None:
    before = files_in(exported)
    (exported / "train" / "sample_00007.pt").unlink()
    victim = exported / "valid" / "sample_00002.pt"
    victim.write_bytes(victim.read_bytes()[:-30])
    (exported / "valid" / "sample_00003.pt").write_bytes(b"")
    export(exported, 60)
    assert files_in(exported) == before


def test_a_complete_export_is_left_alone(exported: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in exported.rglob("*")}
    done: list[tuple[int, int]] = []
    export(exported, 60, progress=lambda kind, num_done, total: done.append((num_done, total)))
    assert {path: path.stat().st_mtime_ns for path in exported.rglob("*")} == before
    assert done == [(80, 80)]


def test_other_data_or_settings_are_refused_with_the_difference(exported: Path) -> None:
    before = files_in(exported)
    with pytest.raises(InputError, match=r"num_graphs\.train: 60 there, 61 now"):
        export(exported, 61)
    with pytest.raises(InputError, match=r"settings\.spec\.vocab_size: 64 there, 128 now"):
        export_graphs(
            make_data(60), GraphSpec(vocab_size=128), exported, settings={"max_samples": None}
        )
    with pytest.raises(InputError, match=r"settings\.max_samples: None there, 9 now"):
        export_graphs(make_data(60), SPEC, exported, settings={"max_samples": 9})
    assert files_in(exported) == before


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"holds other files and no manifest\.json"):
        export(tmp_path, 60)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match=r"manifest\.json: not a valid manifest"):
        export(tmp_path, 60)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    for split, samples in make_data(60).splits.items():
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", samples)
    return tmp_path / "data"


def graphs(data_dir: Path, out: Path, *options: str) -> int:
    return main(["graphs", "--data", str(data_dir), "--out", str(out), *options])


def test_the_command_writes_files_of_at_most_so_many_functions(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert graphs(data_dir, tmp_path / "out", "--format", "pt", "--max-samples", "30") == 0
    assert "graphs: 50 functions\ntrain: 30 graphs\nvalid: 20 graphs\n" in capsys.readouterr().out
    labels = [
        int(torch.load(path, weights_only=True)["y"])
        for path in (tmp_path / "out" / "train").glob("*.pt")
    ]
    assert (len(labels), sum(labels)) == (30, 15)
    assert graphs(data_dir, tmp_path / "out", "--format", "pt") == 2
    assert "settings.max_samples: 30 there, None now" in capsys.readouterr().err


def test_the_command_writes_packed_arrays_of_at_most_so_many_functions(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert graphs(data_dir, tmp_path / "out", "--max-samples", "30") == 0
    assert "train: 30 graphs\nvalid: 20 graphs\n" in capsys.readouterr().out
    (offsets,) = (tmp_path / "out").rglob("train.node_kind.offsets.npy")
    assert len(np.load(offsets)) == 31


def test_too_few_samples_are_refused(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert graphs(data_dir, tmp_path / "out", "--max-samples", "1") == 2
    assert "--max-samples 1: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
