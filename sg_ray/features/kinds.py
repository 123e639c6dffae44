"""The table of feature kinds, and fitted featurisers as folders."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_ray.errors import InputError
from sg_ray.features.featuriser import Featuriser
from sg_ray.features.program_graphs import GraphFeaturiser
from sg_ray.features.source_text import TextFeaturiser
from sg_ray.features.spec import FeatureSpec, GraphSpec, TextSpec, TokenSpec, by_content
from sg_ray.features.tokens import TokenFeaturiser
from sg_ray.files import write_json

_LOGGER = logging.getLogger(__name__)

DESCRIPTION_FILE = "featuriser.json"


@dataclass(frozen=True)
class Kind:
    """One kind of feature: its settings and what extracts it."""

    spec: type[FeatureSpec]
    featuriser: type[Featuriser[Any]]


KINDS: Mapping[str, Kind] = {
    "tokens": Kind(TokenSpec, TokenFeaturiser),
    "graphs": Kind(GraphSpec, GraphFeaturiser),
    "text": Kind(TextSpec, TextFeaturiser),
}
"""A new kind is a spec, a class that fills the Featuriser protocol, and a row here."""


def featuriser_class(spec: FeatureSpec) -> type[Featuriser[Any]]:
    """Return what extracts features of ``spec``."""
    return KINDS[spec.kind].featuriser


def describe(spec: FeatureSpec) -> dict[str, Any]:
    """Return, as plain JSON values, everything besides the data that features depend on."""
    inputs = featuriser_class(spec).inputs(spec)
    return {
        "kind": spec.kind,
        "version": spec.version,
        "spec": by_content(spec.model_dump(mode="json")),
        "inputs": dict(inputs),
    }


def save_featuriser(featuriser: Featuriser[Any], folder: Path) -> None:
    """Write a fitted featuriser into ``folder``, for ``load_featuriser``."""
    folder.mkdir(parents=True, exist_ok=True)
    featuriser.save(folder)
    description = {**describe(featuriser.spec), "spec": featuriser.spec.model_dump(mode="json")}
    write_json(folder / DESCRIPTION_FILE, description)


def load_featuriser(folder: Path) -> Featuriser[Any]:
    """Restore a fitted featuriser from a feature store or an exported model.

    Raises InputError if the folder holds none, or one of another version of sg-ray. Warns if a
    library that the arrays depend on has changed since.
    """
    path = folder / DESCRIPTION_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        kind = KINDS[stored["kind"]]
        if stored["version"] != kind.spec.version:
            raise InputError(
                f"{path} was fitted by version {stored['version']} of the kind {stored['kind']!r}, "
                f"this is version {kind.spec.version}. Use the sg-ray that wrote it or train again."
            )
        spec = kind.spec.model_validate(stored["spec"])
        _warn_if_changed(path, stored["inputs"], kind.featuriser.inputs(spec))
        return kind.featuriser.load(spec, folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} holds no fitted featuriser ({type(error).__name__}: {error}). Give the "
            f"folder of an exported model or of a feature store."
        ) from error


def _warn_if_changed(path: Path, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    for name in then.keys() & now.keys():
        if then[name] != now[name]:
            _LOGGER.warning(
                "%s was fitted with %s %s, this is %s: features may differ slightly",
                path, name, then[name], now[name],
            )  # fmt: skip
