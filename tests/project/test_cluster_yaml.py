"""cluster.yaml against Ray's own schema, and what must hold whatever else is changed in it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """The file as ``ray up`` sees it: with Ray's defaults filled in."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8")))


def test_ray_accepts_it(cluster):
    from ray.autoscaler._private.util import validate_config

    validate_config(cluster)


def test_dashboard_is_bound_to_loopback(cluster):
    starts = [c for c in cluster["head_start_ray_commands"] if "ray start" in c]
    assert starts
    assert all("--dashboard-host=127.0.0.1" in command for command in starts)
    assert "0.0.0.0" not in yaml.safe_dump(cluster)


def test_every_node_asks_for_the_token(cluster):
    assert cluster["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    starts = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if "ray start" in command)


def test_no_command_stops_ray(cluster):
    commands = [
        command
        for key, commands in cluster.items()
        if key.endswith("_commands")
        for command in commands
    ]
    assert commands
    assert not [command for command in commands if "ray stop" in command]


def test_head_takes_no_trials_and_workers_are_spot_a100s(cluster):
    types = dict(cluster["available_node_types"])
    head = types.pop(cluster["head_node_type"])
    assert head["resources"]["CPU"] == 0
    assert head["resources"]["driver"] > 0
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert worker["resources"]["accelerator_type:A100"] == 1
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert cluster["provider"]["cache_stopped_nodes"] is False


def test_mounted_files_exist(cluster):
    own = [path for path in cluster["file_mounts"].values() if not path.startswith("~")]
    assert not [path for path in own if not (ROOT / path).exists()]
    assert {"sg_ray", "experiments", "constraints.txt"} <= set(own)
