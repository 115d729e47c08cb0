"""
Benchmark the cost of deferred waits, for a real triggerer and for the service, against the HTTP provider.

Each given interpreter (that is, each version of Airflow) and each kind of wait gets a triggerer with its own
database. The triggerer is measured without triggers. Then the rows of the deferred tasks are written, and the
triggerer is measured over some intervals. Then all appointments change their state at once, right after a
poll, which is the worst time. The log of each wait shows when its event was fired.

The service runs in a separate process. Each second, an appointment that no task waits for is deleted and
another one is booked, so that no two lists are the same. The waits are for appointments all over the list::

    python benchmarks/waits.py .venv/bin/python .venv-airflow-2.11/bin/python
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import platform
import random
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_webcamconsult.sandbox.app import build_app
from airflow_provider_webcamconsult.sandbox.server import HOST
from airflow_provider_webcamconsult.sandbox.service import APPOINTMENTS, Service
from devtools import ROOT
from devtools.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from asyncio import BaseTransport
    from collections.abc import Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from starlette.types import Receive, Scope, Send

    from devtools.local_airflow import Component

DEFERRED = ROOT / "benchmarks" / "deferred.py"
OURS = "WebcamconsultAppointmentStateTrigger"
THEIRS = "HttpSensorTrigger"
SLEEPING = "DateTimeTrigger"
WATCHED = "webcamconsult_appointments_webcamconsult_default"
TOKEN = "of-the-benchmark"  # noqa: S105
NO_SUCH_APPOINTMENT = "f" * 24

# All in seconds.
CHANGE_INTERVAL = 1.0
SAMPLE_INTERVAL = 0.5
START_TIMEOUT = 600.0
END_TIMEOUT = 600.0
COMMIT_POLL_INTERVAL = 0.2
REQUEST_POLL_INTERVAL = 0.01

SETTLING_INTERVALS = 3
"""Number of intervals between the start of the last trigger and the first measurement."""

MEBIBYTE = 2**20
OPEN_FILES_PER_WAIT = 4
FEW_WAITS = 40


@dataclass(frozen=True)
class Case:
    """
    One case of the benchmark.

    :param trigger: class name of the trigger.
    :param waits: number of waits.
    :param appointments: minimum number of appointments that the service has.
    :param triggerers: number of triggerers, which share the waits. The CPU and the memory are of the first.
    :param in_one: whether one trigger waits for all appointments.
    :param is_watched: whether an asset of this provider watches the appointments too.
    """

    trigger: str
    waits: int
    appointments: int = 0
    triggerers: int = 1
    in_one: bool = False
    is_watched: bool = False

    @property
    def triggers(self) -> int:
        """Number of triggers."""
        return 1 if self.in_one else self.waits


# -- The service ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """The service's counters. `polled` is the number of appointments that were requested on their own."""

    requests: int
    lists: int
    connections: int
    polled: int
    time: float


