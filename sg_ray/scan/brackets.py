"""Functions of a C or C++ file, found by their braces.

A grammar loses whole functions where macros hide what it needs, or where conditional compilation
splits a condition; braces are there all the same. Blocks at the top of a file, and in namespaces
and classes, are told by their heads (``heads.py``) and followed to their ends under several choices
of conditional branches (``conditionals.py``). Where the braces do not balance under any of them,
the indentation decides. What remains is named as not read.
"""

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sg_ray.scan.blanking import Code, Mark
from sg_ray.scan.conditionals import CHOICES, Branches, Choice, linked
from sg_ray.scan.heads import BLOCK_SIGN, Head, HeadKind, below_blank_line, read_head, trimmed

NO_END = "a function whose end was not found"
NO_HEAD = "code that belongs to no function"
NO_COMMENT_END = "a comment without an end"
NOT_CLEAR = "a block that may hold code"
TANGLED = "braces that could not be untangled"


@dataclass
class Span:
    """A part of a source text: a function, or code that could not be read as one."""

    start: int
    end: int
    reason: str = ""
    """Why it was not read; empty for a function."""


def spans_in(code: Code) -> list[Span]:
    """Return the functions of ``code``, and what was not read, in order.

    Functions within functions are parts of the outer one, classes within functions too. Takes time
    in proportion to the length of the text, whatever it holds.
    """
    branches = linked(code)
    spans = _Scan(code, branches).run()
    spans = sorted((*spans, *_without_braces(code, branches, spans)), key=lambda span: span.start)
    if code.open_comment is not None and "{" in code.text[code.open_comment :]:
        spans.append(Span(code.open_comment, len(code.text), NO_COMMENT_END))
    return spans


def _without_braces(code: Code, branches: Branches, spans: Sequence[Span]) -> Iterator[Span]:
    """Yield what stands between spans and is code, though no brace of the file says so."""
    blank = _compiled(code, branches)
    done = 0
    for span in (*spans, Span(len(blank), len(blank))):
        found = _WITHOUT_BRACES.search(blank, done, span.start)
        if found:
            before = blank[done : found.start()]
            start = done + max(before.rfind(";"), before.rfind("}")) + 1
            text = blank[start : span.start]
            yield Span(span.start - len(text.lstrip()), start + len(text.rstrip()), NO_HEAD)
        done = max(done, span.end)


def _compiled(code: Code, branches: Branches) -> str:
    """Return the blanked code without what nobody compiles, every character in its place."""
    pieces: list[str] = []
    done = 0
    for mark in sorted(mark for chain in branches.chains.values() for mark in chain[:-1]):
        start = code.positions[mark]
        if start >= done and branches.is_never(mark):
            end = code.positions[branches.next_branch(mark)]
            pieces += (code.blank[done:start], " " * (end - start))
            done = end
    return "".join((*pieces, code.blank[done:]))


_STATEMENT = re.compile(
    r"\b(?:return|if|else|while|for|do|switch|case|goto|break|continue)\b(?!\s*::)"
)
_SIMPLE_STATEMENT = re.compile(r"\b(?:return|goto|break|continue)\b[^;{}]*;")
"""What stands outside of braces only if a macro holds them."""
_GAP = r"[ \t]*+\n?+[ \t]*+"
_WORD = r"[A-Za-z]\w*+"
_REST = r"[^;{}\n]{0,200}+"
_LINES = rf"(?:[^\s;{{}}]{_REST};{_GAP}){{0,32}}"
_CALL = r"\b[a-z]\w*+[ \t]*\([^;{}\n]{0,200}\)"
_ASSIGNMENT = rf"[*\w.>\[\]-]{{1,200}}+[ \t]*[-+*/|&^]?={_REST}|[\w.>-]{{1,200}}?(?:\+\+|--)"
_EXPRESSION = rf"(?:{_CALL}|{_ASSIGNMENT})"
_WITHOUT_BRACES = re.compile(
    r"(?<![(,])(?<![(,] )\b(?:if|while|for|switch)\s*\("
    r"|(?<![(,])(?<![(,] )\b(?:return|goto|break|continue)\b[^;{}]{0,500};"
    rf"|\){_GAP}{_WORD}{_GAP}{_LINES}?{_EXPRESSION};{_GAP}{_LINES}{_WORD}[ \t]*(?:\n|\Z)"
)
"""Statements, or calls and assignments between two words after a head: macros hold the braces."""
_CATCH = re.compile(r"\s*(?:catch|__except|__finally)\b")
_CODE = re.compile(r"=[^;]*;|\breturn\b|(?:\A|[;{}])\s*\w+\s*\((?!\s*\*)")
"""What blocks hold that are more than declarations."""
_BODY = re.compile(r"\)\s*\{")
_HEAD_GOES_ON = re.compile(r"\s*(?:[{:,)]|->|const\b|noexcept\b|override\b|final\b)")
_TYPE_AT_END = re.compile(r"\b(?:struct|union|class|enum)\b[^(){};=]*\Z")
_PARENTHESIS = re.compile(r"[()\[\]]")
_GROUP = re.compile(r"\([^()]*\)")
_DATUM = re.compile(r"\s*[-\d\"'.&]")
_REQUIREMENT = re.compile(r"\b(?:concept|requires)\b")

