"""An exported model as MLflow's generic Python model: what ``mlflow.pyfunc.load_model`` calls.

import mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.pyfunc.load_model("models:/quick@champion").predict(["int f(char *s) { ... }"])
"""

from pathlib import Path
from typing import Any

from sg_ray.detector import Detector

DETECTOR_DIR = "detector"
"""Where the exported folder lies inside an MLflow model."""


class PyfuncDetector:
    """Takes a table of C functions, gives one with ``probability`` and ``vulnerable``."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Score the functions in the first column of a pandas table, one per row.

        The model's signature has MLflow make such a table of a list of strings.
        """
        del params  # there are none
        probabilities = self._detector.predict(model_input.iloc[:, 0].tolist())
        decisions = self._detector.decide(probabilities)
        table = type(model_input)
        return table({"probability": probabilities, "vulnerable": decisions})


def _load_pyfunc(path: str) -> PyfuncDetector:
    """Load the model that lies at ``path``; the name is MLflow's."""
    return PyfuncDetector(Detector.load(Path(path) / DETECTOR_DIR))
