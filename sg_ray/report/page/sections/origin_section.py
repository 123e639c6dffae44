"""How the sweep was made: command, code, data, versions, hardware, settings."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sg_ray.records.leaderboard import Row
from sg_ray.redaction import hide_secrets
from sg_ray.report.page.content import Sweep
from sg_ray.report.page.sections.section import Section
from sg_ray.report.text.columns import flat


@dataclass(frozen=True)
class OriginContent:
    """``facts`` are names with every value that the trials had."""

    command: str
    is_recorded: bool
    """Whether the command is the one that was typed, and not one that does the same."""
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    settings_text: str
    rows: Sequence[Row]


def section(sweep: Sweep) -> Section:
    """Return the section; there is always one."""
    content = OriginContent(
        command=_equal_command(sweep),
        is_recorded=False,
        facts=list(_facts(sweep)),
        notes=sweep.notes,
        settings_text=hide_secrets(sweep.settings_text),
        rows=sweep.rows,
    )
    return Section("origin", "How it was made", "origin.html.jinja", content)


def _equal_command(sweep: Sweep) -> str:
    """Return a command that makes the same sweep under another name."""
    folder = PurePath(str(sweep.settings.get("output_dir", "outputs"))) / sweep.name
    return f"sg-ray sweep {shlex.quote(str(folder / 'sweep.yaml'))} name={sweep.name}-again"


def _facts(sweep: Sweep) -> Iterable[tuple[str, str]]:
    """Yield what the trials were made with; several values are listed."""
    facts: dict[str, dict[str, None]] = {}
    for record in sweep.records:
        pairs: dict[str, Any] = {
            "data fingerprint": record.data_fingerprint,
            "code version": record.code_version,
            **flat(record.environment),
        }
        for name, value in pairs.items():
            if value is not None:
                facts.setdefault(name, {})[str(value)] = None
    return [(name.replace("_", " "), ", ".join(values)) for name, values in facts.items()]
