"""
Kill workers of a real Airflow around the request that creates, lose answers, and count what exists then.

Tasks that create an appointment are killed with SIGKILL at chosen and at random moments, and Airflow retries
them. Then answers are lost, of this provider's operator and of `HttpOperator` of
apache-airflow-providers-http alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_webcamconsult.sandbox import Sandbox
from devtools import ROOT
from devtools.fault_proxy import FAULTS, Exchange, Proxy, make_answer, part_of
from devtools.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DAG_FILE = Path(__file__).parent / "dags" / "chaos.py"

# All in seconds.
CONNECTION_TIMEOUT = 2.0
"""The `timeout` of the connection; a retry waits as long for a request that may still be under way."""
RANDOM_SPAN = 0.3
"""From when a task begins to create until it has the answer, as a rule."""
NOTING_SPAN = 0.1
CARRIED_OUT_AFTER_DEATH = 0.3
DEATH_TIMEOUT = 30.0
ZOMBIE_INTERVAL = 20.0
"""How often Airflow 2 looks for dead tasks: after it has dealt with those that it found the last time."""
RUN_TIMEOUT = 3600.0

BEFORE_INTENT = "before the intent is noted"
INTENT_NOTED = "intent noted, not sent"
NEVER_CARRIED_OUT = "sent, never carried out"
CARRIED_OUT_LATER = "sent, carried out after its death"
NOT_ANSWERED = "carried out, not answered"
HALF_ANSWERED = "carried out, half answered"
ANSWERED = "answered, id not noted"
NOTING = "while the id is noted, or after"
ANY_TIME = "any moment"

#: When a worker is killed.
MOMENTS = (
    BEFORE_INTENT,
    INTENT_NOTED,
    NEVER_CARRIED_OUT,
    CARRIED_OUT_LATER,
    NOT_ANSWERED,
    HALF_ANSWERED,
    ANSWERED,
    NOTING,
    ANY_TIME,
)

#: How an answer is lost, once the create was carried out; names of faults of the proxy.
LOST = (
    "cut before the answer",
    "cut in the body of the answer",
    "reset before the answer",
    "no answer in time",
    "502 after it was carried out",
    "504 after it was carried out",
)

IF_EXISTS = ("create", "create", "reuse", "update", "fail")
"""The default twice as often."""


class ChaosProxy(Proxy):
    """
    A proxy that kills each task of a plan once, and loses the first answer to each other task.

    :param url: the service behind it.
    :param plan: the moment at which each task is killed, by the number in its `client_id`.
    :param other_token: the token by which the requests of the other operator are known.
    """

    def __init__(self, url: str, plan: dict[int, str], other_token: str) -> None:
        super().__init__(url)
        self.plan = plan
        self._other_token = other_token.encode()
        self.killed: Counter[int] = Counter()
        self.lost: Counter[str] = Counter()
        self._lost_already: set[tuple[str, int]] = set()
        self._workers: dict[int, _Worker] = {}
        self._lock = threading.Lock()

    def meet(self, exchange: Exchange) -> None:
        """Kill, lose, or pass on."""
        if exchange.path.startswith("/chaos/"):
            _, _, task, stage, pid = exchange.path.split("/")
            self._told(exchange, int(task), stage, int(pid))
        elif exchange.method == "POST":
            head, _, body = exchange.read().partition(b"\r\n\r\n")
            number = int(json.loads(body)["appointment"]["client_id"].removeprefix("c"))
            if number in self.plan:
                self._create(exchange, number)
            else:
                self._lose_once(exchange, number, head)
        else:
            super().meet(exchange)

    def _told(self, exchange: Exchange, number: int, stage: str, pid: int) -> None:
        self._workers[number] = _Worker(pid, _start_of(pid))
        moment = self._moment(number)
        if (stage, moment) in (("started", BEFORE_INTENT), ("noted", INTENT_NOTED)):
            self._kill(number)
            return
        if stage == "started" and moment == ANY_TIME:
            self._kill_after(random.uniform(0, RANDOM_SPAN), number)  # noqa: S311
        exchange.answer(make_answer(200))

    def _create(self, exchange: Exchange, number: int) -> None:
        moment = self._moment(number)
        if moment == NEVER_CARRIED_OUT:
            self._kill(number)
        elif moment == CARRIED_OUT_LATER:
            self._kill(number)
            time.sleep(CARRIED_OUT_AFTER_DEATH)
            exchange.pass_on()
        elif moment == NOT_ANSWERED:
            exchange.pass_on()
            self._kill(number)
        elif moment == HALF_ANSWERED:
            exchange.answer(part_of(exchange.pass_on(), "half the body"))
            self._kill(number)
        elif moment == ANSWERED:
            exchange.answer(exchange.pass_on())
            self._kill(number)
        elif moment == NOTING:
            exchange.answer(exchange.pass_on())
            self._kill_after(random.uniform(0, NOTING_SPAN), number)  # noqa: S311
        else:
            exchange.answer(exchange.pass_on())

    def _lose_once(self, exchange: Exchange, number: int, head: bytes) -> None:
        whose = "theirs" if self._other_token in head else "ours"
        answer = exchange.pass_on()
        with self._lock:
            is_first = (whose, number) not in self._lost_already
            self._lost_already.add((whose, number))
        if not is_first:
            exchange.answer(answer)
            return
        self.lost[whose] += 1
        fault = FAULTS[LOST[number % len(LOST)]]
        if fault.kind == "hold":
            exchange.wait_until_client_leaves()
            return
        exchange.answer(fault.replacement or part_of(answer, fault.part))
        if fault.kind == "reset":
            exchange.reset()

    def _moment(self, number: int) -> str | None:
        return None if self.killed[number] else self.plan[number]

    def _kill_after(self, seconds: float, number: int) -> None:
        self.killed[number] += 1
        threading.Timer(seconds, self._workers[number].kill).start()

    def _kill(self, number: int) -> None:
        self._workers[number].kill()
        self.killed[number] += 1


@dataclass(frozen=True)
class _Worker:
    """The process of a task; its start tells it from a later one with the same id."""

    pid: int
    start: str | None

    def kill(self) -> None:
        """Kill it, and return once it is dead."""
        deadline = time.monotonic() + DEATH_TIMEOUT
        while self.start is not None and _start_of(self.pid) == self.start and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.001)


def _start_of(pid: int) -> str | None:
    """Return when a process was started, in the kernel's own time; None for one that is dead."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]