_STEPS_A_MARK = 64
"""How often a brace is looked at, in the mean, before a file is given up."""
_LONGEST_HEAD = 2_000
"""Characters before a brace where a function may begin within another that has no end."""
_MAX_PARTS = 32
"""Blocks within one head."""


def _holds_code(block: str) -> bool:
    """Return whether there are statements in blanked code, and not only declarations."""
    return ";" in block and bool(_STATEMENT.search(block) or _BODY.search(block))


@dataclass(frozen=True)
class _End:
    """The last brace of a block, as one choice of branches has it."""

    mark: int | None
    is_balanced: bool = True
    """Whether the braces say so; else the indentation does."""
    is_certain: bool = True
    """Whether every choice of branches gives the same."""


class _Place(NamedTuple):
    """How the way through the marks stood at one of them; see ``_Scan``."""

    num_scopes: int
    head_start: int
    head_mark: int
    parts: tuple[tuple[int, int, str], ...]


@dataclass
class _Scan:
    """The way through the marks of a file, outside of functions."""

    code: Code
    branches: Branches
    spans: list[Span] = field(default_factory=list)
    mark: int = 0
    head_start: int = 0
    head_mark: int = 0
    parts: tuple[tuple[int, int, str], ...] = ()
    """What to read past in the head: from where to where, and what to read in its place."""
    num_scopes: int = 0
    at_if: dict[int, _Place] = field(default_factory=dict)
    """How it was at each IF, and is again at the start of every branch."""
    never_until: int = -1
    """The mark that ends code which nobody compiles: what cannot be read there is let alone."""
    loose: int | None = None
    """Where code began that belongs to no function so far."""
    steps: int = 0

    def run(self) -> list[Span]:
        kinds = self.code.kinds
        while self.mark < len(kinds):
            if self.steps > _STEPS_A_MARK * (len(kinds) + 1000):
                self._not_read(self.head_start, len(self.code.text), TANGLED)
                break
            kind = kinds[self.mark]
            if kind == Mark.OPEN:
                self._on_open()
            elif kind == Mark.CLOSE:
                self._on_close()
            else:
                self._on_conditional(kind)
        self._give_up_loose(self.head_start)
        return self.spans

    # What was found

    def _function(self, start: int, end: int) -> None:
        if self.loose is None and _SIMPLE_STATEMENT.search(self._before(start, None)):
            self.loose = self.head_start
        self._give_up_loose(start)
        self.spans.append(Span(start, end))

    def _not_read(self, start: int, end: int, reason: str) -> None:
        if self.mark < self.never_until:
            return
        last = self.spans[-1] if self.spans else None
        if last and last.reason == reason and not self.code.blank[last.end : start].strip():
            last.end = end
        else:
            self.spans.append(Span(start, end, reason))

    def _give_up_loose(self, end: int) -> None:
        if self.loose is not None and self.loose < end:
            self._not_read(self.loose, end, NO_HEAD)
        self.loose = None

    def _next_head(self, after: int, mark: int) -> None:
        """Read on after a position, with the mark ``mark``."""
        self.head_start, self.head_mark, self.mark, self.parts = after, mark, mark, ()

    # Conditionals at the top

    def _on_conditional(self, kind: Mark) -> None:
        mark = self.mark
        owner = mark if kind == Mark.IF else self.branches.owner.get(mark)
        self.mark += 1
        if owner is None:
            return
        if kind == Mark.IF:
            self.at_if[mark] = _Place(self.num_scopes, self.head_start, self.head_mark, self.parts)
        before = self.at_if.get(owner)
        if kind == Mark.ELSE and before:
            self.num_scopes = before.num_scopes
        if mark == self.never_until and before:
            self._leave_never(before, self.code.positions[owner], self.code.positions[mark])
        if kind != Mark.ENDIF and self.branches.is_never(mark):
            self.never_until = max(self.never_until, self.branches.next_branch(mark))

    def _leave_never(self, before: _Place, start: int, end: int) -> None:
        """Go on at the end of code that nobody compiles as if it were not there."""
        self.num_scopes, self.loose = before.num_scopes, None
        head = self.code.blank[before.head_start : start].rstrip()
        if not head or head.endswith(";") or len(before.parts) == _MAX_PARTS:
            self._next_head(end, self.mark)
            return
        self.head_start, self.head_mark = before.head_start, before.head_mark
        self.parts = (*before.parts, (start, end, " " * (end - start)))

    # Blocks

    def _on_open(self) -> None:
        opening = self.code.positions[self.mark]
        head = self._head(opening)
        if head.kind == HeadKind.SCOPE:
            self.num_scopes += 1
            self._next_head(opening + 1, self.mark + 1)
        elif head.kind == HeadKind.ARGUMENT:
            self._on_argument(head, opening)
        else:
            self._on_block(head, opening)

    def _on_block(self, head: Head, opening: int) -> None:
        end = self._end_of_block(head.start)
        if end is None:
            self._on_endless(head)
            return
        close = self.code.positions[end]
        block = self.code.blank[opening + 1 : close]
        if head.kind == HeadKind.PART:
            if len(self.parts) == _MAX_PARTS:
                self._not_read(head.start, close + 1, TANGLED)
            self._part(opening, close + 1, 0, end + 1)
            return
        if head.kind == HeadKind.FUNCTION or (
            head.kind == HeadKind.MACRO and self._is_body(head, block, close)
        ):
            self._function(head.start, close + 1)
        elif head.kind == HeadKind.STATEMENT:
            self._on_statement(head, opening, close)
        elif _holds_code(block) and not self._is_requirement(opening):
            self._not_read(head.start, close + 1, NOT_CLEAR)
        self._next_head(close + 1, end + 1)

    def _is_body(self, head: Head, block: str, close: int) -> bool:
        """Return whether the block after ``NAME(...)`` or ``NAME`` holds statements, not data."""
        if self.code.blank[close + 1 : close + 50].lstrip().startswith(","):
            return False
        is_call = ")" in self.code.blank[head.start : self.code.positions[self.mark]]
        if ";" in block:
            is_ended = self.code.blank[close + 1 : close + 50].lstrip().startswith(";")
            return (is_call and not is_ended) or bool(_CODE.search(block))
        return is_call and "," not in _GROUP.sub("", block) and not _DATUM.match(block)

    def _is_requirement(self, opening: int) -> bool:
        return bool(_REQUIREMENT.search(self.code.blank, self.head_start, opening))

    def _on_endless(self, head: Head) -> None:
        """Pass over a block without an end, with all that follows it."""
        positions = self.code.positions
        if self.mark < self.never_until:
            after = min(self.never_until, len(positions))
            at = positions[after] if after < len(positions) else len(self.code.text)
            self._next_head(at, after)
            return
        self._give_up_loose(head.start)
        after, mark = self._next_function(head)
        self._not_read(head.start, after, NO_END)
        self._next_head(after, mark)

    def _next_function(self, head: Head) -> tuple[int, int]:
        """Return where a function begins after one that has no end, and its mark."""
        indent = self.code.indent(head.start)
        for mark in range(self.mark + 1, len(self.code.kinds)):
            if self.code.kinds[mark] == Mark.OPEN:
                start = self._head_before(mark, indent)
                if start is not None:
                    return start, mark
        return len(self.code.text), len(self.code.kinds)

    def _on_statement(self, head: Head, opening: int, close: int) -> None:
        last = self._last_function()
        if last and _CATCH.match(self.code.blank, last.end, opening):
            last.end = close + 1
        elif self.loose is None and self.mark >= self.never_until:
            words = self.code.blank[head.start : opening]
            if ";" in self.code.blank[opening:close] or _STATEMENT.match(words):
                self.loose = head.start

    def _part(self, start: int, end: int, num_closed: int, mark: int) -> None:
        """Read on in the same head behind a block, and the parentheses that were open there."""
        if len(self.parts) == _MAX_PARTS:
            self._next_head(end, mark)
        else:
            sign = BLOCK_SIGN * (end - start - num_closed) + ")" * num_closed
            self.parts = (*self.parts, (start, end, sign))
            self.mark = mark

    def _on_argument(self, head: Head, opening: int) -> None:
        """Pass over the rest of a call that holds a block.

        It is a part of a head, as an argument's default or a member's initial value is, or a
        function if it holds code.
        """
        blank = self.code.blank
        end = self._end_of_call(opening, head.depth)
        if end is None:
            self._on_block(replace(head, kind=HeadKind.STATEMENT), opening)
            return
        mark = bisect.bisect_left(self.code.positions, end)
        block = blank[opening:end]
        is_type = _TYPE_AT_END.search(blank[max(self.head_start, opening - 200) : opening])
        if _HEAD_GOES_ON.match(blank, end) or not (_holds_code(block) or _CODE.search(block)):
            self._part(opening, end, head.depth, mark)
        elif is_type or ";" not in block:
            self._next_head(end, mark)
        else:
            self._function(head.start, end)
            self._next_head(end, mark)

    def _end_of_call(self, start: int, depth: int) -> int | None:
        for match in _PARENTHESIS.finditer(self.code.blank, start):
            depth += 1 if match[0] in "([" else -1
            if depth == 0:
                return match.end()
        return None

    def _last_function(self) -> Span | None:
        return self.spans[-1] if self.spans and not self.spans[-1].reason else None

    def _on_close(self) -> None:
        close = self.code.positions[self.mark]
        is_code = self.loose is not None or bool(
            _STATEMENT.search(self.code.blank, self.head_start, close)
        )
        if is_code and self.mark >= self.never_until:
            last = self._last_function()
            if last:  # its braces are not all to be seen: it goes on to here
                last.end = close + 1
            else:
                start = self.head_start if self.loose is None else self.loose
                self._not_read(start, close + 1, NO_HEAD)
            self.loose = None
        else:
            self.num_scopes = max(0, self.num_scopes - 1)
        self._next_head(close + 1, self.mark + 1)

    # Heads

    def _head(self, opening: int) -> Head:
        before = self._before(opening, None)
        head = read_head(before)
        marks = self.code.kinds[self.head_mark : self.mark]
        if not head.is_balanced and max(marks, default=Mark.OPEN) > Mark.CLOSE:
            for choice in CHOICES:
                chosen = self._before(opening, choice)
                if (other := read_head(chosen)).is_balanced:
                    before, head = chosen, other
                    break
        if head.kind in (HeadKind.FUNCTION, HeadKind.MACRO):
            head = trimmed(before, head)
        elif head.kind != HeadKind.SCOPE:
            head = below_blank_line(before) or head
        start = self.head_start + head.start
        if head.kind == HeadKind.FUNCTION:
            start = self._start_in_first_branch(start)
        return replace(head, start=start)

    def _start_in_first_branch(self, start: int) -> int:
        """Return where the first of several heads begins that share a block, each in a branch."""
        positions = self.code.positions
        for mark in range(self.head_mark, self.mark):
            chain = self.branches.chains.get(mark, [])
            if len(chain) < 3 or chain[-1] >= self.mark or self.branches.is_never(mark):
                continue
            if positions[chain[1]] <= start < positions[chain[-1]]:
                first = read_head(self.code.blank[self.head_start : positions[chain[1]]])
                if first.kind == HeadKind.FUNCTION and first.is_balanced:
                    return self.head_start + first.start
        return start

    def _before(self, opening: int, choice: Choice | None) -> str:
        """Return the code of the head, every character in its place."""
        parts = self.parts
        if choice is not None:
            parts = tuple(sorted((*parts, *self._other_branches(choice))))
        if not parts:
            return self.code.blank[self.head_start : opening]
        pieces, done = [], self.head_start
        for start, end, sign in parts:
            if end > done:
                pieces.append(self.code.blank[done:start])
                pieces.append(sign[max(start, done) - end :])
                done = end
        return "".join((*pieces, self.code.blank[done:opening]))

    def _other_branches(self, choice: Choice) -> Iterator[tuple[int, int, str]]:
        """Yield what ``choice`` leaves out of the head, but never the branch that is read now."""
        positions, mark = self.code.positions, self.head_mark
        while mark < self.mark:
            after = self._after(mark, choice)
            if after > self.mark:
                chain = self.branches.chains[self.branches.owner.get(mark, mark)]
                after = next(part for part in reversed(chain) if part < self.mark) + 1
            if after > mark + 1:
                start, end = positions[mark], positions[after - 1]
                yield start, end, " " * (end - start)
            mark = after

    # Ends of blocks

    def _after(self, mark: int, choice: Choice) -> int:
        """Return the mark that follows ``mark`` under a choice of branches."""
        kind = self.code.kinds[mark]
        if kind == Mark.IF:
            return choice(self.branches, mark) + 1
        if kind == Mark.ELSE:
            return self.branches.end(mark) + 1
        return mark + 1

    def _end_of_block(self, head_start: int) -> int | None:
        """Return the mark of the brace that ends the block which begins here, or None."""
        indent = self.code.indent(head_start)
        ends: list[_End] = []
        for choice in CHOICES:
            end = self._followed(choice, indent)
            ends.append(end)
            if end.mark is not None and end.is_balanced and self._is_placed(end.mark, indent):
                return end.mark
            if end.is_certain:
                break
        found = [end for end in ends if end.mark is not None]
        found.sort(key=lambda end: not end.is_balanced)
        return self._further(found[0].mark, indent) if found and found[0].mark else None

    def _followed(self, choice: Choice, indent: int) -> _End:
        kinds = self.code.kinds
        last = self.never_until if self.mark < self.never_until else len(kinds)
        mark, depth, is_certain = self.mark, 0, True
        by_indent: int | None = None
        while mark < last:
            self.steps += 1
            kind = kinds[mark]
            if kind == Mark.OPEN:
                if depth and self._head_before(mark, indent) is not None:
                    return _End(by_indent, is_balanced=False, is_certain=is_certain)
                depth += 1
            elif kind == Mark.CLOSE:
                depth -= 1
                if depth == 0:
                    return _End(mark, is_certain=is_certain)
                if self._is_at(self.code.positions[mark], indent):
                    by_indent = mark
                    if self._begins_function(mark, indent):
                        return _End(mark, is_balanced=False, is_certain=is_certain)
            elif kind == Mark.IF and mark in self.branches.uneven:
                is_certain = False
            mark = self._after(mark, choice) if kind > Mark.CLOSE else mark + 1
        return _End(by_indent, is_balanced=False, is_certain=is_certain)

    def _is_at(self, position: int, indent: int) -> bool:
        """Return whether ``position`` is the first of its line that is not blank, so indented."""
        text, before = self.code.text, position - indent
        return text.startswith("\n", before - 1) and not text[before:position].strip()

    def _begins_function(self, mark: int, indent: int) -> bool:
        """Return whether a function begins after the brace at ``mark``, as far left as this one."""
        positions, kinds = self.code.positions, self.code.kinds
        start, following = positions[mark] + 1, mark + 1
        while following < len(kinds) and kinds[following] > Mark.CLOSE:
            following += 1
        if following == len(kinds) or kinds[following] != Mark.OPEN:
            return False
        head = read_head(self.code.blank[start : positions[following]])
        return (
            head.is_typed
            and head.kind == HeadKind.FUNCTION
            and self._is_at(start + head.start, indent)
        )

    def _head_before(self, mark: int, indent: int) -> int | None:
        """Return where a function begins, as far left, between ``mark`` and the brace before it.

        If there is one, the block that is followed has ended, by a brace that is not there.
        """
        positions, blank = self.code.positions, self.code.blank
        opening = positions[mark]
        start = max(positions[mark - 1] + 1, opening - _LONGEST_HEAD)
        if self.code.kinds[mark - 1] > Mark.CLOSE or blank.find(")", start, opening) < 0:
            return None
        head = read_head(blank[start:opening])
        is_function = (
            head.is_typed
            and head.kind == HeadKind.FUNCTION
            and not _STATEMENT.search(blank, start + head.start, opening)
        )
        return (
            start + head.start if is_function and self._is_at(start + head.start, indent) else None
        )

    def _is_placed(self, end: int, indent: int) -> bool:
        """Return whether a last brace stands where those who indent would put it."""
        close = self.code.positions[end]
        if not self.code.leads_line(close):
            return True
        opening = self.code.positions[self.mark]
        return self.code.indent(close) <= max(indent, self.code.indent(opening))

    def _further(self, end: int, indent: int) -> int:
        """Return the brace as far left as the head where the one at ``end`` stands too far right.

        There is one if a macro holds the brace that the one at ``end`` belongs to, and all lines
        between them are further right.
        """
        if self._is_placed(end, indent):
            return end
        blank, close = self.code.blank, self.code.positions[end]
        left = re.compile(rf"^[ \t]{{0,{indent}}}(?!\w+\s*:)\S", re.MULTILINE)
        match = left.search(blank, close + 1)
        if match and match[0].endswith("}") and blank[close + 1 : match.start()].strip():
            return bisect.bisect_left(self.code.positions, match.end() - 1)
        return end
