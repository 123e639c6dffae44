"""An export of graphs as a process of its own, to be killed."""

import os
import subprocess
import sys
from pathlib import Path

from feature_builds import PROJECT_ROOT, make_data

from sg_ray.features.graph_files import export_graphs
from sg_ray.features.spec import GraphSpec

SPEC = GraphSpec(vocab_size=64)


def export(folder: Path, num_train: int, num_workers: int = 1, progress=None) -> None:
    data = make_data(num_train)
    settings = {"max_samples": None}
    export_graphs(data, SPEC, folder, settings=settings, num_workers=num_workers, progress=progress)


def start_export(folder: Path, num_train: int, num_workers: int) -> subprocess.Popen[str]:
    """Start an export as a process, leader of a group; it says how many graphs are done."""
    return subprocess.Popen(
        [sys.executable, __file__, str(folder), str(num_train), str(num_workers)],
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


if __name__ == "__main__":
    export(
        Path(sys.argv[1]),
        int(sys.argv[2]),
        num_workers=int(sys.argv[3]),
        progress=lambda kind, done, total: print(done, total, flush=True),
    )
