"""Credentials of the tracking URI: used by this process, and found nowhere else."""

import base64
import contextlib
import pickle
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from mlflow_server import PASSWORD, USER, Server
from scripted_sweep import tell_sweep, write_winner

from sg_ray.cli import main
from sg_ray.config import Experiment, load_experiment
from sg_ray.errors import InputError
from sg_ray.files import to_plain
from sg_ray.records.journal import Journal
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.address import PASSWORD as PASSWORD_VARIABLE
from sg_ray.tracking.address import TOKEN, USERNAME, WHOLE_URI, find_address
from sg_ray.tracking.check import check_store
from sg_ray.tracking.mlflow_mirror import MlflowMirror
from sg_ray.tracking.troubles import StoreTrouble

HERE = Path("/here")
LOGIN = {USERNAME: USER, PASSWORD_VARIABLE: PASSWORD}
DATABASE = "postgresql://ada:s3cr3t@db.example/mlflow"
FORMS = {
    "server": "http://admin:password1234@127.0.0.1:9",
    "escaped": "http://admin:password%401234@127.0.0.1:9",
    "token": "http://password1234@127.0.0.1:9",
    "odd signs": "https://admin:p/ass:wo#rd?1234@127.0.0.1:9/mlflow",
    "database": "postgresql://admin:password1234@127.0.0.1:9/mlflow",
    "driver": "mysql+pymysql://admin:password1234@127.0.0.1:9/mlflow",
    "parameter": "postgresql://127.0.0.1:9/mlflow?user=admin&password=password1234",
    "file": "sqlite:///mlflow.db?password=password1234",
}
SECRETS = ("password1234", "password%401234", "password@1234", "ass:wo#rd", "rd?1234")


def shows_a_secret(text: str) -> bool:
    return any(secret in text for secret in SECRETS)


