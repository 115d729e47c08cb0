"""The sandbox as a running server, in a thread of its own."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_webcamconsult.sandbox.service import (
    APPOINTMENTS,
    DOCUMENT_TOKENS,
    RESOURCES,
    ApiError,
    SandboxError,
    Service,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    import uvicorn

HOST = "127.0.0.1"


class RecordedRequest(NamedTuple):
    """A request that the sandbox has answered; the path is as it was sent, without its query."""

    method: str
    path: str
    status_code: int


class Sandbox:
    """A Webcamconsult API on loopback, to test DAGs with.

    .. code-block:: python

        with Sandbox(states="idle:1s,finished") as sandbox:
            headers = {"Authorization": f"Token token={sandbox.token}"}
            requests.get(f"{sandbox.url}/users.json", headers=headers)

    :param tokens: one for each organisation; an organisation sees only its own data.
    :param states: the states through which new appointments go by themselves, each but the last with how
        long it lasts: ``idle:5s,started:2m,finished``.
    :param plural_paths: serve single records at ``/clients/{id}.json`` and ``/appointments/{id}.json``,
        instead of the documented ``/client/{id}.json`` and ``/appointment/{id}.json``.
    :param port: 0 takes a free one.
    :param data: the JSON file to keep everything in; without it, all is gone with the sandbox.
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
        self._wanted_port = port
        self._port: int | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        if self._port is None:
            raise RuntimeError("the sandbox has not been started")
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
        """Copy what is stored, generated attributes and credentials included.

        :param resource: ``users``, ``clients`` or ``appointments``.
        :param token: the organisation's; by default the first one's.
        """
        if resource not in RESOURCES or (token or self.token) not in self.tokens:
            raise ValueError(f"records of {' or '.join(RESOURCES)}, with one of the sandbox's tokens")
        return self._service.records(resource, token or self.token)

    def set_state(self, appointment_id: str, state: str) -> None:
        """Put an appointment in a state, and end its schedule.

        :param appointment_id: an appointment of any organisation.
        :param state: any name.
        """
        owner = self._service.owner(APPOINTMENTS.name, appointment_id)
        if owner is None:
            raise LookupError("there is no appointment with this id")
        try:
            self._service.set_state(APPOINTMENTS, owner, appointment_id, {"state": state})
        except ApiError as error:
            raise ValueError("the name of a state is a string that is not empty") from error

    def start(self) -> None:
        """Listen, and return once requests are answered."""
        if self._thread is not None:
            raise RuntimeError("the sandbox is running already")
        try:
            import uvicorn

            from airflow_provider_webcamconsult.sandbox.app import build_app
        except ModuleNotFoundError as error:
            raise SandboxError(
                f"the sandbox needs {error.name}: pip install 'airflow-provider-webcamconsult[sandbox]'"
            ) from error
        listener = self._listen()
        config = uvicorn.Config(
            build_app(self._service, plural_paths=self._plural_paths, note=self._note),
            # The same parser and loop, whatever else is installed.
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            # Its own messages would show queries, and with them tokens.
            access_log=False,
            log_config=None,
            log_level="critical",
            timeout_keep_alive=60,
            # The end waits for no client: one may hold its connection for ever.
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
                raise SandboxError("the server ended while it started")
            time.sleep(0.005)

    def stop(self) -> None:
        """Close every connection, free the port and end the thread. What was recorded stays readable."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join()
        self._thread = None

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _listen(self) -> socket.socket:
        # Without the protocol, asyncio leaves Nagle's algorithm on, which makes each answer take 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":
                # Else the port of a sandbox that has just been stopped cannot be had for a minute.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, self._wanted_port))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            listener.close()
            reason = getattr(error, "strerror", None) or "ports go from 0 to 65535"
            raise SandboxError(
                f"cannot listen on {HOST} port {self._wanted_port}: {reason} (port 0 takes a free one)"
            ) from error
        self._port = listener.getsockname()[1]
        return listener

    def _note(self, method: str, path: str, status_code: int) -> None:
        if not path.startswith("/sandbox/"):
            self.requests.append(RecordedRequest(method, path, status_code))
