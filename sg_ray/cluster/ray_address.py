"""Whether a Ray cluster that can be joined answers at an address: known in seconds, in plain words.

Ray's own client tries an address for a quarter of an hour and writes to the console meanwhile. So
its head is asked first, by one plain question with a deadline: who it is.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import ray.exceptions  # a file ray.py in the way is told as what it is
from ray.exceptions import AuthenticationError

from sg_ray.cluster.chosen_address import LOCAL, shown_address
from sg_ray.cluster.ray_private.core_names import (
    compute_version_info,
    maybe_enable_token_auth_if_token_available,
    raylet,
    services,
)
from sg_ray.cluster.ray_private.core_names import gcs_service_pb2 as messages
from sg_ray.cluster.ray_private.core_names import gcs_service_pb2_grpc as stubs
from sg_ray.errors import InputError

PATIENCE_S = 12.0
"""For an answer; a head under load takes a second or two."""

_PATIENCE_NEARBY_S = 5.0
_DIRECTLY = [("grpc.enable_http_proxy", 0)]

_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")
_SECRET_PLACES = "RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"


@dataclass(frozen=True)
class _Versions:
    ray: str
    python: str

    def __str__(self) -> str:
        return f"Ray {self.ray} and Python {self.python}"


def check_address(address: str, *, patience_s: float = PATIENCE_S) -> None:
    """Raise InputError unless a cluster answers at ``address`` that this process can join.

    ``local`` asks for none. ``auto`` is looked for as Ray does: RAY_ADDRESS, then this machine.
    A process that has joined one already asks nobody.
    """
    is_joined = ray.is_initialized()
    if address == LOCAL or (is_joined and address == "auto"):
        return
    with _quiet():
        place = _find(address)
    if is_joined:
        return
    shown = shown_address(address)
    with grpc.insecure_channel(place, options=_DIRECTLY) as channel:
        try:
            versions = _ask(channel, _credentials(shown), patience_s)
        except grpc.RpcError as error:
            raise InputError(f"{shown}: {_no_answer(place, error)}") from error
    mine = _Versions(*compute_version_info())
    if versions is not None and not _fits(versions, mine):
        raise InputError(
            f"{shown}: the cluster at {place} runs {versions}, this environment has {mine}; they "
            f"must be the same. Start the cluster from this environment, or install "
            f"ray=={versions.ray} under Python {versions.python} here."
        )


def describe_cluster(address: str) -> str:
    """Return where the cluster at ``address`` is and what it has now.

    E.g. ``10.0.0.5:6379, 3 nodes, 96 CPUs, 8 GPUs``. Raises InputError as ``check_address``, which
    has been asked before.
    """
    place, nodes = ask_for_nodes(address)
    counts: list[tuple[float, str]] = [(len(nodes), "node")]
    counts += [(sum(node.get(name, 0) for node in nodes), name) for name in ("CPU", "GPU")]
    return ", ".join([place, *(f"{n:g} {noun}{'' if n == 1 else 's'}" for n, noun in counts)])


def ask_for_nodes(address: str) -> tuple[str, list[dict[str, float]]]:
    """Return the HOST:PORT of the cluster at ``address``, and what each living node of it has.

    The cluster is not joined; one that this process has joined is asked through Ray. Raises
    InputError as ``check_address``.
    """
    if ray.is_initialized():
        place: str = ray.get_runtime_context().gcs_address
        return place, [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with _quiet():
        place = _find(address)
    shown = shown_address(address)
    with grpc.insecure_channel(place, options=_DIRECTLY) as channel:
        try:
            return place, _ask_for_nodes(channel, _credentials(shown))
        except grpc.RpcError as error:
            raise InputError(f"{shown}: {_no_answer(place, error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to this module's own words: Ray advises on the console, too."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def is_answered(place: str) -> bool:
    """Return True if a cluster answers at HOST:PORT, be it only to refuse."""
    with grpc.insecure_channel(place, options=_DIRECTLY) as channel:
        try:
            _ask(channel, {}, _PATIENCE_NEARBY_S)
        except grpc.RpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAUTHENTICATED)
    return True


def _find(address: str) -> str:
    """Return HOST:PORT. Raises InputError for what is none, or if ``auto`` finds nothing."""
    if address != "auto":
        return _checked(address, shown_address(address))
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # as joining by auto does
    given = os.environ.get("RAY_ADDRESS", "")
    if given not in ("", "auto", "local"):
        return _checked(given, f"--address auto: RAY_ADDRESS={given}")
    try:
        found: str | None = services.canonicalize_bootstrap_address("auto")
    except (ConnectionError, ValueError, OSError):
        found = None
    if found is None:
        raise InputError(
            f"{shown_address(address)}: no Ray cluster runs on this machine. Start one (ray start "
            "--head, or ray up cluster.yaml), or use this machine alone: --address local."
        )
    return found


def _checked(address: str, shown: str) -> str:
    scheme, separator, _ = address.partition("://")
    if separator:
        whose = {"ray": "Ray's client", "http": "its dashboard", "https": "its dashboard"}
        raise InputError(
            f"{shown}: a {scheme}:// address is for {whose.get(scheme, 'something else')}, and a "
            "sweep joins the cluster itself. Give the head as HOST:PORT (ray start prints it; the "
            "port is 6379 unless another was set), run there with --address auto, or use this "
            "machine alone: --address local."
        )
    parts = _HOST_AND_PORT.fullmatch(address)
    if parts is None or not 0 < int(parts["port"]) < 2**16:
        raise InputError(
            f"{shown}: is neither HOST:PORT (such as 10.0.0.5:6379), nor auto, nor local (this "
            "machine alone)."
        )
    return address


def _credentials(shown: str) -> Mapping[str, str]:
    """Return what Ray would show the cluster: its token, if RAY_AUTH_MODE says so."""
    try:
        tokens = raylet.AuthenticationTokenLoader.instance()
        return dict(tokens.get_token_for_http_header()) if tokens.has_token() else {}
    except AuthenticationError as error:
        raise InputError(
            f"{shown}: RAY_AUTH_MODE={os.environ.get('RAY_AUTH_MODE')} asks for a token, and there "
            f"is none: put the cluster's into {_SECRET_PLACES}."
        ) from error


def _ask(
    channel: grpc.Channel, credentials: Mapping[str, str], patience_s: float
) -> _Versions | None:
    """Return what the cluster runs; None if it does not say. Raises grpc.RpcError."""
    asked = {"timeout": patience_s, "metadata": tuple(credentials.items())}
    alive = stubs.NodeInfoGcsServiceStub(channel).CheckAlive(messages.CheckAliveRequest(), **asked)
    wanted = messages.InternalKVGetRequest(key=b"CLUSTER_METADATA", namespace=b"cluster")
    kept = stubs.InternalKVGcsServiceStub(channel).InternalKVGet(wanted, **asked).value
    try:
        python = str(json.loads(kept)["python_version"])
    except (ValueError, KeyError, TypeError):
        return None
    return _Versions(alive.ray_version, python)


def _ask_for_nodes(channel: grpc.Channel, credentials: Mapping[str, str]) -> list[dict[str, float]]:
    """Return the resources of each node that lives. Raises grpc.RpcError."""
    asked = {"timeout": PATIENCE_S, "metadata": tuple(credentials.items())}
    stub = stubs.NodeInfoGcsServiceStub(channel)
    found = stub.GetAllNodeInfo(messages.GetAllNodeInfoRequest(), **asked).node_info_list
    return [dict(node.resources_total) for node in found if node.state == node.ALIVE]


def _fits(theirs: _Versions, mine: _Versions) -> bool:
    """Compare as Ray does: the patch release of Python counts, unless a variable says otherwise."""
    level = os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "patch")
    num_parts = 2 if level == "minor" else 3
    same_python = theirs.python.split(".")[:num_parts] == mine.python.split(".")[:num_parts]
    return theirs.ray == mine.ray and same_python


def _no_answer(place: str, error: grpc.RpcError) -> str:
    """Return what it means that the question was not answered."""
    code, details = error.code(), str(error.details() or "")
    if code == grpc.StatusCode.UNAUTHENTICATED:
        return _refused(place)
    if code == grpc.StatusCode.UNIMPLEMENTED or "HTTP/2" in details:
        return (
            f"what answers at {place} is no Ray cluster's head. Its port is 6379 unless another "
            "was set (8265 is the dashboard's, 10001 that of Ray's client)."
        )
    reason = ""
    if "resolv" in details or "lookup" in details:
        reason = " (there is no host of that name)"
    elif code == grpc.StatusCode.DEADLINE_EXCEEDED:
        reason = f" within {PATIENCE_S:g} s"
    return (
        f"no Ray cluster answers at {place}{reason}. Start one (ray start --head, or ray up "
        "cluster.yaml), or use this machine alone: --address local."
    )


def _refused(place: str) -> str:
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return (
            "the cluster asks for a token: set RAY_AUTH_MODE=token, or --address auto (the token "
            f"is looked for in {_SECRET_PLACES})."
        )
    return (
        f"the cluster at {place} refuses the token of this environment. Put the one that `ray "
        f"get-auth-token` prints on its head into {_SECRET_PLACES}."
    )
