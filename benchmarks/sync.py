"""
Benchmark a sync of clients against one ``requests.Session`` that only does the same list and writes.

The service is a separate process that responds from memory, after a delay that stands for the network. Of
10,000 clients, 100 are gone, 500 differ, and 400 are new. The callers take turns, each in a separate process
to measure its peak memory. A third measurement only compares 100,000 rows with 100,000 records. The last one
runs syncs and mapped creates, which look up each client, on a real Airflow::

    python benchmarks/sync.py
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devtools import ROOT
from devtools.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

OURS = "hook.clients.sync"
BARE = "requests.Session"
PLAN = "plan_sync"
EACH = "create with a look-up"
CALLERS = (OURS, BARE)

ADDRESS = "127.0.0.1"
TOKEN = "of-the-benchmark"  # noqa: S105
MEBIBYTE = 2**20

DAG_FILE = Path(__file__).parent / "dags" / "sync.py"
RUN_TIMEOUT = 7200.0
"""Seconds for a run of mapped tasks."""

GONE, CHANGED, NEW = 0.01, 0.05, 0.04
"""Shares of the clients."""


def client(number: int) -> dict[str, Any]:
    """Return the attributes of a client as the service has them."""
    return {
        "email": f"someemail{number}@somedomain.com",
        "titles": "Ms",
        "initials": "A.",
        "surname_prefix": "van",
        "last_name": f"Testen{number}",
        "gender": "female",
        "date_of_birth": f"{1950 + number % 60}-01-01T00:00:00.000+01:00",
        "reference_code": f"DL-{number}",
    }


def listed(count: int) -> Iterator[dict[str, Any]]:
    """Yield the records of the service."""
    for number in range(count):
        other: dict[str, Any] = {
            "external": None,
            "client_full_name": f"Ms A. van Testen{number}",
            "division_ids": [],
        }
        yield {"id": f"a{number:023x}", **client(number), **other}


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the other system."""
    first, changed = int(count * GONE), int(count * CHANGED)
    for number in range(first, count + int(count * NEW)):
        row = client(number)
        row["date_of_birth"] = row["date_of_birth"][:10]
        if number < first + changed:
            row["last_name"] = f"Changed{number}"
        yield row


# -- The service ---------------------------------------------------------------------------------------------


