"""Random C functions in two texts: as a user would write them, and with a call at each event.

The two texts of a function do the same. In the traced one every statement, read and write calls
``sg_at``, ``sg_read`` or ``sg_write`` with the key of the event (see ``gcc_trace``). In the plain
one the same keys stand as marks, which tell the node of the syntax tree that each belongs to.

Nothing depends on the values of variables: all decisions, ``c(...)`` and ``n(...)``, are free, so
that every path of the graph can be taken. Operands are evaluated in the order of the source.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

_NAME_MARK = re.compile(r"\x02(\d+)\x03(\w+)")
_STATEMENT_MARK = re.compile(r"\x04(\d+)\x05")


@dataclass(frozen=True)
class Text:
    """A piece of C: ``plain`` with marks, ``traced`` with calls."""

    plain: str
    traced: str

    @classmethod
    def same(cls, text: str) -> Self:
        """The same in both."""
        return cls(text, text)


@dataclass(frozen=True)
class TracedSample:
    """One sample: the source without marks, and what a compiler is given."""

    source: str
    probe: str
    """``source`` with each marked name followed by ``__`` and its key."""
    statement_keys: list[int]
    """Keys of the flow nodes, in the order of the source."""
    traced: str
    functions: list[str]
    num_keys: int


def random_sample(rng: random.Random, number: int) -> TracedSample:
    """Return one or two functions, named after ``number``, in one source."""
    keys = _Keys()
    names = [f"f{number}_{i}" for i in range(1 + (rng.random() < 0.2))]
    texts = [_Function(rng, name, keys).text() for name in names]
    marked = "\n".join(text.plain for text in texts)
    without_statements = _STATEMENT_MARK.sub("", marked)
    return TracedSample(
        source=_NAME_MARK.sub(r"\2", without_statements),
        probe=_NAME_MARK.sub(r"\2__\1", without_statements),
        statement_keys=[int(key) for key in _STATEMENT_MARK.findall(marked)],
        traced="\n".join(text.traced for text in texts),
        functions=names,
        num_keys=keys.num_used,
    )


class _Keys:
    """Numbers the events of one sample."""

    def __init__(self) -> None:
        self.num_used = 0

    def new(self) -> int:
        self.num_used += 1
        return self.num_used


def _both(template: str, *parts: Text) -> Text:
    """Fill ``template`` in both texts; ``{}`` stands for a part."""
    return Text(
        template.format(*(part.plain for part in parts)),
        template.format(*(part.traced for part in parts)),
    )


def _lines(texts: Sequence[Text]) -> Text:
    return Text(" ".join(t.plain for t in texts), "\n".join(t.traced for t in texts))


@dataclass
class _Scope:
    """What is visible at a place of a function."""

    variables: list[str]
    loops: int = 0
    """Loops around, for ``continue``."""
    breakable: int = 0
    """Loops and switches around, for ``break``."""
    labels: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)


class _Function:
    """Makes one function."""

    def __init__(self, rng: random.Random, name: str, keys: _Keys) -> None:
        self._rng = rng
        self._name = name
        self._keys = keys
        self._first_key = keys.num_used
        self._scope = _Scope([])
        self._hidden: set[str] = set()
        self._in_nested = False

    # Events

    def _name_mark(self, name: str) -> tuple[int, str]:
        key = self._keys.new()
        return key, f"\x02{key}\x03{name}"

    def _unit(self) -> tuple[str, str]:
        """Return the mark and the call of a new flow node."""
        key = self._keys.new()
        return f"\x04{key}\x05", f"sg_at(&sg_previous, {key})"

    def _read(self, name: str) -> Text:
        key, mark = self._name_mark(name)
        return Text(mark, f"({{ sg_read({key}, &{name}); {name}; }})")

    def _statement(self, text: Text) -> Text:
        mark, call = self._unit()
        return Text(f"{mark}{text.plain}", f"{{ {call}; {text.traced} }}")

    def _variable(self) -> str | None:
        visible = [v for v in self._scope.variables if v not in self._hidden]
        return self._rng.choice(visible) if visible else None

    def _is_long_enough(self) -> bool:
        return self._keys.num_used - self._first_key > 60

    # Expressions: each is one operand in parentheses, of type int

    def _value(self, depth: int) -> Text:
        rng, name = self._rng, self._variable()
        if depth <= 0 or self._is_long_enough() or rng.random() < 0.3:
            return self._read(name) if name and rng.random() < 0.8 else Text.same("1")
        makers: list[Callable[[int], Text]] = [
            self._sum, self._call, self._choice, self._elvis, self._logic, self._comma,
            self._unevaluated, self._statement_expression, self._element,
        ]  # fmt: skip
        if name:
            makers += [self._assignment, self._assignment, self._compound, self._step]
            makers += [self._address]
        if self._scope.nested:
            makers += [self._nested_call] * 3
        return rng.choice(makers)(depth - 1)

    def _in_order(self, plain: str, traced: str, *parts: Text) -> Text:
        """Evaluate ``parts`` into v0, v1, ... from left to right, then ``traced`` of them."""
        before = " ".join(f"int v{i}_ = {part.traced};" for i, part in enumerate(parts))
        return Text(plain.format(*(p.plain for p in parts)), f"({{ {before} {traced}; }})")

    def _sum(self, depth: int) -> Text:
        return self._in_order("({} + {})", "v0_ + v1_", self._value(depth), self._value(depth))

    def _call(self, depth: int) -> Text:
        return self._in_order("g({}, {})", "v0_ - v1_", self._value(depth), self._value(depth))

    def _element(self, depth: int) -> Text:
        """An element of a, or a member of s: a write reads the base."""
        name = self._rng.choice(["a", "s"])
        key, mark = self._name_mark(name)
        index = self._value(depth) if name == "a" else Text.same("0")
        right = self._value(depth)
        target = f"{mark}[i({index.plain})]" if name == "a" else f"{mark}.m"
        place = "a[v0_ & 3]" if name == "a" else "s.m"
        if self._rng.random() < 0.5:
            traced = f"({{ sg_read({key}, &{name}); int v0_ = {index.traced}; {place}; }})"
            return Text(f"({target})", traced)
        traced = (
            f"({{ sg_read({key}, &{name}); int v0_ = {index.traced}; "
            f"int v1_ = {right.traced}; {place} = v1_; }})"
        )
        return Text(f"({target} = {right.plain})", traced)

    def _choice(self, depth: int) -> Text:
        test, yes, no = self._test(depth), self._value(depth), self._value(depth)
        return _both("({} ? {} : {})", test, yes, no)

    def _elvis(self, depth: int) -> Text:
        return _both("({} ?: {})", self._test(depth), self._value(depth))

    def _logic(self, depth: int) -> Text:
        return self._test(depth + 1)

    def _comma(self, depth: int) -> Text:
        return _both("({}, {})", self._value(depth), self._value(depth))

    def _unevaluated(self, depth: int) -> Text:
        name = self._variable() or "a"
        operand = self._rng.choice([name, f"{name} = 1", f"c({name}) && c(1)", f"{name}++"])
        return Text.same("1" if name == "a" else f"(int)sizeof({operand})")

    def _assignment(self, depth: int) -> Text:
        name = self._variable()
        assert name is not None
        key, mark = self._name_mark(name)
        right = self._value(depth)
        return Text(
            f"({mark} = {right.plain})",
            f"({name} = {right.traced}, sg_write({key}, &{name}), {name})",
        )

    def _compound(self, depth: int) -> Text:
        name = self._variable()
        assert name is not None
        key, mark = self._name_mark(name)
        right = self._value(depth)
        operator = self._rng.choice(["+=", "-=", "^="])
        return Text(
            f"({mark} {operator} {right.plain})",
            f"(sg_read({key}, &{name}), {name} {operator} {right.traced}, "
            f"sg_write({key}, &{name}), {name})",
        )

    def _step(self, _: int) -> Text:
        name = self._variable()
        assert name is not None
        key, mark = self._name_mark(name)
        plain = self._rng.choice(["({}++)", "(++{})", "({}--)"]).format(mark)
        return Text(plain, f"(sg_read({key}, &{name}), sg_write({key}, &{name}), {name}++)")

    def _address(self, _: int) -> Text:
        name = self._variable()
        assert name is not None
        key, mark = self._name_mark(name)
        return Text(f"w(&{mark})", f"(sg_read({key}, &{name}), sg_may_write({key}, &{name}))")

    def _nested_call(self, depth: int) -> Text:
        name = self._rng.choice(self._scope.nested)
        return _both(name + "({})", self._value(depth))

    def _statement_expression(self, depth: int) -> Text:
        with self._inner_scope():
            text = self._block_of(depth, self._rng.randrange(1, 3), must_go_on=True)
            value = self._statement_value(depth)
        mark, call = ("", "") if self._is_block(value) else self._unit()
        return Text(
            f"({{ {text.plain} {mark}{value.plain}; }})",
            f"({{ {text.traced} {call}; {value.traced}; }})",
        )

    def _statement_value(self, depth: int) -> Text:
        """A value that stands alone; a mere name would look like a declaration."""
        value = self._value(depth)
        is_name = value.plain.startswith("\x02")
        return Text(f"i({value.plain})", value.traced) if is_name else value

    def _is_block(self, value: Text) -> bool:
        """Return whether ``value`` is a statement expression, as a statement a mere block."""
        return value.plain.startswith("({")

    def _test(self, depth: int) -> Text:
        """A condition that may come out either way."""
        kind = self._rng.choice(["c", "c", "&&", "||", "!", "?:"]) if depth > 0 else "c"
        if kind == "c" or self._is_long_enough():
            return _both("c({})", self._value(depth - 1))
        if kind == "!":
            return _both("(!{})", self._test(depth - 1))
        if kind == "?:":
            parts = [self._test(depth - 1) for _ in range(3)]
            return _both("({} ? {} : {})", *parts)
        left, right = self._test(depth - 1), self._test(depth - 1)
        return _both("({} " + kind + " {})", left, right)

    # Statements: each returns its text, and whether execution may go on after it

    @contextmanager
    def _inner_scope(self, *, loop: bool = False, switch: bool = False) -> Iterator[None]:
        outer = self._scope
        self._scope = _Scope(
            list(outer.variables),
            outer.loops + loop,
            outer.breakable + (loop or switch),
            outer.labels,
            outer.nested,
        )
        yield
        self._scope = outer

    def _block_of(self, depth: int, length: int, *, must_go_on: bool = False) -> Text:
        texts: list[Text] = []
        goes_on = True
        if self._rng.random() < 0.4:
            texts.append(self._declaration(depth))
        for _ in range(length):
            if goes_on:
                text, goes_on = self._any_statement(depth, must_go_on=must_go_on)
                texts.append(text)
        return _lines(texts)

    def _body(self, depth: int, **scope: bool) -> Text:
        """The body of a loop or branch, with or without braces."""
        roll = self._rng.random()
        if roll < 0.06:
            return Text.same(";")
        if roll < 0.12:
            mark, call = self._unit()
            return Text(f"{mark}{{ }}", f"{{ {call}; }}")
        with self._inner_scope(**scope):
            if roll < 0.3:
                return self._simple(depth)
            text = self._block_of(depth, self._rng.randrange(1, 4))
        return _both("{{ {} }}", text)

    def _simple(self, depth: int) -> Text:
        value = self._statement_value(depth)
        text = _both("{};", value)
        return text if self._is_block(value) else self._statement(text)

    def _any_statement(self, depth: int, *, must_go_on: bool) -> tuple[Text, bool]:
        rng = self._rng
        roll = rng.random()
        if not must_go_on and roll < 0.12:
            jump = self._jump(depth)
            if jump is not None:
                return jump, False
        if depth <= 0 or self._is_long_enough() or roll < 0.45:
            return self._simple(2), True
        makers: list[Callable[[int], Text]] = [
            self._if, self._if, self._while, self._do, self._for, self._for, self._switch,
            self._duff, self._endless, self._inner_block, self._guarded_jump,
        ]  # fmt: skip
        return rng.choice(makers)(depth - 1), True

    def _jump(self, depth: int) -> Text | None:
        rng, scope = self._rng, self._scope
        kinds = ["return"]
        if scope.loops:
            kinds.append("continue")
        if scope.breakable:
            kinds += ["break", "break"]
        if scope.labels and not self._in_nested:
            kinds += ["goto"]
        kind = rng.choice(kinds)
        if kind == "return":
            return self._statement(_both("return {};", self._value(depth)))
        if kind == "goto":
            return self._statement(Text.same(f"goto {rng.choice(scope.labels)};"))
        return self._statement(Text.same(f"{kind};"))

    def _guarded_jump(self, depth: int) -> Text:
        mark, call = self._unit()
        test = self._test(1)
        jump = self._jump(depth)
        assert jump is not None
        return Text(
            f"if ({mark}{test.plain}) {jump.plain}", f"if ({call}, {test.traced}) {jump.traced}"
        )

    def _condition(self) -> Text:
        mark, call = self._unit()
        test = self._test(2)
        return Text(f"{mark}{test.plain}", f"({call}, {test.traced})")

    def _part(self) -> Text:
        """A flow node that is an expression."""
        mark, call = self._unit()
        value = self._value(2)
        return Text(f"{mark}{value.plain}", f"({call}, {value.traced})")

    def _if(self, depth: int) -> Text:
        test, yes = self._condition(), self._body(depth)
        if self._rng.random() < 0.5:
            if yes.plain != ";":
                yes = _both("{{ {} }}", yes)
            no = self._body(depth)
            if no.plain == ";":
                mark, call = self._unit()
                no = Text(f"{mark};", f"{{ {call}; }}")
            return _both("if ({}) {} else {}", test, yes, no)
        return _both("if ({}) {}", test, yes)

    def _while(self, depth: int) -> Text:
        return _both("while ({}) {}", self._condition(), self._body(depth, loop=True))

    def _do(self, depth: int) -> Text:
        body = self._body(depth, loop=True)
        return _both("do {} while ({});", body, self._condition())

    def _for(self, depth: int) -> Text:
        with self._inner_scope():
            if self._rng.random() < 0.5:
                first = self._declaration(1, in_for=True)
            elif self._rng.random() < 0.8:
                first = _both("{};", self._part())
            else:
                first = Text.same(";")
            test = self._condition()
            update = self._part() if self._rng.random() < 0.8 else Text.same("")
            body = self._body(depth, loop=True)
        # A traced declaration cannot stand inside the parentheses.
        before = first.traced if first.traced != ";" else ""
        return Text(
            f"for ({first.plain} {test.plain}; {update.plain}) {body.plain}",
            f"{{ {before} for (; {test.traced}; {update.traced}) {body.traced} }}",
        )

    def _endless(self, depth: int) -> Text:
        mark, call = self._unit()
        with self._inner_scope(loop=True):
            test_mark, test_call = self._unit()
            test = self._test(1)
            leave = self._statement(Text.same("break;"))
            rest = self._block_of(depth, 1)
        inside = Text(
            f"if ({test_mark}{test.plain}) {leave.plain} {rest.plain}",
            f"if ({test_call}, {test.traced}) {leave.traced} {rest.traced}",
        )
        return Text(
            f"{mark}for (;;) {{ {inside.plain} }}",
            f"for (;; ) {{ {call}; {inside.traced} }}",
        )

    def _inner_block(self, depth: int) -> Text:
        with self._inner_scope():
            return _both("{{ {} }}", self._block_of(depth, 2, must_go_on=True))

    def _number(self) -> Text:
        mark, call = self._unit()
        value = self._value(1)
        return Text(f"{mark}n({value.plain})", f"({call}, n({value.traced}))")

    def _case(self, label: str, depth: int, length: int) -> Text:
        mark, call = self._unit()
        texts: list[Text] = [self._simple(1)]
        goes_on = True
        for _ in range(length - 1):
            if goes_on:
                text, goes_on = self._any_statement(depth, must_go_on=False)
                texts.append(text)
        inside = _lines(texts)
        return Text(f"{mark}{label}: {inside.plain}", f"{label}: {call}; {inside.traced}")

    def _switch(self, depth: int) -> Text:
        test = self._number()
        labels = ["case 0", "case 1 ... 2", "case 3", "case 4"][: self._rng.randrange(2, 5)]
        if self._rng.random() < 0.6:
            labels.insert(self._rng.randrange(len(labels) + 1), "default")
        with self._inner_scope(switch=True):
            cases = [self._case(label, depth, self._rng.randrange(1, 4)) for label in labels]
        return _both("switch ({}) {{ {} }}", test, _lines(cases))

    def _duff(self, _: int) -> Text:
        test = self._number()
        with self._inner_scope(loop=True, switch=True):
            first = self._case("case 0", 0, 1)
            inside = _lines([self._case(label, 0, 1) for label in ("case 1", "case 2")])
            again = self._condition()
        # The first case holds the loop, which holds the others.
        head_plain, rest_plain = first.plain.split(": ", 1)
        head_traced, rest_traced = first.traced.split("; ", 1)
        return Text(
            f"switch ({test.plain}) {{ {head_plain}: do {{ {rest_plain} {inside.plain} }} "
            f"while ({again.plain}); }}",
            f"switch ({test.traced}) {{ {head_traced}; do {{ {rest_traced} {inside.traced} }} "
            f"while ({again.traced}); }}",
        )

    # Declarations

    def _declaration(self, depth: int, *, in_for: bool = False) -> Text:
        rng = self._rng
        mark, call = self._unit()
        names: list[str] = []
        plain: list[str] = []
        traced: list[str] = []
        for _ in range(rng.randrange(1, 3)):
            taken = self._hidden.union(names)
            name = rng.choice([v for v in "xyzuv" if v not in taken])
            names.append(name)
            self._hidden.add(name)
            key, name_mark = self._name_mark(name)
            if in_for or rng.random() < 0.7:
                value = self._value(min(depth, 1))
                plain.append(f"{name_mark} = {value.plain}")
                traced.append(f"int {name} = {value.traced}; sg_write({key}, &{name});")
            else:
                plain.append(name_mark)
                traced.append(f"int {name}; sg_write({key}, &{name});")
            self._hidden.discard(name)
            if name not in self._scope.variables:
                self._scope.variables.append(name)
        return Text(f"{mark}int {', '.join(plain)};", f"{call}; {' '.join(traced)}")

    def _static_declaration(self) -> Text:
        mark, call = self._unit()
        key, name_mark = self._name_mark("t")
        self._scope.variables.append("t")
        return Text(
            f"{mark}static int {name_mark} = 1;",
            f"{call}; static int t; sg_initial({key}, &t);",
        )

    def _typeof_declaration(self) -> Text:
        mark, call = self._unit()
        name = self._variable() or "a[0]"
        key, name_mark = self._name_mark("k")
        value = self._value(1)
        self._scope.variables.append("k")
        return Text(
            f"{mark}typeof({name} + 1) {name_mark} = {value.plain};",
            f"{call}; int k = {value.traced}; sg_write({key}, &k);",
        )

    def _nested_function(self) -> Text:
        mark, _ = self._unit()
        entry = self._keys.num_used
        name = f"h{len(self._scope.nested)}"
        key, parameter = self._name_mark("b")
        outer, self._scope = self._scope, _Scope([*self._scope.variables, "b"])
        self._in_nested = True
        inside = self._block_of(1, 2, must_go_on=True)
        end = self._statement(_both("return {};", self._value(2)))
        self._in_nested = False
        self._scope = outer
        outer.nested.append(name)
        return Text(
            f"{mark}int {name}(int {parameter}) {{ {inside.plain} {end.plain} }}",
            f"int {name}(int b) {{ int sg_previous = {entry}; sg_write({key}, &b); "
            f"{inside.traced} {end.traced} }}",
        )

    def _label(self, name: str) -> Text:
        mark, call = self._unit()
        text = self._simple(1)
        return Text(f"{mark}{name}: {text.plain}", f"{name}: {call}; {text.traced}")

    def _computed_goto(self, labels: Sequence[str]) -> Text:
        """A table of labels, and a goto to any of them, directly or by a pointer."""
        storage = self._rng.choice(["static ", ""])
        mark, call = self._unit()
        key, table = self._name_mark("table")
        addresses = ", ".join(f"&&{label}" for label in labels)
        write = f"sg_{'initial' if storage else 'write'}({key}, &table);"
        declared = Text(
            f"{mark}{storage}void *{table}[] = {{ {addresses} }};",
            f"{call}; {storage}void *table[] = {{ {addresses} }}; {write}",
        )
        use_key, use = self._name_mark("table")
        goto_mark, goto_call = self._unit()
        value = self._value(1)
        index = f"n({value.plain}) % {len(labels)}"
        traced_index = f"n({value.traced}) % {len(labels)}"
        jump = Text(
            f"{goto_mark}goto *{use}[{index}];",
            f"{goto_call}; sg_read({use_key}, &table); goto *table[{traced_index}];",
        )
        return _lines([declared, jump])

    def text(self) -> Text:
        """Return the whole function."""
        mark, _ = self._unit()
        entry = self._keys.num_used
        head, traced_head, writes = self._head()
        self._scope.variables += ["p", "q"]
        first = [self._declaration(2)]
        if self._rng.random() < 0.3:
            first.append(self._static_declaration())
        if self._rng.random() < 0.3:
            first.append(self._typeof_declaration())
        if self._rng.random() < 0.3:
            first.append(self._nested_function())
            first.append(self._statement(_both("h0({});", self._value(1))))
        labels = [f"L{i}" for i in range(self._rng.choice([0, 0, 1, 2, 3]))]
        if labels and self._rng.random() < 0.4:
            first.append(self._computed_goto(labels))
        self._scope.labels += labels
        # What follows a computed goto is its first label.
        length = 0 if "goto *" in first[-1].plain else self._rng.randrange(1, 4)
        parts = [self._any_statement(3, must_go_on=True)[0] for _ in range(length)]
        for label in labels:
            parts.append(self._label(label))
            parts.append(self._any_statement(2, must_go_on=True)[0])
        parts.append(self._statement(_both("return {};", self._value(2))))
        body = _lines([*first, *parts])
        return Text(
            f"{mark}{head} {{ {body.plain} }}",
            f"{traced_head} {{ int sg_previous = {entry}; {writes} {body.traced} }}",
        )

    def _head(self) -> tuple[str, str, str]:
        keys, marks = zip(*(self._name_mark(name) for name in "pq"), strict=True)
        writes = " ".join(f"sg_write({key}, &{n});" for key, n in zip(keys, "pq", strict=True))
        traced = f"int {self._name}(int p, int q)"
        if self._rng.random() < 0.3:
            old_style = f"int {self._name}(p, q) int {{}}; int {{}};"
            return old_style.format(*marks), old_style.format("p", "q"), writes
        return f"int {self._name}(int {marks[0]}, int {marks[1]})", traced, writes
