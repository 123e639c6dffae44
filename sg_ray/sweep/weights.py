"""At the end of a sweep the weights go of which nothing that is planned makes use.

Not before: only then is it certain who lost, and the test split is scored. Records, predictions
and metrics stay. What stays of the weights, by ``keep_weights``:

- ``all``: everything.
- ``finalists``: configurations that raced over seeds, with all of their seeds. More seeds of an
  extension need no others.
- ``winner``: each model's winner, with all of its seeds: from them ``best/`` is exported, and a
  sweep elsewhere that names this one in ``branches_from`` builds on them.

Of the floor, and of configurations that models of this sweep have been built on, they always stay.
An extension may make a winner of what lost before; see ``plan.weights_again``.
"""

import logging
from collections.abc import Iterator

from sg_ray.config import FLOOR, KeepWeights
from sg_ray.records.events import WeightsLetGo
from sg_ray.records.journal import Journal
from sg_ray.sweep.plan.planner import Planner
from sg_ray.sweep_folder import BEST

_LOGGER = logging.getLogger(__name__)


def let_go_of_weights(planner: Planner, keep: KeepWeights, journal: Journal) -> None:
    """Delete the weights that ``keep`` does not keep, after the journal has said so.

    Does nothing twice; the next start goes on after a kill in between.
    """
    if keep == "all":
        return
    folder = planner.ledger.folder
    kept = _kept(planner, keep)
    records = planner.ledger.records.values()
    going = {
        record.trial_key: folder.trial(record.trial_key) / BEST
        for record in records
        if record.config_hash not in kept and record.model != FLOOR
    }
    sizes = {key: path.stat().st_size for key, path in going.items() if path.exists()}
    if not sizes:
        return
    journal.append(
        WeightsLetGo(keep_weights=keep, trial_keys=list(sizes), num_bytes=sum(sizes.values()))
    )
    journal.sync()  # whoever misses the weights is to find out why
    for key in sizes:
        try:
            going[key].unlink(missing_ok=True)
        except OSError as error:  # on a disk that is shared; the verdict matters more
            _LOGGER.warning("%s cannot be deleted (%s)", going[key], error.strerror)
            return


def _kept(planner: Planner, keep: KeepWeights) -> set[str]:
    """Return the hashes of the configurations whose weights stay."""
    winners = {row.config_hash for row in planner.winners().values()}
    finalists = set(_finalists(planner)) if keep == "finalists" else set()
    return {*winners, *finalists, *_built_on(planner)}


def _finalists(planner: Planner) -> Iterator[str]:
    first = planner.rules.replicate.seeds[0]
    for plan in planner.plans.values():
        for configuration in plan.finalists:
            yield plan.spec(configuration, first).config_hash


def _built_on(planner: Planner) -> Iterator[str]:
    records = planner.ledger.records
    for record in records.values():
        yield from (records[key].config_hash for key in record.branches.values() if key in records)
