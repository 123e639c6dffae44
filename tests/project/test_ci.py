"""The workflow of GitHub's CI and .ci/run: what they run exists, ends in time, and can fail."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from readme_walk import ROOT, as_subprocess

from sg_ray.config.yaml_text import read_yaml

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
MAX_MINUTES = 60


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return read_yaml((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"), str).content


@pytest.fixture(scope="module")
def jobs(workflow) -> dict[str, dict[str, Any]]:
    return workflow["jobs"]


def commands_of(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_every_job_checks_out_ends_in_time_and_runs_only_make(jobs) -> None:
    for name, job in jobs.items():
        assert 0 < job["timeout-minutes"] <= MAX_MINUTES, name
        assert job["steps"][0]["uses"].startswith("actions/checkout@"), name
        commands = commands_of(job)
        assert commands, name
        for command in commands:
            program, target, *_ = command.split()
            assert (program, target in TARGETS) == ("make", True), command


def test_every_action_has_a_version(jobs) -> None:
    actions = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert [action for action in actions if not re.fullmatch(r"[\w./-]+@v\d+", action)] == []


def test_every_check_has_its_job(jobs) -> None:
    commands = {command.split()[1] for job in jobs.values() for command in commands_of(job)}
    assert {"lint", "coverage", "test-slow", "wheel"} <= commands


def test_hosted_jobs_cache_what_pip_downloads(jobs) -> None:
    for name, job in jobs.items():
        if job["runs-on"] == "ubuntu-latest":
            (setup,) = [s for s in job["steps"] if s.get("uses", "").startswith("actions/setup-py")]
            assert setup["with"]["cache"] == "pip", name
            assert (ROOT / setup["with"]["cache-dependency-path"]).exists(), name


def test_the_oldest_python_that_is_allowed_is_tested(jobs) -> None:
    versions = jobs["test"]["strategy"]["matrix"]["python-version"]
    assert all(isinstance(version, str) for version in versions)  # 3.10 would be 3.1
    assert f">={versions[0]}" == pyproject()["project"]["requires-python"]


def test_own_machines_never_run_the_code_of_a_pull_request(workflow, jobs) -> None:
    triggers = workflow["on"]
    assert "pull_request_target" not in triggers
    own = {name: job for name, job in jobs.items() if "self-hosted" in job["runs-on"]}
    assert set(own) == {"gpu"}
    alternatives = own["gpu"]["if"].split("||")
    names = [re.findall(r"event_name == '(\w+)'", text) for text in alternatives]
    assert names == [["workflow_dispatch"], ["push"]]


def test_quick_tests_must_reach_most_of_the_package() -> None:
    coverage = pyproject()["tool"]["coverage"]
    assert coverage["run"]["source"] == ["sg_ray"]
    assert coverage["report"]["fail_under"] >= 90
    assert "--cov " in as_subprocess(["make", "-n", "-C", str(ROOT), "coverage"])


@pytest.mark.parametrize(("broken", "code"), [("none", 0), ("lint", 1), ("test-slow", 1)])
def test_ci_run_runs_everything_and_tells_of_any_failure(
    tmp_path: Path, broken: str, code: int
) -> None:
    fake = tmp_path / "make"
    fake.write_text(f'#!/bin/sh\necho "$1" >> "{tmp_path}/ran"\ntest "$1" != {broken}\n')
    fake.chmod(0o755)
    finished = subprocess.run(
        [ROOT / ".ci/run"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    ran = (tmp_path / "ran").read_text().split()
    assert (finished.returncode, ran) == (code, ["lint", "test", "test-slow"])
    assert set(ran) <= TARGETS


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
