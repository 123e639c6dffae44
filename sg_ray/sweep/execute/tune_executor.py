"""The executor that a sweep has by default: Ray Tune, on this machine or on a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sg_ray.cluster.admission import any_group, check_before_start
from sg_ray.config import Resources
from sg_ray.host.signals import StopRequest, stopping
from sg_ray.sweep.execute.executor import Execution, Setting
from sg_ray.sweep.execute.worklist import Worklist

LOCAL = "local"
"""The address that starts a Ray of this machine's own."""


@dataclass(frozen=True)
class TuneExecutor:
    """Runs jobs side by side, as many as the cluster at ``address`` has room for."""

    address: str = LOCAL
    is_here: ClassVar[bool] = False

    def check(self, takes: Mapping[str, Resources]) -> None:
        """Raise InputError if no cluster answers, or if no trial or no Ray fits here."""
        check_before_start(takes, self.address)

    def told_at_once(self, takes: Mapping[str, Resources], at_most: int | None) -> str:
        """Return, for the user, how many trials run at once."""
        from sg_ray.cluster.at_once import told_at_once

        return told_at_once(takes, self.address, at_most)

    def execute(self, worklist: Worklist, setting: Setting, stop: StopRequest) -> Execution:
        """Run what the worklist hands out. Inside a process that runs Ray, that one is used."""
        from sg_ray.cluster.session import ray_session  # with Tune that takes seconds
        from sg_ray.sweep.execute.tune_run import run_tune

        groups = any_group(setting.takes)
        with (
            ray_session(self.address, log=setting.folder.ray_log, several_workers=groups),
            stopping(stop),  # Ray has put handlers of its own in place
        ):
            return run_tune(worklist, setting, stop, of_own=self.address == LOCAL)
