"""A trial's epochs, whoever trains them: this process alone, or a group of workers.

The one place that decides it. Ray is imported for groups only.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sg_ray.cluster.losses import GroupFailure, infrastructure_failure
from sg_ray.cluster.nodes.premises import Premises
from sg_ray.config import Resources
from sg_ray.errors import InfrastructureError, SgRayError
from sg_ray.features.packed import Features
from sg_ray.host.processes import ender
from sg_ray.host.signals import StopRequest, stopping
from sg_ray.sweep_folder import RAY_LOG, SweepFolder
from sg_ray.training.loop import EpochResult, ShouldStop, never
from sg_ray.training.saving import AT_EPOCHS, Saving
from sg_ray.trial.context import TrialContext
from sg_ray.trial.run import run_trial
from sg_ray.trial.spec import TrialSpec
from sg_ray.trial.stacked import run_in_its_row

if TYPE_CHECKING:
    from sg_ray.cluster.groups.group import WorkerGroup


@dataclass(frozen=True)
class Supplies:
    """What the trials of a process are given, whatever their configurations.

    ``features_ref`` is where ``features`` lie in Ray's object store, for groups of workers to read.
    A group whose processes or machines die starts again up to ``max_failures`` times. Positions are
    saved each ``checkpoint_every_s``, and at the end of each epoch.
    """

    features: Features
    cache_dir: Path
    max_failures: int = 0
    features_ref: Any = None
    checkpoint_every_s: float | None = None
    premises: Premises = field(default_factory=Premises)

    def context(self, takes: Resources) -> TrialContext:
        """Return what a trial that ``takes`` so much computes with in this process."""
        return TrialContext.of(takes, self.features, self.cache_dir)


def open_epochs(
    spec: TrialSpec,
    takes: Resources,
    supplies: Supplies,
    folder: Path,
    *,
    should_stop: ShouldStop,
    saving: Saving = AT_EPOCHS,
    board: Any = None,
    stack: Mapping[str, Any] | None = None,
) -> "Generator[EpochResult] | WorkerGroup":
    """Return the epochs of a trial in ``folder``; none is computed before it is asked for.

    ``saving`` is of a process alone, as often as ``supplies`` say; a group's folder is one that
    outlives its machines. Its workers also hear the actor of the driver's ``StopBoard``; Ray must
    be initialised. To be closed. ``stack`` is on record of one that was trained in a stack.
    """
    if stack is not None:
        return run_in_its_row(spec, supplies.context(takes), folder, stack)
    if not takes.is_group:
        saving = replace(saving, every_s=supplies.checkpoint_every_s)
        return run_trial(
            spec, supplies.context(takes), folder, should_stop=should_stop, saving=saving
        )
    import ray

    from sg_ray.cluster.groups.group import WorkerGroup

    return WorkerGroup(
        spec,
        takes,
        features_ref=supplies.features_ref or ray.put(supplies.features),
        cache_dir=supplies.cache_dir.absolute(),
        folder=folder,
        should_stop=should_stop,
        board=board,
        max_failures=supplies.max_failures,
        checkpoint_every_s=supplies.checkpoint_every_s,
        premises=supplies.premises,
    )


def epochs_here(
    spec: TrialSpec,
    takes: Resources,
    supplies: Supplies,
    folder: SweepFolder,
    request: StopRequest | None = None,
    *,
    stack: Mapping[str, Any] | None = None,
) -> Generator[EpochResult]:
    """Yield the epochs of a trial without a sweep; a group gets a Ray of this machine's own.

    ``request`` asks for a stop: Interrupted, with the position saved. ``stack`` as of
    ``open_epochs``. Raises InfrastructureError if the workers of a group are lost too often.
    """
    with _ray_for(takes, folder, request):
        epochs = open_epochs(
            spec, takes, supplies, folder.path, should_stop=request or never, stack=stack
        )
        with closing(epochs):
            for result in epochs:
                yield result
                if result.stop_reason is not None:
                    return


@contextmanager
def _ray_for(takes: Resources, folder: SweepFolder, request: StopRequest | None) -> Iterator[None]:
    """Hold a Ray session if it takes one."""
    if not takes.is_group:
        yield
        return
    from sg_ray.cluster.session import ray_session

    if request is not None:
        request.at_once = ender()
    with (
        ray_session("local", log=folder.ray_log, several_workers=True),
        nullcontext() if request is None else stopping(request),  # Ray has put handlers in place
        _explaining_lost_workers(folder),
    ):
        yield


@contextmanager
def _explaining_lost_workers(folder: SweepFolder) -> Iterator[None]:
    """Turn what Ray raises once it has given the workers up into an error that helps."""
    try:
        yield
    except (SgRayError, GroupFailure, OSError):
        raise
    except Exception as error:
        reason = infrastructure_failure(f"{type(error).__name__}: {error}").message
        raise InfrastructureError(
            f"{folder}: the workers were lost too often: {reason} ({RAY_LOG} tells more). The same "
            "command goes on from the last epoch."
        ) from error
