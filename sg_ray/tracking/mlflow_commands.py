"""MLflow's own commands, to print. They run as printed; credentials come from the environment."""

import shlex

from sg_ray.commands import beside_python
from sg_ray.tracking.address import WHOLE_URI, Address


def command(program: str, *arguments: str) -> str:
    """Return a command line for a program of this environment, e.g. mlflow or pip."""
    return shlex.join([beside_python(program) or program, *arguments])


def mlflow_command(address: Address, *arguments: str) -> str:
    """Return a command line for MLflow's own program, told where the store is."""
    if address.has_hidden_credentials and not address.is_server:
        return command("mlflow", *arguments)
    uri = address.page if address.is_server else address.shown
    return f"{WHOLE_URI}={shlex.quote(uri)} {command('mlflow', *arguments)}"
