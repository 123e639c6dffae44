import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from sample_sweep import OBJECTIVE, SEEDS, make_record, write_sample_sweep

from sg_ray.errors import InputError
from sg_ray.report.html import build_report
from sg_ray.sweep.events import Journal
from sg_ray.sweep.records import write_record

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """The tags of a page, checked for balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
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
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def built(folder) -> str:
    path = build_report(folder)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("sweep")
    write_sample_sweep(folder)
    return built(folder)


def test_the_page_is_whole_and_needs_nothing_else(page):
    tags = Page(page)
    assert not tags.all("script") + tags.all("link") + tags.all("img") + tags.all("iframe")
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"url\(|@import|src=", page)
    assert len(page) < 200_000


def test_it_shows_every_part(page):
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert headings == [
        "Leaderboard",
        "Seeds",
        "Learning curves",
        "Search history",
        "Learning-rate range tests",
        "Failures",
        "Data",
        "To run it again",
    ]
    for text in ("kept once", "Sweep completed", "9a8b7c6d5e4f", "top_k: 2", "test_f1", "0.7320"):
        assert text in page


def test_the_best_row_is_first_and_the_floor_is_marked(page):
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    rows = body.split("<tr")[1:]
    assert len(rows) == 7
    assert 'class="winner"' in rows[0]
    assert sum("(floor)" in row and 'class="floor"' in row for row in rows) == 1
    assert 'bad">1<' in rows[-1]


def test_the_lead_over_the_floor_is_told(page):
    assert re.search(r"That is 0\.1\d{3} better than the floor \(lexical", page)


def test_messages_are_escaped(page):
    assert "(&lt;nan&gt;)" in page
    assert "<nan>" not in page


def test_drawings_and_tables_can_be_read_out(page):
    tags = Page(page)
    ids = {attributes["id"] for _, attributes in tags.tags if "id" in attributes}
    for _, attributes in tags.tags:
        assert attributes.get("aria-labelledby", next(iter(ids))) in ids
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 2 * (7 + 1) + 3 * 3
    for drawing in drawings:
        svg = ElementTree.fromstring(drawing)
        assert svg.get("aria-label") or svg.get("aria-hidden")
    assert all("scope" in attributes for attributes in tags.all("th"))


def test_one_dot_per_seed(page):
    strips = re.findall(r'<svg class="strip" .*?</svg>', page, flags=re.DOTALL)
    assert sum(drawing.count("<circle") for drawing in strips) == 2 * (6 * len(SEEDS) + 2)


def test_the_same_sweep_gives_the_same_page(page, tmp_path):
    write_sample_sweep(tmp_path)
    begun = re.compile(r"begun [^;]*;")  # the journal has its own clock
    assert begun.sub("", built(tmp_path)) == begun.sub("", page)


def test_an_empty_folder_makes_a_page_that_says_so(tmp_path):
    page = built(tmp_path)
    assert "No model has finished" in page
    assert "Sweep not finished" in page
    Page(page)


def test_an_unfinished_sweep_has_a_page(tmp_path):
    write_record(tmp_path, make_record("gnn", {"learning_rate": 1e-3}, 42))
    journal = Journal(tmp_path / "events.jsonl")
    journal.append("stage", family="gnn", stage="search", num_trials=4)
    journal.close()
    page = built(tmp_path)
    assert "Sweep not finished" in page
    assert "There is no floor" in page
    Page(page)


@pytest.mark.parametrize("status", ["failed", "pruned"])
def test_a_sweep_without_a_completed_trial_has_a_page(tmp_path, status):
    write_record(tmp_path, make_record("gnn", {}, 42, status=status, metrics={}, history=[]))
    assert "No model has finished" in built(tmp_path)


def test_missing_values_leave_gaps(tmp_path):
    history = [{"epoch": 1, OBJECTIVE: None}, {"epoch": 2, OBJECTIVE: 0.7}, {"epoch": 3}]
    metrics = {OBJECTIVE: 0.7, "val_f1": None}
    write_record(tmp_path, make_record("gnn", {}, 42, history=history, metrics=metrics))
    page = built(tmp_path)
    assert "nan" not in page.lower()
    Page(page)


def test_odd_texts_do_not_break_the_page(tmp_path):
    config = {"note": "</pre><script>alert(1)</script>", "wide": "\u2713"}
    write_record(tmp_path, make_record("gnn", config, 42))
    page = built(tmp_path)
    assert "<script" not in page
    assert "\u2713" in page
    Page(page)


def test_a_minimised_objective_leads_downwards(tmp_path):
    (tmp_path / "sweep.yaml").write_text("objective: val_loss\n")
    for family, loss, stage in (("gnn", 0.4, "search"), ("lexical", 0.6, "floor")):
        metrics = {"val_loss": loss}
        write_record(tmp_path, make_record(family, {}, 42, metrics=metrics, stage=stage))
    assert "That is 0.2000 better than the floor" in built(tmp_path)


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"bad\.json"):
        build_report(tmp_path)
