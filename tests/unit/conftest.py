"""Fixtures for the unit tests: servers, a connection, a hook and the log."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import socketserver
import ssl
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_webcamconsult.sandbox import Sandbox
from devtools.certificate import write_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from airflow_provider_webcamconsult.sandbox import RecordedRequest

CONN_ID = "webcamconsult_default"
TOKEN = "token-of-the-scripted-server"
NOT_FOUND = {"status": 404, "error": "Not Found"}


class Step(TypedDict, total=False):
    """How the scripted server handles one request; by default 200 without a body; a 404 is the API's."""

    status: int
    headers: dict[str, str]
    body: object
    """Bytes and text are sent unchanged, anything else as JSON."""
    delay: float
    """Seconds before the response."""
    cut: Literal["before the body", "after the request", "in the response", "after the response"]
    """When the server closes the connection without notice."""


@dataclass(frozen=True)
class Received:
    """A request that the scripted server has read; the body is empty if the connection is cut before it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer(socketserver.ThreadingTCPServer):
    """
    A server on loopback that handles each request as scripted, to simulate faults.

    :param steps: one step for each request; the last one is repeated.
    :param tls: the TLS context; by default, the server uses plain HTTP.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, steps: Sequence[Step], tls: ssl.SSLContext | None = None) -> None:
        self.steps = [*steps]
        self.tls = tls
        self.requests: list[Received] = []
        self.connections = 0
        self.connection_ended = threading.Event()
        super().__init__(("127.0.0.1", 0), _ConnectionHandler, bind_and_activate=False)
        self.server_bind()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        self.connections += 1
        if self.tls:
            # The handshake happens at the first read, in the connection's own thread.
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def next_step(self) -> Step:
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.connection_ended.set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: some tests use clients that do not wait for the response."""


class _ConnectionHandler(socketserver.StreamRequestHandler):
    server: ScriptedServer
    # Otherwise, a response that is sent in parts waits for the client's acknowledgement.
    disable_nagle_algorithm = True

    def handle(self) -> None:
        while (line := self.rfile.readline()).strip():
            # For example a TLS handshake, which a plain server rejects in plain text.
            if not line[:1].isalpha():
                self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                return
            step = self.server.next_step()
            cut = step.get("cut")
            self.receive(line, with_body=cut != "before the body")
            if cut in ("before the body", "after the request"):
                return
            time.sleep(step.get("delay", 0))
            response = self.build_response(step)
            self.wfile.write(response[:-1] if cut == "in the response" else response)
            if cut:
                return

    def receive(self, line: bytes, *, with_body: bool) -> None:
        method, target, _ = line.decode().split()
        headers = {}
        while header := self.rfile.readline().decode().strip():
            name, _, value = header.partition(":")
            headers[name] = value.strip()
        body = self.rfile.read(int(headers.get("Content-Length", 0))) if with_body else b""
        self.server.requests.append(Received(method, target, headers, body))

    def build_response(self, step: Step) -> bytes:
        body = step.get("body", NOT_FOUND if step.get("status") == 404 else b"")
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {"Content-Length": str(len(body)), **step.get("headers", {})}
        lines = [f"HTTP/1.1 {step.get('status', 200)} -", *(f"{name}: {headers[name]}" for name in headers)]
        return "\r\n".join([*lines, "", ""]).encode() + body


class Serve(Protocol):
    """Start a scripted server."""

    def __call__(self, *steps: Step, tls: bool = False, listening_after: float = 0) -> ScriptedServer: ...


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(*steps: Step, tls: bool = False, listening_after: float = 0) -> ScriptedServer:
            context = None
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(request.getfixturevalue("certificate"))
            server = stack.enter_context(ScriptedServer(steps, context))

            def run() -> None:
                server.server_activate()
                server.serve_forever(0.005)

            if listening_after:
                threading.Timer(listening_after, run).start()
            else:
                server.server_activate()
                threading.Thread(target=run, daemon=True).start()
            stack.callback(server.shutdown)
            return server

        yield start


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a file with a self-signed certificate for 127.0.0.1 and its key."""
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    write_certificate(file)
    return file


