"""Metrics of the user's own: their contract, their names, their place in an experiment."""

import pickle
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from sg_ray import plugins
from sg_ray.config import Experiment, load_experiment
from sg_ray.errors import InputError
from sg_ray.plugins import Plugin
from sg_ray.statistics import own_metrics
from sg_ray.statistics.own_metrics import OWN_METRICS, Metric, MetricTable
from sg_ray.statistics.scores import Score, score_function
from sg_ray.training.metrics import direction, is_better, scored
from sg_ray.trial.own_code import OwnCode

METRICS = """
from sg_ray.statistics.own_metrics import Metric

def missed(labels, probabilities):
    return float(((labels == 1) & (probabilities < 0.5)).mean())

def missed_weighted(labels, probabilities, weights=None):
    import numpy as np
    return np.average((labels == 1) & (probabilities < 0.5), weights=weights)

def miscounted(labels, probabilities, weights=None):
    return missed(labels, probabilities)

def flagged(labels, probabilities, threshold):
    return float((probabilities >= threshold).mean())

misses = Metric("misses", missed, lower_is_better=True)
counted = Metric("counted", missed_weighted, lower_is_better=True)
wrong = Metric("wrong", miscounted)
flags = Metric("flags", flagged)
broken = Metric("broken", lambda labels, probabilities: 1 / 0)
f1 = Metric("f1", missed)
threshold = Metric("threshold", missed)
spaced = Metric("Missed Ones", missed)
"""

LABELS = np.array([0, 1, 1, 0, 1, 0, 1], dtype=np.int8)
SEEDS = np.array([[0.1, 0.9, 0.2, 0.6, 0.7, 0.3, 0.4], [0.6, 0.2, 0.1, 0.4, 0.7, 0.3, 0.4]])
WEIGHTS = np.array([[1, 1, 1, 1, 1, 1, 1], [2, 0, 3, 0, 1, 1, 0]], dtype=np.float64)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with ``own.py`` in it; no metric is known."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(METRICS)
    return tmp_path


def plug_in(name: str) -> str:
    return OWN_METRICS.plug_in(Plugin.of(f"own.py:{name}"))


def load(text: str, *overrides: str, loads_code: bool = True) -> Experiment:
    Path("e.yaml").write_text(f"name: e\n{text}")
    return load_experiment(Path("e.yaml"), overrides, loads_code=loads_code)


@pytest.mark.parametrize("name", ["misses", "counted"])
def test_with_and_without_weights_a_resample_counts_rows_as_often(name: str) -> None:
    assert plug_in(name) == name
    found = score_function(f"val_{name}")(LABELS, SEEDS, WEIGHTS)
    assert found == pytest.approx(np.array([[2 / 7, 3 / 7], [3 / 7, 3 / 7]]))
    assert direction(f"val_{name}") == "minimise"
    assert is_better(f"val_{name}", 0.1, 0.2)
    assert Score(f"test_{name}").scale.lower_is_better


def test_one_that_depends_on_the_threshold_gets_that_of_each_seed() -> None:
    plug_in("flags")
    found = score_function("val_flags", [0.5, 0.15])(LABELS, SEEDS)
    assert found == pytest.approx(np.array([[3 / 7, 6 / 7]]))
    with pytest.raises(InputError, match="thresholds"):
        score_function("val_flags")


def test_it_stands_beside_those_that_are_always_measured() -> None:
    plug_in("flags")
    plug_in("misses")
    own = OWN_METRICS.measured(["flags", "misses"])
    without = scored("val", LABELS, SEEDS[0], 0.25)
    assert scored("val", LABELS, SEEDS[0], 0.25, own) == {
        **without,
        "val_flags": 5 / 7,
        "val_misses": 2 / 7,
    }


