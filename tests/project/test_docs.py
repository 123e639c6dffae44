"""The pages of docs/: their links lead somewhere, the settings are all there, the site builds."""

import importlib.util
import os
import re
import subprocess
import sys
from types import ModuleType

import pytest
from readme_walk import PAGES, ROOT, python_in

from sg_ray.config.experiment import Experiment
from sg_ray.models.families import BUILT_IN, get_family

MAX_PICTURE_BYTES = 300_000
LINK = re.compile(r"!?\[[^\]]*\]\((?!https://)([^)\s]+)\)")
TOP_PAGES = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "ARCHITECTURE.md"]


@pytest.fixture(scope="module")
def settings_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_table", ROOT / "docs/settings_table.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def anchors(markdown: str) -> set[str]:
    """The addresses of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", markdown, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TOP_PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_every_setting_is_on_its_page(settings_table):
    page = settings_table.PAGE.read_text(encoding="utf-8")
    assert page == settings_table.page(page), "stale: run .venv/bin/python docs/settings_table.py"


def test_every_section_of_an_experiment_is_told(settings_table):
    told = {table.prefix: {row.key for row in table.rows} for table in settings_table.tables()}
    sections = {name for name in Experiment.model_fields if name in told}
    assert {"data", "search", "replicate", "resources", "tracking"} <= sections
    assert set(Experiment.model_fields) - sections - {"models"} == told[""]
    assert {"train", "valid", "test"} == told["data.limit"]
    assert {"config", "space", "resources"} <= told["models.FAMILY"]
    for name in BUILT_IN:
        fields = set(get_family(name).Config.model_fields)
        prefix = f"models.{name}.config"
        assert {key for key in fields if f"{prefix}.{key}" not in told} == told[prefix]


def test_values_and_defaults_are_told(settings_table):
    rows = {f"{t.prefix}.{row.key}": row for t in settings_table.tables() for row in t.rows}
    assert rows["replicate.top_k"].values == "whole number from 1 to 100,000"
    assert rows["replicate.race_alpha"].values == "number above 0 to below 1, or `null`"
    assert rows["replicate.seeds"].default == "`[42, 2025, 7]`"
    assert rows["models.transformer.config.pooling"].values == "`cls`, `mean`, `max`"


def test_the_family_that_is_shown_is_the_one_that_is_written():
    shown = python_in((ROOT / "docs/own-model.md").read_text(encoding="utf-8"))
    assert shown[0] == (ROOT / "sg_ray/skeleton/bilstm.py").read_text(encoding="utf-8")
    assert len(shown[0].splitlines()) <= 60


def test_pictures_are_small_and_shown():
    shown = {
        (page.parent / link).resolve()
        for page in TOP_PAGES
        for link in LINK.findall(page.read_text(encoding="utf-8"))
    }
    pictures = sorted((ROOT / "docs/pictures").iterdir())
    assert pictures
    assert [path.name for path in pictures if path.stat().st_size > MAX_PICTURE_BYTES] == []
    assert [path.name for path in pictures if path.resolve() not in shown] == []


def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "settings.html").exists()
    assert not (tmp_path / "settings_table.py").exists()
