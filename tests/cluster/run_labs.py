"""Run labs one after the other and print a table: ``make cluster-test ONLY="nodes slurm.limit"``.

The results of all labs that were ever run here are merged in ``outputs/cluster-test/``.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from lab import ROOT, Lab, Line, all_labs

RESULTS = ROOT / "outputs" / "cluster-test" / "results.json"


def main() -> int:
    """Run what is asked for; return 1 if a line is not as it should be."""
    known = all_labs()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="LAB or LAB.PART", help="default: all labs")
    asked = parser.parse_args().names or list(known)
    if unknown := [name for name in asked if name.partition(".")[0] not in known]:
        parser.error(f"no such lab: {', '.join(unknown)} (there are: {', '.join(known)})")
    are_ok = [_run(known, asked_name) for asked_name in asked]
    print(f"\n{_table(_results())}")
    return 0 if all(are_ok) else 1


def _run(known: Mapping[str, Lab], asked: str) -> bool:
    """Run a lab, or one of its parts; return whether all was as it should be."""
    name, _, part = asked.partition(".")
    lab = known[name]
    print(f"\n== {asked}: {lab.TITLE}", flush=True)
    if lacks := lab.missing():
        print(f"skipped: {lacks}")
        return True
    started = time.monotonic()
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix=f"lab-{name}-") as folder:
        try:
            for line in lab.run(Path(folder), [part] if part else []):
                lines.append(line)
                print(f"{'ok ' if line.is_ok else 'BAD'} {line.what}: {line.result}", flush=True)
        except Exception as error:
            traceback.print_exc()
            lines.append(Line("the lab itself", f"{type(error).__name__}: {error}", is_ok=False))
        finally:
            _keep(asked, lines)
    print(f"{len(lines)} lines in {time.monotonic() - started:.0f} s", flush=True)
    return all(line.is_ok for line in lines)


def _keep(asked: str, lines: list[Line]) -> None:
    results = _results() | {asked: [asdict(line) for line in lines]}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _results() -> dict[str, list[dict[str, object]]]:
    if not RESULTS.exists():
        return {}
    found: dict[str, list[dict[str, object]]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def _table(results: dict[str, list[dict[str, object]]]) -> str:
    rows = ["| lab | what | result |", "|---|---|---|"]
    for name, lines in sorted(results.items()):
        for line in lines:
            mark = "" if line["is_ok"] else "**not as it should be:** "
            rows.append(f"| {name} | {line['what']} | {mark}{line['result']} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
