"""Where an MLflow store is: as MLflow is told, with credentials, and as everybody may see it.

Credentials come from ``tracking.uri``, or from the environment: a server's from MLflow's own
variables, those of a database from ``MLFLOW_TRACKING_URI``, if that names the same database.
"""

import base64
import os
import re
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from sg_ray.errors import InputError
from sg_ray.redaction import HIDDEN, hide_credentials, hide_secrets, holds_secret

DEFAULT_URI = "sqlite:///mlflow.db"
WHOLE_URI = "MLFLOW_TRACKING_URI"
USERNAME, PASSWORD, TOKEN = (f"MLFLOW_TRACKING_{n}" for n in ("USERNAME", "PASSWORD", "TOKEN"))
_OTHER_LOGINS = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4")
_LOGIN_FILE = "~/.mlflow/credentials"

_SQLITE = "sqlite:///"
_IN_MEMORY = re.compile(r"sqlite(\+\w+)?://(/(:memory:)?)?(\?.*)?")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SERVERS = ("http://", "https://")
_MIN_SECRET_CHARS = 3
"""A shorter one is not looked for in texts: it is in every second word."""


@dataclass(frozen=True)
class Address:
    """A store. ``uri`` is for MLflow alone; ``shown`` may be printed, written and sent."""

    uri: str = field(repr=False)
    shown: str
    has_typed_credentials: bool = False
    """Whether they were in ``tracking.uri``, and so are gone when this process ends."""
    _secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def database(self) -> Path | None:
        """The file of a SQLite store; None for another kind."""
        return sqlite_path(self.uri)

    @property
    def is_server(self) -> bool:
        """Whether it is an MLflow server, and not a database."""
        return self.shown.startswith(_SERVERS)

    @property
    def host(self) -> str:
        """Host and port; empty for a file."""
        return urlsplit(self.shown).netloc.rpartition("@")[2]

    @property
    def is_proxied_loopback(self) -> bool:
        """Whether a proxy stands between this machine and itself."""
        parts = urlsplit(self.shown)
        name = parts.hostname or ""
        is_loopback = name in ("localhost", "::1") or name.startswith("127.")
        has_proxy = parts.scheme in urllib.request.getproxies()
        return self.is_server and is_loopback and has_proxy and not _passes_by(parts.netloc)

    def hide(self, text: str) -> str:
        """Return ``text`` without the store's credentials, in whatever form it quotes them."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return hide_secrets(text)

    @property
    def has_hidden_credentials(self) -> bool:
        """Whether ``shown`` is not the whole URI."""
        return HIDDEN in self.shown

    @property
    def variables(self) -> str:
        """The environment variables in which credentials are looked for."""
        return _variables(self.shown)

    @property
    def page(self) -> str:
        """Where a server shows its pages."""
        return _place(self.shown).rstrip("/")


def find_address(uri: str, base: Path, environ: Mapping[str, str] = os.environ) -> Address:
    """Return the store that ``tracking.uri`` means, a relative path counting from ``base``.

    Raises InputError for an empty URI, a scheme that MLflow does not know, a server without a host,
    a database in memory, and a folder, which MLflow 3 no longer writes to; and if credentials were
    there once (``***``) and the environment does not give them now.
    """
    shown = hide_credentials(uri)
    if not _is_store(uri):
        if "://" not in uri:  # perhaps a server whose scheme was forgotten
            shown = hide_credentials(f"http://{uri}").removeprefix("http://")
        raise InputError(
            f"tracking uri {shown!r}: not a database or server that MLflow writes to. "
            f"Use e.g. {DEFAULT_URI} or http://localhost:5000."
        )
    if _IN_MEMORY.fullmatch(uri):
        raise InputError(
            f"tracking uri {uri!r}: a database in memory, which ends with this process. Name a "
            f"file, e.g. {DEFAULT_URI}."
        )
    if uri != shown:
        return _address(uri, base, environ, has_typed_credentials=True)
    whole = _whole_uri(uri, environ)
    if whole is not None:
        return _address(whole, base, environ)
    if HIDDEN in uri:
        if not (uri.startswith(_SERVERS) and _can_log_in(environ)):
            raise InputError(_missing(uri, environ))
        uri = _place(uri)
    return _address(uri, base, environ)


def _is_store(uri: str) -> bool:
    """Whether MLflow writes to URIs of this kind; a server's names a host, and a port if any."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri == "databricks"
    if f"{scheme}://" not in _SERVERS:
        return scheme.partition("+")[0] in _DATABASES or scheme.startswith("databricks")
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and ("@" in rest or parts.port != 0)
    except ValueError:  # no port, or half of an IPv6 address
        return False


