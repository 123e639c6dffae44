"""``sg-ray preflight``: can this experiment run here?"""

import argparse
import sys
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

from sg_ray.cli.settings import named_experiment

if TYPE_CHECKING:
    from sg_ray.preflight.checks import Result

_NAME_WIDTH = 17


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("settings", nargs="*", metavar="EXPERIMENT.yaml | key=value")
    parser.add_argument(
        "--download",
        action="store_true",
        help="first fetch what a sweep would: data, pretrained encoders and tokenizers",
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Check and print, a line a check; return 1 if one failed. Before it download, if asked to."""
    started = time.perf_counter()
    experiment = named_experiment(arguments.settings, arguments.default)
    from sg_ray.host.signals import StopRequest, stopping
    from sg_ray.preflight.checks import run_checks
    from sg_ray.preflight.download import download

    counts: Counter[str] = Counter()
    stop = StopRequest()
    try:
        with stopping(stop):
            if arguments.download:
                print("downloading what is not here yet", flush=True)
                download(experiment)
            with closing(run_checks(experiment)) as results:
                for result in results:
                    counts[result.finding.status] += 1
                    print(_line(result), flush=True)
    except KeyboardInterrupt:
        print(f"interrupted; go on with: {arguments.again}", file=sys.stderr)
        return stop.exit_code
    summary = ", ".join(f"{counts[status]} {status}" for status in ("ok", "warn", "FAIL", "skip"))
    print(f"\n{experiment.name}: {summary}; {time.perf_counter() - started:.0f} s")
    return 1 if counts["FAIL"] else 0


def _line(result: "Result") -> str:
    """Return one line of plain ASCII, whatever an error's message holds."""
    finding = result.finding
    detail = " ".join(finding.detail.split()).encode("ascii", "backslashreplace").decode()
    name = f"{result.name:<{_NAME_WIDTH}}"
    return f"{finding.status:<4} {name} {detail} ({result.duration_s:.1f} s)"
