import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny models lose by threads, above all beside other test processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def unchanged_mode():
    """The process's determinism and threads as they were, after the test."""
    threads = torch.get_num_threads()
    is_on = torch.are_deterministic_algorithms_enabled()
    is_weak = torch.is_deterministic_algorithms_warn_only_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(is_on, warn_only=is_weak)
