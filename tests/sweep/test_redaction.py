"""What is taken out of text before it is written down, and what is left alone."""

from pathlib import Path

import pytest

from sg_ray.sweep.redaction import redact

HOME = Path("/home/ada")

HIDDEN = {
    "home": ("/home/ada/data/train.jsonl", "~/data/train.jsonl"),
    "home itself": ("cannot read /home/ada", "cannot read ~"),
    "home at the end of a sentence": ("It is in /home/ada. Move it", "It is in ~. Move it"),
    "home in a traceback": ('File "/home/ada/x.py", line 3', 'File "~/x.py", line 3'),
    "home in a URI": ("sqlite:////home/ada/mlflow.db", "sqlite:///~/mlflow.db"),
    "password of a URL": ("postgresql://ada:s3cr3t@db:5432/m", "postgresql://db:5432/m"),
    "at-sign in the password": ("http://ada:s3c@ret@db/m", "http://db/m"),
    "token of a URL": ("https://s3cr3t@example.org/x.git", "https://example.org/x.git"),
    "two URLs": ("http://a:b@c http://d:e@f", "http://c http://f"),
    "Hugging Face token": ("login(hf_AbCdEfGhIjKlMnOpQrStUvWxYz)", "login(***)"),
    "bearer": ("Authorization: Bearer abc.DEF-123=", "Authorization: Bearer ***"),
    "AWS key": ("key AKIAIOSFODNN7EXAMPLE was", "key *** was"),
    "temporary AWS key": ("ASIAIOSFODNN7EXAMPLE", "***"),
    "query": ("GET /x?a=1&token=s3cr3t&b=2", "GET /x?a=1&token=***&b=2"),
    "password in a query": ("?password=s3cr3t", "?password=***"),
    "call": ("connect(password='my s3cr3t', port=1)", "connect(password=***, port=1)"),
    "longer name": ("AWS_SECRET_ACCESS_KEY=s3cr3t", "AWS_SECRET_ACCESS_KEY=***"),
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
