"""Program graphs of a data folder, made without a sweep."""

from pathlib import Path
from typing import Literal

from sg_ray.data.sources import DataConfig, SplitLimits, load_data
from sg_ray.features.build import Progress, prepare_features
from sg_ray.features.graph_files import export_graphs
from sg_ray.features.spec import GraphSpec
from sg_ray.host.cpus import num_cpus

GraphFormat = Literal["packed", "pt"]


def make_graphs(
    data_dir: Path,
    out: Path,
    progress: Progress | None,
    *,
    file_format: GraphFormat = "packed",
    max_samples: int | None = None,
) -> dict[str, int]:
    """Make the program graphs of a data folder below ``out``; return how many, by split.

    "packed" is the store that trials read, "pt" one file a function (``export_graphs``). At most
    ``max_samples`` functions of each split, with the labels in proportion.
    """
    limit = SplitLimits(train=max_samples, valid=max_samples, test=max_samples)
    data = load_data(DataConfig(path=data_dir, limit=limit), judges_names=False)
    spec, num_workers = GraphSpec(), num_cpus()
    if file_format == "packed":
        prepare_features(data, [spec], out, num_workers=num_workers, progress=progress)
    else:
        settings = {"max_samples": max_samples}
        export_graphs(
            data, spec, out, settings=settings, num_workers=num_workers, progress=progress
        )
    return {split: len(samples) for split, samples in data.splits.items()}
