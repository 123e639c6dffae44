"""Takes what nobody else should read out of text that is written down: home folder, secrets."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

HIDDEN = "***"

_SECRETS = (
    # user:password@ of a URL, or a token alone; the host stays
    (re.compile(r"//[^/?#\s\"']*@"), "//"),
    # Hugging Face; shorter words, such as hf_transfer, are names
    (re.compile(r"\bhf_[A-Za-z0-9]{10,}"), HIDDEN),
    # AWS access keys, long-lived and temporary
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), HIDDEN),
    (re.compile(r"\b(Bearer)\s+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # name=value, in a query or a call; max_tokens=256 is not a secret
    (
        re.compile(
            r"((?:token|password|passwd|secret|api_?key|access_?key)=)(?!None\b)"
            r"(?:'[^']*'|\"[^\"]*\"|[^\s&'\",;)]+)",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
)


def redact(value: Any, home: Path | None = None) -> Any:
    """Return plain JSON ``value`` with every text in it, at any depth, made fit to be shared.

    The home folder becomes ``~`` (``home``: whose, default the user's own), the credentials of URLs
    go, and tokens and passwords become ``***``. Redacting again changes nothing.
    """
    if isinstance(value, str):
        return _redact_text(value, home if home is not None else _own_home())
    if isinstance(value, Mapping):
        return {key: redact(item, home) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, home) for item in value]
    return value


def _redact_text(text: str, home: Path | None) -> str:
    if home is not None:
        text = _home_pattern(home).sub("~", text)
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


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
