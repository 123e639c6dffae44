"""All rows that need a GPU, by one command of six minutes, on a machine that has little else.

    python experiments/benchmarks/gpu.py --pack FILE            # here, where Devign and parsers are
    python experiments/benchmarks/gpu.py --features FILE        # there
        [--today CHECKOUT] [--rows gnn ...] [--out FILE] [--workers N] [--tiny] [--device cpu]

It wants a CUDA build of PyTorch, transformers and pydantic, and of this project the sources alone:
no Ray, MLflow or parser. Without PyTorch Geometric its baseline is skipped, and with a network that
needs it ours. ``--today`` is a checkout to compare with (git worktree add CHECKOUT 8307633).
``--workers N`` times a step on a group of N processes instead, with NCCL where each has a GPU.
``--tiny`` trains small models on built-in functions: with ``--device cpu`` a trial of the script.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

NEEDED = ("numpy", "pydantic", "torch", "transformers")
ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack or measure; return 1 if a row failed, 2 if something is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, metavar="FILE", help="make the features and stop")
    parser.add_argument("--features", type=Path, metavar="FILE", help="features made by --pack")
    parser.add_argument("--today", type=Path, metavar="CHECKOUT")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write figures as JSON, too")
    parser.add_argument("--rows", nargs="+", choices=["codebert", "gnn", "stacked-seeds"])
    parser.add_argument("--workers", type=int, metavar="N")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(arguments)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"gpu.py needs {', '.join(missing)}: python -m pip install {' '.join(missing)}")
        return 2
    sys.path.insert(0, str(ROOT))  # where the project is not installed
    return _run(given)


def _run(given: argparse.Namespace) -> int:
    import torch
    from gpu_pack import pack_devign, pack_synthetic
    from gpu_rows import run_all
    from gpu_trainings import Place
    from suite import entries_of

    if given.pack is not None:
        if given.tiny:
            pack_synthetic(given.pack)
        else:
            pack_devign(given.pack)
        print(f"{given.pack}: {given.pack.stat().st_size / 2**20:.1f} MiB")
        return 0
    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no CUDA device here; --device cpu --tiny tries the script out")
        return 2
    if given.features is None and not given.tiny:
        print("--features FILE is wanted, made by --pack FILE where Devign and the parsers are")
        return 2
    with TemporaryDirectory(prefix="sg-ray-gpu-") as folder:
        features = given.features
        if features is None:
            features = Path(folder) / "features.npz"
            pack_synthetic(features)
        place = Place(features.absolute(), given.device, "tiny" if given.tiny else "real")
        rows = run_all(place, given.today, given.rows, given.workers)
    if given.out is not None:
        results = {key: one for name, measured in rows for key, one in entries_of(name, measured)}
        given.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return int(any("FAILED" in one.line() for _, measured in rows for one in measured))


if __name__ == "__main__":
    sys.exit(main())
