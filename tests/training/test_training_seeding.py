import numpy as np
import torch

from sg_ray.training.seeding import deterministic, numpy_stream, stream_seed, torch_stream


def test_streams_differ_by_seed_name_and_position():
    addresses = [(1, "init"), (1, "order"), (2, "init"), (1, "order", 1), (1, "order", 2)]
    addresses += [(1, "dropout", 1, 12), (1, "dropout", 11, 2), (11, "order")]
    assert len({stream_seed(*address) for address in addresses}) == len(addresses)


def test_stream_seed_is_the_same_in_every_process_and_fits_torch():
    assert stream_seed(42, "init") == 7920988386951094333
    assert 0 <= stream_seed(7, "order", 3) < 2**63


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


def test_deterministic_sets_threads_and_algorithms():
    threads = torch.get_num_threads()
    try:
        deterministic(2)
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
