"""The verdict in a few lines, for a console."""

import shlex
from pathlib import Path

from sg_ray.commands import from_here, runnable
from sg_ray.config import Experiment
from sg_ray.verdict.model import Comparison, Verdict


def in_brief(verdict: Verdict, folder: Path) -> str:
    """Return the headline, the answer to each question, and a command to know more.

    The answer that the headline gives is left out. The command is that of the first
    comparison that has one: the best-ranked are compared first. ``folder`` is the sweep's.
    """
    answers = [
        f"  {question.text} {question.answer}"
        for question in verdict.questions
        if question.name != verdict.headline_answers
    ]
    compared = (one for question in verdict.questions for one in question.comparisons)
    to_know_more = [
        f"{_purpose(one)}: {runnable(_of_folder(one.command, verdict.sweep, folder))}"
        for one in compared
        if one.command is not None
    ]
    return "\n".join([verdict.headline, *answers, *to_know_more[:1]])


def _of_folder(command: str, sweep: str, folder: Path) -> str:
    """Name the folder in a command that would not find the sweep from here by what it says."""
    return shlex.join(
        str(from_here(folder.resolve())) if _is_lost(word, sweep, folder) else word
        for word in shlex.split(command)
    )


def _is_lost(word: str, sweep: str, folder: Path) -> bool:
    if "=" in word or Path(word).name != sweep:
        return False
    usual = Experiment.model_fields["output_dir"].default
    return not any(one.exists() and one.samefile(folder) for one in (Path(word), usual / word))


def _purpose(comparison: Comparison) -> str:
    """Say what a comparison's command is for, and how many seeds that takes."""
    a, b, num = comparison.a.name.strip(), comparison.b.name.strip(), comparison.more_seeds
    guess = "at least" if len(comparison.seeds) < 2 else "about"
    return f"To tell {a} from {b} ({guess} {num} more {'seed' if num == 1 else 'seeds'})"
