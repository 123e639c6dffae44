"""A sweep: what is left to do (plan), who does it (Ray Tune), and what was done (records)."""

import os

# Read when ray.train is imported: a leftover of 0 would bring another API.
os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
