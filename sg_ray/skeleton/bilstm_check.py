"""What every family must hold, on a few functions: `pytest` runs it in half a minute."""

from pathlib import Path

import numpy as np
import torch

from sg_ray.data.samples import DataSet
from sg_ray.data.synthetic.generator import generate
from sg_ray.features.build import prepare_features
from sg_ray.models.family import Inputs
from sg_ray.skeleton.bilstm import BiLstm

FAMILY = BiLstm()
CONFIG = BiLstm.Config(hidden_dim=16, max_tokens=64)


def inputs_in(folder: Path) -> Inputs:
    functions = generate(24, seed=0)
    data = DataSet("small", {"train": functions[:16], "valid": functions[16:]})
    return Inputs(prepare_features(data, FAMILY.feature_specs(CONFIG), folder))


def test_a_function_scores_the_same_in_any_company(tmp_path: Path) -> None:
    inputs = inputs_in(tmp_path)
    split = FAMILY.split_data(CONFIG, inputs, "valid")
    model = FAMILY.build(CONFIG, inputs).eval()
    with torch.no_grad():
        together = model(split.collate(np.arange(8)))
        alone = torch.cat([model(split.collate(np.array([i]))) for i in range(8)])
    assert together.shape == (8,)
    torch.testing.assert_close(together, alone)


def test_it_learns_sixteen_functions_by_heart(tmp_path: Path) -> None:
    inputs = inputs_in(tmp_path)
    split = FAMILY.split_data(CONFIG, inputs, "train")
    torch.manual_seed(0)
    model = FAMILY.build(CONFIG, inputs).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    labels = torch.from_numpy(split.labels).float()
    for _ in range(60):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            model(split.collate(np.arange(16))), labels
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1
