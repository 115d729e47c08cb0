"""The sandbox as a server that runs in its own thread."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_webcamconsult.sandbox.data_file import SandboxError
from airflow_provider_webcamconsult.sandbox.service import (
    APPOINTMENTS,
    DOCUMENT_TOKENS,
    RESOURCES,
    ApiError,
    Service,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    import uvicorn

HOST = "127.0.0.1"


class RecordedRequest(NamedTuple):
    """A request that the sandbox handled. The path is the one that was sent, without the query."""

    method: str
    path: str
    status_code: int


class Sandbox:
    """A sandbox of the Webcamconsult API for testing DAGs. It listens only on the loopback interface.

    .. code-block:: python

        with Sandbox(states="idle:1s,finished") as sandbox:
            headers = {"Authorization": f"Token token={sandbox.token}"}
            requests.get(f"{sandbox.url}/users.json", headers=headers)

    :param tokens: one API token for each organisation. An organisation can only access its own data.
    :param states: the states that new appointments pass through, each except the last with its duration, for
        example ``idle:5s,started:2m,finished``.
    :param plural_paths: serve single records at ``/clients/{id}.json`` and ``/appointments/{id}.json``,
        instead of the documented ``/client/{id}.json`` and ``/appointment/{id}.json``.
    :param port: the port to listen on; 0 picks a free port.
    :param data: the JSON file to store all data in. Only one sandbox can use it at a time, from its creation
        until :meth:`stop`. By default, the data is only in memory.
    :raises SandboxError: if an argument is invalid, or if the data file cannot be read or written or is in
        use by another sandbox.
    """

    def __init__(
        self,
        tokens: Iterable[str] = DOCUMENT_TOKENS,
        states: str = "idle",
        plural_paths: bool = False,
        port: int = 0,
        data: str | Path | None = None,
    ) -> None:
        self.requests: list[RecordedRequest] = []
        self._service = Service(tokens, states, data)
        self._plural_paths = plural_paths
        self._requested_port = port
        self._port: int | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        if self._port is None:
            raise RuntimeError(
                "The sandbox has not been started. Call start(), or use it in a with statement."
            )
        return f"http://{HOST}:{self._port}"

    @property
    def tokens(self) -> tuple[str, ...]:
        """The token of each organisation."""
        return self._service.tokens

    @property
    def token(self) -> str:
        """The token of the first organisation."""
        return self._service.tokens[0]

    def records(self, resource: str, token: str | None = None) -> list[dict[str, Any]]:
        """Return a copy of the stored records, including generated attributes and credentials.

        :param resource: ``users``, ``clients`` or ``appointments``.
        :param token: the organisation's token. By default, the token of the first organisation.
        :return: the records.
        :raises ValueError: if the resource or the token is unknown.
        """
        if resource not in RESOURCES or (token or self.token) not in self.tokens:
            raise ValueError(
                f"Unknown resource or token. Use one of {', '.join(RESOURCES)}, "
                "and a token from Sandbox.tokens."
            )
        return self._service.records(resource, token or self.token)

    def set_state(self, appointment_id: str, state: str) -> None:
        """Set the state of an appointment, and stop its schedule of states.

        :param appointment_id: id of an appointment of any organisation.
        :param state: any non-empty name.
        :raises LookupError: if no appointment has this id.
        :raises ValueError: if the state is empty or not a string.
        :raises RuntimeError: if the sandbox has a data file and is stopped.
        """
        owner = self._service.owner(APPOINTMENTS.name, appointment_id)
        if owner is None:
            raise LookupError("No appointment in the sandbox has this id.")
        try:
            self._service.set_state(APPOINTMENTS, owner, appointment_id, {"state": state})
        except ApiError as error:
            raise ValueError("state must be a non-empty string.") from error

    def start(self) -> None:
        """Start the server, and return when it accepts requests.

        :raises SandboxError: if the server cannot start, or if another sandbox uses the data file.
        """
        if self._thread is not None:
            raise RuntimeError("The sandbox is already running. Call stop() first.")
        self._service.open()
        try:
            self._start_server()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close all connections, release the port and the data file, and stop the thread.

        The records stay readable.
        """
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._thread = None
        self._service.close()

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_server(self) -> None:
        try:
            import uvicorn

            from airflow_provider_webcamconsult.sandbox.app import build_app
        except ModuleNotFoundError as error:
            raise SandboxError(
                f"The sandbox requires {error.name}, which is not installed. "
                "Install the provider with its extra 'sandbox', for example pip install '.[sandbox]' in a "
                "checkout, or run: pip install starlette uvicorn"
            ) from error
        listener = self._listen()
        config = uvicorn.Config(
            build_app(self._service, plural_paths=self._plural_paths, note=self._note),
            # Always use the same parser and loop, regardless of other installed packages.
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            # uvicorn's own log would show queries, which may contain tokens.
            access_log=False,
            log_config=None,
            log_level="critical",
            timeout_keep_alive=60,
            # Do not wait for clients on shutdown: one may keep its connection open forever.
            timeout_graceful_shutdown=0,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="webcamconsult-sandbox", daemon=True
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                listener.close()
                self._thread = None
                raise SandboxError("The sandbox server stopped before it was ready. Start it again.")
            time.sleep(0.005)

    def _listen(self) -> socket.socket:
        # Name the protocol. Otherwise asyncio keeps Nagle's algorithm, which delays each response by 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":
                # Otherwise the port of a stopped sandbox cannot be reused for a minute.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, self._requested_port))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            listener.close()
            reason = getattr(error, "strerror", None) or "ports range from 0 to 65535"
            raise SandboxError(
                f"Cannot listen on {HOST} port {self._requested_port}: {reason}. "
                "Use port 0 to pick a free port."
            ) from error
        self._port = listener.getsockname()[1]
        return listener

    def _note(self, method: str, path: str, status_code: int) -> None:
        if not path.startswith("/sandbox/"):
            self.requests.append(RecordedRequest(method, path, status_code))
