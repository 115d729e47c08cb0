"""
Kill workers of a real Airflow while they create records, lose responses, and count the records that result.

Tasks that create an appointment are killed with SIGKILL at chosen and at random times, or their create is
processed long after they lost the connection, and Airflow retries them. Then pairs of mapped tasks create the
same record at the same time. Then responses are lost, to this provider's operator and to `HttpOperator` of
apache-airflow-providers-http. Last, syncs are killed at random writes, while some of their creates lose their
responses or are processed late, and run once more.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.sandbox import Sandbox
from devtools import ROOT
from devtools.fault_proxy import FAULTS, ProxiedRequest, Proxy, make_response, truncate
from devtools.local_airflow import ZOMBIE_INTERVAL, LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DAG_FILE = Path(__file__).parent / "dags" / "chaos.py"

# All in seconds.
CONNECTION_TIMEOUT = 2.0
"""The connection's `timeout`."""
CREATE_FLOOR = 10.0
"""How long a retry waits for a request that may still be processed, instead of minutes."""
LOOKUP_DELAYS = (0.0,)
"""One look-up after a create with an unknown outcome, so that Airflow has to retry the task."""
LATE_MIN, LATE_MAX = CONNECTION_TIMEOUT + 1, CREATE_FLOOR - 1
"""When a late create is processed. The floor begins before the create reaches the proxy."""
CREATE_SPAN = 0.3
"""How long a create usually takes, until its response."""
STORE_SPAN = 0.1
"""How long a task usually takes to store the id."""
PROCESSING_DELAY = 0.3
BARRIER_TIMEOUT = 30.0
"""How long the proxy holds the first create of a pair until the second arrives."""
RACE_SPAN = 0.1
"""How far apart the two are processed then."""
DEATH_TIMEOUT = 30.0
RUN_TIMEOUT = 3600.0

BEFORE_INTENT = "before the intent is stored"
INTENT_STORED = "intent stored, not sent"
NEVER_PROCESSED = "sent, never processed"
PROCESSED_LATER = "sent, processed after the worker's death"
NO_RESPONSE = "processed, no response"
PARTIAL_RESPONSE = "processed, partial response"
RESPONSE_RECEIVED = "response received, id not stored"
STORING_ID = "while the id is stored, or after"
ANY_TIME = "any time"
LATE_KILLED = "sent, processed long after the worker's death"
LATE_DROPPED = "not killed: connection dropped, processed late"
LATE_TIMED_OUT = "not killed: timed out, processed late"
LATE_RETRY_KILLED = "connection dropped, retry killed, processed late"

#: When workers are killed, and which creates are processed late.
KILL_POINTS = (
    BEFORE_INTENT,
    INTENT_STORED,
    NEVER_PROCESSED,
    PROCESSED_LATER,
    NO_RESPONSE,
    PARTIAL_RESPONSE,
    RESPONSE_RECEIVED,
    STORING_ID,
    ANY_TIME,
    LATE_KILLED,
    LATE_DROPPED,
    LATE_TIMED_OUT,
    LATE_RETRY_KILLED,
)
LATE_POINTS = KILL_POINTS[-4:]

#: How responses are lost after the create was processed: names of the proxy's faults.
RESPONSE_FAULTS = (
    "closed before the response",
    "closed within the response body",
    "reset before the response",
    "no response in time",
    "502 after processing",
    "504 after processing",
)

IF_EXISTS = ("create", "create", "reuse", "update", "fail")
"""The values of `if_exists` that the tasks use in turn. The default is there twice."""

SYNC_ROWS = 40
"""Rows of each sync: half of the clients are new, the others differ."""
SYNC_GONE = 10
"""Clients of each sync that are in no row, half of which exist."""
SYNC_KILLS = 2
"""How often the worker of each sync is killed."""
SYNC_SPAN = 0.05
"""How long a write of a sync takes at most, if it is not late."""
SYNC_LOST, SYNC_LATE = 0.1, 0.05
"""Shares of the creates of a sync that lose their response, or are processed late."""
SYNC_OLD = "old"
"""Last name of the clients that a sync updates or deletes."""

