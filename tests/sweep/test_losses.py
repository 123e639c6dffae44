"""Jobs lost with their process or machine: told in a line, and taken back by a later start."""

import contextlib
import os
from pathlib import Path

import pytest
import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from sg_ray.cluster.losses import UNANSWERED, UNEXPLAINED, infrastructure_failure
from sg_ray.configuration import Configuration
from sg_ray.errors import InfrastructureError
from sg_ray.records import taking_back
from sg_ray.records.journal import Journal
from sg_ray.records.record import Failure, RunRecord, read_records, write_record
from sg_ray.records.taking_back import take_back
from sg_ray.sweep_folder import SweepFolder

OUT_OF_MEMORY = """\
Failure # 1 (occurred at 2026-11-29_23-56-26)
1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, \
ID: bdaa662c) was 22.36GB used / 23.54GB limit (0.950123)
OOM kill reason: Memory usage 24012676900B exceeded threshold of 23978000000B (94.9% of 2527650201B)
Object store memory usage: [- objects spillable: 2
Eviction Stats:
(global lru) num evictions: 0
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/x.html.
"""
NODE_DIED = """\
Failure # 1 (occurred at 2026-11-29_23-56-26)
The actor died unexpectedly before finishing this task.
\tclass_name: TrialActor
\tactor_id: 1c20f7331afab84e855ed31d01000000
The actor died because its node has died. Node Id: 4966655107fe
\tthe actor's node was terminated unexpectedly: health check failed
"""


def test_case_03_a_failure_for_want_of_memory_says_so_in_its_first_line() -> None:
    failure = infrastructure_failure(OUT_OF_MEMORY)
    assert failure.message.startswith("out of memory: the machine was 95 % full")
    assert "\n" not in failure.message
    assert "OOM kill reason" in failure.traceback
    assert failure.is_infrastructure


def test_a_lost_machine_is_named_as_such() -> None:
    message = infrastructure_failure(NODE_DIED).message
    assert message.startswith("its machine was lost: The actor died because its node has died.")


def test_a_machine_that_is_silent_is_told_without_rays_words_for_it() -> None:
    error = ActorUnavailableError("RpcError: RPC error: Socket closed rpc_code: 14", b"\1" * 16)
    failure = infrastructure_failure(f"Failure # 1 (occurred at 2026-11-30_19-00-00)\n{error}")
    assert failure.message == UNANSWERED
    assert "Socket closed" in failure.traceback


def test_without_a_word_from_ray_the_process_died() -> None:
    assert infrastructure_failure("").message == UNEXPLAINED


@ray.remote(max_retries=0)
def _raise_it() -> None:
    raise InfrastructureError("the GPU that Ray granted cannot be used")


@ray.remote(max_retries=0)
def _die() -> None:
    os._exit(1)


@ray.remote
class _Mortal:
    def die(self) -> None:
        os._exit(1)


def test_what_ray_says_of_an_error_or_a_death_becomes_one_plain_line(ray_session: None) -> None:
    with pytest.raises(RayError) as raised:
        ray.get(_raise_it.remote())
    text = f"Failure # 1 (occurred at 2026)\n\x1b[36m{raised.value}\x1b[39m"
    assert infrastructure_failure(text).message == "the GPU that Ray granted cannot be used"
    with pytest.raises(RayActorError) as died:
        ray.get(_Mortal.remote().die.remote())
    message = infrastructure_failure(str(died.value)).message
    assert message.startswith("its process died: ")
    assert "\n" not in message
    with pytest.raises(RayError) as crashed:
        ray.get(_die.remote())
    assert "\x1b" not in infrastructure_failure(str(crashed.value)).message


def _failed(key: str, kind: str, finished_at_ms: int, **branches: str) -> RunRecord:
    model = "fusion" if branches else "gnn"
    return RunRecord(
        trial_key=key,
        stage="search",
        configuration=Configuration(model=model, family=model, values={}),
        config_hash="c",
        seed=42,
        status="failed",
        objective="val_roc_auc",
        metrics={},
        best_epoch=None,
        epochs=0,
        history=[],
        branches=branches,
        data_fingerprint="d",
        code_version="c",
        started_at_ms=0,
        finished_at_ms=finished_at_ms,
        train_time_s=0.0,
        environment={},
        failure=Failure(kind=kind, message="it went", traceback=""),
    )


def test_a_kill_while_trials_are_taken_back_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(SweepFolder(tmp_path), _failed("branch", InfrastructureError.__name__, 1))
    write_record(SweepFolder(tmp_path), _failed("fused", "InputError", 2, gnn="branch"))
    set_aside, num_left = taking_back._set_record_aside, 1

    def killed_after_one(folder: SweepFolder, trial_key: str) -> None:
        nonlocal num_left
        if num_left == 0:
            raise KeyboardInterrupt
        num_left -= 1
        set_aside(folder, trial_key)

    with contextlib.closing(Journal(tmp_path / "events.jsonl")) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(taking_back, "_set_record_aside", killed_after_one)
            with pytest.raises(KeyboardInterrupt):
                take_back(SweepFolder(tmp_path), journal)
        take_back(SweepFolder(tmp_path), journal)
    assert read_records(SweepFolder(tmp_path)) == {}
