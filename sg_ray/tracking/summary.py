"""What a sweep came to, as MLflow shows it: numbers on the sweep's run, and a text in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from csv import DictReader
from csv import Error as CsvError
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Self

from sg_ray.config import FLOOR
from sg_ray.detector import read_winner
from sg_ray.errors import InputError
from sg_ray.files import short_hash
from sg_ray.reading import read_model, read_text
from sg_ray.sweep_folder import LEADERBOARD, REPORT, SweepFolder
from sg_ray.tracking.mlflow_models import ALIAS
from sg_ray.tracking.views import CONFIGURATIONS, TRIALS, view_address
from sg_ray.verdict.model import Comparison, Question, Verdict

MAX_CHARS = 5000
"""Of a tag's value; older servers hold no more."""
_MAX_ROWS = 12
_COLUMNS = frozenset({"rank", "name", "model", "config_hash", "num_seeds"})

Row = Mapping[str, str]


@dataclass(frozen=True)
class Summary:
    """A finished sweep's ranked rows (those of leaderboard.csv) and its verdict.

    ``name`` is that of the registered model.
    """

    name: str
    objective: str
    rows: Sequence[Row] = ()
    verdict: Verdict | None = None
    winner_hash: str | None = None
    _by_model: dict[str, Row] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: SweepFolder, name: str, objective: str) -> Self:
        """Read what the sweep's folder holds of it; what is missing stays empty."""
        rows = _read_rows(folder.leaderboard)
        winner = read_winner(folder.best)
        by_model: dict[str, Row] = {}
        for row in rows:
            by_model.setdefault(row["model"], row)
        verdict = _read_verdict(folder.verdict)
        winner_hash = None if winner is None else winner.config_hash
        return cls(name, objective, rows, verdict, winner_hash, by_model)

    @property
    def winner(self) -> Row | None:
        """The row of the sweep's winner, never the floor's."""
        models = [row for row in self.rows if row["model"] != FLOOR]
        chosen = [row for row in models if row["config_hash"] == self.winner_hash]
        return next(iter([*chosen, *models]), None)

    @property
    def headline(self) -> str | None:
        """One sentence: the verdict's; without one, the first place."""
        if self.verdict is not None:
            return self.verdict.headline
        if self.winner is None:
            return None
        return (
            f"{self.winner['name']} {short_hash(self.winner['config_hash'])} is ranked first, "
            f"{self.objective} {_mean_and_sd(self.winner, self.objective)}."
        )

    def metrics(self) -> dict[str, float]:
        """Return ``<model>/<metric>_mean``, ``_sd``, ``<model>/num_seeds``, and ``best_*``.

        ``best_*`` are the means of the winner, under the name that its trials have for theirs.
        """
        found: dict[str, float] = {}
        for model, row in self._by_model.items():
            found |= {f"{model}/{name}": value for name, value in _validation(row).items()}
            found[f"{model}/num_seeds"] = float(row["num_seeds"])
        means = _validation(self.winner) if self.winner is not None else {}
        of_winner = {n.removesuffix("_mean"): v for n, v in means.items() if n.endswith("_mean")}
        return found | {f"best_{name}": value for name, value in of_winner.items()}

    def note(self, experiment_id: str) -> str:
        """Return the description of the sweep's run, in Markdown, not longer than a tag may be."""
        lines = [f"**{self.headline}**" if self.headline else "", *_views(experiment_id)]
        lines += ["", "### Ranking", *_ranking(self.rows, self.objective)]
        if self.verdict is not None:
            lines += _verdict(self.verdict)
        lines += _how_to_load(self.name)
        return _cut("\n".join(lines))


def _read_rows(path: Path) -> list[Row]:
    """Return the rows of leaderboard.csv. Raises InputError that names it if it is damaged."""
    if not path.exists():
        return []
    remedy = "`sweep.py --resume` writes it anew from the records."
    text = read_text(path, what="leaderboard", remedy=remedy)
    reader = DictReader(StringIO(text, newline=""), strict=True)
    try:
        rows: list[Row] = list(reader)
    except CsvError as error:
        raise InputError(f"{path}: not a valid leaderboard ({error}). {remedy}") from error
    numbered = enumerate(rows, start=2)
    broken = [
        number
        for number, row in numbered
        if None in row or None in row.values() or row.get("rank") != str(number - 1)
    ]
    if broken or not _COLUMNS.issubset(reader.fieldnames or ()):
        line = broken[0] if broken else 1
        raise InputError(f"{path}: not a valid leaderboard (line {line}). {remedy}")
    return rows


