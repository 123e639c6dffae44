"""What ends a job from outside: why its process or machine was lost, or what ended a worker."""

import re

from sg_ray.errors import InfrastructureError
from sg_ray.records.record import Failure

UNEXPLAINED = "its process or machine died"
UNANSWERED = "its process or machine answers no more"

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TUNES_OWN = re.compile(r"Failure # \d+ \(occurred at .*\)")
_MEMORY = re.compile(r"was (?P<used>\S+) used / (?P<limit>\S+) limit \((?P<share>[\d.]+)\)")
_EXCEPTION = re.compile(r"(?:\w+\.)*(?P<named>\w*(?:Error|Exception|Exit|Interrupt)\b.*)")
_FRAME = re.compile(r'File ".*", line \d+')
_NODE_DEATH = re.compile(r"node (?:has died|was terminated|.*dead)", re.IGNORECASE)
_UNAVAILABLE = re.compile(r"actor \w+ is unavailable")
_PROCESS_DEATH = re.compile(r"Worker exit detail: (?P<detail>.*?)\.?(?: There are| Some|$)")

_PLACE = re.compile(r"\b(?:ip[:=]|node id:)\s*(?P<place>[\da-f.:]*[\da-f])", re.IGNORECASE)


class GroupFailure(Exception):  # noqa: N818 - a worker's failure, passed on
    """A worker's exception that no restart would mend."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def infrastructure_failure(text: str) -> Failure:
    """Return the failure that Ray's ``text`` on a lost job tells of, its message a single line."""
    plain = _COLOURS.sub("", text)
    kind = InfrastructureError.__name__
    return Failure(kind=kind, message=_reason(plain), traceback=plain)


def places_in(text: str) -> set[str]:
    """Return the addresses and ids of nodes that Ray's ``text`` on a lost process names."""
    return {found["place"] for found in _PLACE.finditer(text)}


def _reason(text: str) -> str:
    """Return the line that says why; Ray's advice and statistics around it run to pages."""
    if found := _MEMORY.search(text):
        full = round(100 * float(found["share"]))
        return (
            f"out of memory: the machine was {full} % full ({found['used']} of {found['limit']}), "
            "and Ray ended the trial's process"
        )
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not _TUNES_OWN.fullmatch(line)]
    if any(_FRAME.match(line) for line in lines):
        raised = (_EXCEPTION.fullmatch(line) for line in reversed(lines))
        named = (found["named"] for found in raised if found is not None)
        if last := next(named, None):
            return last.removeprefix(f"{InfrastructureError.__name__}: ")
    if node := next((line for line in lines if _NODE_DEATH.search(line)), None):
        return f"its machine was lost: {node}"
    if found := _PROCESS_DEATH.search(text.replace("\n", " ")):
        return f"its process died: {found['detail']}"
    if _UNAVAILABLE.search(text):
        return UNANSWERED
    return lines[0] if lines else UNEXPLAINED
