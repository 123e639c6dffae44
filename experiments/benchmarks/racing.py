"""Sequential tests over seeds on synthetic sweeps whose truth is known.

    python experiments/benchmarks/racing.py [--num-sweeps 2000] [--seed 0]

Prints four tables, the usual alternatives beside each figure: how often a claim "A beats B" is
false if one looks after every seed; how often the best configuration is given up; how many seeds a
true difference needs; and what finding the best of many costs. Differences and regret are in SDs
of a score over seeds (0.6 points of accuracy, 2.9 of F1 on CodeXGLUE defect detection).
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import racing_rules as rules
import racing_worlds as worlds
from numpy.typing import NDArray
from racing_worlds import World
from scipy import stats

Array = NDArray[np.float64]
Rows = Iterator[tuple[str, ...]]
Rule = Callable[[Array], rules.Choice]

MAX_LOOKS = 30
NUM_SEEDS = 10
_MOST_CONFIGS_PERMUTED = 4  # 120 pairs x 999 flips x 25 looks take too long

CLAIM_WORLDS = (
    World("2 tied", 2, worlds.tied, worlds.normal),
    World("4 tied", 4, worlds.tied, worlds.normal),
    World("16 tied", 16, worlds.tied, worlds.normal),
    World("4, one 1 SD better", 4, worlds.one_better(1), worlds.normal),
    World("16, one 1 SD better", 16, worlds.one_better(1), worlds.normal),
    World("4, means of SD 0.3", 4, worlds.spread(0.3), worlds.normal),
    World("4 tied, heavy tails", 4, worlds.tied, worlds.heavy_tailed),
    World("4 tied, skewed", 4, worlds.tied, worlds.skewed),
    World("4 tied, 1 in 20 collapses", 4, worlds.tied, worlds.collapsing),
    World("4 tied, SD 1/3, 1 or 3", 4, worlds.tied, worlds.unequal),
    World("2 tied, only one collapses", 2, worlds.tied, worlds.first_collapsing),
    World("2 tied, only one skewed", 2, worlds.tied, worlds.first_skewed),
)
DROP_WORLDS = (
    *CLAIM_WORLDS[:3],
    World("16, one 1 SD better", 16, worlds.one_better(1), worlds.normal),
    World("16 tied, heavy tails", 16, worlds.tied, worlds.heavy_tailed),
    World("16 tied, skewed", 16, worlds.tied, worlds.skewed),
    World("16 tied, 1 in 20 collapses", 16, worlds.tied, worlds.collapsing),
    World("16 tied, SD 1/3, 1 or 3", 16, worlds.tied, worlds.unequal),
    World("16 tied, the first of SD 3", 16, worlds.tied, worlds.first_unstable),
)
BUDGET_WORLDS = (
    *(World(f"16, means of SD {sd}", 16, worlds.spread(sd), worlds.normal) for sd in (1, 2, 3, 4)),
    World("16, SD 3, collapses", 16, worlds.spread(3), worlds.collapsing),
    World("16, SD 3, unequal SD", 16, worlds.spread(3), worlds.unequal),
    World("4, means of SD 2", 4, worlds.spread(2), worlds.normal),
)
DIFFERENCES = (0.5, 1.0, 1.5, 2.0, 3.0)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-sweeps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for title, columns, rows in (
        (CLAIMS_TITLE, CLAIMS_COLUMNS, claim_rows(given.num_sweeps, given.seed)),
        (DROPS_TITLE, DROPS_COLUMNS, drop_rows(given.num_sweeps, given.seed)),
        (POWER_TITLE, POWER_COLUMNS, power_rows(given.num_sweeps, given.seed)),
        (BUDGET_TITLE, BUDGET_COLUMNS, budget_rows(given.num_sweeps, given.seed)),
    ):
        print_table(title, columns, rows)


CLAIMS_TITLE = f"""\
1. Sweeps with any false "A beats B", in %, looking after every seed up to {MAX_LOOKS}
   Allowed: 5.0; Holm over pairs for all but the last two columns. Pruner and SMAC3 say
   "B is worse than the best so far" when they give B up."""
CLAIMS_COLUMNS = (
    "configurations",
    "sg-ray (95 % interval)",
    "t-test",
    "permut.",
    "Pruner",
    "SMAC3",
)


def claim_rows(num_sweeps: int, seed: int) -> Rows:
    """Yield a row per world."""
    for world in CLAIM_WORLDS:
        means, scores = world.draw(num_sweeps, MAX_LOOKS, seed)
        differences = rules.paired_differences(scores)
        truth = np.sign(rules.paired_differences(means[:, :, None]))
        ours = any_false(rules.decided_by_e_process(differences), truth)
        in_order = in_random_order(means, scores)
        permuted = world.num_configs <= _MOST_CONFIGS_PERMUTED
        yield (
            world.name,
            with_interval(ours),
            percent(any_false(rules.decided_by_t_test(differences), truth)),
            percent(any_false(rules.decided_by_permutations(differences), truth))
            if permuted
            else "-",
            percent(gave_up_an_equal(rules.prune_by_wilcoxon, *in_order)),
            percent(gave_up_an_equal(rules.intensify_as_smac, *in_order)),
        )


DROPS_TITLE = f"""\
2. Sweeps that gave up the best configuration (of tied ones the first), in %, looking likewise
   Allowed: {100 * rules.ALPHA_DROP:.1f}; the pruner's p_threshold is 0.1 too."""
