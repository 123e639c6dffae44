"""Ray for the length of a sweep: started here or joined, its chatter in a file."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from sg_ray.errors import InputError


@contextlib.contextmanager
def ray_session(address: str, *, log: Path, several_workers: bool) -> Iterator[None]:
    """Start Ray on this machine (``local``) or join a cluster; stop what was started here.

    Inside a process that runs Ray already, that one is used and left running.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # a relative pretrained=DIR stays right
    with _logged_to(log):
        if ray.is_initialized():
            yield
            return
        try:
            ray.init(address=address, **_settings(address, several_workers))
        except Exception as error:  # a bare one if a node does not start in time
            raise InputError(
                f"--address {address}: no Ray cluster answers there ({_first_line(error)}). "
                "Start one with ray up cluster.yaml, or leave --address out to use this machine."
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _settings(address: str, several_workers: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        # Train frees the workers' placement groups with the help of the state service, which
        # comes with the dashboard.
        settings |= {"include_dashboard": several_workers, "dashboard_host": "127.0.0.1"}
    return settings


@contextlib.contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """Send what Ray logs in this process to a file instead of the console."""
    logger = logging.getLogger("ray")
    before, propagate = list(logger.handlers), logger.propagate
    handler = _QuietFile(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before, propagate
        with contextlib.suppress(OSError):
            handler.close()


class _QuietFile(logging.FileHandler):
    """A log file that says nothing of its own on the console when the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Let the record go."""
