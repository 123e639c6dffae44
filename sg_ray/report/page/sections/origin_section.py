"""How the sweep was made: command, code, data, versions, hardware, settings."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sg_ray.records.leaderboard import Row
from sg_ray.records.origin import Commit, Origin
from sg_ray.records.record import RunRecord
from sg_ray.redaction import hide_secrets
from sg_ray.report.page.content import Sweep
from sg_ray.report.page.sections.section import Section
from sg_ray.report.text.columns import flat
from sg_ray.sweep_folder import SETTINGS


@dataclass(frozen=True)
class OriginContent:
    """``facts`` are names with every value that the trials had."""

    commands: Sequence[str]
    is_recorded: bool
    """Whether these are what was typed, a line a start, and not one that does the same."""
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    settings_text: str
    rows: Sequence[Row]


def section(sweep: Sweep) -> Section:
    """Return the section; there is always one."""
    typed = _typed_commands(sweep)
    content = OriginContent(
        commands=typed or [_equal_command(sweep)],
        is_recorded=bool(typed),
        facts=list(_facts(sweep)),
        notes=sweep.notes,
        settings_text=hide_secrets(sweep.settings_text),
        rows=sweep.rows,
    )
    return Section("origin", "How it was made", "origin.html.jinja", content)


def _typed_commands(sweep: Sweep) -> list[str]:
    """Return the command lines of the starts that led to a record, in their order."""
    origins = (record.origin for record in sweep.records)
    return list(dict.fromkeys(origin.command for origin in origins if origin is not None))


def _equal_command(sweep: Sweep) -> str:
    """Return a command that makes the same sweep under another name."""
    folder = PurePath(str(sweep.settings.get("output_dir", "outputs"))) / sweep.name
    return f"sg-ray sweep {shlex.quote(str(folder / SETTINGS))} name={sweep.name}-again"


def _commits(origin: Origin | None) -> dict[str, Commit | None]:
    if origin is None:
        return {}
    return {"commit of sg-ray": origin.code, "commit of the project": origin.project}


def _surroundings(record: RunRecord) -> dict[str, Any]:
    """Return what a record notes of machine and software; its code is told as it counts."""
    noted = flat(record.environment)
    return {name: value for name, value in noted.items() if name != "code_version"}


def _facts(sweep: Sweep) -> Iterable[tuple[str, str]]:
    """Yield what the trials were made with; several values are listed."""
    facts: dict[str, dict[str, None]] = {}
    for record in sweep.records:
        pairs: dict[str, Any] = {
            "data fingerprint": record.data_fingerprint,
            "code version": record.code_version,
            "kept, and trained on with": record.trained_with,
            **_commits(record.origin),
            **_surroundings(record),
        }
        for name, value in pairs.items():
            if value is not None:
                facts.setdefault(name, {})[str(value)] = None
    return [(name.replace("_", " "), ", ".join(values)) for name, values in facts.items()]
