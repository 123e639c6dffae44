import re
from collections import Counter

import numpy as np
import pytest
import tree_sitter_c
from tree_sitter import Language, Parser

from sg_ray.data.samples import Sample
from sg_ray.data.splits import split_pairs
from sg_ray.data.synthetic import generate, mislabel
from sg_ray.data.synthetic.templates import TEMPLATES, Template
from sg_ray.errors import InputError

NUM_SAMPLES = 2000
TOKEN = re.compile(r"\w+|[^\w\s]")


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return generate(NUM_SAMPLES, seed=0)


@pytest.fixture(scope="module")
def splits(samples: list[Sample]) -> dict[str, list[Sample]]:
    return split_pairs(samples, seed=0)


def test_equal_seeds_give_equal_samples_and_a_smaller_set_begins_a_larger_one(samples):
    assert generate(NUM_SAMPLES, seed=0) == samples
    assert generate(100, seed=0) == samples[:100]
    assert generate(100, seed=1) != samples[:100]


def test_pairs_are_adjacent_and_named_after_their_weakness(samples):
    assert len(samples) == NUM_SAMPLES
    for vulnerable, fixed in zip(samples[::2], samples[1::2], strict=True):
        assert (vulnerable.label, fixed.label) == (1, 0)
        assert re.fullmatch(r"cwe\d+-\d{5}-v", vulnerable.sample_id)
        assert fixed.sample_id == vulnerable.sample_id[:-1] + "f"
    assert len({sample.sample_id.split("-")[0] for sample in samples}) >= 8


def test_all_texts_are_distinct(samples):
    assert len({sample.source for sample in samples}) == NUM_SAMPLES


def test_an_odd_number_is_refused():
    with pytest.raises(InputError, match="num_samples = 7"):
        generate(7, seed=0)


def test_every_function_parses_as_one_c_function(samples):
    parser = Parser(Language(tree_sitter_c.language()))
    for sample in samples:
        root = parser.parse(sample.source.encode()).root_node
        assert not root.has_error, sample.source
        assert [child.type for child in root.children] == ["function_definition"]


def test_functions_are_short(samples):
    num_tokens = [len(TOKEN.findall(sample.source)) for sample in samples]
    assert 40 <= np.mean(num_tokens) <= 70
    assert max(num_tokens) <= 90


def test_a_pair_has_the_same_tokens_and_lines_of_the_same_kind(samples):
    for vulnerable, fixed in zip(samples[::2], samples[1::2], strict=True):
        assert Counter(TOKEN.findall(vulnerable.source)) == Counter(TOKEN.findall(fixed.source))
        assert len(vulnerable.source) == len(fixed.source)
        assert vulnerable.source.splitlines()[:3] == fixed.source.splitlines()[:3]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.weakness)
def test_templates_differ_in_order_or_in_flow_alone(template: Template):
    assert template.safe != template.unsafe
    if template.kind == "order":
        assert Counter(template.safe) == Counter(template.unsafe)
    else:
        assert _mask_siblings(template.safe) == _mask_siblings(template.unsafe)


def test_both_kinds_of_template_are_there():
    assert {template.kind for template in TEMPLATES} == {"order", "flow"}


def test_word_counts_lengths_and_first_words_are_at_chance(splits):
    assert _accuracy(splits, _count_vectorizer()) == pytest.approx(0.5, abs=0.05)
    for feature in (_lengths, _first_words):
        assert _majority_accuracy(splits, feature) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("token_pattern", [r"\w+", r"(?u)\b\w\w+\b", r"\w+|[^\w\s]"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_lexical_floor_is_low(token_pattern, seed):
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=token_pattern)
    assert _accuracy(split_pairs(generate(NUM_SAMPLES, seed), seed), vectorizer) <= 0.72


def _mask_siblings(statements: tuple[str, ...]) -> list[str]:
    return [re.sub(r"\{[ab]\}", "{.}", statement) for statement in statements]


def _count_vectorizer():
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(token_pattern=TOKEN.pattern)


def _accuracy(splits, vectorizer) -> float:
    from sklearn.linear_model import LogisticRegression

    train, valid = splits["train"], splits["valid"]
    counts = vectorizer.fit_transform([sample.source for sample in train])
    model = LogisticRegression(max_iter=1000).fit(counts, [sample.label for sample in train])
    predicted = model.predict(vectorizer.transform([sample.source for sample in valid]))
    return float(np.mean(predicted == [sample.label for sample in valid]))


def _majority_accuracy(splits, feature) -> float:
    """Predict the label that a feature's value mostly had in train."""
    balance: Counter = Counter()
    for sample in splits["train"]:
        balance[feature(sample)] += 2 * sample.label - 1
    hits = [(balance[feature(sample)] > 0) == sample.label for sample in splits["valid"]]
    return float(np.mean(hits))


def _lengths(sample: Sample) -> tuple[int, int]:
    return len(sample.source), sample.source.count("\n")


def _first_words(sample: Sample) -> tuple[str, ...]:
    return tuple(TOKEN.findall(sample.source)[:4])


def test_wrong_labels_are_as_many_as_asked_for_and_balanced(samples):
    noisy = mislabel(samples, 0.05, seed=3)
    assert [s.source for s in noisy] == [s.source for s in samples]
    wrong = [was.label for was, now in zip(samples, noisy, strict=True) if was.label != now.label]
    assert len(wrong) == round(0.05 * len(samples))
    assert sum(wrong) == len(wrong) // 2
    assert mislabel(samples, 0.05, seed=3) == noisy
    assert mislabel(samples, 0.05, seed=4) != noisy
    assert mislabel(samples, 0.0, seed=3) == list(samples)