class Service:
    """
    One organisation of the shared sandbox: as isolated as a separate sandbox and a second faster.

    :param sandbox: the shared sandbox.
    :param token: the organisation's API token.
    """

    def __init__(self, sandbox: Sandbox, token: str) -> None:
        self.url = sandbox.url
        self.token = token
        self.set_state = sandbox.set_state
        self._sandbox = sandbox
        self._earlier_requests = len(sandbox.requests)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests of this test; tests run one after the other."""
        return self._sandbox.requests[self._earlier_requests :]

    def records(self, kind: str) -> list[dict[str, Any]]:
        return self._sandbox.records(kind, self.token)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(tokens=[f"secret-of-organisation-{number}" for number in range(2000)]) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def _unused_tokens(sandbox: Sandbox) -> Iterator[str]:
    return iter(sandbox.tokens)


@pytest.fixture
def service(sandbox: Sandbox, _unused_tokens: Iterator[str]) -> Service:
    return Service(sandbox, next(_unused_tokens))


@pytest.fixture(autouse=True)
def _forget_secrets() -> Iterator[None]:
    """Start each test without the secrets of earlier ones: Airflow compiles all of them into one pattern."""
    yield
    for name in ("airflow._shared", "airflow.sdk._shared", "airflow.utils.log"):
        if module := sys.modules.get(f"{name}.secrets_masker"):
            masker = module._secrets_masker()
            masker.patterns, masker.replacer = set(), None


class Connect(Protocol):
    """Create the Airflow connection of a test, and return a hook that uses it."""

    def __call__(self, host: str, token: str = TOKEN, **extra: Any) -> WebcamconsultHook: ...


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    from airflow_provider_webcamconsult import transport
    from airflow_provider_webcamconsult.hooks import webcamconsult

    # Only the delay is shorter; the retries are the same.
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.001)
    # urllib3 loads the machine's certificates for each TLS connection, which takes longer than the handshake.
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)

    def connect(host: str, token: str = TOKEN, **extra: Any) -> WebcamconsultHook:
        connection = {"conn_type": "webcamconsult", "host": host, "password": token, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
        return webcamconsult.WebcamconsultHook()

    return connect


@pytest.fixture
def hook(connect: Connect, service: Service) -> WebcamconsultHook:
    return connect(service.url, service.token)


@dataclass
class Log:
    """Everything that was logged: with logging by Airflow 2 and libraries, with structlog by Airflow 3."""

    caplog: pytest.LogCaptureFixture
    structured: list[Any] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join([*self.caplog.messages, *(str(entry) for entry in self.structured)])

    def clear(self) -> None:
        self.caplog.clear()
        self.structured.clear()

    @property
    def warnings(self) -> list[str]:
        """The provider's warnings, in order."""
        return self.messages("warning")

    def messages(self, level: str) -> list[str]:
        """Return the provider's messages at a level, in order."""
        standard = [
            record.getMessage()
            for record in self.caplog.records
            if record.levelname == level.upper() and "webcamconsult" in record.name.lower()
        ]
        return standard + [entry["event"] for entry in self.structured if entry["log_level"] == level]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    # Airflow configures logging when it is imported, so capturing has to start afterwards.
    import airflow_provider_webcamconsult.hooks.webcamconsult  # noqa: F401

    with ExitStack() as stack:
        stack.enter_context(caplog.at_level(logging.DEBUG))
        log = Log(caplog)
        if importlib.util.find_spec("structlog"):
            from structlog.testing import capture_logs

            log.structured = stack.enter_context(capture_logs())
        yield log


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.fixture(scope="session")
def error_text() -> ErrorText:
    def error_text(error: BaseException) -> str:
        return "\n".join(f"{link!r} {link} {vars(link)}" for link in _chain(error))

    return error_text


class ErrorText(Protocol):
    """Return everything that an error and its causes can show."""

    def __call__(self, error: BaseException) -> str: ...