RACE_KINDS = ("clients", "appointments")
"""What the pairs create in turn."""
RACE_IF_EXISTS = ("reuse", "update", "fail")
"""The values of `if_exists` that the pairs use in turn."""


class ChaosProxy(Proxy):
    """
    A proxy that kills each task of a plan once, and loses the first response to each other task.

    Of each second pair of tasks that create the same record, it holds the first create until the second
    arrives.

    :param url: URL of the service.
    :param plan: when to kill each task, by the number in its `client_id`.
    :param other_token: the token that identifies requests of the other operator.
    :param syncs: numbers of the syncs whose workers are killed too.
    """

    def __init__(self, url: str, plan: dict[int, str], other_token: str, syncs: Sequence[int] = ()) -> None:
        super().__init__(url)
        self.plan = plan
        self.syncs = {number: random.sample(range(1, SYNC_ROWS), SYNC_KILLS) for number in syncs}
        """The writes of each sync at which its worker is killed, counted over all of its tries."""
        self.faults: dict[int, Counter[str]] = {number: Counter() for number in syncs}
        """Number of writes, lost responses and late creates by sync."""
        self._rows_sent: defaultdict[int, set[int]] = defaultdict(set)
        self._other_token = other_token.encode()
        self.killed: Counter[int] = Counter()
        self.lost: Counter[str] = Counter()
        self.outrun: set[int] = set()
        """Tasks whose retry started before their create was processed."""
        self.sent: Counter[int] = Counter()
        """Number of creates by pair."""
        self._already_lost: set[tuple[str, int]] = set()
        self._late: set[int] = set()
        self._pending: set[int] = set()
        self._both_sent: defaultdict[int, threading.Event] = defaultdict(threading.Event)
        self._workers: dict[int, _Worker] = {}
        self._lock = threading.Lock()

    def handle(self, request: ProxiedRequest) -> None:
        """Kill the worker, lose the response, or forward the request."""
        if request.path.startswith("/chaos/"):
            _, _, task, stage, pid = request.path.split("/")
            self._handle_report(request, int(task), stage, int(pid))
        elif request.method in ("POST", "PUT"):
            head, _, body = request.read().partition(b"\r\n\r\n")
            (attributes,) = json.loads(body).values()
            if "last_name" in attributes:  # only the clients of a sync have one
                self._handle_sync(request, attributes["last_name"])
            elif request.method == "POST":
                name = attributes.get("reference_code") or attributes["client_id"]
                self._handle_post(request, name[0], int(name[1:]), head)
            else:
                super().handle(request)
        else:
            super().handle(request)

    def _handle_post(self, request: ProxiedRequest, prefix: str, number: int, head: bytes) -> None:
        if prefix == "p":
            self._handle_pair(request, number)
        elif number in self.plan:
            self._handle_create(request, number)
        else:
            self._lose_first_response(request, number, head)

    def _handle_report(self, request: ProxiedRequest, number: int, stage: str, pid: int) -> None:
        self._workers[number] = _Worker(pid, _start_time(pid))
        kill_point = self._kill_point(number)
        if (stage, kill_point) in (("started", BEFORE_INTENT), ("stored", INTENT_STORED)):
            self._kill(number)
            return
        is_outrun = stage == "started" and number in self._pending
        if is_outrun:
            self.outrun.add(number)
        if (stage == "started" and kill_point == ANY_TIME) or (is_outrun and kill_point == LATE_RETRY_KILLED):
            self._kill_after(random.uniform(0, CREATE_SPAN), number)  # noqa: S311
        request.respond(make_response(200))

    def _handle_create(self, request: ProxiedRequest, number: int) -> None:
        kill_point = self._kill_point(number)
        if kill_point == NEVER_PROCESSED:
            self._kill(number)
        elif kill_point == PROCESSED_LATER:
            self._kill(number)
            time.sleep(PROCESSING_DELAY)
            request.forward()
        elif kill_point == NO_RESPONSE:
            request.forward()
            self._kill(number)
        elif kill_point == PARTIAL_RESPONSE:
            request.respond(truncate(request.forward(), "half the body"))
            self._kill(number)
        elif kill_point == RESPONSE_RECEIVED:
            request.respond(request.forward())
            self._kill(number)
        elif kill_point == STORING_ID:
            request.respond(request.forward())
            self._kill_after(random.uniform(0, STORE_SPAN), number)  # noqa: S311
        elif kill_point in LATE_POINTS and number not in self._late:
            self._process_late(request, number)
        else:
            request.respond(request.forward())

    def _process_late(self, request: ProxiedRequest, number: int) -> None:
        self._late.add(number)
        self._pending.add(number)
        if self.plan[number] == LATE_KILLED:
            self._kill(number)
        elif self.plan[number] != LATE_TIMED_OUT:
            request.disconnect()
        time.sleep(random.uniform(LATE_MIN, LATE_MAX))  # noqa: S311
        request.forward()
        self._pending.remove(number)

    def _handle_pair(self, request: ProxiedRequest, number: int) -> None:
        with self._lock:
            self.sent[number] += 1
            both_sent = self._both_sent[number]
        if self.sent[number] > 1:
            both_sent.set()
        if is_held(number):
            both_sent.wait(BARRIER_TIMEOUT)
            time.sleep(random.uniform(0, RACE_SPAN))  # noqa: S311
        super().handle(request)

    def _lose_first_response(self, request: ProxiedRequest, number: int, head: bytes) -> None:
        whose = "theirs" if self._other_token in head else "ours"
        response = request.forward()
        with self._lock:
            is_first = (whose, number) not in self._already_lost
            self._already_lost.add((whose, number))
        if not is_first:
            request.respond(response)
            return
        self.lost[whose] += 1
        self._lose(request, response, number)

    def _lose(self, request: ProxiedRequest, response: bytes, number: int) -> None:
        fault = FAULTS[RESPONSE_FAULTS[number % len(RESPONSE_FAULTS)]]
        if fault.kind == "hold":
            request.wait_for_disconnect()
            return
        request.respond(fault.replacement or truncate(response, fault.part))
        if fault.kind == "reset":
            request.reset()

    def _handle_sync(self, request: ProxiedRequest, name: str) -> None:
        if name == SYNC_OLD:  # the clients are prepared
            request.respond(request.forward())
            return
        number, row = map(int, name[1:].split("-"))
        faults = self.faults[number]
        with self._lock:
            faults["writes"] += 1
            is_kill = faults["writes"] in self.syncs[number]
            is_first = row not in self._rows_sent[number]
            self._rows_sent[number].add(row)
        if is_kill:
            self._kill_after(random.uniform(0, SYNC_SPAN), number)  # noqa: S311
        time.sleep(random.uniform(0, SYNC_SPAN))  # noqa: S311
        chance = random.random() if is_first and request.method == "POST" else 1.0  # noqa: S311
        if chance < SYNC_LATE:
            faults["late"] += 1
            time.sleep(random.uniform(LATE_MIN, LATE_MAX))  # noqa: S311
            request.forward()
            return
        response = request.forward()
        if chance < SYNC_LATE + SYNC_LOST:
            faults["lost"] += 1
            self._lose(request, response, row // 2)  # every second row is a create
        else:
            request.respond(response)

    def _kill_point(self, number: int) -> str | None:
        return None if self.killed[number] else self.plan.get(number)

    def _kill_after(self, seconds: float, number: int) -> None:
        self.killed[number] += 1
        threading.Timer(seconds, self._workers[number].kill).start()

    def _kill(self, number: int) -> None:
        self._workers[number].kill()
        self.killed[number] += 1


def is_held(pair: int) -> bool:
    """Return whether the creates of a pair wait for each other, as half of them do."""
    return pair // (len(RACE_KINDS) * len(RACE_IF_EXISTS)) % 2 == 0


@dataclass(frozen=True)
class _Worker:
    """The process of a task. Its start time distinguishes it from a later process with the same id."""

    pid: int
    start: str | None

    def kill(self) -> None:
        """Kill the process, and return once it is dead."""
        deadline = time.monotonic() + DEATH_TIMEOUT
        while self.start is not None and _start_time(self.pid) == self.start and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.001)


