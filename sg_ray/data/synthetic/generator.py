"""Fills the templates: names, constants, filler statements and layout, the same for both of a pair.

Sized so that a small transformer from scratch learns it within a minute of one core. Two choices
carry that. A filler stands in every gap, so that the words next to a statement do not tell what
ran before it (n-grams stay near chance), and all fillers have the same length, so that position
does. And of two siblings the check more often guards the first: counts of words cannot use such a
habit, but without it the flow templates are the parity of two names, which small networks do not
learn in minutes.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from sg_ray.data.samples import Sample
from sg_ray.data.synthetic.templates import TEMPLATES, Role, Template
from sg_ray.errors import InputError

_NAMES: dict[Role, tuple[str, ...]] = {
    "index": ("idx", "pos", "slot", "off"),
    "number": ("count", "width", "scale", "step"),
    "object": ("dev", "pkt", "req", "ctx"),
    "text": ("name", "path", "label", "host"),
}
_FIRST_SIBLING_GUARDED_RATE = 0.75
_VERBS = ("read", "load", "store", "parse", "update", "handle", "set", "get")
_NOUNS = ("frame", "block", "entry", "header", "queue", "event", "page", "field")
_STRUCTS = ("packet", "device", "buffer", "session")
_OWNERS = ("st", "self", "obj")
_INTEGERS = ("val", "arg", "num")
_LIMITS = ("16", "32", "64", "128", "256")
_ERRORS = ("1", "EINVAL", "EIO", "ERANGE")
_FILLERS = ("calls++;", "depth--;", "hits++;", "level--;", "tick();", "trace();")
_MAX_EXTRA_FILLERS = 2
_INDENT = "    "


def generate(num_samples: int, seed: int) -> list[Sample]:
    """Return ``num_samples`` distinct functions, the vulnerable and the fixed of a pair adjacent.

    A smaller set with the same seed is the beginning of a larger one. The ids of a pair differ in
    their end only: ``cwe787-00012-v`` and ``cwe787-00012-f``. Raises InputError if ``num_samples``
    is odd.
    """
    if num_samples % 2:
        raise InputError(
            f"num_samples = {num_samples}: functions come in pairs. Use an even number."
        )
    rng = random.Random(seed)
    samples: list[Sample] = []
    seen: set[str] = set()
    for number in range(num_samples // 2):
        template = TEMPLATES[number % len(TEMPLATES)]
        vulnerable, fixed = _draw_new_pair(template, rng, seen)
        key = f"{template.weakness}-{number:05d}"
        samples += [Sample(vulnerable, 1, f"{key}-v"), Sample(fixed, 0, f"{key}-f")]
    return samples


def mislabel(samples: Sequence[Sample], share: float, seed: int) -> list[Sample]:
    """Return the samples with a ``share`` of their labels turned round, of each label as many.

    No model can then be right about all, nor two seeds quite agree: as on real data.
    """
    by_label = [[i for i, s in enumerate(samples) if s.label == label] for label in (0, 1)]
    rng = random.Random(f"wrong labels {seed}")
    wrong = {i for members in by_label for i in rng.sample(members, round(share * len(members)))}
    return [
        replace(sample, label=1 - sample.label) if i in wrong else sample
        for i, sample in enumerate(samples)
    ]


def _draw_new_pair(template: Template, rng: random.Random, seen: set[str]) -> tuple[str, str]:
    while True:
        pair = _draw_pair(template, rng)
        if seen.isdisjoint(pair):
            seen.update(pair)
            return pair


def _draw_pair(template: Template, rng: random.Random) -> tuple[str, str]:
    words = _draw_words(template, rng)
    parameters = rng.sample(template.parameters, len(template.parameters))
    name = f"{rng.choice(_VERBS)}_{rng.choice(_NOUNS)}"
    head = [f"static int {name}({', '.join(parameters)})", "{{", _INDENT + "int ret = 0;"]
    if template.local:
        head.append(_INDENT + template.local)
    num_fillers = len(template.safe) + 1 + rng.randint(0, _MAX_EXTRA_FILLERS)
    fillers = rng.choices(_FILLERS, k=num_fillers)

    def render(statements: tuple[str, ...]) -> str:
        body = [_INDENT + line for line in _interleave(fillers, statements)]
        lines = [*head, *body, _INDENT + "return ret;", "}}", ""]
        return "\n".join(lines).format_map(words)

    return render(template.unsafe), render(template.safe)


def _draw_words(template: Template, rng: random.Random) -> dict[str, str]:
    a, b = _draw_siblings(template, rng)
    return {
        "a": a,
        "b": b,
        "o": rng.choice(_OWNERS),
        "s": rng.choice(_STRUCTS),
        "n": rng.choice(_INTEGERS),
        "k": str(rng.randint(2, 9)),
        "K": rng.choice(_LIMITS),
        "e": rng.choice(_ERRORS),
    }


def _draw_siblings(template: Template, rng: random.Random) -> tuple[str, str]:
    names = _NAMES[template.role]
    if template.kind == "order":
        a, b = rng.sample(names, 2)
        return a, b
    first, second = names[:2]
    first_guarded = rng.random() < _FIRST_SIBLING_GUARDED_RATE
    return (first, second) if first_guarded else (second, first)


def _interleave(fillers: list[str], statements: tuple[str, ...]) -> list[str]:
    """Put a filler before each statement and the remaining ones at the end."""
    lines: list[str] = []
    for filler, statement in zip(fillers, statements, strict=False):
        lines += [filler, *_break_after_condition(statement)]
    return lines + fillers[len(statements) :]


def _break_after_condition(statement: str) -> list[str]:
    condition, returns, value = statement.partition(" return ")
    return [condition, f"{_INDENT}return {value}"] if returns else [statement]
