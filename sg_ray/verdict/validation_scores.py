"""The objective of every trial on the validation functions and on resamples of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sg_ray.errors import InputError
from sg_ray.statistics.resampling import NUM_RESAMPLES, ResampledScores, resample_scores
from sg_ray.statistics.scores import Scale, score_function
from sg_ray.verdict.predicted import predicted_seeds
from sg_ray.verdict.trials import Results, Trial

RESAMPLING_SEED = 0
"""Fixed: a verdict that is made again from the same records is the same to the byte."""


@dataclass(frozen=True)
class ValidationScores:
    """Scores of single trials, all on the same resamples of the same functions.

    ``columns`` are by trial key; a trial without predictions has none. ``unmeasured`` says why the
    objective could not be measured, if it is one of the user's own.
    """

    scale: Scale
    columns: Mapping[str, ResampledScores]
    unmeasured: str = ""

    def of(self, trials: Sequence[Trial], worst: float | None = None) -> ResampledScores | None:
        """Return the scores of ``trials`` together; None if all failed, or if one has no column.

        ``worst`` stands for the score of a trial that failed, on every resample.
        """
        columns = [self._column(trial, worst) for trial in trials]
        known = [column for column in columns if column is not None]
        if len(known) < len(columns) or all(trial.score is None for trial in trials):
            return None
        return ResampledScores(
            observed=np.concatenate([column.observed for column in known]),
            resampled=np.concatenate([column.resampled for column in known], axis=1),
        )

    def _column(self, trial: Trial, worst: float | None) -> ResampledScores | None:
        if trial.score is not None or worst is None:
            return self.columns.get(trial.key)
        return ResampledScores(np.full(1, worst), np.full((NUM_RESAMPLES, 1), worst))


def resample_validation(results: Results) -> ValidationScores:
    """Score all trials with predictions at once; those of other functions are left out.

    Which functions it is about is for the first trial to say. Raises InputError if the objective
    has no value on them; one of the user's own is left unmeasured instead.
    """
    trials = _of_the_same_functions(
        [trial for contender in results.contenders for trial in contender.trials]
    )
    score = score_function(results.objective, [trial.threshold for trial in trials])
    predicted = predicted_seeds(trials)
    if predicted is None:
        return ValidationScores(score.scale, {})
    try:
        together = resample_scores(
            predicted.labels, predicted.probabilities, score, seed=RESAMPLING_SEED
        )
    except InputError as error:
        if not score.is_own:
            raise
        return ValidationScores(score.scale, {}, str(error).rstrip("."))
    if score.is_own and not _are_as_recorded(together, trials):
        return ValidationScores(score.scale, {}, "its code here gives other values than recorded")
    columns = {trial.key: together.of_seeds([place]) for place, trial in enumerate(trials)}
    return ValidationScores(score.scale, columns)


def _are_as_recorded(scores: ResampledScores, trials: Sequence[Trial]) -> bool:
    """Whether the code gives what it gave while the trials were trained."""
    recorded = [trial.score for trial in trials]
    return np.allclose(scores.observed, np.array(recorded, dtype=float), rtol=1e-5)


def _of_the_same_functions(trials: Sequence[Trial]) -> list[Trial]:
    known = [trial for trial in trials if trial.predictions is not None]
    return [trial for trial in known if predicted_seeds([known[0], trial]) is not None]