@dataclass(frozen=True)
class Kills:
    """
    What became of the tasks that were killed at one moment.

    :param tasks: how many there were.
    :param retried: how many of them the kill hit before they had ended, so that Airflow retried them.
    :param twice: how many created two records or more.
    :param missing: how many created none, or did not end well, or returned another id.
    """

    moment: str
    tasks: int
    retried: int
    twice: int
    missing: int


@dataclass(frozen=True)
class Losses:
    """
    What became of the tasks whose first answer was lost.

    :param lost: how many answers were lost.
    :param duplicates: how many records there are that should not be.
    :param missing: how many tasks created none.
    """

    operator: str
    lost: int
    duplicates: int
    missing: int


@dataclass(frozen=True)
class Result:
    """What one version of Airflow showed."""

    version: str
    kills: list[Kills]
    losses: list[Losses]
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether this provider's operator left one record of everything."""
        ours = self.losses[:1]
        return not any(kill.twice or kill.missing for kill in self.kills) and not any(
            loss.duplicates or loss.missing for loss in ours
        )

    def lines(self) -> Iterator[str]:
        """Return it as Markdown."""
        yield f"## Airflow {self.version}, in {self.seconds:.0f} s"
        if self.kills:
            yield ""
            yield "| a worker is killed | tasks | killed in time, and retried | two records | none |"
            yield "| --- | --- | --- | --- | --- |"
            for kill in self.kills:
                yield f"| {kill.moment} | {kill.tasks} | {kill.retried} | {kill.twice} | {kill.missing} |"
            sums = [
                sum(getattr(kill, name) for kill in self.kills)
                for name in ("tasks", "retried", "twice", "missing")
            ]
            yield f"| all | {' | '.join(map(str, sums))} |"
        if self.losses:
            yield ""
            yield "| operator | answers lost | duplicates | duplicates per 100 lost answers | none |"
            yield "| --- | --- | --- | --- | --- |"
            for loss in self.losses:
                rate = 100 * loss.duplicates / loss.lost if loss.lost else 0
                yield f"| {loss.operator} | {loss.lost} | {loss.duplicates} | {rate:.0f} | {loss.missing} |"


def prepare(folder: Path, sandbox: Sandbox, proxy: ChaosProxy, lost: Sequence[int] = ()) -> list[Path]:
    """
    Put the DAGs into a DAGs folder, and return the files.

    :param folder: the folder.
    :param sandbox: the service, with two organisations.
    :param proxy: what the DAGs speak to.
    :param lost: the numbers of the tasks whose answers are lost.
    """
    plan = {
        "url": proxy.url,
        "token": sandbox.tokens[0],
        "other_token": sandbox.tokens[1],
        "timeout": CONNECTION_TIMEOUT,
        "if_exists": IF_EXISTS,
        "kills": list(proxy.plan),
        "lost": list(lost),
    }
    file = folder / "chaos.json"
    file.write_text(json.dumps(plan))
    return [file, Path(shutil.copy(DAG_FILE, folder))]


