"""Soak: hundreds of tiny trials in one sweep. Do memory and time per trial grow?

    python experiments/benchmarks/soak.py [--num-trials 500] [--out soak]

Runs a real sweep (Ray, Optuna's journal, MLflow on SQLite) with as many seeds of a tiny graph
network (after those of the lexical floor), and samples the driver's memory whenever one of them is
on record. Prints the slopes over the last four fifths and draws both curves. The baseline beside
them is the first fifth of the same run.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from sg_ray.config import Experiment, load_experiment
from sg_ray.config.yaml_text import write_yaml
from sg_ray.records.events import Event, TrialFinished, TrialStarted
from sg_ray.sweep.run import run_sweep
from sg_ray.tracking.mlflow_mirror import mirror_of

_KIB_PER_MIB = 1024


@dataclass
class Samples:
    """The driver's memory, the time and the driver's CPU time, whenever a gnn trial has ended.

    On a machine with other work the time says little; the CPU time shows what grows with trials.
    """

    keys: set[str | None] = field(default_factory=set)
    rss_mb: list[float] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Take a sample when a trial has finished."""
        if isinstance(event, TrialStarted) and event.family == "gnn":
            self.keys.add(event.trial_key)
        if isinstance(event, TrialFinished) and event.trial_key in self.keys:
            self.rss_mb.append(_rss_mb())
            self.at_s.append(time.perf_counter())
            self.cpu_s.append(time.process_time())


def main() -> None:
    """Run the sweep, print the slopes, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-trials", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("soak"), help="folder of sweep and plot")
    arguments = parser.parse_args()
    samples = soak(arguments.out, arguments.num_trials)
    print(f"{len(samples.at_s)} gnn trials")
    print(_growth("driver memory", samples.rss_mb, "MiB"))
    print(_growth("time per trial", list(np.diff(samples.at_s)), "s"))
    print(_growth("driver's CPU time per trial", list(np.diff(samples.cpu_s)), "s"))
    print(_draw(samples, arguments.out / "soak.png"))


def soak(folder: Path, num_trials: int) -> Samples:
    """Run the sweep in ``folder``; raise RuntimeError if it does not end well."""
    experiment = _experiment(folder, num_seeds=num_trials)
    samples = Samples()
    with mirror_of(experiment.tracking, experiment.name, experiment.folder) as mirror:
        outcome = run_sweep(experiment, listeners=(samples, mirror))
    if outcome.exit_code != 0:
        raise RuntimeError(f"the sweep ended with exit code {outcome.exit_code}")
    return samples


def _experiment(folder: Path, num_seeds: int) -> Experiment:
    gnn = {"epochs": 1, "num_layers": 1, "hidden_dim": 16, "graphs": {"vocab_size": 400}}
    content = {
        "name": "soak",
        "output_dir": str(folder),
        "cache_dir": str(folder / "cache"),
        "data": {"source": "synthetic", "num_samples": 240},
        "families": ["gnn"],
        "models": {"gnn": {"config": gnn}},
        "lr_range": {"enabled": False},
        "replicate": {"top_k": 1, "seeds": list(range(num_seeds))},
        "tracking": {"uri": f"sqlite:///{folder.absolute() / 'mlflow.db'}"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "soak.yaml"
    path.write_text(write_yaml(content), encoding="utf-8")
    return load_experiment(path)


def _growth(name: str, values: list[float], unit: str) -> str:
    first = len(values) // 5
    slope = np.polyfit(range(len(values) - first), values[first:], deg=1)[0]
    return (
        f"{name}: first fifth {fmean(values[:first]):.3f} {unit}, last fifth "
        f"{fmean(values[-first:]):.3f} {unit}; slope {slope * 100:+.4f} {unit} per 100 trials"
    )


def _draw(samples: Samples, path: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), dpi=120, layout="constrained")
    memory, duration, cpu = figure.subplots(3, sharex=True)
    memory.plot(samples.rss_mb)
    memory.set(ylabel="driver memory, MiB", ylim=(0, None))
    duration.plot(range(1, len(samples.at_s)), np.diff(samples.at_s), ".", markersize=3)
    duration.set(ylabel="seconds to the next record", ylim=(0, None))
    cpu.plot(range(1, len(samples.cpu_s)), np.diff(samples.cpu_s), ".", markersize=3)
    cpu.set(ylabel="CPU seconds of the driver", xlabel="trials on record", ylim=(0, None))
    figure.savefig(path)
    return path


def _rss_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / _KIB_PER_MIB


if __name__ == "__main__":
    main()
