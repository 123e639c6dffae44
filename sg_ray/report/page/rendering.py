"""Templates to pages: the loader, the filters, one function."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from sg_ray.commands import runnable
from sg_ray.files import short_hash
from sg_ray.records.leaderboard import Row, format_mean, is_number

_SMALLEST_P_SHOWN = 0.001
NONE = "\u2013"
"""What stands for a missing number: a dash."""


@dataclass(frozen=True)
class Looks:
    """How a page shows models and configurations.

    ``styles`` are the style sheet's classes of the models, ``names`` what people call the
    configurations, by hash.
    """

    styles: Mapping[str, str]
    names: Mapping[str, str]

    def name_of(self, model: str, config_hash: str = "") -> str:
        """Return what a configuration is called; without a hash, the model's name."""
        return self.names.get(config_hash, model)


def render(template: str, looks: Looks, **content: Any) -> str:
    """Return a page whose models and configurations look, and are called, like that."""
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": duration,
        "mean": _mean,
        "number": number,
        "p": p_value,
        "percent": _percent,
        "runnable": runnable,
        "short_hash": short_hash,
        "signed": signed,
        "style": lambda model: looks.styles.get(model, ""),
        "called": looks.name_of,
    }
    page = environment.get_template(template).render(**content)
    return page.encode("utf-8", "replace").decode("utf-8")  # lone surrogates


def number(value: float | None, decimals: int = 4) -> str:
    """Return a metric's value."""
    return f"{value:.{decimals}f}" if is_number(value) else NONE


def signed(value: float | None) -> str:
    """Return a difference, always with its sign."""
    return f"{value:+.4f}".replace("-", "\u2212") if is_number(value) else NONE


def p_value(value: float | None) -> str:
    """Return a p value with two significant digits."""
    if not is_number(value):
        return NONE
    return f"< {_SMALLEST_P_SHOWN:g}" if value < _SMALLEST_P_SHOWN else f"{value:.2g}"


def duration(seconds: float | None) -> str:
    """Return a time in hours and minutes, below an hour in minutes and seconds."""
    if not is_number(seconds):
        return NONE
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _percent(share: float | None) -> str:
    return f"{share:.0%}" if is_number(share) else NONE


def _mean(row: Row, metric: str) -> str:
    text = format_mean(row, metric)
    return NONE if text == "-" else text.replace("+-", "\u00b1")


def _source(name: str) -> str:
    return files("sg_ray.report.page").joinpath("templates", name).read_text(encoding="utf-8")
