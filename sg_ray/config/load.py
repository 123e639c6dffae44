"""From an experiment file to an ``Experiment``: read, override, fill in ``auto``, check."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sg_ray.commands import sg_ray_command
from sg_ray.config.auto import lacked_gpu, with_hardware
from sg_ray.config.experiment import Experiment, ModelSettings
from sg_ray.config.explain import explain, told, wanted_place
from sg_ray.config.own_code import with_own_code
from sg_ray.config.values import Given, Override, Values, read_override, read_values
from sg_ray.config.yaml_text import Key
from sg_ray.errors import InputError
from sg_ray.models.families import FAMILIES, get_family
from sg_ray.models.family import EstimatorFamily
from sg_ray.redaction import hide_credentials, hide_secrets, holds_secret
from sg_ray.space import checked_space
from sg_ray.statistics.own_metrics import OWN_METRICS
from sg_ray.training.metrics import OBJECTIVES, direction

_TRACKING_URI = ("tracking", "uri")
_FILES = ("train_file", "valid_file", "test_file")
_WIN_OVER = {"data.path": _FILES, "data.source": (*_FILES, "path")}
"""Which settings of ``data`` win over another one, in whatever order they are given."""


def load_experiment(
    path: Path,
    overrides: Sequence[str] = (),
    settings: Sequence[Given] = (),
    *,
    loads_code: bool = True,
    is_passed_on: bool = False,
) -> Experiment:
    """Read an experiment file and apply settings: values first, ``key=value`` overrides on top.

    ``auto`` becomes what this machine's hardware suggests, see ``config.auto``; a family's values
    become what its configuration makes of them. Families and metrics of the user's own are loaded,
    from where the experiment says; without ``loads_code``, as where nothing is to be trained, the
    families that this process does not know yet keep their values as they are, and of metrics the
    direction is known. ``is_passed_on`` says that the file is one of a begun sweep or training,
    whose folder brings no code. Raises InputError that names the file (and line), the flag or the
    override, the key, and the value that is wrong.
    """
    values = replace(read_values(path), is_passed_on=is_passed_on)
    changes: list[Given | Override] = [*settings, *map(read_override, overrides)]
    for change in changes:
        _check_counts(change, values)
        values = values.given(change)
    if loads_code:
        values = with_own_code(values)
    values = values.with_spaces()
    _check_places(values)
    _refuse_secrets(values)
    try:
        given = Experiment.model_validate(values.content)
    except ValidationError as error:
        raise InputError(explain(error, Experiment, values)) from error
    OWN_METRICS.tell(given.plugins.directions)
    known = _known_names((*given.families, *given.models), given.plugins.families)
    _check_names(given.objective, given.families, given.models, known, values)
    _check_objective_is_measured(given.objective, given.own_metrics, values)
    own = with_hardware(given.models, given.family_of, given.resources_of)
    checked = {name: _checked(name, own.get(name, ModelSettings()), values) for name in known}
    if given.branches_from is None:
        for name in (name for name in given.families if name in known):
            _check_branches(name, given.families, given.output_dir, values)
    _check_nothing_is_empty(values)
    models = {name: checked.get(name, as_given) for name, as_given in own.items()}
    lacked = lacked_gpu(given, values)
    return given.model_copy(update={"models": models}).with_lacked_gpu(lacked)


def _refuse_secrets(values: Values) -> None:
    """Settings are written to files that are passed on; only ``tracking.uri`` is kept out."""
    for key, value in _texts(values.content):
        if key != _TRACKING_URI and holds_secret(value):
            raise InputError(
                f"{hide_secrets(values.where(key))}: {'.'.join(key)}: {hide_credentials(value)!r} "
                "holds a password or token, and settings are written to files that are passed on. "
                "Leave it out; where a program needs it, an environment variable such as HF_TOKEN "
                "is the way."
            )


def _texts(value: Any, key: Key = ()) -> Iterator[tuple[Key, str]]:
    """Yield every text below ``value`` with its key."""
    if isinstance(value, str):
        yield key, value
    items = value.items() if isinstance(value, Mapping) else ()
    listed = enumerate(value) if isinstance(value, list | tuple) else ()
    for name, item in (*items, *listed):
        yield from _texts(item, (*key, str(name)))


def _check_counts(change: Given | Override, values: Values) -> None:
    """Raise InputError for a change of where data come from that what is there would win over."""
    name = change.key.removeprefix("data.")
    for winner in _WIN_OVER.get(change.key, ()):
        source = "path" if winner == "path" else "files"
        if values.at(("data", winner)) is None or (name, change.value) == ("source", source):
            continue
        given = f"data.{winner} ({values.where(('data', winner))})"
        raise InputError(
            f"{change.origin.place}: {given} wins over it. Leave one of them out, or replace the "
            f"whole section: 'data={{{name}: {change.value}}}'"
        )


def _check_places(values: Values) -> None:
    """Raise InputError for a place that is null: a variable that is not set, or ``~``."""
    for key in values.null_keys:
        what = wanted_place(Experiment, key)
        if what is not None:
            raise InputError(told(values, key, f"no {what} given"))


def _check_names(
    objective: str,
    families: Iterable[str],
    models: Iterable[str],
    known: Sequence[str],
    values: Values,
) -> None:
    """Raise InputError, with its place, for a metric or family that there is not."""
    used: list[tuple[Key, Callable[[str], object], str]] = [(("objective",), direction, objective)]
    used += [(("families",), get_family, name) for name in families if name in known]
    used += [(("models", name), get_family, name) for name in models if name in known]
    for key, look_up, name in used:
        try:
            look_up(name)
        except InputError as error:
            reason = str(error).partition(": ")[2]
            raise InputError(told(values, key, reason)) from error


def _check_objective_is_measured(
    objective: str, own_metrics: Collection[str], values: Values
) -> None:
    """Raise InputError for a metric of the user's own that this experiment does not name."""
    name = objective.removeprefix("val_")
    if objective not in OBJECTIVES and name not in own_metrics:
        reason = f"metrics does not hold {name}, so no trial measures it. Add it there"
        raise InputError(told(values, ("objective",), reason))


