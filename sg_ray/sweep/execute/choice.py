"""Which executor a command names."""

from typing import TYPE_CHECKING, Literal, get_args

from sg_ray.cluster.chosen_address import LOCAL, chosen_address
from sg_ray.errors import InputError

if TYPE_CHECKING:
    from sg_ray.sweep.execute.executor import Executor

ExecutorName = Literal["tune", "inline"]
EXECUTORS: tuple[ExecutorName, ...] = get_args(ExecutorName)


def named_executor(name: ExecutorName, address: str | None = None) -> "Executor":
    """Return the executor of this name, on the machines of ``chosen_address``.

    Raises InputError for an ``address`` it has no use for.
    """
    if name == "tune":
        from sg_ray.sweep.execute.tune_executor import TuneExecutor

        return TuneExecutor(chosen_address(address))
    if address not in (None, LOCAL):
        raise InputError(
            f"--address {address}: the inline executor runs in this process, on no cluster. Leave "
            "--address out, or use --executor tune."
        )
    from sg_ray.sweep.execute.inline_executor import InlineExecutor

    return InlineExecutor()