def serve(pipe: Connection, clients: int, delay: float) -> None:
    """
    Respond from memory until the process ends.

    :param pipe: receives the port.
    :param clients: length of the list.
    :param delay: seconds before each response.
    """
    list_body = json.dumps([*listed(clients)]).encode()

    def body_of(method: bytes, path: bytes, sent: bytes) -> bytes:
        if method == b"GET":
            return list_body
        record_id = path.rpartition(b"/")[2].partition(b".")[0] if method != b"POST" else b"f" * 24
        if method == b"DELETE":
            return b'{"status": "ok"}'
        attributes = json.loads(sent)["client"]
        return json.dumps({"client": {"id": record_id.decode(), **attributes}}).encode()

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, path, _ = head.split(b" ", 2)
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                body = body_of(method, path, await reader.readexactly(int(length or 0)))
                await asyncio.sleep(delay)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ")
                writer.write(b"%d\r\n\r\n" % len(body) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(respond, ADDRESS, 0, backlog=128)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


# -- The callers, each in its own process --------------------------------------------------------------------


def prepare(caller: str, clients: int, workers: int) -> Callable[[], int]:
    """Return a function that does the work, and returns the number of writes."""
    if caller == PLAN:
        return _prepare_plan(clients)
    if caller == OURS:
        from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook

        hook = WebcamconsultHook()
        hook.users.transport.new_session()  # imports requests, as the other caller has

        def sync() -> int:
            result = hook.clients.sync(
                rows(clients), key="reference_code", mode="mirror", key_prefix="DL-", workers=workers
            )
            return result.created + result.updated + result.deleted

        return sync
    if caller == EACH:
        from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook

        creates = WebcamconsultHook().clients

        def create() -> int:
            some = list(rows(clients))[-workers:]
            for row in some:
                creates.create(row, if_exists="update")
            return len(some)

        return create
    return _prepare_bare(clients, workers)


def _prepare_plan(clients: int) -> Callable[[], int]:
    import pendulum

    from airflow_provider_webcamconsult.api.request import list_request
    from airflow_provider_webcamconsult.api.resources import CLIENT
    from airflow_provider_webcamconsult.api.response import read_response
    from airflow_provider_webcamconsult.api.sync_plan import plan_sync

    # Piece by piece, so that this does not need more memory than the plan.
    buffer = io.BytesIO()
    for number, record in enumerate(listed(clients)):
        buffer.write((b"," if number else b"[") + json.dumps(record).encode())
    buffer.write(b"]")
    body = buffer.getvalue()
    zone = pendulum.timezone("Europe/Amsterdam")

    def plan() -> int:
        records = read_response(list_request(CLIENT), 200, {}, body)
        done = plan_sync(
            CLIENT, rows(clients), records, key="reference_code", mode="mirror", key_prefix="DL-", zone=zone
        )
        return len(done.creates) + len(done.updates) + len(done.deletes)

    return plan


def _prepare_bare(clients: int, workers: int) -> Callable[[], int]:
    import requests

    session = requests.Session()
    session.headers["Authorization"] = f"Token token={TOKEN}"
    url = os.environ["SERVICE_URL"]

    def send(write: tuple[str, str, dict[str, Any]]) -> None:
        method, path, attributes = write
        response = session.request(method, url + path, json={"client": attributes}, timeout=30)
        response.raise_for_status()
        response.json()

    def writes() -> Iterator[tuple[str, str, dict[str, Any]]]:
        gone, changed, new = (int(clients * share) for share in (GONE, CHANGED, NEW))
        for number in range(clients, clients + new):
            yield "POST", "/clients.json", client(number)
        for number in range(gone, gone + changed):
            yield "PUT", f"/client/a{number:023x}.json", {"last_name": f"Changed{number}"}
        for number in range(gone):
            yield "DELETE", f"/client/a{number:023x}.json", {"id": f"a{number:023x}"}

    def send_all() -> int:
        response = session.get(f"{url}/clients.json", timeout=30)
        response.raise_for_status()
        found = response.json()
        with ThreadPoolExecutor(workers) as executor:
            done = [*executor.map(send, writes())]
        del found
        return len(done)

    return send_all


def measure(caller: str, clients: int, workers: int) -> None:
    """Do the work, and print the seconds, CPU seconds and bytes that it took, and the number of writes."""
    work = prepare(caller, clients, workers)
    before = _peak()
    start, cpu_start = time.perf_counter(), time.process_time()
    count = work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    print(json.dumps([seconds, cpu, (_peak() - before) / MEBIBYTE, count]))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# -- Measuring -----------------------------------------------------------------------------------------------


def run(caller: str, clients: int, workers: int) -> list[float]:
    """Measure a caller in a new process."""
    command = [sys.executable, __file__, "--by", caller, "--clients", str(clients), "--workers", str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    measured: list[float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def start_service(clients: int, delay: float) -> multiprocessing.process.BaseProcess:
    """Start the service, and set the variables of the callers."""
    context = multiprocessing.get_context("spawn")
    pipe, far_end = context.Pipe()
    process = context.Process(target=serve, args=(far_end, clients, delay), daemon=True)
    process.start()
    url = f"http://{ADDRESS}:{pipe.recv()}"
    connection = {"conn_type": "webcamconsult", "host": url, "password": TOKEN}
    os.environ["AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT"] = json.dumps(connection)
    os.environ["SERVICE_URL"] = url
    return process


def run_in_airflow(sizes: list[int], mapped: int, workers: int) -> tuple[dict[int, float], float]:
    """
    Run a sync of each size, and mapped creates, on a real Airflow.

    :param sizes: numbers of clients. A service has as many.
    :param mapped: number of mapped creates, with a service of the first size.
    :param workers: number of threads of each sync.
    :return: seconds from the start of the first task to the end of the last: by size, and for the mapped.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as home:
        dags = Path(home) / "dags"
        dags.mkdir()
        shutil.copy(DAG_FILE, dags)
        env = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
        plan, services = {}, []
        for size in sizes:
            services.append(start_service(size, 0.0))
            env[f"AIRFLOW_CONN_CLIENTS_{size}"] = os.environ["AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT"]
            file = dags / f"{size}.jsonl"
            file.write_text("".join(f"{json.dumps(row)}\n" for row in rows(size)))
            # The last rows: some of their clients exist, others are new.
            creates = list(rows(size))[-mapped:] if size == sizes[0] else []
            plan[size] = {"rows": str(file), "workers": workers, "mapped": creates}
        (dags / "plan.json").write_text(json.dumps(plan))
        with LocalAirflow(Path(home), dags, env=env) as airflow:

            def seconds(dag_id: str) -> float:
                run_id = airflow.trigger(dag_id)
                if airflow.wait(dag_id, run_id, RUN_TIMEOUT) != "success":
                    raise RuntimeError(airflow.describe_run(dag_id, run_id))
                tasks = airflow.task_states(dag_id, run_id)
                starts, ends = zip(*((task.start, task.end) for task in tasks), strict=True)
                return float((max(ends) - min(starts)).total_seconds())

            seconds(f"sync_{sizes[0]}")  # the first task of a new Airflow takes longer
            found = {size: seconds(f"sync_{size}") for size in sizes}, seconds(f"mapped_{sizes[0]}")
        for service in services:
            service.terminate()
    return found


def main() -> None:
    """Run the benchmark, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each caller (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=10_000, help="clients (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=8, help="threads (default: %(default)s)")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds (default: %(default)s)")
    parser.add_argument("--mapped", type=int, default=100, help="mapped creates (default: %(default)s)")
    parser.add_argument("--by", choices=(*CALLERS, PLAN, EACH), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
    if arguments.by:
        measure(arguments.by, arguments.clients, arguments.workers)
        return
    service = start_service(arguments.clients, arguments.delay)
    found: dict[str, list[list[float]]] = {caller: [] for caller in CALLERS}
    for _ in range(arguments.rounds):
        for caller in CALLERS:
            found[caller].append(run(caller, arguments.clients, arguments.workers))
    print(f"| {arguments.clients:,} clients by | time, s | CPU, s | added memory, MiB | writes |")
    print("| --- | --- | --- | --- | --- |")
    for caller in CALLERS:
        seconds, cpu, memory, count = (
            statistics.median(values) for values in zip(*found[caller], strict=True)
        )
        print(f"| `{caller}` | {seconds:.2f} | {cpu:.2f} | {memory:.1f} | {count:.0f} |")
    ratios = [
        statistics.median(ours[column] / bare[column] for ours, bare in zip(*found.values(), strict=True))
        for column in range(3)
    ]
    print(f"| ratio | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} | |\n")
    seconds, cpu, memory, _ = run(PLAN, arguments.clients * 10, 1)
    print(f"Plan of {arguments.clients * 10:,}: {seconds:.1f} s, {cpu:.1f} s CPU, {memory:.0f} MiB.\n")
    service.terminate()
    sizes = [arguments.clients // 100, arguments.clients // 10, arguments.clients]
    whole, together = run_in_airflow(sizes, arguments.mapped, arguments.workers)
    print(f"{arguments.mapped} mapped creates: {together:.0f} s on a real Airflow.\n")
    print("| clients | sync, s | mapped creates, s (extrapolated) | of that, list and compare, s |")
    print("| --- | --- | --- | --- |")
    for clients in sizes:
        service = start_service(clients, 0.0)
        each = run(EACH, clients, 10)
        service.terminate()
        look_ups = each[0] / each[3] * clients
        if clients == sizes[0]:
            other = together / arguments.mapped * clients - look_ups
        seconds = other * clients / sizes[0] + look_ups
        print(f"| {clients:,} | {whole[clients]:.2f} | {seconds:.0f} | {look_ups:.0f} |")


if __name__ == "__main__":
    main()
