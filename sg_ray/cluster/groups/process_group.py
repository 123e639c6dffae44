"""How the processes of a group find each other, and how long they wait for each other."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.train.torch import TorchConfig
from torch.distributed.distributed_c10d import _set_pg_timeout

from sg_ray.cluster.ray_private.train_tune_names import TorchBackend
from sg_ray.host.stop_flag import hear_signals

SET_UP_TIMEOUT_S = 120
"""A worker that dies while a group is set up is waited for so long; Ray's own is half an hour."""

COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""So long a rank waits for another once they train: the first may write gigabytes to a slow disk,
and waits itself until Tune has copied them. One that has died is noticed by Train, long before."""

_INTERFACE_SETTINGS = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass
class GroupConfig(TorchConfig):
    """Train's own settings of a process group, with which it is set up as below."""

    timeout_s: int = SET_UP_TIMEOUT_S

    @property
    def backend_cls(self) -> type[TorchBackend]:
        """Who sets it up."""
        return GroupBackend


class GroupBackend(TorchBackend):
    """Sets up the process group of the workers; its methods run in Train's controller."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Set it up; if that fails, free what the workers hold.

        Raises RayActorError if a worker has died meanwhile: Train then starts all of them anew.
        """
        try:
            self._set_up(worker_group, backend_config)
        except (RayActorError, RayTaskError):
            # Train forgets a group that fails here: its machines would stay taken.
            worker_group.abort()
            raise

    def _set_up(self, worker_group: Any, backend_config: Any) -> None:
        """Have each worker hear signals and know its way to the others; then join them."""
        worker_group.execute(hear_signals)
        worker_group.execute(use_rays_interface)
        try:
            super().on_start(worker_group, backend_config)
        except RayTaskError:  # of one that waited for another in vain, which Train takes for a bug
            worker_group.execute(answer)
            raise
        worker_group.execute(wait_patiently)


def answer() -> None:
    """Do nothing: who is asked for it, and lives, has answered."""


def use_rays_interface() -> None:
    """Have gloo and NCCL connect by the network interface that has this node's address in Ray.

    Gloo would take the address of the host's name, which on Debian is 127.0.1.1: other nodes then
    look for this one on themselves. An interface that the user has set is left alone.
    """
    interface = next(_interfaces_with(ray.util.get_node_ip_address()), None)
    if interface is not None:
        for name in _INTERFACE_SETTINGS:
            os.environ.setdefault(name, interface)


def wait_patiently() -> None:
    """Have this process wait for the others as long as training may take them."""
    _set_pg_timeout(COLLECTIVE_TIMEOUT)


def _interfaces_with(address: str) -> Iterator[str]:
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] == address for one in addresses):
            yield name
