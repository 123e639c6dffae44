"""The executor that a sweep has by default: Ray Tune, on this machine or on a cluster."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from sg_ray.cluster.chosen_address import LOCAL
from sg_ray.cluster.placing.admission import any_group, check_before_start
from sg_ray.config import Resources
from sg_ray.host.cpus import count_cpus
from sg_ray.host.processes import ender
from sg_ray.host.scratch import remove_scratch
from sg_ray.host.signals import StopRequest
from sg_ray.sweep.execute.executor import Execution, Setting
from sg_ray.sweep.execute.worklist import Worklist


class TuneExecutor:
    """Runs jobs side by side, as many as the cluster at ``address`` has room for."""

    is_here = False
    _end_at_once: Callable[[], None]

    def __init__(self, address: str = LOCAL) -> None:
        self.address = address
        self._ray = ExitStack()
        """Holds Ray, from its begin on."""
        self._wait: Callable[[], None] | None = None
        """Waits until Ray is there; None if it has not begun."""

    @property
    def has_joined(self) -> bool:
        """Whether there is a cluster that somebody else has started."""
        return self.address != LOCAL

    def check(self, takes: Mapping[str, Resources]) -> None:
        """Raise InputError if no cluster answers, or if no trial or no Ray fits here."""
        check_before_start(takes, self.address)

    def machines(self) -> str:
        """Say which machines the trials run on. Raises InputError if no cluster answers."""
        if not self.has_joined:
            return f"machines: this one ({count_cpus()})"
        from sg_ray.cluster.ray_address import describe_cluster

        return f"machines: cluster at {describe_cluster(self.address)}"

    def told_at_once(self, takes: Mapping[str, Resources], at_most: int | None) -> str:
        """Return, for the user, how many trials run at once."""
        from sg_ray.cluster.placing.at_once import told_at_once

        return told_at_once(takes, self.address, at_most)

    def begin(self, takes: Mapping[str, Resources], log: Path) -> None:
        """Have a Ray of this machine's own start while something else is done; a cluster waits."""
        if not self.has_joined:
            self._begin(takes, log)

    def _begin(self, takes: Mapping[str, Resources], log: Path) -> None:
        """Start Ray, or join a cluster."""
        from sg_ray.cluster.session import starting_ray

        self._end_at_once = ender()
        session = starting_ray(self.address, log=log, several_workers=any_group(takes))
        self._wait = self._ray.enter_context(session)

    def execute(self, worklist: Worklist, setting: Setting, stop: StopRequest) -> Execution:
        """Run what the worklist hands out. Inside a process that runs Ray, that one is used.

        After a stop Ray is left until ``close``: to end it takes seconds, which may be all there
        are to write down how the sweep ended.
        """
        if self._wait is None:
            self._begin(setting.takes, setting.folder.ray_log)
        assert self._wait is not None
        wait, self._wait = self._wait, None
        stop.at_once = self._end_at_once
        with self._ray.pop_all() as stack:
            from sg_ray.sweep.execute.tune_run import run_tune  # with Tune that takes a second

            wait()
            stop.hear()  # Ray has put handlers of its own in place
            execution = run_tune(worklist, setting, stop, of_own=not self.has_joined)
            if not execution.is_finished:
                self._ray = stack.pop_all()
        return execution

    def close(self) -> None:
        """End Ray, if it is left, and remove what its processes kept on this machine."""
        self._wait = None
        with self._ray.pop_all():
            pass
        remove_scratch()