def _start_time(pid: int) -> str | None:
    """Return when a process was started, in clock ticks since boot; None if it is dead."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]


@dataclass(frozen=True)
class Kills:
    """
    The results of the tasks that were killed at one point.

    :param kill_point: one of :data:`KILL_POINTS`.
    :param tasks: number of tasks.
    :param retried: number of tasks that Airflow retried, because they were killed in time, or failed.
    :param outrun: number of tasks whose retry started before their create was processed.
    :param duplicated: number of tasks that created two or more records.
    :param missing: number of tasks that created no record, did not succeed, or returned a different id.
    """

    kill_point: str
    tasks: int
    retried: int
    outrun: int
    duplicated: int
    missing: int


@dataclass(frozen=True)
class Races:
    """
    The results of the pairs of tasks that created the same record at the same time.

    :param if_exists: `if_exists` of both tasks.
    :param pairs: number of pairs.
    :param raced: number of pairs of which both tasks sent a create.
    :param duplicated: number of pairs that left two or more records.
    :param wrong: number of pairs that left no record, returned a different id, or both succeeded with "fail".
    :param undecided: number of pairs of which more tasks failed than the second one with "fail".
    """

    if_exists: str
    pairs: int
    raced: int
    duplicated: int
    wrong: int
    undecided: int


@dataclass(frozen=True)
class Losses:
    """
    The results of the tasks whose first response was lost.

    :param operator: class name of their operator.
    :param lost: number of lost responses.
    :param duplicates: number of records beyond the first of each task.
    :param missing: number of tasks that created no record.
    """

    operator: str
    lost: int
    duplicates: int
    missing: int


@dataclass(frozen=True)
class Syncs:
    """
    The results of the syncs whose workers were killed and whose responses were lost.

    :param syncs: number of syncs.
    :param retried: number of retries, because a worker was killed in time.
    :param lost: number of creates whose response was lost.
    :param late: number of creates that were processed long after they were sent.
    :param creates: number of rows without a client.
    :param duplicated: number of rows with two or more clients.
    :param missing: number of writes that were not made: rows without a client or with one that was not
        updated, and clients that were not deleted.
    :param wrong: number of syncs that failed, or wrote something when they were run once more.
    """

    syncs: int
    retried: int
    lost: int
    late: int
    creates: int
    duplicated: int
    missing: int
    wrong: int


@dataclass(frozen=True)
class Result:
    """The results on one version of Airflow."""

    version: str
    kills: list[Kills]
    races: list[Races]
    losses: list[Losses]
    syncs: list[Syncs]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether this provider's operators left exactly one record for each task, pair of tasks, or row."""
        ours = self.losses[:1]
        return not (
            any(kill.duplicated or kill.missing for kill in self.kills)
            or any(race.duplicated or race.wrong for race in self.races)
            or any(loss.duplicates or loss.missing for loss in ours)
            or any(sync.duplicated or sync.missing or sync.wrong for sync in self.syncs)
        )

    def markdown_lines(self) -> Iterator[str]:
        """Return the tables as lines of Markdown."""
        yield f"## Airflow {self.version}, in {self.seconds:.0f} s"
        if self.kills:
            yield ""
            yield "| what happened | tasks | retried | retried before processed | two records | no record |"
            yield "| --- | --- | --- | --- | --- | --- |"
            yield from _rows(self.kills)
            _, *counts = zip(*map(astuple, self.kills), strict=True)
            yield f"| all | {' | '.join(str(sum(column)) for column in counts)} |"
        if self.races:
            yield ""
            yield "| if_exists | pairs | both sent a create | two records | wrong result | undecided |"
            yield "| --- | --- | --- | --- | --- | --- |"
            yield from _rows(self.races)
        if self.losses:
            yield ""
            yield "| operator | responses lost | duplicates | duplicates per 100 lost responses | no record |"
            yield "| --- | --- | --- | --- | --- |"
            for loss in self.losses:
                rate = 100 * loss.duplicates / loss.lost if loss.lost else 0
                yield f"| {loss.operator} | {loss.lost} | {loss.duplicates} | {rate:.0f} | {loss.missing} |"
        if self.syncs:
            yield ""
            yield "| syncs | retries | responses lost | late | new clients | two records | missing | wrong |"
            yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
            yield from _rows(self.syncs)


