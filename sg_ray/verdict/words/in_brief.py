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
    words = shlex.split(command)
    place = max(number for number, word in enumerate(words) if Path(word).name == sweep)
    if not _leads_to(words[place], folder):
        words[place] = str(from_here(folder.resolve()))
    return shlex.join(words)


def _leads_to(place: str, folder: Path) -> bool:
    """Whether a command that is run from here finds the folder by its path, or a sweep's name."""
    usual = Experiment.model_fields["output_dir"].default
    return any(path.exists() and path.samefile(folder) for path in (Path(place), usual / place))


def _purpose(comparison: Comparison) -> str:
    """Say what a comparison's command is for, and how many seeds that takes."""
    a, b, num = comparison.a.name.strip(), comparison.b.name.strip(), comparison.more_seeds
    guess = "at least" if len(comparison.seeds) < 2 else "about"
    return f"To tell {a} from {b} ({guess} {num} more {'seed' if num == 1 else 'seeds'})"
