"""The settings of a sweep of seconds."""

from typing import Any

GNN = {
    "config": {
        "learning_rate": 5e-3,
        "epochs": 2,
        "num_layers": 1,
        "hidden_dim": 16,
        "graphs": {"vocab_size": 400},
    },
    "space": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}},
}
SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "synthetic", "num_samples": 240},
    "families": ["gnn"],
    "models": {"gnn": GNN},
    "lr_range.enabled": False,
    "search": {"num_trials": 2, "pruning": {"enabled": False}},
    "replicate": {"top_k": 1, "seeds": [42, 7]},
    "tracking.enabled": False,
}
"""Seconds in this process; the default experiment's other values stay."""