def _rows(results: Iterable[Any]) -> Iterator[str]:
    for result in results:
        yield f"| {' | '.join(map(str, astuple(result)))} |"


def install_dags(
    folder: Path, sandbox: Sandbox, proxy: ChaosProxy, pairs: int = 0, lost: Sequence[int] = ()
) -> list[Path]:
    """
    Copy the DAGs and their plan into a DAGs folder.

    :param folder: the DAGs folder.
    :param sandbox: the service, with two organisations.
    :param proxy: the host of the DAGs' connections.
    :param pairs: number of pairs of tasks that create the same record.
    :param lost: numbers of the tasks whose responses are lost.
    :return: the files.
    """
    plan = {
        "url": proxy.url,
        "token": sandbox.tokens[0],
        "other_token": sandbox.tokens[1],
        "timeout": CONNECTION_TIMEOUT,
        "pair_timeout": 2 * BARRIER_TIMEOUT,
        "floor": CREATE_FLOOR,
        "lookup_delays": LOOKUP_DELAYS,
        "if_exists": IF_EXISTS,
        "kills": list(proxy.plan),
        "races": {kind: _pairs(pairs, kind) for kind in RACE_KINDS},
        "race_if_exists": RACE_IF_EXISTS,
        "lost": list(lost),
        "syncs": list(proxy.syncs),
        "sync_rows": SYNC_ROWS,
        "sync_gone": SYNC_GONE,
        "sync_old": SYNC_OLD,
    }
    file = folder / "chaos.json"
    file.write_text(json.dumps(plan))
    return [file, Path(shutil.copy(DAG_FILE, folder))]


