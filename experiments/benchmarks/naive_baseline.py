"""What a plain Tuner with Ray's own MLflow callback leaves after a kill and a restore.

    python experiments/benchmarks/naive_baseline.py [--out naive]

The script that most people write first: Tuner, MLflowLoggerCallback, 6 trials, SIGKILL to the
driver in the middle, ``Tuner.restore``. Beside it an sg-ray sweep of as many trials, killed alike
and resumed. Prints for both: MLflow runs, those still RUNNING, metric points logged twice.
"""

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sg_ray.config.yaml_text import write_yaml

NUM_TRIALS = 6
_SWEEP = Path(__file__).parents[1] / "sweep.py"


def main() -> None:
    """Kill and resume both, and print the two rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("naive"))
    parser.add_argument("--plain", choices=["start", "restore"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out: Path = arguments.out.absolute()
    if arguments.plain:
        _plain_tuner(out, restore=arguments.plain == "restore")
        return
    out.mkdir(parents=True, exist_ok=True)
    print(f"{'':<28} trials  runs  RUNNING  points logged twice")
    plain = [sys.executable, __file__, "--out", str(out), "--plain"]
    _kill_once([*plain, "start"], out, lambda: _num_results(out) >= 4)
    subprocess.run([*plain, "restore"], check=True, cwd=out, stdout=subprocess.DEVNULL)
    _print_row("Tuner + MLflowLoggerCallback", NUM_TRIALS, out / "plain.db", parents=0)

    sweep = [sys.executable, str(_SWEEP), str(_write_experiment(out))]
    records = out / "outputs" / "naive" / "records"
    _kill_once(sweep, out, lambda: len(list(records.glob("*.json"))) >= 2)
    subprocess.run(sweep, check=True, cwd=out, stdout=subprocess.DEVNULL)
    num_trials = len(list(records.glob("*.json")))
    _print_row("sg-ray", num_trials, out / "sg_ray.db", parents=1)


def _plain_tuner(out: Path, *, restore: bool) -> None:
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    ray.init(address="local", log_to_driver=False)
    callback = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{out / 'plain.db'}", experiment_name="plain"
    )
    if restore:
        tuner = tune.Tuner.restore(str(out / "ray" / "plain"), trainable=_steps)
    else:
        tuner = tune.Tuner(
            _steps,
            param_space={"number": tune.grid_search(list(range(NUM_TRIALS)))},
            tune_config=tune.TuneConfig(max_concurrent_trials=2),
            run_config=tune.RunConfig(
                name="plain", storage_path=str(out / "ray"), callbacks=[callback], verbose=0
            ),
        )
    tuner.fit()


def _steps(config: dict[str, int]) -> None:
    """Train for a moment, reporting and checkpointing as Ray's guide shows."""
    import tempfile

    from ray import tune

    start = 0
    if (checkpoint := tune.get_checkpoint()) is not None:
        with checkpoint.as_directory() as folder:
            start = json.loads((Path(folder) / "state.json").read_text())["step"] + 1
    for step in range(start, 8):
        time.sleep(0.5)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "state.json").write_text(json.dumps({"step": step}))
            tune.report(
                {"loss": config["number"] / (step + 1)},
                checkpoint=tune.Checkpoint.from_directory(folder),
            )


def _num_results(out: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in out.glob("ray/plain/*/result.json"))


def _kill_once(command: list[str], folder: Path, ready: Callable[[], bool]) -> None:
    """Start the command and SIGKILL it once ``ready``."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not ready():
        if process.poll() is not None:
            raise SystemExit(f"{' '.join(command)} ended before it could be killed")
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(5)  # its Ray processes see that it is gone


def _write_experiment(out: Path) -> Path:
    gnn = {"epochs": 8, "num_layers": 1, "hidden_dim": 16, "graphs": {"vocab_size": 400}}
    content = {
        "name": "naive",
        "data": {"source": "synthetic", "num_samples": 240},
        "families": ["gnn"],
        "models": {
            "gnn": {"config": gnn, "space": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}}}
        },
        "lr_range": {"enabled": False},
        "search": {"num_trials": NUM_TRIALS - 1, "pruning": {"enabled": False}},
        "replicate": {"top_k": 1, "seeds": [42]},
        "tracking": {"uri": f"sqlite:///{out / 'sg_ray.db'}"},
    }
    path = out / "naive.yaml"
    path.write_text(write_yaml(content), encoding="utf-8")
    return path


def _print_row(name: str, num_trials: int, database: Path, *, parents: int) -> None:
    with sqlite3.connect(database) as connection:
        statuses = Counter(status for (status,) in connection.execute("select status from runs"))
        twice = connection.execute(
            "select count(*) from (select 1 from metrics m join runs r on r.run_uuid = m.run_uuid"
            " group by m.run_uuid, m.key, m.step having count(*) > 1)"
        ).fetchone()[0]
    runs = sum(statuses.values()) - parents
    print(f"{name:<28} {num_trials:>6}  {runs:>4}  {statuses['RUNNING']:>7}  {twice:>19}")


if __name__ == "__main__":
    main()
