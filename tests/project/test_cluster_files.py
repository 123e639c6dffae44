"""The cluster files against Ray's own schema, and what must hold whatever else changes in them."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sg_ray.cluster.patience import PATIENCE

ROOT = Path(__file__).parents[2]
FILES = ("cluster.yaml", "clusters/gcp.yaml", "clusters/own-machines.yaml")
CLOUDS = FILES[:2]
# What KubeRay's definition of a RayJob knows of what may stand there (ray.io/v1 of KubeRay 1.6).
JOB_FIELDS = {
    *("activeDeadlineSeconds", "backoffLimit", "deletionStrategy", "entrypoint", "jobId"),
    *("entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "metadata", "managedBy"),
    *("rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "suspend"),
    *("submitterConfig", "submitterPodTemplate", "ttlSecondsAfterFinished", "clusterSelector"),
}
CLUSTER_FIELDS = {
    *("authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions"),
    *("headGroupSpec", "headServiceAnnotations", "managedBy", "rayVersion", "suspend"),
    "workerGroupSpecs",
}
HEAD_FIELDS = {"enableIngress", "headService", "rayStartParams", "serviceType", "template"}
WORKER_FIELDS = {
    *("groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "idleTimeoutSeconds"),
    *("rayStartParams", "scaleStrategy", "suspend", "template"),
}

STARTS = ("head_start_ray_commands", "worker_start_ray_commands")


def prepared(name: str) -> dict[str, Any]:
    """A file as ``ray up`` sees it: with Ray's defaults filled in."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(yaml.safe_load((ROOT / name).read_text(encoding="utf-8")))


def starts(cluster: dict[str, Any]) -> list[str]:
    """The commands that start Ray, on the head and on a worker."""
    found = [one for key in STARTS for one in cluster[key] if "ray start" in one]
    assert len(found) == 2
    return found


@pytest.fixture(scope="module", params=FILES)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return prepared(request.param)


@pytest.fixture(scope="module")
def rayjob() -> dict[str, Any]:
    return kubernetes()["RayJob"]


def kubernetes() -> dict[str, Any]:
    """The objects of the files for Kubernetes by kind."""
    names = ("clusters/kuberay.yaml", "clusters/kuberay-files.yaml")
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in names]
    return {one["kind"]: one for text in texts for one in yaml.safe_load_all(text)}


def test_ray_accepts_it(cluster):
    from ray.autoscaler._private.util import validate_config

    validate_config(cluster)


def test_dashboard_is_bound_to_loopback(cluster):
    assert "--dashboard-host=127.0.0.1" in starts(cluster)[0]
    assert "0.0.0.0" not in yaml.safe_dump(cluster)


def test_every_node_asks_for_the_token(cluster):
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert all(" RAY_AUTH_MODE=token " in command for command in starts(cluster))


def test_every_node_is_as_patient_as_the_driver(cluster):
    for command in starts(cluster):
        assert PATIENCE.items() <= dict(re.findall(r"(RAY_\w+)=(\S+)", command)).items()


def test_no_command_stops_ray_and_a_low_limit_of_files_keeps_none_from_starting(cluster):
    commands = [c for key, found in cluster.items() if key.endswith("_commands") for c in found]
    assert not [command for command in commands if "ray stop" in command]
    assert all("(ulimit -n $(ulimit -Hn);" in command for command in starts(cluster))


def test_only_the_autoscaler_that_starts_workers_is_used_on_own_machines():
    assert " RAY_enable_autoscaler_v2=0 " in starts(prepared("clusters/own-machines.yaml"))[0]


def test_mounted_files_exist_and_make_a_project(cluster):
    own = {to: path for to, path in cluster["file_mounts"].items() if not path.startswith("~")}
    assert own == {f"~/sg-ray/{path}": path for path in own.values()}
    assert not [path for path in own.values() if not (ROOT / path).exists()]
    assert {"sg_ray", "experiments", "search_spaces", "constraints.txt", "clusters"} <= {
        *own.values()
    }


def test_scripts_that_are_named_exist(cluster):
    commands = [c for key, found in cluster.items() if key.endswith("_commands") for c in found]
    named = re.findall(r"~/sg-ray/(clusters/\S+)", "\n".join(commands))
    assert "clusters/set-up.sh" in named
    assert not [path for path in named if not (ROOT / path).is_file()]