def _pairs(pairs: int, kind: str) -> list[int]:
    return [pair for pair in range(pairs) if RACE_KINDS[pair % len(RACE_KINDS)] == kind]


def kill_workers(airflow: LocalAirflow, sandbox: Sandbox, proxy: ChaosProxy) -> list[Kills]:
    """
    Run the DAG whose tasks are killed as the proxy's plan says, and count the records.

    :param airflow: an Airflow with the DAGs of :func:`install_dags`.
    :param sandbox: the service.
    :param proxy: the host of the DAGs' connections.
    :return: the results for each kill point.
    """
    run_id = airflow.trigger("chaos_kills")
    airflow.wait("chaos_kills", run_id, RUN_TIMEOUT)
    states = {state.task_id: state for state in airflow.task_states("chaos_kills", run_id)}
    records = _ids_by_name(sandbox, "appointments", "client_id")
    kills = []
    for kill_point in KILL_POINTS:
        numbers = [number for number, planned in proxy.plan.items() if planned == kill_point]
        if not numbers:
            continue
        missing = 0
        for number in numbers:
            state, found = states[f"create_{number}"], records[f"c{number}"]
            returned = airflow.xcom("chaos_kills", run_id, f"create_{number}")
            if state.state != "success" or returned not in found:
                missing += 1
                log = airflow.task_log("chaos_kills", run_id, state.task_id, -1, state.try_number)
                print(f"{state} returned {returned}; sandbox has {found}. Log:\n{log}", file=sys.stderr)
        kills.append(
            Kills(
                kill_point,
                len(numbers),
                sum(states[f"create_{number}"].try_number > 1 for number in numbers),
                len(proxy.outrun.intersection(numbers)),
                sum(len(records[f"c{number}"]) > 1 for number in numbers),
                missing,
            )
        )
    return kills


