"""Commands: arguments in, one call into the package, an exit code out."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from sg_ray import __version__
from sg_ray.config import Experiment, load_experiment
from sg_ray.errors import InputError, SgRayError
from sg_ray.sweep.events import Event, read_events
from sg_ray.sweep.records import stamp_run_ids

DEFAULT_EXPERIMENT = Path("experiments/quick.yaml")
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(
    arguments: Sequence[str] | None = None, *, default_experiment: Path = DEFAULT_EXPERIMENT
) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    parsed = _parse(arguments, argparse.Namespace(default=default_experiment))
    try:
        code: int = parsed.command(parsed)
    except SgRayError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader has gone; Python would flush to it once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return code


def _parse(arguments: Sequence[str] | None, known: argparse.Namespace) -> argparse.Namespace:
    """Parse, with ``key=value`` settings allowed on both sides of options."""
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments, known)
    unknown = [text for text in rest if text.startswith("-") or not hasattr(parsed, "settings")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        parsed.settings = [*parsed.settings, *rest]
    return parsed


def run() -> None:
    """Entry point of the ``sg-ray`` command."""
    sys.exit(main())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sg-ray", description=__doc__)
    parser.add_argument("--version", action="version", version=f"sg-ray {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_sweep(commands.add_parser("sweep", help="search, replicate over seeds, rank"))
    _add_train(commands.add_parser("train", help="train one configuration with one seed"))
    _add_report(commands.add_parser("report", help="rebuild a sweep's tables and page"))
    _add_graphs(commands.add_parser("graphs", help="make the program graphs of a data folder"))
    _add_data(commands.add_parser("data", help="write synthetic data, check a data folder"))
    return parser


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("settings", nargs="*", metavar="EXPERIMENT.yaml | key=value")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, start nothing")
    parser.add_argument("--resume", metavar="NAME", help="go on with a sweep (name or folder)")
    parser.add_argument(
        "--address", default="local", help="Ray cluster to join, e.g. auto (default: start one)"
    )
    parser.set_defaults(command=_sweep)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("family")
    parser.add_argument("settings", nargs="*", metavar="EXPERIMENT.yaml | key=value")
    parser.add_argument("--seed", type=int, help="default: the experiment's first")
    parser.add_argument("--output-dir", type=Path, help="default: outputs/train/FAMILY-...-seedN")
    parser.set_defaults(command=_train)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a sweep's folder, or any folder of trials")
    parser.set_defaults(command=_report)


def _add_graphs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of JSONL splits")
    parser.add_argument("--out", type=Path, required=True)
    parser.set_defaults(command=_graphs)


def _add_data(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(required=True, metavar="synthetic|check")
    synthetic = kinds.add_parser("synthetic", help="write synthetic data as JSONL")
    synthetic.add_argument("--num-samples", type=int, required=True)
    synthetic.add_argument("--seed", type=int, default=0)
    synthetic.add_argument("--out", type=Path, default=Path("synthetic"), help="folder to write")
    synthetic.set_defaults(command=_synthetic)
    check = kinds.add_parser("check", help="report duplicates, conflicts and leaks")
    check.add_argument("folder", type=Path)
    check.set_defaults(command=_check)


def _sweep(arguments: argparse.Namespace) -> int:
    from sg_ray.sweep.admission import check_before_start

    experiment = _experiment(arguments.settings, arguments.default, arguments.resume)
    check_before_start(experiment, arguments.address)
    if arguments.dry_run:
        from sg_ray.sweep.forecast import describe_plan

        print(describe_plan(experiment))
        return 0
    from sg_ray.report.html import build_report
    from sg_ray.sweep.console import LiveView
    from sg_ray.sweep.leaderboard import format_table
    from sg_ray.sweep.run import run_sweep
    from sg_ray.tracking.mlflow_mirror import mirror_of

    def build_page(event: Event) -> None:
        if event.type == "ranked":
            build_report(experiment.sweep_dir)

    past = list(read_events(experiment.sweep_dir / "events.jsonl"))
    mirror = mirror_of(experiment)
    with LiveView(experiment.objective, past=past) as view, mirror:
        outcome = run_sweep(
            experiment,
            address=arguments.address,
            listeners=(view, build_page, mirror),
            progress=view.show_preparing,
        )
    stamp_run_ids(outcome.sweep_dir, mirror.run_ids())
    print(format_table(outcome.rows, experiment.objective))
    for note in (*outcome.notes, *outcome.problems):
        print(note)
    folder = _short(outcome.sweep_dir)
    print(f"\n{folder}/: leaderboard.csv, report.html, best/FAMILY/, records/")
    if experiment.tracking.enabled:
        print(f"mlflow ui --backend-store-uri {experiment.tracking.uri}")
    if outcome.interrupted:
        print(f"interrupted; go on with: sweep.py --resume {folder}", file=sys.stderr)
    return outcome.exit_code


def _train(arguments: argparse.Namespace) -> int:
    from sg_ray.sweep.progress import show_epoch, show_progress
    from sg_ray.sweep.train_once import train_once

    settings = [*arguments.settings, f"families=[{arguments.family}]"]
    experiment = _experiment(settings, arguments.default)
    seed = experiment.replicate.seeds[0] if arguments.seed is None else arguments.seed
    folder = arguments.output_dir or experiment.output_dir / "train" / f"{arguments.family}-{seed}"
    train_once(
        experiment, arguments.family, seed, folder, progress=show_progress, on_epoch=show_epoch
    )
    print(f"{folder}: best_model.pt, training_metadata.json, metrics.jsonl")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from sg_ray.report.tables import summary

    print(summary(arguments.folder))
    if (arguments.folder / "sweep.yaml").exists():
        from sg_ray.report.html import build_report

        print(build_report(arguments.folder))
    return 0


def _graphs(arguments: argparse.Namespace) -> int:
    from sg_ray.sweep.prepare import make_graphs
    from sg_ray.sweep.progress import show_progress

    sizes = make_graphs(arguments.data, arguments.out, show_progress)
    for split, num_samples in sizes.items():
        print(f"{split}: {num_samples} graphs")
    return 0


def _synthetic(arguments: argparse.Namespace) -> int:
    from sg_ray.data.sources import DataConfig, load_data, write_jsonl

    try:
        config = DataConfig(num_samples=arguments.num_samples, seed=arguments.seed)
    except ValidationError as error:
        raise InputError(f"--num-samples, --seed: {error.errors()[0]['msg']}.") from error
    data = load_data(config)
    for split, samples in data.splits.items():
        path = arguments.out / f"{split}.jsonl"
        write_jsonl(path, samples)
        print(f"{path}: {len(samples)} samples")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from sg_ray.data.sources import DataConfig, load_data

    data = load_data(DataConfig(path=arguments.folder))
    sizes = ", ".join(f"{split} {len(samples)}" for split, samples in data.splits.items())
    print(f"{sizes}; fingerprint {data.fingerprint}")
    for note in data.notes:
        print(note)
    return 0


def _short(folder: Path) -> Path:
    """Return a folder as seen from here, if it lies below."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _experiment(settings: Sequence[str], default: Path, resume: str | None = None) -> Experiment:
    """Read the experiment that the command line names: a file, overrides, or a sweep to resume."""
    files = [text for text in settings if "=" not in text]
    overrides = [text for text in settings if "=" in text]
    if len(files) > 1:
        raise InputError(f"give one experiment file, not {len(files)}: {' '.join(files)}")
    if resume is None:
        return load_experiment(Path(files[0]) if files else default, overrides)
    if files:
        raise InputError(f"--resume {resume}: takes its experiment from the sweep, not {files[0]}")
    folder = _sweep_folder(resume, overrides)
    return load_experiment(folder / "sweep.yaml", [f"output_dir={folder.parent}", *overrides])


def _sweep_folder(resume: str, overrides: Sequence[str]) -> Path:
    given = dict(override.partition("=")[::2] for override in overrides)
    for folder in (Path(resume), Path(given.get("output_dir", "outputs")) / resume):
        if (folder / "sweep.yaml").exists():
            return folder
    raise InputError(
        f"--resume {resume}: no sweep of that name in {given.get('output_dir', 'outputs')} "
        "(it would hold sweep.yaml). Give its folder, or output_dir=..."
    )
