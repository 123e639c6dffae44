"""How long the parts of a cluster wait for each other when the network between them is silent."""

from collections.abc import Mapping
from types import MappingProxyType

PATIENCE: Mapping[str, str] = MappingProxyType(
    {
        # The head asks each node every 3 s, waits 10 s, and counts: 2.5 minutes, for Ray's one.
        "RAY_health_check_failure_threshold": "12",
        # So long a node looks for a silent head before it ends itself; Ray has 60.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "180",
        # So long a connection is kept without a sign of life; Ray has 20000. Once it is closed, the
        # answer of a step that ran meanwhile is lost, and the trial hangs although its node lives.
        "RAY_grpc_keepalive_timeout_ms": "120000",
    }
)
"""Ray's variables, the same for head, nodes and driver: a link may be down for 30 s.

``cluster.yaml``, ``clusters/`` and the script of ``sg-ray slurm`` set them where they start nodes.
A node that is killed is noticed within seconds all the same: its connections are reset.
"""
