"""Fixtures that every area shares, and what the whole test process needs set.

The environment is set before any test imports torch, Ray or the Hugging Face hub, which read it
once. Worker processes of Ray inherit it.
"""

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

os.environ.update(
    OMP_NUM_THREADS="1",  # one torch thread: small models lose by more
    HF_HUB_OFFLINE="1",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_AUTH_MODE="disabled",  # else Ray writes a token file into the home folder
    RAY_prestart_worker_first_driver="0",
)
os.environ.pop("RAY_ADDRESS", None)  # a cluster that somebody uses is no place for tests
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so; commands under test would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m gpu`` import the modules alone that have such tests, and their folders' conftests.

    A machine with a GPU may lack what others import.
    """
    if not re.search(r"(?<!not )\bgpu\b", config.getoption("markexpr") or ""):
        return None
    is_folder = collection_path.is_dir()
    modules = collection_path.rglob("test_*.py") if is_folder else [collection_path]
    texts = (module.read_text(encoding="utf-8") for module in modules)
    marks = ("\nfrom devices import", "\n@pytest.mark.gpu")
    return None if any(mark in text for text in texts for mark in marks) else True


@pytest.fixture(autouse=True)
def no_code_of_other_tests() -> Iterator[None]:
    """What a test plugs in, families and metrics of its own, is forgotten with it."""
    yield
    for module, table in (
        ("sg_ray.models.families", "FAMILIES"),
        ("sg_ray.statistics.own_metrics", "OWN_METRICS"),
    ):
        if module in sys.modules:  # a test that needs none of it need not wait for its import
            known = getattr(sys.modules[module], table)
            for names in (known._plugged, getattr(known, "_directions", {})):
                names.clear()


@pytest.fixture(scope="session")
def devign_dir() -> Path:
    """CodeXGLUE defect detection as JSONL, which the project does not ship."""
    return _folder_or_skip("SG_RAY_DEVIGN", ROOT.parent / "shared" / "devign", "train.jsonl*")


@pytest.fixture(scope="session")
def roberta_tokenizer_dir() -> Path:
    """The vocabulary of RoBERTa and CodeBERT, which the project does not ship."""
    default = ROOT.parent / "shared" / "roberta_tokenizer"
    return _folder_or_skip("SG_RAY_ROBERTA_TOKENIZER", default, "vocab.json")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, to be copied: making one takes seconds."""
    from sg_ray.tracking.address import find_address
    from sg_ray.tracking.mlflow_store import MlflowStore

    folder = tmp_path_factory.mktemp("store")
    MlflowStore(find_address("sqlite:///mlflow.db", folder), "template", "none")
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for all tests that need it; starting one takes seconds.

    With the dashboard process, whose state service Train needs to free its workers.
    """
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        object_store_memory=100 * 2**20,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


def _folder_or_skip(variable: str, default: Path, pattern: str) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not any(folder.glob(pattern)):
        pytest.skip(f"no {pattern} in {folder}; name the folder with {variable}")
    return folder
