"""What is installed beside us: every package of this Python's environment."""

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import Distribution, distributions

from sg_ray.files import content_hash


@lru_cache(maxsize=1)
def installed_packages() -> Mapping[str, str]:
    """Return the version of every installed package by its name, in the names' order.

    What a broken installation left without name or version is none.
    """
    found: dict[str, str] = {}
    for package in distributions():
        if _is_whole(package):
            found.setdefault(package.name, package.version)  # the first on the path is imported
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _is_whole(package: Distribution) -> bool:
    try:
        return {"Name", "Version"} <= set(package.metadata)
    except FileNotFoundError:  # what libraries put in place of importlib's finder raises it
        return False


@lru_cache(maxsize=1)
def packages_hash() -> str:
    """Return what equal environments have in common, and no other."""
    return content_hash(installed_packages())
