"""Takes what nobody else should read out of text: credentials of URIs, tokens, the home folder.

Credentials stay in the memory of the process that was given them. Whatever is written, shown or
sent goes through here: settings, journal, records, pages, errors of other libraries.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

HIDDEN = "***"

_DATABASES = r"(?:postgres(?:ql)?|mysql|mariadb|mssql|oracle|cockroachdb|sqlite)(?:\+\w+)?:"
_NAME = (
    r"(?:token|password|passwd|passphrase|secret|signature|credentials?"
    r"|(?:api|access|account|private|shared)[-_]?key(?:[-_]?id)?)"
)
"""How the names of secrets end. Not those of tokens as pieces of text: ``max_tokens``."""
_SHOWN_VALUE = r"(?!None\b|null\b|true\b|false\b|\*\*\*)"

_USERINFO = re.compile(
    # user:password@ or token@ of an authority, up to the last @ before its end
    r"(?P<scheme>\b[A-Za-z][\w+.-]*:)?(?<!/)(?P<slashes>//)(?!/)(?P<info>[^/?#\s\"'<>]*)@"
    # a password typed with / ? # in it, also where a path has made one slash of two; no port
    r"|(?P<odd_scheme>\b[A-Za-z][\w+.-]+:)(?P<odd_slashes>//?)(?!/)"
    r"(?P<odd_info>[^\s:/?#@\"'<>\[]*:(?!\d{1,5}[/?#])[^\s\"'<>]*)@"
)
_OTHERS = (
    # parameters of a query
    (
        re.compile(
            rf"([?&;](?:[\w.-]*{_NAME}|pwd|pass|sslpassword|sig|key|auth|odbc_connect)=)"
            rf"{_SHOWN_VALUE}[^&;#\s\"'<>]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    # name=value, in a call or a variable; "name": "value" and name: value, in JSON and YAML
    (
        re.compile(
            rf"((?:{_NAME}|\bpwd)=){_SHOWN_VALUE}(?:'[^']*'|\"[^\"]*\"|[^\s&'\",;)]+)",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(rf"(([\"'])[\w.-]*{_NAME}\2\s*:\s*([\"']))(?:(?!\3).)+\3", re.IGNORECASE),
        rf"\1{HIDDEN}\3",
    ),
    (
        re.compile(
            rf"^(\s*[\w.-]*{_NAME}:[ \t]+){_SHOWN_VALUE}\S.*$", re.IGNORECASE | re.MULTILINE
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(r"(Authorization[\"']?\s*[:=]\s*[\"']?\w+)\s+[\w.~+/=-]+", re.IGNORECASE),
        rf"\1 {HIDDEN}",
    ),
    (re.compile(r"\b(Bearer)\s+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # Hugging Face; shorter words, such as hf_transfer, are names
    (re.compile(r"\bhf_[A-Za-z0-9]{10,}"), HIDDEN),
    # GitHub, GitLab, Slack, Databricks
    (
        re.compile(
            r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{15,}"
            r"|xox[a-z]-[\w-]{10,}|dapi[0-9a-f]{32})"
        ),
        HIDDEN,
    ),
    # AWS access keys, long-lived and temporary
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), HIDDEN),
    # JSON web tokens
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"), HIDDEN),
)
_SECRET_KEY = re.compile(rf"(?i:.*{_NAME})|(?:.*_)?KEY")


def redact(value: Any, home: Path | None = None) -> Any:
    """Return plain JSON ``value`` with every text in it, at any depth, made fit to be shared.

    The home folder becomes ``~`` (``home``: whose, default the user's own), and credentials, tokens
    and passwords become ``***``. Redacting again changes nothing.
    """
    if isinstance(value, str):
        return _redact_text(value, home if home is not None else _own_home())
    if isinstance(value, Mapping):
        return {key: _redact_item(key, item, home) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, home) for item in value]
    return value


def redact_words(words: Sequence[str]) -> list[str]:
    """Return the words of a command line so; what follows a flag such as ``--token`` is hidden."""
    return [
        HIDDEN if before.startswith("-") and _SECRET_KEY.fullmatch(before) else redact(word)
        for before, word in pairwise(["", *words])
    ]


def hide_secrets(text: str) -> str:
    """Return ``text`` with ``***`` in place of credentials, tokens and passwords."""
    text = _USERINFO.sub(_without_password, text)
    for pattern, replacement in _OTHERS:
        text = pattern.sub(replacement, text)
    return text


def hide_credentials(uri: str) -> str:
    """Return a URI with ``***`` in place of its credentials, however oddly they are written.

    The user of a database stays: ``postgresql://ada:***@host/db``.
    """
    scheme, separator, rest = uri.partition("://")
    info, at, place = rest.rpartition("@")
    if separator and at and not rest.startswith("/"):
        uri = f"{scheme}://{_hidden(f'{scheme}:', info)}@{place}"
    return hide_secrets(uri)


def holds_secret(text: str) -> bool:
    """Whether ``text`` has something to hide."""
    return hide_credentials(text) != text


def _hidden(scheme: str, info: str) -> str:
    """Return what is shown of ``user:password``: only a database's user is known to be none."""
    if not re.fullmatch(_DATABASES, scheme, re.IGNORECASE):
        return HIDDEN
    user, colon, _ = info.partition(":")
    return f"{user}:{HIDDEN}" if colon else user


def _without_password(found: re.Match[str]) -> str:
    odd = "odd_" if found["odd_scheme"] else ""
    scheme = found[f"{odd}scheme"] or ""
    return f"{scheme}{found[f'{odd}slashes']}{_hidden(scheme, found[f'{odd}info'])}@"


def _redact_item(key: Any, item: Any, home: Path | None) -> Any:
    if isinstance(item, str) and item and _SECRET_KEY.fullmatch(str(key)):
        return HIDDEN
    return redact(item, home)


def _redact_text(text: str, home: Path | None) -> str:
    if home is not None:
        text = _home_pattern(home).sub("~", text)
    return hide_secrets(text)


def _own_home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # a user without one
        return None


@lru_cache(maxsize=8)
def _home_pattern(home: Path) -> re.Pattern[str]:
    """Match the folder as a whole path: not /home/me in /home/melanie or in /mnt/home/me."""
    names = sorted({str(home), str(home.resolve())} - {home.anchor}, key=len, reverse=True)
    alternatives = "|".join(map(re.escape, names)) or r"(?!)"
    return re.compile(rf"(?<![\w.~-])(?:{alternatives})(?![\w-]|\.\w)")
