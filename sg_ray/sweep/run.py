"""A sweep from experiment to verdict: prepare, execute, and draw the conclusions.

The journal's listeners (console, MLflow mirror) only look on: nothing here waits for them.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sg_ray.cluster.epochs import Supplies
from sg_ray.config import Experiment, KeepWeights
from sg_ray.data.samples import DataSet
from sg_ray.files import remove_leftovers, to_plain
from sg_ray.host.cache_lock import using_cache
from sg_ray.host.disk import explaining_disk_trouble
from sg_ray.host.lock import locked
from sg_ray.host.scratch import remove_scratch
from sg_ray.host.signals import StopRequest, stopping
from sg_ray.jobs.checkpoints import drop_attempts
from sg_ray.prepare.branches import GivenBranches
from sg_ray.prepare.prepare import Progress, baselines, pinned, prepare, read_data
from sg_ray.records.begin import begin
from sg_ray.records.changed import OnChange, find_change, settle
from sg_ray.records.events import (
    DataChecked,
    EndStatus,
    Event,
    StageStarted,
    SweepFinished,
    SweepPlanned,
    SweepRanked,
    SweepResumed,
    SweepStarted,
)
from sg_ray.records.journal import Journal, sweep_id_of
from sg_ray.records.leaderboard import Row, leaderboard, write_leaderboard
from sg_ray.records.origin import look_up_origin, note_packages
from sg_ray.records.planned import planned_stages
from sg_ray.records.record import RunRecord
from sg_ray.records.search_journal import release_journals
from sg_ray.records.taking_back import take_back
from sg_ray.report.page.html import build_report
from sg_ray.sweep.execute.executor import Executor, Setting
from sg_ray.sweep.execute.tune_executor import TuneExecutor
from sg_ray.sweep.execute.worklist import Worklist
from sg_ray.sweep.plan.planner import Planner, make_planner
from sg_ray.sweep.weights import let_go_of_weights
from sg_ray.sweep.winners import export_winners
from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict.assemble import write_verdict

Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Outcome:
    """What a sweep came to.

    ``problems`` and ``notes`` are sentences for the user, ``tracebacks`` the first of each kind of
    failure. ``exit_code`` is 0, 1 if something failed, or 128 and the number of the signal that
    ended it before it was done.
    """

    folder: SweepFolder
    rows: list[Row]
    problems: list[str]
    notes: list[str]
    exit_code: int
    tracebacks: list[str] = field(default_factory=list)

    @property
    def interrupted(self) -> bool:
        """True if a signal ended it."""
        return self.exit_code > 1


def run_sweep(
    experiment: Experiment,
    *,
    executor: Executor | None = None,
    listeners: tuple[Listener, ...] = (),
    progress: Progress | None = None,
    extends: bool = False,
    on_change: OnChange = "stop",
    data: DataSet | None = None,
) -> Outcome:
    """Run what the sweep's folder does not already hold; write leaderboard, verdict and page.

    A first start and a resume are the same call; ``executor`` None is Tune on this machine, one
    that is given is the caller's to close;
    ``extends`` as in ``begin``; ``on_change`` says what becomes of records that other data,
    pretrained files or code led to; ``data`` are those of ``check_ready``, if it was asked. Raises
    InputError for settings that cannot work or that differ from those the folder was begun with,
    SgRayError for a full disk.
    """
    if executor is None:
        with contextlib.closing(TuneExecutor()) as own:
            return run_sweep(
                experiment,
                executor=own,
                listeners=listeners,
                progress=progress,
                extends=extends,
                on_change=on_change,
                data=data,
            )
    folder = experiment.folder
    with locked(folder), explaining_disk_trouble(folder.path):
        remove_leftovers(folder.path)
        release_journals(folder)
        for token in folder.node_tokens:  # of a driver that was killed
            token.unlink(missing_ok=True)
        remove_scratch()
        if data is None:  # bad data must not leave a sweep begun with them
            data = read_data(experiment.data, experiment.cache_dir, experiment.objective)
        resumed = begin(experiment, extends=extends)
        if not folder.verdict.exists():  # else there may be nothing to run
            executor.begin(experiment.resources_by_model, folder.ray_log)
        note_packages(folder)
        look_up_origin()  # of now, not of when a record is written
        stop = StopRequest()
        with (
            contextlib.closing(Journal(folder.events, listeners)) as journal,
            stopping(stop),
        ):
            sweep_id = sweep_id_of(folder)
            plan = to_plain(experiment)
            try:
                journal.append(SweepStarted(name=experiment.name, sweep_id=sweep_id, plan=plan))
                if resumed:
                    journal.append(SweepResumed())
                with using_cache(experiment.cache_dir):
                    return _run(experiment, data, journal, executor, progress, on_change, stop)
            except BaseException as error:
                interrupted = _is_interruption(error)
                with contextlib.suppress(OSError):  # the error itself matters more
                    status: EndStatus = "interrupted" if interrupted else "failed"
                    journal.append(SweepFinished(status=status))
                if interrupted:
                    return Outcome(folder, [], [], [], stop.exit_code)
                raise


def _is_interruption(error: BaseException | None) -> bool:
    """Return True for a KeyboardInterrupt, and for what went wrong while one was on its way.

    A library that is interrupted while it cleans up may fail to: Optuna's lock of a journal does.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _run(
    experiment: Experiment,
    data: DataSet,
    journal: Journal,
    executor: Executor,
    progress: Progress | None,
    on_change: OnChange,
    stop: StopRequest,
) -> Outcome:
    folder = experiment.folder
    journal.append(StageStarted(model="", stage="prepare", num_trials=0))
    models = pinned(experiment.all_models)
    given = GivenBranches(models, experiment.branches_from, None)
    features = prepare(models, given, data, experiment.cache_dir, progress)
    change = find_change(
        folder, data.fingerprint, baselines(models), trusts_kept=on_change != "anew"
    )
    settled = [] if change is None else [settle(change, on_change)]
    notes = [*data.notes, *settled]
    journal.append(DataChecked(fingerprint=data.fingerprint, notes=notes))
    notes += take_back(folder, journal)
    branches = GivenBranches(models, experiment.branches_from, data.fingerprint)
    branches.require(experiment.replicate.seeds)
    planner = make_planner(models, experiment.rules, folder, data, branches)
    stages = planned_stages(models, experiment.rules)
    journal.append(SweepPlanned(stages=stages))
    worklist = Worklist(planner, stages, journal)
    exit_code = 0
    if not (planner.finished and worklist.test_scored):
        supplies = Supplies(
            features,
            experiment.cache_dir,
            experiment.max_failures,
            checkpoint_every_s=experiment.checkpoint_every_s,
        )
        setting = Setting(
            supplies,
            folder,
            takes=experiment.resources_by_model,
            max_concurrent_trials=experiment.max_concurrent_trials,
            grace_s=experiment.grace_s,
            own_metrics=experiment.metrics,
        )
        execution = executor.execute(worklist, setting, stop)
        if not execution.is_finished:
            exit_code = stop.exit_code
            notes.append(execution.positions)
    rows = leaderboard(folder, planner.ledger.records, experiment.rules)
    write_leaderboard(folder.leaderboard, rows)
    if exit_code:
        journal.append(SweepFinished(status="interrupted"))
        return Outcome(folder, rows, [], notes, exit_code)
    problems = _problems(planner, worklist)
    is_done = worklist.test_scored and all(plan.finished for plan in planner.plans.values())
    keep = experiment.keep_weights if is_done else "all"
    status: EndStatus = "failed" if problems else "completed"
    _conclude(planner, experiment.cache_dir, journal, keep, status)
    return Outcome(
        folder,
        rows,
        problems,
        notes,
        exit_code=1 if problems else 0,
        tracebacks=_tracebacks(planner.ledger.records.values()),
    )


