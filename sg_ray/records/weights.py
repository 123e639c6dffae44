"""Weights that a finished sweep let go of: of which trials, and by which setting."""

from sg_ray.records.events import WeightsLetGo
from sg_ray.records.journal import read_events
from sg_ray.sweep_folder import BEST, SweepFolder


def trials_let_go(folder: SweepFolder) -> dict[str, WeightsLetGo]:
    """Return, by trial key, the last event that let a trial's weights go.

    Said of each before its weights are deleted; it may have been trained again since.
    """
    events = (one for one in read_events(folder.events) if isinstance(one, WeightsLetGo))
    return {key: event for event in events for key in event.trial_keys}


def why_missing(folder: SweepFolder, trial_key: str) -> str | None:
    """Return, as a sentence, why a sweep's trial has no weights; None if they were not let go."""
    event = trials_let_go(folder).get(trial_key)
    if event is None or (folder.trial(trial_key) / BEST).exists():
        return None
    return (
        f"{folder}: the weights of trial {trial_key} were let go when the sweep was done "
        f"(keep_weights: {event.keep_weights})."
    )
