import os

import numpy as np
import pytest
import torch

from sg_ray.training.seeding import (
    Seeds,
    allow_nondeterminism,
    determinism,
    deterministic,
    nondeterministic_operation,
    numpy_stream,
    seed_name,
    stream_seed,
    torch_stream,
)


def test_streams_differ_by_seed_name_and_position():
    addresses = [(1, "init"), (1, "order"), (2, "init"), (1, "order", 1), (1, "order", 2)]
    addresses += [(1, "dropout", 1, 12), (1, "dropout", 11, 2), (11, "order")]
    assert len({stream_seed(*address) for address in addresses}) == len(addresses)


def test_stream_seed_is_the_same_in_every_process_and_fits_torch():
    assert stream_seed(42, "init") == 7920988386951094333
    assert 0 <= stream_seed(7, "order", 3) < 2**63


def test_streams_take_the_seed_unless_they_have_their_own():
    alike, varied = Seeds(42), Seeds(42, {"order": 7})
    assert (alike.init, alike.order, alike.dropout) == (42, 42, 42)
    assert (varied.init, varied.order, varied.dropout) == (42, 7, 42)


def test_seeds_of_single_streams_are_named_in_one_order():
    assert seed_name(42, {}) == "seed42"
    assert seed_name(42, {"dropout": 1, "init": 7}) == "seed42-init7-dropout1"


def test_numpy_stream_starts_anew_each_time():
    first, second = numpy_stream(3, "order", 1), numpy_stream(3, "order", 1)
    first.random(5)
    np.testing.assert_array_equal(second.permutation(9), numpy_stream(3, "order", 1).permutation(9))


def test_torch_stream_leaves_the_global_generator_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with torch_stream(1, "init"):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with torch_stream(1, "init"):
        assert torch.equal(torch.rand(3), first)


def refused_by_strict_mode() -> torch.Tensor:
    return torch.zeros(3).put_(torch.tensor([0, 1]), torch.ones(2))


def test_strict_mode_refuses_what_is_not_deterministic(unchanged_mode, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    deterministic(2)
    assert torch.get_num_threads() == 2
    assert determinism() == "strict"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.backends.cudnn.benchmark
    assert not torch.utils.deterministic.fill_uninitialized_memory
    with pytest.raises(RuntimeError) as raised:
        refused_by_strict_mode()
    assert nondeterministic_operation(raised.value) == "put_"
    assert nondeterministic_operation(RuntimeError("shapes do not match")) is None


def test_weak_mode_lets_it_pass_without_a_word(unchanged_mode):
    deterministic(1, strict=False)
    assert determinism() == "weak"
    assert refused_by_strict_mode().tolist() == [1, 1, 0]  # warnings are errors here


def test_the_next_trial_is_strict_again(unchanged_mode, caplog):
    deterministic(1)
    allow_nondeterminism("put_")
    assert determinism() == "weak"
    assert "put_ has no deterministic version" in caplog.text
    deterministic(1)
    assert determinism() == "strict"


def test_no_mode_is_called_off(unchanged_mode):
    torch.use_deterministic_algorithms(False)
    assert determinism() == "off"
