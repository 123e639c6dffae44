"""The page in a real browser: it fits a desktop and a phone."""

from pathlib import Path

import pytest
from browser import Browser, find_browser
from sample_sweep import write_sample_sweep
from sample_verdict import write_sample_verdict

from sg_ray.report.page.comparison import write_comparison
from sg_ray.report.page.html import build_report
from sg_ray.sweep_folder import SweepFolder

PHONE, DESKTOP = 390, 1280


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium: .ci/run installs it where it can")
    return Browser(path, tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pages")
    without, complete = folder / "without", folder / "complete"
    for sweep in (without, complete):
        write_sample_sweep(sweep)
    write_sample_verdict(complete)
    compared = write_comparison([without, complete], folder / "compared.html")
    return [build_report(SweepFolder(without)), build_report(SweepFolder(complete)), compared]


@pytest.mark.slow
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_pages_fit_the_window(browser: Browser, pages: list[Path], width: int) -> None:
    for page in pages:
        assert browser.width_of(page, width) == width, page


@pytest.mark.slow
def test_e10_in_print_details_are_open_and_headings_stay_with_their_charts(
    browser: Browser, pages: list[Path]
) -> None:
    for page in pages[:2]:
        found = browser.printed(page)
        assert found.pop("closed") > 1
        assert found == {"hidden": 0, "parted": 0, "whole": 0}, page


@pytest.mark.slow
def test_what_is_too_wide_is_noticed(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "wide.html"
    page.write_text('<!doctype html><div style="width:600px">x</div>')
    assert browser.width_of(page, PHONE) == 608
