"""What a sweep's folder holds, for a notebook; the sweep may still be running."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from sg_ray.api.frames import (
    Metrics,
    curve_of,
    curves_frame,
    leaderboard_frame,
    predictions_frame,
    seeds_frame,
    trials_frame,
)
from sg_ray.api.places import named_folder
from sg_ray.api.sweep_state import State, SweepState, read_state
from sg_ray.commands import from_here
from sg_ray.config import Experiment, load_experiment
from sg_ray.errors import InputError
from sg_ray.files import short_hash
from sg_ray.records.events import EpochEnded, TrialStarted
from sg_ray.records.journal import read_events
from sg_ray.records.leaderboard import Row, format_mean, leaderboard
from sg_ray.records.record import RunRecord, read_records
from sg_ray.report.page.content import read_verdict
from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict.assemble import build_verdict
from sg_ray.verdict.model import Verdict


@dataclass(frozen=True)
class SweepResults:
    """The results of a sweep, finished or not; shown in a notebook with its table and verdict.

    Every attribute is read from the sweep's folder when it is asked for, so those of a sweep that
    runs grow. Each raises InputError that names the file if one of them is damaged. In all tables
    a number that is missing is NaN. A trial is told by ``trial_key``, ``name`` (of its
    configuration), ``model``, ``family``, ``config_hash`` and ``seed``.
    """

    folder: SweepFolder

    @property
    def experiment(self) -> Experiment:
        """The experiment, resolved."""
        return load_experiment(self.folder.settings, loads_code=False)

    @property
    def progress(self) -> SweepState:
        """Its state, how many trials have ended, how many are planned, and the best so far."""
        return read_state(self.folder, self.experiment.objective)

    @property
    def state(self) -> State:
        """Running, interrupted, failed (it has ended, but trials failed) or complete."""
        return self.progress.state

    @property
    def leaderboard(self) -> pd.DataFrame:
        """The ranked configurations, best first.

        Columns: ``rank``, ``name`` (what differs from the experiment's own values), ``model``,
        ``family``, ``config_hash``, ``num_seeds`` completed, ``num_failed``, ``is_floor``,
        ``dropped_after`` so many fresh seeds by the race, ``METRIC_mean`` and ``METRIC_sd`` of
        every metric over the completed seeds, ``test_METRIC`` of the winner, and
        ``config.SETTING`` of every setting.
        """
        return leaderboard_frame(self._rows())

    @property
    def seeds(self) -> pd.DataFrame:
        """A line for each seed of the configurations of the leaderboard, in its order.

        Columns: ``rank``, those that tell a trial, ``status`` and every metric, in its best epoch.
        """
        records = self._records()
        return seeds_frame(self._rows(records), records.values())

    @property
    def trials(self) -> pd.DataFrame:
        """A line for each trial that has ended, oldest first, those of the search included.

        Columns: those that tell a trial, ``stage``, ``status`` ("completed", "pruned" or
        "failed"), ``best_epoch``, ``epochs``, ``train_time_s`` in seconds, ``failure`` (what went
        wrong, or ""), every metric in the best epoch, and ``config.SETTING`` of every setting.
        """
        return trials_frame(self._records().values())

    @property
    def curves(self) -> pd.DataFrame:
        """A line for each epoch of each trial, also of those that have not ended.

        Columns: those that tell a trial, ``stage``, ``epoch`` (from 1) and every metric.
        """
        records = self._records()
        ended = [curve_of(record) for record in records.values()]
        return curves_frame([*ended, *self._unfinished(records)])

    @property
    def predictions(self) -> pd.DataFrame:
        """What each completed trial says of each function: of "valid", for the winner of "test".

        Columns: those that tell a trial, ``split``, ``sample`` (its place in the split, from 0),
        ``sample_id`` (None if the data have no ids), ``label`` (1: vulnerable) and ``probability``
        of "vulnerable".
        """
        return predictions_frame(self.folder, self._records().values())

    @property
    def verdict(self) -> Verdict:
        """Which configuration is better, and how sure that is; ``headline`` is the short of it.

        Of a sweep that has not come to its end: what can be said so far.
        """
        written = read_verdict(self.folder) if self.progress.is_over else None
        return build_verdict(self.folder) if written is None else written

    def __str__(self) -> str:
        """Return where it lies, and how far it is."""
        return f"{from_here(self.folder.path)}: {_told(self.progress)}"

    def __repr__(self) -> str:
        return f"<sweep {self}>"

    def _repr_html_(self) -> str:
        """Return the state, the ranked table, the headline, and where the page lies."""
        experiment, progress = self.experiment, self.progress
        verdict = read_verdict(self.folder) if progress.is_over else None
        parts = [f"<strong>{escape(experiment.name)}</strong>: {escape(_told(progress))}"]
        parts += [_html_table(self._rows(), experiment.objective)]
        parts += [] if verdict is None else [escape(verdict.headline)]
        if self.folder.report.exists():
            parts.append(f"<code>{escape(str(from_here(self.folder.report)))}</code>")
        return "".join(f"<div>{part}</div>" for part in parts)

    def _records(self) -> dict[str, RunRecord]:
        return read_records(self.folder)

    def _rows(self, records: Mapping[str, RunRecord] | None = None) -> list[Row]:
        known = self._records() if records is None else records
        return leaderboard(self.folder, known, self.experiment.rules)

    def _unfinished(
        self, records: Mapping[str, RunRecord]
    ) -> Iterator[tuple[dict[str, Any], list[Metrics]]]:
        """Yield the trials without a record, and the epochs that the journal has of them."""
        trials: dict[str, tuple[dict[str, Any], list[Metrics]]] = {}
        for event in read_events(self.folder.events):
            match event:
                case TrialStarted(trial_key=key) if key not in records:
                    trial = {
                        "trial_key": key,
                        "name": event.name,
                        "model": event.model,
                        "family": event.family,
                        "config_hash": event.config_hash,
                        "seed": event.seed,
                        "stage": event.stage,
                    }
                    trials.setdefault(key, (trial, []))
                case EpochEnded(trial_key=key) if key in trials:
                    trials[key][1].append({"epoch": event.epoch, **event.metrics})
        yield from trials.values()


def open_sweep(sweep: str | Path) -> SweepResults:
    """Return the results of a sweep, by its name below ``outputs/`` or its folder.

    It may be finished, interrupted, or running in another process. Raises InputError if there is
    no such sweep::

        sweep = sg_ray.open_sweep("quick")
        sweep.leaderboard[["name", "val_roc_auc_mean", "val_roc_auc_sd"]]
        print(sweep.verdict.headline)
    """
    folder = SweepFolder(named_folder(Path(sweep)).absolute())
    if not folder.is_sweep:
        raise InputError(
            f"{sweep}: no sweep (it would hold {folder.settings.name}). Give its folder, or its "
            "name if it lies in outputs/."
        )
    return SweepResults(folder)


def _told(progress: SweepState) -> str:
    least, most = progress.num_planned
    planned = f"{least}" if least == most else f"{least} to {most}"
    return f"{progress.state}, {progress.num_finished} of {planned} trials"


def _html_table(rows: list[Row], objective: str) -> str:
    metrics = list(dict.fromkeys([objective, "val_f1", "val_accuracy"]))
    lines = [
        {
            "name": row.configuration.name,
            "config": short_hash(row.config_hash),
            "seeds": len(row.seeds),
            "failed": len(row.failed_seeds),
            **{metric: format_mean(row, metric) for metric in metrics},
        }
        for row in rows
    ]
    return str(pd.DataFrame(lines).to_html(index=False, border=0))
