"""How the workers of a group find each other, and how long they wait."""

import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import ray
import torch.distributed as dist

from sg_ray.cluster.groups import process_group
from sg_ray.cluster.groups.process_group import SET_UP_TIMEOUT_S, use_rays_interface, wait_patiently

NAMES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    store = f"file://{tmp_path / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def addresses() -> list[tuple[str, str]]:
    """Every interface of this machine with its first IPv4 address."""
    found = psutil.net_if_addrs().items()
    return [
        (name, next(one.address for one in all_of_it if one.family == socket.AF_INET))
        for name, all_of_it in found
        if any(one.family == socket.AF_INET for one in all_of_it)
    ]


def test_gloo_and_nccl_use_the_interface_that_ray_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    for interface, address in addresses():
        monkeypatch.setattr(ray.util, "get_node_ip_address", lambda address=address: address)
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        use_rays_interface()
        assert [os.environ[name] for name in NAMES] == [interface] * 2


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    interface, address = addresses()[0]
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: address)
    monkeypatch.setenv(NAMES[0], "ib0")
    use_rays_interface()
    assert [os.environ[name] for name in NAMES] == ["ib0", interface]


def test_an_address_of_no_interface_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "192.0.2.1")
    use_rays_interface()
    assert not set(NAMES) & os.environ.keys()


@pytest.mark.usefixtures("group_of_one")
def test_ranks_that_train_wait_longer_than_ranks_that_are_set_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert SET_UP_TIMEOUT_S == 120
    group = dist.distributed_c10d._get_default_group()
    set_to: list[timedelta] = []
    gloo = type(group._get_backend(group._device_types[0]))
    set_timeout = gloo._set_default_timeout
    monkeypatch.setattr(
        gloo,
        "_set_default_timeout",
        lambda backend, timeout: (set_to.append(timeout), set_timeout(backend, timeout)),
    )
    wait_patiently()
    assert set_to == [process_group.COLLECTIVE_TIMEOUT]
    assert timedelta(minutes=30) <= process_group.COLLECTIVE_TIMEOUT
