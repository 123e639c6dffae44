"""Functions that `sg-ray predict` finds in C and C++ sources, beside those that ctags finds.

    python experiments/benchmarks/scan_against_ctags.py FOLDER... [--show N] [--grammar]

needs Universal Ctags. A function of ctags counts as found by both where one of ours has its line
and its name in the head (counted apart where its last line is another); as within where it is a
part of one of ours (GNU's nested functions, local classes, other branches); as of the same body
where no brace is between it and one of ours (a call of a macro that ctags takes for a head, the
head of another branch); as named where its line was reported as not read. All others are missing in
silence. With ``--grammar``: how many of ours are also definitions to tree-sitter's C and C++
grammars, which end in the same line.
"""

import argparse
import random
import re
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tree_sitter_c
import tree_sitter_cpp
from tree_sitter import Language, Parser

from sg_ray.scan.source_files import Function, Unread, pieces_of_file, source_files

FORMAT = "%N\t%n\t%e\t%F"
"""What ctags prints of a function: name, line, last line, file."""
MISSING = "missing in silence"
OTHER_END = "with another end"
KINDS = ("found by both", OTHER_END, "within", "of the same body", "named", MISSING, "only ours")


@dataclass(frozen=True)
class Tag:
    """A function as ctags has it."""

    name: str
    line: int
    last_line: int | None


@dataclass(frozen=True)
class Difference:
    """A function that one of both has."""

    kind: str
    file: str
    line: int
    name: str


def main() -> None:
    """Compare, count, show a sample of the differences."""
    arguments = _arguments()
    named = (file for folder in arguments.folders for file in source_files(folder))
    files = [file for file in named if isinstance(file, str)]
    tags = _tags(arguments.ctags, files)
    started = time.process_time()
    pieces = {file: list(pieces_of_file(file)) for file in files}
    seconds = time.process_time() - started
    counts: Counter[str] = Counter()
    differences: list[Difference] = []
    for file in files:
        for difference in _compare(file, pieces[file], tags[file]):
            counts[difference.kind] += 1
            differences.append(difference)
    _print(files, pieces, seconds, counts)
    if arguments.grammar:
        _print_grammar(pieces, arguments.show)
    _show(differences, arguments.show)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--ctags", default="ctags")
    parser.add_argument("--show", type=int, default=0, help="so many of each kind of difference")
    parser.add_argument("--grammar", action="store_true", help="compare with tree-sitter, too")
    return parser.parse_args()


def _tags(ctags: str, files: Sequence[str]) -> dict[str, list[Tag]]:
    """Return the functions that ctags finds, by file."""
    command = [ctags, "--languages=C,C++,CUDA", "--kinds-C=f", "--kinds-C++=f"]
    command += ["--sort=no", "--fields=+ne"]
    done = subprocess.run(
        [*command, f"--_xformat={FORMAT}", "-x", "-L", "-"],
        input="\n".join(files).encode(errors="surrogateescape"),
        capture_output=True,
        check=True,
    )
    tags: dict[str, list[Tag]] = defaultdict(list)
    for row in done.stdout.decode(errors="surrogateescape").splitlines():
        name, line, last_line, file = row.split("\t", 3)
        tags[file].append(Tag(name, int(line), int(last_line) if last_line.isdigit() else None))
    return tags


def _compare(
    file: str, pieces: Sequence[Function | Unread], tags: Sequence[Tag]
) -> Iterator[Difference]:
    unnamed = [piece for piece in pieces if isinstance(piece, Function)]
    lines = Path(file).read_text(encoding="latin-1").split("\n")
    for tag in tags:
        kind = _kind(tag, pieces, unnamed)
        if kind == MISSING and _has_body_of_ours(tag, pieces, lines):
            kind = "of the same body"
        yield Difference(kind, file, tag.line, tag.name)
    for function in unnamed:
        yield Difference("only ours", file, function.line, _head(function)[-60:])


