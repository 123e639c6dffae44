"""What a command line names, as functions: C and C++ files, folders of them, rows, standard input.

Whatever cannot be read comes out among the functions, by name, and never ends the reading.
"""

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sg_ray.data.jsonl import MAX_LINE_BYTES, PACKED_SUFFIXES, open_unpacked, read_row
from sg_ray.errors import InputError
from sg_ray.scan.blanking import blanked
from sg_ray.scan.brackets import spans_in
from sg_ray.scan.grammars import read_grammar

STANDARD_INPUT = "-"
SOURCE_SUFFIXES = (
    *(".c", ".h", ".cc", ".cpp", ".cxx", ".c++", ".hh", ".hpp", ".hxx", ".h++"),
    *(".inl", ".ipp", ".tcc", ".cu", ".cuh"),
)
"""What the names of C and C++ files end in, in small or capital letters."""
NO_FUNCTION = "no function in it"
RULES = "rules of lex or yacc, which are no functions: give the C file that is made of them"

_ROW_SUFFIXES = (".jsonl", ".ndjson")
_ARRAY_SUFFIX = ".json"
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The longer ones first: they begin with shorter ones."""
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x19\x1c-\x1f\x7f]")
_MAX_CONTROL_SHARE = 0.01
_NEXT_VALUE = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class Function:
    """One function's source as written, and where it stands: file, lines from 1."""

    source: str
    file: str
    line: int
    last_line: int


@dataclass(frozen=True)
class Unread:
    """What gave no function: a file, or some lines of it."""

    file: str
    reason: str
    line: int | None = None
    last_line: int | None = None
    is_loss: bool = True
    """Whether functions may be missing by it."""

    def __str__(self) -> str:
        if self.line is None:
            return f"{self.file}: {self.reason}"
        return f"{self.file}:{self.line}-{self.last_line}: not read: {self.reason}"


Piece = Function | Unread


def pieces_in(name: str) -> Iterator[Piece]:
    """Yield the functions of a file, of a folder's C and C++ files, or of standard input ("-").

    A name that ends in ``.jsonl`` holds one JSON object a line with the source under ``func``, one
    in ``.json`` an array of them or the same; standard input may hold either. Anything else is C
    or C++. All may be packed with gzip, xz or Zstandard, as their names say.
    """
    if name == STANDARD_INPUT:
        yield from _pieces_of_input()
    elif Path(name).is_dir():
        yield from _pieces_of_folder(name)
    else:
        yield from pieces_of_file(name)


def pieces_of_file(name: str) -> Iterator[Piece]:
    """Yield the functions of one file, and what of it could not be read."""
    kind = _unpacked_name(name).lower()
    try:
        with open_unpacked(Path(name)) as stream:
            if kind.endswith(_ROW_SUFFIXES):
                yield from _or_nothing(_rows(stream, name), name)
            elif kind.endswith(_ARRAY_SUFFIX):
                yield from _or_nothing(_json_rows(stream.read(), name), name)
            else:
                yield from _or_nothing(_functions(stream.read(), name), name)
    except InputError as error:
        yield _unread(name, error)


def source_files(folder: str) -> Iterator[str | Unread]:
    """Yield the C and C++ files below a folder, sorted, and folders that cannot be read."""
    denied: list[Unread] = []
    for where, folders, files in os.walk(folder, onerror=lambda e: denied.append(_denied(e))):
        folders.sort()
        yield from denied
        denied.clear()
        for file in sorted(files):
            if Path(_unpacked_name(file)).suffix.lower() in SOURCE_SUFFIXES:
                yield os.path.join(where, file)  # noqa: PTH118 - the name as it was given
    yield from denied


def _denied(error: OSError) -> Unread:
    return Unread(str(error.filename), f"cannot be read ({error.strerror})")


def _pieces_of_folder(name: str) -> Iterator[Piece]:
    num_files = 0
    for file in source_files(name):
        num_files += 1
        if isinstance(file, Unread):
            yield file
            continue
        for piece in pieces_of_file(file):
            # Most headers hold no function, and need not.
            if isinstance(piece, Unread) and piece.reason == NO_FUNCTION:
                yield Unread(piece.file, piece.reason, is_loss=False)
            else:
                yield piece
    if num_files == 0:
        yield Unread(name, "no C or C++ file in this folder")


def _pieces_of_input() -> Iterator[Piece]:
    file, content = "stdin", sys.stdin.buffer.read()
    begin = re.match(rb"(?:\xef\xbb\xbf)?\s*(\[\s*\{|\[\s*\]|\{)?", content)
    assert begin is not None
    if begin[1] is None:
        yield from _or_nothing(_functions(content, file), file)
    else:  # C begins with neither a brace nor an array of objects
        yield from _or_nothing(_json_rows(content, file), file)


