"""What MLflow's page shows of a sweep before anybody has set it up: saved views.

MLflow keeps a saved view as a tag of the experiment; each appears under "Views" on the page and
has an address of its own. The format is that of MLflow 3.17's page, which passes over what it
does not know.
"""

import json
from collections.abc import Mapping
from typing import Any

from sg_ray.tracking.parameters import shown_parameters
from sg_ray.training.metrics import direction

SAVED_VIEW = "mlflow.sharedViewState."
CONFIGURATION_TAG = "configuration"
CONFIGURATIONS, TRIALS = "configurations", "trials"

_SECTION = "sg-ray"
_NAME_COLUMN = "attributes.`Run Name`"
_ONLY_TRIALS = "tags.`sg_ray.kind` = 'trial'"
_SEEDS_TO_THE_END = (
    f"{_ONLY_TRIALS} and attributes.status = 'FINISHED' and tags.stage != 'variance'"
)
"""Without what the search gave up: one lucky seed of that would stand above means of many."""


def experiment_tags(plan: Mapping[str, Any], at_ms: int) -> dict[str, str]:
    """Return the tags that set up an experiment's page for a sweep of ``plan``.

    ``at_ms`` dates the views, so that equal sweeps write equal tags.
    """
    objective = f"best_{plan.get('objective', 'val_roc_auc')}"
    trials = {**_table(plan, objective), **_charts(plan, objective)}
    by_configuration = {"mode": "tag", "groupByData": CONFIGURATION_TAG}
    grouping = {"aggregateFunction": "average", "groupByKeys": [by_configuration]}
    configurations = {**trials, "groupBy": grouping, "searchFilter": _SEEDS_TO_THE_END}
    return {
        "mlflow.experiment.primaryMetric.name": objective,
        SAVED_VIEW + CONFIGURATIONS: _view(
            "Configurations, mean over seeds", configurations, at_ms
        ),
        SAVED_VIEW + TRIALS: _view("Trials, best first", trials, at_ms),
    }


def view_address(experiment_id: str, view: str, *, charts: bool = False) -> str:
    """Return where a saved view is, relative to MLflow's own page."""
    mode = "&compareRunsMode=CHART" if charts else ""
    query = f"workflowType=machine_learning&viewStateShareKey={view}{mode}"
    return f"#/experiments/{experiment_id}/runs?{query}"


def _view(name: str, state: Mapping[str, Any], at_ms: int) -> str:
    saved = {"name": name, "createdAt": at_ms, "updatedAt": at_ms, "state": json.dumps(state)}
    return json.dumps(saved)


def _table(plan: Mapping[str, Any], objective: str) -> dict[str, Any]:
    """Only trials: in a list of their own, not folded away below the sweep's run."""
    metrics = dict.fromkeys([objective, "best_val_f1", "best_val_accuracy"])
    names = (*shown_parameters(plan), "seed")
    columns = [
        *(f"metrics.`{metric}`" for metric in metrics),
        *(f"params.`{name}`" for name in names),
        "tags.`stage`",
    ]
    return {
        "searchFilter": _ONLY_TRIALS,
        "orderByKey": f"metrics.`{objective}`",
        "orderByAsc": direction(objective.removeprefix("best_")) == "minimise",
        "runsHiddenMode": "SHOW_ALL",
        "selectedColumns": columns,
        "columnOrder": [_NAME_COLUMN, *columns],
        "columnWidths": {_NAME_COLUMN: 260, **dict.fromkeys(columns, 130)},
    }


def _charts(plan: Mapping[str, Any], objective: str) -> dict[str, Any]:
    """On top: parallel coordinates of what was searched, and the objective by epoch.

    A line of parallel coordinates needs a value on every axis, so each set of settings that some
    model searches has a chart of its own.
    """
    models = plan.get("models", {})
    spaces = [(models.get(model) or {}).get("space") or {} for model in plan.get("families", ())]
    parallel = [
        _chart(
            "PARALLEL",
            f"{', '.join(axes)}: {objective}",
            selectedParams=["model", *axes],
            selectedMetrics=[objective],
            showAllRuns=True,
        )
        for axes in dict.fromkeys(tuple(sorted(space)) for space in spaces if space)
    ]
    metric = objective.removeprefix("best_")
    curve = _chart("LINE", f"{metric} by epoch", metricKey=metric, selectedMetricKeys=[metric])
    bars = _chart("BAR", objective, metricKey=objective, dataAccessKey=objective)
    return {
        "compareRunCharts": [*parallel, curve, bars],
        "compareRunSections": [_section("Settings and outcome")],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }


def _section(name: str) -> dict[str, Any]:
    shown = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": _SECTION, "name": name, **shown}


def _chart(kind: str, title: str, **settings: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": f"{_SECTION}-{title}",
        "metricSectionId": _SECTION,
        "displayName": title,
        "deleted": False,
        "isGenerated": False,
        **settings,
    }