def sqlite_path(uri: str) -> Path | None:
    """Return the database of a SQLite URI, as SQLAlchemy reads it; None for another kind."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(unquote(uri.removeprefix(_SQLITE).partition("?")[0]))


def _absolute(uri: str, base: Path) -> str:
    """Make a database's path absolute; one that holds % or ? is written so that it is read back.

    Then even slashes are escaped: MLflow makes the folder of a path as it is written.
    """
    typed, query_mark, query = uri.removeprefix(_SQLITE).partition("?")
    path = str((base / unquote(typed)).resolve())
    is_plain = unquote(path) == path and "?" not in path
    return f"{_SQLITE}{path if is_plain else quote(path, safe='')}{query_mark}{query}"


def _address(
    uri: str, base: Path, environ: Mapping[str, str], *, has_typed_credentials: bool = False
) -> Address:
    exact = _absolute(uri, base) if uri.startswith(_SQLITE) else _encoded(uri)
    secrets = tuple(_secrets_of(uri, environ))
    return Address(exact, hide_credentials(uri), has_typed_credentials, secrets)


def _whole_uri(uri: str, environ: Mapping[str, str]) -> str | None:
    """Return the URI in the environment if it names the same place, with credentials."""
    whole = environ.get(WHOLE_URI, "")
    is_complete = whole and HIDDEN not in whole
    return whole if is_complete and _place(whole) == _place(uri) else None


def _place(uri: str) -> str:
    """Return a URI without whatever may belong to credentials."""
    scheme, separator, rest = hide_credentials(uri).partition("://")
    rest = rest.rpartition("@")[2]
    rest = re.sub(r"([?&])[^=&]+=\*\*\*(?:&|$)", r"\1", rest)
    return f"{scheme}{separator}{rest}".rstrip("?&/")


def _can_log_in(environ: Mapping[str, str]) -> bool:
    has_both = bool(environ.get(USERNAME) and environ.get(PASSWORD))
    others = (environ.get(name) for name in (TOKEN, *_OTHER_LOGINS))
    return has_both or any(others) or Path(_LOGIN_FILE).expanduser().exists()


def _missing(shown: str, environ: Mapping[str, str]) -> str:
    whole = environ.get(WHOLE_URI)
    elsewhere = f" ({WHOLE_URI} names another store: {hide_credentials(whole)})" if whole else ""
    return (
        f"tracking.uri={shown}: the credentials were not written down{elsewhere}. Set "
        f"{_variables(shown)} in the environment, give tracking.uri=... with them once more, or "
        "set tracking.enabled=false."
    )


def _variables(uri: str) -> str:
    if uri.startswith(_SERVERS):
        return f"{USERNAME} and {PASSWORD}, or {TOKEN},"
    return f"{WHOLE_URI} (the whole URI, with the password)"


def _encoded(uri: str) -> str:
    """Escape what a server's user and password hold, so that no library cuts them elsewhere."""
    if not uri.startswith(_SERVERS):
        return uri
    scheme, _, rest = uri.partition("://")
    info, at, place = rest.rpartition("@")
    if not at:
        return uri
    parts = (quote(unquote(part), safe="") for part in info.split(":", 1))
    return f"{scheme}://{':'.join(parts)}@{place}"


def _secrets_of(uri: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what must not be seen, in the forms in which libraries quote it."""
    rest = "" if uri.startswith(_SQLITE) else uri.partition("://")[2]
    info, at, _ = rest.rpartition("@")
    user, colon, password = info.partition(":")
    found = [password] if colon else [user] if at and uri.startswith(_SERVERS) else []
    found += [environ.get(name, "") for name in (PASSWORD, TOKEN)]
    parameters = (text.partition("=") for text in re.split("[?&;]", uri)[1:])
    found += [value for name, _, value in parameters if holds_secret(f"?{name}={value}")]
    for name, word in ((user, password), (environ.get(USERNAME), environ.get(PASSWORD))):
        if name and word:
            login = f"{unquote(name)}:{unquote(word)}"
            found.append(base64.standard_b64encode(login.encode()).decode())
    for secret in found:
        forms = {secret, unquote(secret), unquote_plus(secret), quote(secret, safe="")}
        yield from (form for form in forms if len(form) >= _MIN_SECRET_CHARS)


def _passes_by(netloc: str) -> bool:
    return bool(urllib.request.proxy_bypass(netloc))
