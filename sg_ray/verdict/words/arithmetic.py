"""With what a trial's sums were done: seeds that differ in it are not the same experiment."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sg_ray.records.record import RunRecord
from sg_ray.verdict.words.sentences import count_of, listed

_NUM_LISTED = 5


@dataclass(frozen=True)
class Arithmetic:
    """What changes a trial's rounding, as phrases; None where the record does not say."""

    workers: str | None = None
    stacked: str | None = None
    device: str | None = None
    instructions: str | None = None
    precision: str | None = None
    torch: str | None = None
    cuda: str | None = None

    @classmethod
    def of(cls, record: RunRecord) -> "Arithmetic":
        """Return what a record's environment tells."""
        noted = record.environment
        return cls(
            workers=_phrase("by {}", noted.get("num_workers"), lambda n: count_of(n, "worker")),
            stacked=_stacked(noted),
            device=_phrase("on {}", _device(noted)),
            instructions=_phrase("by {}", _instructions(noted)),
            precision=_phrase("in {}", noted.get("precision")),
            torch=_phrase("with torch {}", noted.get("torch")),
            cuda=_phrase("with CUDA {}", noted.get("cuda") if _is_on_gpu(noted) else None),
        )


def mixtures(trials: Iterable[tuple[str, Arithmetic]], noun: str = "seed") -> Iterator[str]:
    """Yield who was trained how, e.g. "seed 1 by 1 worker, seeds 2 and 3 by 2 workers".

    ``trials`` are names (each of a ``noun``) with their arithmetic; one phrase for each aspect in
    which they differ.
    """
    told = list(trials)
    for aspect in (one.name for one in fields(Arithmetic)):
        names: dict[str, list[str]] = defaultdict(list)
        for name, arithmetic in told:
            phrase = getattr(arithmetic, aspect)
            if phrase is not None and name not in names[phrase]:
                names[phrase].append(name)
        if len(names) > 1:
            yield ", ".join(f"{_some(group, noun)} {phrase}" for phrase, group in names.items())


def _phrase(form: str, value: Any, text: Any = str) -> str | None:
    return None if value is None else form.format(text(value))


def _stacked(noted: Any) -> str | None:
    """Return with how many seeds it trained as one; of a training that did not end, nothing."""
    if not noted.get("num_workers"):
        return None
    stack = noted.get("stack")
    return "alone" if stack is None else f"as one of {len(stack['seeds'])} stacked"


def _is_on_gpu(noted: Any) -> bool:
    return bool(noted.get("device") == "cuda")


def _device(noted: Any) -> str | None:
    """Return the model of GPU or CPU: another kind rounds otherwise."""
    if not noted.get("device"):
        return None
    return noted.get("device_name") or ("a GPU" if _is_on_gpu(noted) else "a CPU")


def _instructions(noted: Any) -> str | None:
    """Return the widest instructions that torch uses on a CPU."""
    return None if _is_on_gpu(noted) else noted.get("cpu_capability")


def _some(names: Sequence[str], noun: str) -> str:
    """Return e.g. "seeds 2 and 3" of the seeds' names, the first few of many."""
    shown, more = names[:_NUM_LISTED], len(names) - _NUM_LISTED
    text = listed([*shown, f"{more} more"] if more > 0 else shown)
    return f"{noun if len(names) == 1 else f'{noun}s'} {text}"
