"""Where everything lies in the folder of a sweep; the only place that knows the names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
"""The number of what this module and ``records`` describe: raise it when files that an earlier
version wrote lie elsewhere or mean something else."""

LAST = "last.pt"
"""A training's position: weights, optimiser, counters."""
BEST = "best_model.pt"
NEXT_BEST = "best_model.next.pt"
METRICS = "metrics.jsonl"
METADATA = "training_metadata.json"
"""Written last: a training that has it has come to its own end."""
VALID_PREDICTIONS = "valid_predictions.npz"
NEXT_PREDICTIONS = "valid_predictions.next.npz"
"""What is to take the place of the best model and its predictions, once both are written."""
TEST_PREDICTIONS = "test_predictions.npz"
ENVIRONMENT = "environment.json"
"""What a trial's process and machine were."""

MODEL_CARD = "model.json"
"""What an exported model is."""
WINNER_CARD = "winner.json"
"""Which exported model is the winner of the whole sweep."""

PRETRAINED_DIR = "pretrained"
BRANCHES_DIR = "branches"
FEATURES_DIR = "features"
"""What lies in an exported model beside its card and weights."""

RECORDS = "records"
BEST_DIR = "best"
LEADERBOARD = "leaderboard.csv"
REPORT = "report.html"
RAY_LOG = "ray.log"
SET_ASIDE = "set_aside"
_TOKEN = ".seen-"
SETTINGS = "sweep.yaml"
TRAINING_SETTINGS = "experiment.yaml"


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep, or of a training by itself, which has the same names for the same.

    Nothing need exist: these are places, not contents. The files of one trial, in ``trial(key)``
    and in a checkpoint, are called by the constants of this module.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The sweep's name, unless the folder was renamed."""
        return self.path.name

    @property
    def settings(self) -> Path:
        """The resolved experiment: what makes a folder a sweep's."""
        return self.path / SETTINGS

    @property
    def training_settings(self) -> Path:
        """The same of a training by itself."""
        return self.path / TRAINING_SETTINGS

    @property
    def batch_script(self) -> Path:
        """The script by which SLURM runs the sweep: beside the folder, which it outlives."""
        return self.path.with_name(f"{self.path.name}.sbatch")

    @property
    def is_sweep(self) -> bool:
        """Whether a sweep was begun here."""
        return self.settings.exists()

    @property
    def is_begun(self) -> bool:
        """Whether a sweep or a training by itself was begun here."""
        return self.is_sweep or self.training_settings.exists()

    @property
    def format(self) -> Path:
        """The number of the format of all these files: ``FORMAT`` of the version that began it."""
        return self.path / "format.json"

    @property
    def kept_versions(self) -> Path:
        """Which versions of the code count as one that is on record."""
        return self.path / "kept_versions.json"

    @property
    def events(self) -> Path:
        """The journal."""
        return self.path / "events.jsonl"

    @property
    def records(self) -> Path:
        """The folder of the run records."""
        return self.path / RECORDS

    def record(self, trial_key: str) -> Path:
        """The record of a trial."""
        return self.records / f"{trial_key}.json"

    def trial(self, trial_key: str) -> Path:
        """The folder of a finished trial's files.

        Weights, predictions on the validation split, metadata and metrics, and for the seeds of
        the winner predictions on the test split.
        """
        return self.path / "trials" / trial_key

    @property
    def range_tests(self) -> Path:
        """The folder of what range tests found."""
        return self.path / "lr_range"

    def range_test(self, model: str) -> Path:
        """What the range test of a model found."""
        return self.range_tests / f"{model}.json"

    def range_test_picture(self, model: str) -> Path:
        """The same, drawn."""
        return self.range_tests / f"{model}.png"

    @property
    def searches(self) -> Path:
        """The folder of Optuna's journals."""
        return self.path / "search"

    def search(self, model: str) -> Path:
        """Optuna's journal of a model's search."""
        return self.searches / f"{model}.journal"

    @property
    def search_journals(self) -> list[Path]:
        """Optuna's journals that are there."""
        return sorted(self.searches.glob("*.journal"))

    @property
    def search_locks(self) -> list[Path]:
        """Optuna's locks of them that are there."""
        return sorted(self.searches.glob("*.journal.lock*"))

    @property
    def leaderboard(self) -> Path:
        """The ranked table."""
        return self.path / LEADERBOARD

    @property
    def test_scores(self) -> Path:
        """The winner's scores on the test split."""
        return self.path / "test.json"

    @property
    def verdict(self) -> Path:
        """Who beats whom."""
        return self.path / "verdict.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / REPORT

    @property
    def best(self) -> Path:
        """The folder of the exported winners, one of each model."""
        return self.path / BEST_DIR

    @property
    def detector(self) -> Path:
        """The exported model of a training by itself."""
        return self.path / "detector"

    @property
    def position_of_mirror(self) -> Path:
        """How far MLflow mirrors the journal, and as which sweep."""
        return self.path / "tracking.json"

    @property
    def mirror_lock(self) -> Path:
        """Held by the process that mirrors."""
        return self.path / ".tracking.lock"

    @property
    def all_packages(self) -> Path:
        """The folder of what was installed where trials ran, one file an environment."""
        return self.path / "packages"

    def packages(self, packages_hash: str) -> Path:
        """The version of every package of an environment; records name it by its hash."""
        return self.all_packages / f"{packages_hash}.json"

    @property
    def lock(self) -> Path:
        """Held by the sweep's one driver."""
        return self.path / ".lock"

    def node_token(self, word: str) -> Path:
        """A file that all machines must see which train; what it holds is its name."""
        return self.path / f"{_TOKEN}{word}"

    @property
    def node_tokens(self) -> list[Path]:
        """Those that are there, and what machines have written in answer."""
        return sorted(self.path.glob(f"{_TOKEN}*"))

    @property
    def ray_log(self) -> Path:
        """What Ray says."""
        return self.path / RAY_LOG

    @property
    def tune(self) -> Path:
        """Tune's own folders, one a start."""
        return self.path / "tune"

    @property
    def attempts(self) -> list[Path]:
        """Tune's folders of the starts so far, in order."""
        there = self.tune.glob("attempt-*")
        return sorted(path for path in there if re.fullmatch(r"attempt-\d+", path.name))

    @property
    def new_attempt(self) -> Path:
        """Tune's folder of one more start."""
        return _next(self.tune, "attempt-")

    @property
    def groups(self) -> Path:
        """The folder of trials with several workers."""
        return self.path / "groups"

    def group(self, trial_key: str) -> Path:
        """Where the workers of a trial with several train; all nodes of a cluster must see it."""
        return self.groups / trial_key

    @property
    def set_aside(self) -> Path:
        """What does not count any more."""
        return self.path / SET_ASIDE

    @property
    def new_set_aside(self) -> Path:
        """A folder for all that other data, files or code led to."""
        return _next(self.set_aside)

    @property
    def tests_set_aside(self) -> list[Path]:
        """Scores on the test split from before the sweep was extended."""
        return sorted(self.set_aside.glob("test-*.json"))

    @property
    def new_test_set_aside(self) -> Path:
        """Where the scores of now go when it is extended."""
        return _next(self.set_aside, "test-", ".json")

    def new_lost_record(self, trial_key: str) -> Path:
        """Where a record goes whose trial was lost with its process or machine."""
        return _next(self.set_aside / "lost", f"{trial_key}-", ".json")

    @property
    def what_all_models_led_to(self) -> tuple[Path, ...]:
        """All beside the records that is void once data, pretrained files or code are others."""
        return (self.searches, self.range_tests, self.test_scores, self.best, self.tune)

    def what_models_led_to(self, models: Iterable[str]) -> list[Path]:
        """The same of some of the models; which of all models won is void as well."""
        own = [
            (self.search(m), self.range_test(m), self.range_test_picture(m), self.best / m)
            for m in models
        ]
        return [*(path for paths in own for path in paths), self.test_scores]


def _next(folder: Path, before: str = "", after: str = "") -> Path:
    """Return a place in ``folder`` with one more than the highest number in its name.

    Some that came before may be gone, so it is not their count.
    """
    name = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    found = (name.fullmatch(path.name) for path in folder.glob("*"))
    last = max((int(one[1]) for one in found if one), default=0)
    return folder / f"{before}{last + 1:03d}{after}"
