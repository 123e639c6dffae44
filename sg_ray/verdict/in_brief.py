"""The verdict in a few lines, for a console."""

from sg_ray.verdict.model import Verdict


def in_brief(verdict: Verdict) -> str:
    """Return the headline, the answer to each question, and a command to know more.

    The command is that of the first comparison that has one: the best-ranked are compared first.
    """
    answers = [f"  {question.text} {question.answer}" for question in verdict.questions]
    compared = (one for question in verdict.questions for one in question.comparisons)
    command = next((one.command for one in compared if one.command), None)
    to_know_more = [] if command is None else [f"To know more: {command}"]
    return "\n".join([verdict.headline, *answers, *to_know_more])
