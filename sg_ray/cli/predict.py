"""``sg-ray predict``: score C functions with an exported model."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from sg_ray.cli.functions import Function, functions_in
from sg_ray.cli.settings import folder_argument, named_folder
from sg_ray.files import short_hash

if TYPE_CHECKING:
    from sg_ray.detector import Detector

FUNCTIONS_AT_ONCE = 256
"""Scored together: enough to fill batches, few enough that the first lines come soon."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "folder",
        type=folder_argument("folder"),
        help="a sweep (its name or folder: the winner), one of its best/FAMILY, or the folder of "
        "a training",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE.c | FILE.jsonl | -", help="C files, or rows with func"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.set_defaults(command=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    """Print one line a function: probability, decision, file and line. Never the source.

    What decides, and from which probability on, goes to standard error.
    """
    from sg_ray.detector import Detector

    detector = Detector.load(named_folder(arguments.folder))
    card = detector.card
    print(
        f"{card.family} {short_hash(card.config_hash)} seed {card.seed}: vulnerable from "
        f"{card.threshold:.4f} on (chosen on the validation split)",
        file=sys.stderr,
    )
    functions = (function for name in arguments.files for function in functions_in(name))
    while some := list(islice(functions, FUNCTIONS_AT_ONCE)):
        for line in _lines(detector, some, as_json=arguments.json):
            print(line)
    return 0


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
