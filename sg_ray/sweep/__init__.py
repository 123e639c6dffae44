"""A sweep: what is left to do (plan), who does it (Ray Tune), and what was done (records)."""

import os

os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
"""Read when ``ray.train`` is imported: a leftover of 0 would bring another API."""
