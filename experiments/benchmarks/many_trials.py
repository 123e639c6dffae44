"""Time and memory a trial late in a long sweep beside early in it: neither may grow.

    python experiments/benchmarks/many_trials.py

The sweep of ``soak``: real, on Ray with Optuna's journal and MLflow, of as many seeds of the floor
and of a tiny graph network. The first fifth of the latter, in which processes start, is left out.
"""

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from figures import Figure, Measured, print_figures, times_better
from soak import soak

NUM_TRIALS = 250
"""Of each model: 500 in all."""
WITHIN = 1 / 1.1
"""At most 10 % more."""


def measure(today: Path | None) -> Measured:  # noqa: ARG001 - late against early, both ours
    """Run the sweep once; compare the last fifth of its trials with the second."""
    with TemporaryDirectory(prefix="sg-ray-many-") as folder:
        samples = soak(Path(folder), NUM_TRIALS)
    fifth = len(samples.at_s) // 5
    early, late = slice(fifth, 2 * fifth), slice(-fifth, None)
    note = f"trials {NUM_TRIALS + 4 * fifth} to {2 * NUM_TRIALS} of one sweep"
    within = times_better(WITHIN)
    figures = []
    for name, unit, values, goal in (
        ("early, time a trial", "s", list(np.diff(samples.at_s)), within),
        ("early, driver's CPU time a trial", "s", list(np.diff(samples.cpu_s)), None),
        ("early, driver's memory", "MiB", samples.rss_mb, within),
    ):
        ours, baseline = median(values[late]), median(values[early])
        figures.append(Figure(name, float(ours), float(baseline), unit, goal, note=note))
    return figures


if __name__ == "__main__":
    print_figures(measure(None))