DROPS_COLUMNS = ("configurations", "sg-ray (95 % interval)", "Pruner", "SMAC3")


def drop_rows(num_sweeps: int, seed: int) -> Rows:
    """Yield a row per world. The others run their configurations in random order."""
    for world in DROP_WORLDS:
        _, scores = world.draw(num_sweeps, MAX_LOOKS, seed)
        yield (
            world.name,
            with_interval(rules.race(scores).given_up[:, 0]),
            percent(lost_the_first(rules.prune_by_wilcoxon, scores)),
            percent(lost_the_first(rules.intensify_as_smac, scores)),
        )


POWER_TITLE = f"""\
3. Sweeps that decide a true difference between 2 configurations, in %, by number of seeds
   sg-ray stops when it is decided, at {MAX_LOOKS} at the latest; the t-test's seeds are fixed."""
_AT = (6, 8, 10, 15, 20, 30)
POWER_COLUMNS = (
    "difference",
    *(f"by {num}" for num in _AT),
    "mean seeds",
    *(f"t at {num}" for num in _AT),
    "permut. at 10",
)


def power_rows(num_sweeps: int, seed: int) -> Rows:
    """Yield a row per true difference."""
    for difference in DIFFERENCES:
        world = World("", 2, worlds.one_better(difference), worlds.normal)
        _, scores = world.draw(num_sweeps, MAX_LOOKS, seed)
        differences = rules.paired_differences(scores)
        found = rules.decided_by_e_process(differences)[:, 0] > 0
        by_t_test = rules.decided_by_t_test(differences)[:, 0] > 0
        by_permutations = rules.decided_by_permutations(differences[..., :10])[:, 0, -1] > 0
        seeds = np.where(found.any(axis=-1), found.argmax(axis=-1) + 1, MAX_LOOKS)
        yield (
            f"{difference:.1f} SD",
            *(percent(found[:, num - 1]) for num in _AT),
            f"{seeds.mean():.1f}",
            *(percent(by_t_test[:, num - 1]) for num in _AT),
            percent(by_permutations),
        )


BUDGET_TITLE = f"""\
4. Finding the best configuration: full replication with {NUM_SEEDS} seeds, and others, same draws
   trials: % of full replication's; same: % that pick what it picks; best: % that pick the true
   best; regret: mean loss against the true best, in SD."""
