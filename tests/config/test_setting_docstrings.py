"""Every setting says, where it is defined, what changes when it changes."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise

import pytest

from sg_ray.config import Experiment
from sg_ray.config.experiment import ModelSettings, Resources
from sg_ray.features.spec import GraphSpec, TokenSpec
from sg_ray.models.families import FAMILIES
from sg_ray.setting_types import StrictModel
from sg_ray.space import Dimension


def sections() -> Iterator[type[StrictModel]]:
    yield from (Experiment, ModelSettings, Resources, Dimension, TokenSpec, GraphSpec)
    for field in Experiment.model_fields.values():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, StrictModel):
            yield field.annotation
    for family in FAMILIES.values():
        yield family.Config


def told(section: type[StrictModel]) -> dict[str, str]:
    """Return the docstrings below the fields of a section and of those it is made from."""
    found: dict[str, str] = {}
    for cls in reversed(section.__mro__[:-1]):
        if not issubclass(cls, StrictModel):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
        for field, below in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                found[field.target.id] = inspect.cleandoc(below.value.value)
    return found


@pytest.mark.parametrize("section", dict.fromkeys(sections()), ids=lambda one: one.__name__)
def test_every_setting_is_told(section):
    docstrings = told(section)
    untold = [name for name in section.model_fields if len(docstrings.get(name, "")) < 10]
    assert not untold, f"{section.__name__} in {inspect.getsourcefile(section)}: {untold}"