class CountedService:
    """
    The sandbox in a separate process that counts requests.

    `HttpSensorTrigger` waits as long as the response is 404. In its cases, the appointments that it waits for
    do not exist until they change their state.

    :param case: the case.
    """

    def __init__(self, case: Case) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, case), daemon=True)
        self._process.start()
        far_end.close()
        self.url: str
        self.ids: list[str]
        self.url, self.ids = self._pipe.recv()

    def counts(self) -> Counts:
        """Return the counters since the start."""
        return Counts(**self._request("counts"), time=time.monotonic())

    def has_polled_all(self) -> bool:
        """Whether each appointment was polled, on its own or in a list."""
        counts = self.counts()
        return counts.lists > 0 or counts.polled >= len(self.ids)

    def change(self) -> float:
        """Change the state of all appointments that tasks wait for, and return when that started."""
        start: float = self._request("change")
        return start

    def _request(self, name: str) -> Any:
        self._pipe.send(name)
        return self._pipe.recv()

    def __enter__(self) -> CountedService:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, case: Case) -> None:
    """Serve until the process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    service = Service([TOKEN], "idle", None)
    # At least one more than there are waits.
    ids = [_create(service) for _ in range(max(case.waits + 1, case.appointments))]
    waited = ids[:: len(ids) // case.waits][: case.waits]
    others = [*set(ids).difference(waited)]
    hidden = set(waited) if case.trigger == THEIRS else set()
    counter: Counter[str] = Counter()
    polled: set[str] = set()

    def count(method: str, path: str, _status: int) -> None:
        counter["requests"] += 1
        counter["lists"] += path == "/appointments.json"

    sandbox = build_app(service, plural_paths=False, note=count)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        polled.add(scope["path"])
        for appointment_id in hidden & {Path(scope["path"]).stem}:
            scope["path"] = scope["path"].replace(appointment_id, NO_SUCH_APPOINTMENT)
        await sandbox(scope, receive, send)

    class CountingProtocol(H11Protocol):
        def connection_made(self, transport: BaseTransport) -> None:
            counter["connections"] += 1
            super().connection_made(transport)  # type: ignore[arg-type]

    config = uvicorn.Config(
        app,
        host=HOST,
        port=0,
        http=CountingProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="critical",
        timeout_keep_alive=60,
        backlog=4096,
    )
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    pipe.send((f"http://{HOST}:{port}", waited))
    threading.Thread(target=_change_repeatedly, args=(service, others), daemon=True).start()
    with contextlib.suppress(EOFError):
        while True:
            if pipe.recv() == "counts":
                names = ("requests", "lists", "connections")
                pipe.send({**{name: counter[name] for name in names}, "polled": len(polled)})
            else:
                start = time.time()
                for appointment_id in waited:
                    service.set_state(APPOINTMENTS, TOKEN, appointment_id, {"state": "finished"})
                hidden.clear()
                pipe.send(start)


def _create(service: Service) -> str:
    """Create an appointment with the attributes of the API document's example."""
    some_id = "1234567890abcdef12345678"
    response = service.create(
        APPOINTMENTS,
        TOKEN,
        "",
        {
            "appointment": {
                "user_id": some_id,
                "client_id": some_id,
                "created_by_user_id": some_id,
                "date": "2030-03-01T09:30",
                "division_id": some_id,
                "duration": 30,
                "external_participant_ids": [some_id, some_id],
                "inloop_json": {"email": "someemail@somedomain.com"},
            }
        },
    )
    return str(response["appointment"]["id"])


def _change_repeatedly(service: Service, others: list[str]) -> None:
    while True:
        others.append(_create(service))
        gone = others.pop(random.randrange(len(others) - 1))  # noqa: S311
        service.delete(APPOINTMENTS, TOKEN, gone, {"appointment": {"id": gone}})
        time.sleep(CHANGE_INTERVAL)


# -- The triggerer -------------------------------------------------------------------------------------------


class Triggerer(LocalAirflow):
    """An Airflow that runs only a triggerer."""

    @property
    def components(self) -> tuple[Component, ...]:
        """Only the triggerer."""
        return tuple(component for component in super().components if component.name == "triggerer")

    def read_dags(self) -> None:
        """Write the DAGs to the database."""
        self.command("dags", "reserialize")

    def defer(self, case: Case, ids: Sequence[str], interval: float) -> None:
        """Write the rows of the deferred tasks."""
        arguments = json.dumps(
            {"name": case.trigger, "ids": ids, "poke_interval": interval, "in_one": case.in_one}
        )
        subprocess.run(  # noqa: S603
            [str(self.python), str(self.dags / DEFERRED.name)],
            input=arguments,
            env={**self._environment(), "PYTHONWARNINGS": "ignore"},
            cwd=self.home,
            stdout=subprocess.DEVNULL,
            text=True,
            check=True,
        )

    def deferred(self) -> int:
        """Return the number of tasks without an event yet."""
        rows = self._query("SELECT COUNT(*) FROM task_instance WHERE state = 'deferred'")
        return int(rows[0][0])

    def trigger_logs(self) -> list[Path]:
        """Return the logs of the triggers that have started."""
        return list(self.logs.glob("dag_id=*/run_id=*/task_id=*/map_index=*/attempt=1.log.trigger.*"))

    def output(self) -> str:
        """Return the output of the triggerers."""
        logs = (self.logs / "components").glob("triggerer*.log")
        return "".join(log.read_text(errors="replace") for log in logs)

    def wait_until(self, condition: Any, timeout: float, what: str) -> None:
        """Wait until a condition holds. Raise if that takes too long, or if the triggerer exits."""
        self._poll(condition, timeout, lambda: self._describe("triggerer", what))


