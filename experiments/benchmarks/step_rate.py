"""How fast a training steps: samples a second, what the device does meanwhile, what is launched.

Whole trainings are measured, through ``sg_ray.training.loop`` as a trial does it, with
sg-ray of whichever checkout is imported: one epoch, of which the first steps (compiling, capturing,
warming up) are told apart. The device is waited for at both ends of what is timed. On a CPU, where
all is done by this process, its own time counts: what else the machine does is not in it.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from sg_ray.models.family import Classifier, NeuralConfig, SplitData
from sg_ray.training import loop

_KERNELS = {"kernel", "gpu_memcpy", "gpu_memset"}
_LAUNCHES = ("LaunchKernel", "GraphLaunch", "Memcpy", "Memset")
_CALLS = {"cuda_runtime", "cuda_driver"}

StepHook = Callable[[], None]


@dataclass(frozen=True)
class Rate:
    """What was measured. ``busy_s`` is the device's work a step, ``launches`` the calls for it."""

    samples_per_s: float
    step_s: float
    first_steps_s: float
    busy_s: float | None = None
    launches: float | None = None

    @property
    def busy_share(self) -> float | None:
        """Share of a step in which the device works; None where none was profiled."""
        return None if self.busy_s is None else min(1.0, self.busy_s / self.step_s)


@dataclass(frozen=True)
class Training:
    """One training to be timed. ``build`` returns a new model, always the same."""

    build: Callable[[], Classifier]
    train_split: SplitData
    valid_split: SplitData
    config: NeuralConfig
    device: torch.device
    workers: Any = None

    def rate(self, warm_up: int, steps: int, *, profiles: bool = True) -> Rate:
        """Time ``steps`` steps after ``warm_up``; profile a few of another training."""
        watch = _Watch(warm_up, steps, self.device)
        self._run(watch)
        step_s = (watch.end_s - watch.begin_s) / steps
        busy_s = launches = None
        if profiles and self.device.type == "cuda":
            profiler = _Profiler(warm_up, min(steps, 20), self.device)
            self._run(profiler)
            busy_s, launches = profiler.busy_s, profiler.launches
        rate = self.config.batch_size / step_s
        return Rate(rate, step_s, watch.begin_s - watch.started_s, busy_s, launches)

    def stacked_rate(self, num_seeds: int, warm_up: int, steps: int) -> Rate:
        """Time steps of as many seeds trained as one model; a step is one of all of them.

        Raises InputError if the split has no fixed shapes.
        """
        from sg_ray.training.compute import make_compute
        from sg_ray.training.loop import make_training
        from sg_ray.training.seeding import Seeds
        from sg_ray.training.stacked import StackedTraining

        compute = make_compute(self.config, self.device)
        watch = _Watch(warm_up, steps, self.device)
        with TemporaryDirectory() as folder, suppress(loop.Interrupted):
            members = {
                row: make_training(
                    self.build(), self.train_split, self.valid_split, self.config,
                    seeds=Seeds(row), objective="val_roc_auc", folder=Path(folder) / str(row),
                    identity={"seed": row}, compute=compute, is_stacked=True,
                )
                for row in range(num_seeds)
            }  # fmt: skip
            names = [str(row) for row in members]
            for _ in StackedTraining(members, names, self.config, compute).rounds(watch):
                raise RuntimeError(f"only {len(self.train_split.labels)} samples: too few steps")
        step_s = (watch.end_s - watch.begin_s) / steps
        rate = num_seeds * self.config.batch_size / step_s
        return Rate(rate, step_s, watch.begin_s - watch.started_s)

    def _run(self, after_step: Callable[[], bool]) -> None:
        """Train until ``after_step`` says to stop."""
        with TemporaryDirectory() as folder, suppress(loop.Interrupted):
            for _ in self._epochs(Path(folder), after_step):
                raise RuntimeError(f"only {len(self.train_split.labels)} samples: too few steps")

    def _epochs(self, folder: Path, should_stop: Callable[[], bool]) -> Iterable[object]:
        what = self.build(), self.train_split, self.valid_split, self.config
        named: dict[str, Any] = {"objective": "val_roc_auc", "folder": folder, "identity": {}}
        workers = {} if self.workers is None else {"workers": self.workers}
        if not hasattr(loop, "make_training"):  # today's
            named |= {"seed": 1, "device": self.device, "should_stop": should_stop}
            return loop.train(*what, **named, **workers)
        from sg_ray.training.compute import make_compute
        from sg_ray.training.seeding import Seeds

        compute = make_compute(self.config, self.device, **workers)
        training = loop.make_training(*what, seeds=Seeds(1), compute=compute, **named)
        return training.epochs(should_stop)


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _clock(device: torch.device) -> Callable[[], float]:
    return time.process_time if device.type == "cpu" else time.perf_counter


