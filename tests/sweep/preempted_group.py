"""Train a gnn on two nodes, of which one is announced to be taken away after the second epoch.

    python preempted_group.py FOLDER

Prints the trial's history as JSON, with the number of workers at the end. A process of its own:
Ray's cluster of several nodes on one machine is none that other tests may share.
"""

import json
import socket
import sys
import time
from pathlib import Path

import ray
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from tiny_sweep import tiny_experiment

from sg_ray.single.train_one import prepare_training, train_once
from sg_ray.training.loop import EpochResult

PREEMPTION = 2  # ray.autoscaler.DrainNodeReason
SECONDS_TO_NOTICE = 8
SECONDS_TO_LEAVE = 20


def main(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dashboard = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}
    head = {"num_cpus": 1, **dashboard}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    doomed = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)

    def announce(epoch: EpochResult) -> None:
        if epoch.epoch == 2:
            deadline_ms = int(time.time() * 1000) + 1000 * SECONDS_TO_LEAVE
            gcs = GcsClient(address=cluster.address)
            accepted, reason = gcs.drain_node(doomed.node_id, PREEMPTION, "test", deadline_ms)
            assert accepted, reason
            time.sleep(SECONDS_TO_NOTICE)  # the workers wait for the next epoch to be asked for

    experiment = tiny_experiment(
        folder,
        "models.gnn.config.dropout=0",
        "models.gnn.config.epochs=5",
        "resources.num_workers=2",
        "resources.min_workers=1",
    )
    training = prepare_training(experiment, "gnn", 42, folder / "preempted")
    record = train_once(training, on_epoch=announce)
    metadata = json.loads((folder / "preempted/training_metadata.json").read_text())
    num_workers = metadata["environment"]["num_workers"]
    print(json.dumps({"history": record.history, "num_workers": num_workers}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
