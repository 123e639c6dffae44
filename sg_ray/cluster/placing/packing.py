"""How many trials find room on machines at once: CPUs and GPUs counted, Ray not asked.

A trial of one process takes one bundle, a group of workers one for each. A bundle lies on one
machine, and a share of a GPU on one GPU: two halves left of two GPUs hold no whole one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sg_ray.config import Resources

_UNITS = 10_000
"""Of a CPU or a GPU: Ray counts in as small parts."""

_ENOUGH = 10_000
"""More trials than that at once are not told apart."""


@dataclass(frozen=True)
class Machine:
    """What a machine has for trials."""

    cpus: float
    gpus: int = 0


@dataclass(frozen=True)
class Bundle:
    """What one process takes, in parts of ``_UNITS``."""

    gpus: int
    cpus: int


def bundles_of(takes: Resources, num_workers: int) -> Counter[Bundle]:
    """Return what so many workers take."""
    return Counter({Bundle(round(takes.gpus * _UNITS), round(takes.cpus * _UNITS)): num_workers})


def least_bundles(takes: Resources) -> Counter[Bundle]:
    """Return what a trial needs to begin."""
    return bundles_of(takes, takes.min_workers or takes.num_workers)


def hold(machines: Iterable[Machine], bundles: Mapping[Bundle, int]) -> bool:
    """Return whether all bundles find room, the largest first, each where it fits first.

    A better order may find room where this one does not; the other way round cannot be.
    """
    shelves = [_Shelf(machine) for machine in machines]
    for bundle in sorted(bundles, key=lambda one: (one.gpus, one.cpus), reverse=True):
        left = bundles[bundle]
        for shelf in shelves:
            if left == 0:
                break
            left -= shelf.put(bundle, left)
        if left:
            return False
    return True


def num_fitting(machines: Sequence[Machine], takes: Resources) -> int:
    """Return how many trials that take so much find room at once."""
    few, many = 0, 1  # so many fit, so many do not
    while many <= _ENOUGH and _hold_many(machines, takes, many):
        few, many = many, 2 * many
    while few + 1 < many:
        middle = (few + many) // 2
        if _hold_many(machines, takes, middle):
            few = middle
        else:
            many = middle
    return few


def num_mixed(
    machines: Sequence[Machine], takes: Mapping[str, Resources], at_most: int | None = None
) -> Counter[str]:
    """Return how many of each model find room beside each other, dealt out in turn."""
    most = _ENOUGH if at_most is None else at_most
    found: Counter[str] = Counter(dict.fromkeys(takes, 0))
    used: Counter[Bundle] = Counter()
    models = list(takes)
    while models and found.total() < most:
        for model in models[: most - found.total()]:
            more = used + least_bundles(takes[model])
            if hold(machines, more):
                found[model] += 1
                used = more
            else:
                models.remove(model)
    return found


def _hold_many(machines: Sequence[Machine], takes: Resources, num_trials: int) -> bool:
    one = least_bundles(takes)
    return hold(machines, {bundle: number * num_trials for bundle, number in one.items()})


class _Shelf:
    """What is free of a machine."""

    def __init__(self, machine: Machine) -> None:
        self._cpus = round(machine.cpus * _UNITS)
        self._whole_gpus = machine.gpus
        self._shared_gpus: list[int] = []
        """Of each GPU that is taken in parts, the part that is free."""

    def put(self, bundle: Bundle, at_most: int) -> int:
        """Take up bundles of one kind; return how many there was room for."""
        number = min(at_most, self._cpus // bundle.cpus) if bundle.cpus else at_most
        if bundle.gpus >= _UNITS:
            number = min(number, self._whole_gpus // (bundle.gpus // _UNITS))
            self._whole_gpus -= number * (bundle.gpus // _UNITS)
        elif bundle.gpus:
            number = self._put_shares(bundle.gpus, number)
        self._cpus -= number * bundle.cpus
        return number

    def _put_shares(self, share: int, at_most: int) -> int:
        left = at_most
        for index, free in enumerate(self._shared_gpus):
            number = min(left, free // share)
            self._shared_gpus[index] -= number * share
            left -= number
        while left and self._whole_gpus:
            number = min(left, _UNITS // share)
            self._whole_gpus -= 1
            self._shared_gpus.append(_UNITS - number * share)
            left -= number
        return at_most - left