def _or_nothing(pieces: Iterable[Piece], file: str) -> Iterator[Piece]:
    """Yield the pieces, or that there are none. An InputError on the way becomes a piece."""
    is_empty = True
    try:
        for piece in pieces:
            is_empty = False
            yield piece
    except InputError as error:
        yield _unread(file, error)
        return
    if is_empty:
        yield Unread(file, NO_FUNCTION)


def _unread(file: str, error: InputError) -> Unread:
    """Return what an error says, without the name of the file in front twice."""
    return Unread(file, str(error).removeprefix(file).lstrip(":, "))


def _unpacked_name(name: str) -> str:
    for suffix in filter(None, PACKED_SUFFIXES):
        name = name.removesuffix(suffix)
    return name


# Rows


def _rows(lines: IO[bytes], file: str) -> Iterator[Piece]:
    for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES + 1), b""), start=1):
        if line.strip():
            yield _row(line, file, number)
        if len(line) > MAX_LINE_BYTES:  # named by now; where the next row begins is not known
            break


def _row(line: bytes, file: str, number: int) -> Piece:
    try:
        return _function_of_row(read_row(line, f"line {number}"), file, number)
    except InputError as error:
        return Unread(file, str(error))


def _function_of_row(row: object, file: str, number: int) -> Function:
    source = row.get("func") if isinstance(row, dict) else None
    if not isinstance(source, str) or not source.strip():
        raise InputError(
            f'line {number}: no C source under "func". Write {{"func": "..."}} on the line.'
        )
    return Function(source, file, number, number)


def _json_rows(content: bytes, file: str) -> Iterator[Piece]:
    """Yield the functions of an array of objects, of one object, or of one on each line."""
    try:
        text = content.decode("utf-8-sig")
        if text.lstrip().startswith("["):
            yield from _array_rows(text, file)
            return
        only = json.loads(text)
    except (ValueError, RecursionError):
        yield from _rows(io.BytesIO(content), file)
        return
    try:
        yield _function_of_row(only, file, 1)
    except InputError as error:
        yield Unread(file, str(error))


def _array_rows(text: str, file: str) -> Iterator[Piece]:
    """Yield the functions of an array; what follows a part that is not JSON is not read."""
    decoder = json.JSONDecoder(parse_int=float)  # any number of digits
    position, line, counted = text.index("[") + 1, 1, 0
    while True:
        position = _after_blanks(text, position)
        line, counted = line + text.count("\n", counted, position), position
        if text.startswith("]", position):
            break
        try:
            row, position = decoder.raw_decode(text, position)
            yield _function_of_row(row, file, line)
        except InputError as error:
            yield Unread(file, str(error))
        except (ValueError, RecursionError):
            yield Unread(
                file, f"line {line}: not JSON, so what follows is not read. Write an array of rows."
            )
            break


def _after_blanks(text: str, position: int) -> int:
    match = _NEXT_VALUE.match(text, position)
    return match.end() if match else position


# C and C++


def _functions(content: bytes, file: str) -> Iterator[Piece]:
    text = _decoded(content)
    code = blanked(text)
    if grammar := read_grammar(text, code.blank):
        code = blanked(grammar.text)
        if "{" in text[grammar.rules_start : grammar.rules_end]:
            lines = code.line(grammar.rules_start), code.line(grammar.rules_end - 1)
            yield Unread(file, RULES, *lines)
    for span in spans_in(code):
        first, last = code.line(span.start), code.line(span.end - 1)
        if span.reason:
            yield Unread(file, span.reason, first, last)
        else:
            yield Function(code.text[span.start : span.end], file, first, last)


def _decoded(content: bytes) -> str:
    """Return the text of a source file, with line ends that ``\\n`` finds.

    Unicode in any encoding that a byte order mark or UTF-8's own form tells; else Latin-1, which
    has a character for every byte. Raises InputError if that is no text.
    """
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return _lines_ended(_decoded_as(content, encoding))
    if b"\0" in content or len(_CONTROL.findall(content)) > _MAX_CONTROL_SHARE * len(content):
        raise InputError("not text. Give C or C++ source in UTF-8, or rows with a func.")
    try:
        return _lines_ended(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return _lines_ended(content.decode("latin-1"))


def _decoded_as(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"not {encoding.upper()}, which its byte order mark tells. Convert the file to UTF-8."
        ) from error


def _lines_ended(text: str) -> str:
    return text if "\n" in text else text.replace("\r", "\n")
