"""A real MLflow server in a thread of the test process, behind what stands before one: a login.

It can be told to fail as servers do: to be down, to refuse, to break on single requests.
"""

import base64
import os
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

USER, PASSWORD = "ada", "s3cr3t:with/odd#signs"
Environ = dict[str, Any]


class Server:
    """MLflow's own application on a SQLite database; artifacts go through it."""

    def __init__(self, database: Path, artifacts: Path) -> None:
        import mlflow.server

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Starlette's, about a module that MLflow imports
            import mlflow.server.fastapi_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        os.environ[mlflow.server.BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{database}"
        os.environ[mlflow.server.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
        os.environ[mlflow.server.ARTIFACTS_DESTINATION_ENV_VAR] = str(artifacts)
        os.environ[mlflow.server.SERVE_ARTIFACTS_ENV_VAR] = "true"

        class Quiet(WSGIRequestHandler):
            def log(self, *arguments: object) -> None:
                """Say nothing."""

        self._app = mlflow.server.app
        self.database, self.artifacts = database, artifacts
        self.login: str | None = None
        self.answer: Callable[[Environ], str | None] = lambda _: None
        """Returns the status to answer a request with, in MLflow's place."""
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.uri = f"http://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        status = self.answer(environ)
        if status is None and self.login is not None:
            expected = base64.b64encode(self.login.encode()).decode()
            if environ.get("HTTP_AUTHORIZATION") != f"Basic {expected}":
                status = "401 Unauthorized"
        if status is None:
            return self._app(environ, start_response)
        start_response(status, [("Content-Type", "text/html")])
        return [b"<html>no</html>"]

    def reset(self) -> None:
        """Be a server that is up and open to everybody."""
        self.login = None
        self.answer = lambda _: None

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
