"""Memory of concurrent trials over one data set, beside trials that each have a copy of it.

    python experiments/benchmarks/shared_memory.py

Each trial is a process of Ray that trains the graph network for some steps and has read all of the
data. What counts is the proportional set size of all processes together, Ray's too: a page that
several map counts once. The data's share is what that grows by where the data are large, against
the same processes over a handful of functions; it is to stay the same from one trial to four.
"""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import ray
import torch
from figures import Figure, Measured, at_most, print_figures

from sg_ray.data.samples import DataSet
from sg_ray.data.synthetic.generator import generate
from sg_ray.features.build import prepare_features
from sg_ray.features.packed import FeatureKind, Features, Ragged
from sg_ray.models.families import get_family
from sg_ray.models.family import Inputs, NeuralFamily
from sg_ray.training.compute import make_compute
from sg_ray.training.loop import Interrupted, make_training
from sg_ray.training.seeding import Seeds

NUM_SAMPLES = 500
NUM_JOINED = 5
"""So many synthetic functions make one that is as long as Devign's are in the mean."""
NUM_COPIES = 64
"""The functions follow each other so often, as many bytes as so many more of them would be."""
NUM_TRIALS = (1, 2, 4)
NUM_STEPS = 5


class Trial:
    """A process that trains on data, and holds what a trial holds of them."""

    def train(self, features: Sequence[Any], folder: Path, *, is_private: bool) -> None:
        """Take some steps, then read all there is."""
        torch.set_num_threads(1)
        given = ray.get(features[0])
        own = _mapped(given, lambda array: array.copy()) if is_private else given
        family = get_family("gnn")
        assert isinstance(family, NeuralFamily)
        config = family.Config(hidden_dim=16, num_layers=1)
        inputs = Inputs(own)
        train_split, valid_split = (
            family.split_data(config, inputs, split) for split in ("train", "valid")
        )
        torch.manual_seed(0)
        model = family.build(config, inputs)
        steps = iter(range(1, NUM_STEPS + 1))
        epochs = make_training(
            model, train_split, valid_split, config, seeds=Seeds(0), objective="val_roc_auc",
            folder=folder, identity={}, compute=make_compute(config, torch.device("cpu")),
        ).epochs(lambda: next(steps) == NUM_STEPS)  # fmt: skip
        try:
            next(epochs)
        except Interrupted:
            self._held = (own, train_split, valid_split, model)
        _mapped(own, lambda array: np.asarray(array.sum()))

    def forget(self) -> None:
        """Hold no data any more."""
        del self._held
        gc.collect()


def measure(today: Path | None) -> Measured:  # noqa: ARG001 - a private copy is no earlier way
    """Measure one, two and four trials, each way."""
    with TemporaryDirectory(prefix="sg-ray-memory-") as folder:
        small = _features(Path(folder))
        large = _mapped(small, _repeated, of_sample=True)
        ray.init(
            address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
            object_store_memory=2 * 2**30,
        )  # fmt: skip
        try:
            actor = ray.remote(num_cpus=0)(Trial)
            trials = [actor.remote() for _ in range(NUM_TRIALS[-1])]
            shared, private = (
                _shares(trials, small, large, Path(folder), is_private=is_private)
                for is_private in (False, True)
            )
        finally:
            ray.shutdown()
    few, many = NUM_TRIALS[0], NUM_TRIALS[-1]
    told = ", ".join(f"{n}: {shared[n]:.0f} and {private[n]:.0f} MiB" for n in NUM_TRIALS)
    note = f"data of {_mib(large):.0f} MiB; their share by trials, shared and private: {told}"
    name = f"private copies, growth from {few} trial to {many}"
    ours, baseline = shared[many] / shared[few], private[many] / private[few]
    return [Figure(name, ours, baseline, "times", at_most(1.05), note=note)]


def _shares(
    trials: Sequence[Any], small: Features, large: Features, folder: Path, *, is_private: bool
) -> Mapping[int, float]:
    """Return the data's share in MiB, by how many of the trials train on them.

    The others have trained, too, on next to nothing. Of private copies only they themselves count,
    not what Ray's object store holds to hand them over.
    """
    of = "Pss_Anon:" if is_private else "Pss:"
    with TemporaryDirectory(dir=folder) as place:
        numbers = iter(range(100))

        def train_on(reference: Any, some: Sequence[Any]) -> None:
            ray.get(
                [
                    one.train.remote(
                        [reference], Path(place, str(next(numbers))), is_private=is_private
                    )
                    for one in some
                ]
            )

        train_on(ray.put(small), trials)
        without_mib = _pss_mib(of)
        reference = ray.put(large)
        shares, num_before = {}, 0
        for number in NUM_TRIALS:
            train_on(reference, trials[num_before:number])
            num_before = number
            shares[number] = _pss_mib(of) - without_mib
        ray.get([one.forget.remote() for one in trials])
    return shares


def _pss_mib(of: str) -> float:
    total_kb = 0
    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        rollup = Path(f"/proc/{process.pid}/smaps_rollup")
        try:
            lines = rollup.read_text(encoding="ascii").splitlines()
        except OSError:  # it has ended
            continue
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith(of))
    return total_kb / 1024


def _features(folder: Path) -> Features:
    short = generate(NUM_SAMPLES * NUM_JOINED, seed=0)
    samples = [
        replace(short[at], source="\n".join(one.source for one in short[at : at + NUM_JOINED]))
        for at in range(0, len(short), NUM_JOINED)
    ]
    tenth = NUM_SAMPLES // 10
    cuts = {"train": slice(0, 9 * tenth), "valid": slice(9 * tenth, None)}
    data = DataSet("synthetic", {split: samples[part] for split, part in cuts.items()})
    family = get_family("gnn")
    return prepare_features(data, family.feature_specs(family.Config()), folder)


def _repeated(array: Any) -> Any:
    return np.concatenate([array] * NUM_COPIES)


def _mapped(features: Features, change: Any, *, of_sample: bool = False) -> Features:
    """Return features with each array changed; ``of_sample``: more samples, so offsets go on."""

    def of(ragged: Ragged) -> Ragged:
        offsets = ragged.offsets
        if of_sample:
            lengths = change(np.diff(offsets))
            offsets = np.concatenate([[0], np.cumsum(lengths)])
        else:
            change(offsets)
        return Ragged(change(ragged.values), offsets)

    kinds = {
        key: FeatureKind(
            kind.meta,
            {
                split: {name: of(ragged) for name, ragged in arrays.items()}
                for split, arrays in kind.splits.items()
            },
        )
        for key, kind in features.kinds.items()
    }
    labels = {split: change(array) for split, array in features.labels.items()}
    return replace(features, labels=labels, kinds=kinds, packed_ids={})


def _mib(features: Features) -> float:
    arrays = [
        array
        for kind in features.kinds.values()
        for by_name in kind.splits.values()
        for ragged in by_name.values()
        for array in (ragged.values, ragged.offsets)
    ]
    return sum(array.nbytes for array in arrays) / 2**20


if __name__ == "__main__":
    print_figures(measure(None))
