"""Every kind of file in a sweep's folder, damaged in every way: named, or mended and told.

The first table damages each kind in each way and asks what reads it; the second takes one damage a
kind through the real commands.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from small_sweeps import DATABASE, INLINE, SWEEP, copy_of, repeated_points, results, run_statuses

from sg_ray.cli import main
from sg_ray.config import LrRangeSettings, load_experiment
from sg_ray.detector import Detector, read_card, read_winner
from sg_ray.errors import InputError, SgRayError
from sg_ray.files import write_json
from sg_ray.jobs.checkpoints import read_environment
from sg_ray.records import lr_cache
from sg_ray.records.events import DataChecked
from sg_ray.records.journal import read_events
from sg_ray.records.learning_rates import read_learning_rates
from sg_ray.records.record import read_history, read_records
from sg_ray.records.search_journal import mend_search_journal, read_search_journal
from sg_ray.records.winner_scores import read_scores
from sg_ray.report.page.content import read_sweep, read_verdict
from sg_ray.report.text.results import read_results
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.summary import Summary
from sg_ray.training.checkpoint import read_best
from sg_ray.training.predictions import read_predictions
from sg_ray.trial.spec import TrialSpec

Damage = Callable[[Path], Any]
NEWLINE, NUL = b"\n", b"\0" * 40 + b"\n"
FOREIGN, OTHER_JSON = b"From: somebody else\n", b'{"a": 1}\n'


def insert(place: str, line: bytes | None) -> Damage:
    """Put a line at the start, in the middle or at the end; None: the one that is there, again."""

    def damage(path: Path) -> None:
        lines = [one.rstrip(b"\n") + b"\n" for one in path.read_bytes().split(b"\n") if one]
        at = {"start": 0, "middle": len(lines) // 2, "end": len(lines)}[place]
        again = lines[min(at, len(lines) - 1)]
        path.write_bytes(b"".join([*lines[:at], again if line is None else line, *lines[at:]]))

    return damage


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Damage] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a folder": replaced_by_a_folder,
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "Latin-1": lambda path: path.write_bytes(path.read_bytes().replace(b"a", b"\xe9", 1)),
    "a list": lambda path: path.write_bytes(b"[]\n"),
    "null": lambda path: path.write_bytes(b"null\n"),
    "too deep": lambda path: path.write_bytes(b"[" * 100_000 + b"\n"),
    "5,000 digits": lambda path: path.write_bytes(b'{"a": ' + b"1" * 5000 + b"}\n"),
    "newer": lambda path: path.write_bytes(path.read_bytes().replace(b"{", b'{"new": 1, ', 1)),
    **{
        f"{name}, {place}": insert(place, line)
        for name, line in {
            "blank": b"\n",
            "doubled": None,
            "NUL": NUL,
            "foreign": FOREIGN,
            "other JSON": OTHER_JSON,
        }.items()
        for place in ("start", "middle", "end")
    },
}


AGAIN = ("missing",)
"""Is no damage of a file that is made again."""
ANY = tuple(name.partition(",")[0] for name in DAMAGES)
"""Of archives with checksums: if what is read is equal, what was put around it does not matter."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: which one of the folder is damaged, and what reads it.

    ``read`` gets the sweep's folder. Damages that are ``harmless``, for they change nothing of what
    is read, need no word; nor do ``allowed`` ones, for such a file is as it may be.
    """

    place: str
    read: Callable[[Path], Any]
    harmless: tuple[str, ...] = ("blank",)
    allowed: tuple[str, ...] = ()

    def is_harmless(self, damage: str, *, equal: bool) -> bool:
        return damage in self.allowed or (equal and damage.partition(",")[0] in self.harmless)


def predicted(folder: Path) -> Any:
    return Detector.load(folder).predict(["int f(int a) { return a; }"]).tolist()


def events(folder: Path) -> Any:
    return list(read_events(folder / "events.jsonl", tell=True))


def mended_search(folder: Path) -> Any:
    journal = folder / "search/gnn.journal"
    mend_search_journal(journal, [{"learning_rate": 5e-3}])
    return [line.content for line in read_search_journal(journal)]


def of_sweep(read: Callable[[SweepFolder], Any]) -> Callable[[Path], Any]:
    return lambda folder: read(SweepFolder(folder))


def every(pattern: str, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda folder: [read(path) for path in sorted(folder.glob(pattern))]


def of_winner(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def do(folder: Path) -> Any:
        winner = read_winner(folder / "best")
        return winner and read(folder / "trials" / winner.trial_key)

    return do


def kept_range(folder: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lr_cache, "_path", lambda *_: folder / "kept.json")
        return lr_cache.read(LrRangeSettings(), TrialSpec.model_construct())


KINDS = {
    "settings": Kind(
        "sweep.yaml",
        lambda folder: load_experiment(folder / "sweep.yaml"),
        ("blank", "doubled"),  # its first line is a comment
    ),
    "record": Kind("records/*.json", of_sweep(read_records), allowed=AGAIN),
    "journal": Kind("events.jsonl", events, (), AGAIN),
    "search": Kind("search/gnn.journal", mended_search, (), (*AGAIN, "newer")),
    "range test": Kind("lr_range/gnn.json", of_sweep(read_learning_rates), allowed=AGAIN),
    "kept range test": Kind("kept.json", kept_range, allowed=AGAIN),
    "score on test": Kind("test.json", of_sweep(read_scores), allowed=AGAIN),
    "verdict": Kind("verdict.json", of_sweep(read_verdict), allowed=AGAIN),
    "leaderboard": Kind(
        "leaderboard.csv",
        lambda folder: Summary.read(SweepFolder(folder), "tiny", "val_roc_auc").rows,
        allowed=AGAIN,
    ),
    "best model": Kind("trials/WINNER/best_model.pt", of_winner(read_best), ANY),
    "predictions": Kind(
        "trials/WINNER/valid_predictions.npz",
        of_winner(lambda folder: read_predictions(folder / "valid_predictions.npz")),
        ANY,
        AGAIN,
    ),
    "epochs": Kind(
        "trials/WINNER/metrics.jsonl", of_winner(read_history), (), (*AGAIN, "empty", "newer")
    ),
    "summary": Kind(
        "single/a/training_metadata.json",
        lambda folder: read_results(folder / "single"),
        allowed=(*AGAIN, "newer"),
    ),
    "environment": Kind(
        "tune/environment.json",
        lambda folder: read_environment(folder / "tune").get("torch"),
        ("blank", "newer"),
    ),
    "winner": Kind("best/winner.json", predicted),
    "card": Kind("best/gnn/model.json", lambda folder: read_card(folder / "best/gnn")),
    "exported weights": Kind("best/gnn/best_model.pt", predicted, ANY),
    "vocabulary": Kind("best/gnn/features/*/vocabulary.json", predicted, harmless=()),
    "featuriser": Kind("best/gnn/features/*/featuriser.json", predicted, harmless=()),
    "exported summary": Kind("best/gnn/training_metadata.json", predicted, harmless=()),
}


@pytest.fixture(scope="module")
def whole(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep with one file of every kind."""
    folder = copy_of(finished, tmp_path_factory.mktemp("whole")) / SWEEP
    found = {"model": "gnn", "learning_rate": 5e-3, "source": "default", "reason": "flat"}
    write_json(folder / "lr_range/gnn.json", {**found, "curve": [], "suggestion": None})
    write_json(folder / "kept.json", {"suggestion": 1e-3, "reason": None, "curves": []})
    write_json(folder / "tune/environment.json", {"torch": "2"})
    trial = next((folder / "trials").iterdir())
    write_json(
        folder / "single/a/training_metadata.json",
        json.loads((trial / "training_metadata.json").read_text()),
    )
    return folder


