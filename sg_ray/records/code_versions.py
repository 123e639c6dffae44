"""Which code a sweep's trials count as trained by: that of now, or an earlier one that is trusted.

A record counts by the version of the code that decides its numbers. After a change of the code the
user may keep what is on record: trials of now then count as made by the version that was kept, and
note with what they were trained.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from sg_ray.files import content_hash, write_json
from sg_ray.models.families import family_code_version
from sg_ray.reading import read_model
from sg_ray.statistics.own_metrics import OWN_METRICS
from sg_ray.sweep_folder import SweepFolder


def trial_code_version(family: str, metrics: Iterable[str] = ()) -> str:
    """Return the version of the code that decides a trial's numbers.

    That is its family's; ``+`` and a hash of the user's metrics follow if it measures any.
    """
    own = [plugin.version for plugin in OWN_METRICS.plugged_in(metrics)]
    version = family_code_version(family)
    return f"{version}+{content_hash(own)}" if own else version


class CodeVersions(BaseModel):
    """By family, which versions of its code count as which one that is on record."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kept: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)

    @classmethod
    def of(cls, folder: SweepFolder) -> Self:
        """Read what was kept in a sweep's folder. Raises InputError if the file is damaged."""
        path = folder.kept_versions
        if not path.exists():
            return cls()
        remedy = "Restore it from a copy, or delete it and decide again."
        return read_model(path, cls, what="note of versions that were kept", remedy=remedy)

    def of_family(self, family: str, metrics: Iterable[str] = ()) -> str:
        """Return the version that trials of a family count as made by.

        ``metrics`` are those of the user's own that the sweep measures, here and below.
        """
        now = trial_code_version(family, metrics)
        return self.kept.get(family, {}).get(now, now)

    def by_family(self, families: Iterable[str], metrics: Collection[str] = ()) -> dict[str, str]:
        """Return the same of several."""
        return {family: self.of_family(family, metrics) for family in families}

    def keeping(self, on_record: Mapping[str, str], metrics: Collection[str] = ()) -> Self:
        """Return these with the code of now counting as what is on record, by family."""
        added = {
            family: {**self.kept.get(family, {}), trial_code_version(family, metrics): version}
            for family, version in on_record.items()
        }
        return self.model_copy(update={"kept": {**self.kept, **added}})

    def without(self, families: Collection[str]) -> Self:
        """Return these without what was kept of some families."""
        kept = {
            family: versions for family, versions in self.kept.items() if family not in families
        }
        return self.model_copy(update={"kept": kept})

    def write(self, folder: SweepFolder) -> None:
        """Note them in a sweep's folder."""
        write_json(folder.kept_versions, self)
