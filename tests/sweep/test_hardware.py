"""What hardware suggests, row by row, and that its estimates hold what training really keeps."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sg_ray.config.auto import hardware_line
from sg_ray.config.hardware import (
    CPU_TOKENS,
    MB_PER_TOKEN,
    MIN_TOKENS,
    NODES_PER_TOKEN,
    STATE_GB,
    cpus_beside,
    describe,
    profile_of,
    this_machine,
)
from sg_ray.data.sources import DataConfig, load_data
from sg_ray.features.build import prepare_features
from sg_ray.features.spec import GraphSpec
from sg_ray.models.families import get_family
from sg_ray.models.family import Inputs

GPUS = {
    # name: (memory in GB as torch reports it, precision, batch, tokens, CPUs)
    "NVIDIA H200": (150.0, "bf16", 64, 131_072, 8),
    "NVIDIA H100 80GB HBM3": (85.0, "bf16", 64, 65_536, 8),
    "NVIDIA A100-SXM4-80GB": (85.0, "bf16", 64, 65_536, 8),
    "NVIDIA A100-SXM4-40GB": (42.4, "bf16", 64, 32_768, 8),
    "NVIDIA GeForce RTX 4090": (25.3, "bf16", 32, 16_384, 4),
    "NVIDIA L4": (23.7, "bf16", 32, 16_384, 4),
    "Tesla V100-SXM2-32GB": (34.1, "fp16", 32, 16_384, 4),
    "Tesla V100-SXM2-16GB": (16.9, "fp16", 32, 8_192, 4),
    "Tesla T4": (15.6, "fp16", 32, 8_192, 4),
    "NVIDIA GeForce RTX 2080 Ti": (11.5, "fp16", 32, 2_048, 2),
    "NVIDIA GeForce GTX 1650": (4.2, "fp16", 32, 1_024, 2),
}


@pytest.mark.parametrize("name", GPUS)
def test_every_gpu_has_its_row(name: str) -> None:
    memory_gb, precision, batch_size, tokens, cpus = GPUS[name]
    profile = profile_of(name, memory_gb)
    transformer = profile.budget("transformer")
    assert (profile.precision, profile.cpus) == (precision, cpus)
    assert (transformer.batch_size, transformer.max_units_per_micro_batch) == (batch_size, tokens)
    assert profile.budget("gnn").max_units_per_micro_batch == NODES_PER_TOKEN * tokens
    assert profile.budget("fusion").max_units_per_micro_batch == tokens
    assert profile.budget("a family of yours").max_units_per_micro_batch == tokens
    fits = STATE_GB + tokens * MB_PER_TOKEN / 1000 < memory_gb
    assert fits or tokens == MIN_TOKENS


def test_without_a_gpu_there_is_the_cpu() -> None:
    profile = profile_of(None, None)
    assert (profile.device_name, profile.precision, profile.cpus) == ("CPU", "fp32", 1)
    assert profile.budget("transformer").max_units_per_micro_batch == CPU_TOKENS
    assert this_machine(gpus_per_trial=0) == profile


def test_the_page_has_these_numbers() -> None:
    page = Path(__file__).parents[2] / "docs" / "cluster-and-gpu.md"
    _, _, table = page.read_text(encoding="utf-8").partition("### The numbers of a GPU")
    rows = [line.strip("| ").split(" | ") for line in table.split("\n\n")[2].splitlines()]
    assert len(rows) == 2 + 8
    for memory, *numbers in rows[2:]:
        digits = re.match(r"\d+", memory)
        is_none, memory_gb = memory.startswith("none"), float(digits.group()) if digits else 0.0
        profile = profile_of(None, None) if is_none else profile_of("L", memory_gb)
        told, gnn = profile.budget("transformer"), profile.budget("gnn")
        units = (told.max_units_per_micro_batch, gnn.max_units_per_micro_batch)
        assert [*map(int, numbers)] == [profile.cpus, told.batch_size, *units]
        assert profile.budget("fusion").max_units_per_micro_batch == units[0]


def test_memory_decides_not_the_name() -> None:
    """A slice of a large GPU is a small GPU, and unknown memory the smallest."""
    slice_ = profile_of("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 10.2)
    assert slice_.budget("transformer") == profile_of("other", 10.2).budget("transformer")
    assert slice_.precision == "bf16"
    unknown = profile_of("NVIDIA H200", None)
    assert unknown.budget("transformer").max_units_per_micro_batch == MIN_TOKENS


def test_cpus_leave_room_for_the_trials_on_the_other_gpus() -> None:
    assert cpus_beside(8, num_cpus=96, num_trials=8) == 8
    assert cpus_beside(8, num_cpus=16, num_trials=4) == 4
    assert cpus_beside(8, num_cpus=2, num_trials=4) == 1


def test_a_machine_is_its_smallest_gpu_and_a_share_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [
        SimpleNamespace(name="NVIDIA H200", total_memory=150 * 10**9),
        SimpleNamespace(name="NVIDIA A100-SXM4-80GB", total_memory=85 * 10**9),
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(12)))
    whole, quarter = this_machine(), this_machine(0.25)
    assert describe(whole, ["transformer", "gnn"]) == (
        "hardware: A100-SXM4-80GB: bf16; auto: transformer batch 64, 65,536 tokens at once; "
        "gnn batch 64, 262,144 nodes at once; 6 CPUs a trial"
    )
    of_own = hardware_line(1, ["lexical", "gnn", "not_here"])
    assert of_own == describe(whole, ["gnn"])
    assert quarter.budgets == profile_of("L", 21).budgets
    assert quarter.cpus == 1
    assert this_machine(2).budgets == whole.budgets
    assert this_machine(0) == profile_of(None, None)


def saved_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass, without the parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def codebert_bytes(num_layers: int, num_sequences: int) -> int:
    """What sequences of 400 tokens leave behind, with autocast's copies of the weights."""
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaModel

    # On a CPU attention dropout takes the slow kernel, on a GPU the fused one.
    config = RobertaConfig(
        vocab_size=100, num_hidden_layers=num_layers, attention_probs_dropout_prob=0.0
    )
    model = RobertaModel(config, add_pooling_layer=False).train()
    ids = torch.randint(5, 100, (num_sequences, 400))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, -20:] = False
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return saved_bytes(lambda: model(input_ids=ids, attention_mask=mask)[0], model)


def test_the_estimate_holds_what_codebert_keeps_for_a_token() -> None:
    one, two = (
        (codebert_bytes(num_layers, 2) - codebert_bytes(num_layers, 1)) / 400
        for num_layers in (1, 2)
    )
    megabytes = (one + 11 * (two - one)) / 1e6
    assert 0.7 * MB_PER_TOKEN < megabytes < MB_PER_TOKEN


@pytest.mark.parametrize("layer", ["relational", "gated"])
def test_the_estimate_holds_what_a_large_graph_network_keeps_for_a_node(
    layer: str, tmp_path: Path
) -> None:
    data = load_data(DataConfig(num_samples=40))
    features = prepare_features(data, [GraphSpec()], tmp_path, num_workers=1, progress=None)
    family = get_family("gnn")
    config = family.Config(hidden_dim=256, num_layers=8, layer=layer)
    split = family.split_data(config, Inputs(features), "train")
    model = family.build(config, Inputs(features)).train()
    indices = np.arange(16)
    batch = split.collate(indices)
    num_bytes = saved_bytes(lambda: model(batch), model)
    assert num_bytes / split.units[indices].sum() < 1e6 * MB_PER_TOKEN / NODES_PER_TOKEN