def victim_in(folder: Path, kind: Kind) -> Path:
    winner = json.loads((folder / "best/winner.json").read_text())["trial_key"]
    return next(iter(sorted(folder.glob(kind.place.replace("WINNER", winner)))))


@pytest.mark.parametrize("kind", KINDS)
def test_b14_a_damaged_file_is_named_or_passed_over_with_a_word(
    whole: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is read from a damaged file is what was there, or an error that names the file."""
    file, read = victim_in(whole, KINDS[kind]), KINDS[kind].read
    content, expected = file.read_bytes(), repr(read(whole))
    silent = []
    for name, damage in DAMAGES.items():
        caplog.clear()
        damage(file)
        try:
            now = repr(read(whole))
        except SgRayError as error:
            assert_named(str(error), file, name)
        else:
            changed = not file.is_file() or file.read_bytes() != content
            told = file.name in caplog.text or not changed
            if not told and not KINDS[kind].is_harmless(name, equal=now == expected):
                silent.append((name, now == expected))
        finally:
            put_back(file, content)
    assert silent == []
    assert repr(read(whole)) == expected


def changed(**values: Any) -> Damage:
    """Give a JSON file other values; ``a__b`` is the key ``b`` of ``a``."""

    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        for place, value in values.items():
            section, _, key = place.rpartition("__")
            (content[section] if section else content)[key] = value
        path.write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (changed(metrics__val_roc_auc=7.0), r"metrics\.val_roc_auc: 7\.0, in its best epoch 0\."),
        (
            changed(metrics__val_roc_auc="0.9"),
            "metrics.val_roc_auc: Input should be a valid number",
        ),
        (changed(metrics__val_roc_auc=True), "metrics.val_roc_auc: Input should be a valid number"),
        (changed(metrics__val_loss=float("nan")), "NaN is no number"),
        (changed(metrics__val_loss=float("-inf")), "-Infinity is no number"),
        (changed(started_at_ms=10**18), "started_at_ms: Input should be less than"),
        (changed(trial_key="0" * 16), r"of another trial, 0{16}\. Call it 0{16}\.json"),
    ],
    ids=["other", "text", "truth value", "NaN", "infinity", "time", "key"],
)
def test_b14_a_record_with_impossible_values_is_named(
    whole: Path, damage: Damage, said: str
) -> None:
    file = victim_in(whole, KINDS["record"])
    content = file.read_bytes()
    damage(file)
    try:
        with pytest.raises(InputError, match=said) as refused:
            read_records(SweepFolder(whole))
    finally:
        put_back(file, content)
    assert_named(str(refused.value), file, "values")


@pytest.mark.parametrize("at_ms", [-1, 10**18, 10**30])
def test_b14_an_event_at_no_time_is_passed_over(
    whole: Path, at_ms: int, caplog: pytest.LogCaptureFixture
) -> None:
    file = victim_in(whole, KINDS["journal"])
    content, expected = file.read_bytes(), events(whole)
    first, _, rest = content.partition(NEWLINE)
    impossible = {**json.loads(first), "at_ms": at_ms}
    file.write_bytes(json.dumps(impossible).encode() + NEWLINE + rest)
    try:
        assert events(whole) == expected[1:]
        assert "line 1 (sweep_started.at_ms: Input should be" in caplog.text
        assert read_sweep(SweepFolder(whole)).started_at != "unknown"
    finally:
        put_back(file, content)


def test_b14_notes_that_are_none_are_left_out(tmp_path: Path) -> None:
    whole = json.loads(DataChecked(fingerprint="d" * 16, notes=["a note"]).as_line())
    lines = ({**whole, "notes": notes} for notes in (-1, "text", ["a note"]))
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_sweep(SweepFolder(tmp_path)).notes == ["a note"]


def put_back(file: Path, content: bytes) -> None:
    if file.is_dir():
        file.rmdir()
    file.write_bytes(content)


def assert_named(said: str, file: Path, damage: str) -> None:
    assert said.isascii()
    if damage == "missing":
        return
    assert file.name in said
    if file.suffix not in (".yaml", ".pt"):  # their errors are others' to word
        assert re.search("restore|delete|again|anew", said, re.IGNORECASE), said
    if damage in ("NUL, middle", "foreign, middle") and file.suffix in (".jsonl", ".journal"):
        before = file.read_bytes().partition(NUL if damage[0] == "N" else FOREIGN)[0]
        assert f"line {before.count(NEWLINE) + 1}" in said


RESUME = ("sweep", "--resume", "tiny", "tracking.enabled=false", *INLINE)
DRY_RUN = (*RESUME, "--dry-run")
EXTEND = ("extend", "tiny", "seeds=[42]", "--dry-run")
REPORT = ("report", "tiny")
TWO_REPORTS = ("report", "tiny", "tiny", "--html", "page.html")
SYNC = ("track", "sync", "tiny")
PREDICT = ("predict", "tiny", "function.c")
REPRODUCE = ("reproduce", "RECORD")

Outcome = Literal["refused", "told", "anew"]
"""Named with what to do, and a code that is not 0; passed over with a word; made anew."""

COMMANDS: list[tuple[str, str, tuple[str, ...], Outcome]] = [
    ("settings", "NUL, middle", RESUME, "refused"),
    ("settings", "foreign, middle", REPORT, "refused"),
    ("record", "cut", RESUME, "refused"),
    ("record", "newer", DRY_RUN, "refused"),
    ("record", "a list", EXTEND, "refused"),
    ("record", "a folder", REPORT, "refused"),
    ("record", "Latin-1", REPRODUCE, "refused"),
    ("journal", "NUL, middle", RESUME, "told"),
    ("journal", "foreign, start", REPORT, "told"),
    ("journal", "doubled, middle", SYNC, "told"),
    ("search", "foreign, middle", RESUME, "refused"),
    ("search", "other JSON, end", DRY_RUN, "refused"),
    ("search", "blank, middle", RESUME, "told"),
    ("search", "doubled, start", RESUME, "told"),
    ("search", "missing", RESUME, "told"),
    ("range test", "empty", RESUME, "refused"),
    ("score on test", "cut", DRY_RUN, "refused"),
    ("score on test", "null", REPORT, "refused"),
    ("verdict", "cut", RESUME, "anew"),
    ("verdict", "a list", REPORT, "anew"),
    ("verdict", "NUL, middle", TWO_REPORTS, "refused"),
    ("leaderboard", "binary", RESUME, "anew"),
    ("best model", "cut", RESUME, "refused"),
    ("predictions", "cut", RESUME, "refused"),
    ("epochs", "foreign, middle", RESUME, "refused"),
    ("winner", "empty", PREDICT, "refused"),
    ("winner", "empty", RESUME, "anew"),
    ("card", "newer", PREDICT, "refused"),
    ("exported weights", "cut", PREDICT, "refused"),
    ("vocabulary", "missing", PREDICT, "refused"),
    ("vocabulary", "binary", RESUME, "anew"),
    ("featuriser", "too deep", PREDICT, "refused"),
]


@pytest.fixture(scope="module")
def place(whole: Path) -> Iterator[Path]:
    """The folder of the commands; each leaves the sweep as it was before the damage."""
    folder = whole.parents[1]
    (folder / "function.c").write_text("int f(int a) { return a; }\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*RESUME]) == 0
        yield folder


@pytest.mark.parametrize(
    ("kind", "damage", "command", "outcome"),
    COMMANDS,
    ids=[f"{kind}-{damage}-{command[0]}" for kind, damage, command, _ in COMMANDS],
)
def test_b14_commands_name_a_damaged_file_or_mend_it(
    place: Path,
    whole: Path,
    kind: str,
    damage: str,
    command: tuple[str, ...],
    outcome: Outcome,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = victim_in(whole, KINDS[kind])
    content, before = file.read_bytes(), results(whole)
    DAMAGES[damage](file)
    try:
        code = main([str(file) if word == "RECORD" else word for word in command])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        if outcome == "refused":
            assert code in (1, 2)
            assert said.rpartition("error: ")[2].strip() != ""
            assert_named(said, file, damage)
        else:
            assert code == 0
            assert outcome == "anew" or file.name in caplog.text
        if outcome == "anew" and kind != "verdict":
            assert file.read_bytes() == content
    finally:
        put_back(file, content)
    assert results(whole) == before


def test_b14_a_journal_without_its_first_line_belongs_to_the_same_runs(swept: Path) -> None:
    journal = SWEEP / "events.jsonl"
    for damage in ("NUL, start", "foreign, start"):
        first, _, rest = journal.read_bytes().partition(NEWLINE)
        assert b"sweep_started" in first
        journal.write_bytes((NUL if "NUL" in damage else FOREIGN) + rest)
        assert main(["sweep", "--resume", "tiny", *INLINE]) == 0
        assert run_statuses(DATABASE) == {"FINISHED": 6}
        assert repeated_points(DATABASE) == []
        journal.write_bytes(first + NEWLINE + rest)