def race(airflow: LocalAirflow, sandbox: Sandbox, proxy: ChaosProxy, pairs: int) -> list[Races]:
    """
    Run the DAG with pairs of mapped tasks that create the same record, and count the records.

    :param airflow: an Airflow with the DAGs of :func:`install_dags`.
    :param sandbox: the service.
    :param proxy: the host of the DAGs' connections.
    :param pairs: number of pairs.
    :return: the results for each value of `if_exists`.
    """
    run_id = airflow.trigger("chaos_races")
    airflow.wait("chaos_races", run_id, RUN_TIMEOUT)
    states = {(task.task_id, task.map_index): task for task in airflow.task_states("chaos_races", run_id)}
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for kind, attribute in zip(RACE_KINDS, ("reference_code", "client_id"), strict=True):
        records = _ids_by_name(sandbox, kind, attribute)
        for index, pair in enumerate(_pairs(pairs, kind)):
            if_exists = RACE_IF_EXISTS[pair % len(RACE_IF_EXISTS)]
            tasks = [states[f"create_{kind}", 2 * index + second] for second in range(2)]
            returned = [
                airflow.xcom("chaos_races", run_id, task.task_id, task.map_index)
                for task in tasks
                if task.state == "success"
            ]
            found, successes = records[f"p{pair}"], 1 if if_exists == "fail" else 2
            observed = {
                "pairs": True,
                "raced": proxy.sent[pair] > 1,
                "duplicated": len(found) > 1,
                "wrong": not found or not set(returned) <= set(found) or len(returned) > successes,
                "undecided": len(returned) < successes,
            }
            counts[if_exists].update(name for name, value in observed.items() if value)
            if observed["duplicated"] or observed["wrong"] or observed["undecided"]:
                logs = [
                    airflow.task_log("chaos_races", run_id, task.task_id, task.map_index, task.try_number)
                    for task in tasks
                ]
                print(f"{tasks} returned {returned}; sandbox has {found}.", *logs, sep="\n", file=sys.stderr)
    names = [field.name for field in fields(Races)][1:]
    return [Races(if_exists, *(counts[if_exists][name] for name in names)) for if_exists in RACE_IF_EXISTS]


def lose_responses(
    airflow: LocalAirflow, sandbox: Sandbox, proxy: ChaosProxy, lost: Sequence[int]
) -> list[Losses]:
    """
    Run the DAG whose tasks lose their first response, and count the records.

    :param airflow: an Airflow with the DAGs of :func:`install_dags`.
    :param sandbox: the service.
    :param proxy: the host of the DAGs' connections.
    :param lost: numbers of the tasks.
    :return: the results of this provider's operator, then those of the other.
    """
    run_id = airflow.trigger("chaos_lost")
    airflow.wait("chaos_lost", run_id, RUN_TIMEOUT)
    losses = []
    operators = {"ours": "WebcamconsultCreateAppointmentOperator", "theirs": "HttpOperator"}
    for (whose, name), token in zip(operators.items(), sandbox.tokens, strict=True):
        records = _ids_by_name(sandbox, "appointments", "client_id", token)
        found = [len(records[f"c{number}"]) for number in lost]
        duplicates = sum(max(0, count - 1) for count in found)
        losses.append(Losses(name, proxy.lost[whose], duplicates, found.count(0)))
    return losses


