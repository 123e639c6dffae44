"""Where tests run: on the CPU, and on CUDA where there is one.

A module that imports from here, and no other, is collected by ``-m gpu`` (see conftest.py). It
imports nothing that a machine with a GPU may lack: Ray, MLflow, a parser, Optuna.
"""

import pytest
import torch

CPU = torch.device("cpu")
CUDA = torch.device("cuda")

GPU_MARKS = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
)
DEVICES = (pytest.param(CPU, id="cpu"), pytest.param(CUDA, id="cuda", marks=GPU_MARKS))

on_every_device = pytest.mark.parametrize("device", DEVICES)
on_cuda = pytest.mark.parametrize("device", DEVICES[1:])
