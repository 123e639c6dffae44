"""``sg-ray new``: the beginning of something of one's own."""

import argparse
import re
from importlib.resources import files
from pathlib import Path

from sg_ray.cli.argument_values import folder_argument, text_argument
from sg_ray.commands import from_here, sg_ray_command
from sg_ray.errors import InputError
from sg_ray.files import write_text

_EXAMPLE, _EXAMPLE_CLASS = "bilstm", "BiLstm"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    family = kinds.add_parser("family", help="a model family in one file, and its test")
    family.add_argument("name", type=text_argument("name"), help="e.g. bilstm; its class: Bilstm")
    family.add_argument(
        "--dir", type=folder_argument("--dir"), default=Path(), help="default: the working folder"
    )
    family.set_defaults(command=_new_family)


def _new_family(arguments: argparse.Namespace) -> int:
    """Write the skeleton of a family and its test; return the exit code."""
    name, folder = arguments.name, arguments.dir
    if not _NAME.fullmatch(name):
        raise InputError(
            f"name {name}: a family's name begins with a letter and holds lower-case letters, "
            "digits and _, at most 40."
        )
    family, test = folder / f"{name}.py", folder / f"test_{name}.py"
    for path in (family, test):
        if path.exists():
            raise InputError(f"{path}: is there already. Choose another name or --dir.")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(family, _renamed("bilstm.py", name))
    write_text(test, _renamed("bilstm_check.py", name))
    reference = f"{from_here(family.absolute())}:{class_name(name)}"
    if "/" not in reference:
        reference = f"./{reference}"
    print(f"{family}, {test}: a family that learns, to be changed into yours")
    print(f"test it:  pytest {test}")
    print(f"train it: {sg_ray_command('train', reference)}")
    print(f"sweep it: {sg_ray_command('sweep', f'families=[transformer, {reference}]')}")
    return 0


def class_name(name: str) -> str:
    """Return the class that is called ``name``, e.g. ``TreeLstm`` of ``tree_lstm``."""
    return _EXAMPLE_CLASS if name == _EXAMPLE else name.title().replace("_", "")


def _renamed(example: str, name: str) -> str:
    text = (files("sg_ray.skeleton") / example).read_text(encoding="utf-8")
    text = text.replace(f"sg_ray.skeleton.{_EXAMPLE}", _EXAMPLE)
    return text.replace(_EXAMPLE_CLASS, class_name(name)).replace(_EXAMPLE, name)