def _read_verdict(path: Path) -> Verdict | None:
    if not path.exists():
        return None
    remedy = "`sg-ray report` writes it anew from the records."
    return read_model(path, Verdict, what="verdict", remedy=remedy)


def _validation(row: Row) -> dict[str, float]:
    """Return means and deviations of what was measured on the validation split."""
    return {
        column: float(value)
        for column, value in row.items()
        if column.startswith("val_") and column.endswith(("_mean", "_sd")) and value
    }


def _mean_and_sd(row: Row, metric: str) -> str:
    mean, sd = row.get(f"{metric}_mean"), row.get(f"{metric}_sd")
    if not mean:
        return "-"
    return f"{float(mean):.4f} +- {float(sd):.4f}" if sd else f"{float(mean):.4f}"


def _views(experiment_id: str) -> Iterator[str]:
    yield ""
    yield (
        f"[Configurations, mean over seeds]({view_address(experiment_id, CONFIGURATIONS)}) | "
        f"[Trials, best first]({view_address(experiment_id, TRIALS)}) | "
        f"[Charts]({view_address(experiment_id, TRIALS, charts=True)})"
    )


def _ranking(rows: Sequence[Row], objective: str) -> Iterator[str]:
    yield from _table_head("rank", "name", "config", "seeds", "failed", objective)
    for row in rows[:_MAX_ROWS]:
        floor = " (floor)" if row["model"] == FLOOR else ""
        yield _line(
            row["rank"],
            row["name"] + floor,
            short_hash(row["config_hash"]),
            row["num_seeds"],
            row["num_failed"],
            _mean_and_sd(row, objective),
        )
    if len(rows) > _MAX_ROWS:
        yield f"\n{len(rows) - _MAX_ROWS} more in {LEADERBOARD}."


def _verdict(verdict: Verdict) -> Iterator[str]:
    for question in verdict.questions:
        yield from _question(question)
    if verdict.test is not None:
        test = verdict.test
        yield from ("", "### Test split, read once")
        name, interval = f"{test.model} {short_hash(test.config_hash)}", test.interval
        span = f" [{interval.low:.4f}, {interval.high:.4f}]" if interval else ""
        yield f"{name}: {test.metric} {test.mean:.4f}{span}, mean over its seeds"
    commands = [c.command for q in verdict.questions for c in q.comparisons if c.command]
    if commands:
        yield from ("", "### How to go on", "```", *dict.fromkeys(commands), "```")
    if verdict.notes:
        yield from ("", *(f"- {note}" for note in verdict.notes))


def _question(question: Question) -> Iterator[str]:
    yield from ("", f"### {question.text}", question.answer, "")
    if not question.comparisons:
        return
    yield from _table_head("A", "B", "A - B", "interval", "p (Holm)", "seeds", "outcome")
    for comparison in question.comparisons[:_MAX_ROWS]:
        yield _comparison(comparison)


def _comparison(comparison: Comparison) -> str:
    difference, interval = comparison.difference, comparison.interval
    return _line(
        comparison.a.name,
        comparison.b.name,
        "-" if difference is None else f"{difference:+.4f}",
        "-" if interval is None else f"{interval.low:+.4f} to {interval.high:+.4f}",
        f"{comparison.p_holm:.3g}",
        str(len(comparison.seeds)),
        "A is better" if comparison.outcome == "a" else "undecided",
    )


def _how_to_load(name: str) -> Iterator[str]:
    yield from ("", "### The winner, in Python", "```python", "import mlflow")
    yield 'mlflow.set_tracking_uri("...")  # what `mlflow ui` was started with, or its address'
    yield f'model = mlflow.pyfunc.load_model("models:/{name}@{ALIAS}")'
    yield 'model.predict(["int f(char *s) { ... }"])'
    yield "```"


def _table_head(*names: str) -> Iterator[str]:
    yield from ("", _line(*names), _line(*("---" for _ in names)))


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _cut(text: str) -> str:
    """Shorten a text at the end of a line; what is left out is in the report."""
    if len(text) <= MAX_CHARS:
        return text
    rest = f"\n\nThe rest is in {REPORT}, among the artifacts."
    kept = text[: MAX_CHARS - len(rest) - 4].rpartition("\n")[0]
    fence = "\n```" if kept.count("```") % 2 else ""
    return kept + fence + rest
