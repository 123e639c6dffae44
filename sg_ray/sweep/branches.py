"""Branches trained outside a sweep: the winners of the sweep that ``branches_from`` names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sg_ray.config import Experiment, load_experiment
from sg_ray.errors import InputError
from sg_ray.features.spec import FeatureSpec
from sg_ray.models.families import get_family
from sg_ray.sweep.leaderboard import Row, rank
from sg_ray.sweep.records import RunRecord, read_records, trial_dir
from sg_ray.trial import BranchSource


class GivenBranches:
    """Winners of another sweep, for the families that this experiment builds on but lacks."""

    def __init__(self, experiment: Experiment, data_fingerprint: str | None) -> None:
        """Raises InputError if the named sweep lacks one, or was trained on other data."""
        self._rows: dict[str, Row] = {}
        self._records: Mapping[str, RunRecord] = {}
        missing = _missing(experiment)
        if not missing or experiment.branches_from is None:
            return
        self._folder = experiment.branches_from
        source = load_experiment(self._folder / "sweep.yaml")
        self._records = read_records(self._folder)
        rows = rank(
            self._records.values(), objective=source.objective, seeds=source.replicate.seeds
        )
        for family in missing:
            self._rows[family] = self._winner(family, rows)
        if data_fingerprint is not None:
            self._check_data(data_fingerprint)

    @property
    def by_family(self) -> dict[str, Callable[[int], BranchSource | None]]:
        """Return, by family, the lookup "the winner's trial with this seed"."""
        return {family: self._lookup(row) for family, row in self._rows.items()}

    @property
    def feature_specs(self) -> Sequence[FeatureSpec]:
        """Return the feature kinds that the branches read."""
        specs: list[FeatureSpec] = []
        for name, row in self._rows.items():
            family = get_family(name)
            specs.extend(family.feature_specs(family.Config.model_validate(row.config)))
        return specs

    def _winner(self, family: str, rows: Sequence[Row]) -> Row:
        winner = next((row for row in rows if row.family == family and row.seeds), None)
        if winner is None:
            raise InputError(
                f"branches_from={self._folder}: holds no finished {family} trial. Finish it first: "
                f"python experiments/sweep.py --resume {self._folder}"
            )
        return winner

    def _check_data(self, data_fingerprint: str) -> None:
        for record in self._records.values():
            if record.data_fingerprint != data_fingerprint:
                raise InputError(
                    f"branches_from={self._folder}: was trained on other data "
                    f"({record.data_fingerprint}, here {data_fingerprint}). Use the same data.*"
                )

    def _lookup(self, row: Row) -> Callable[[int], BranchSource | None]:
        by_seed = {
            record.seed: record
            for record in self._records.values()
            if record.config_hash == row.config_hash and record.status == "completed"
        }

        def find(seed: int) -> BranchSource | None:
            record = by_seed.get(seed)
            return None if record is None else _source(record, self._folder)

        return find


def _missing(experiment: Experiment) -> list[str]:
    wanted = [b for family in experiment.families for b in get_family(family).branches]
    return [name for name in dict.fromkeys(wanted) if name not in experiment.families]


def _source(record: RunRecord, folder: Path) -> BranchSource:
    return BranchSource(
        trial_key=record.trial_key,
        family=record.family,
        config=record.config,
        config_hash=record.config_hash,
        folder=trial_dir(folder, record.trial_key).absolute(),
    )
