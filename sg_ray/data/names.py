"""Do names tell the label? A floor on pieces of names, which no honest data set lets go high.

In some data sets the vulnerable functions are called ``bad_17`` and the fixed ones ``good_17``, or
only these are ``static``, or a comment says ``FLAW``. A model learns that and nothing else. So a
naive Bayes classifier reads nothing but the pieces of names (cut at underscores, digits and
capitals) of some training functions, and is scored on validation functions.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sg_ray.data.samples import Sample, labels_of
from sg_ray.data.splits import stratified_subset

MAX_TRAIN, MAX_VALID = 4000, 2000
"""Functions looked at: enough for a number that nobody doubts, and a second's work."""
MAX_CHARS = 4000
"""Of a function: its head, and most or all of its body."""

_MIN_COUNT = 3
"""Pieces in fewer training functions say nothing."""
_NUM_SD_OF_ALL, _NUM_SD_OF_ONE = 3.0, 4.5
"""A score counts if it lies so many standard deviations of chance above one half: few for a score
taken once, more for the best of hundreds of pieces."""
_NUM_SHOWN = 4
_GRAM = 3

_HEAD = re.compile(r"\b([^\W\d]\w*)\s*\(")
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|//[^\n]*", re.DOTALL)
_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')
_WORD = re.compile(r"[^\W\d]\w*")
_VARIABLE = re.compile(r"\b[^\W\d]\w*\b(?!\s*\()")
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+")
_NUMBER = re.compile(r"\d+")

Pieces = frozenset[str]


@dataclass(frozen=True)
class _Parts:
    """A function's name, what stands before it, the names in its body, and its comments."""

    name: str
    head: str
    called: str
    variables: str
    comments: str

    @classmethod
    def of(cls, source: str) -> "_Parts":
        text = source[:MAX_CHARS]
        code = _STRING.sub('""', _COMMENT.sub(" ", text))
        found = _HEAD.search(code)
        name, start, end = (found[1], *found.span()) if found else ("", 0, 0)
        body, comments = code[end:], " ".join(_COMMENT.findall(text))
        called, variables = (" ".join(some.findall(body)) for some in (_HEAD, _VARIABLE))
        return cls(name, code[:start], called, variables, comments)


@dataclass(frozen=True)
class _Place:
    """Where names stand, and from which ROC-AUC on they give the label away.

    ``limit`` is for all pieces together, ``limit_of_one`` for the presence of a single one. On
    Devign the pieces of functions' names reach 0.64 and the best of them alone 0.51, variables 0.64
    and 0.53, comments and heads less; honest sets of one pattern (a bounds check with its ``len``)
    need more room with variables.
    """

    said: str
    pieces: Callable[[_Parts], Iterable[str]]
    limit: float = 0.8
    limit_of_one: float = 0.7


def _words(text: str) -> set[str]:
    """Return the pieces of all words of a text, in small letters; numbers by parity only."""
    return {_piece(part) for word in set(_WORD.findall(text)) for part in _PIECE.findall(word)}


def _piece(part: str) -> str:
    if part.isdigit():
        return "an odd number" if int(part[-1]) % 2 else "an even number"
    return part.lower()


def _of_name(parts: _Parts) -> Iterable[str]:
    """Yield pieces, and what else tells names apart: runs of letters, length, style, digits."""
    bare = _NUMBER.sub("", parts.name).strip("_").lower()
    yield from _words(parts.name)
    yield from (f"..{bare[at : at + _GRAM]}.." for at in range(len(bare) - _GRAM + 1))
    yield f"{bare[:2]}.."
    yield f"..{bare[-2:]}"
    if digits := _NUMBER.findall(parts.name):
        last = digits[-1].lstrip("0") or "0"
        yield f"a number ending in {last[-1]}"
        yield f"a number of {len(last)} digits"
        yield f"a number of {len(last)} digits, the first {last[0]}"
        yield f"{len(digits)} numbers"
    yield f"{len(parts.name) - len(parts.name.lstrip('_'))} underscores in front"
    yield f"{len(parts.name) - len(parts.name.rstrip('_'))} underscores behind"
    yield f"{len(bare)} letters"
    yield "capitals" if parts.name != parts.name.lower() else "small letters"


_PLACES = (
    _Place("the functions' names", _of_name),
    _Place("what stands before the functions' names", lambda parts: _words(parts.head)),
    _Place("comments", lambda parts: _words(parts.comments)),
    _Place("the names of called functions", lambda parts: _words(parts.called), 0.95, 0.85),
    _Place("variables' names", lambda parts: _words(parts.variables), 0.95, 0.85),
)


