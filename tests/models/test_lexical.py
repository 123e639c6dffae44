import numpy as np
import pytest
from pydantic import ValidationError
from small_set import small_inputs

from sg_ray.errors import InputError
from sg_ray.features.packed import FeatureKind, Features, Ragged
from sg_ray.features.spec import TextSpec
from sg_ray.models.family import Inputs
from sg_ray.models.lexical import Lexical, LexicalConfig


def text_inputs(**splits: tuple[list[str], list[int]]) -> Inputs:
    packed = {
        split: {"bytes": Ragged.pack([np.frombuffer(t.encode(), np.uint8) for t in texts])}
        for split, (texts, _) in splits.items()
    }
    labels = {split: np.array(given, np.int8) for split, (_, given) in splits.items()}
    return Inputs(Features("text", labels, {TextSpec().key: FeatureKind({}, packed)}))


def test_learns_from_words_and_pairs_of_words() -> None:
    # "a b" and "b a" hold the same words: only the pairs tell them apart.
    texts, labels = ["int x; f(a, b);", "int x; f(b, a);"] * 10, [1, 0] * 10
    inputs = text_inputs(train=(texts, labels), valid=(["f(a, b);", "f(b, a);"], [1, 0]))
    pairs = Lexical().fit(LexicalConfig(), inputs, seed=0).predict_proba(inputs, "valid")
    words = Lexical().fit(LexicalConfig(max_ngram=1), inputs, seed=0).predict_proba(inputs, "valid")
    assert pairs[0] > 0.6
    assert pairs[1] < 0.4
    assert words[0] == pytest.approx(words[1])


def test_probabilities_are_those_of_sklearn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    config = LexicalConfig(inverse_regularisation=3.0)
    inputs = small_inputs("lexical", config)
    texts = {
        split: [arrays["bytes"][i].tobytes().decode() for i in range(len(arrays["bytes"]))]
        for split, arrays in inputs.features.kinds[config.text.key].splits.items()
    }
    reference = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+", min_df=2, sublinear_tf=True),
        LogisticRegression(C=3.0, solver="liblinear", random_state=5),
    ).fit(texts["train"], inputs.features.labels["train"])
    got = Lexical().fit(config, inputs, seed=5).predict_proba(inputs, "test")
    np.testing.assert_allclose(got, reference.predict_proba(texts["test"])[:, 1], atol=1e-12)


def test_text_without_known_words_gets_the_prior() -> None:
    inputs = text_inputs(
        train=(["f a", "f b", "f a", "f b"], [1, 0, 1, 0]), valid=(["", "zzz \u00e9"], [0, 1])
    )
    first, second = Lexical().fit(LexicalConfig(), inputs, seed=0).predict_proba(inputs, "valid")
    assert first == second


def test_train_texts_without_a_common_word_are_refused() -> None:
    inputs = text_inputs(train=(["alpha", "beta"], [0, 1]))
    with pytest.raises(InputError, match="min_df"):
        Lexical().fit(LexicalConfig(), inputs, seed=0)


def test_ngram_sizes_must_be_in_order() -> None:
    with pytest.raises(ValidationError, match="min_ngram 3 is above max_ngram 2"):
        LexicalConfig(min_ngram=3)
