"""Responses that no good server sends: informational, slow, endless or swollen ones."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import socket
import ssl
import threading
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from airflow_provider_webcamconsult import transport
from airflow_provider_webcamconsult.api.request import create_request, get_request, list_request
from airflow_provider_webcamconsult.api.resources import CLIENT
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultUnknownOutcomeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Log

ID = "1234567890abcdef12345678"


class RawServer:
    """
    A server that answers each request with bytes of the test's choice.

    :param answer: gets the connection and the request's head; the connection stays open unless it raises.
    :param context: TLS context of a server that speaks TLS.
    """

    def __init__(self, answer: Callable[[socket.socket, str], None], context: ssl.SSLContext | None) -> None:
        self.answer = answer
        self.context = context
        self.heads: list[str] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with suppress(OSError, StopIteration):
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                received = b""
                while True:
                    while b"\r\n\r\n" not in received:
                        if not (data := connection.recv(1 << 16)):
                            return
                        received += data
                    head, _, received = received.partition(b"\r\n\r\n")
                    length = next(
                        (
                            int(line[15:])
                            for line in head.split(b"\r\n")
                            if line.lower().startswith(b"content-length")
                        ),
                        0,
                    )
                    while len(received) < length:
                        received += connection.recv(1 << 16)
                    received = received[length:]
                    self.heads.append(head.decode())
                    self.answer(connection, head.decode())

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class ServeRaw(Protocol):
    """Starts a raw server."""

    def __call__(self, answer: Callable[[socket.socket, str], None], *, tls: bool = False) -> RawServer: ...


@pytest.fixture
def serve_raw(request: pytest.FixtureRequest) -> Iterator[ServeRaw]:
    servers = []

    def start(answer: Callable[[socket.socket, str], None], *, tls: bool = False) -> RawServer:
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(request.getfixturevalue("certificate"))
        servers.append(RawServer(answer, context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def response(record_id: str = ID, *lines: str, status: str = "200 OK", last_name: str = "Alders") -> bytes:
    body = json.dumps({"client": {"id": record_id, "last_name": last_name}})
    head = [f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}"]
    return ("\r\n".join([*head, "", ""]) + body).encode()


def in_parts(*parts: bytes, pause: float = 0.0) -> Callable[[socket.socket, str], None]:
    def answer(connection: socket.socket, _head: str) -> None:
        for number, part in enumerate(parts):
            time.sleep(pause if number else 0)
            connection.sendall(part)

    return answer


def in_drips(head: bytes, drip: bytes, pause: float = 0.05) -> Callable[[socket.socket, str], None]:
    """Send a head at once, and then a piece after each pause, for as long as the client listens."""

    def answer(connection: socket.socket, _head: str) -> None:
        connection.sendall(head)
        while True:
            time.sleep(pause)
            connection.sendall(drip)

    return answer


def create(hook: WebcamconsultHook) -> Any:
    return hook.transport.send(create_request(CLIENT, {"last_name": "s3cret-name"}))


CALLS: dict[str, Callable[[WebcamconsultHook], Any]] = {
    "GET": lambda hook: hook.transport.send(get_request(CLIENT, ID)),
    "POST": create,
}
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x.css>; rel=preload\r\n\r\n"
both_methods = pytest.mark.parametrize("method", CALLS)
plain_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])


def fail(method: str, hook: WebcamconsultHook) -> WebcamconsultError:
    with pytest.raises(WebcamconsultError) as raised:
        CALLS[method](hook)
    return raised.value


class TestInformationalResponses:
    @both_methods
    @plain_and_tls
    @pytest.mark.parametrize(
        "informational",
        [
            EARLY_HINTS,
            b"HTTP/1.1 102 Processing\r\n\r\n",
            b"HTTP/1.1 199 -\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" + EARLY_HINTS + b"HTTP/1.1 100 Continue\r\n\r\n",
            EARLY_HINTS * 200,
        ],
        ids=["103", "102", "199", "100 and 103", "many"],
    )
    def test_are_skipped(
        self, method: str, tls: bool, informational: bytes, connect: Connect, serve_raw: ServeRaw
    ) -> None:
        names = iter(["first", "second", "third"])

        def answer(connection: socket.socket, _head: str) -> None:
            connection.sendall(informational)
            time.sleep(0.02)
            connection.sendall(response(last_name=next(names)))

        server = serve_raw(answer, tls=tls)
        hook = connect(server.url, insecure=tls, retries=0)
        # Each request gets its own response.
        assert [CALLS[method](hook)["last_name"] for _ in range(3)] == ["first", "second", "third"]
        assert len(server.heads) == 3

    def test_are_skipped_for_creates_of_the_hook(self, connect: Connect, serve_raw: ServeRaw) -> None:
        server = serve_raw(in_parts(EARLY_HINTS, response(), pause=0.02))
        assert connect(server.url).clients.create({"last_name": "Alders"})["id"] == ID

    @both_methods
    def test_are_skipped_by_the_session(self, method: str, connect: Connect, serve_raw: ServeRaw) -> None:
        server = serve_raw(in_parts(EARLY_HINTS, response(), pause=0.02))
        assert connect(server.url).get_conn().request(method, f"{server.url}/x.json").status_code == 200

    @pytest.mark.parametrize(
        ("method", "error"),
        [("GET", WebcamconsultConnectionError), ("POST", WebcamconsultUnknownOutcomeError)],
    )
    @pytest.mark.parametrize(
        ("parts", "cause"),
        [
            ([EARLY_HINTS], "no response was received within 0.3 s"),
            ([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"], "a protocol other than HTTP/1.1"),
            ([EARLY_HINTS, b"HTTP/1.1 101 -\r\n\r\n", response("x")], "a protocol other than HTTP/1.1"),
        ],
        ids=["silence", "101", "101 and a response"],
    )
    def test_without_a_response_end_the_connection(
        self,
        method: str,
        error: type[WebcamconsultError],
        parts: Sequence[bytes],
        cause: str,
        connect: Connect,
        serve_raw: ServeRaw,
    ) -> None:
        answers = [list(parts)]

        def answer(connection: socket.socket, head: str) -> None:
            in_parts(*(answers.pop() if answers else [response()]), pause=0.05)(connection, head)

        server = serve_raw(answer)
        hook = connect(server.url, retries=0, timeout=0.3)
        raised = fail(method, hook)
        assert type(raised) is error
        assert cause in str(raised)
        assert CALLS[method](hook)["id"] == ID
        assert server.connections == 2

    @both_methods
    def test_without_end_meet_the_deadline(
        self, method: str, connect: Connect, serve_raw: ServeRaw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transport, "RESPONSE_DEADLINE_SECONDS", 0.5)
        server = serve_raw(in_drips(b"", EARLY_HINTS, pause=0))
        began = time.monotonic()
        raised = fail(method, connect(server.url, retries=0, timeout=0.3))
        assert time.monotonic() - began < 2
        assert "the response was not complete within 0.5 s" in str(raised)


HEAD = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "header": (HEAD + b"X-Header: ", b"x"),
    "headers": (HEAD, b"X: y\r\n"),
    "body": (HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
    "body without length": (HEAD + b"\r\n", b" "),
    "chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nFFFF\r\n", b" "),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "length of a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    "error page": (b"HTTP/1.1 503 -\r\n\r\n", b" "),
}


class TestDeadline:
    @both_methods
    @plain_and_tls
    @pytest.mark.parametrize(("head", "drip"), DRIPS.values(), ids=DRIPS.keys())
    def test_ends_a_response_that_drips(
        self,
        method: str,
        tls: bool,
        head: bytes,
        drip: bytes,
        connect: Connect,
        serve_raw: ServeRaw,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(transport, "RESPONSE_DEADLINE_SECONDS", 0.4)
        server = serve_raw(in_drips(head, drip), tls=tls)
        threads = threading.active_count()
        began = time.monotonic()
        raised = fail(method, connect(server.url, retries=0, timeout=0.3, insecure=tls))
        assert 0.35 < time.monotonic() - began < 1.5
        assert threading.active_count() <= threads + 1  # the server's
        expected = WebcamconsultUnknownOutcomeError if method == "POST" else WebcamconsultConnectionError
        assert type(raised) is expected
        assert "the response was not complete within 0.4 s" in str(raised)

    @pytest.mark.parametrize(("head", "drip"), DRIPS.values(), ids=DRIPS.keys())
    def test_of_one_request_is_its_timeout(
        self, head: bytes, drip: bytes, connect: Connect, serve_raw: ServeRaw
    ) -> None:
        hook = connect(serve_raw(in_drips(head, drip)).url)
        began = time.monotonic()
        with pytest.raises(WebcamconsultConnectionError, match=r"within 0\.4 s"):
            hook.transport.send_once(get_request(CLIENT, ID), timeout=0.4)
        assert time.monotonic() - began < 1.2

    def test_is_not_shorter_than_the_timeout_of_the_connection(
        self, connect: Connect, serve_raw: ServeRaw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transport, "RESPONSE_DEADLINE_SECONDS", 0.1)
        server = serve_raw(in_parts(b"", response(), pause=0.4))
        assert CALLS["GET"](connect(server.url, timeout=5, retries=0))["id"] == ID

    def test_is_for_each_response(
        self, connect: Connect, serve_raw: ServeRaw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transport, "RESPONSE_DEADLINE_SECONDS", 0.4)
        server = serve_raw(in_parts(b"", response(), pause=0.2))
        hook = connect(server.url, timeout=0.4, retries=0)
        assert [CALLS["GET"](hook)["id"] for _ in range(4)] == [ID] * 4
        assert server.connections == 1

    def test_holds_for_the_session(
        self, connect: Connect, serve_raw: ServeRaw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transport, "RESPONSE_DEADLINE_SECONDS", 0.4)
        server = serve_raw(in_drips(HEAD + b"\r\n", b" "))
        session = connect(server.url, timeout=0.3).get_conn()
        began = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            session.get(f"{server.url}/x.json")
        assert time.monotonic() - began < 1.5


LIMIT = 2**20


def endlessly(head: bytes, piece: bytes) -> Callable[[socket.socket, str], None]:
    return in_drips(head, piece, pause=0)


def bomb(encodings: str, size: int = 16 * LIMIT) -> bytes:
    body = bytes(size)
    for encoding in encodings.split(", "):
        body = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encodings}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


SWOLLEN: dict[str, Callable[[], Callable[[socket.socket, str], None]]] = {
    "declared": lambda: in_drips(HEAD + b"Content-Length: %d\r\n\r\n" % (LIMIT + 1), b" ", pause=60),
    "without length": lambda: endlessly(HEAD + b"\r\n", bytes(5000)),
    "chunks": lambda: endlessly(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + bytes(0x1000) + b"\r\n"
    ),
    "one chunk": lambda: endlessly(HEAD + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\n", bytes(5000)),
    "informational": lambda: endlessly(b"", EARLY_HINTS * 50),
    "gzip": lambda: in_parts(bomb("gzip")),
    "deflate": lambda: in_parts(bomb("deflate")),
    "gzip twice": lambda: in_parts(bomb("gzip, gzip")),
    "error page": lambda: endlessly(b"HTTP/1.1 500 -\r\n\r\n", bytes(5000)),
}


LONG_LINES = {
    "length of a chunk": lambda: endlessly(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 5000),
    "trailer": lambda: endlessly(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"x" * 5000),
}


class TestSizeLimit:
    @pytest.fixture(autouse=True)
    def _limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transport, "RESPONSE_MAX_BYTES", LIMIT)

    @both_methods
    @pytest.mark.parametrize("answer", SWOLLEN.values(), ids=SWOLLEN.keys())
    def test_ends_a_response_that_is_larger(
        self,
        method: str,
        answer: Callable[[], Callable[[socket.socket, str], None]],
        connect: Connect,
        serve_raw: ServeRaw,
    ) -> None:
        server = serve_raw(answer())
        raised = fail(method, connect(server.url, retries=2, timeout=5))
        expected = WebcamconsultUnknownOutcomeError if method == "POST" else WebcamconsultConfigurationError
        assert type(raised) is expected
        assert "the response is larger than 1 MiB" in str(raised)
        assert len(server.heads) == 1

    @pytest.mark.parametrize("answer", LONG_LINES.values(), ids=LONG_LINES.keys())
    def test_holds_for_a_line_without_end(
        self,
        answer: Callable[[], Callable[[socket.socket, str], None]],
        connect: Connect,
        serve_raw: ServeRaw,
    ) -> None:
        # Newer releases of urllib3 have a limit of their own, and lose the connection.
        raised = fail("GET", connect(serve_raw(answer()).url, retries=0))
        assert isinstance(raised, (WebcamconsultConfigurationError, WebcamconsultConnectionError))

    @pytest.mark.parametrize(("encoding", "excess"), [("", 1), ("", -100), ("gzip", 1), ("gzip", 0)])
    def test_is_exact(self, encoding: str, excess: int, connect: Connect, serve_raw: ServeRaw) -> None:
        body = b'[{"id":"%s"}]' % ID.encode()
        body += b" " * (LIMIT + excess - len(body))
        sent = gzip.compress(body) if encoding else body
        head = f"Content-Encoding: {encoding or 'identity'}\r\nContent-Length: {len(sent)}\r\n\r\n"
        # The head counts, so a body that is not compressed must be a little shorter.
        hook = connect(serve_raw(in_parts(HEAD + head.encode() + sent)).url, retries=0)
        if excess > 0:
            with pytest.raises(WebcamconsultConfigurationError, match="larger than 1 MiB"):
                hook.clients.list()
        else:
            assert [client["id"] for client in hook.clients.list()] == [ID]

    def test_of_memory(self, connect: Connect, serve_raw: ServeRaw, monkeypatch: pytest.MonkeyPatch) -> None:
        import tracemalloc

        monkeypatch.setattr(transport, "RESPONSE_MAX_BYTES", 16 * LIMIT)
        hook = connect(serve_raw(in_parts(bomb("gzip", 128 * LIMIT))).url, retries=0)
        hook.transport.new_session()
        tracemalloc.start()
        try:
            fail("GET", hook)
            assert tracemalloc.get_traced_memory()[1] < 48 * LIMIT
        finally:
            tracemalloc.stop()

    def test_a_body_exists_once(
        self, connect: Connect, serve_raw: ServeRaw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import tracemalloc

        monkeypatch.setattr(transport, "RESPONSE_MAX_BYTES", 64 * LIMIT)
        body = bytes(32 * LIMIT)
        hook = connect(serve_raw(in_parts(HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body)).url)
        peaks = []

        def read(_request: object, received: transport._Received) -> None:
            peaks.append(tracemalloc.get_traced_memory()[1])
            assert received.content == body

        monkeypatch.setattr(hook.transport, "_read", read)
        tracemalloc.start()
        try:
            hook.transport.send(list_request(CLIENT))
        finally:
            tracemalloc.stop()
        assert peaks[0] < 1.4 * len(body)


class TestToken:
    @pytest.mark.parametrize(
        "line", [b" X-Echo: s3cret Jansen", b"From s3cret Jansen", b"s3cret Jansen", b": s3cret Jansen"]
    )
    @pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
    def test_invalid_header_line_is_not_logged(
        self, line: bytes, is_first: bool, connect: Connect, serve_raw: ServeRaw, log: Log
    ) -> None:
        lines = [line, b"X: y"] if is_first else [b"X: y", line]

        def answer(connection: socket.socket, head: str) -> None:
            body = json.dumps({"client": {"id": ID}}).encode()
            length = b"Content-Length: %d" % len(body)
            connection.sendall(b"\r\n".join([b"HTTP/1.1 200 OK", *lines, length, b"", body]))
            raise StopIteration

        hook = connect(serve_raw(answer).url, retries=0, timeout=1)
        with suppress(WebcamconsultError):
            hook.clients.get(ID)
        assert "s3cret" not in log.text
        assert "Jansen" not in log.text

    @pytest.mark.parametrize("auth_as_parameter", [False, True], ids=["header", "parameter"])
    @pytest.mark.parametrize("is_proxied", [False, True], ids=["plain", "proxied"])
    @pytest.mark.parametrize("token", ["s3cret/+=", "s3cret&a=b#?", 's3cret"%'])
    @pytest.mark.parametrize("method", [*CALLS, "session"])
    def test_is_not_logged_with_a_garbage_header(
        self,
        auth_as_parameter: bool,
        is_proxied: bool,
        token: str,
        method: str,
        connect: Connect,
        serve_raw: ServeRaw,
        monkeypatch: pytest.MonkeyPatch,
        log: Log,
    ) -> None:
        def answer(connection: socket.socket, head: str) -> None:
            # The server repeats what it received.
            garbage = head.partition("\r\n")[0].encode()
            connection.sendall(
                HEAD + b"Content-Length: 50\r\n " + garbage + b"\r\ngarbage " + garbage + b"\r\nX: y\r\n\r\n"
            )
            raise StopIteration

        server = serve_raw(answer)
        url = server.url
        if is_proxied:
            monkeypatch.setenv("http_proxy", server.url)
            url = "http://webcamconsult.invalid"
        hook = connect(url, token, retries=0, auth_as_parameter=auth_as_parameter, timeout=1)
        if method == "session":
            with suppress(OSError):
                hook.get_conn().get(f"{url}/users.json?x=y")
        else:
            fail(method, hook)
        assert logging.getLogger("urllib3").isEnabledFor(logging.DEBUG)
        assert "s3cret" not in log.text
        (head,) = server.heads
        line = head.partition("\r\n")[0]
        assert ("s3cret" in line) == (auth_as_parameter and method != "POST")
        assert line.startswith(f"GET {url if is_proxied else ''}/" if method != "POST" else "POST ")

    @pytest.mark.parametrize("auth_as_parameter", [False, True], ids=["header", "parameter"])
    @both_methods
    def test_is_not_printed_by_http_client(
        self,
        auth_as_parameter: bool,
        method: str,
        connect: Connect,
        serve_raw: ServeRaw,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
        monkeypatch.setattr(http.client.HTTPSConnection, "debuglevel", 1)
        hook = connect(serve_raw(in_parts(response())).url, "s3cret", auth_as_parameter=auth_as_parameter)
        CALLS[method](hook)
        printed = capsys.readouterr().out
        assert not any(word in printed for word in ("send:", "reply:", "header:", "s3cret"))

    def test_and_body_are_not_in_the_repr_of_a_request(self) -> None:
        request = create_request(CLIENT, {"last_name": "s3cret-name"})
        assert "s3cret" not in f"{request!r} {request}"
        assert "/clients.json" in repr(request)


class TestKeptConnections:
    def test_are_not_used_for_creates(self, connect: Connect, serve_raw: ServeRaw) -> None:
        server = serve_raw(in_parts(response()))
        hook = connect(server.url)
        for _ in range(3):
            CALLS["GET"](hook)
        assert server.connections == 1
        create(hook)
        assert server.connections == 2
        create(hook)
        assert server.connections == 3
        CALLS["GET"](hook)
        assert server.connections == 3

    @plain_and_tls
    def test_that_the_server_closes_at_will_cost_no_create_its_outcome(
        self, tls: bool, connect: Connect, serve_raw: ServeRaw
    ) -> None:
        def answer(connection: socket.socket, head: str) -> None:
            connection.sendall(response())
            # Somewhere between this response and the client's next request.
            time.sleep(answers[len(server.heads) % len(answers)])
            raise StopIteration

        answers = [0, 0.0001, 0.0003, 0.001, 0.003]
        server = serve_raw(answer, tls=tls)
        hook = connect(server.url, insecure=tls)
        for number in range(100):
            time.sleep(0.0002 * (number % 10))
            assert create(hook)["id"] == ID
        assert len(server.heads) == 100

    def test_are_kept_through_a_proxy_tunnel_only_for_reads(
        self, connect: Connect, serve_raw: ServeRaw, monkeypatch: pytest.MonkeyPatch, certificate: Path
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        tunnels = []

        def answer(connection: socket.socket, head: str) -> None:
            assert head.startswith("CONNECT webcamconsult.invalid:443 ")
            assert "s3cret" not in head
            tunnels.append(0)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with context.wrap_socket(connection, server_side=True) as secured:
                while data := secured.recv(1 << 16):
                    if b"\r\n\r\n" in data:
                        tunnels[-1] += 1
                        secured.sendall(response())
            raise StopIteration

        monkeypatch.setenv("https_proxy", serve_raw(answer).url)
        hook = connect("https://webcamconsult.invalid", "s3cret", insecure=True)
        for method in ("GET", "GET", "POST", "GET", "POST"):
            assert CALLS[method](hook)["id"] == ID
        assert tunnels == [2, 2, 1]
