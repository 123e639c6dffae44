"""The user's code that trials need, wherever they run."""

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from sg_ray.errors import InputError
from sg_ray.models.families import FAMILIES
from sg_ray.plugins import Plugin
from sg_ray.statistics.own_metrics import OWN_METRICS


@dataclass(frozen=True)
class OwnCode:
    """The user's code that trials need, as a worker takes it along: source and all."""

    families: tuple[Plugin, ...]
    metrics: tuple[Plugin, ...] = ()
    versions: tuple[str, ...] = ()
    """Of the code of each, where the trials are recorded."""

    @classmethod
    def of(cls, families: Iterable[str], metrics: Iterable[str] = ()) -> Self:
        """Return what ``families``, and those that they build on, have from outside.

        ``metrics`` are those of the user's own.
        """
        own = FAMILIES.plugged_in(families), OWN_METRICS.plugged_in(metrics)
        return cls(*own, tuple(plugin.version for plugins in own for plugin in plugins))

    @property
    def modules(self) -> list[str]:
        """References to what does not travel: it must be installed wherever trials run."""
        plugins = (*self.families, *self.metrics)
        return [plugin.reference for plugin in plugins if plugin.source is None]

    def plug_in(self) -> None:
        """Make it known in this process.

        Raises InputError if something is not installed here, or in another version.
        """
        for family in self.families:
            FAMILIES.plug_in(family)
        for metric in self.metrics:
            OWN_METRICS.plug_in(metric)
        for plugin, version in zip((*self.families, *self.metrics), self.versions, strict=True):
            if plugin.version != version:
                raise InputError(
                    f"{plugin.reference}: its code on {platform.node()} is not that of the process "
                    "which started the trials. Install the same on all machines, and start again."
                )
