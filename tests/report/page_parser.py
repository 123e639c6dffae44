"""A page taken apart, and what every page has to keep to."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

VOID = {"meta", "br", "hr", "img", "link", "input"}
Attributes = dict[str, str | None]


class Page(HTMLParser):
    """The tags of a page, checked for balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.tags: list[tuple[str, Attributes]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[Attributes]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def headings(self) -> list[str]:
        """The titles of its sections."""
        return re.findall(r"<h2[^>]*>(.*?)</h2>", self.source)

    def section(self, id: str) -> str:
        """The source of one section."""
        start = self.source.index(f'<section aria-labelledby="{id}">')
        return self.source[start : self.source.index("</section>", start)]


def check(source: str) -> Page:
    """Return a page that is whole, offline, and can be read out and used by keyboard."""
    page = Page(source)
    _check_offline(page)
    _check_ids(page)
    _check_tables(page)
    _check_drawings(page)
    _check_headings(page)
    return page


def _check_offline(page: Page) -> None:
    for tag in ("script", "link", "img", "iframe", "object", "form"):
        assert not page.all(tag)
    assert not re.search(r"https?:|url\(|@import|\bsrc=", page.source)
    assert not [name for _, a in page.tags for name in a if name.startswith("on")]
    targets = {attributes["href"] for attributes in page.all("a")}
    ids = {f"#{attributes['id']}" for _, attributes in page.tags if "id" in attributes}
    assert targets <= ids


def _check_ids(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a}
    assert named <= set(ids)
    assert [len(page.all(tag)) for tag in ("header", "nav", "main", "h1")] == [1, 1, 1, 1]


def _check_tables(page: Page) -> None:
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    for attributes in page.all("div"):
        if attributes.get("class") == "scroll":
            assert attributes["role"] == "region"
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]


def _check_drawings(page: Page) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page.source, flags=re.DOTALL)
    assert len(drawings) == len(page.all("svg"))
    for drawing in drawings:
        svg = ElementTree.fromstring(drawing)
        assert svg.get("aria-hidden") or (svg.get("role") == "img" and svg.get("aria-label"))
        assert "nan" not in drawing


def _check_headings(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