def _known_names(named: Sequence[str], own: Mapping[str, str]) -> list[str]:
    """Return the families that are named, without those whose code was not to be loaded."""
    return [name for name in dict.fromkeys(named) if name in FAMILIES or name not in own]


def _check_nothing_is_empty(values: Values) -> None:
    for key in filter(values.is_empty, values.null_keys):
        raise InputError(told(values, key, "no value given (null says that there is none)"))


def _checked(name: str, settings: ModelSettings, values: Values) -> ModelSettings:
    """Return a family's settings with the values that its configuration made of them."""
    family = get_family(name)
    key = ("models", name)
    try:
        baseline = family.Config.model_validate(settings.config)
    except ValidationError as error:
        raise InputError(explain(error, family.Config, values, (*key, "config"))) from error
    if settings.space and isinstance(family, EstimatorFamily):
        raise InputError(told(values, (*key, "space"), f"{name} is not searched; leave it out"))
    space = checked_space(settings.space, baseline, partial(_place, values, (*key, "space")))
    config = baseline.model_dump(mode="json", exclude_unset=True, include=set(settings.config))
    return settings.model_copy(update={"config": config, "space": space})


def _place(values: Values, section: Key, name: str) -> str:
    key = (*section, name)
    return f"{values.where(key)}: {'.'.join(key)}"


def _check_branches(name: str, families: Sequence[str], output_dir: Path, values: Values) -> None:
    missing = [branch for branch in get_family(name).branches if branch not in families]
    if missing:
        names, where = " and ".join(missing), values.where(("families",))
        is_sweep = where != f"train {name}"
        place = f"{where}: families" if is_sweep else where
        add = f"Add {names} to families, or name" if is_sweep else "Name"
        commands = "; ".join(sg_ray_command("train", one, values.path) for one in missing)
        raise InputError(
            f"{place}: {name} builds on {names}. {add} the folder of a sweep or of trainings that "
            f"holds them, e.g., with the same overrides, {commands}; then "
            f"branches_from={output_dir / 'train'}."
        )
