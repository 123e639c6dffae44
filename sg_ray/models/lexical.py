"""The lexical floor: TF-IDF of word n-grams + logistic regression, the baseline of every table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sg_ray.errors import InputError
from sg_ray.features.packed import Ragged
from sg_ray.features.spec import FeatureSpec, TextSpec
from sg_ray.models.family import EstimatorFamily, FamilyConfig, Inputs
from sg_ray.setting_types import Count

TOKEN_PATTERN = r"\w+"
"""Identifiers, keywords and numbers, also of one character."""


class LexicalConfig(FamilyConfig):
    """Settings of the n-gram counts and of the regression."""

    text: TextSpec = TextSpec()
    """The source as text; it has no settings of its own."""
    min_ngram: int = Field(default=1, ge=1, le=5)
    """Words in the shortest n-gram that is counted."""
    max_ngram: int = Field(default=2, ge=1, le=5)
    """Words in the longest. Each one more multiplies the number of n-grams, and memory with it."""
    lowercase: bool = True
    """Count ``Len`` and ``len`` as one word."""
    min_df: Count = 2
    """An n-gram counts if at least this many functions of the train split hold it. 1 also keeps
    what occurs once, which only names a function."""
    max_features: Count | None = 200_000
    """The most frequent n-grams that are kept. Lower it if memory runs out. None keeps all."""
    sublinear_tf: bool = True
    """Count 1 + log(frequency) instead of the frequency, so that a word of a loop does not
    outweigh all others."""
    inverse_regularisation: float = Field(default=1.0, gt=0, le=1e12)
    """C of the logistic regression: higher fits the train split more closely."""
    class_weight: Literal["balanced"] | None = None
    """``balanced`` weighs the classes inversely to their frequency, for data with few vulnerable
    functions. None: every function counts the same."""
    max_iterations: Count = 1000
    """Iterations that the regression may take to converge."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_ngram > self.max_ngram:
            raise ValueError(f"min_ngram {self.min_ngram} is above max_ngram {self.max_ngram}")
        return self


@dataclass(frozen=True)
class LexicalEstimator:
    """A fitted vectorizer and the regression's coefficients, shape [vocabulary]."""

    config: LexicalConfig
    vectorizer: Any
    coefficients: NDArray[np.float64]
    intercept: float

    def predict_proba(self, inputs: Inputs, split: str) -> NDArray[np.float64]:
        """Return the probability of "vulnerable" for each sample of a split, shape [n]."""
        from scipy.special import expit

        counts = self.vectorizer.transform(_texts(self.config, inputs, split))
        probabilities: NDArray[np.float64] = expit(counts @ self.coefficients + self.intercept)
        return probabilities

    def state(self) -> dict[str, Any]:
        """Return the vocabulary (a line per n-gram, in column order), idf and coefficients."""
        return {
            "vocabulary": "\n".join(self.vectorizer.get_feature_names_out()),
            "idf": torch.from_numpy(self.vectorizer.idf_),
            "coefficients": torch.from_numpy(self.coefficients),
            "intercept": self.intercept,
        }


class Lexical(EstimatorFamily[LexicalConfig]):
    """The TF-IDF + logistic regression family."""

    name = "lexical"
    Config = LexicalConfig

    def feature_specs(self, config: LexicalConfig) -> Sequence[FeatureSpec]:
        """Return the text kind."""
        return (config.text,)

    def fit(self, config: LexicalConfig, inputs: Inputs, seed: int) -> LexicalEstimator:
        """Fit on the train split; ``seed`` is the solver's random state.

        Raises InputError if no n-gram is frequent enough to count.
        """
        from sklearn.linear_model import LogisticRegression

        vectorizer = _vectorizer(config)
        try:
            counts = vectorizer.fit_transform(_texts(config, inputs, "train"))
        except ValueError as error:
            raise InputError(
                f"lexical: no n-gram is in {config.min_df} functions of the train split ({error}). "
                "Lower min_df, or give more functions."
            ) from error
        regression = LogisticRegression(
            C=config.inverse_regularisation,
            class_weight=config.class_weight,
            max_iter=config.max_iterations,
            solver="liblinear",
            random_state=seed,
        )
        regression.fit(counts, inputs.features.labels["train"])
        return LexicalEstimator(
            config, vectorizer, regression.coef_[0].copy(), float(regression.intercept_[0])
        )

    def load(self, config: LexicalConfig, state: Mapping[str, Any]) -> LexicalEstimator:
        """Restore what ``LexicalEstimator.state`` returned."""
        vectorizer = _vectorizer(config, state["vocabulary"].split("\n"))
        vectorizer.idf_ = state["idf"].numpy()
        return LexicalEstimator(
            config, vectorizer, state["coefficients"].numpy(), state["intercept"]
        )


def _vectorizer(config: LexicalConfig, vocabulary: Sequence[str] | None = None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(config.min_ngram, config.max_ngram),
        token_pattern=TOKEN_PATTERN,
        lowercase=config.lowercase,
        min_df=config.min_df,
        max_features=config.max_features,
        sublinear_tf=config.sublinear_tf,
        vocabulary=vocabulary,
    )


def _texts(config: LexicalConfig, inputs: Inputs, split: str) -> list[str]:
    packed: Ragged = inputs.features.split(config.text.key, split)["bytes"]
    return [packed[index].tobytes().decode("utf-8", "replace") for index in range(len(packed))]
