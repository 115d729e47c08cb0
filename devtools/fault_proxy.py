"""A proxy on loopback that does to a request what networks, gateways and crashes do, at a chosen moment."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import struct
import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

HOST = "127.0.0.1"

PATIENCE_SECONDS = 60.0
"""How long the proxy waits for anything at the most: it only bounds how long a failure takes."""


class Seen(NamedTuple):
    """A request that reached the proxy."""

    method: str
    path: str


ProxyT = TypeVar("ProxyT", bound="Proxy")


class Exchange:
    """
    One request of one client, on a connection of its own.

    :param proxy: the proxy that accepted it.
    :param client: the connection.
    """

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        client.settimeout(PATIENCE_SECONDS)
        # Looked at without being read: a connection that is closed on what it has not read is reset.
        self.method, target, _ = self._look_ahead().split(b"\r\n")[0].decode().split()
        self.path = urlsplit(target).path
        self._request = b""

    @property
    def client_port(self) -> int:
        """The client's end of the connection, by which its process can be found."""
        return int(self.client.getpeername()[1])

    def _look_ahead(self) -> bytes:
        size = 0
        while True:
            start = self.client.recv(1 << 16, socket.MSG_PEEK)
            if b"\r\n" in start:
                return start
            if len(start) == size:
                raise ConnectionAbortedError("the client left")
            size = len(start)

    def read(self) -> bytes:
        """Read the whole request, once."""
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
            raise ConnectionAbortedError("the client left")
        self._request += received
        return len(received)

    def pass_on(self) -> bytes:
        """Let the service carry the request out, and return its whole answer."""
        head, _, body = self.read().partition(b"\r\n\r\n")
        head = re.sub(rb"(?im)^connection:.*\r\n", b"", head + b"\r\n") + b"Connection: close\r\n\r\n"
        with socket.create_connection(self.proxy.service, PATIENCE_SECONDS) as service:
            service.sendall(head + body)
            with service.makefile("rb") as answer:
                return answer.read()

    def answer(self, answer: bytes) -> None:
        """Send an answer, or the part of it that is given."""
        self.client.sendall(answer)

    def reset(self) -> None:
        """End the connection with RST, not FIN."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def leave(self) -> None:
        """Lose the client; its request can still be passed on."""
        self.client.shutdown(socket.SHUT_RDWR)

    def replace(self, old: bytes, new: bytes) -> None:
        """Change the request before it is passed on, where both are of the same length or not in its body."""
        self._request = self.read().replace(old, new)

    def wait_until_client_leaves(self) -> None:
        """Wait until the client has given up, or has died."""
        select.select([self.client], [], [], PATIENCE_SECONDS)


class Proxy:
    """
    A proxy that passes everything on and notes it; a subclass says in :meth:`meet` what else it does.

    Every request has a connection of its own, so that each meets what a connection can meet.

    :param url: the service behind it.
    """

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self.service = (address.hostname or HOST, address.port or 80)
        self.requests: list[Seen] = []
        self._listener = self._bind(0)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://{HOST}:{self.port}"
        self._ended = False

    def count(self, method: str) -> int:
        """Return how many requests with a method reached the proxy."""
        return sum(seen.method == method for seen in self.requests)

    def meet(self, exchange: Exchange) -> None:
        """Treat one request."""
        exchange.answer(exchange.pass_on())

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
        """Take connections."""
        self._listener.listen(128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse connections, with the port still taken."""
        with contextlib.suppress(OSError):  # wakes the thread that accepts
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
            threading.Thread(target=self._converse, args=(client,), daemon=True).start()

    def _converse(self, client: socket.socket) -> None:
        # A client that leaves at any moment is what this is for.
        with client, contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            exchange = Exchange(self, client)
            self.requests.append(Seen(exchange.method, exchange.path))
            self.meet(exchange)