def kill_syncs(airflow: LocalAirflow, sandbox: Sandbox, proxy: ChaosProxy) -> Syncs:
    """
    Run the DAG with syncs that are killed and lose responses, and then run once more. Count the clients.

    :param airflow: an Airflow with the DAGs of :func:`install_dags`.
    :param sandbox: the service.
    :param proxy: the host of the DAGs' connections.
    """
    run_id = airflow.trigger("chaos_syncs")
    airflow.wait("chaos_syncs", run_id, RUN_TIMEOUT)
    states = {state.task_id: state for state in airflow.task_states("chaos_syncs", run_id)}
    names = defaultdict(list)
    for client in sandbox.records("clients"):
        names[client["reference_code"]].append(client["last_name"])
    unchanged = {
        "rows": SYNC_ROWS,
        "created": 0,
        "updated": 0,
        "unchanged": SYNC_ROWS,
        "deleted": 0,
        "failed": 0,
    }
    counts = Counter[str]()
    for number, faults in proxy.faults.items():
        keys = [f"s{number}-{row}" for row in range(SYNC_ROWS)]
        others = [key for key in names if str(key).startswith(f"s{number}-") and key not in keys]
        duplicated = sum(len(names[key]) > 1 for key in keys)
        missing = sum(key not in names[key] for key in keys) + len(others)
        state = states[f"sync_{number}"]
        again = airflow.xcom("chaos_syncs", run_id, f"again_{number}")
        counts.update(faults, retried=state.try_number - 1, duplicated=duplicated, missing=missing)
        if duplicated or missing or again != unchanged:
            counts["wrong"] += again != unchanged
            log = airflow.task_log("chaos_syncs", run_id, state.task_id, -1, state.try_number)
            print(f"{state}; the next sync returned {again}. Log:\n{log}", file=sys.stderr)
    return Syncs(
        len(proxy.syncs),
        counts["retried"],
        counts["lost"],
        counts["late"],
        len(proxy.syncs) * SYNC_ROWS // 2,
        counts["duplicated"],
        counts["missing"],
        counts["wrong"],
    )


def _ids_by_name(
    sandbox: Sandbox, kind: str, attribute: str, token: str | None = None
) -> defaultdict[str | None, list[str]]:
    ids = defaultdict(list)
    for record in sandbox.records(kind, token):
        ids[record[attribute]].append(record["id"])
    return ids


def make_plan(kills: int) -> dict[int, str]:
    """
    Assign a kill point to each task, all equally often.

    :param kills: number of tasks.
    """
    return {number: KILL_POINTS[number % len(KILL_POINTS)] for number in range(kills)}


def run(python: str, kills: int, pairs: int, lost: int, syncs: int) -> Result:
    """
    Kill workers, create in pairs, lose responses and kill syncs on one Airflow.

    :param python: interpreter of the virtual environment with that Airflow.
    :param kills: number of tasks to kill.
    :param pairs: number of pairs of tasks that create the same record, for each value of `if_exists`.
    :param lost: number of responses to lose for each operator.
    :param syncs: number of syncs to kill.
    """
    pairs *= len(RACE_IF_EXISTS)
    begin = time.monotonic()
    numbers = range(kills, kills + lost)
    sync_numbers = range(numbers.stop, numbers.stop + syncs)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as home,
        Sandbox() as sandbox,
        ChaosProxy(sandbox.url, make_plan(kills), sandbox.tokens[1], sync_numbers) as proxy,
    ):
        dags = Path(home) / "dags"
        dags.mkdir()
        install_dags(dags, sandbox, proxy, pairs, numbers)
        with LocalAirflow(
            Path(home),
            dags,
            python=python,
            env={"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            config={"scheduler": {"zombie_detection_interval": str(ZOMBIE_INTERVAL)}},
        ) as airflow:
            killed = kill_workers(airflow, sandbox, proxy) if kills else []
            races = race(airflow, sandbox, proxy, pairs) if pairs else []
            losses = lose_responses(airflow, sandbox, proxy, numbers) if lost else []
            synced = [kill_syncs(airflow, sandbox, proxy)] if syncs else []
            return Result(airflow.version, killed, races, losses, synced, time.monotonic() - begin)
