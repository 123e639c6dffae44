"""Every setting of an experiment with the values it may have, read off the models themselves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from sg_ray.config import Experiment
from sg_ray.models.families import FAMILIES

Schema = Mapping[str, Any]

PLACES = (
    "plain",
    "run #3/x",
    "a: b/c",
    "[run]/{x}",
    "2024",
    "1e-3",
    "true",
    "null",
    "~/data",
    " led by a blank",
    "followed by one ",
    'it\'s "quoted"',
    "d\u00e9j\u00e0/\u4e2d\u6587/\U0001f600",
    "back\\slash, comma & *star !bang %percent @at `tick`",
    "-dash",
    "tab\tand\nline",
)
"""Folders and files that somebody has, each of which means something else in YAML."""

NOT_IN_YAML = ("Cc", "Cs", "Cn")
"""Control characters, halves of characters and none at all: YAML takes them only escaped."""

SPACES = (
    {},
    {"weight_decay": {"uniform": [0, 1]}},
    {"learning_rate": {"log_uniform": [1e-6, 1]}, "batch_size": {"int_uniform": [1, 1000]}},
    {"collapse_patience": {"choice": [None, 5, 7]}, "weighted_sampling": {"choice": [False, True]}},
)


@dataclass(frozen=True)
class Setting:
    """A key, values that are worth a look (bounds, null, odd ones), and any value it may have."""

    key: str
    edges: tuple[Any, ...]
    strategy: st.SearchStrategy[Any]


FIXED = {
    "name": ("a", "1.0", "2024-01-01", "a" * 100),
    "families": (["gnn"], ["transformer", "gnn", "fusion"], ["lexical"]),
    "plugins.families": ({},),  # what is named is loaded: see test_own_families.py
    "plugins.metrics": ({},),
    "metrics": ((),),  # see test_own_metrics.py
    "objective": ("val_roc_auc", "val_f1", "val_loss"),
    "replicate.seeds": ([0], [2**32 - 1, 0, 7], [42, 2025, 7]),
    "tracking.uri": ("sqlite:///mlflow.db", "http://127.0.0.1:5000", "sqlite:////a #b/x: y.db"),
    # What is trained as it is made from scratch: its sizes must fit each other.
    "models.transformer.config.num_heads": (1,),
    "models.transformer.config.pretrained": (None,),
    "models.transformer.config.pretrained_content": (None,),
    "models.transformer.config.tokens.tokenizer_content": (None, "0123456789ab", "1e5"),
    "models.transformer.config.tokens.tokenizer": ("train", "out #1/tokenizer", "org/name"),
    "models.lexical.config.min_ngram": (1, 2),
    "models.lexical.config.max_ngram": (2, 5),
    # A search space holds the family's own values.
    "models.gnn.config.learning_rate": (1e-3, 0.5, 1e-6),
    "models.gnn.config.weight_decay": (0.0, 1e-5, 1.0),
    "models.gnn.config.batch_size": (1, 1000),
    "models.gnn.config.collapse_patience": (None, 5, 7),
    # Some values of one decide what others may be.
    "resources.min_workers": (None, 1),
    "replicate.max_seeds": (None, 1000, 3),
    "data.source": ("synthetic", "codexglue"),
    "resources.gpus": (0.0, 0.25, 8.0),
}
"""Settings whose values the models' types alone do not tell."""

FIXED |= {
    f"models.{family}.resources.{name}": FIXED[f"resources.{name}"]
    for family in FAMILIES
    for name in ("min_workers", "gpus")
}


def all_settings() -> list[Setting]:
    """Return every setting that an experiment has, its families' ones included."""
    schema = Experiment.model_json_schema()
    found = list(_settings(schema, schema, ""))
    for family in FAMILIES.values():
        own = family.Config.model_json_schema()
        found += _settings(own, own, f"models.{family.name}.config.")
        resources = schema["$defs"]["Resources"]
        found += _settings(resources, schema, f"models.{family.name}.resources.")
    found += [Setting("models.gnn.space", SPACES, st.sampled_from(SPACES))]
    return found


def _settings(section: Schema, whole: Schema, prefix: str) -> Iterator[Setting]:
    for name, field in section["properties"].items():
        key = prefix + name
        if "$ref" in field:
            yield from _settings(whole["$defs"][field["$ref"].rpartition("/")[2]], whole, f"{key}.")
        elif key != "models":
            yield _setting(key, field)


def _setting(key: str, field: Schema) -> Setting:
    if key in FIXED:
        return Setting(key, FIXED[key], st.sampled_from(FIXED[key]))
    kinds = field.get("anyOf", [field])
    edges, strategies = [], []
    for kind in kinds:
        if kind["type"] == "null" and _is_place(kinds):
            continue  # left out, never null
        edges += _edges(kind)
        strategies.append(_strategy(kind))
    return Setting(key, tuple(edges), st.one_of(strategies))


def _is_place(kinds: list[Schema]) -> bool:
    return any(kind.get("format") == "path" for kind in kinds)


def _edges(kind: Schema) -> list[Any]:
    if "enum" in kind or "const" in kind:
        return list(kind.get("enum", [kind.get("const")]))
    match kind["type"]:
        case "null":
            return [None]
        case "boolean":
            return [True, False]
        case "integer":
            return list(_bounds(kind, 1))
        case "number":
            low, high = _bounds(kind, 1e-9)
            return [low, high, (low + high) / 3, min(high, low + 1e-5)]
        case "string" if kind.get("format") == "path":
            return list(PLACES)
    raise AssertionError(f"no values are known for {kind}")


def _strategy(kind: Schema) -> st.SearchStrategy[Any]:
    match kind["type"]:
        case "integer":
            step = kind.get("multipleOf", 1)
            return st.integers(*_bounds(kind, 1)).map(lambda number: number // step * step)
        case "number":
            return st.floats(*_bounds(kind, 1e-9))
        case "string" if kind.get("format") == "path":
            letters = st.characters(exclude_categories=NOT_IN_YAML, exclude_characters="/")
            return st.text(letters, min_size=1, max_size=12).filter(lambda t: t.strip())
    return st.sampled_from(_edges(kind))


def _bounds(kind: Schema, step: float) -> tuple[Any, Any]:
    """Return the least and the largest value; every number that is a setting has both."""
    low = kind["minimum"] if "minimum" in kind else kind["exclusiveMinimum"] + step
    high = kind["maximum"] if "maximum" in kind else kind["exclusiveMaximum"] - step
    return low, high
