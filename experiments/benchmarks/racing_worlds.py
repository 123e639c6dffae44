"""Synthetic sweeps with known truth: means of configurations, and noise over seeds.

One unit is the SD of a score over seeds: on CodeXGLUE defect detection 0.6 points of accuracy, or
2.9 points of F1. No method here sees the unit (a test checks it), so results hold for both.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SEED_EFFECT_SD = 0.7
"""Of what a seed does to all configurations alike (data order, initial features)."""


@dataclass(frozen=True)
class World:
    """How sweeps are drawn: ``means(rng, S, K)`` [S, K] and ``noise(rng, S, K, n)`` of mean 0."""

    name: str
    num_configs: int
    means: Callable[[np.random.Generator, int, int], Array]
    noise: Callable[[np.random.Generator, int, int, int], Array]

    def draw(self, num_sweeps: int, num_seeds: int, seed: int) -> tuple[Array, Array]:
        """Return true means [S, K] and scores [S, K, n]."""
        rng = np.random.default_rng(seed)
        means = self.means(rng, num_sweeps, self.num_configs)
        shared = rng.normal(0, _SEED_EFFECT_SD, (num_sweeps, 1, num_seeds))
        noise = self.noise(rng, num_sweeps, self.num_configs, num_seeds)
        return means, means[:, :, None] + shared + noise


def tied(rng: np.random.Generator, num_sweeps: int, num_configs: int) -> Array:
    """All configurations are equally good."""
    del rng
    return np.zeros((num_sweeps, num_configs))


def one_better(by: float) -> Callable[[np.random.Generator, int, int], Array]:
    """Return means with the first configuration ahead of the others, which are tied."""

    def means(rng: np.random.Generator, num_sweeps: int, num_configs: int) -> Array:
        return tied(rng, num_sweeps, num_configs) + by * (np.arange(num_configs) == 0)

    return means


def spread(sd: float) -> Callable[[np.random.Generator, int, int], Array]:
    """Return normal means."""

    def means(rng: np.random.Generator, num_sweeps: int, num_configs: int) -> Array:
        return rng.normal(0, sd, (num_sweeps, num_configs))

    return means


def normal(rng: np.random.Generator, *shape: int) -> Array:
    """Noise as assumed for dropping."""
    return rng.normal(size=shape)


def heavy_tailed(rng: np.random.Generator, *shape: int) -> Array:
    """Student's t with 3 degrees of freedom, SD 1."""
    return rng.standard_t(3, size=shape) / np.sqrt(3)


def skewed(rng: np.random.Generator, *shape: int) -> Array:
    """A long tail of bad seeds (exponential)."""
    return 1 - rng.exponential(size=shape)


def collapsing(rng: np.random.Generator, *shape: int) -> Array:
    """One seed in 20 is 5 SD worse."""
    return rng.normal(size=shape) - 5.0 * (rng.random(shape) < 0.05) + 0.25


def unequal(rng: np.random.Generator, num_sweeps: int, num_configs: int, num_seeds: int) -> Array:
    """Each configuration has SD 1/3, 1 or 3."""
    sd = rng.choice([1 / 3, 1.0, 3.0], size=(num_sweeps, num_configs, 1))
    return sd * rng.normal(size=(num_sweeps, num_configs, num_seeds))


def first_unstable(rng: np.random.Generator, *shape: int) -> Array:
    """The first configuration, among the best where some are, has SD 3, the others 1."""
    return np.where(np.arange(shape[1]) == 0, 3.0, 1.0)[:, None] * rng.normal(size=shape)


def first_collapsing(rng: np.random.Generator, *shape: int) -> Array:
    """Only the first configuration has the seeds 5 SD worse: its differences are not symmetric."""
    collapses = (np.arange(shape[1]) == 0)[:, None]
    return np.where(collapses, collapsing(rng, *shape), rng.normal(size=shape))


def first_skewed(rng: np.random.Generator, *shape: int) -> Array:
    """Only the first configuration is skewed: of equal mean, but typically a little better."""
    is_first = (np.arange(shape[1]) == 0)[:, None]
    return np.where(is_first, skewed(rng, *shape), rng.normal(size=shape))
