"""Predictions of trials whose true scores are known, with seeds and items as crossed factors."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Population:
    """Functions of label 0 and 1, half each, and models that find a signal in them.

    The logit of seed i on item j is strength_i * (+-1/2) + item_j + noise_ij: strengths have mean
    ``strength`` and SD ``seed_sd``; item and noise have variances ``shared`` and 1 - ``shared``.
    """

    strength: float = 0.8
    seed_sd: float = 0.2
    shared: float = 0.7

    @property
    def accuracy(self) -> float:
        """The true mean accuracy over all seeds and functions."""
        return stats.norm.cdf(self.strength / 2 / np.sqrt(1 + self.seed_sd**2 / 4))

    @property
    def roc_auc(self) -> float:
        """The true mean ROC-AUC."""
        return stats.norm.cdf(self.strength / np.sqrt(2 + self.seed_sd**2))

    def probabilities(self, labels: np.ndarray, items: np.ndarray, num_seeds: int, rng):
        """Return predictions [s, n] for labels [n] and standard normal ``items`` [n]."""
        strengths = rng.normal(self.strength, self.seed_sd, (num_seeds, 1))
        noise = rng.normal(size=(num_seeds, len(labels)))
        logits = (
            strengths * (labels - 0.5)
            + np.sqrt(self.shared) * items
            + np.sqrt(1 - self.shared) * noise
        )
        return 1 / (1 + np.exp(-logits))


def draw_items(num_items: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and what is special to each item, both of shape [n]."""
    return (rng.random(num_items) < 0.5).astype(np.int8), rng.normal(size=num_items)
