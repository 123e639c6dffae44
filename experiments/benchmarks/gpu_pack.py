"""Features in one file: made where Devign and the parsers are, read where only a GPU is.

A lent machine with a GPU may have neither the data nor tree-sitter, and no network. The file holds
plain arrays (numpy's .npz, no pickles) of a few thousand functions: RoBERTa's tokens and graphs.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sg_ray.code_version import code_version
from sg_ray.data.samples import DataSet, Sample
from sg_ray.features.packed import FeatureKind, Features, Ragged

SPLITS = {"train": 4_096, "valid": 256}
TINY_SPLITS = {"train": 48, "valid": 16}
ROOT = Path(__file__).parents[2]
DEVIGN = Path(os.environ.get("SG_RAY_DEVIGN", ROOT.parent / "shared" / "devign"))
TOKENIZER = Path(
    os.environ.get("SG_RAY_ROBERTA_TOKENIZER", ROOT.parent / "shared" / "roberta_tokenizer")
)
NO_FEATURES = "no Devign here (SG_RAY_DEVIGN, SG_RAY_ROBERTA_TOKENIZER name the folders)"
TOKENS, GRAPHS = "tokens", "graphs"
"""What the kinds are called in the file, whatever a configuration calls them."""


def packed_features() -> Path | None:
    """Return the file for the code as it is, made now if need be; None without Devign."""
    path = ROOT / "outputs" / "bench" / f"features-{code_version()}.npz"
    if not path.exists():
        if not (DEVIGN.is_dir() and TOKENIZER.is_dir()):
            return None
        pack_devign(path)
    return path


def pack_devign(path: Path) -> None:
    """Make features of some functions of Devign and write them to ``path``."""
    from sg_ray.data.sources import DataConfig, load_data

    source = {"source": "codexglue", "path": DEVIGN, "limit": SPLITS}
    with TemporaryDirectory() as folder:
        data = load_data(DataConfig.model_validate(source), Path(folder))
    _pack({split: data.splits[split] for split in SPLITS}, str(TOKENIZER), path)


def pack_synthetic(path: Path, splits: Mapping[str, int] = TINY_SPLITS) -> None:
    """Write features of built-in functions, with a tokenizer of their own.

    As few as they are by default they show that a script runs.
    """
    from sg_ray.data.synthetic.generator import generate

    samples = generate(sum(splits.values()), seed=0)
    num_train = splits["train"]
    _pack({"train": samples[:num_train], "valid": samples[num_train:]}, "train", path)


def read_pack(path: Path, tokens_key: str, graphs_key: str) -> Features:
    """Return the features of a file, under the keys by which configurations ask for them."""
    with np.load(path, allow_pickle=False) as arrays:
        metas = json.loads(str(arrays["metas"]))
        labels = {split: arrays[f"labels/{split}"] for split in metas["splits"]}
        kinds = {
            key: _read_kind(arrays, name, metas)
            for key, name in ((tokens_key, TOKENS), (graphs_key, GRAPHS))
        }
    return Features("packed", labels, kinds)


def _read_kind(arrays: Mapping[str, Any], name: str, metas: Mapping[str, Any]) -> FeatureKind:
    splits = {
        split: {
            part: Ragged(
                arrays[f"{name}/{split}/{part}/values"], arrays[f"{name}/{split}/{part}/offsets"]
            )
            for part in metas["parts"][name]
        }
        for split in metas["splits"]
    }
    return FeatureKind(metas[name], splits)


def _pack(samples: Mapping[str, Sequence[Sample]], tokenizer: str, path: Path) -> None:
    from sg_ray.features.build import prepare_features
    from sg_ray.features.spec import GraphSpec, TokenSpec

    specs = {TOKENS: TokenSpec(tokenizer=tokenizer), GRAPHS: GraphSpec()}
    with TemporaryDirectory() as folder:
        features = prepare_features(DataSet("packed", samples), specs.values(), Path(folder))
        kinds = {name: features.kinds[spec.key] for name, spec in specs.items()}
        arrays: dict[str, Any] = {
            f"labels/{split}": labels for split, labels in features.labels.items()
        }
        for name, kind in kinds.items():
            for split, parts in kind.splits.items():
                for part, ragged in parts.items():
                    arrays[f"{name}/{split}/{part}/values"] = ragged.values
                    arrays[f"{name}/{split}/{part}/offsets"] = ragged.offsets
        metas = {
            "splits": list(samples),
            "parts": {name: list(kind.splits["train"]) for name, kind in kinds.items()},
            **{name: dict(kind.meta) for name, kind in kinds.items()},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, metas=np.array(json.dumps(metas)), **arrays)
