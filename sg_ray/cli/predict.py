"""``sg-ray predict``: score C and C++ functions with an exported model."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from sg_ray.api.places import named_folder
from sg_ray.cli.argument_values import folder_argument, text_argument
from sg_ray.commands import from_here
from sg_ray.scan.source_files import Function, Piece, pieces_in
from sg_ray.sweep_folder import BEST_DIR

if TYPE_CHECKING:
    from sg_ray.detector import Detector

FUNCTIONS_AT_ONCE = 256
"""Scored together: enough to fill batches, few enough that the first lines come soon."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "folder",
        type=folder_argument("folder"),
        help=f"a sweep (its name or folder: the winner), one of its {BEST_DIR}/MODEL, or the "
        "folder of a training",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE.c | FOLDER | FILE.jsonl | -",
        help="C and C++ files, folders of them, or rows with func (.jsonl, or an array in .json; "
        "also packed as .gz, .xz, .zst)",
    )
    parser.add_argument(
        "--family",
        action="append",
        default=[],
        type=text_argument("--family"),
        metavar="CODE",
        help="MODULE:CLASS or FILE.py:CLASS of a model's family that no installed package offers",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.set_defaults(command=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    """Print one line a function: probability, decision, file and line. Never the source.

    What decides, from which probability on, and what could not be read go to standard error.
    Returns 1 if functions may have been left out.
    """
    from sg_ray.detector import Detector, model_folder

    folder = model_folder(named_folder(arguments.folder))
    detector = Detector.load(folder, families=arguments.family)
    card = detector.card
    _note(
        f"{card.configuration.title(card.config_hash)} seed {card.seed}: vulnerable from "
        f"{card.threshold:.4f} on (chosen on the validation split)"
    )
    _note_the_floor(folder)
    reading = _Reading(piece for name in arguments.files for piece in pieces_in(name))
    functions = iter(reading)
    while some := list(islice(functions, FUNCTIONS_AT_ONCE)):
        for line in _lines(detector, some, as_json=arguments.json):
            print(line)
    if reading.num_losses:
        _note(f"incomplete: what is named above was not scored ({reading.num_losses} in all)")
    return 1 if reading.num_losses else 0


def _note_the_floor(folder: Path) -> None:
    """Say so if the sweep of a winner ranks the floor above it."""
    from sg_ray.config import FLOOR
    from sg_ray.detector import is_below_floor

    if is_below_floor(folder):
        _note(
            f"note: the floor ({FLOOR}) is ranked above it in its sweep; to score with the floor, "
            f"name {from_here(folder.with_name(FLOOR))}"
        )


class _Reading:
    """The functions among pieces; the others are told and counted as they are met."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._pieces = pieces
        self.num_losses = 0

    def __iter__(self) -> Iterator[Function]:
        for piece in self._pieces:
            if isinstance(piece, Function):
                yield piece
            else:
                _note(str(piece))
                self.num_losses += piece.is_loss


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _lines(detector: "Detector", functions: Sequence[Function], *, as_json: bool) -> Iterator[str]:
    probabilities = detector.predict([function.source for function in functions])
    decisions = detector.decide(probabilities)
    for function, probability, is_vulnerable in zip(
        functions, probabilities.tolist(), decisions.tolist(), strict=True
    ):
        if as_json:
            place = {"file": function.file, "line": function.line}
            yield json.dumps({**place, "probability": probability, "vulnerable": is_vulnerable})
        else:
            decision = "vulnerable" if is_vulnerable else "ok"
            yield f"{probability:.4f}  {decision:<10}  {function.file}:{function.line}"
