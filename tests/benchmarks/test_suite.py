"""The benchmark suite: what becomes of rows that end well, fail, hang or cannot run."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks"
KEYS = {"ours", "baseline", "ratio", "goal", "met"}
SMALL_ROWS = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Row:
    name: str
    measure: str
    budget_s: int = 60
    device: str = "cpu"
    what: str = "what"
    baseline: str = "baseline"
    goal: str = "goal"

ROWS = (
    Row("breaks", "small:breaks"),
    Row("hangs", "small:hangs", budget_s=1),
    Row("works", "small:works"),
    Row("partly", "small:partly"),
    Row("absent", "not_there:measure"),
    Row("on-gpu", "small:works", device="gpu"),
)
"""
SMALL_MEASURES = """
import os, time
from pathlib import Path
from figures import Figure, Skipped, NO_TODAY, times_better, at_most

def breaks(today):
    raise ValueError("no luck today")

def hangs(today):
    Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
    time.sleep(600)

def works(today):
    print("something of no interest")
    return [
        Figure("a script", 2.0, 8.0, "s", times_better(3), floor=1.5),
        Figure("a loop", 2.0, 8.0, "samples/s", at_most(1.5), "more"),
    ]

def partly(today):
    if today is None:
        return [Skipped("today", NO_TODAY), Figure("nothing", 0.0, 1.0, "s", None)]
    return [Figure("today", 1.0, float((today / "number").read_text()), "s", None)]
"""


@pytest.fixture(autouse=True)
def benchmarks_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules import each other as scripts do, from their own folder."""
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The suite in a project of its own, with small rows."""
    folder = tmp_path / "experiments" / "benchmarks"
    folder.mkdir(parents=True)
    for name in ("suite.py", "figures.py"):
        shutil.copy2(BENCHMARKS / name, folder)
    (folder / "rows.py").write_text(SMALL_ROWS)
    (folder / "small.py").write_text(SMALL_MEASURES)
    return tmp_path


