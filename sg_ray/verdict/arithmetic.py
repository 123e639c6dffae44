"""With what a trial's sums were done: seeds that differ in it are not the same experiment."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sg_ray.sweep.records import RunRecord
from sg_ray.verdict.sentences import count_of, listed

_NUM_LISTED = 5


@dataclass(frozen=True)
class Arithmetic:
    """What changes a trial's rounding, as phrases; None where the record does not say."""

    workers: str | None = None
    device: str | None = None
    precision: str | None = None
    torch: str | None = None

    @classmethod
    def of(cls, record: RunRecord) -> "Arithmetic":
        """Return what a record's environment tells."""
        noted = record.environment
        return cls(
            workers=_phrase("by {}", noted.get("num_workers"), lambda n: count_of(n, "worker")),
            device=_phrase("on {}", _device(noted)),
            precision=_phrase("in {}", noted.get("precision")),
            torch=_phrase("with torch {}", noted.get("torch")),
        )


def mixtures(trials: Sequence[tuple[str, Arithmetic]]) -> Iterator[str]:
    """Yield who was trained how, e.g. "seed 1 by 1 worker, seeds 2 and 3 by 2 workers".

    ``trials`` are names with their arithmetic; one phrase for each aspect in which they differ.
    """
    for aspect in (one.name for one in fields(Arithmetic)):
        names: dict[str, list[str]] = defaultdict(list)
        for name, arithmetic in trials:
            phrase = getattr(arithmetic, aspect)
            if phrase is not None:
                names[phrase].append(name)
        if len(names) > 1:
            yield ", ".join(f"{_some(of_phrase)} {phrase}" for phrase, of_phrase in names.items())


def _phrase(form: str, value: Any, text: Any = str) -> str | None:
    return None if value is None else form.format(text(value))


def _device(noted: Any) -> str | None:
    device = noted.get("device")
    return noted.get("device_name", "a GPU") if device == "cuda" else device and "a CPU"


def _some(names: Sequence[str]) -> str:
    """Return e.g. "seeds 2 and 3" of the seeds' names, the first few of many."""
    shown, more = names[:_NUM_LISTED], len(names) - _NUM_LISTED
    text = listed([*shown, f"{more} more"] if more > 0 else shown)
    return f"{'seed' if len(names) == 1 else 'seeds'} {text}"
