"""Program graphs as one PyTorch file a function, for PyTorch Geometric and other readers.

A folder holds ``<split>/sample_00000.pt`` and so on in the order of the data, the ids of those
functions in ``<split>/sample_ids.json``, the fitted ``featuriser/``, and ``manifest.json``, which
says what the graphs were made of and whether they are complete.
"""

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sg_ray.data.samples import DataSet
from sg_ray.errors import InputError
from sg_ray.features.featuriser import in_chunks
from sg_ray.features.kinds import describe, save_featuriser
from sg_ray.features.packed import Ragged
from sg_ray.features.program_graphs import GraphFeaturiser
from sg_ray.features.spec import GraphSpec
from sg_ray.features.worker_pool import worker_featuriser, workers
from sg_ray.files import atomic_path, remove_leftovers, write_json
from sg_ray.reading import read_object

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"
_FEATURISER = "featuriser"
_MIN_DIGITS = 5

_TENSORS = {
    "x": "int64 [N, 2]: node kind, then token id of a leaf's text (0 for an inner node)",
    "edge_index": "int64 [2, E]: source and target node, forward only",
    "edge_type": "int64 [E]: index into edge_type_names",
    "y": "int64 [1]: 1 vulnerable, 0 not",
}

Progress = Callable[[str, int, int], None]
"""Called with what is being made, the samples done, and the samples in total."""


@dataclass(frozen=True)
class _Chunk:
    """Functions to encode together, and the file that each one's graph goes to."""

    paths: Sequence[Path]
    sources: Sequence[str]
    labels: Sequence[int]


def export_graphs(
    data: DataSet,
    spec: GraphSpec,
    folder: Path,
    *,
    settings: Mapping[str, Any],
    num_workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write the graph of every function of ``data`` to a file of its own below ``folder``.

    Files that an earlier, interrupted export completed are kept. Each is a dict for
    ``torch.load(path, weights_only=True)`` and ``torch_geometric.data.Data(**content)``, N nodes
    and E edges: ``x`` int64 [N, 2] (``node_kind`` and ``node_token``), ``edge_index`` int64
    [2, E], ``edge_type`` int64 [E], ``y`` int64 [1]; ``GraphFeaturiser`` explains them.

    ``settings`` (plain JSON values) is what else the choice of samples depends on. Raises
    InputError if ``folder`` holds graphs of other data or settings, or anything else.
    """
    identity = {
        "format": "pt",
        "data_fingerprint": data.fingerprint,
        "num_graphs": {split: len(samples) for split, samples in data.splits.items()},
        "settings": {**settings, **describe(spec)},
    }
    is_complete = _check_folder(folder, identity)
    chunks = list(_missing_chunks(data, folder))
    report = _reporter(data, chunks, progress)
    report(0)
    if is_complete and not chunks:
        return
    write_json(folder / MANIFEST, {**identity, "complete": False})
    remove_leftovers(folder)
    num_missing = sum(len(chunk.paths) for chunk in chunks)
    with workers(num_workers, spec.kind, num_missing) as run:
        sources = [sample.source for sample in data.splits["train"]]
        featuriser = GraphFeaturiser.fit(spec, sources, run)
        save_featuriser(featuriser, folder / _FEATURISER)
        in_worker = partial(_write_chunk_in_worker, folder / _FEATURISER)
        write = partial(_write_chunk, featuriser) if run is map else in_worker
        for num_written in run(write, chunks):
            report(num_written)
    for split, samples in data.splits.items():
        ids = [sample.sample_id for sample in samples]
        write_json(folder / split / "sample_ids.json", ids)
    os.sync()  # the graphs' files: once, instead of one by one
    complete = {**identity, "complete": True, "tensors": _TENSORS, **featuriser.meta}
    write_json(folder / MANIFEST, complete)


def _check_folder(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Return True if ``folder`` says that it is complete.

    Raises InputError unless it is new, or holds an export of the same identity.
    """
    path = folder / MANIFEST
    if not path.exists():
        if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise InputError(
                f"{folder} holds other files and no {MANIFEST}. Choose an empty folder with --out."
            )
        return False
    remedy = "Choose another folder with --out, or delete this one."
    found = _flat(read_object(path, what="manifest", remedy=remedy))
    wanted = _flat(identity)
    names = sorted(name for name in wanted if found.get(name) != wanted[name])
    if names:
        lines = [f"  {name}: {found.get(name)!r} there, {wanted[name]!r} now" for name in names]
        raise InputError(
            f"{folder} holds graphs of other data or settings:\n" + "\n".join(lines) + "\n"
            "Choose another folder with --out, or delete this one."
        )
    return found.get("complete") is True


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = f"{prefix}{name}"
        flat |= _flat(value, f"{inner}.") if isinstance(value, Mapping) else {inner: value}
    return flat


def _reporter(
    data: DataSet, missing: Sequence[_Chunk], progress: Progress | None
) -> Callable[[int], None]:
    """Return a function that adds to the graphs done and reports their number."""
    num_total = sum(len(samples) for samples in data.splits.values())
    num_done = num_total - sum(len(chunk.paths) for chunk in missing)

    def report(num_more: int) -> None:
        nonlocal num_done
        num_done += num_more
        if progress is not None:
            progress("graphs", num_done, num_total)

    return report


def _missing_chunks(data: DataSet, folder: Path) -> Iterator[_Chunk]:
    for split, samples in data.splits.items():
        num_digits = max(_MIN_DIGITS, len(str(len(samples) - 1)))
        paths = [folder / split / f"sample_{i:0{num_digits}}.pt" for i in range(len(samples))]
        missing = [i for i, path in enumerate(paths) if not zipfile.is_zipfile(path)]
        for members in in_chunks(missing):
            yield _Chunk(
                [paths[i] for i in members],
                [samples[i].source for i in members],
                [samples[i].label for i in members],
            )


def _write_chunk_in_worker(featuriser_dir: Path, chunk: _Chunk) -> int:
    featuriser = worker_featuriser(featuriser_dir)
    assert isinstance(featuriser, GraphFeaturiser)
    return _write_chunk(featuriser, chunk)


def _write_chunk(featuriser: GraphFeaturiser, chunk: _Chunk) -> int:
    import torch

    arrays = featuriser.encode(chunk.sources)
    for index, (path, label) in enumerate(zip(chunk.paths, chunk.labels, strict=True)):
        content = _tensors(arrays, index, label)
        # Through an open file: by name, the name would become part of the content.
        with atomic_path(path, durable=False) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
    return len(chunk.paths)


def _tensors(arrays: Mapping[str, Ragged], index: int, label: int) -> "dict[str, Tensor]":
    import torch

    def owned(array: NDArray[Any]) -> "Tensor":
        # A view would be saved with all that it is a view of.
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))

    nodes = np.stack([arrays["node_kind"][index], arrays["node_token"][index]], axis=1)
    return {
        "x": owned(nodes),
        "edge_index": owned(arrays["edges"][index].T),
        "edge_type": owned(arrays["edge_type"][index]),
        "y": torch.tensor([label]),
    }
