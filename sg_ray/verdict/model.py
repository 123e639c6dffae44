"""The content of ``verdict.json``: plain, validated data that the page and MLflow show."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sg_ray.configuration import Configuration
from sg_ray.files import short_hash

MODELS = "models"
"""The name of the question which model is best; each other has the name of its model."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Part):
    """A two-sided interval. ``level`` is its nominal coverage, e.g. 0.95."""

    low: float
    high: float
    level: float = 0.95


class ReliabilityBin(_Part):
    """Predictions of similar probability: how many, their mean, and the share of positives."""

    num_samples: int
    mean_probability: float
    positive_share: float


class Confusion(_Part):
    """Counts on the validation split at the threshold chosen there, means over seeds."""

    true_positives: float
    false_positives: float
    false_negatives: float
    true_negatives: float


class Standing(_Part):
    """One configuration over its seeds, by the objective.

    ``fresh_seeds`` are those that had no part in choosing it: all but the search's seed. ``mean``,
    ``sd`` (n - 1), ``interquartile_mean`` and ``interval`` are over the fresh seeds, unless there
    are none. ``selection_gap`` is the search seed's value minus the mean of the fresh ones.
    ``interval`` resamples seeds and validation functions together. The rest needs predictions and
    is None without them.
    """

    configuration: Configuration
    config_hash: str
    is_floor: bool
    dropped_after: int | None = None
    """Number of fresh seeds after which racing dropped it; None if it stayed."""
    seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]
    failed_seeds: tuple[int, ...]
    mean: float | None
    sd: float | None
    interquartile_mean: float | None
    interval: Interval | None
    selection_gap: float | None
    ensemble_score: float | None = None
    """The objective of the mean probability over seeds, where the objective allows it."""
    flip_share: float | None = None
    """Mean share of validation functions that two seeds decide differently."""
    calibration_error: float | None = None
    """Expected calibration error (15 equal-width bins) of the mean over seeds."""
    reliability: Sequence[ReliabilityBin] = ()
    confusion: Confusion | None = None
    trial_hours: float
    """Mean hours of training of one trial, times its GPUs where it used any."""

    @property
    def model(self) -> str:
        """The name of its model."""
        return self.configuration.model


class Side(_Part):
    """One of two that are compared: a configuration, or (without a hash) a whole model."""

    model: str
    config_hash: str
    short_name: str = ""
    """What people call the configuration: ``gnn lr 5e-3``; "" of a whole model."""

    @property
    def name(self) -> str:
        """E.g. ``gnn lr 5e-3 1f0c9a2b``, or ``gnn``."""
        return f"{self.short_name or self.model} {short_hash(self.config_hash)}".rstrip()

    @property
    def name_in_model(self) -> str:
        """The same where the model is told already: ``lr 5e-3 1f0c9a2b``."""
        return self.name.removeprefix(f"{self.model} ")


class Comparison(_Part):
    """Two configurations, paired by seed. ``difference`` is in the objective, > 0: a is better.

    A seed that failed counts as the worst score that any configuration of the question reached.
    ``p_anytime`` holds however often one looked before; ``p_holm`` is it corrected for all the
    comparisons of the question. ``p_permutation`` is the exact test for a number of seeds that
    was fixed beforehand. ``more_seeds`` is an estimate of what would decide it: None if decided,
    or if no reasonable number would.

    Of a model with several finalists ``p_anytime``, ``p_holm``, ``smallest_p`` and ``outcome`` are
    about the best of them, whichever that is; the other numbers are about the one that is ranked
    first, picked on the same seeds: there is no ``p_permutation`` of it.
    """

    a: Side
    b: Side
    seeds: tuple[int, ...]
    difference: float | None
    interval: Interval | None
    probability_better: float | None
    """P(a > b) for a seed and validation functions drawn anew."""
    p_anytime: float
    p_holm: float
    p_permutation: float | None
    smallest_p: float
    """What ``p_holm`` could have reached at best with so many seeds."""
    minimum_detectable_difference: float | None
    """The true difference that this number of seeds decides in 80 of 100 sweeps; None if none."""
    mcnemar_p: float | None
    """Of the first common seed's two models, on the validation split."""
    outcome: Literal["a", "undecided"]
    more_seeds: int | None
    more_trial_hours: float | None
    command: str | None
    sentence: str


class Question(_Part):
    """A set of comparisons that share one error rate: 5 % for any false claim among them."""

    name: str
    """E.g. ``gnn`` (which configuration of it) or ``models``."""
    text: str
    comparisons: Sequence[Comparison]
    answer: str
    """One sentence."""


class Dropped(_Part):
    """A configuration that racing gave up."""

    model: str
    config_hash: str
    after_seeds: int
    against: str
    """Hash of the configuration that it cannot catch up with."""
    evidence: float
    """The e-value against it; it was dropped above ``threshold``."""
    threshold: float
    difference: float
    """Its own mean minus the other's, then; < 0 where it is worse, also for a loss."""


class ExpectedBest(_Part):
    """Expected best validation objective of a random subset of the search, by its size.

    ``trials[i]`` trials cost ``hours[i]`` and reach ``expected[i]`` (Dodge et al., 2019).
    """

    model: str
    trials: Sequence[int]
    hours: Sequence[float]
    expected: Sequence[float]


class TestScore(_Part):
    """The winner on the test split, read once; intervals over seeds and test functions."""

    __test__ = False
    model: str
    config_hash: str
    metric: str
    mean: float
    interval: Interval | None
    validation_mean: float
    gap: float
    """Validation minus test, in the metric's own direction: > 0 means validation flattered."""


class VarianceShares(_Part):
    """Where the variance of one configuration's score comes from; shares add up to 1.

    ``init`` and ``data_order`` are None unless trials were made that vary only one of them; then
    they split ``seed``.
    """

    model: str
    config_hash: str
    seed_sd: float
    sampling_sd: float
    seed_share: float
    sampling_share: float
    init_share: float | None = None
    data_order_share: float | None = None


class Verdict(_Part):
    """Everything that is said about a sweep."""

    sweep: str
    objective: str
    alpha: float
    search_seed: int
    headline: str
    """One sentence: what won and how sure that is."""
    headline_answers: str | None = None
    """The name of the question whose answer the headline is, but for names in it."""
    questions: Sequence[Question]
    standings: Sequence[Standing]
    dropped: Sequence[Dropped] = ()
    test: TestScore | None = None
    expected_best: Sequence[ExpectedBest] = ()
    variance: Sequence[VarianceShares] = ()
    notes: Sequence[str] = Field(default=())
