"""Every model family, by name. A new family is one file and one row here."""

from typing import Any

from sg_ray.errors import InputError
from sg_ray.models.family import Family
from sg_ray.models.fusion import Fusion
from sg_ray.models.gnn import Gnn
from sg_ray.models.lexical import Lexical
from sg_ray.models.transformer import Transformer

FAMILIES: dict[str, Family[Any]] = {
    Lexical.name: Lexical(),
    Transformer.name: Transformer(),
    Gnn.name: Gnn(),
    Fusion.name: Fusion(),
}


def get_family(name: str) -> Family[Any]:
    """Return the family called ``name``; raises InputError that lists the known names."""
    if name not in FAMILIES:
        raise InputError(f"families: unknown family {name!r}. Known: {', '.join(FAMILIES)}.")
    return FAMILIES[name]
