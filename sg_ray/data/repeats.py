"""Checks for repeated, contradictory and leaked functions, by hash of their normalised text.

Two functions are the same if they are equal after every run of whitespace became one space.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations

from sg_ray.data.samples import SPLITS, Sample


@dataclass(frozen=True)
class Removals:
    """Which findings to remove; the others are only counted."""

    duplicates: bool = False
    conflicts: bool = False
    leaks: bool = False


@dataclass(frozen=True)
class CheckReport:
    """How many rows each check found, before anything was removed.

    ``num_duplicates[split]``: rows that repeat text and label of an earlier row of their split.
    ``num_conflicts[split]``: rows whose text has both labels in their split.
    ``num_leaks[first, second]``: rows of the second split whose text occurs in the first.
    ``num_removed[split]``: rows that were taken out.
    """

    num_duplicates: Mapping[str, int]
    num_conflicts: Mapping[str, int]
    num_leaks: Mapping[tuple[str, str], int]
    num_removed: Mapping[str, int]
    removals: Removals

    @property
    def notes(self) -> tuple[str, ...]:
        """One line per finding, with what was or can be done about it."""
        found = [
            *(
                f"{split}: {count} rows repeat an earlier row; "
                + _remedy(self.removals.duplicates, "remove_duplicates")
                for split, count in self.num_duplicates.items()
                if count
            ),
            *(
                f"{split}: {count} rows have a text that occurs with both labels; "
                + _remedy(self.removals.conflicts, "remove_conflicts")
                for split, count in self.num_conflicts.items()
                if count
            ),
            *(
                f"{second}: {count} rows also occur in {first}; " + self._leak_remedy(first)
                for (first, second), count in self.num_leaks.items()
                if count
            ),
        ]
        removed = [
            f"{split}: {count} rows removed" for split, count in self.num_removed.items() if count
        ]
        return (*found, *removed)

    def _leak_remedy(self, first: str) -> str:
        if first != "train":
            return "kept (evaluation splits are never altered for a leak)"
        if self.removals.leaks:
            return "removed from train"
        return "kept (data.remove_leaks=true removes them from train)"


@dataclass(frozen=True)
class _Row:
    """A sample with the hash of its normalised text."""

    sample: Sample
    text: bytes


_Rows = Mapping[str, list[_Row]]


def check_splits(
    splits: Mapping[str, Sequence[Sample]], removals: Removals
) -> tuple[dict[str, list[Sample]], CheckReport]:
    """Return the splits without what ``removals`` names, and the report.

    Duplicates and conflicts are removed in every split, of duplicates the first row is kept. A
    leak is removed from train, never from the split that train is measured on.
    """
    rows = {
        split: [_Row(sample, _hash_text(sample.source)) for sample in splits[split]]
        for split in SPLITS
        if split in splits
    }
    kept = _remove(rows, removals)
    report = CheckReport(
        num_duplicates={split: len(part) - len(_distinct(part)) for split, part in rows.items()},
        num_conflicts={
            split: _count(part, _conflicting_texts(part)) for split, part in rows.items()
        },
        num_leaks={
            (first, second): _count(rows[second], _texts(rows[first]))
            for first, second in combinations(rows, 2)
        },
        num_removed={split: len(rows[split]) - len(kept[split]) for split in rows},
        removals=removals,
    )
    return {split: [row.sample for row in part] for split, part in kept.items()}, report


def _remove(rows: _Rows, removals: Removals) -> _Rows:
    kept = dict(rows)
    for split, part in rows.items():
        if removals.conflicts:
            part = _without(part, _conflicting_texts(part))
        if removals.duplicates:
            part = _distinct(part)
        kept[split] = part
    if removals.leaks:
        evaluated = set().union(*(_texts(rows[split]) for split in rows if split != "train"))
        kept["train"] = _without(kept["train"], evaluated)
    return kept


def _count(rows: Sequence[_Row], texts: Set[bytes]) -> int:
    return sum(row.text in texts for row in rows)


def _without(rows: Sequence[_Row], texts: Set[bytes]) -> list[_Row]:
    return [row for row in rows if row.text not in texts]


def _distinct(rows: Sequence[_Row]) -> list[_Row]:
    """Return the first row of each text and label."""
    first = {(row.text, row.sample.label): row for row in reversed(rows)}
    return [row for row in rows if first[row.text, row.sample.label] is row]


def _conflicting_texts(rows: Sequence[_Row]) -> set[bytes]:
    labels: defaultdict[bytes, set[int]] = defaultdict(set)
    for row in rows:
        labels[row.text].add(row.sample.label)
    return {text for text, seen in labels.items() if len(seen) > 1}


def _texts(rows: Sequence[_Row]) -> set[bytes]:
    return {row.text for row in rows}


def _hash_text(source: str) -> bytes:
    normalised = " ".join(source.split())
    return hashlib.blake2b(normalised.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _remedy(removed: bool, setting: str) -> str:
    return "removed" if removed else f"kept (data.{setting}=true removes them)"
