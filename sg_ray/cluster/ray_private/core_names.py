"""Private names of Ray itself."""

import ray
from ray._private import services, worker
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.state import state
from ray._private.utils import compute_version_info
from ray.core.generated import gcs_pb2 as gcs_messages
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

raylet = ray._raylet

__all__ = [
    "compute_version_info",
    "gcs_messages",
    "gcs_service_pb2",
    "gcs_service_pb2_grpc",
    "maybe_enable_token_auth_if_token_available",
    "raylet",
    "services",
    "state",
    "worker",
]
