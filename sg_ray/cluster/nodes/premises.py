"""What must hold wherever a trial of a sweep runs, looked at by the process that is to train it."""

import platform
from dataclasses import dataclass, field
from pathlib import Path

from sg_ray.cluster.nodes.node_question import read_trouble
from sg_ray.code_version import code_version
from sg_ray.errors import InfrastructureError


@dataclass(frozen=True)
class Premises:
    """The code with which the trials were planned, and the folder that all who train must see.

    ``token`` is a file in it that the driver has written, named as what it holds; None where all
    runs on one machine.
    """

    code_version: str = field(default_factory=code_version)
    token: Path | None = None

    def require_here(self) -> None:
        """Raise InfrastructureError, which names this machine, if they do not hold here."""
        host = platform.node()
        if (found := code_version()) != self.code_version:
            raise InfrastructureError(
                f"{host} has other code: version {found} of the code that decides the numbers, and "
                f"the trial was planned with {self.code_version}. Install the same on all machines."
            )
        if self.token is None:
            return
        if trouble := read_trouble(self.token, self.token.name):
            raise InfrastructureError(
                f"output_dir is not shared: {host} cannot read {self.token.parent} ({trouble}). "
                "Mount it there, or set output_dir to a folder that all nodes see."
            )
