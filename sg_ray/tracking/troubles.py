"""Why MLflow does not take what it is sent: each cause with what to do about it.

MLflow, requests, SQLAlchemy and the drivers below them raise what they like. Their texts are read
here and nowhere else, and lose their credentials here.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping

from sg_ray.errors import SgRayError
from sg_ray.tracking.address import WHOLE_URI, Address
from sg_ray.tracking.mlflow_commands import command, mlflow_command

_MAX_CHARS = 300
_DRIVERS: Mapping[str, str] = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
}
"""What pip calls a module's package, where the names differ."""
_REFUSALS = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")
_ABOUT_WHAT_WAS_SENT = (
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "INVALID_STATE",
)
"""MLflow's answers that quote what they refuse, whose words say nothing about the store."""
_REFUSED = re.compile(
    r"\b40[13] |error code 40[13]\b|too many 40[13]|password authentication failed|access denied"
    r"|login failed|not authenticated|no pg_hba\.conf entry",
    re.IGNORECASE,
)
_AWAY = re.compile(
    r"failed with (?:timeout )?exception|too many (?:408|429|50[234]) "
    r"|error code (?:408|429|50[234])"
    r"|could not connect|connection (?:to server|refused|reset|timed out)|can't connect"
    r"|name or service not known|could not translate host name|timed out|server closed",
    re.IGNORECASE,
)
_SERVER_ERROR = re.compile(r"too many 500 |error code 500\b")
_CAUSE = re.compile(
    r"\[Errno -?\d+\] [^'\")]+|too many \d{3} error responses|(?:read|connect)? ?timed out"
    r"|Name or service not known|Remote end closed connection[^'\")]*|certificate verify failed",
    re.IGNORECASE,
)


class StoreTrouble(SgRayError):  # noqa: N818 - a state of the store, with advice
    """The store takes nothing at present. ``problem`` says why, ``advice`` what to do."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}. {advice}")
        self.problem = problem
        self.advice = advice


class SchemaTrouble(StoreTrouble):
    """The database was made by another MLflow release."""

    def __init__(self, address: Address, revision: str) -> None:
        hidden = address.has_hidden_credentials
        uri = f'"${WHOLE_URI}"' if hidden else shlex.quote(address.shown)
        super().__init__(
            f"tracking.uri: {address.shown} has the schema of another MLflow release ({revision})",
            f"Back it up and run: {command('mlflow', 'db', 'upgrade')} {uri} - or name a new store",
        )


class ExperimentDeleted(StoreTrouble):
    """Somebody deleted the sweep's experiment, whose name nobody can use while it is in the bin."""

    def __init__(self, address: Address, name: str, experiment_id: str) -> None:
        restore = mlflow_command(address, "experiments", "restore", "-x", experiment_id)
        super().__init__(
            f"experiment {name} was deleted in MLflow ({address.shown})",
            f"Restore it ({restore}) or choose another name=...",
        )


class RunGone(Exception):  # noqa: N818 - no error: its user wanted it so
    """The run was deleted in MLflow."""


class Refusal(Exception):  # noqa: N818 - not raised: what is told of one thing
    """One metric, parameter, event or file that MLflow does not take, while it takes others."""


def explain(error: BaseException, address: Address) -> StoreTrouble | None:
    """Return what is wrong with the store if ``error`` says so by itself.

    None: it may be the store's fault or that of what was sent, which only asking the store tells.
    """
    if isinstance(error, StoreTrouble):
        return error
    if getattr(error, "error_code", None) in _ABOUT_WHAT_WAS_SENT:
        return None
    text = "\n".join(_texts(error))
    for matches, trouble in _KINDS:
        if matches(error, text):
            return trouble(address, _cause(error, text, address))
    return None


def trouble_of(error: BaseException, address: Address) -> StoreTrouble:
    """Return ``explain(error)``; for what it does not know, the error's own words."""
    known = explain(error, address)
    if known is not None:
        return known
    return StoreTrouble(
        f"tracking.uri: {address.shown} takes nothing ({reason(error, address)})",
        "Correct tracking.uri, or set tracking.enabled=false",
    )


def reason(error: BaseException, address: Address) -> str:
    """Return an error in one line, without credentials."""
    lines = str(error).strip().splitlines()
    text = lines[0].removeprefix("(sqlite3.OperationalError) ") if lines else ""
    name = type(error).__name__
    said = text if name in ("MlflowException", "RestException", "InputError") else f"{name}: {text}"
    return address.hide(said)[:_MAX_CHARS]


