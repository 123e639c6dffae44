import pytest
import torch

from sg_ray.errors import InputError
from sg_ray.training.precision import resolve_precision

CPU = torch.device("cpu")


def test_auto_on_cpu_is_fp32_without_a_scaler():
    precision = resolve_precision("auto", CPU)
    assert precision.name == "fp32"
    assert not precision.grad_scaler().is_enabled()
    with precision.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_bf16_computes_matrix_products_in_bf16_without_a_scaler():
    precision = resolve_precision("bf16", CPU)
    assert not precision.grad_scaler().is_enabled()
    with precision.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize(("has_bf16", "name"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_cuda_takes_what_the_card_has(monkeypatch, has_bf16, name):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert resolve_precision("auto", torch.device("cuda")).name == name


def test_fp16_on_cpu_is_refused():
    with pytest.raises(InputError, match="fp16 needs a CUDA device"):
        resolve_precision("fp16", CPU)