def _conclude(
    planner: Planner, cache_dir: Path, journal: Journal, keep: KeepWeights, status: EndStatus
) -> None:
    """Make of the records what people and programs look at, each from what was made before it.

    Afterwards, MLflow has all of it as artifacts (the mirror sends them when the sweep has
    finished), and whoever runs the mirror notes its run ids in the records.
    """
    folder = planner.ledger.folder
    export_winners(planner, cache_dir)
    if planner.finished and not any(_is_lost(r) for r in planner.ledger.records.values()):
        drop_attempts(folder)
        let_go_of_weights(planner, keep, journal)
    write_verdict(folder)
    journal.append(SweepRanked(status=status))
    build_report(folder)  # it shows how the sweep ended, which the journal says by now
    journal.append(SweepFinished(status=status))


def _problems(planner: Planner, worklist: Worklist) -> list[str]:
    failed = [r for r in planner.ledger.records.values() if r.status == "failed"]
    problems = [
        f"{r.title} seed {r.seed_text} failed: {r.failure.kind}: {r.failure.message}"
        for r in failed
        if r.failure is not None
    ]
    problems += [
        f"{model}: could not be finished, because what it builds on failed"
        for model, plan in planner.plans.items()
        if not plan.finished
    ]
    return [*problems, *worklist.problems]


def _is_lost(record: RunRecord) -> bool:
    return record.failure is not None and record.failure.is_infrastructure


def _tracebacks(records: Iterable[RunRecord]) -> list[str]:
    """Return the first traceback of each kind of failure of trials themselves."""
    first: dict[str, str] = {}
    for record in records:
        if record.failure is not None and not _is_lost(record):
            first.setdefault(record.failure.kind, record.failure.traceback)
    return list(first.values())