def repeated_rate(
    step: StepHook, batch_size: int, warm_up: int, steps: int, device: torch.device
) -> Rate:
    """Time a step that is a plain function."""
    clock = _clock(device)
    started_s = clock()
    for _ in range(warm_up):
        step()
    wait_for(device)
    begin_s = clock()
    for _ in range(steps):
        step()
    wait_for(device)
    step_s = (clock() - begin_s) / steps
    return Rate(batch_size / step_s, step_s, begin_s - started_s)


def read_trace(events: Iterable[Mapping[str, Any]], num_steps: int) -> tuple[float, float]:
    """Return the seconds that a device worked a step, and the calls a step that gave it work.

    ``events`` are those of a Chrome trace of torch's profiler. What runs at the same time in
    several streams counts once.
    """
    spans, num_launches = [], 0
    for event in events:
        category = event.get("cat")
        if category in _KERNELS:
            spans.append((float(event["ts"]), float(event["ts"]) + float(event["dur"])))
        elif category in _CALLS:
            num_launches += any(word in event["name"] for word in _LAUNCHES)
    busy_us, end = 0.0, float("-inf")
    for begin, until in sorted(spans):
        busy_us += max(0.0, until - max(begin, end))
        end = max(end, until)
    return busy_us / 1e6 / num_steps, num_launches / num_steps


class _Watch:
    """Asked after each step: takes the time after the warm-up, and after what is timed."""

    def __init__(self, warm_up: int, steps: int, device: torch.device) -> None:
        self._first, self._last, self._device = warm_up, warm_up + steps, device
        self._num_steps = 0
        self._clock = _clock(device)
        self.started_s = self._clock()
        self.begin_s = self.end_s = 0.0

    def __call__(self) -> bool:
        """Return whether all steps were taken."""
        self._num_steps += 1
        if self._num_steps == self._first:
            wait_for(self._device)
            self.begin_s = self._clock()
        if self._num_steps == self._last:
            wait_for(self._device)
            self.end_s = self._clock()
        return self._num_steps >= self._last


class _Profiler:
    """Asked after each step: profiles those after the warm-up."""

    def __init__(self, warm_up: int, steps: int, device: torch.device) -> None:
        self._first, self._last, self._device = warm_up, warm_up + steps, device
        self._steps = steps
        self._num_steps = 0
        kinds = torch.profiler.ProfilerActivity
        self._profile = torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA])
        self.busy_s = self.launches = 0.0

    def __call__(self) -> bool:
        """Return whether all steps were taken."""
        self._num_steps += 1
        if self._num_steps == self._first:
            wait_for(self._device)
            self._profile.start()
        if self._num_steps == self._last:
            wait_for(self._device)
            self._profile.stop()
            self._read()
        return self._num_steps >= self._last

    def _read(self) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            self._profile.export_chrome_trace(str(path))
            trace = json.loads(path.read_text(encoding="utf-8"))
        self.busy_s, self.launches = read_trace(trace["traceEvents"], self._steps)
