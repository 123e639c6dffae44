"""Names of configurations that people can say: ``gnn``, ``gnn lr 5e-3``, ``gnn lr 5e-3 layers 4``.

A name tells what differs from the experiment's own values, the learning rate first. Names are given
in the order in which configurations come up, and stay: when a later one would be called the same,
it is the later one that shows more digits. What does not fit is counted (``gnn lr 5e-3 +2``); the
hash, always shown beside it, tells the rest.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sg_ray.configuration import Configuration
from sg_ray.files import short_hash

MAX_CHARS = 28
"""What tables have room for."""

_FIRST = "learning_rate"
_HIDDEN = re.compile(r" \+\d+\b")
_SHORT = {"learning_rate": "lr", "batch_size": "batch", "weight_decay": "decay"}
_CONTENT = "_content"
_NUM_DIGITS = (2, 3, 4, 6, 9, 17)
_LEAST_DECIMAL, _MOST_DECIMAL = 0.01, 100_000


class ShortNames:
    """The names of one model's configurations, each given once."""

    def __init__(self, baseline: Configuration, known: Iterable[Configuration] = ()) -> None:
        """``baseline`` bears the model's name alone; ``known`` keep the names that they have."""
        self._baseline = baseline
        self._named = {baseline: baseline}
        for configuration in known:
            self._named.setdefault(configuration, configuration)
        self._taken = {known.name for known in self._named.values()}

    def named(self, configuration: Configuration) -> Configuration:
        """Return the configuration with its name."""
        if configuration not in self._named:
            name = next(n for n in self._candidates(configuration) if n not in self._taken)
            self._taken.add(name)
            self._named[configuration] = configuration.model_copy(update={"short_name": name})
        return self._named[configuration]

    def _candidates(self, configuration: Configuration) -> Iterator[str]:
        """Yield names, the shortest first; the last one nobody else can have."""
        differing = _differing(self._baseline.values, configuration.values)
        for num_digits in _NUM_DIGITS:
            texts = [f"{_said(key)} {_told(value, num_digits)}" for key, value in differing]
            yield _fitted(configuration.model, texts, MAX_CHARS)
        own = f" {short_hash(configuration.hash)}"
        texts = [f"{_said(key)} {_told(value, _NUM_DIGITS[0])}" for key, value in differing]
        yield _fitted(configuration.model, texts, MAX_CHARS - len(own)) + own


def hides_settings(name: str) -> bool:
    """Whether a name counts settings that it has no room for, as ``gnn lr 5e-3 +2`` does."""
    return _HIDDEN.search(name) is not None


def _differing(baseline: Mapping[str, Any], values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the settings that are not the baseline's, the learning rate before all others."""
    own = dict(_flat(baseline))
    found = [
        (key, value)
        for key, value in _flat(values)
        if own.get(key) != value and not key.endswith(_CONTENT)
    ]
    return sorted(found, key=lambda pair: pair[0] != _FIRST)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _said(key: str) -> str:
    name = key.rpartition(".")[2]
    return _SHORT.get(name, name.removeprefix("num_").replace("_", " "))


def _told(value: Any, num_digits: int) -> str:
    if isinstance(value, float):
        return _number(value, num_digits)
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: float, num_digits: int) -> str:
    """Return e.g. 0.25, 5e-3, 1.5: powers of ten where noughts would have to be counted."""
    if value == 0 or _LEAST_DECIMAL <= abs(value) < _MOST_DECIMAL:
        return f"{value:.{num_digits}g}" if abs(value) < 10**num_digits else f"{value:.0f}"
    mantissa, exponent = f"{value:.{num_digits - 1}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"


def _fitted(model: str, texts: list[str], max_chars: int) -> str:
    """Return the model's name with as many of the texts as there is room for."""
    for num_shown in range(len(texts), -1, -1):
        num_hidden = len(texts) - num_shown
        rest = [f"+{num_hidden}"] if num_hidden else []
        name = " ".join([model, *texts[:num_shown], *rest])
        if len(name) <= max_chars:
            return name
    return f"{model[: max_chars - 3]}..."
