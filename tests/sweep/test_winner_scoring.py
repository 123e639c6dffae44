"""What the winner is on the test split does not depend on which seed was scored first."""

import contextlib
import json
from pathlib import Path

import pytest
from played_sweep import SEEDS, Sweep, experiment

from sg_ray.records.journal import Journal
from sg_ray.sweep.execute.winner_scoring import WinnerTest


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_seeds_are_written_as_planned_whichever_was_scored_first(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    sweep = Sweep(experiment(tmp_path, families=["gnn"]))
    sweep.run()
    sweep.planner.has_test_split = True
    folder = sweep.plan.folder
    with contextlib.closing(Journal(folder.events, ())) as journal:
        test = WinnerTest(sweep.planner, journal, folder)
        jobs = [test.next_job() for _ in order]
        assert test.next_job() is None
        for place in order:
            job = jobs[place]
            assert job is not None
            test.on_finished(job, {"metrics": {"test_f1": job.spec.seed / 3}})
    assert test.done
    scores = json.loads(folder.test_scores.read_text(encoding="utf-8"))
    assert list(scores["seeds"]) == [str(seed) for seed in SEEDS]
    assert scores["metrics"] == {"test_f1": pytest.approx(sum(SEEDS) / 9)}
