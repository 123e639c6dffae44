"""Ray: sessions, addresses, groups of workers, what goes wrong with them."""

import os

# Read when ray.train is imported: a leftover of 0 would bring another API.
os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