@pytest.mark.parametrize("script", sorted((ROOT / "clusters").glob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_read_by_bash(script):
    subprocess.run(["bash", "-n", script], check=True)
    first = script.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("#!/usr/bin/env bash") or script.name == "head-shell.sh"


@pytest.mark.parametrize("name", CLOUDS)
def test_head_takes_no_trials_and_workers_are_a100s_as_many_as_wanted(name):
    cluster = prepared(name)
    types = dict(cluster["available_node_types"])
    assert types.pop(cluster["head_node_type"])["resources"]["CPU"] == 0
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert worker["resources"]["accelerator_type:A100"] == 1


def test_workers_are_spot_machines_and_the_head_is_none():
    aws = prepared("cluster.yaml")["available_node_types"]
    assert aws["a100_spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in aws["head"]["node_config"]
    assert prepared("cluster.yaml")["provider"]["cache_stopped_nodes"] is False
    gcp = prepared("clusters/gcp.yaml")["available_node_types"]
    assert {"preemptible": True} in gcp["a100_spot"]["node_config"]["scheduling"]
    assert "scheduling" not in gcp["head"]["node_config"]


def test_aws_has_no_placeholder():
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    assert not re.search(r"SET-ME|FILE_SYSTEM|# yours|\bami-[0-9a-f]{8}", text)


@pytest.mark.parametrize(
    ("name", "count"), [("clusters/gcp.yaml", 1), (FILES[2], 4), ("clusters/kuberay-files.yaml", 1)]
)
def test_what_is_the_users_is_marked(name, count):
    assert (ROOT / name).read_text(encoding="utf-8").count("# yours") == count


def test_shells_of_the_head_know_the_cluster_that_it_starts(cluster):
    port = re.search(r"--port=(\d+)", starts(cluster)[0]).group(1)
    shell = (ROOT / "clusters/head-shell.sh").read_text(encoding="utf-8")
    assert f"export RAY_ADDRESS=127.0.0.1:{port}\n" in shell


def test_rayjob_runs_the_same_command_and_goes(rayjob):
    import ray

    spec = rayjob["spec"]
    assert rayjob["apiVersion"] == "ray.io/v1"
    shell, option, line = shlex.split(spec["entrypoint"])
    assert (shell, option) == ("bash", "-c")
    assert " .venv/bin/python experiments/sweep.py experiments/prod_a100.yaml " in line
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["rayClusterSpec"]["rayVersion"] == ray.__version__
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    python = yaml.safe_load(spec["runtimeEnvYAML"])["py_executable"]
    assert python == "/shared/sg-ray/.venv/bin/python"


def test_kuberay_knows_every_field(rayjob):
    spec = rayjob["spec"]
    cluster = spec["rayClusterSpec"]
    assert spec.keys() <= JOB_FIELDS
    assert cluster.keys() <= CLUSTER_FIELDS
    assert cluster["headGroupSpec"].keys() <= HEAD_FIELDS
    for group in cluster["workerGroupSpecs"]:
        assert group.keys() <= WORKER_FIELDS
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    values = [value for group in groups for value in group["rayStartParams"].values()]
    assert values == ["0"]  # texts: a number is refused


def test_pods_of_a_rayjob_are_alike_but_for_the_gpu(rayjob):
    import ray

    cluster = rayjob["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] == 0 < workers["maxReplicas"]
    volume = kubernetes()["PersistentVolumeClaim"]
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], workers)]
    for pod in pods:
        (container,), (install,) = pod["containers"], pod["initContainers"]
        assert (
            container["image"] == install["image"] == f"rayproject/ray:{ray.__version__}-py312-gpu"
        )
        environment = {one["name"]: one["value"] for one in container["env"]}
        assert PATIENCE.items() <= environment.items()
        assert environment["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
        claims = [one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["volumes"]]
        assert volume["metadata"]["name"] in claims
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {one["name"] for one in pod["volumes"]}
    limits = [pod["containers"][0]["resources"]["limits"] for pod in pods]
    assert ["nvidia.com/gpu" in limit for limit in limits] == [False, True]


def test_files_get_onto_the_volume_by_a_pod_with_the_rights_of_the_others(rayjob):
    pod, volume = kubernetes()["Pod"]["spec"], kubernetes()["PersistentVolumeClaim"]
    head = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert volume["spec"]["storageClassName"]  # a default class often cannot be shared
    ((claim,), (container,)) = pod["volumes"], pod["containers"]
    assert claim in head["volumes"]
    assert container["volumeMounts"][0] in head["containers"][0]["volumeMounts"]
    assert head["securityContext"].items() <= pod["securityContext"].items()


@pytest.mark.parametrize("python", ["python3", "another-python"])
def test_the_python_that_a_cluster_installs_with_can_be_named(python, tmp_path):
    programs, home = tmp_path / "bin", tmp_path / "home"
    (home / "sg-ray").mkdir(parents=True)
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").touch()
    (home / "sg-ray" / "Makefile").write_text(
        "PYTHON ?= python3\ninstall:\n\t@echo installs with $(PYTHON)\n"
    )
    programs.mkdir()
    (programs / python).write_text("#!/bin/sh\n")  # has venv; `sudo` there is none
    (programs / python).chmod(0o755)
    for program in ("bash", "chmod", "echo", "make", "sh"):
        (programs / program).symlink_to(Path("/usr/bin") / program)
    environment = {"HOME": str(home), "PATH": str(programs)}
    if python != "python3":
        environment["PYTHON"] = python
    script = ["bash", ROOT / "clusters/set-up.sh"]
    done = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert done.stdout == f"installs with {python}\n", done.stderr