def make_answer(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """
    Write an answer as it goes over the wire.

    :param status: its status.
    :param body: its body.
    :param headers: more headers.
    """
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


LOGIN_PAGE = b"<!DOCTYPE html>\n<title>Log in</title>\n<form action='/login'></form>\n"
OTHER_SHAPE = json.dumps({"status": "queued", "data": [1, 2]}).encode()

Kind = Literal["refuse", "cut unread", "cut", "reset", "hold", "late", "late, told when", "answer"]
Part = Literal["nothing", "half the headers", "half the body"]


@dataclass(frozen=True)
class Fault:
    """
    What happens to one request.

    :param name: as the table shows it.
    :param kind: what is done.
    :param carried_out: whether the service carries the request out.
    :param part: how much of the service's answer the client still gets.
    :param replacement: what the client gets in place of the service's answer.
    """

    name: str
    kind: Kind
    carried_out: bool = False
    part: Part = "nothing"
    replacement: bytes = b""


def _answers() -> dict[str, bytes]:
    def with_header(status: int, name: str, value: str) -> bytes:
        return make_answer(status, headers={name: value})

    return {
        "429": make_answer(429),
        "429, Retry-After in seconds": with_header(429, "Retry-After", "30"),
        "429, Retry-After as a date": with_header(429, "Retry-After", "Wed, 21 Oct 2099 07:28:00 GMT"),
        **{str(status): make_answer(status, LOGIN_PAGE) for status in (500, 502, 503, 504)},
        "login page with 200": make_answer(200, LOGIN_PAGE, {"Content-Type": "text/html"}),
        "empty 200": make_answer(200),
        "other JSON with 200": make_answer(200, OTHER_SHAPE, {"Content-Type": "application/json"}),
        **{
            f"redirect {status}": with_header(status, "Location", "https://elsewhere.example.com/users.json")
            for status in (301, 302, 307, 308)
        },
    }


def _faults() -> list[Fault]:
    answers = _answers()
    before = [
        Fault("connection refused", "refuse"),
        Fault("cut before it was read", "cut unread"),
        Fault("cut before it was passed on", "cut"),
        Fault("reset before it was passed on", "reset"),
        *(Fault(f"{name} instead", "answer", replacement=answer) for name, answer in answers.items()),
    ]
    after = [
        Fault("carried out once the client gave up", "late", carried_out=True),
        Fault("carried out long after the client gave up", "late, told when", carried_out=True),
        Fault("cut before the answer", "cut", carried_out=True),
        Fault("cut in the headers of the answer", "cut", carried_out=True, part="half the headers"),
        Fault("cut in the body of the answer", "cut", carried_out=True, part="half the body"),
        Fault("reset before the answer", "reset", carried_out=True),
        Fault("reset in the body of the answer", "reset", carried_out=True, part="half the body"),
        Fault("no answer in time", "hold", carried_out=True),
        # 429 is left out: it says that nothing was carried out, and no client can know better.
        *(
            Fault(f"{name} after it was carried out", "answer", carried_out=True, replacement=answer)
            for name, answer in answers.items()
            if not name.startswith("429")
        ),
    ]
    return before + after


#: Every fault, by its name.
FAULTS: dict[str, Fault] = {fault.name: fault for fault in _faults()}


class FaultProxy(Proxy):
    """
    A proxy that plays one fault on one request, and passes all others on.

    A refused connection lasts until :meth:`mend`: nobody counts what a closed port refuses.

    :param url: the service behind it.
    :param fault: the fault; None for none.
    :param method: the method of the requests among which the one is counted.
    :param nth: which of them it is.
    :param preceding: how many other requests come before a connection that is refused.
    """

    def __init__(
        self, url: str, fault: Fault | None, method: str, *, nth: int = 1, preceding: int = 0
    ) -> None:
        super().__init__(url)
        self.fault = fault
        self._method = method
        self._nth = nth
        self._preceding = preceding if fault and fault.kind == "refuse" else -1
        self._told = threading.Event()
        self._nothing_late = threading.Event()
        self._nothing_late.set()

    def listen(self) -> None:
        """Take connections, unless the first one is to be refused."""
        if self._preceding != 0:
            super().listen()

    def mend(self) -> None:
        """Be transparent from now on, once what was late has been carried out."""
        if self._preceding >= 0:
            self._preceding = -1
            self.listen()
        self._told.set()
        if not self._nothing_late.wait(PATIENCE_SECONDS):
            raise TimeoutError("what was late was never carried out")

    def meet(self, exchange: Exchange) -> None:
        """Play the fault, or pass the request on."""
        is_it = exchange.method == self._method and self.count(self._method) == self._nth
        if self.fault is not None and is_it and self.fault.kind != "refuse":
            self._play(self.fault, exchange)
            return
        if not self._is_told_when():
            self._nothing_late.wait(PATIENCE_SECONDS)
        answer = exchange.pass_on()
        if len(self.requests) == self._preceding:
            self.refuse()
        exchange.answer(answer)

    def _is_told_when(self) -> bool:
        return self.fault is not None and self.fault.kind == "late, told when"

    def _play(self, fault: Fault, exchange: Exchange) -> None:
        if fault.kind == "cut unread":
            return
        exchange.read()
        if fault.kind in ("late", "late, told when"):
            self._be_late(exchange)
            return
        answer = exchange.pass_on() if fault.carried_out else b""
        if fault.kind == "hold":
            exchange.wait_until_client_leaves()
            return
        exchange.answer(fault.replacement or part_of(answer, fault.part))
        if fault.kind == "reset":
            exchange.reset()

    def _be_late(self, exchange: Exchange) -> None:
        # What the client asks next is answered after this was carried out, or before: never by chance.
        self._nothing_late.clear()
        exchange.wait_until_client_leaves()
        if self._is_told_when():
            self._told.wait(PATIENCE_SECONDS)
        exchange.pass_on()
        self._nothing_late.set()


def part_of(answer: bytes, part: Part) -> bytes:
    """Return the beginning of an answer."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if part == "half the headers":
        return head[: len(head) // 2]
    if part == "half the body":
        return head + separator + body[: len(body) // 2]
    return b""
