import re
from pathlib import Path

import pytest
from page_parser import Page, check
from sample_sweep import OBJECTIVE, make_record, sample_records, write_sample_sweep
from sample_verdict import HEADLINE, write_sample_verdict

from sg_ray.errors import InputError
from sg_ray.models.families import FAMILIES
from sg_ray.records.events import StageStarted
from sg_ray.records.journal import Journal
from sg_ray.records.record import write_record
from sg_ray.report.page.content import MODEL_STYLES, model_styles
from sg_ray.report.page.html import build_report
from sg_ray.sweep_folder import SweepFolder

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "sg_ray" / "report" / "page" / "templates"
HOSTILE = "</style></pre><script>alert('&')</script>"


def built(folder: Path) -> str:
    path = build_report(SweepFolder(folder))
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("sweep")
    write_sample_sweep(folder)
    return built(folder)


@pytest.fixture(scope="module")
def verdict_page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("sweep")
    write_sample_sweep(folder)
    write_sample_verdict(folder)
    return built(folder)


def test_a_finished_sweep_shows_every_section_in_order(verdict_page):
    tags = check(verdict_page)
    assert len(verdict_page) < 250_000
    assert tags.headings == [
        "Verdict",
        "Leaderboard",
        "Seeds",
        "Race",
        "Learning curves",
        "Learning-rate range tests",
        "Search",
        "Expected best of a search",
        "Winner on the test split",
        "Decisions and calibration",
        "Failures",
        "Cost",
        "How it was made",
    ]
    links = re.findall(r'<li><a href="#([^"]*)">', verdict_page)
    assert links == re.findall(r'<h2 id="([^"]*)">', verdict_page)


def test_without_a_verdict_the_page_ranks_means_and_says_so(page):
    tags = check(page)
    assert "Expected best of a search" not in tags.headings
    assert "whether a difference is more than chance has not been tested" in page
    assert re.search(r"That is 0\.1\d{3} better than the floor \(lexical", page)
    for text in ("kept once", "completed", "9a8b7c6d5e4f", "top_k: 2", "0.7320"):
        assert text in page


def test_the_verdicts_words_are_escaped(verdict_page):
    assert HEADLINE not in verdict_page
    assert HEADLINE.replace("<", "&lt;").replace(">", "&gt;") in verdict_page


def test_the_best_row_is_first_and_the_floor_is_marked(page):
    section = Page(page).section("leaderboard")
    rows = section[section.index("<tbody") :].split("<tr")[1:]
    assert len(rows) == 7
    assert 'class="winner"' in rows[0]
    assert sum(">floor<" in row and 'class="floor"' in row for row in rows) == 1
    assert 'bad" data-label="Failed">1<' in rows[-1]


def test_settings_are_shown_as_configured_and_no_column_is_of_the_machine(tmp_path):
    for rate, measured in ((0.0015, 0.7), (0.0025, 0.6)):
        metrics = {OBJECTIVE: measured, "learning_rate": 1e-9, "epoch_time_s": 3.0}
        write_record(
            SweepFolder(tmp_path), make_record("gnn", {"learning_rate": rate}, 42, metrics=metrics)
        )
    section = Page(built(tmp_path)).section("leaderboard")
    assert "learning_rate 0.0015" in section
    assert not re.search(r"1e-09|epoch_time|learning_rate_mean", section)


def test_messages_are_escaped(page):
    assert "(&lt;nan&gt;)" in page
    assert "<nan>" not in page


def test_the_same_sweep_gives_the_same_page(page, tmp_path):
    write_sample_sweep(tmp_path)
    of_the_clock = re.compile(r"<dt>Begun</dt><dd>[^<]*|[^;]* from the first event")
    assert of_the_clock.sub("", built(tmp_path)) == of_the_clock.sub("", page)


def test_an_empty_folder_makes_a_page_that_says_so(tmp_path):
    tags = check(built(tmp_path))
    assert "No model has finished" in tags.source
    assert "not finished" in tags.source
    assert tags.headings == ["Verdict", "Leaderboard", "How it was made"]


def test_an_unfinished_sweep_has_a_page(tmp_path):
    write_record(SweepFolder(tmp_path), make_record("gnn", {"learning_rate": 1e-3}, 42))
    journal = Journal(tmp_path / "events.jsonl")
    journal.append(StageStarted(model="gnn", stage="search", num_trials=4))
    journal.close()
    page = built(tmp_path)
    assert "not finished" in page
    assert "There is no floor" in page
    assert "over 1 seed." in page
    check(page)


@pytest.mark.parametrize("status", ["failed", "pruned"])
def test_a_sweep_without_a_completed_trial_has_a_page(tmp_path, status):
    for seed in (42, 7):
        write_record(
            SweepFolder(tmp_path),
            make_record("gnn", {}, seed, status=status, metrics={}, history=[]),
        )
    tags = check(built(tmp_path))
    assert "No model has finished" in tags.source
    assert ("Failures" in tags.headings) == (status == "failed")


