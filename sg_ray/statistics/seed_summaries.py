"""Summaries of one configuration's scores over its seeds; undefined values are NaN."""

import math
from collections.abc import Sequence

import numpy as np

TRIMMED_SHARE = 0.25


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the mean of ``values`` without the lowest and the highest quarter.

    From each end floor(n / 4) values are cut, as by Agarwal et al. 2021, "Deep Reinforcement
    Learning at the Edge of the Statistical Precipice" (NeurIPS) and their package rliable. With
    fewer than 4 values nothing is cut: it is the mean. NaN without values.
    """
    if not len(values):
        return math.nan
    from scipy import stats  # takes half a second

    return float(stats.trim_mean(np.asarray(values, dtype=np.float64), TRIMMED_SHARE))


def sample_sd(values: Sequence[float]) -> float:
    """Return the standard deviation with n - 1 in the denominator; NaN for fewer than 2 values."""
    if len(values) < 2:
        return math.nan
    return float(np.std(np.asarray(values, dtype=np.float64), ddof=1))