BUDGET_COLUMNS = ("configurations", "rule", "trials", "same", "best", "regret")
_MORE_SEEDS = 3 * NUM_SEEDS
BUDGET_RULES: dict[str, Rule] = {
    "full": lambda scores: rules.replicate_all(scores[..., :NUM_SEEDS]),
    "race": lambda scores: rules.race(scores[..., :NUM_SEEDS]),
    "race, alpha 0.3": lambda scores: rules.race(scores[..., :NUM_SEEDS], alpha=0.3),
    f"race, {_MORE_SEEDS} seeds": lambda scores: rules.race(
        scores, max_trials=NUM_SEEDS * scores.shape[1]
    ),
    "Pruner": lambda scores: rules.prune_by_wilcoxon(scores[..., :NUM_SEEDS]),
    "SMAC3": lambda scores: rules.intensify_as_smac(scores[..., :NUM_SEEDS]),
}


def budget_rows(num_sweeps: int, seed: int) -> Rows:
    """Yield a row per world and rule."""
    for world in BUDGET_WORLDS:
        means, scores = world.draw(num_sweeps, _MORE_SEEDS, seed)
        full = BUDGET_RULES["full"](scores)
        for name, rule in BUDGET_RULES.items():
            choice = rule(scores)
            picked = np.take_along_axis(means, choice.picked[:, None], axis=1)[:, 0]
            yield (
                world.name if name == "full" else "",
                name,
                percent(choice.num_trials / full.num_trials),
                percent(choice.picked == full.picked),
                percent(picked == means.max(axis=1)),
                f"{(means.max(axis=1) - picked).mean():.3f}",
            )


def any_false(decided: Array, truth: Array) -> NDArray[np.bool_]:
    """Return [S]: whether a decision [S, pairs, looks] ever was not the true sign."""
    return ((decided != 0) & (decided != truth)).any(axis=(1, 2))


def gave_up_an_equal(rule: Rule, means: Array, scores: Array) -> NDArray[np.bool_]:
    """Return [S]: whether any configuration was given up for one that is no better."""
    choice = rule(scores)
    rival = np.take_along_axis(means, np.maximum(choice.against, 0), axis=1)
    return (choice.given_up & (rival <= means)).any(axis=1)


def lost_the_first(rule: Rule, scores: Array) -> NDArray[np.bool_]:
    """Return [S]: whether the first configuration was given up, if they run in random order."""
    marks = np.zeros(scores.shape[:2])
    marks[:, 0] = 1
    marks, in_order = in_random_order(marks, scores)
    return (rule(in_order).given_up & (marks == 1)).any(axis=1)


def in_random_order(means: Array, scores: Array) -> tuple[Array, Array]:
    """Return both with the configurations of each sweep shuffled: some rules go through them."""
    in_order = np.tile(np.arange(means.shape[1]), (len(means), 1))
    order = np.random.default_rng(0).permuted(in_order, axis=1)
    return (
        np.take_along_axis(means, order, axis=1),
        np.take_along_axis(scores, order[:, :, None], axis=1),
    )


def percent(hits: NDArray) -> str:
    """Return the mean in percent."""
    return f"{100 * np.mean(hits):.1f}"


def with_interval(hits: NDArray[np.bool_]) -> str:
    """Return the share in percent with its Clopper-Pearson interval."""
    interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci()
    return f"{percent(hits):>5} ({100 * interval.low:.1f}-{100 * interval.high:.1f})"


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: the first column to the left, the others to the right."""
    cells = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.rjust, row[1:], widths[1:])) for row in cells]
    names = [row[0].ljust(widths[0]) for row in cells]
    table = [f"{name}  {line}" for name, line in zip(names, lines, strict=True)]
    print("\n".join([title, "", table[0], "-" * len(table[0]), *table[1:], ""]), flush=True)


if __name__ == "__main__":
    main()