@dataclass(frozen=True)
class Usage:
    """The usage of the triggerer's processes: seconds of CPU so far, and bytes of memory (PSS)."""

    cpu: float
    memory: int
    time: float


def usage(session_id: int) -> Usage:
    """
    Read the usage from /proc.

    :param session_id: session of the processes.
    """
    cpu, memory = 0.0, 0
    ticks = os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session_id:
                cpu += sum(map(int, fields[11:15])) / ticks
                found = re.search(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)
                memory += int(found[1]) * 1024 if found else 0
    return Usage(cpu, memory, time.monotonic())


def watch(session_id: int, seconds: float) -> tuple[Usage, Usage, int]:
    """
    Return the usage now and after some time, and the peak memory in between.

    :param session_id: session of the processes.
    :param seconds: how long to measure.
    """
    first = last = usage(session_id)
    peak = first.memory
    while (remaining := first.time + seconds - time.monotonic()) > 0:
        time.sleep(min(SAMPLE_INTERVAL, remaining))
        last = usage(session_id)
        peak = max(peak, last.memory)
    return first, last, peak


# -- Measuring -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """
    The result of one case.

    :param idle_cpu: seconds of CPU per interval without triggers.
    :param startup: seconds until all waits had started, and each appointment had been polled.
    :param requests: requests per interval.
    :param lists: requests for the list per interval.
    :param connections: new connections per interval.
    :param cpu: seconds of CPU per interval with the triggers.
    :param memory: bytes of memory that the triggers added.
    :param peak: bytes of memory that they added at the peak.
    :param delays: seconds from the change to the event, for each wait; sorted.
    :param committed: seconds from the change until Airflow had stored the last event.
    :param blocked: longest block of the event loop that Airflow reported, in seconds.
    """

    case: Case
    idle_cpu: float
    startup: float
    requests: float
    lists: float
    connections: float
    cpu: float
    memory: int
    peak: int
    delays: list[float]
    committed: float
    blocked: float

    def row(self, interval: float) -> str:
        """Return the row of the table, with the columns of :data:`HEADINGS`."""
        polls = self.case.trigger != SLEEPING
        cells = [
            self.case.trigger
            + (f" ({self.case.triggerers} triggerers)" if self.case.triggerers > 1 else "")
            + (" (one for all)" if self.case.in_one else "")
            + (" and one watched list" if self.case.is_watched else ""),
            f"{self.case.waits:,}",
            f"{max(self.case.waits + 1, self.case.appointments):,}" if polls else "",
            f"{self.startup:.0f}",
            f"{self.requests:.1f}" if polls else "",
            f"{self.lists:.1f}" if polls else "",
            f"{self.connections:.1f}" if polls else "",
            f"{self.cpu:.3f}",
            f"{100 * self.cpu / interval:.1f} %",
            f"{self.memory / MEBIBYTE:.0f}",
            f"{self.peak / MEBIBYTE:.0f}",
        ]
        if self.delays:
            cells += [f"{value:.1f}" for value in (*percentiles(self.delays), self.committed)]
        else:
            cells += [""] * 4
        cells.append(f"{self.blocked:.2f}" if self.blocked else "")
        return _row(cells)


HEADINGS = (
    "trigger",
    "waits",
    "appointments",
    "all begun, s",
    "requests",
    "of them lists",
    "new connections",
    "CPU, s",
    "of a core",
    "memory, MiB",
    "at most",
    "event, s: median",
    "p95",
    "max",
    "all committed, s",
    "loop blocked, s",
)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """
    Return the median, the 95th percentile and the maximum.

    :param values: sorted values.
    """
    return statistics.median(values), values[math.ceil(len(values) * 0.95) - 1], values[-1]


def fired_at(logs: Iterable[str]) -> list[float]:
    """
    Return when events were fired, in seconds since the epoch.

    :param logs: logs of the triggers and the triggerer, which has late lines of the triggers.
    """
    found = {int(nanoseconds) for log in logs for nanoseconds in re.findall(r"fired_at\W+(\d+)", log)}
    return [nanoseconds / 1e9 for nanoseconds in found]


def longest_block(output: str) -> float:
    """
    Return the longest block of the event loop that Airflow reported; 0 if there was none.

    :param output: output of the triggerer.
    """
    return max(map(float, re.findall(r"thread was blocked for ([\d.]+) seconds", output)), default=0.0)


def measure(python: str, case: Case, interval: float, intervals: int) -> Result:
    """
    Measure one case in a separate triggerer.

    :param python: interpreter of the virtual environment with Airflow.
    :param case: the case.
    :param interval: seconds between two polls.
    :param intervals: number of intervals to measure.
    """
    with tempfile.TemporaryDirectory(prefix="waits-") as home, CountedService(case) as service:
        dags = Path(home) / "dags"
        dags.mkdir()
        shutil.copy(DEFERRED, dags)
        connections = {
            "webcamconsult_default": {"conn_type": "webcamconsult", "host": service.url, "password": TOKEN},
            "http_default": {
                "conn_type": "http",
                "host": service.url,
                "extra": {"Authorization": f"Token token={TOKEN}"},
            },
        }
        airflow = Triggerer(
            Path(home),
            dags,
            python=python,
            env={
                **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()},
                "PYTHONPATH": os.pathsep.join([str(dags), str(ROOT)]),
                "WATCHED_INTERVAL": str(interval) if case.is_watched else None,
            },
            # Airflow 3 and Airflow 2 name the same setting differently.
            config={
                "triggerer": dict.fromkeys(
                    ("capacity", "default_capacity"), str(math.ceil(case.triggers / case.triggerers) + 2)
                )
            },
        )
        with airflow:
            airflow.read_dags()
            for number in range(1, case.triggerers):
                airflow.start_triggerer(f"triggerer-{number + 1}")
            session_id = airflow.pid("triggerer")
            before, idle, _ = watch(session_id, interval * intervals)
            airflow.defer(case, service.ids, interval)
            written = time.monotonic()
            airflow.wait_until(
                lambda: (
                    len(airflow.trigger_logs()) == case.triggers
                    and (not case.is_watched or airflow.events(WATCHED))
                    and (case.trigger == SLEEPING or service.has_polled_all())
                ),
                START_TIMEOUT,
                "has not polled all appointments",
            )
            startup = time.monotonic() - written
            time.sleep(interval * SETTLING_INTERVALS)
            printed = len(airflow.output())
            counts = service.counts()
            begin, end, peak = watch(session_id, interval * intervals)
            later = service.counts()
            passed = (later.time - counts.time) / interval
            blocked = longest_block(airflow.output()[printed:])
            delays: list[float] = []
            committed = 0.0
            if case.trigger != SLEEPING:
                requests = service.counts().requests
                while service.counts().requests == requests:
                    time.sleep(REQUEST_POLL_INTERVAL)
                changed = service.change()
                while airflow.deferred():
                    airflow.check_alive()
                    if time.time() > changed + END_TIMEOUT:
                        raise TimeoutError(
                            f"{airflow.deferred()} waits have not ended. Output:\n{airflow.output()}"
                        )
                    time.sleep(COMMIT_POLL_INTERVAL)
                committed = time.time() - changed
                fired: list[float] = []
                # Airflow 3 may write a log after it stored the event.
                while len(fired) < case.triggers:
                    if time.time() > changed + END_TIMEOUT:
                        raise TimeoutError(f"The logs of {case.triggers - len(fired)} waits have no event.")
                    time.sleep(COMMIT_POLL_INTERVAL)
                    fired = fired_at([*(log.read_text() for log in airflow.trigger_logs()), airflow.output()])
                delays = sorted(seconds - changed for seconds in fired)
            return Result(
                case,
                (idle.cpu - before.cpu) / (idle.time - before.time) * interval,
                startup,
                (later.requests - counts.requests) / passed,
                (later.lists - counts.lists) / passed,
                (later.connections - counts.connections) / passed,
                (end.cpu - begin.cpu) / (end.time - begin.time) * interval,
                end.memory - idle.memory,
                peak - idle.memory,
                delays,
                committed,
                blocked,
            )


def report(version: str, results: Sequence[Result], interval: float) -> Iterator[str]:
    """
    Yield the results on one Airflow as lines of Markdown.

    :param version: version of Airflow.
    :param results: results of all cases.
    :param interval: seconds between two polls.
    """
    yield f"## Airflow {version}, per interval of {interval:g} s"
    yield ""
    yield _row(HEADINGS)
    yield _row("---" for _ in HEADINGS)
    for result in results:
        yield result.row(interval)
    yield ""
    # A watched list has a trigger from the start.
    if idle := [result.idle_cpu for result in results if not result.case.is_watched]:
        yield f"A triggerer without a trigger: {statistics.median(idle):.3f} s of CPU."
    for theirs in results:
        for ours in results:
            is_pair = (theirs.case.trigger, ours.case.trigger) == (THEIRS, OURS) and not (
                ours.case.in_one or ours.case.is_watched
            )
            if is_pair and (
                theirs.case.waits,
                theirs.case.appointments,
            ) == (ours.case.waits, ours.case.appointments):
                yield (
                    f"{THEIRS} / {OURS}, {ours.case.waits:,} waits: {theirs.requests / ours.requests:.0f} "
                    f"times the requests, {theirs.cpu / ours.cpu:.1f} times the CPU."
                )


def main() -> None:
    """Run the benchmark on each Airflow, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "pythons", nargs="*", default=[sys.executable], help="interpreters of environments with Airflow"
    )
    parser.add_argument(
        "--interval", type=float, default=5.0, help="seconds between two polls (default: %(default)s)"
    )
    parser.add_argument(
        "--intervals", type=int, default=6, help="number of intervals to measure (default: %(default)s)"
    )
    parser.add_argument("--waits", type=int, default=1000, help="number of waits (default: %(default)s)")
    parser.add_argument(
        "--many", type=int, default=4000, help="number of waits in the larger cases (default: 4000)"
    )
    parser.add_argument(
        "--appointments",
        type=int,
        default=100_000,
        help="appointments in the cases with a long list (default: 100000)",
    )
    parser.add_argument("--only", type=int, nargs="+", help="numbers of the cases to run, from 0")
    arguments = parser.parse_args()
    cases = [
        Case(SLEEPING, arguments.waits),
        Case(THEIRS, arguments.waits),
        Case(OURS, arguments.waits),
        Case(SLEEPING, arguments.many),
        Case(OURS, arguments.many),
        Case(OURS, 1, arguments.appointments),
        Case(OURS, arguments.waits, arguments.appointments),
        Case(OURS, FEW_WAITS, triggerers=2),
        Case(OURS, arguments.waits, in_one=True),
        Case(OURS, arguments.waits, is_watched=True),
    ]
    files = OPEN_FILES_PER_WAIT * max(arguments.waits, arguments.many)
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (files if limit == resource.RLIM_INFINITY else min(files, limit), limit)
    )
    print(f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}", flush=True)
    for python in arguments.pythons:
        version = subprocess.run(  # noqa: S603
            [python, "-c", "from importlib.metadata import version; print(version('apache-airflow'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        results = []
        for number in arguments.only or range(len(cases)):
            if cases[number].is_watched and version.startswith("2."):
                continue  # it has no watchers
            results.append(measure(python, cases[number], arguments.interval, arguments.intervals))
            print(results[-1].row(arguments.interval), file=sys.stderr, flush=True)
        print("\n".join(["", *report(version, results, arguments.interval)]), flush=True)


if __name__ == "__main__":
    main()
