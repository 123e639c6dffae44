"""The verdict in a few lines, for a console."""

from sg_ray.commands import runnable
from sg_ray.verdict.model import Comparison, Verdict


def in_brief(verdict: Verdict) -> str:
    """Return the headline, the answer to each question, and a command to know more.

    The first answer is left out if it only repeats the headline. The command is that of the first
    comparison that has one: the best-ranked are compared first.
    """
    asked = list(verdict.questions)
    if asked and _repeats(verdict.headline, asked[0].answer):
        del asked[0]
    answers = [f"  {question.text} {question.answer}" for question in asked]
    compared = (one for question in verdict.questions for one in question.comparisons)
    to_know_more = [
        f"{_purpose(one)}: {runnable(one.command)}" for one in compared if one.command is not None
    ]
    return "\n".join([verdict.headline, *answers, *to_know_more[:1]])


def _repeats(headline: str, answer: str) -> bool:
    """Return True if the headline is the answer, or has one word more: its configuration, say."""
    words, answer_words = headline.split(), answer.split()
    return words == answer_words or any(
        words[:at] + words[at + 1 :] == answer_words for at in range(len(words))
    )


def _purpose(comparison: Comparison) -> str:
    """Say what a comparison's command is for, and how many seeds that takes."""
    a, b, num = comparison.a.name.strip(), comparison.b.name.strip(), comparison.more_seeds
    guess = "at least" if len(comparison.seeds) < 2 else "about"
    return f"To tell {a} from {b} ({guess} {num} more {'seed' if num == 1 else 'seeds'})"
