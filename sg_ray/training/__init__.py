"""The training loop and its parts; knows nothing of Ray."""
