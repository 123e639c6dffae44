"""The results of any folder of trials, grouped into configurations over their seeds."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_ray.errors import InputError
from sg_ray.files import content_hash, short_hash
from sg_ray.reading import read_object
from sg_ray.records.leaderboard import is_number
from sg_ray.records.record import RunRecord, read_records
from sg_ray.report.text.columns import flat, is_of_machine
from sg_ray.sweep_folder import METADATA, RECORDS, SET_ASIDE, SweepFolder
from sg_ray.verdict.words.arithmetic import Arithmetic

UNKNOWN = "-"
_NOT_KNOWN = Arithmetic()


@dataclass(frozen=True, order=True)
class Origin:
    """What results must share to be compared: the data's fingerprint and the code's version."""

    data_fingerprint: str = UNKNOWN
    code_version: str = UNKNOWN


@dataclass(frozen=True)
class TrialResult:
    """What one trial (one configuration x one seed) came to; ``status`` as in its record.

    ``settings`` is its configuration, nested names joined by dots, and ``branches.MODEL`` for the
    configuration of each branch that is known. Metrics of time, speed and memory are left out.
    """

    trial_key: str
    name: str
    """What people call its configuration."""
    model: str
    config_hash: str
    seed: str
    status: str
    metrics: Mapping[str, float | None]
    settings: Mapping[str, Any]
    objective: str | None = None
    origin: Origin = Origin()
    arithmetic: Arithmetic = _NOT_KNOWN
    finished_at_ms: int = 0
    """0 where only the metadata is left."""


@dataclass(frozen=True)
class ConfigurationResults:
    """One configuration and the results of its seeds, all of one origin."""

    model: str
    config_hash: str
    origin: Origin
    results: Sequence[TrialResult]

    @property
    def name(self) -> str:
        """What people call it."""
        return self.results[0].name

    @property
    def settings(self) -> Mapping[str, Any]:
        """What all the results were trained with."""
        return self.results[0].settings

    @property
    def completed(self) -> list[TrialResult]:
        """The seeds that count for mean and SD."""
        return [result for result in self.results if result.status == "completed"]

    def count(self, status: str) -> int:
        """Return how many seeds ended like that."""
        return sum(result.status == status for result in self.results)

    def mean(self, metric: str) -> float | None:
        """Mean over the completed seeds that have the metric; None without any."""
        values = self._values(metric)
        return statistics.fmean(values) if values else None

    def sd(self, metric: str) -> float | None:
        """Sample standard deviation (n - 1); None for fewer than two values."""
        values = self._values(metric)
        return statistics.stdev(values) if len(values) > 1 else None

    def _values(self, metric: str) -> list[float]:
        values = (result.metrics.get(metric) for result in self.completed)
        return [value for value in values if is_number(value)]


def read_configurations(*folders: Path) -> list[ConfigurationResults]:
    """Return every configuration with trials at or below ``folders``, by origin and model.

    A folder may hold sweeps, trainings, or files called training_metadata.json, at any depth. A
    trial that is there several times counts once: as the newest that did not fail, if there is
    one. Raises InputError if a folder holds none, or if a file cannot be read as what it should be.
    """
    found = [result for folder in folders for result in read_results(folder)]
    known = _one_of_each(result for result in found if result.trial_key != UNKNOWN)
    nameless = [result for result in found if result.trial_key == UNKNOWN]
    groups: dict[tuple[Origin, str, str], list[TrialResult]] = defaultdict(list)
    for result in (*known.values(), *nameless):
        groups[result.origin, result.model, result.config_hash].append(result)
    return [
        ConfigurationResults(model, config_hash, origin, sorted(results, key=_by_seed))
        for (origin, model, config_hash), results in sorted(groups.items())
    ]


def read_results(folder: Path) -> list[TrialResult]:
    """Return the trials at or below ``folder``, each once: from its record, or metadata.

    Of several records of one trial the newest that did not fail counts, if there is one. A folder
    with records speaks for all that lies below it. What a sweep set aside is left out, and trials
    that are no seeds of their configuration.
    """
    recorded = sorted(path.parent for path in folder.rglob(RECORDS) if path.is_dir())
    recorded = [path for path in recorded if SET_ASIDE not in path.relative_to(folder).parts]
    records = [record for path in recorded for record in read_records(SweepFolder(path)).values()]
    of_key = {record.trial_key: record for record in records}
    metadata = [
        path for path in sorted(folder.rglob(METADATA)) if not set(recorded) & set(path.parents)
    ]
    told = [_from_record(record, of_key) for record in records if record.counts_as_seed]
    told += filter(None, map(_from_metadata, metadata))  # MLflow keeps copies among its artifacts
    known = _one_of_each(result for result in told if result.trial_key != UNKNOWN)
    results = [*known.values(), *(result for result in told if result.trial_key == UNKNOWN)]
    if not results:
        raise InputError(
            f"{folder}: holds neither run records ({RECORDS}/*.json) nor {METADATA} files. "
            "Name the folder of a sweep, e.g. outputs/quick, or of trials."
        )
    return results


def _one_of_each(results: Iterable[TrialResult]) -> dict[str, TrialResult]:
    """Return the result that counts by trial key: a failure may have been mended elsewhere."""
    in_order = sorted(results, key=lambda one: (one.status != "failed", one.finished_at_ms))
    return {result.trial_key: result for result in in_order}


def _from_record(record: RunRecord, known: Mapping[str, RunRecord]) -> TrialResult:
    branches = {
        model: short_hash(known[key].config_hash)
        for model, key in record.branches.items()
        if key in known
    }
    return TrialResult(
        trial_key=record.trial_key,
        name=record.configuration.name,
        model=record.model,
        config_hash=record.config_hash,
        seed=str(record.seed),
        status=record.status,
        metrics={name: v for name, v in record.metrics.items() if not is_of_machine(name)},
        settings=flat({**record.configuration.values, "branches": branches}),
        objective=record.objective,
        origin=Origin(record.data_fingerprint, record.code_version),
        arithmetic=Arithmetic.of(record),
        finished_at_ms=record.finished_at_ms,
    )


def _from_metadata(path: Path) -> TrialResult | None:
    """Return the trial; None for one with streams of its own, no seed of its configuration."""
    remedy = "Delete it, or train again."
    content = read_object(path, what="summary of a training", remedy=remedy)
    for name in ("metrics", "identity"):
        if not isinstance(content.get(name) or {}, dict):
            raise InputError(f"{path}: not a valid summary of a training ({name}). {remedy}")
    if content.get("streams"):
        return None
    metrics = {**_numbers(content), **_numbers(content.get("metrics") or {})}
    config, identity = content.get("config"), {**content, **(content.get("identity") or {})}
    model = str(identity.get("model", path.parent.parent.name))
    return TrialResult(
        trial_key=str(identity.get("trial_key", UNKNOWN)),
        name=model,
        model=model,
        config_hash=UNKNOWN if config is None else content_hash(config),
        seed=str(identity.get("seed", path.parent.name)),
        status="completed",
        metrics=metrics,
        settings=flat(config) if isinstance(config, dict) else {},
    )


def _numbers(content: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        name: value
        for name, value in content.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and not is_of_machine(name)
    }


def _by_seed(result: TrialResult) -> tuple[int, str]:
    return len(result.seed), result.seed
