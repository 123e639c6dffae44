"""The sweep's winner as a model in MLflow: logged with its run, registered once, loadable.

Every step looks before it writes, so that all may be repeated. A model is known by the key of the
trial that trained it, which a kill, a replay and another sweep on the same settings share: the
weights are copied once and the registry gets one version. The alias follows the sweep.
"""

import json
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sg_ray.detector import ModelCard, read_card
from sg_ray.tracking.pyfunc import DETECTOR_DIR
from sg_ray.version import __version__

ALIAS = "champion"
TRIAL_KEY_TAG = "trial_key"
OWNER_TAG = "sg_ray.owner"
"""Whose an experiment or a registered model is, see ``mlflow_experiments.owner_of``."""
EXAMPLE = "int add(int a, int b)\n{\n    return a + b;\n}\n"
"""The input example. Never a sample of the user's data."""

_VERSIONS_TAG = "mlflow.modelVersions"
"""By which MLflow's pages find the versions of a logged model."""
_LIBRARIES = (
    "mlflow",
    "numpy",
    "pydantic",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
    "tree-sitter",
    "tree-sitter-c",
)
"""What loading and scoring import. Not sg-ray itself: a registry may hold another of that name."""


@dataclass(frozen=True)
class Winner:
    """What is to be registered: under which name, its folder, and what MLflow shows with it.

    ``run_id`` is the run that trained it, ``shown_at`` all runs that name it as their outcome.
    """

    name: str
    folder: Path
    run_id: str
    shown_at: Sequence[str]
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    description: str


