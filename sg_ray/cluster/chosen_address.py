"""Which Ray a command uses: the one that it names, else RAY_ADDRESS's, else one of its own.

A Ray that happens to run on the machine is not joined. RAY_ADDRESS is an instruction: what starts a
cluster (``cluster.yaml``, ``clusters/``, ``ray job submit``) sets it where sweeps are started.
"""

import os

LOCAL = "local"
"""The address that starts a Ray of this machine's own."""

_VARIABLE = "RAY_ADDRESS"


def chosen_address(given: str | None) -> str:
    """Return the address to use: the ``given`` one, else that of RAY_ADDRESS, else ``local``."""
    return os.environ.get(_VARIABLE) or LOCAL if given is None else given


def shown_address(address: str) -> str:
    """Return how messages name an address: after the variable, if it says so, or the option."""
    if address and address == os.environ.get(_VARIABLE):
        return f"{_VARIABLE}={address}"
    return f"--address {address or repr(address)}"
