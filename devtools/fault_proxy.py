"""A proxy on loopback that injects faults of networks, gateways and crashing servers into requests."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

HOST = "127.0.0.1"

TIMEOUT_SECONDS = 60.0
"""Upper limit for every wait of the proxy. Only a failing test reaches it."""


class LoggedRequest(NamedTuple):
    """A request that reached the proxy."""

    method: str
    path: str


ProxyT = TypeVar("ProxyT", bound="Proxy")


class ProxiedRequest:
    """
    One request, on its own client connection.

    :param proxy: the proxy that accepted the connection.
    :param client: the connection.
    """

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        client.settimeout(TIMEOUT_SECONDS)
        # Peek, not read: closing a socket with unread data resets the connection, which some faults need.
        self.method, target, _ = self._peek().split(b"\r\n")[0].decode().split()
        self.path = urlsplit(target).path
        self._request = b""

    @property
    def client_port(self) -> int:
        """The client's port, which identifies its process."""
        return int(self.client.getpeername()[1])

    def _peek(self) -> bytes:
        size = 0
        while True:
            start = self.client.recv(1 << 16, socket.MSG_PEEK)
            if b"\r\n" in start:
                return start
            if len(start) == size:
                raise ConnectionAbortedError("The client closed the connection.")
            size = len(start)

    def read(self) -> bytes:
        """Return the whole request. Read it from the connection on the first call."""
        while b"\r\n\r\n" not in self._request:
            self._receive()
        head, _, body = self._request.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        missing = int(length[1]) - len(body) if length else 0
        while missing > 0:
            missing -= self._receive()
        return self._request

    def _receive(self) -> int:
        received = self.client.recv(1 << 16)
        if not received:
            raise ConnectionAbortedError("The client closed the connection.")
        self._request += received
        return len(received)

    def forward(self) -> bytes:
        """Send the request to the service, and return the whole response."""
        head, _, body = self.read().partition(b"\r\n\r\n")
        head = re.sub(rb"(?im)^connection:.*\r\n", b"", head + b"\r\n") + b"Connection: close\r\n\r\n"
        with socket.create_connection(self.proxy.service, TIMEOUT_SECONDS) as service:
            service.sendall(head + body)
            with service.makefile("rb") as response:
                return response.read()

    def respond(self, response: bytes) -> None:
        """Send a response, or a part of one, to the client."""
        self.client.sendall(response)

    def reset(self) -> None:
        """Make closing the connection send RST instead of FIN."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def disconnect(self) -> None:
        """Shut down the client connection. The request can still be forwarded."""
        self.client.shutdown(socket.SHUT_RDWR)

    def replace(self, old: bytes, new: bytes) -> None:
        """Replace bytes of the request before it is forwarded. In the body, only by as many bytes."""
        self._request = self.read().replace(old, new)

    def wait_for_disconnect(self) -> None:
        """Wait until the client closes the connection or dies."""
        select.select([self.client], [], [], TIMEOUT_SECONDS)


class Proxy:
    """
    A proxy that logs and forwards every request. Subclasses override :meth:`handle`.

    Every request has its own connection, so connection faults can affect each of them.

    :param url: URL of the service.
    """

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self.service = (address.hostname or HOST, address.port or 80)
        self.requests: list[LoggedRequest] = []
        self._listener = self._bind(0)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://{HOST}:{self.port}"
        self._ended = False

    def count(self, method: str) -> int:
        """Return the number of requests with this method that reached the proxy."""
        return sum(request.method == method for request in self.requests)

    def handle(self, request: ProxiedRequest) -> None:
        """Handle one request."""
        request.respond(request.forward())

    def __enter__(self: ProxyT) -> ProxyT:
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self.refuse()
        self._listener.close()

    def listen(self) -> None:
        """Accept connections."""
        self._listener.listen(128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse connections, but keep the port bound."""
        with contextlib.suppress(OSError):  # wakes the accepting thread
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if not self._ended:
            self._listener = self._bind(self.port)

    def _bind(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # Clients are expected to disconnect at any time.
        with client, contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = ProxiedRequest(self, client)
            self.requests.append(LoggedRequest(request.method, request.path))
            self.handle(request)


def make_response(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """
    Serialize a response.

    :param status: HTTP status.
    :param body: response body.
    :param headers: additional headers.
    """
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


LOGIN_PAGE = b"<!DOCTYPE html>\n<title>Log in</title>\n<form action='/login'></form>\n"
OTHER_SHAPE = json.dumps({"status": "queued", "data": [1, 2]}).encode()

#: Decompresses to a thousand times its size.
GZIP_BOMB = gzip.compress(b" " * (8 << 20))
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
DRIP_INTERVAL_SECONDS = 0.05

Kind = Literal[
    "refuse",
    "close unread",
    "close",
    "reset",
    "hold",
    "delay",
    "delay until healed",
    "respond",
    "inform first",
    "drip",
    "mix up",
]
Part = Literal["nothing", "half the headers", "half the body"]


@dataclass(frozen=True)
class Fault:
    """
    A fault that hits one request.

    :param name: name in the fault table.
    :param kind: what the proxy does.
    :param processed: whether the service processes the request.
    :param part: how much of the service's response the client receives.
    :param replacement: what the client receives instead of the service's response.
    """

    name: str
    kind: Kind
    processed: bool = False
    part: Part = "nothing"
    replacement: bytes = b""


def _responses() -> dict[str, bytes]:
    def with_header(status: int, name: str, value: str) -> bytes:
        return make_response(status, headers={name: value})

    return {
        "429": make_response(429),
        "429 (Retry-After in seconds)": with_header(429, "Retry-After", "30"),
        "429 (Retry-After as a date)": with_header(429, "Retry-After", "Wed, 21 Oct 2099 07:28:00 GMT"),
        **{str(status): make_response(status, LOGIN_PAGE) for status in (500, 502, 503, 504)},
        "web page with 404": make_response(404, LOGIN_PAGE, {"Content-Type": "text/html"}),
        "gzip bomb": make_response(200, GZIP_BOMB, {"Content-Encoding": "gzip"}),
        "login page with 200": make_response(200, LOGIN_PAGE, {"Content-Type": "text/html"}),
        "empty 200": make_response(200),
        "other JSON with 200": make_response(200, OTHER_SHAPE, {"Content-Type": "application/json"}),
        **{
            f"redirect {status}": with_header(status, "Location", "https://elsewhere.example.com/users.json")
            for status in (301, 302, 307, 308)
        },
    }


def _faults() -> list[Fault]:
    responses = _responses()
    before = [
        Fault("connection refused", "refuse"),
        Fault("closed before reading", "close unread"),
        Fault("closed without processing", "close"),
        Fault("reset without processing", "reset"),
        *(
            Fault(f"{name} without processing", "respond", replacement=response)
            for name, response in responses.items()
        ),
    ]
    after = [
        Fault("processed as soon as the client gave up", "delay", processed=True),
        Fault("processed long after the client gave up", "delay until healed", processed=True),
        Fault("closed before the response", "close", processed=True),
        Fault("closed within the response headers", "close", processed=True, part="half the headers"),
        Fault("closed within the response body", "close", processed=True, part="half the body"),
        Fault("reset before the response", "reset", processed=True),
        Fault("reset within the response body", "reset", processed=True, part="half the body"),
        Fault("no response in time", "hold", processed=True),
        Fault("103 before the response", "inform first", processed=True),
        Fault("response byte by byte", "drip", processed=True),
        Fault("response about another record", "mix up", processed=True),
        # Without 429, which means that nothing was processed. No client can know better.
        *(
            Fault(f"{name} after processing", "respond", processed=True, replacement=response)
            for name, response in responses.items()
            if not name.startswith("429")
        ),
    ]
    return before + after


#: All faults by name.
FAULTS: dict[str, Fault] = {fault.name: fault for fault in _faults()}


class FaultProxy(Proxy):
    """
    A proxy that injects one fault into one request, and forwards all others.

    Refused connections cannot be counted, so the proxy refuses them until :meth:`heal`.

    :param url: URL of the service.
    :param fault: the fault; None for no fault.
    :param method: method of the request that the fault hits.
    :param nth: number of that request among those with this method, from 1.
    :param preceding: number of requests to forward before connections are refused.
    """

    def __init__(
        self, url: str, fault: Fault | None, method: str, *, nth: int = 1, preceding: int = 0
    ) -> None:
        super().__init__(url)
        self.fault = fault
        self._method = method
        self._nth = nth
        self._preceding = preceding if fault and fault.kind == "refuse" else -1
        self._healed = threading.Event()
        self._none_delayed = threading.Event()
        self._none_delayed.set()

    def listen(self) -> None:
        """Accept connections, unless the first one is to be refused."""
        if self._preceding != 0:
            super().listen()

    def heal(self) -> None:
        """Process a delayed request, then forward everything."""
        if self._preceding >= 0:
            self._preceding = -1
            self.listen()
        self._healed.set()
        if not self._none_delayed.wait(TIMEOUT_SECONDS):
            raise TimeoutError(f"The delayed request was not processed within {TIMEOUT_SECONDS:.0f} s.")

    def handle(self, request: ProxiedRequest) -> None:
        """Inject the fault, or forward the request."""
        is_hit = request.method == self._method and self.count(self._method) == self._nth
        if self.fault is not None and is_hit and self.fault.kind != "refuse":
            self._inject(self.fault, request)
            return
        if not self._delays_until_healed():
            self._none_delayed.wait(TIMEOUT_SECONDS)
        response = request.forward()
        if len(self.requests) == self._preceding:
            self.refuse()
        request.respond(response)

    def _delays_until_healed(self) -> bool:
        return self.fault is not None and self.fault.kind == "delay until healed"

    def _inject(self, fault: Fault, request: ProxiedRequest) -> None:
        if fault.kind == "close unread":
            return
        request.read()
        if fault.kind in ("delay", "delay until healed"):
            self._delay(request)
            return
        response = request.forward() if fault.processed else b""
        if fault.kind == "hold":
            request.wait_for_disconnect()
            return
        if fault.kind == "drip":
            for number in range(len(response)):
                request.respond(response[number : number + 1])
                time.sleep(DRIP_INTERVAL_SECONDS)
            return
        if fault.kind == "inform first":
            request.respond(EARLY_HINTS)
            time.sleep(DRIP_INTERVAL_SECONDS)
        if fault.kind in ("inform first", "mix up"):
            request.respond(mix_up(response) if fault.kind == "mix up" else response)
            return
        request.respond(fault.replacement or truncate(response, fault.part))
        if fault.kind == "reset":
            request.reset()

    def _delay(self, request: ProxiedRequest) -> None:
        # The event fixes the order of this request and the client's next one; otherwise they would race.
        self._none_delayed.clear()
        request.wait_for_disconnect()
        if self._delays_until_healed():
            self._healed.wait(TIMEOUT_SECONDS)
        request.forward()
        self._none_delayed.set()


def truncate(response: bytes, part: Part) -> bytes:
    """Return the first part of a response."""
    head, separator, body = response.partition(b"\r\n\r\n")
    if part == "half the headers":
        return head[: len(head) // 2]
    if part == "half the body":
        return head + separator + body[: len(body) // 2]
    return b""


def mix_up(response: bytes) -> bytes:
    """Return a response with other ids, e-mail addresses and codes, as if it belonged to another request."""
    head, separator, body = response.partition(b"\r\n\r\n")
    return head + separator + re.sub(rb'": ?"[a-zA-Z0-9]', lambda match: match[0][:-1] + b"x", body)
