"""A sweep that Python runs is interrupted as a cell of a notebook is, and goes on."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_experiment import SETTINGS

import sg_ray
from sg_ray.api.sweep_results import SweepResults
from sg_ray.sweep_folder import SweepFolder

TIME_VALUED = ["epoch_time_s", "samples_per_s"]
IN_A_KERNEL = """
import sg_ray
experiment = sg_ray.load_experiment(settings={settings!r})
sg_ray.run_sweep(experiment)
"""
IN_A_THREAD = """
import threading
thread = threading.Thread(target=lambda: print(sg_ray.resume_sweep("tiny"), flush=True))
thread.start()
thread.join()
"""


def scores(sweep: SweepResults) -> pd.DataFrame:
    """Every number of every epoch but times, in the same order whatever came first."""
    curves = sweep.curves.drop(columns=TIME_VALUED)
    return curves.sort_values(["trial_key", "epoch"]).reset_index(drop=True)


def wait_for(text: str, journal: Path, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not journal.exists() or text not in journal.read_text():
        assert time.monotonic() < deadline, f"{text} never came"
        time.sleep(0.01)


def test_a_signal_saves_positions_and_any_thread_goes_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sg_ray.open_sweep(finished / "outputs/tiny")
    monkeypatch.chdir(tmp_path)
    experiment = sg_ray.load_experiment(settings=SETTINGS)

    def interrupt() -> None:
        wait_for('"epoch"', experiment.folder.events)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        sg_ray.run_sweep(experiment, executor="inline", show=False)
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    cut = sg_ray.open_sweep("tiny")
    assert cut.state == "interrupted"
    assert len(cut.trials) < len(whole.trials)
    results: list[SweepResults] = []
    thread = threading.Thread(
        target=lambda: results.append(sg_ray.resume_sweep("tiny", executor="inline", show=False))
    )
    thread.start()
    thread.join()
    assert results[0].state == "complete"
    pd.testing.assert_frame_equal(scores(results[0]), scores(whole))


def test_one_training_is_interrupted_and_goes_on(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = sg_ray.load_experiment(settings={**SETTINGS, "models.gnn.config.epochs": 20})
    folder = SweepFolder(Path("trained"))

    def interrupt() -> None:
        wait_for('"epoch"', folder.events)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        sg_ray.train_model("gnn", experiment, folder=folder.path, show=False)
    thread.join()
    assert (folder.path / "last.pt").exists()
    done = len((folder.path / "metrics.jsonl").read_text().splitlines())
    assert 0 < done < 20
    model = sg_ray.train_model("gnn", experiment, folder=folder.path)
    assert "epoch 1 " not in capsys.readouterr().out
    assert model.curve["epoch"].tolist() == list(range(1, model.record.epochs + 1))
    assert model.metrics["val_roc_auc"] == model.curve["val_roc_auc"].max()
    assert model.detector().predict(["int f(char *s) { return s[0]; }"]).shape == (1,)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_interrupting_a_notebook_s_kernel_saves_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a real kernel, on Ray; the resume runs in a thread of it."""
    from jupyter_client.manager import KernelManager

    monkeypatch.setenv("PYTHONPATH", str(Path(sg_ray.__file__).parents[1]))
    settings = {**SETTINGS, "models.gnn.config.epochs": 30}
    kernel = KernelManager()
    kernel.start_kernel(cwd=str(tmp_path))
    client = kernel.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        running = client.execute(IN_A_KERNEL.format(settings=settings))
        wait_for('"epoch": 2', SweepFolder(tmp_path / "outputs/tiny").events, timeout_s=600)
        kernel.interrupt_kernel()
        content = reply(client, running)
        assert (content["status"], content["ename"]) == ("error", "KeyboardInterrupt")
        sweep = sg_ray.open_sweep(tmp_path / "outputs/tiny")
        assert sweep.state == "interrupted"
        assert list(tmp_path.rglob("last.pt"))
        assert reply(client, client.execute(IN_A_THREAD))["status"] == "ok"
        assert sweep.state == "complete"
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def reply(client: Any, request: str) -> dict[str, Any]:
    """Return what the kernel answers to a request; the answers to earlier ones come before."""
    while True:
        message: dict[str, Any] = client.get_shell_msg(timeout=500)
        if message["parent_header"].get("msg_id") == request:
            content: dict[str, Any] = message["content"]
            return content
