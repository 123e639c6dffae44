"""Runs of ``sg-ray preflight`` on a tiny experiment, all of it or single checks."""

import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sg_ray.cli import main
from sg_ray.config.yaml_text import write_yaml
from sg_ray.preflight import checks as run

ROOT = Path(__file__).parents[2]

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "synthetic", "num_samples": 100},
    "families": ["transformer", "gnn", "fusion"],
    "models": {
        "transformer": {
            "config": {
                "num_layers": 1,
                "hidden_dim": 16,
                "num_heads": 2,
                "max_tokens": 64,
                "tokens": {"vocab_size": 400},
            }
        },
        "gnn": {"config": {"num_layers": 1, "hidden_dim": 16, "graphs": {"vocab_size": 400}}},
    },
    "search": {"num_trials": 2},
    "replicate": {"top_k": 1, "seeds": [42, 7]},
}

DATA_CHECKS = ("data", "pretrained")
STEP_CHECKS = ("data", "train lexical", "train transformer", "train gnn", "train fusion")


@dataclass(frozen=True)
class Printed:
    """What the command printed and returned. ``status`` and ``detail`` are by check."""

    exit_code: int
    text: str
    status: dict[str, str]
    detail: dict[str, str]


class Preflight:
    """The command on ``experiment.yaml`` in the current folder."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self.patch = patch
        self._capture = capture
        self.path = folder / "experiment.yaml"
        self.path.write_text(write_yaml(TINY))

    def __call__(self, *settings: str, only: Collection[str] = ()) -> Printed:
        """Run it; ``only`` leaves out all checks but these, and what needs those left out."""
        if only:
            self._leave_only(only)
        exit_code = main(["preflight", str(self.path), *settings])
        return _parse(exit_code, self._capture.readouterr().out)

    def _leave_only(self, names: Collection[str]) -> None:
        every = run.checks_of

        def chosen(models: Any, *, has_begun: bool) -> list[run.Check]:
            return [
                replace(check, needs=tuple(need for need in check.needs if need in names))
                for check in every(models, has_begun=has_begun)
                if check.name in names
            ]

        self.patch.setattr(run, "checks_of", chosen)


def run_alone(folder: Path, *settings: str) -> Printed:
    """Run the command on ``folder``'s experiment in a process that holds no Ray yet."""
    command = [sys.executable, "-m", "sg_ray", "preflight", "experiment.yaml", *settings]
    ended = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return _parse(ended.returncode, ended.stdout)


def _parse(exit_code: int, text: str) -> Printed:
    lines = [
        line for line in text.splitlines() if line[:5].strip() in ("ok", "warn", "FAIL", "skip")
    ]
    status = {line[5:22].strip(): line[:5].strip() for line in lines}
    detail = {line[5:22].strip(): line[23:] for line in lines}
    return Printed(exit_code, text, status, detail)
