"""The errors a user sees, each with the exit code of the command that meets it."""


class SgRayError(Exception):
    """Base of every error whose message is written for the user."""

    exit_code = 1


class InputError(SgRayError):
    """Bad input. The message names the file, line, key or limit, and what to do next."""

    exit_code = 2


class InfrastructureError(SgRayError):
    """A process, a machine or what is installed there is at fault, not what was to be done.

    A trial that meets it is tried again; what is on record of it is taken back by a later start.
    """


class TrainingError(SgRayError):
    """Training could not go on. Trying again would end the same way."""

    exit_code = 1


class Diverged(TrainingError):  # noqa: N818 - the name is a kind of failure in run records
    """Loss, gradient or logits are not finite."""


class Collapsed(TrainingError):  # noqa: N818 - likewise
    """The model gives every sample the same answer, and has done so for too long."""


class OutOfMemory(TrainingError):  # noqa: N818 - likewise
    """Memory does not hold one pass, however small the pieces."""