def notes_on_names(splits: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Return a sentence for each place whose names give the label away; with pieces of names."""
    train = stratified_subset(splits["train"], MAX_TRAIN, 0)
    valid = stratified_subset(splits["valid"], MAX_VALID, 0)
    labels = labels_of(train), labels_of(valid)
    if any(len(set(some.tolist())) < 2 for some in labels):
        return []
    parts = [_Parts.of(s.source) for s in train], [_Parts.of(s.source) for s in valid]
    notes = [_note(place, *parts, *labels) for place in _PLACES]
    return [note for note in notes if note is not None]


def _note(
    place: _Place,
    train: Sequence[_Parts],
    valid: Sequence[_Parts],
    train_labels: NDArray[np.int8],
    valid_labels: NDArray[np.int8],
) -> str | None:
    known, new = ([frozenset(place.pieces(p)) for p in parts] for parts in (train, valid))
    weights = _weights(known, train_labels)
    scores = np.array([math.fsum(weights.get(p, 0.0) for p in pieces) for pieces in new])
    auc, chance = _roc_auc(valid_labels, scores), _sd_of_chance(valid_labels)
    labels = np.concatenate([train_labels, valid_labels])
    alone = _scores_alone([*known, *new], labels)
    best = max(alone.values(), default=0.5)
    all_tell = auc >= max(place.limit, 0.5 + _NUM_SD_OF_ALL * chance)
    one_tells = best >= max(place.limit_of_one, 0.5 + _NUM_SD_OF_ONE * _sd_of_chance(labels))
    if not (all_tell or one_tells):
        return None
    telling = sorted(alone, key=lambda piece: (-round(alone[piece], 1), not piece.isalpha(), piece))
    return (
        f"names: the label can be told from {place.said} alone (ROC-AUC {max(auc, best):.2f}, by "
        f"{', '.join(map(repr, telling[:_NUM_SHOWN]))}): a model may learn that and nothing of the "
        "code. Change them so that both labels look alike"
    )


def _weights(functions: Sequence[Pieces], labels: NDArray[np.int8]) -> dict[str, float]:
    """Return what each piece adds to the logarithm of the odds (naive Bayes, smoothed)."""
    num_vulnerable, num_fine = int(labels.sum()), int((labels == 0).sum())
    return {
        piece: math.log((in_vulnerable + 0.5) / (num_vulnerable + 1))
        - math.log((in_fine + 0.5) / (num_fine + 1))
        for piece, (in_vulnerable, in_fine) in _counts(functions, labels).items()
    }


def _scores_alone(functions: Sequence[Pieces], labels: NDArray[np.int8]) -> dict[str, float]:
    """Return the ROC-AUC of each piece's presence, or absence if that is what tells."""
    counts = _counts(functions, labels)
    num_vulnerable, num_fine = int(labels.sum()), int((labels == 0).sum())
    return {
        piece: 0.5 + abs(in_vulnerable / num_vulnerable - in_fine / num_fine) / 2
        for piece, (in_vulnerable, in_fine) in counts.items()
    }


def _counts(functions: Sequence[Pieces], labels: NDArray[np.int8]) -> dict[str, tuple[int, int]]:
    """Return in how many vulnerable and other functions each piece is, the rarest left out."""
    vulnerable, fine = Counter[str](), Counter[str]()
    for pieces, label in zip(functions, labels.tolist(), strict=True):
        (vulnerable if label else fine).update(pieces)
    return {
        piece: (vulnerable[piece], fine[piece])
        for piece in sorted(vulnerable.keys() | fine.keys())
        if vulnerable[piece] + fine[piece] >= _MIN_COUNT
    }


def _roc_auc(labels: NDArray[np.int8], scores: NDArray[np.float64]) -> float:
    """Return how often a vulnerable function scores above another, ties as one half."""
    _, level, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[level]
    num_vulnerable = int(labels.sum())
    above = ranks[labels == 1].sum() - num_vulnerable * (num_vulnerable + 1) / 2
    return float(above / (num_vulnerable * (len(labels) - num_vulnerable)))


def _sd_of_chance(labels: NDArray[np.int8]) -> float:
    """Return the standard deviation of the ROC-AUC of scores that know nothing."""
    num_vulnerable, num_fine = int(labels.sum()), int((labels == 0).sum())
    return math.sqrt((num_vulnerable + num_fine + 1) / (12 * num_vulnerable * num_fine))
