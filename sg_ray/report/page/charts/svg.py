"""SVG elements as safe markup."""

from markupsafe import Markup, escape


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """Return one element; children and attribute values that are not markup are escaped.

    ``class_`` stands for ``class`` and an underscore for a hyphen; numbers keep two decimals; an
    attribute that is None is left out.
    """
    given = {name: value for name, value in attributes.items() if value is not None}
    words = (f' {_name(name)}="{escape(_text(value))}"' for name, value in given.items())
    inner = Markup("").join(children)
    return Markup(f"<{tag}{''.join(words)}>{inner}</{tag}>")


def picture(label: str, *children: str, **attributes: object) -> Markup:
    """Return an <svg> that is read out as ``label``."""
    return element("svg", *children, role="img", aria_label=label, **attributes)


def title(text: str) -> Markup:
    """Return what a pointer that rests on an element shows."""
    return element("title", text)


def percent(value: float) -> str:
    """Return a position in percent of the drawing's width."""
    return f"{value:.2f}%"


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _text(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