@pytest.mark.parametrize("with_floor", [True, False])
def test_a_single_seed_has_a_page_with_a_verdict(tmp_path, with_floor):
    for record in sample_records():
        if record.seed == 42 and (with_floor or record.stage != "floor"):
            write_record(SweepFolder(tmp_path), record)
    write_sample_verdict(tmp_path)
    tags = check(built(tmp_path))
    assert "Race" in tags.headings  # the verdict tells of one that was dropped
    assert ("floor-line" in tags.section("seeds")) == with_floor


def test_missing_values_leave_gaps(tmp_path):
    history = [{"epoch": 1, OBJECTIVE: None}, {"epoch": 2, OBJECTIVE: 0.7}, {"epoch": 3}]
    metrics = {OBJECTIVE: 0.7, "val_f1": None}
    write_record(
        SweepFolder(tmp_path), make_record("gnn", {}, 42, history=history, metrics=metrics)
    )
    page = built(tmp_path)
    assert "nan" not in check(page).text.lower()


def test_hostile_texts_do_not_break_the_page(tmp_path):
    for number, value in enumerate((HOSTILE, "\u2713", "\ud800", 'a" onload="x')):
        config = {"note": value, "learning_rate": 10.0 ** -(number + 1), HOSTILE: value}
        write_record(SweepFolder(tmp_path), make_record("gnn", config, 42, stage="search"))
    (tmp_path / "sweep.yaml").write_text(f"name: {HOSTILE!r}\nobjective: val_roc_auc\n")
    page = built(tmp_path)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\u2713" in page
    check(page)


def test_a_minimised_objective_leads_downwards(tmp_path):
    (tmp_path / "sweep.yaml").write_text("objective: val_loss\n")
    for family, loss, stage in (("gnn", 0.4, "search"), ("lexical", 0.6, "floor")):
        metrics = {"val_loss": loss}
        write_record(
            SweepFolder(tmp_path), make_record(family, {}, 42, metrics=metrics, stage=stage)
        )
    assert "That is 0.2000 better than the floor" in built(tmp_path)


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"bad\.json"):
        build_report(SweepFolder(tmp_path))


@pytest.mark.parametrize("content", ["{", '{"sweep": "x"}', "[]"])
def test_a_broken_verdict_is_named(tmp_path, content):
    (tmp_path / "verdict.json").write_text(content)
    with pytest.raises(InputError, match=r"verdict\.json: not a valid verdict .*delete it"):
        build_report(SweepFolder(tmp_path))


def test_a_verdict_that_knows_fewer_seeds_is_called_outdated(tmp_path):
    write_sample_sweep(tmp_path)
    write_sample_verdict(tmp_path)
    assert "have finished since" not in built(tmp_path)
    config = next(
        record.configuration.values for record in sample_records() if record.family == "gnn"
    )
    write_record(SweepFolder(tmp_path), make_record("gnn", config, 1, stage="replicate"))
    assert "have finished since" in check(built(tmp_path)).text


def test_families_keep_their_colours_whatever_else_is_on_the_page(tmp_path):
    def styles(*families: str) -> dict[str, str]:
        return model_styles([make_record(family, {}, 1) for family in families])

    everything = styles("fusion", "mine", "gnn", "transformer")
    assert len(set(everything.values())) == 4
    for family, style in everything.items():
        assert styles(family) == {family: style}
    assert set(MODEL_STYLES) <= set(FAMILIES)


def test_every_template_is_part_of_the_package():
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (pattern,) = settings["tool"]["setuptools"]["package-data"]["sg_ray.report.page"]
    shipped = {path.name for path in TEMPLATES.parent.glob(pattern)}
    assert shipped == {path.name for path in TEMPLATES.iterdir()}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_and_marks_can_be_seen(scheme):
    light, dark = (_colours(block) for block in _root_blocks())
    colours = light if scheme == "light" else {**light, **dark}
    for name in ("ink", "muted", "accent", "bad", "floor", "good", "wait"):
        assert _contrast(colours[name], colours["page"]) >= 4.5, name
    for name in ("ink", "muted"):
        assert _contrast(colours[name], colours["panel"]) >= 4.5, name
    for name in ("good", "wait"):
        assert _contrast(colours[name], colours[f"{name}-panel"]) >= 4.5, name
    for name in ("other", "strong-line", "shade-4", *(f"model-{n}" for n in range(1, 6))):
        assert _contrast(colours[name], colours["page"]) >= 3, name


def _root_blocks() -> list[str]:
    sheet = (TEMPLATES / "style.css.jinja").read_text(encoding="utf-8")
    return re.findall(r":root \{(.*?)\}", sheet, flags=re.DOTALL)


def _colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))


def _contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2.2."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
