"""The script for a lent GPU, as far as a CPU shows it: all but CUDA itself."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from without_packages import NOT_ON_A_LENT_GPU, environment_without

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "experiments" / "benchmarks"
SCRIPT = BENCHMARKS / "gpu.py"


@pytest.fixture(autouse=True)
def benchmarks_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def run_script(
    *arguments: str, environment: dict[str, str], folder: Path
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "features.npz"
    code = f"import sys; sys.path[:0] = [{str(BENCHMARKS)!r}, {str(ROOT)!r}]\n"
    code += f"import gpu_pack, pathlib; gpu_pack.pack_synthetic(pathlib.Path({str(path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    return path


@pytest.mark.slow
def test_the_whole_script_runs_where_little_is_installed(packed: Path, tmp_path: Path) -> None:
    environment = environment_without(NOT_ON_A_LENT_GPU, tmp_path)
    small = ("--features", str(packed), "--tiny", "--device", "cpu", "--out", "out.json")
    run = run_script(*small, "--today", str(ROOT), environment=environment, folder=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    results = json.loads((tmp_path / "out.json").read_text())
    assert {
        "codebert-gpu: CodeXGLUE recipe, fp32, padded",
        "codebert-gpu: bf16, padded",
        "codebert-gpu: bf16 matmul, on real tokens",
        "gnn-gpu: today",
        "gnn-gpu: PyG RGCNConv",
        "stacked-seeds-gpu: 2 seeds of fusion, a step of one",
        "stacked-seeds-gpu: 2 seeds of fusion, 2 processes",
    } <= set(results)
    assert all(entry["ours"] > 0 and entry["baseline"] > 0 for entry in results.values())
    assert "GPU busy: skipped: only a GPU has kernels to profile" in run.stdout


@pytest.mark.slow
def test_workers_train_as_a_group(packed: Path, tmp_path: Path) -> None:
    environment = environment_without(NOT_ON_A_LENT_GPU, tmp_path)
    small = ("--features", str(packed), "--tiny", "--device", "cpu", "--workers", "2")
    run = run_script(*small, environment=environment, folder=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 workers, none: ours " in run.stdout


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    environment = environment_without(["pydantic"], tmp_path)
    run = run_script("--tiny", environment=environment, folder=tmp_path)
    assert run.returncode == 2
    assert run.stdout == "gpu.py needs pydantic: python -m pip install pydantic\n"


def test_a_pack_gives_the_features_back(packed: Path) -> None:
    from gpu_pack import TINY_SPLITS, read_pack

    features = read_pack(packed, "of-tokens", "of-graphs")
    assert {split: len(labels) for split, labels in features.labels.items()} == TINY_SPLITS
    tokens, graphs = (features.kinds[key] for key in ("of-tokens", "of-graphs"))
    assert len(tokens.splits["train"]["ids"]) == TINY_SPLITS["train"]
    assert tokens.splits["train"]["ids"][0].max() < tokens.meta["vocab_size"]
    assert set(graphs.splits["valid"]) == {"node_kind", "node_token", "edges", "edge_type"}


def test_the_device_works_where_any_stream_does() -> None:
    from step_rate import read_trace

    events = [
        {"cat": "kernel", "name": "a", "ts": 0.0, "dur": 10.0},
        {"cat": "kernel", "name": "b", "ts": 5.0, "dur": 10.0},
        {"cat": "gpu_memcpy", "name": "c", "ts": 7.0, "dur": 1.0},
        {"cat": "kernel", "name": "d", "ts": 30.0, "dur": 5.0},
        {"cat": "cpu_op", "name": "aten::add", "ts": 0.0, "dur": 100.0},
        {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 0.0, "dur": 1.0},
        {"cat": "cuda_runtime", "name": "cudaGraphLaunch", "ts": 0.0, "dur": 1.0},
        {"cat": "cuda_runtime", "name": "cudaStreamSynchronize", "ts": 0.0, "dur": 1.0},
        {"cat": "cuda_driver", "name": "cuLaunchKernelEx", "ts": 0.0, "dur": 1.0},
    ]
    busy_s, launches = read_trace(events, num_steps=2)
    assert busy_s == pytest.approx(20e-6 / 2)
    assert launches == 1.5


@pytest.mark.parametrize("length", [7, 40])
def test_arithmetic_is_counted_as_torch_counts_it(length: int) -> None:
    from gpu_rows import training_flops
    from torch.utils.flop_counter import FlopCounterMode
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaForSequenceClassification

    settings = RobertaConfig(
        vocab_size=60, num_hidden_layers=3, hidden_size=16, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=64, num_labels=1,
        attn_implementation="eager",
    )  # fmt: skip
    model = RobertaForSequenceClassification(settings)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.full((1, length), 5)).logits.sum().backward()
    own = training_flops(np.array([length]), 3, 16, 2, 24, reads_first=False)
    assert own == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert training_flops(np.array([length]), 3, 16, 2, 24, reads_first=True) < own


def test_tests_for_a_gpu_are_collected_where_little_is_installed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "gpu", "tests"]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=ROOT,
        env=environment_without(NOT_ON_A_LENT_GPU, tmp_path),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    for name in (
        "tests/models/test_conformance.py::test_overfits_eight_samples[gnn-cuda]",
        "test_memory_that_really_runs_out_is_backed_off[transformer-cuda]",
        "test_fp16_goes_through_the_scaler[fusion-cuda]",
        "tests/sweep/test_sweep_on_gpu.py::test_trials_share_a_gpu",
    ):
        assert name in run.stdout
