"""What a section of the page is."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """A part of the page with its heading; ``template`` shows ``content``."""

    id: str
    title: str
    template: str
    content: Any


@dataclass(frozen=True)
class Figure:
    """A chart with its caption; ``style`` names the class that gives it its model's colour."""

    title: str
    caption: str
    drawing: Markup
    style: str = ""
    is_wide: bool = False
    """Whether it needs the page's width, and scrolls where that is less."""


@dataclass(frozen=True)
class Legend:
    """What a colour or mark of a chart stands for."""

    name: str
    style: str
