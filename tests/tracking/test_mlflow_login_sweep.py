"""A real sweep behind a login, by its command: what it leaves is read byte by byte."""

from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from mlflow_server import PASSWORD, USER, Server

from sg_ray.cli import main
from sg_ray.tracking.address import PASSWORD as PASSWORD_VARIABLE
from sg_ray.tracking.address import USERNAME

EXPERIMENT = {
    "name": "behind",
    "data": {"source": "synthetic", "num_samples": 60},
    "families": ["gnn"],
    "models": {"gnn": {"config": {"epochs": 1, "num_layers": 1, "hidden_dim": 16}}},
    "lr_range": {"enabled": False},
    "search": {"num_trials": 1},
    "replicate": {"top_k": 1, "seeds": [42]},
}


@pytest.mark.slow
def test_case_08_by_the_command(
    ray_session: None,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    server.login = f"{USER}:{PASSWORD}"
    typed = quote(PASSWORD, safe="")
    settings = ["experiment.yaml", f"tracking.uri=http://{USER}:{typed}@{server.host}"]

    assert main(["sweep", *settings]) == 0
    assert main(["sweep", *settings]) == 0, "the same command goes on"
    assert main(["track", "sync", "behind"]) == 2
    told = capfd.readouterr()
    assert USERNAME in told.err
    assert f"{server.uri}/#/experiments/" in told.out
    monkeypatch.setenv(USERNAME, USER)
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    assert main(["sweep", "--resume", "behind"]) == 0
    assert main(["track", "sync", "behind"]) == 0

    shown = "".join([told.out, told.err, *capfd.readouterr(), caplog.text])
    written = [*Path("outputs").rglob("*"), *server.artifacts.rglob("*"), server.database]
    for secret in (PASSWORD, typed):
        assert secret not in shown
        for path in written:
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    page = Path("outputs/behind/report.html").read_text(encoding="utf-8")
    assert f"uri: http://***@{server.host}" in page
