import shutil
from pathlib import Path

import pytest
import torch
from exported_models import CONFIGS, Workshop
from hostile_paths import hostile_folder


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The number of threads belongs to what decides the bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(hostile_folder(tmp_path_factory.mktemp("workshop")))


@pytest.fixture(scope="session")
def trained(workshop: Workshop) -> dict:
    """Spec and result of one training per name in CONFIGS."""
    alone = {
        name: workshop.train(name, CONFIGS[name]) for name in ("lexical", "transformer", "gnn")
    }
    branches = {name: alone[name][0] for name in ("transformer", "gnn")}
    fusions = {
        name: workshop.train("fusion", CONFIGS[name], branches)
        for name in ("fusion", "fusion-fine-tuned")
    }
    return {**alone, **fusions}


@pytest.fixture
def lexical_model(workshop: Workshop, trained: dict, tmp_path: Path) -> Path:
    return workshop.export(*trained["lexical"], hostile_folder(tmp_path) / "best" / "lexical")


@pytest.fixture
def moved(tmp_path: Path):
    """Moves an exported folder elsewhere, away from everything that it came from."""

    def move(folder: Path) -> Path:
        target = hostile_folder(tmp_path) / "elsewhere" / "model"
        shutil.copytree(folder, target)
        shutil.rmtree(folder)
        return target

    return move
