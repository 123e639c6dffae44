"""What is told of an address before a sweep joins it, by real sockets and real gRPC."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest
import ray
from ray._private.utils import compute_version_info
from ray.core.generated import gcs_service_pb2 as messages
from ray.core.generated import gcs_service_pb2_grpc as services

from sg_ray.cluster import ray_address
from sg_ray.cluster.ray_address import check_address
from sg_ray.errors import InputError

RAY, PYTHON = compute_version_info()
TOKEN = "0123456789abcdef" * 4
LIMIT_S = 60.0
"""Ten times what the slowest takes here."""


class Web(BaseHTTPRequestHandler):
    """Answers with an error, and logs none."""

    def log_message(self, format: str, *args: object) -> None:
        pass


class Head(services.NodeInfoGcsServiceServicer, services.InternalKVGcsServiceServicer):
    """Answers who it is, as a cluster's head does, to who has its token."""

    def __init__(self, token: str | None, ray_version: str, python_version: str) -> None:
        self.token, self.ray, self.python = token, ray_version, python_version

    def _check(self, context: grpc.ServicerContext) -> None:
        shown = dict(context.invocation_metadata()).get("authorization")
        if self.token is not None and shown != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken: missing or incorrect")

    def CheckAlive(self, request, context):  # noqa: N802 - gRPC's name
        self._check(context)
        return messages.CheckAliveReply(ray_version=self.ray)

    def InternalKVGet(self, request, context):  # noqa: N802
        self._check(context)
        told = {"ray_version": self.ray, "python_version": self.python}
        return messages.InternalKVGetReply(value=json.dumps(told).encode())


@contextmanager
def head(
    token: str | None = None, ray_version: str = RAY, python_version: str = PYTHON
) -> Iterator[str]:
    served = Head(token, ray_version, python_version)
    with grpc_server() as (server, address):
        services.add_NodeInfoGcsServiceServicer_to_server(served, server)
        services.add_InternalKVGcsServiceServicer_to_server(served, server)
        server.start()
        yield address


@contextmanager
def grpc_server() -> Iterator[tuple[grpc.Server, str]]:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what is told of an address, with a second's patience and none of our variables."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")

    def check(address: str) -> str:
        began_s = time.monotonic()
        with pytest.raises(InputError) as raised:
            check_address(address, patience_s=1)
        assert time.monotonic() - began_s < LIMIT_S
        return str(raised.value)

    return check


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_case_48_nobody_is_there(refusal: Callable[..., str]) -> None:
    place = f"127.0.0.1:{free_port()}"
    assert f"--address {place}: no Ray cluster answers at {place}. Start one" in refusal(place)


def test_case_48_the_cluster_asks_for_a_token(refusal: Callable[..., str]) -> None:
    with head(TOKEN) as place:
        told = refusal(place)
    assert "the cluster asks for a token: set RAY_AUTH_MODE=token, or --address auto" in told


def test_case_48_the_token_is_shown_and_may_be_refused(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_address, "_credentials", lambda _: {"authorization": f"Bearer {TOKEN}"})
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with head(TOKEN) as place:
        check_address(place)
    with head("another") as place:
        told = refusal(place)
    assert "refuses the token of this environment" in told
    assert TOKEN not in told


def test_case_48_another_version_is_named(refusal: Callable[..., str]) -> None:
    with head() as place:
        check_address(place)
    with head(ray_version="2.9.0") as place:
        told = refusal(place)
    assert f"runs Ray 2.9.0 and Python {PYTHON}, this environment has Ray {RAY}" in told
    with head(python_version="3.8.1") as place:
        assert f"runs Ray {RAY} and Python 3.8.1" in refusal(place)


def test_case_48_what_is_silent_is_waited_for_a_while_only(refusal: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        assert f"no Ray cluster answers at {place} within" in refusal(place)


def test_case_48_another_server_is_no_cluster(refusal: Callable[..., str]) -> None:
    """A dashboard speaks HTTP, Ray's client server gRPC, but neither is the head."""
    web = HTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    try:
        told = refusal(f"127.0.0.1:{web.server_port}")
    finally:
        web.shutdown()
        web.server_close()
        thread.join()
    assert "is no Ray cluster's head. Its port is 6379" in told
    with grpc_server() as (server, place):
        server.start()
        assert "is no Ray cluster's head. Its port is 6379" in refusal(place)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("nobody.invalid:6379", "no Ray cluster answers at nobody.invalid:6379 (there is no host"),
        ("127.0.0.1", "is neither HOST:PORT (such as 10.0.0.5:6379), nor auto, nor local"),
        ("127.0.0.1:99999", "is neither HOST:PORT"),
        ("", "--address '': is neither HOST:PORT"),
        ("a b:6379", "is neither HOST:PORT"),
        ("ray://head:10001", "a ray:// address is for Ray's client"),
        ("http://127.0.0.1:8265", "a http:// address is for its dashboard"),
    ],
)
def test_case_48_addresses_that_cannot_be(
    address: str, told: str, refusal: Callable[..., str]
) -> None:
    assert told in refusal(address)


def test_case_48_auto_says_where_it_found_the_address(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", place)
    assert f"--address auto: no Ray cluster answers at {place}" in refusal("auto")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert "RAY_ADDRESS=ray://head:10001: a ray:// address" in refusal("auto")