def kill_workers(airflow: LocalAirflow, sandbox: Sandbox, proxy: ChaosProxy) -> list[Kills]:
    """
    Run the DAG whose tasks are killed as the proxy plans it, and count what is left.

    :param airflow: has the DAGs of :func:`prepare`.
    :param sandbox: the service.
    :param proxy: what the DAGs speak to.
    """
    run_id = airflow.trigger("chaos_kills")
    airflow.wait("chaos_kills", run_id, RUN_TIMEOUT)
    states = {state.task_id: state for state in airflow.task_states("chaos_kills", run_id)}
    records = _records_by_number(sandbox, sandbox.tokens[0])
    kills = []
    for moment in MOMENTS:
        numbers = [number for number, planned in proxy.plan.items() if planned == moment]
        if not numbers:
            continue
        missing = 0
        for number in numbers:
            state, found = states[f"create_{number}"], records.get(number, [])
            returned = airflow.xcom("chaos_kills", run_id, f"create_{number}")
            if state.state != "success" or returned not in found:
                missing += 1
                log = airflow.task_log("chaos_kills", run_id, state.task_id, -1, state.try_number)
                print(f"{state} returned {returned}, and there are {found}:\n{log}", file=sys.stderr)
        kills.append(
            Kills(
                moment,
                len(numbers),
                sum(states[f"create_{number}"].try_number > 1 for number in numbers),
                sum(len(records.get(number, [])) > 1 for number in numbers),
                missing,
            )
        )
    return kills


def lose_answers(
    airflow: LocalAirflow, sandbox: Sandbox, proxy: ChaosProxy, lost: Sequence[int]
) -> list[Losses]:
    """
    Run the DAG whose tasks lose their first answer, and count what is left.

    :param airflow: has the DAGs of :func:`prepare`.
    :param sandbox: the service.
    :param proxy: what the DAGs speak to.
    :param lost: the numbers of the tasks.
    :return: of this provider's operator, and of the other.
    """
    run_id = airflow.trigger("chaos_lost")
    airflow.wait("chaos_lost", run_id, RUN_TIMEOUT)
    losses = []
    operators = {"ours": "WebcamconsultCreateAppointmentOperator", "theirs": "HttpOperator"}
    for (whose, name), token in zip(operators.items(), sandbox.tokens, strict=True):
        records = _records_by_number(sandbox, token)
        found = [len(records.get(number, [])) for number in lost]
        duplicates = sum(max(0, count - 1) for count in found)
        losses.append(Losses(name, proxy.lost[whose], duplicates, found.count(0)))
    return losses


def _records_by_number(sandbox: Sandbox, token: str) -> dict[int, list[str]]:
    records: dict[int, list[str]] = {}
    for record in sandbox.records("appointments", token):
        number = re.fullmatch(r"c(\d+)", record["client_id"] or "")
        if number:
            records.setdefault(int(number[1]), []).append(record["id"])
    return records


def make_plan(kills: int) -> dict[int, str]:
    """
    Say at which moment each task is killed: at each equally often.

    :param kills: the number of tasks.
    """
    return {number: MOMENTS[number % len(MOMENTS)] for number in range(kills)}


def run(python: str, kills: int, lost: int) -> Result:
    """
    Show all of it on one Airflow.

    :param python: interpreter of the virtual environment that has it.
    :param kills: how many tasks are killed.
    :param lost: how many answers of each operator are lost.
    """
    begin = time.monotonic()
    numbers = range(kills, kills + lost)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as home,
        Sandbox() as sandbox,
        ChaosProxy(sandbox.url, make_plan(kills), sandbox.tokens[1]) as proxy,
    ):
        dags = Path(home) / "dags"
        dags.mkdir()
        prepare(dags, sandbox, proxy, numbers)
        with LocalAirflow(
            Path(home),
            dags,
            python=python,
            env={
                "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
                # Airflow 2 refuses more than one task at a time on SQLite, unless it is told not to look.
                "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
            },
            config={
                "core": {"executor": "LocalExecutor"},
                "scheduler": {"zombie_detection_interval": str(ZOMBIE_INTERVAL)},
            },
        ) as airflow:
            killed = kill_workers(airflow, sandbox, proxy) if kills else []
            losses = lose_answers(airflow, sandbox, proxy, numbers) if lost else []
            return Result(airflow.version, killed, losses, time.monotonic() - begin)
