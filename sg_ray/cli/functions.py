"""C functions as a command line names them: C files, JSON Lines, standard input."""

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sg_ray.errors import InputError

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Function:
    """One function's source, and where it stands: the file's name, the line from 1."""

    source: str
    file: str
    line: int


def functions_in(name: str) -> Iterator[Function]:
    """Yield the functions of a file, or of standard input if ``name`` is "-".

    A name that ends in ``.jsonl`` holds one JSON object a line, with the source under ``func``;
    standard input does if it begins with a brace, which C does not. Anything else is C: one
    function per definition, or the whole text as one if there is no definition in it. Raises
    InputError that names the file, and the line of a bad row.
    """
    content = _read(name)
    is_stdin = name == STANDARD_INPUT
    file = "stdin" if is_stdin else name
    if not content.strip():
        raise InputError(f"{file} is empty. Give C source, or rows with a func.")
    if name.endswith(".jsonl") or (is_stdin and content.lstrip().startswith(b"{")):
        return _rows(content, file)
    return _definitions(content, file)


def _read(name: str) -> bytes:
    if name == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}). Check the path.") from error


def _rows(content: bytes, file: str) -> Iterator[Function]:
    for number, line in enumerate(io.BytesIO(content), start=1):
        if line.strip():
            yield Function(_source(line, f"{file}, line {number}"), file, number)


def _source(line: bytes, where: str) -> str:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON in UTF-8. Write one JSON object on a line.") from error
    source = row.get("func") if isinstance(row, dict) else None
    if not isinstance(source, str) or not source.strip():
        raise InputError(f'{where}: no C source under "func". Write {{"func": "..."}} on the line.')
    return source


def _definitions(content: bytes, file: str) -> Iterator[Function]:
    """Yield the function definitions of C source, outermost only, in order."""
    import tree_sitter_c
    from tree_sitter import Language, Parser

    text = content.decode("utf-8", "replace").encode()
    tree = Parser(Language(tree_sitter_c.language())).parse(text)
    waiting, num_found = [tree.root_node], 0
    while waiting:
        node = waiting.pop()
        if node.type != "function_definition":
            waiting.extend(reversed(node.children))
            continue
        num_found += 1
        source = text[node.start_byte : node.end_byte].decode()
        yield Function(source, file, node.start_point[0] + 1)
    if num_found == 0:
        yield Function(text.decode(), file, 1)
