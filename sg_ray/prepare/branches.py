"""Branches trained outside a sweep: those in the folder that ``branches_from`` names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sg_ray.commands import sg_ray_command
from sg_ray.config import Model, load_experiment
from sg_ray.errors import InputError
from sg_ray.features.spec import FeatureSpec
from sg_ray.models.families import get_family
from sg_ray.records.folder_format import require_own_format
from sg_ray.records.leaderboard import rank
from sg_ray.records.record import RunRecord, read_records
from sg_ray.records.weights import why_missing
from sg_ray.sweep_folder import RECORDS, SweepFolder
from sg_ray.trial.spec import BranchSource


@dataclass(frozen=True)
class _Found:
    """A completed trial and the folder of its weights."""

    record: RunRecord
    folder: Path


class GivenBranches:
    """The models that others build on and that are not among them: of each, one configuration.

    From a sweep's folder it is that model's winner; from a folder of trainings (``sg-ray train``)
    the only configuration that was trained on the same data.
    """

    def __init__(
        self, models: Iterable[Model], branches_from: Path | None, data_fingerprint: str | None
    ) -> None:
        """Raises InputError if one is lacking or not unique, or was trained on other data.

        Before the data are known (None), trainings count whatever they were trained on.
        """
        self._by_seed: dict[str, dict[int, _Found]] = {}
        missing = _missing(models)
        if not missing or branches_from is None:
            return
        self._folder = branches_from
        is_sweep = SweepFolder(self._folder).is_sweep
        for name in missing:
            found = self._winner(name) if is_sweep else self._trained(name)
            if data_fingerprint is not None:
                found = self._of_data(name, found, data_fingerprint)
            newest_last = sorted(found, key=lambda one: one.record.finished_at_ms)
            self._by_seed[name] = {one.record.seed: one for one in newest_last}

    @property
    def by_model(self) -> dict[str, Callable[[int], BranchSource | None]]:
        """Return, by the branch's model, the lookup "the one trained with this seed"."""
        return {name: self._lookup(name) for name in self._by_seed}

    def of_model(self, model: Model, seed: int) -> dict[str, BranchSource]:
        """Return what ``model`` builds on with this seed, by family, where there is one."""
        given = self.by_model
        found = {
            family: given[name](seed) for family, name in model.branches.items() if name in given
        }
        return {family: source for family, source in found.items() if source is not None}

    def require(self, seeds: Sequence[int]) -> None:
        """Raise InputError if a model that is built on was not trained with one of ``seeds``."""
        for name, by_seed in self._by_seed.items():
            missing = [str(seed) for seed in seeds if seed not in by_seed]
            if missing:
                raise InputError(
                    f"branches_from={self._folder}: has no trained {name} with seed "
                    f"{', '.join(missing)}. Train it there, or set replicate.seeds to those of "
                    f"{sorted(by_seed)}."
                )

    @property
    def feature_specs(self) -> Sequence[FeatureSpec]:
        """Return the feature kinds that the branches read."""
        specs: list[FeatureSpec] = []
        for by_seed in self._by_seed.values():
            for configuration in (one.record.configuration for one in by_seed.values()):
                family = get_family(configuration.family)
                settings = family.Config.model_validate(configuration.values)
                specs.extend(family.feature_specs(settings))
        return specs

    def _winner(self, name: str) -> list[_Found]:
        sweep = SweepFolder(self._folder)
        require_own_format(sweep)
        source = load_experiment(sweep.settings, loads_code=False)
        records = read_records(sweep).values()
        rows = rank(
            records,
            objective=source.objective,
            seeds=source.replicate.all_seeds,
            race_alpha=source.replicate.race_alpha,
        )
        winner = next((row for row in rows if row.model == name and row.seeds), None)
        if winner is None:
            raise InputError(
                f"branches_from={self._folder}: holds no finished {name} trial. Finish it first: "
                + sg_ray_command("sweep", "--resume", self._folder)
            )
        of_winner = [
            record
            for record in records
            if record.config_hash == winner.config_hash
            and record.status == "completed"
            and record.counts_as_seed
        ]
        for record in of_winner:
            reason = why_missing(sweep, record.trial_key)
            if reason is not None:
                remedy = sg_ray_command("sweep", "--resume", self._folder)
                raise InputError(f"branches_from={reason} They are made again by {remedy}")
        return [_Found(record, sweep.trial(record.trial_key)) for record in of_winner]

    def _trained(self, name: str) -> list[_Found]:
        folders = sorted(path.parent for path in self._folder.rglob(RECORDS))
        for folder in folders:
            require_own_format(SweepFolder(folder))
        found = [
            _Found(record, folder)
            for folder in folders
            for record in read_records(SweepFolder(folder)).values()
            if (record.model, record.stage, record.status) == (name, "train", "completed")
        ]
        if not found:
            raise InputError(
                f"branches_from={self._folder}: holds no trained {name}. Train it first: "
                + sg_ray_command("train", name)
            )
        return found

    def _of_data(self, name: str, found: list[_Found], data_fingerprint: str) -> list[_Found]:
        """Return those trained on these data, all of one configuration."""
        same = [one for one in found if one.record.data_fingerprint == data_fingerprint]
        if not same:
            raise InputError(
                f"branches_from={self._folder}: {name} was trained on other data, "
                f"{found[0].record.data_fingerprint}; here it is {data_fingerprint}. Use the same "
                "data.*"
            )
        if len({one.record.config_hash for one in same}) > 1:
            folders = "".join(f"  {one.folder}\n" for one in same)
            raise InputError(
                f"branches_from={self._folder}: holds {name} in several configurations:\n{folders}"
                "Name a folder that holds one of them."
            )
        return same

    def _lookup(self, name: str) -> Callable[[int], BranchSource | None]:
        by_seed: Mapping[int, _Found] = self._by_seed[name]

        def find(seed: int) -> BranchSource | None:
            one = by_seed.get(seed)
            return None if one is None else _source(one)

        return find


def _missing(models: Iterable[Model]) -> list[str]:
    """Return the names of the branches that are none of these models."""
    known = {model.name: model for model in models}
    wanted = dict.fromkeys(name for model in known.values() for name in model.branches.values())
    return [name for name in wanted if name not in known]


def _source(found: _Found) -> BranchSource:
    record = found.record
    return BranchSource(
        trial_key=record.trial_key,
        configuration=record.configuration,
        config_hash=record.config_hash,
        folder=found.folder.absolute(),
        weights=record.weights,
    )