@pytest.fixture
def experiment_file(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text("name: p\nfamilies: [gnn]\n")
    return path


@pytest.mark.parametrize("uri", FORMS.values(), ids=FORMS)
def test_case_08_settings_keep_them_in_memory(uri: str, experiment_file: Path) -> None:
    experiment = load_experiment(experiment_file, [f"tracking.uri={uri}"])
    assert experiment.tracking.uri == uri
    written = experiment.to_yaml()
    copy = pickle.loads(pickle.dumps(experiment))
    for text in (written, str(to_plain(experiment)), repr(experiment), copy.tracking.uri):
        assert not shows_a_secret(text)
    again = Experiment.model_validate(yaml.safe_load(written))
    assert again == copy
    assert again.identity == experiment.identity, "going on with them is no other sweep"
    with pytest.raises(InputError, match=r"Set MLFLOW_TRACKING_(USERNAME|URI)") as missing:
        find_address(again.tracking.uri, HERE, {})
    assert not shows_a_secret(str(missing.value))


@pytest.mark.parametrize("setting", ["data.path", "models.gnn.config.name", "output_dir"])
def test_case_08_no_other_setting_may_hold_one(setting: str, experiment_file: Path) -> None:
    uri = FORMS["server"]
    with pytest.raises(InputError, match=f"{setting}: .*holds a password") as refused:
        load_experiment(experiment_file, [f"{setting}={uri}"])
    assert not shows_a_secret(str(refused.value))


@pytest.mark.parametrize(
    "arguments",
    [
        ["tracking.uri=URI", "tracking.enabld=true"],
        ["tracking.uri=URI", "tracking.uri.x=1"],
        ["tracking.enabled=URI"],
        ["tracking.uri=[URI]"],
        ["--adress", "URI"],
    ],
)
def test_case_08_an_error_does_not_quote_them(
    arguments: list[str], experiment_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [text.replace("URI", FORMS["server"]) for text in arguments]
    with contextlib.suppress(SystemExit):  # argparse's own way out
        assert main(["sweep", str(experiment_file), *given, "--dry-run"]) == 2
    assert not shows_a_secret("".join(capsys.readouterr()))


def test_case_08_a_server_without_its_scheme_is_refused_without_them() -> None:
    with pytest.raises(InputError, match=r"'\*\*\*@host:5000': not a database or server"):
        find_address("ada:password1234@host:5000", Path("/"), {})


def test_case_08_a_plan_does_not_show_them(
    experiment_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(experiment_file.parent)
    settings = [str(experiment_file), f"tracking.uri={FORMS['server']}"]
    assert main(["sweep", *settings, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "uri: http://***@127.0.0.1:9" in printed
    assert not shows_a_secret(printed)
    settings[1] = "tracking.uri=http://***@127.0.0.1:9"
    assert main(["sweep", *settings, "--dry-run"]) == 2, "a plan finds what the sweep would find"
    assert f"Set {USERNAME}" in capsys.readouterr().err


@pytest.mark.parametrize("uri", FORMS.values(), ids=FORMS)
def test_case_08_a_store_that_fails_does_not_show_them(uri: str, tmp_path: Path) -> None:
    with pytest.raises(StoreTrouble) as trouble:
        check_store(uri, tmp_path, "p", SweepFolder(tmp_path / "outputs" / "p"))
    assert not shows_a_secret(str(trouble.value))
    assert "tracking.uri" in str(trouble.value)


@pytest.mark.parametrize(
    ("uri", "environment", "expected"),
    [
        ("http://***@h:5", LOGIN, "http://h:5"),
        ("http://***@h:5", {TOKEN: "abc"}, "http://h:5"),
        ("http://***@h:5", {WHOLE_URI: "http://ada:abc@h:5/"}, "http://ada:abc@h:5/"),
        ("postgresql://ada:***@db.example/mlflow", {WHOLE_URI: DATABASE}, DATABASE),
        ("postgresql://db.example/mlflow", {WHOLE_URI: DATABASE}, DATABASE),
        ("postgresql://ada@db.example/mlflow", {}, "postgresql://ada@db.example/mlflow"),
        ("postgresql://db.example/other", {WHOLE_URI: DATABASE}, "postgresql://db.example/other"),
        ("sqlite:///mlflow.db", {WHOLE_URI: DATABASE}, "sqlite:////here/mlflow.db"),
        ("http://ada:s3:c#r/t@h:5", {}, "http://ada:s3%3Ac%23r%2Ft@h:5"),
    ],
)
def test_credentials_come_from_the_environment(
    uri: str, environment: dict[str, str], expected: str
) -> None:
    assert find_address(uri, HERE, environment).uri == expected


@pytest.mark.parametrize(
    ("uri", "environment", "message"),
    [
        ("http://***@h:5", {}, f"Set {USERNAME} and {PASSWORD_VARIABLE}, or {TOKEN}"),
        ("http://***@h:5", {USERNAME: "ada"}, f"Set {USERNAME} and {PASSWORD_VARIABLE}"),
        ("mysql://ada:***@h/db", LOGIN, f"Set {WHOLE_URI} "),
        ("mysql://ada:***@h/db", {WHOLE_URI: DATABASE}, "names another store: postgresql://ada:"),
    ],
)
def test_the_variable_that_is_missing_is_named(
    uri: str, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match="not written down") as missing:
        find_address(uri, HERE, environment)
    assert message in str(missing.value)
    assert "s3cr3t" not in str(missing.value)


def test_case_08_a_sweep_behind_a_login_leaves_no_trace_of_it(
    server: Server,
    journal: Journal,
    sweep_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    server.login = f"{USER}:{PASSWORD}"
    typed = f"http://{USER}:{quote(PASSWORD, safe='')}@{server.host}"
    write_winner(sweep_dir, "t-best")
    tell_sweep(journal, sweep_dir)
    mirror = MlflowMirror(SweepFolder(sweep_dir), typed, "secret")
    mirror.start()
    result = mirror.close()
    assert result.is_complete, result

    def wrong_login(password: str) -> MlflowMirror:
        return MlflowMirror(
            SweepFolder(sweep_dir), f"http://{USER}:{password}@{server.host}", "secret"
        )

    refused = wrong_login(PASSWORD.upper()).sync()
    assert "401" in str(refused.error)
    assert f"Set {USERNAME} and {PASSWORD_VARIABLE}" in refused.advice

    told = "".join([caplog.text, *capfd.readouterr(), *mirror.where_to_look(), str(refused)])
    assert f"set {USERNAME}" in told, "where they are to come from next time"
    files = [path for path in sweep_dir.rglob("*") if path.is_file()]
    artifacts = [path for path in server.artifacts.rglob("*") if path.is_file()]
    assert len(artifacts) > 5
    login = base64.b64encode(server.login.encode()).decode()
    for secret in (PASSWORD, PASSWORD.upper(), quote(PASSWORD, safe=""), login):
        assert secret not in told
        for path in (*files, *artifacts, server.database):
            assert secret.encode() not in path.read_bytes(), path

    shown = f"http://***@{server.host}"
    with pytest.raises(InputError, match=USERNAME):
        MlflowMirror(SweepFolder(sweep_dir), shown, "secret")
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    again = MlflowMirror(SweepFolder(sweep_dir), shown, "secret").sync()
    assert again.is_complete
    assert again.num_mirrored == 0, "it is the same store"


def test_a_page_of_an_earlier_version_is_made_anew_without_them(
    tmp_path: Path, sweep_dir: Path
) -> None:
    from sg_ray.report.page.sections.origin_section import section

    class Sweep:
        events = records = rows = notes = ()
        name, settings = "p", {}
        settings_text = f"tracking:\n  uri: {FORMS['server']}\n"

    content = section(Sweep()).content
    assert "uri: http://***@127.0.0.1:9" in content.settings_text
