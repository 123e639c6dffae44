"""Run a sweep on a node that is announced to be taken away, while another one joins.

    python preempted_sweep.py FOLDER [NUM_WORKERS]

Prints its records' metrics and the types of its events as JSON. A process of its own: Ray's
cluster of several nodes on one machine is none that other tests may share.
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

import ray
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from tiny_sweep import read_json_records, tiny_experiment

from sg_ray.records.events import Event
from sg_ray.records.journal import read_events
from sg_ray.sweep.execute.tune_executor import TuneExecutor
from sg_ray.sweep.run import run_sweep

PREEMPTION = 2  # ray.autoscaler.DrainNodeReason
SECONDS_TO_LEAVE = 120
SETTINGS = ("families=[gnn]", "models.gnn.config.epochs=12", "data.num_samples=1200")


def main(folder: Path, num_workers: int) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    doomed, *_ = [cluster.add_node(num_cpus=1) for _ in range(num_workers)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    announced: list[Event] = []

    def announce(event: Event) -> None:
        if event.type == "epoch" and event.epoch == 2 and not announced:
            announced.append(event)
            cluster.add_node(num_cpus=1)
            deadline_ms = int(time.time() * 1000) + 1000 * SECONDS_TO_LEAVE
            gcs = GcsClient(address=cluster.address)
            accepted, reason = gcs.drain_node(doomed.node_id, PREEMPTION, "test", deadline_ms)
            assert accepted, reason

    workers = (
        f"resources.num_workers={num_workers}",
        "max_failures=0",
        "search.num_trials=1",
        "replicate.seeds=[42]",
    )
    experiment = tiny_experiment(folder, *SETTINGS, *(workers if num_workers > 1 else ()))
    outcome = run_sweep(experiment, executor=TuneExecutor("auto"), listeners=(announce,))
    assert outcome.problems == [], outcome.problems
    is_gone = not next(n["Alive"] for n in ray.nodes() if n["NodeID"] == doomed.node_id)
    records = read_json_records(experiment.folder.path)
    types = Counter(event.type for event in read_events(experiment.folder.events))
    print(json.dumps({"records": records, "events": types, "is_gone": is_gone}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
