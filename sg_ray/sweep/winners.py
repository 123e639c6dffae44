"""The winners of a sweep, each exported as a folder of its own, and which of them is the best."""

from collections.abc import Sequence
from pathlib import Path

from sg_ray.config import FLOOR
from sg_ray.detector import WinnerCard
from sg_ray.export import export_model
from sg_ray.files import write_json
from sg_ray.records.record import RunRecord
from sg_ray.sweep.plan.planner import Planner
from sg_ray.sweep_folder import WINNER_CARD
from sg_ray.training.metrics import is_better


def export_winners(planner: Planner, cache_dir: Path) -> None:
    """Write ``best/<model>/`` for each model's winner and the floor, from their best seed.

    Below ``cache_dir`` are their features. Last comes ``best/winner.json``, which names the winner
    of the whole sweep.
    """
    folder = planner.ledger.folder
    best_dir, exported = folder.best, _best_records(planner)
    for model, record in exported.items():
        branches = planner.plans[model].spec(record.configuration, record.seed).branches
        trained = folder.trial(record.trial_key)
        export_model(record, branches, trained, cache_dir, best_dir / model)
    winner = planner.winner()
    if winner is None:
        (best_dir / WINNER_CARD).unlink(missing_ok=True)
        return
    key = exported[winner.model].trial_key
    card = WinnerCard(
        model=winner.model,
        config_hash=winner.config_hash,
        trial_key=key,
        is_below_floor=planner.winner_is_below_floor,
    )
    write_json(best_dir / WINNER_CARD, card)


def _best_records(planner: Planner) -> dict[str, RunRecord]:
    """Return the record of the best seed of each model's winner, and of the floor.

    Of seeds that are equally good it is the one planned first, whichever ended first.
    """
    place = {seed: number for number, seed in enumerate(planner.rules.replicate.all_seeds)}
    everything = planner.ledger.records.values()
    records = [r for r in everything if r.counts_as_seed and r.status == "completed"]
    of_winners = {
        model: [r for r in records if r.config_hash == row.config_hash and r.seed in row.seeds]
        for model, row in planner.winners().items()
    }
    of_floor = [r for r in records if r.model == FLOOR]
    groups = {**of_winners, FLOOR: of_floor}
    return {
        model: _best(sorted(_newest(group), key=lambda r: place.get(r.seed, len(place))))
        for model, group in groups.items()
        if group
    }


def _newest(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return of each seed the newest of ``records``, oldest first: what the ranking counts."""
    return list({record.seed: record for record in records}.values())


def _best(records: Sequence[RunRecord]) -> RunRecord:
    best = records[0]
    for record in records[1:]:
        value, so_far = (r.metrics.get(r.objective) for r in (record, best))
        if value is not None and is_better(record.objective, value, so_far):
            best = record
    return best
