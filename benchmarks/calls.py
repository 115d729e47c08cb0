"""
Benchmark calls against the HTTP provider's hook and plain requests.

Three callers read one record and a list of 100,000: this provider's hook, ``HttpHook.run``, and one
``requests.Session``, over HTTP and over TLS. A fourth iterates over the list with this provider's hook and
keeps only the states. The service is a separate process that responds from memory. The callers take turns, so
that changes in the machine's speed affect all of them. Each list is read in a separate process, to measure
its peak memory::

    python benchmarks/calls.py
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devtools.certificate import ADDRESS, write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

OURS = "WebcamconsultHook"
THEIRS = "HttpHook.run"
BARE = "requests.Session"
CALLERS = (OURS, THEIRS, BARE)
ITERATING = "WebcamconsultHook, iterate()"
LIST_CALLERS = (ITERATING, *CALLERS)

TOKEN = "of-the-benchmark"  # noqa: S105
ID = "1234567890abcdef12345678"
CLIENT = {
    "id": ID,
    "external": False,
    "email": "someemail@somedomain.com",
    "titles": "Ms",
    "initials": "A.",
    "surname_prefix": "van",
    "last_name": "Testen",
    "gender": "female",
    "date_of_birth": "1980-01-01T00:00:00.000+01:00",
    "reference_code": "DL-1",
    "division_ids": [ID, ID],
    "client_full_name": "Ms A. van Testen",
}
APPOINTMENT = {
    "id": ID,
    "state": "idle",
    "user_id": ID,
    "client_id": ID,
    "created_by_user_id": ID,
    "date": "2030-03-01T09:30:00.000+01:00",
    "orig_date": "2030-03-01T09:30:00.000+01:00",
    "started_at": None,
    "created_at": "2030-02-01T09:30:00.000+01:00",
    "division_id": ID,
    "duration": 30,
    "external_participant_ids": [ID, ID],
    "inloop_json": {"email": "someemail@somedomain.com"},
}
RECORD_PATH = f"/client/{ID}.json"
LIST_PATH = "/appointments.json"

LIST_RUNS = 5
"""Number of times that each caller reads the list."""

MEBIBYTE = 2**20


# -- The service ---------------------------------------------------------------------------------------------


def serve(pipe: Connection, appointments: int, certificate: str | None) -> None:
    """
    Respond from memory until the process ends.

    :param pipe: receives the port.
    :param appointments: length of the list.
    :param certificate: PEM file to use TLS with.
    """
    list_body = json.dumps([{**APPOINTMENT, "id": f"{number:024x}"} for number in range(appointments)])
    bodies = {RECORD_PATH: json.dumps({"client": CLIENT}), LIST_PATH: list_body}
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    responses = {path.encode(): (head % len(body) + body).encode() for path, body in bodies.items()}

    class Responder(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.received = b""

        def data_received(self, data: bytes) -> None:
            self.received += data
            while b"\r\n\r\n" in self.received:
                request, _, self.received = self.received.partition(b"\r\n\r\n")
                self.transport.write(responses[request.split(b" ", 2)[1]])

    async def run() -> None:
        context = None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        server = await asyncio.get_running_loop().create_server(Responder, ADDRESS, 0, ssl=context)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


class LocalService:
    """
    The service, for callers in this process and its child processes.

    :param appointments: length of the list.
    :param certificate: PEM file to use TLS with.
    """

    def __init__(self, appointments: int, certificate: Path | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        pipe, far_end = context.Pipe()
        file = str(certificate) if certificate else None
        self._process = context.Process(target=serve, args=(far_end, appointments, file), daemon=True)
        self._process.start()
        url = f"{'https' if certificate else 'http'}://{ADDRESS}:{pipe.recv()}"
        self._variables = {
            "AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT": json.dumps(
                {"conn_type": "webcamconsult", "host": url, "password": TOKEN}
            ),
            "AIRFLOW_CONN_HTTP_DEFAULT": json.dumps(
                {"conn_type": "http", "host": url, "extra": {"Authorization": f"Token token={TOKEN}"}}
            ),
            "SERVICE_URL": url,
        }
        if file:
            self._variables["REQUESTS_CA_BUNDLE"] = file

    def __enter__(self) -> LocalService:
        os.environ.update(self._variables)
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._variables:
            del os.environ[name]
        self._process.terminate()
        self._process.join()


# -- The callers ---------------------------------------------------------------------------------------------


def reads(caller: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """
    Return two functions that read one record and the list. Both return parsed values.

    :param caller: one of :data:`LIST_CALLERS`.
    """
    if caller in (OURS, ITERATING):
        from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook

        ours = WebcamconsultHook()

        def iterate() -> list[str]:
            return [appointment["state"] for appointment in ours.appointments.iterate()]

        return lambda: ours.clients.get(ID), iterate if caller == ITERATING else ours.appointments.list
    if caller == THEIRS:
        from airflow.providers.http.hooks.http import HttpHook

        theirs = HttpHook(method="GET")
        return lambda: theirs.run(RECORD_PATH).json(), lambda: theirs.run(LIST_PATH).json()

    import requests

    session = requests.Session()
    session.headers["Authorization"] = f"Token token={TOKEN}"
    url = os.environ["SERVICE_URL"]

    def read(path: str) -> Any:
        response = session.get(url + path, timeout=30)
        response.raise_for_status()
        return response.json()

    return lambda: read(RECORD_PATH), lambda: read(LIST_PATH)


def measure_list(caller: str) -> None:
    """
    Read the list, and print the seconds and bytes that it took, and its length. Run in a separate process.

    :param caller: one of :data:`LIST_CALLERS`.
    """
    read_record, read_list = reads(caller)
    read_record()
    before = _peak()
    start = time.perf_counter()
    found = read_list()
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, _peak() - before, len(found)]))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# -- Measuring -----------------------------------------------------------------------------------------------


def single_reads(rounds: int, calls: int) -> Iterator[str]:
    """
    Measure reads of one record, and yield the table's rows.

    :param rounds: number of turns of each caller.
    :param calls: number of calls in a turn.
    """
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder) / "certificate.pem"
        write_certificate(certificate)
        for kind, file in (("plain", None), ("TLS", certificate)):
            with LocalService(1, file):
                callers = {caller: reads(caller)[0] for caller in CALLERS}
                rates: dict[str, list[float]] = {caller: [] for caller in CALLERS}
                for read in callers.values():
                    read()
                for _ in range(rounds):
                    for caller, read in callers.items():
                        start = time.perf_counter()
                        for _ in range(calls):
                            read()
                        rates[caller].append(calls / (time.perf_counter() - start))
                for caller in CALLERS:
                    ratios = (_ratio(rates[caller], rates[peer]) for peer in (THEIRS, BARE))
                    yield _row(
                        kind,
                        f"`{caller}`",
                        f"{statistics.median(rates[caller]):.0f}",
                        *(f"{ratio:.2f}" for ratio in ratios),
                    )


def lists(appointments: int) -> Iterator[str]:
    """
    Measure reads of the list, and yield the table's rows.

    :param appointments: length of the list.
    """
    seconds: dict[str, list[float]] = {caller: [] for caller in LIST_CALLERS}
    peaks: dict[str, list[float]] = {caller: [] for caller in LIST_CALLERS}
    with LocalService(appointments):
        for _ in range(LIST_RUNS):
            for caller in LIST_CALLERS:
                command = [sys.executable, __file__, "--list-by", caller]
                done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
                duration, peak, count = json.loads(done.stdout.splitlines()[-1])
                if count != appointments:
                    raise RuntimeError(f"{caller} returned {count} of {appointments} appointments.")
                seconds[caller].append(duration)
                peaks[caller].append(peak)
    for caller in LIST_CALLERS:
        yield _row(
            f"`{caller}`",
            f"{statistics.median(seconds[caller]):.2f}",
            f"{_ratio(seconds[caller], seconds[THEIRS]):.2f}",
            f"{_ratio(seconds[caller], seconds[BARE]):.2f}",
            f"{statistics.median(peaks[caller]) / MEBIBYTE:.0f}",
            f"{_ratio(peaks[caller], peaks[THEIRS]):.2f}",
            f"{_ratio(peaks[caller], peaks[BARE]):.2f}",
        )


def _ratio(values: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(values, others, strict=True))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run the benchmark, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each caller (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=200, help="calls in a turn (default: %(default)s)")
    parser.add_argument(
        "--appointments", type=int, default=100_000, help="length of the list (default: 100000)"
    )
    parser.add_argument("--list-by", choices=LIST_CALLERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # Keeps the callers' log lines out of the measurement.
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
    if arguments.list_by:
        measure_list(arguments.list_by)
        return
    with contextlib.redirect_stderr(sys.stdout):
        print(f"## Calls: Airflow {version('apache-airflow')}, Python {platform.python_version()}\n")
        print(_row("", "one record by", "calls per second", f"ratio to {THEIRS}", f"ratio to {BARE}"))
        print(_row(*["---"] * 5))
        for row in single_reads(arguments.rounds, arguments.calls):
            print(row, flush=True)
        print()
        columns = (
            "time, s",
            f"ratio to {THEIRS} (time)",
            f"ratio to {BARE} (time)",
            "added memory at the peak, MiB",
            f"ratio to {THEIRS} (memory)",
            f"ratio to {BARE} (memory)",
        )
        print(_row(f"{arguments.appointments:,} appointments by", *columns))
        print(_row(*["---"] * 7))
        for row in lists(arguments.appointments):
            print(row, flush=True)


if __name__ == "__main__":
    main()
