"""What a sweep has done so far, and what all its models share: what plans are made from."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from sg_ray.records.record import RunRecord
from sg_ray.sweep_folder import BEST, SweepFolder


@dataclass
class Ledger:
    """What is done so far: the records by trial key, and each model's suggested learning rate.

    The records lack history and environment, most of their bytes: no plan asks for those.
    ``learning_rates[model]`` is None when its range test found nothing; no entry, not yet run.
    """

    folder: SweepFolder
    records: dict[str, RunRecord]
    learning_rates: dict[str, float | None] = field(default_factory=dict)
    let_go: Collection[str] = ()
    """Keys of trials whose weights were let go, though some may have been trained again."""

    def __post_init__(self) -> None:
        given, self.records = self.records, {}
        self.version = 0
        """It changes with every record: what follows from records alone is worked out once each."""
        self._built_on: dict[str, dict[str, None]] = {}
        for record in given.values():
            self.add(record)

    def add(self, record: RunRecord) -> None:
        """Take note of a finished trial."""
        self.version += 1
        self.records[record.trial_key] = _outcome(record)
        for family, key in record.branches.items():
            self._built_on.setdefault(family, {})[key] = None

    def lacks_weights(self, trial_key: str) -> bool:
        """Return whether a trial's weights were let go, and it has not been trained again."""
        return trial_key in self.let_go and not (self.folder.trial(trial_key) / BEST).exists()

    def built_on(self, family: str) -> Iterable[str]:
        """Return the keys of the family's trials on which others were built, oldest use first."""
        return self._built_on.get(family, {})

    def of_model(self, model: str) -> list[RunRecord]:
        """Return the records of one model, oldest first."""
        return [record for record in self.records.values() if record.model == model]


def _outcome(record: RunRecord) -> RunRecord:
    return record.model_copy(update={"history": (), "environment": {}})


@dataclass(frozen=True)
class Identity:
    """What every trial of a sweep shares: its data and the code that trains it."""

    data_fingerprint: str
    code_version: str
    has_test_split: bool
    own_code_versions: Mapping[str, str] = field(default_factory=dict)
    """By family, where another one than ``code_version`` counts."""
    trained_with: Mapping[str, str] = field(default_factory=dict)
    """By family, the version that trains, where another one counts."""

    def code_version_of(self, family: str) -> str:
        """Return the version of the code that trials of a family count as made by."""
        return self.own_code_versions.get(family, self.code_version)
