"""What is taken out of text before it is written down, and what is left alone."""

from pathlib import Path

import pytest

from sg_ray.redaction import hide_credentials, holds_secret, redact

HOME = Path("/home/ada")

HIDDEN = {
    "home": ("/home/ada/data/train.jsonl", "~/data/train.jsonl"),
    "home itself": ("cannot read /home/ada", "cannot read ~"),
    "home at the end of a sentence": ("It is in /home/ada. Move it", "It is in ~. Move it"),
    "home in a traceback": ('File "/home/ada/x.py", line 3', 'File "~/x.py", line 3'),
    "home in a URI": ("sqlite:////home/ada/mlflow.db", "sqlite:///~/mlflow.db"),
    "password of a URL": ("postgresql://ada:s3cr3t@db:5432/m", "postgresql://ada:***@db:5432/m"),
    "at-sign in the password": ("http://ada:s3c@ret@db/m", "http://***@db/m"),
    "token of a URL": ("https://s3cr3t@example.org/x.git", "https://***@example.org/x.git"),
    "two URLs": ("http://a:b@c http://d:e@f", "http://***@c http://***@f"),
    "password with / ? #": ("mysql://ada:s3/c?r#t@db/m", "mysql://ada:***@db/m"),
    "escaped password": ("http://ada:s3%40cr3t@db/m", "http://***@db/m"),
    "password with colons": ("ftp://ada:s:3:c@db/m", "ftp://***@db/m"),
    "URL as a path": ("https:/ada:s3cr3t@db/m", "https:/***@db/m"),
    "host and port after it": ("http://a:s3cr3t@h:5000/p?x=1", "http://***@h:5000/p?x=1"),
    "Hugging Face token": ("login(hf_AbCdEfGhIjKlMnOpQrStUvWxYz)", "login(***)"),
    "bearer": ("Authorization: Bearer abc.DEF-123=", "Authorization: Bearer ***"),
    "AWS key": ("key AKIAIOSFODNN7EXAMPLE was", "key *** was"),
    "temporary AWS key": ("ASIAIOSFODNN7EXAMPLE", "***"),
    "query": ("GET /x?a=1&token=s3cr3t&b=2", "GET /x?a=1&token=***&b=2"),
    "password in a query": ("?password=s3cr3t", "?password=***"),
    "call": ("connect(password='my s3cr3t', port=1)", "connect(password=***, port=1)"),
    "longer name": ("AWS_SECRET_ACCESS_KEY=s3cr3t", "AWS_SECRET_ACCESS_KEY=***"),
    "signed URL": ("?sv=1&sig=s3cr3t%3D&se=2", "?sv=1&sig=***&se=2"),
    "signed by AWS": (
        "?X-Amz-Credential=a%2Fb&X-Amz-Signature=0f&X-Amz-Date=1",
        "?X-Amz-Credential=***&X-Amz-Signature=***&X-Amz-Date=1",
    ),
    "ODBC": ("mssql://?odbc_connect=UID%3Dada%3BPWD%3Ds3", "mssql://?odbc_connect=***"),
    "JSON": ('{"password": "s3 cr3t"}', '{"password": "***"}'),
    "YAML": ("a: 1\n  db_password: s3 cr3t\nb: 2", "a: 1\n  db_password: ***\nb: 2"),
    "basic": ("'Authorization': 'Basic YTpi'", "'Authorization': 'Basic ***'"),
    "web token": ("x eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJ y", "x *** y"),
    "API key": ("api_key=s3cr3t", "api_key=***"),
}


@pytest.mark.parametrize(("text", "clean"), HIDDEN.values(), ids=HIDDEN)
def test_secrets_and_the_home_folder_go(text: str, clean: str) -> None:
    assert redact(text, HOME) == clean
    assert redact(clean, HOME) == clean


@pytest.mark.parametrize(
    "text",
    [
        "/home/adam/x",
        "/home/ada.bak/x",
        "/home/ada-old",
        "/mnt/home/ada/x",
        "models.transformer.config.max_tokens=256",
        "tokenizer=train",
        "No module named 'hf_transfer'",
        "load(token=None)",
        "http://127.0.0.1:5000/#/experiments",
        "mail ada@example.org // see http://example.org/?by=a@b",
        "val_roc_auc 0.5",
        "http://[::1]:5000/?by=a@b",
        "http://h:5000/?by=a@b",
        "sqlite:////data/a@b:c@d/mlflow.db",
        "postgresql://ada@db/m",
        "#/experiments/1/runs?workflowType=x&viewStateShareKey=configurations",
        "unexpected token: '}'",
        "trial_key=0123abcd",
        "~/x ***",
    ],
)
def test_what_gives_nothing_away_is_left_alone(text: str) -> None:
    assert redact(text, HOME) == text


def test_every_text_at_any_depth_is_redacted_and_the_rest_kept() -> None:
    value = {"a": [1, None, True, 0.5, {"b": "/home/ada/x"}], "/home/ada": ["token=x"]}
    assert redact(value, HOME) == {
        "a": [1, None, True, 0.5, {"b": "~/x"}],
        "/home/ada": ["token=***"],
    }


def test_the_home_is_the_users_own_also_by_its_real_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    assert redact(f"{tmp_path}/link/a {tmp_path}/real/b") == "~/a ~/b"


def test_a_user_whose_home_is_the_root_keeps_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert redact("/usr/lib and /") == "/usr/lib and /"


def test_what_is_called_a_secret_is_one_whatever_it_looks_like() -> None:
    value = {"HF_TOKEN": "abc", "SSH_KEY": "abc", "trial_key": "abc", "password": ""}
    assert redact(value, HOME) == {
        "HF_TOKEN": "***",
        "SSH_KEY": "***",
        "trial_key": "abc",
        "password": "",
    }


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://ada:12/34@host:5000", "http://***@host:5000"),
        ("http://s3cr3t@host", "http://***@host"),
        ("http://***@host", "http://***@host"),
        ("postgresql+psycopg2://ada:12/3@h/db", "postgresql+psycopg2://ada:***@h/db"),
        ("postgresql://ada@h/db?password=s3", "postgresql://ada@h/db?password=***"),
        ("sqlite:////data/a:b@c/mlflow.db", "sqlite:////data/a:b@c/mlflow.db"),
        ("sqlite:///sub/a@b.db", "sqlite:///sub/a@b.db"),
        ("http://host:5000/path", "http://host:5000/path"),
    ],
)
def test_case_08_of_a_uri_only_the_place_is_shown(uri: str, shown: str) -> None:
    assert hide_credentials(uri) == shown
    assert hide_credentials(shown) == shown
    assert holds_secret(uri) == (uri != shown)