def run_suite(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "experiments/benchmarks/suite.py", *arguments],
        cwd=project,
        env={**os.environ, "PID_FILE": str(project / "pid")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def results_of(project: Path) -> dict[str, dict[str, object]]:
    return json.loads((project / "outputs" / "bench" / "results.json").read_text())


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_what_fails_or_cannot_run_leaves_the_others_alone(project: Path) -> None:
    run = run_suite(project)
    assert run.returncode == 1
    assert results_of(project) == {
        "works: a script": {
            "ours": 2.0, "baseline": 8.0, "ratio": 4.0, "goal": ">= 3x", "met": True
        },
        "works: a loop": {
            "ours": 2.0, "baseline": 8.0, "ratio": 0.25, "goal": "<= 1.5 samples/s", "met": False
        },
        "partly: nothing": {
            "ours": 0.0, "baseline": 1.0, "ratio": None, "goal": "stated", "met": True
        },
    }  # fmt: skip
    told = run.stdout
    assert "FAILED: exit code 1: ValueError: no luck today" in told
    assert "FAILED: it takes more than 3 s" in told
    assert "partly: today: skipped: no checkout of the commit" in told
    assert "absent: skipped: no not_there.py here (goal goal)" in told
    assert "on-gpu: skipped: it is a row of `make bench ARGS=gpu`" in told
    assert "ours 2 s, baseline 8 s; ratio 4; goal >= 3x met; floor 1.5 s" in told
    assert "goal <= 1.5 samples/s MISSED" in told
    assert told.count("(budget 60 s)") == 3
    assert "3 figures, 1 miss their goal" in told
    assert not Path(f"/proc/{(project / 'pid').read_text()}").exists()


def test_some_rows_alone(project: Path) -> None:
    run = run_suite(project, "--only", "works", "--out", "elsewhere")
    assert run.returncode == 0, run.stderr
    results = json.loads((project / "elsewhere" / "results.json").read_text())
    assert list(results) == ["works: a script", "works: a loop"]
    assert all(set(entry) == KEYS for entry in results.values())
    table = run_suite(project, "--table", "--out", "elsewhere").stdout.splitlines()
    assert table[2:] == [
        "| works: a script | 2 | 8 | 4 | >= 3x | met |",
        "| works: a loop | 2 | 8 | 0.25 | <= 1.5 samples/s | missed |",
    ]


def test_a_wrong_name_is_refused_before_anything_runs(project: Path) -> None:
    run = run_suite(project, "--only", "works", "worsk")
    assert run.returncode == 2
    assert "no such row: worsk. Known: breaks, hangs, works" in run.stderr
    assert not (project / "outputs").exists()


def test_without_a_gpu_its_rows_are_skipped(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run = run_suite(project, "gpu")
    assert run.returncode == 0
    assert "on-gpu: skipped: torch sees no CUDA device here" in run.stdout
    assert "works: skipped: it is a row of `make bench`" in run.stdout
    assert results_of(project) == {}


def test_today_is_checked_out_for_the_run_and_gone_afterwards(project: Path) -> None:
    git(project, "init", "--quiet")
    (project / "number").write_text("7")
    git(project, "add", "-A")
    git(project, "commit", "--quiet", "-m", "then")
    (project / "number").write_text("9")
    suite = project / "experiments" / "benchmarks" / "suite.py"
    then = git(project, "rev-parse", "HEAD")
    suite.write_text(suite.read_text().replace('TODAY = "8307633"', f'TODAY = "{then}"'))
    run = run_suite(project, "--only", "partly")
    assert run.returncode == 0, run.stderr
    assert results_of(project)["partly: today"]["baseline"] == 7.0
    assert len(git(project, "worktree", "list").splitlines()) == 1


def test_sources_without_that_commit_do_without_today(project: Path) -> None:
    git(project, "init", "--quiet")
    run = run_suite(project, "--only", "partly")
    assert run.returncode == 0
    assert "today (8307633) cannot be checked out" in run.stdout
    assert list(results_of(project)) == ["partly: nothing"]


def test_a_figure_says_how_many_times_better_ours_is() -> None:
    from figures import Figure, at_least, at_most, times_better

    faster = Figure("a", ours=2, baseline=6, unit="s", goal=times_better(3))
    slower = Figure(
        "a", ours=2, baseline=6, unit="samples/s", goal=times_better(0.4), better="more"
    )
    assert (faster.ratio, faster.met, slower.ratio, slower.met) == (3, True, 1 / 3, False)
    assert Figure("a", 2, 6, "s", at_most(2)).met
    assert not Figure("a", 2, 6, "s", at_most(1.9)).met
    assert not Figure("a", 2, 6, "%", at_least(2.1)).met
    assert Figure("a", 2, 6, "s", None).met


def test_ways_are_timed_in_turn() -> None:
    from figures import in_turn

    order: list[str] = []
    spent = in_turn([lambda: order.append("a"), lambda: order.append("b")], rounds=3)
    assert order == ["a", "b"] * 3
    assert len(spent) == 2
    assert all(one.wall_s > 0 and one.cpu_s >= 0 for one in spent)


def test_the_rows_fit_into_the_time_that_the_makefile_names() -> None:
    from rows import ROWS

    assert sum(row.budget_s for row in ROWS if row.device == "cpu") <= 22 * 60
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    "goal",
    [
        ">= 10x and >= 2.2x; >= 34 % of the matmul's rate; GPU busy >= 90 %",
        ">= 5x each; GPU busy >= 60 %",
        "<= 3x one, >= 2x faster than eight processes",
        "<= 0.8 of the time, else off",
        "<= 200 s, the same kind of verdict, first line of results <= 45 s",
        ">= 1.5x today, >= 6x the recipe",
        ">= 1.5x today, >= 10x PyG",
        "<= 0.12 s",
        ">= 2x today, <= 2.5x the parse, tokens >= 0.9 of encode_batch",
        ">= 20x",
        "the data's share grows <= 5 % from 1 to 4 trials",
        "within 10 %",
        "<= 3 % more",
    ],
)
def test_every_goal_that_was_set_has_a_row(goal: str) -> None:
    from rows import ROWS

    assert goal in {row.goal for row in ROWS}


def test_what_a_row_names_is_there() -> None:
    from rows import ROWS

    for row in ROWS:
        module, _, function = row.measure.partition(":")
        tree = ast.parse((BENCHMARKS / f"{module}.py").read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in functions, row.measure