class MlflowModels:
    """The logged models of one experiment, and the registry of its store."""

    def __init__(
        self, client: Any, experiment_id: str, owner: str, artifacts_at: Callable[[str], Any]
    ) -> None:
        """``artifacts_at`` opens the artifacts at a URI, as MLflow's own repository of them."""
        self._client = client
        self._experiment_id = experiment_id
        self._owner = owner
        self._artifacts_at = artifacts_at

    def name_for(self, name: str, trial_key: str) -> str:
        """Return ``name`` if a model of that name is to be made or ours, else one with a suffix.

        Ours is what this folder registered, or what holds this very trial. A model of anybody else
        keeps its versions, and its alias.
        """
        found = self._find_model(name)
        if found is None or not self._owner:
            return name
        owner = found.tags.get(OWNER_TAG)
        # one without an owner was made by an earlier sg-ray, if by any
        is_ours = owner == self._owner or (owner is None and self._is_made_of_trials(name))
        is_ours = is_ours or self._find_version(name, trial_key) is not None
        return name if is_ours else f"{name}-{self._owner}"

    def register(self, winner: Winner) -> None:
        """Log and register ``winner`` unless it is there, and point the alias at its version.

        Raises RuntimeError if the folder changed meanwhile: the next attempt has the new one.
        """
        card = read_card(winner.folder)
        version = self._find_version(winner.name, card.trial_key)
        if version is None:
            version = self._create_version(winner, card, self._log(winner, card))
        if version.description != winner.description:  # more seeds may say more of the same model
            self._client.update_model_version(winner.name, version.version, winner.description)
        aliases = self._client.get_registered_model(winner.name).aliases
        if str(aliases.get(ALIAS)) != str(version.version):
            self._client.set_registered_model_alias(winner.name, ALIAS, version.version)

    def _find_model(self, name: str) -> Any | None:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _is_made_of_trials(self, name: str) -> bool:
        versions = self._client.search_model_versions(f"name = '{name}'")
        return all(TRIAL_KEY_TAG in one.tags for one in versions)

    def _find_version(self, name: str, trial_key: str) -> Any | None:
        """Return the version made of a trial; a surplus one (see ``find_runs``) is deleted."""
        versions = self._client.search_model_versions(f"name = '{name}'")
        made = [one for one in versions if one.tags.get(TRIAL_KEY_TAG) == trial_key]
        made.sort(key=lambda one: int(one.version))
        for surplus in made[1:]:
            self._client.delete_model_version(name, surplus.version)
        return made[0] if made else None

    def _create_version(self, winner: Winner, card: ModelCard, model: Any) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(winner.name, tags={OWNER_TAG: self._owner})
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
                raise
        version = self._client.create_model_version(
            winner.name,
            # not models:/ID, which a database looks up under the process's own tracking URI
            source=model.artifact_location,
            run_id=winner.run_id,
            model_id=model.model_id,
            tags={TRIAL_KEY_TAG: card.trial_key, **winner.tags},
            description=winner.description,
        )
        names = json.dumps([{"name": winner.name, "version": str(version.version)}])
        self._client.set_logged_model_tags(model.model_id, {_VERSIONS_TAG: names})
        return version

    def _log(self, winner: Winner, card: ModelCard) -> Any:
        """Return the logged model of a trial, made and filled if it is not there whole."""
        model = self._find_logged(card.trial_key)
        if model is None:
            model = self._client.create_logged_model(
                self._experiment_id,
                name=_allowed(f"{card.configuration.title(card.config_hash)}-seed{card.seed}"),
                source_run_id=winner.run_id,
                params={name: str(value) for name, value in winner.params.items()},
                tags={TRIAL_KEY_TAG: card.trial_key, **winner.tags},
                model_type="vulnerability detector",
            )
        for run_id in winner.shown_at:
            self._link(run_id, model.model_id)
        if str(model.status) != "READY":
            self._fill(model, winner)
            if read_card(winner.folder) != card:
                raise RuntimeError(f"{winner.folder} was exported anew while it was copied")
            self._client.finalize_logged_model(model.model_id, "READY")
        return model

    def _find_logged(self, trial_key: str) -> Any | None:
        """Return the model logged for a trial, the complete one if there are several."""
        found = self._client.search_logged_models(
            [self._experiment_id], f"tags.{TRIAL_KEY_TAG} = '{trial_key}'"
        )
        ordered = sorted(found, key=lambda one: (str(one.status) != "READY", one.model_id))
        for surplus in ordered[1:]:
            self._client.delete_logged_model(surplus.model_id)
        return ordered[0] if ordered else None

    def _link(self, run_id: str, model_id: str) -> None:
        from mlflow.entities import LoggedModelOutput

        outputs = self._client.get_run(run_id).outputs
        linked = [] if outputs is None else [one.model_id for one in outputs.model_outputs]
        if model_id not in linked:
            self._client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])

    def _fill(self, model: Any, winner: Winner) -> None:
        """Copy weights and description into the store, and the run's best metrics beside them."""
        artifacts = self._artifacts_at(model.artifact_location)
        with tempfile.TemporaryDirectory() as temporary:
            description = Path(temporary) / "model"
            _describe(description, model.model_id, winner)
            artifacts.log_artifacts(str(description))
        artifacts.log_artifacts(str(winner.folder), DETECTOR_DIR)
        self._copy_metrics(model.model_id, winner.run_id)

    def _copy_metrics(self, model_id: str, run_id: str) -> None:
        """Attach the best metrics of the run; for the run they are points that it has already."""
        from mlflow.entities import Metric

        names = [n for n in self._client.get_run(run_id).data.metrics if n.startswith("best_")]
        last = [self._client.get_metric_history(run_id, name)[-1] for name in names]
        points = [
            Metric(one.key, one.value, one.timestamp, one.step, model_id=model_id, run_id=run_id)
            for one in last
        ]
        if points:
            self._client.log_batch(run_id, metrics=points)


def _requirements() -> list[str]:
    return [f"{name}=={version(name).partition('+')[0]}" for name in _LIBRARIES]


def own_packages(card: ModelCard) -> list[str]:
    """Return the installed packages that the model's families come from."""
    packages = {note.package for note in card.own_code.values() if note.package}
    return sorted(one.replace(" ", "==") for many in packages for one in many.split(", "))


def _describe(folder: Path, model_id: str, winner: Winner) -> None:
    """Write the files that make a folder an MLflow model: all but the exported model itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MLflow warns about its own type hints
        import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec("string")]),
        outputs=Schema([ColSpec("double", "probability"), ColSpec("boolean", "vulnerable")]),
    )
    mlflow.pyfunc.save_model(
        path=str(folder),
        loader_module="sg_ray.tracking.pyfunc",
        mlflow_model=Model(model_id=model_id, run_id=winner.run_id),
        signature=signature,
        input_example=[EXAMPLE],
        pip_requirements=[*_requirements(), *own_packages(read_card(winner.folder))],
        metadata={"sg_ray_version": __version__},
    )


def _allowed(name: str) -> str:
    """Return the name without the characters that MLflow refuses in that of a model."""
    return re.sub(r"""[/:.%"']""", "_", name)
