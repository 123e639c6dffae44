"""Does a run of one letter cost more than as many bytes of ordinary words?

Each step from source to features is timed on one function with a string literal of a run of equal
letters, digits or signs, and on one of random words: the best of some repetitions, in seconds, and
the ratio. Run it with `python experiments/benchmarks/long_words.py [--num-bytes 80000]`.
"""

import argparse
import random
import time
from collections.abc import Callable, Mapping

import numpy as np

from sg_ray.data.synthetic.generator import generate
from sg_ray.features.packed import FeatureKind, Features
from sg_ray.features.program_graphs import GraphFeaturiser
from sg_ray.features.source_text import TextFeaturiser
from sg_ray.features.spec import GraphSpec, TextSpec, TokenSpec
from sg_ray.features.tokens import TokenFeaturiser
from sg_ray.models.family import Inputs
from sg_ray.models.lexical import Lexical, LexicalConfig

NUM_OTHERS = 100
"""Ordinary functions beside the one that is measured."""
NUM_REPETITIONS = 10


def main() -> None:
    """Print a table of seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-bytes", type=int, default=80_000)
    num_bytes = parser.parse_args().num_bytes
    seconds = {name: times(text) for name, text in literals(num_bytes).items()}
    print(f"{'step':<22}" + "".join(f"{name:>20}" for name in seconds))
    for step, words_s in seconds["words"].items():
        cells = [f"{took[step]:.4f} s ({took[step] / words_s:.2f})" for took in seconds.values()]
        print(f"{step:<22}" + "".join(f"{cell:>20}" for cell in cells))


def literals(num_bytes: int) -> Mapping[str, str]:
    """Return the texts to compare; the first is what the others are measured by."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(num_bytes)]
    return {
        "words": " ".join(words)[:num_bytes],
        "one letter": "x" * num_bytes,
        "random letters": "".join(rng.choices(letters, k=num_bytes)),
        "one digit": "7" * num_bytes,
        "one sign": "=" * num_bytes,
    }


def times(literal: str) -> dict[str, float]:
    """Return the seconds of each step on a function that holds ``literal``."""
    source = f'void f(void) {{ char *s = "{literal}"; g(s); }}'
    sources = [*(sample.source for sample in generate(NUM_OTHERS, seed=0)), source]
    tokens = TokenFeaturiser.fit(TokenSpec(), sources)
    graphs = GraphFeaturiser.fit(GraphSpec(), sources)
    return {
        "train the tokenizer": best(lambda: TokenFeaturiser.fit(TokenSpec(), sources)),
        "tokenise": best(lambda: tokens.encode([source])),
        "fit the graphs": best(lambda: GraphFeaturiser.fit(GraphSpec(), sources)),
        "make the graph": best(lambda: graphs.encode([source])),
        "lexical floor": best(lambda: fit_lexical(sources)),
    }


def fit_lexical(sources: list[str]) -> None:
    """Fit TF-IDF and the regression on ``sources``, labelled in turn."""
    spec = TextSpec()
    texts = TextFeaturiser(spec)
    labels = {"train": (np.arange(len(sources)) % 2).astype(np.int8)}
    kind = FeatureKind(texts.meta, {"train": texts.encode(sources)})
    inputs = Inputs(Features("benchmark", labels, {spec.key: kind}))
    Lexical().fit(LexicalConfig(text=spec, min_df=1), inputs, seed=0)


def best(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest repetition."""
    found = []
    for _ in range(NUM_REPETITIONS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


if __name__ == "__main__":
    main()
