"""What `ray up cluster.yaml` asks of EC2, recorded by moto's server, which answers as AWS does.

All of it runs on a host without a network, where the server also is 169.254.169.254: whom a machine
on AWS asks about itself. No machine is there in the end, so `ray up` gives up at ssh.
"""

import base64
import json
import os
import sys
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hosts import Host, hosts
from lab import ROOT, Line, missing_namespaces, missing_programs

TITLE = "what `ray up cluster.yaml` asks of AWS for a head and for a worker"
PARTS: tuple[str, ...] = ()

_SERVER = "169.254.169.254"
"""Of the metadata service; moto serves all else at the same address."""
_LIMIT_S = 200.0
_RECORDING = "requests.jsonl"

_CREATE_WORKER = """
import sys
import yaml
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.tags import NODE_KIND_WORKER, TAG_RAY_NODE_KIND

config = yaml.safe_load(open(sys.argv[1]))
provider = AWSNodeProvider(config["provider"], config["cluster_name"])
kind = config["available_node_types"]["a100_spot"]
provider.create_node(kind["node_config"], {TAG_RAY_NODE_KIND: NODE_KIND_WORKER}, 1)
"""
"""What the autoscaler on the head does once trials wait."""

_PREPARE_ROLE = """
import boto3

iam, name = boto3.client("iam"), "ray-autoscaler-v1"
iam.create_instance_profile(InstanceProfileName=name)
iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
"""

_BOOTSTRAP = """
import json, sys
from pathlib import Path
import yaml
from ray.autoscaler._private.commands import _bootstrap_config

resolved = _bootstrap_config(yaml.safe_load(Path("cluster.yaml").read_text()))
Path(sys.argv[1]).write_text(json.dumps(resolved))
"""
"""What `ray up` copies to the head as ray_bootstrap_config.yaml."""


def missing() -> str | None:
    """Return what this machine lacks."""
    return missing_programs("curl", "ssh", "sed") or missing_namespaces()


def run(folder: Path, parts: Collection[str] = ()) -> Iterator[Line]:
    """Ask for a head as the laptop does, then for a worker as the head does; read the requests."""
    del parts
    with hosts("awslab", 1, shared=folder) as (host,), _moto(host, folder):
        home = folder / "home"
        (home / ".ray").mkdir(parents=True)
        (home / ".ray" / "auth_token").write_text("0" * 64)
        aws = _Aws(host, home)
        aws.prepare_role()
        ray = Path(sys.executable).parent / "ray"
        ended = aws.run([ray, "up", "-y", "cluster.yaml"], check=False)
        told = "Launched instance" in ended
        yield Line("ray up", "launches an instance" if told else ended[-500:], is_ok=told)
        aws.run([sys.executable, "-c", _BOOTSTRAP, home / "ray_bootstrap_config.yaml"])
        aws.run(["bash", "clusters/aws-image.sh"])
        aws.run([sys.executable, "-c", _CREATE_WORKER, home / "autoscaling.yaml"])
        head, worker = _requests(folder, "RunInstances")
        yield from _of_head(head)
        yield from _of_worker(worker)
        (firewall,) = _requests(folder, "AuthorizeSecurityGroupIngress")
        yield _of_firewall(firewall)
        said = json.dumps([head, worker, firewall])
        names = [word for word in ("SET-ME", "YOUR", "my-", "FILL") if word in said]
        yield Line("placeholders", ", ".join(names) or "none", is_ok=not names)


def _requests(folder: Path, action: str) -> list[dict[str, str]]:
    """Return the recorded requests of a kind, in order, each by parameter."""
    lines = (folder / _RECORDING).read_text(encoding="utf-8").splitlines()
    bodies = [base64.b64decode(json.loads(line)["body"]).decode() for line in lines]
    found = [dict(urllib.parse.parse_qsl(body)) for body in bodies]
    return [one for one in found if one.get("Action") == action]


def _of_head(request: Mapping[str, str]) -> Iterator[Line]:
    image = request["ImageId"]
    yield Line("image of the head", image, is_ok=image.startswith("resolve:ssm:/aws/service/"))
    market = request.get("InstanceMarketOptions.MarketType", "on demand")
    what = f"{request['InstanceType']}, {market}"
    yield Line("the head", what, is_ok=what == "m6i.2xlarge, on demand")


def _of_worker(request: Mapping[str, str]) -> Iterator[Line]:
    image = request["ImageId"]
    yield Line("image of a worker", f"{image}, the head's own", is_ok=image == "ami-moto-virtual")
    market = request.get("InstanceMarketOptions.MarketType", "on demand")
    what = f"{request['InstanceType']}, {market}"
    yield Line("a worker", what, is_ok=what == "p4d.24xlarge, spot")


def _of_firewall(request: Mapping[str, str]) -> Line:
    """Find what the world may reach: rules with addresses, not with a group of machines."""
    rules = {name.split(".")[1] for name in request if name.startswith("IpPermissions.")}
    ports = [
        f"{request[f'IpPermissions.{rule}.FromPort']}-{request[f'IpPermissions.{rule}.ToPort']}"
        for rule in sorted(rules)
        if any(name.startswith(f"IpPermissions.{rule}.IpRanges") for name in request)
    ]
    return Line("open to the world", f"ports {', '.join(ports)}", is_ok=ports == ["22-22"])


class _Aws:
    """Commands of a user whose AWS is moto's server."""

    def __init__(self, host: Host, home: Path) -> None:
        self._host = host
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_ENDPOINT_URL": f"http://{_SERVER}",
            "AWS_DEFAULT_REGION": "us-west-2",
            "AUTOSCALER_NODE_START_WAIT_S": "1",  # for ssh, which nobody answers
        }

    def run(self, command: list[str | Path], *, check: bool = True) -> str:
        """Run a command in the checkout; return what it printed. Raises RuntimeError."""
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        whole = ["env", "-i", "-C", ROOT, *variables, *command]
        return self._host.run(whole, timeout_s=_LIMIT_S, check=check)

    def prepare_role(self) -> None:
        """Make the role that Ray makes in an account at its first start, and then waits for."""
        self.run([sys.executable, "-c", _PREPARE_ROLE])


@contextmanager
def _moto(host: Host, folder: Path) -> Iterator[None]:
    """Run moto's server on the host."""
    host.run(["ip", "address", "add", f"{_SERVER}/32", "dev", "lo"])
    record = {"MOTO_ENABLE_RECORDING": "1", "MOTO_RECORDER_FILEPATH": str(folder / _RECORDING)}
    command = [Path(sys.executable).parent / "moto_server", "-H", _SERVER, "-p", "80"]
    with (folder / "moto.log").open("wb") as log:
        server = host.popen(command, env={**os.environ, **record}, stdout=log, stderr=log)
    try:
        wait = ["--retry", "100", "--retry-delay", "1", "--retry-connrefused"]
        host.run(["curl", "-s", *wait, f"http://{_SERVER}/moto-api/"], timeout_s=_LIMIT_S)
        yield
    finally:
        server.kill()
        server.wait()
