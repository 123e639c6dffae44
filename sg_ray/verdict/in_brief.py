"""The verdict in a few lines, for a console."""

from sg_ray.verdict.model import Comparison, Verdict


def in_brief(verdict: Verdict) -> str:
    """Return the headline, the answer to each question, and a command to know more.

    The command is that of the first comparison that has one: the best-ranked are compared first.
    """
    answers = [f"  {question.text} {question.answer}" for question in verdict.questions]
    compared = (one for question in verdict.questions for one in question.comparisons)
    first = next((one for one in compared if one.command), None)
    to_know_more = [] if first is None else [f"{_purpose(first)}: {first.command}"]
    return "\n".join([verdict.headline, *answers, *to_know_more])


def _purpose(comparison: Comparison) -> str:
    """Say what a comparison's command is for, and how many seeds that takes."""
    a, b, num = comparison.a.name.strip(), comparison.b.name.strip(), comparison.more_seeds
    guess = "at least" if len(comparison.seeds) < 2 else "about"
    return f"To tell {a} from {b} ({guess} {num} more {'seed' if num == 1 else 'seeds'})"
