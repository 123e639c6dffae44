"""Metrics of the user's own: one object of a file or of a package each, known by its name.

Only what measures needs their code. What ranks needs their direction, which is on record.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sg_ray.errors import InputError
from sg_ray.plugins import Plugin, entry_point, offered

Direction = Literal["minimise", "maximise"]
Floats = NDArray[np.float64]

ENTRY_POINTS = "sg_ray.metrics"
"""The group in which an installed package offers metrics: ``name = "module:METRIC"``."""

BUILT_IN = (
    "loss",
    "accuracy",
    "precision",
    "recall",
    "f1",
    "mcc",
    "roc_auc",
    "pr_auc",
    "f1_at_threshold",
    "accuracy_at_threshold",
)
"""The metrics that are always measured."""

_TAKEN = (*BUILT_IN, "threshold")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""A metric's name is a column's."""


@dataclass(frozen=True)
class Metric:
    """What a model is judged by: ``val_NAME`` of each epoch, ``test_NAME`` of the winner.

    ``score`` is called with labels (0 or 1) and probabilities of "vulnerable", both of shape [n],
    and returns a number, NaN where it has none. If it has parameters of these names, it is given
    ``threshold``, which was tuned on the validation split, and ``weights``: integers, shape [n],
    that say how often each row counts, or None for once each. Without ``weights`` the rows
    themselves are repeated, which is slower.
    """

    name: str
    score: Callable[..., float]
    lower_is_better: bool = False

    @property
    def direction(self) -> Direction:
        """What a search does with it."""
        return "minimise" if self.lower_is_better else "maximise"

    @property
    def takes_threshold(self) -> bool:
        """Whether its value depends on what a model decides at."""
        return "threshold" in self._parameters

    @property
    def takes_weights(self) -> bool:
        """Whether it counts rows several times by itself."""
        return "weights" in self._parameters

    @cached_property
    def _parameters(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.score).parameters)

    def __call__(
        self,
        labels: NDArray[np.integer],
        probabilities: Floats,
        threshold: float,
        weights: NDArray[np.integer] | None = None,
    ) -> float:
        """Return the value; labels, probabilities and weights (how often each counts) are [n].

        Raises InputError, with the reason, if ``score`` fails.
        """
        given: dict[str, object] = {"threshold": threshold} if self.takes_threshold else {}
        if self.takes_weights:
            given["weights"] = weights
        elif weights is not None:
            labels, probabilities = np.repeat(labels, weights), np.repeat(probabilities, weights)
        try:
            return float(self.score(labels, probabilities, **given))
        except Exception as error:
            raise InputError(
                f"metrics: {self.name} fails on {len(labels)} rows ({type(error).__name__}: "
                f"{error}). It is called with labels and probabilities, and returns a number."
            ) from error


class MetricTable:
    """The metrics of the user's own that this process knows, by name.

    Of one that was plugged in the code is here; of one that a record or an experiment tells of,
    its direction alone.
    """

    def __init__(self) -> None:
        self._plugged: dict[str, Plugin] = {}
        self._directions: dict[str, Direction] = {}

    def plug_in(self, plugin: Plugin) -> str:
        """Make a metric known in this process, code and all; return the name it gives itself.

        One that was plugged in under that name is replaced. Raises InputError if it cannot be
        loaded, is no metric, has a name that is taken, or does not count rows as it should.
        """
        metric = _metric_of(plugin)
        _check_counting(metric, plugin.reference)
        self._plugged[metric.name] = plugin
        self._directions[metric.name] = metric.direction
        return metric.name

    def tell(self, directions: Mapping[str, Direction]) -> None:
        """Make known what is on record: names and directions, without the code.

        Raises InputError if a metric of another direction is known by the same name.
        """
        for name, direction in directions.items():
            if self._directions.setdefault(name, direction) != direction:
                raise InputError(
                    f"metrics: {name} is to {direction} here, and to {self._directions[name]} in "
                    "what was read before. Call one of the two otherwise, or start Python anew."
                )

    def direction(self, name: str) -> Direction | None:
        """Return what to do with a metric; None if it is not known."""
        return self._directions.get(name)

    def metric(self, name: str) -> Metric | None:
        """Return a metric; None if its code is not here."""
        return _metric_of(self._plugged[name]) if name in self._plugged else None

    def measured(self, names: Iterable[str]) -> list[Metric]:
        """Return the metrics of these names. Raises InputError for code that is not here."""
        return [_metric_of(self._plugin(name)) for name in names]

    def plugged_in(self, names: Iterable[str]) -> tuple[Plugin, ...]:
        """Return where the code of these comes from. Raises as ``measured``."""
        return tuple(map(self._plugin, names))

    def __iter__(self) -> Iterator[str]:
        return iter(self._directions)

    def _plugin(self, name: str) -> Plugin:
        if name not in self._plugged:
            raise InputError(
                f"metrics: the code of {name} was not loaded. Name its file or module in metrics, "
                f"e.g. metrics=[./{name}.py:{name}]."
            )
        return self._plugged[name]


OWN_METRICS = MetricTable()


def offered_metric(name: str) -> Plugin:
    """Return what an installed package offers by this name. Raises InputError if none does."""
    if name in _TAKEN:
        raise InputError(f"{name} is always measured. Leave it out.")
    found = entry_point(ENTRY_POINTS, name)
    if found is None:
        known = ", ".join(offered(ENTRY_POINTS)) or "none"
        raise InputError(
            f"unknown metric {name!r}. Installed packages offer {known}: install the one that "
            f"brings it, or name its module or file: my_package.metrics:{name} or "
            f"./{name}.py:{name}."
        )
    return found


def _metric_of(plugin: Plugin) -> Metric:
    found = plugin.load()
    if not isinstance(found, Metric):
        raise InputError(f"{plugin.reference}: is no Metric of sg_ray.")
    if not _NAME.fullmatch(found.name):
        raise InputError(
            f"{plugin.reference}: {found.name!r} is no name for a metric. Use lower-case letters, "
            "digits and _."
        )
    if found.name in _TAKEN:
        raise InputError(
            f"{plugin.reference}: there is another metric called {found.name!r}. Give it another "
            "name."
        )
    return found


def _check_counting(metric: Metric, place: str) -> None:
    """Raise InputError unless rows that count twice are as good as rows that are there twice."""
    labels = np.array([0, 1, 1, 0, 1, 0], dtype=np.int8)
    probabilities = np.array([0.1, 0.9, 0.4, 0.6, 0.7, 0.3])
    weights = np.array([2, 1, 0, 3, 2, 1])
    repeated = np.repeat(labels, weights), np.repeat(probabilities, weights)
    values = metric(labels, probabilities, 0.5, weights), metric(*repeated, 0.5)
    if not math.isclose(*values, rel_tol=1e-6, abs_tol=1e-9) and not all(map(math.isnan, values)):
        raise InputError(
            f"{place}: gives {values[0]:.6g} where weights say how often each row counts, and "
            f"{values[1]:.6g} where the rows are repeated so often. Correct its use of weights, or "
            "leave that parameter out."
        )
