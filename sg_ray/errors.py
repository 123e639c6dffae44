"""The errors a user sees, each with the exit code of the command that meets it."""


class SgRayError(Exception):
    """Base of every error whose message is written for the user."""

    exit_code = 1


class InputError(SgRayError):
    """Bad input. The message names the file, line, key or limit, and what to do next."""

    exit_code = 2


class TrainingError(SgRayError):
    """Training could not go on (diverged, out of memory, broken checkpoint)."""

    exit_code = 1