def _kind(tag: Tag, pieces: Sequence[Function | Unread], unnamed: list[Function]) -> str:
    """Tell how a function of ctags fares; those of ours that have its name leave ``unnamed``."""
    for piece in pieces:
        if piece.line is None or not piece.line <= tag.line <= (piece.last_line or piece.line):
            continue
        if isinstance(piece, Unread):
            return "named"
        if _plain(tag.name.split("::")[-1]) in _plain(_head(piece)):
            if piece in unnamed:
                unnamed.remove(piece)
            return "found by both" if piece.last_line == tag.last_line else OTHER_END
        return "within"
    return MISSING


def _has_body_of_ours(tag: Tag, pieces: Sequence[Function | Unread], lines: Sequence[str]) -> bool:
    """Return whether no brace stands between a function of ctags and the next one of ours."""
    starts = [piece.line for piece in pieces if piece.line and piece.line > tag.line]
    between = "\n".join(lines[tag.line - 1 : min(starts, default=0) - 1])
    return bool(starts) and "{" not in re.sub(r"(?s)/\*.*?\*/|//[^\n]*|\n\s*#[^\n]*", "", between)


def _head(function: Function) -> str:
    return " ".join(function.source.split("{")[0].split())


def _plain(name: str) -> str:
    return re.sub(r"[\s~]", "", name)


def _print(
    files: Sequence[str],
    pieces: dict[str, list[Function | Unread]],
    seconds: float,
    counts: Counter[str],
) -> None:
    found = [piece for some in pieces.values() for piece in some]
    num_functions = sum(isinstance(piece, Function) for piece in found)
    num_bytes = sum(Path(file).stat().st_size for file in files)
    unread = [piece for piece in found if isinstance(piece, Unread) and piece.line is not None]
    print(f"{len(files)} files, {num_bytes / 1e6:.1f} MB; ours: {num_functions} functions")
    print(f"{seconds:.1f} s of CPU time: {num_functions / seconds:.0f} functions/s")
    for kind in KINDS:
        print(f"{kind:20} {counts[kind]:7}")
    print(f"{'not read':20} {len(unread):7} pieces named by file and line")


def _print_grammar(pieces: dict[str, list[Function | Unread]], number: int) -> None:
    counts: Counter[str] = Counter()
    started = time.process_time()
    apart = []
    for file, some in pieces.items():
        ours = [(one.line, one.last_line) for one in some if isinstance(one, Function)]
        theirs = list(_definitions(Path(file)))
        ends = {last for _, last in theirs}
        counts["of ours with the same end"] += sum(last in ends for _, last in ours)
        counts["of ours without"] += sum(last not in ends for _, last in ours)
        lines = {line for first, last in ours for line in range(first, last + 1)}
        apart += [f"{file}:{first}-{last}" for first, last in theirs if first not in lines]
    counts["begun outside of ours"] = len(apart)
    print(f"grammars, in {time.process_time() - started:.1f} s: {dict(counts)}")
    for place in random.Random(0).sample(apart, min(number, len(apart))):
        print(f"only the grammar's   {place}")


def _definitions(path: Path) -> Iterator[tuple[int, int]]:
    """Yield first and last line of each definition of the grammar, outermost only."""
    is_c = path.suffix == ".c"
    language = tree_sitter_c.language() if is_c else tree_sitter_cpp.language()
    waiting = [Parser(Language(language)).parse(path.read_bytes()).root_node]
    while waiting:
        node = waiting.pop()
        if node.type == "function_definition" and node.child_by_field_name("body"):
            yield node.start_point[0] + 1, node.end_point[0] + 1
        else:
            waiting.extend(node.children)


def _show(differences: Sequence[Difference], number: int) -> None:
    for kind in KINDS[1:]:
        some = [difference for difference in differences if difference.kind == kind]
        for one in random.Random(0).sample(some, min(number, len(some))):
            print(f"{kind:20} {one.file}:{one.line}  {one.name}")


if __name__ == "__main__":
    main()
