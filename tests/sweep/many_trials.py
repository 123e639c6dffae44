"""Run a sweep of many short trials on a cluster of several nodes, all on this machine.

    python many_trials.py NUM_NODES NUM_TRIALS FOLDER

Prints what it cost the driver as JSON. A process of its own: its memory is the driver's alone.
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import ray
from ray.cluster_utils import Cluster
from tiny_sweep import read_json_records, tiny_experiment

from sg_ray.records.events import Event
from sg_ray.sweep.execute.tune_executor import TuneExecutor
from sg_ray.sweep.run import run_sweep

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
WARM_UP = 0.2
"""After this share of the trials the driver's memory counts: before, it loads what it needs."""


class Watch:
    """What the driver had taken after some of the trials, and how many ran at once."""

    def __init__(self, num_trials: int) -> None:
        self.first, self.num_trials = int(WARM_UP * num_trials), num_trials
        self.bytes: list[int] = []
        self.num_running = self.num_at_once = 0
        self.counts = Counter[str]()

    def __call__(self, event: Event) -> None:
        self.counts[event.type] += 1
        if event.type == "trial_started":
            self.num_running += 1
            self.num_at_once = max(self.num_at_once, self.num_running)
        if event.type == "trial_finished":
            self.num_running -= 1
            if self.counts[event.type] in (self.first, self.num_trials):
                self.bytes.append(psutil.Process().memory_info().rss)


def main(num_nodes: int, num_trials: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    for _ in range(num_nodes):
        cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    experiment = tiny_experiment(
        folder,
        families=["lexical"],
        models={},
        data={"source": "synthetic", "num_samples": 120},
        replicate={"top_k": 1, "seeds": list(range(1, num_trials + 1))},
        tracking={"enabled": False},
    )
    watch, driver = Watch(num_trials), psutil.Process()
    began_s, began_cpu_s = time.monotonic(), sum(driver.cpu_times()[:2])
    outcome = run_sweep(experiment, executor=TuneExecutor("auto"), listeners=(watch,))
    took_s, driver_s = time.monotonic() - began_s, sum(driver.cpu_times()[:2]) - began_cpu_s
    assert outcome.problems == [], outcome.problems[:3]
    records = read_json_records(experiment.folder.path)
    grown = (watch.bytes[-1] - watch.bytes[0]) / (num_trials - watch.first) / 1024
    found = {
        "num_done": len(records),
        "took_s": took_s,
        "driver_s": driver_s,
        "kib_a_trial": grown,
        "num_at_once": watch.num_at_once,
        "num_lost": watch.counts["job_lost"],
        "num_hosts": num_nodes,
    }
    print(json.dumps(found))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
