"""Featurise a data set once: build what the store lacks, read the rest."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sg_ray.data.samples import DataSet
from sg_ray.features.featuriser import Featuriser, in_chunks
from sg_ray.features.kinds import describe, featuriser_class, save_featuriser
from sg_ray.features.packed import FeatureKind, Features, Ragged, pack_texts
from sg_ray.features.spec import FeatureSpec
from sg_ray.features.store import UnusableStoreError, building, read_kind, write_kind
from sg_ray.features.worker_pool import worker_featuriser, workers

_LOGGER = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with a feature kind, the samples done, and the samples in total."""

Arrays = Mapping[str, Ragged]
EncodeChunks = Callable[[Sequence[Sequence[str]]], Iterator[Arrays]]


def prepare_features(
    data: DataSet,
    specs: Iterable[FeatureSpec],
    cache_dir: Path,
    num_workers: int = 1,
    progress: Progress | None = None,
) -> Features:
    """Return the features of ``data``, memory-mapped from the store below ``cache_dir``.

    What is not stored yet is built, on ``num_workers`` processes if there is enough to do; the
    result does not depend on their number. Vocabularies are fitted on the train split. A damaged or
    outdated store is built again with a warning; to tell, each of its files is read once (GB/s).
    Builds of the same features may run at once.

    Raises InputError if a pretrained tokenizer cannot be read or a worker runs out of memory,
    SgRayError if ``cache_dir`` cannot be written.
    """
    fingerprint = data.fingerprint
    by_key = {spec.key: spec for spec in specs}
    return Features(
        data_fingerprint=fingerprint,
        labels={
            split: np.array([sample.label for sample in samples], dtype=np.int8)
            for split, samples in data.splits.items()
        },
        kinds={
            key: _prepare_kind(
                data, spec, store_dir(cache_dir, fingerprint, spec), num_workers, progress
            )
            for key, spec in by_key.items()
        },
        packed_ids={
            split: pack_texts([sample.sample_id for sample in samples])
            for split, samples in data.splits.items()
        },
    )


def store_dir(cache_dir: Path, data_fingerprint: str, spec: FeatureSpec) -> Path:
    """Return the folder of one stored feature kind; ``load_featuriser`` reads it as well."""
    return features_dir(cache_dir, data_fingerprint) / spec.key


def features_dir(cache_dir: Path, data_fingerprint: str) -> Path:
    """Return the folder of all stored feature kinds of a data set."""
    return cache_dir / "features" / data_fingerprint


def _prepare_kind(
    data: DataSet, spec: FeatureSpec, folder: Path, num_workers: int, progress: Progress | None
) -> FeatureKind:
    description = describe(spec)
    try:
        return read_kind(folder, description, verify_content=True)
    except FileNotFoundError:
        pass
    except UnusableStoreError as error:
        _LOGGER.warning("%s; building it again", error)
    num_samples = sum(len(samples) for samples in data.splits.values())
    with building(folder, is_good=partial(_is_readable, description=description)) as temporary:
        with workers(num_workers, spec.kind, num_samples) as run:
            featuriser = featuriser_class(spec).fit(spec, _sources(data, "train"), run)
            save_featuriser(featuriser, temporary)
            encode = featuriser.encode if run is map else partial(_encode_in_worker, temporary)
            splits = _encode_splits(data, featuriser, partial(run, encode), progress)
        write_kind(temporary, FeatureKind(featuriser.meta, splits), description)
    return read_kind(folder, description)


def _is_readable(folder: Path, description: Mapping[str, Any]) -> bool:
    try:
        read_kind(folder, description, verify_content=True)
    except (FileNotFoundError, UnusableStoreError):
        return False
    return True


def _sources(data: DataSet, split: str) -> list[str]:
    return [sample.source for sample in data.splits.get(split, ())]


def _encode_splits(
    data: DataSet,
    featuriser: Featuriser[Any],
    encode_all: EncodeChunks,
    progress: Progress | None,
) -> dict[str, Arrays]:
    """Encode every split, chunk by chunk."""
    num_samples = sum(len(samples) for samples in data.splits.values())
    report = partial(progress or _ignore, featuriser.spec.kind)
    report(0, num_samples)
    num_done = 0
    splits: dict[str, Arrays] = {}
    chunks = {split: in_chunks(_sources(data, split)) for split in data.splits}
    # All at once: workers do not wait between two splits.
    encoded_chunks = encode_all([chunk for part in chunks.values() for chunk in part])
    for split, part in chunks.items():
        # The empty chunk gives a split without samples its arrays, with their data types.
        encoded: list[Arrays] = [featuriser.encode([])]
        for chunk in part:
            encoded.append(next(encoded_chunks))
            num_done += len(chunk)
            report(num_done, num_samples)
        splits[split] = _concatenate(encoded)
    return splits


def _ignore(kind: str, num_done: int, num_total: int) -> None:
    """Report nothing."""


def _concatenate(chunks: Sequence[Arrays]) -> Arrays:
    return {
        name: Ragged(
            np.concatenate([chunk[name].values for chunk in chunks]),
            np.concatenate(
                [[0], np.cumsum(np.concatenate([chunk[name].lengths for chunk in chunks]))]
            ).astype(np.int64),
        )
        for name in chunks[0]
    }


def _encode_in_worker(folder: Path, sources: Sequence[str]) -> Arrays:
    return worker_featuriser(folder).encode(sources)
