"""How many trials machines hold at once: counted, and beside an exhaustive search."""

import itertools
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from sg_ray.cluster.placing.admission import check_fits
from sg_ray.cluster.placing.packing import Bundle, Machine, bundles_of, hold, num_fitting, num_mixed
from sg_ray.config import Resources
from sg_ray.errors import InputError

GNN = Resources(cpus=1, gpus=0.25)
TRANSFORMER = Resources(cpus=2, gpus=1)
FLOOR = Resources(cpus=1)
GROUP = Resources(cpus=4, gpus=1, num_workers=4)
ELASTIC = Resources(cpus=4, gpus=1, num_workers=4, min_workers=2)
ONE_GPU = [Machine(16, 1)]


@pytest.mark.parametrize(
    ("machines", "takes", "number"),
    [
        (ONE_GPU, GNN, 4),
        (ONE_GPU, TRANSFORMER, 1),
        (ONE_GPU, FLOOR, 16),
        (ONE_GPU, Resources(cpus=5), 3),
        (ONE_GPU, Resources(cpus=0.5), 32),
        (ONE_GPU, GROUP, 0),
        ([Machine(96, 8)], GROUP, 2),
        ([Machine(96, 8)], ELASTIC, 4),
        ([Machine(96, 8)], Resources(gpus=3), 2),
        ([Machine(8, 2)] * 2, GROUP, 1),
        # What is left over on two machines, or two GPUs, cannot be joined.
        ([Machine(3)] * 2, Resources(cpus=2), 2),
        ([Machine(8, 2)], Resources(gpus=0.75), 2),
        ([Machine(8, 1)] * 4, Resources(gpus=2), 0),
        ([Machine(96, 8)] * 200, GNN, 6400),
        ([], FLOOR, 0),
    ],
)
def test_so_many_fit_at_once(machines: list[Machine], takes: Resources, number: int) -> None:
    assert num_fitting(machines, takes) == number


def test_one_gpu_runs_four_small_trials_or_one_large_one() -> None:
    small, large = (bundles_of(takes, 1) for takes in (GNN, TRANSFORMER))
    four = Counter(dict.fromkeys(small, 4))
    assert hold(ONE_GPU, four)
    assert hold(ONE_GPU, large)
    assert not hold(ONE_GPU, small + large)
    assert hold(ONE_GPU, four + bundles_of(FLOOR, 12))
    assert not hold(ONE_GPU, four + bundles_of(FLOOR, 13))


def test_a_mixture_is_dealt_out_in_turn() -> None:
    takes = {"lexical": FLOOR, "transformer": TRANSFORMER, "gnn": GNN}
    assert num_mixed(ONE_GPU, takes) == {"lexical": 14, "transformer": 1, "gnn": 0}
    assert num_mixed([Machine(4, 2)], takes) == {"lexical": 1, "transformer": 1, "gnn": 1}


def find_places(machines: Sequence[Machine], bundles: Sequence[Bundle]) -> bool:
    """Try every place of every bundle, GPU by GPU."""
    gpus = [(index, gpu) for index, one in enumerate(machines) for gpu in range(one.gpus)]
    for places in itertools.product(range(len(machines)), repeat=len(bundles)):
        cpus = [round(one.cpus * 10_000) for one in machines]
        for place, bundle in zip(places, bundles, strict=True):
            cpus[place] -= bundle.cpus
        if min(cpus, default=0) >= 0 and gpus_suffice(gpus, places, bundles):
            return True
    return False


def gpus_suffice(
    gpus: Sequence[tuple[int, int]], places: Sequence[int], bundles: Sequence[Bundle]
) -> bool:
    """Place shares on GPUs in every way; whole GPUs are what is left untouched."""
    shares = [(p, b.gpus) for p, b in zip(places, bundles, strict=True) if 0 < b.gpus < 10_000]
    whole: Counter[int] = Counter()
    for place, bundle in zip(places, bundles, strict=True):
        whole[place] += bundle.gpus // 10_000
    for chosen in itertools.product(gpus, repeat=len(shares)):
        used: Counter[tuple[int, int]] = Counter()
        for (place, share), gpu in zip(shares, chosen, strict=True):
            used[gpu] += share if gpu[0] == place else 10**9
        free = Counter(gpu[0] for gpu in gpus if gpu not in used)
        if max(used.values(), default=0) <= 10_000 and whole <= free:
            return True
    return False


def test_what_is_said_to_fit_can_be_placed_and_nearly_all_that_can_is_said_to_fit() -> None:
    rng = random.Random(0)
    kinds = [GNN, TRANSFORMER, FLOOR, Resources(cpus=3, gpus=0.5), Resources(cpus=1, gpus=2)]
    missed = num_fit = 0
    for _ in range(300):
        machines = [Machine(rng.randint(1, 4), rng.randint(0, 2)) for _ in range(2)]
        taken = Counter[Bundle]()
        for takes in rng.choices(kinds, k=rng.randint(1, 4)):
            taken += bundles_of(takes, 1)
        fits = find_places(machines, list(taken.elements()))
        said = hold(machines, taken)
        assert fits or not said
        num_fit += fits
        missed += fits and not said
    assert num_fit > 50
    assert missed <= 0.05 * num_fit


@pytest.mark.parametrize(
    ("machines", "takes", "said"),
    [
        ([Machine(2)], Resources(gpus=4), "a gnn trial takes 4 GPUs, there are 0"),
        ([Machine(3)], GROUP, "a gnn trial on 4 workers takes 16 CPUs, there are 3"),
        ([Machine(3)] * 4, Resources(cpus=4), "takes 4 CPUs and 0 GPUs each, more than machines"),
    ],
)
def test_what_never_fits_is_refused_in_words(
    machines: list[Machine], takes: Resources, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        check_fits({"lexical": FLOOR, "gnn": takes}, machines)
