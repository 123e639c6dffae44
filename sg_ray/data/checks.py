"""Duplicates, contradicting labels and leaks between splits: found, reported, removed on request.

Two functions are the same text if they differ only in whitespace. Repeated functions across
splits inflate results of code models: Allamanis, "The adverse effects of code duplication in
machine learning models of code", Onward! 2019.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from sg_ray.data.samples import SPLITS, Sample

Splits = Mapping[str, Sequence[Sample]]
Keys = Mapping[str, Sequence[bytes]]


@dataclass(frozen=True)
class Removals:
    """Which of the problems are taken out of the data."""

    duplicates: bool = False
    """Keep the first of the repeated rows of a split."""
    conflicts: bool = False
    """Remove every row of a text that carries both labels, in every split."""
    leaks: bool = False
    """Remove from train what valid or test holds too; valid and test stay as they are."""


@dataclass(frozen=True)
class Leak:
    """Texts that two splits share."""

    source: str
    """The earlier split in the order of train, valid, test."""
    target: str
    """The later split."""
    num_source_rows: int
    num_target_rows: int


@dataclass(frozen=True)
class CheckReport:
    """What the checks found in the data as it was read."""

    num_duplicates: Mapping[str, int]
    """By split: rows that repeat an earlier row of it, text and label."""
    num_conflicting_texts: int
    """Texts that carry both labels, wherever their rows are."""
    num_conflicting_rows: Mapping[str, int]
    """By split: rows of those texts."""
    leaks: Sequence[Leak]
    """One for each pair of splits that share texts."""


def check(splits: Splits) -> CheckReport:
    """Look for duplicates, contradicting labels and leaks between every pair of splits."""
    return _check(splits, _text_keys(splits))


def clean(splits: Splits, removals: Removals) -> tuple[dict[str, list[Sample]], CheckReport]:
    """Return the splits without what is to be removed, and the report on them as they were."""
    keys = _text_keys(splits)
    kept = {}
    for split, samples in splits.items():
        dropped = _dropped(split, splits, keys, removals)
        kept[split] = [sample for row, sample in enumerate(samples) if row not in dropped]
    return kept, _check(splits, keys)


def describe(report: CheckReport, removals: Removals) -> list[str]:
    """Return one ASCII sentence a finding; nothing found, nothing said."""
    notes = [
        f"{split}: {_rows(number)} repeat{'s' if number == 1 else ''} an earlier row "
        f"(same text and label): {_outcome(removals.duplicates)}."
        for split, number in report.num_duplicates.items()
        if number
    ]
    if report.num_conflicting_texts:
        notes.append(_describe_conflicts(report, removals.conflicts))
    return notes + [_describe_leak(leak, removals.leaks) for leak in report.leaks]


def _text_keys(splits: Splits) -> Keys:
    return {
        split: [_text_key(sample.source) for sample in splits[split]]
        for split in SPLITS
        if split in splits
    }


def _text_key(source: str) -> bytes:
    text = " ".join(source.split()).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()


def _check(splits: Splits, keys: Keys) -> CheckReport:
    conflicting = _conflicting(splits, keys)
    return CheckReport(
        num_duplicates={split: len(_repeats(splits[split], keys[split])) for split in keys},
        num_conflicting_texts=len(conflicting),
        num_conflicting_rows={
            split: sum(key in conflicting for key in keys[split]) for split in keys
        },
        leaks=tuple(_find_leaks(keys)),
    )


def _repeats(samples: Sequence[Sample], keys: Sequence[bytes]) -> set[int]:
    """Return the rows that repeat an earlier one.

    The label counts: of two rows that contradict each other neither is the copy.
    """
    seen: set[tuple[bytes, int]] = set()
    repeats = set()
    for row, (sample, key) in enumerate(zip(samples, keys, strict=True)):
        if (key, sample.label) in seen:
            repeats.add(row)
        seen.add((key, sample.label))
    return repeats


def _conflicting(splits: Splits, keys: Keys) -> set[bytes]:
    labels: defaultdict[bytes, set[int]] = defaultdict(set)
    for split in keys:
        for sample, key in zip(splits[split], keys[split], strict=True):
            labels[key].add(sample.label)
    return {key for key, found in labels.items() if len(found) > 1}


def _find_leaks(keys: Keys) -> list[Leak]:
    counts = {split: Counter(keys[split]) for split in keys}
    leaks = []
    for source, target in combinations(counts, 2):
        shared = counts[source].keys() & counts[target].keys()
        if shared:
            num_source_rows = sum(counts[source][key] for key in shared)
            num_target_rows = sum(counts[target][key] for key in shared)
            leaks.append(Leak(source, target, num_source_rows, num_target_rows))
    return leaks


def _dropped(split: str, splits: Splits, keys: Keys, removals: Removals) -> set[int]:
    dropped: set[int] = set()
    if removals.duplicates:
        dropped |= _repeats(splits[split], keys[split])
    unwanted: set[bytes] = set()
    if removals.conflicts:
        unwanted |= _conflicting(splits, keys)
    if removals.leaks and split == "train":
        unwanted |= {key for other in keys if other != "train" for key in keys[other]}
    return dropped | {row for row, key in enumerate(keys[split]) if key in unwanted}


def _describe_conflicts(report: CheckReport, removed: bool) -> str:
    rows = ", ".join(f"{split} {n}" for split, n in report.num_conflicting_rows.items() if n)
    number = report.num_conflicting_texts
    carry = "text carries" if number == 1 else "texts carry"
    return f"{number} {carry} both labels (rows: {rows}): {_outcome(removed)}."


def _describe_leak(leak: Leak, removed: bool) -> str:
    occur = "occurs" if leak.num_target_rows == 1 else "occur"
    found = f"{_rows(leak.num_target_rows, leak.target)} also {occur} in {leak.source}"
    if removed and leak.source == "train":
        return f"{found}: {_rows(leak.num_source_rows, leak.source)} removed."
    return f"{found}: kept."


def _rows(number: int, split: str = "") -> str:
    name = f"{split} row" if split else "row"
    return f"{number} {name}{'' if number == 1 else 's'}"


def _outcome(removed: bool) -> str:
    return "removed" if removed else "kept"