def unreachable(address: Address, cause: str) -> StoreTrouble:
    """Nobody answers there, or a proxy does in its place."""
    if address.is_proxied_loopback:
        return _proxied(address, cause)
    return StoreTrouble(
        f"tracking.uri: no MLflow server answers at {address.shown} ({cause})"
        if address.is_server
        else f"tracking.uri: {address.shown} cannot be reached ({cause})",
        "Start it, correct tracking.uri, or set tracking.enabled=false",
    )


def _proxied(address: Address, cause: str) -> StoreTrouble:
    name = address.host.rpartition(":")[0] or address.host
    return StoreTrouble(
        f"tracking.uri: {address.shown} is on this machine, and the proxy in the environment "
        f"(http_proxy, https_proxy) is asked for it ({cause})",
        f"Set no_proxy={name} in the environment",
    )


def _refused(address: Address, cause: str) -> StoreTrouble:
    if address.is_proxied_loopback:
        return _proxied(address, cause)
    return StoreTrouble(
        f"tracking.uri: {address.shown} refuses ({cause})",
        f"Set {address.variables} in the environment, of somebody who may write there",
    )


def _not_mlflow(address: Address, cause: str) -> StoreTrouble:
    if address.is_proxied_loopback:
        return _proxied(address, cause)
    return StoreTrouble(
        f"tracking.uri: no MLflow server answers at {address.shown}, but something else ({cause})",
        "Correct tracking.uri (host, port and path as in the browser, without #/...)",
    )


def _untrusted(address: Address, cause: str) -> StoreTrouble:
    return StoreTrouble(
        f"tracking.uri: the certificate of {address.shown} is not trusted here ({cause})",
        "Set MLFLOW_TRACKING_SERVER_CERT_PATH to the file of those who signed it",
    )


def _other_schema(address: Address, cause: str) -> StoreTrouble:
    found = re.search(r"found version (\w+)|identified by '(\w+)'", cause)
    return SchemaTrouble(address, next(filter(None, found.groups())) if found else "unknown")


def _no_driver(address: Address, cause: str) -> StoreTrouble:
    package = _DRIVERS.get(cause, cause)
    return StoreTrouble(
        f"tracking.uri: {address.shown} needs the Python package {package}, which is not installed",
        f"Install it: {command('pip', 'install', package)}",
    )


def _database_trouble(address: Address, cause: str) -> StoreTrouble:
    return StoreTrouble(
        f"tracking.uri: {address.database or address.shown} takes no writes ({cause})",
        "Set tracking.uri to a store that does, or tracking.enabled=false",
    )


_Matches = Callable[[BaseException, str], bool]


def _found(pattern: re.Pattern[str]) -> _Matches:
    return lambda _, text: pattern.search(text) is not None


_KINDS: tuple[tuple[_Matches, Callable[[Address, str], StoreTrouble]], ...] = (
    (lambda error, _: isinstance(_root(error), ModuleNotFoundError), _no_driver),
    (_found(re.compile(r"out-of-date database schema|Can't locate revision")), _other_schema),
    (
        _found(
            re.compile(
                r"unable to open database|readonly|read-only|database is locked"
                r"|file is not a database|disk (?:is full|I/O)|malformed"
            )
        ),
        _database_trouble,
    ),
    (_found(re.compile("CERTIFICATE_VERIFY_FAILED|certificate verify failed")), _untrusted),
    (lambda error, _: getattr(error, "error_code", None) in _REFUSALS, _refused),
    (_found(_REFUSED), _refused),
    (lambda error, _: getattr(error, "error_code", None) == "ENDPOINT_NOT_FOUND", _not_mlflow),
    (_found(re.compile(r"not in a valid JSON format")), _not_mlflow),
    (
        lambda _, text: _SERVER_ERROR.search(text) is None and _AWAY.search(text) is not None,
        unreachable,
    ),
)


def _texts(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def _root(error: BaseException) -> BaseException:
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error


def _cause(error: BaseException, text: str, address: Address) -> str:
    """Return the few words of a long message that tell what happened."""
    root = _root(error)
    if isinstance(root, ModuleNotFoundError):
        return str(root.name)
    if "ProxyError" in text:
        return "ProxyError"
    found = _CAUSE.search(text)
    return address.hide(found[0].strip()) if found else reason(error, address)