BROKEN = {
    "wrong": r"own\.py:wrong: gives 0\.\d+ where weights .* use of weights",
    "broken": r"broken fails on \d rows \(ZeroDivisionError",
    "f1": "another metric called 'f1'",
    "threshold": "another metric called 'threshold'",
    "spaced": "'Missed Ones' is no name",
    "missed": "is no Metric",
    "gone": "defines no 'gone'",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_metric_is_told(name: str) -> None:
    with pytest.raises(InputError, match=BROKEN[name]):
        plug_in(name)
    assert list(OWN_METRICS) == []


def test_an_experiment_notes_code_and_direction_and_reads_back_equal(folder: Path) -> None:
    experiment = load("metrics: [./own.py:misses, 'own.py:flags']\nobjective: val_misses\n")
    assert experiment.metrics == ("misses", "flags")
    assert experiment.own_metrics == {"misses": "minimise", "flags": "maximise"}
    assert experiment.plugins.metrics["misses"].code == f"{folder / 'own.py'}:misses"
    assert experiment.identity["metrics"] == ["misses", "flags"]
    Path("copy.yaml").write_text(experiment.to_yaml())
    assert load_experiment(Path("copy.yaml")) == experiment
    Path("own.py").unlink()
    OWN_METRICS._plugged.clear()
    OWN_METRICS._directions.clear()
    assert load_experiment(Path("copy.yaml"), loads_code=False) == experiment
    assert direction("val_misses") == "minimise", "known without the code"
    with pytest.raises(InputError, match=r"moved.*plugins\.metrics\.misses\.code=FILE\.py:misses"):
        load_experiment(Path("copy.yaml"))
    Path("new.py").write_text(METRICS)
    moved = [f"plugins.metrics.{name}.code=./new.py:{name}" for name in ("misses", "flags")]
    assert load_experiment(Path("copy.yaml"), moved).identity == experiment.identity


def test_one_that_is_turned_round_is_not_gone_on_with() -> None:
    experiment = load("metrics: [./own.py:misses]\nobjective: val_misses\n")
    Path("copy.yaml").write_text(experiment.to_yaml())
    Path("own.py").write_text(METRICS.replace("missed, lower_is_better=True", "missed"))
    with pytest.raises(InputError, match="minimise, but its code is to maximise now"):
        load_experiment(Path("copy.yaml"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("objective: val_misses", r"unknown metric 'val_misses'.*metrics=\["),
        ("metrics: [f1]", "f1 is always measured"),
        ("metrics: [misses]", r"unknown metric 'misses'.*my_package\.metrics:misses"),
        ("metrics: [gone_package.metrics:fnr]", "no module gone_package. Install the package"),
        ("metrics: [./gone.py:fnr]", "no such file"),
        ("metrics: [./own.py:misses, ./other.py:misses]", "two metrics call themselves 'misses'"),
    ],
)
def test_what_is_missing_is_named_with_its_place(text: str, reason: str) -> None:
    Path("other.py").write_text(METRICS)
    with pytest.raises(InputError, match=rf"e\.yaml.*{reason}"):
        load(f"{text}\n")


def test_a_package_offers_metrics_by_name(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "site" / "offers_metrics").mkdir(parents=True)
    (folder / "site" / "offers_metrics" / "__init__.py").write_text(METRICS)
    monkeypatch.syspath_prepend(str(folder / "site"))
    offers = (EntryPoint("misses", "offers_metrics:misses", own_metrics.ENTRY_POINTS),)
    monkeypatch.setattr(plugins, "_entry_points", lambda group: offers)
    experiment = load("metrics: [misses]\nobjective: val_misses\n")
    assert experiment.plugins.metrics["misses"].code == "offers_metrics:misses"
    assert experiment.own_metrics == {"misses": "minimise"}
    two = (*offers, EntryPoint("misses", "elsewhere:misses", own_metrics.ENTRY_POINTS))
    monkeypatch.setattr(plugins, "_entry_points", lambda group: two)
    with pytest.raises(InputError, match="'misses' is offered by"):
        load("metrics: [misses]\n")


def test_two_directions_of_one_name_do_not_go_together() -> None:
    table = MetricTable()
    table.tell({"cost": "minimise"})
    table.tell({"cost": "minimise"})
    with pytest.raises(InputError, match="cost is to maximise here, and to minimise"):
        table.tell({"cost": "maximise"})
    assert table.metric("cost") is None
    with pytest.raises(InputError, match="the code of cost was not loaded"):
        table.measured(["cost"])


def test_an_objective_of_another_experiment_is_not_measured_by_this_one() -> None:
    load("metrics: [./own.py:misses]\nobjective: val_misses\n")
    with pytest.raises(InputError, match=r"e\.yaml.*metrics does not hold misses"):
        load("metrics: [./own.py:flags]\nobjective: val_misses\n")


def test_a_worker_takes_the_code_along(monkeypatch: pytest.MonkeyPatch) -> None:
    load("metrics: [./own.py:misses, ./own.py:flags]\n")
    taken_along = pickle.dumps(OwnCode.of(["gnn"], ["misses"]))
    Path("own.py").unlink()
    there = MetricTable()
    monkeypatch.setattr("sg_ray.trial.own_code.OWN_METRICS", there)
    pickle.loads(taken_along).plug_in()
    assert list(there) == ["misses"]
    assert there.measured(["misses"])[0](LABELS, SEEDS[0], 0.5) == pytest.approx(2 / 7)


def test_a_value_is_a_number_of_python() -> None:
    metric = Metric("share", lambda labels, probabilities: np.float32(0.5))
    assert type(metric(LABELS, SEEDS[0], 0.5)) is float
