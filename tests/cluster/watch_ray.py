"""Tells of a cluster, on one of its nodes: a line of JSON for each line that it reads."""

import json
import logging
import os
import sys

import ray
from ray.util import placement_group_table


def main() -> None:
    """Answer until there are no more questions."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray tells of nodes that died on standard output
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    for _ in sys.stdin:
        nodes = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
        groups = [one for one in placement_group_table().values() if one["state"] != "REMOVED"]
        told = {"nodes": nodes, "num_placement_groups": len(groups)}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()
