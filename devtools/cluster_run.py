"""
Book, sync, wait and list changes on a cluster while its workers, schedulers, triggerers and broker die.

A proxy holds every create until it is decided what happens to it, so that each worker is killed within one.
"""

from __future__ import annotations

import json
import queue
import shutil
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devtools.changes import book
from devtools.fault_proxy import TIMEOUT_SECONDS, ProxiedRequest, Proxy
from devtools.local_airflow import LocalAirflowError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_webcamconsult.sandbox import Sandbox
    from devtools.cluster import Cluster

DAG_ID = "cluster"
DAG_FILE = Path(__file__).parent / "dags" / "cluster.py"
CONNECTION_ID = "cluster"
CHANGES = "changes"
"""The DAG that lists changes, and its connection."""

WAITS = ("wait", "watch")
"""The tasks that wait. The second ends in the triggerer."""
WATCHES_PER_CONSULT = 3
"""
How many appointments are there before, and are waited for too.

For few appointments, triggerers send one request for each.
"""
POKE_INTERVAL = 2.0
"""The interval of the waits in seconds."""
INTERVALS = 5
"""For how many of these the requests of the triggerers are counted at a time."""
COUNTS_MAX = 20
"""How often they are counted, until both triggerers have found their pace."""
RUN_TIMEOUT = 900.0  # seconds; generous, only a failure reaches it
BROKER_OUTAGE = 3.0  # seconds

NO_RESPONSE = "processed, no response"
NEVER_PROCESSED = "sent, never processed"
PROCESSED_LATER = "sent, processed after the worker's death"


class HeldCreate:
    """A create that waits for :meth:`release`, :meth:`process` or :meth:`drop`."""

    def __init__(self, request: ProxiedRequest) -> None:
        self._request = request
        self._decided = threading.Event()
        self._is_released = False
        _, _, body = request.read().partition(b"\r\n\r\n")
        ((self.kind, attributes),) = json.loads(body).items()
        self.number = int((attributes.get("reference_code") or attributes["client_id"])[1:])

    def release(self) -> None:
        """Let the proxy forward the request, and return the response."""
        self._is_released = True
        self._decided.set()

    def process(self) -> None:
        """Let the service process the request; nobody gets the response."""
        self._request.forward()

    def drop(self) -> None:
        """Close the connection."""
        self._decided.set()

    def wait(self) -> bool:
        """Wait for a decision, and return whether the request was released."""
        self._decided.wait(TIMEOUT_SECONDS)
        return self._is_released


class HoldingProxy(Proxy):
    """A proxy that holds each create. Those in :attr:`held` wait for a decision."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.held: queue.SimpleQueue[HeldCreate] = queue.SimpleQueue()

    def handle(self, request: ProxiedRequest) -> None:
        """Hold a create, or forward the request."""
        if request.method == "POST":
            held = HeldCreate(request)
            self.held.put(held)
            if not held.wait():
                return
        super().handle(request)


@dataclass
class Kill:
    """
    A worker to kill within a create.

    :param task_id: the task that creates.
    :param kind: what it creates.
    :param number: number of the record from which on to kill.
    :param point: what happens to the create.
    :param worker: the worker that was killed.
    """

    task_id: str
    kind: str
    number: int
    point: str
    worker: str = ""

    def __str__(self) -> str:
        return f"{self.worker} killed in {self.task_id}: create {self.point}"


@dataclass
class Result:
    """What a run left."""

    version: str
    seconds: float = 0.0
    kills: list[Kill] = field(default_factory=list)
    #: Number of appointments by `client_id`, and of clients by `reference_code`.
    appointments: Counter[str] = field(default_factory=Counter)
    clients: Counter[str] = field(default_factory=Counter)
    #: Number of bookings that returned an id that the service does not have for them.
    wrong_ids: int = 0
    #: Number of tries that died with a worker, by task.
    lost_tries: Counter[str] = field(default_factory=Counter)
    #: The waits by task, state, result, and number of ends in their log.
    waits: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    #: Number of waits that were tried again after all were deferred.
    retried_waits: int = 0
    #: Number of waits by triggerer, before the first was killed.
    by_triggerer: Counter[str | None] = field(default_factory=Counter)
    #: Number of requests of each triggerer in an interval, on average.
    polls_per_interval: float = 0.0
    is_paced: bool = False
    #: Number of tasks of a create that had not succeeded when the broker was killed.
    left_to_broker: int = 0
    #: How often each change was reported, by the appointment and the kind of change.
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Which changes there were.
    expected_changes: set[tuple[str, str]] = field(default_factory=set)
    #: Number of tries that died with a worker, among those that listed changes.
    lost_lists: int = 0
    state: str = ""


class ClusterRun:
    """
    One run of the DAG `cluster`, with kills.

    :param cluster: a cluster with :data:`DAG_FILE` in its DAGs folder.
    :param sandbox: the service.
    :param proxy: the host of the connection.
    :param consults: number of appointments to book.
    :param clients: number of clients to sync.
    :param say: called with each step.
    """

    def __init__(
        self,
        cluster: Cluster,
        sandbox: Sandbox,
        proxy: HoldingProxy,
        *,
        consults: int,
        clients: int,
        say: Callable[[str], None],
    ) -> None:
        self.cluster = cluster
        self._sandbox = sandbox
        self._proxy = proxy
        self._consults = consults
        self._clients = clients
        self._say = say
        self._starting: set[str] = set()
        self._keeps_last = True
        """Whether the last booking is not processed, so that one is left when the broker is killed."""
        self.run_id = ""
        self.result = Result(cluster.version)

    def run(self) -> Result:
        """Run to the end, and return what is left."""
        begin = time.monotonic()
        cluster, result = self.cluster, self.result
        appointments = book(self._sandbox, WATCHES_PER_CONSULT * self._consults)
        conf = {"consults": self._consults, "clients": self._clients, "appointments": appointments}
        service = {"conn_type": "webcamconsult", "password": self._sandbox.token}
        cluster.set_connections(
            {
                CONNECTION_ID: {**service, "host": self._proxy.url},
                CHANGES: {**service, "host": self._sandbox.url},
            }
        )
        self._say("the connections are in Airflow's database")
        cluster.wait_for_dag(CHANGES)
        self._until(self._has_baseline, "there is a baseline of the changes")
        self.run_id = cluster.trigger(DAG_ID, conf)
        self._say(f"run {self.run_id} started: {self._clients} clients to sync, {self._consults} to book")

        self._book()
        waits = count_waits(self._consults)
        self._until(lambda: self._waits("deferred") == waits, "all waits are deferred")
        self._say(f"{waits} waits are deferred")
        tries = self._tries_of_waits()
        self._count_polls()
        self._wait()

        result.state = cluster.wait(DAG_ID, self.run_id)
        result.seconds = time.monotonic() - begin
        self._say(f"run ended: {result.state}")
        result.expected_changes = self._find_changes()
        self._until(lambda: result.expected_changes <= self._changes().keys(), "all changes are reported")
        self._say(f"{len(result.expected_changes)} changes are reported")
        self._collect()
        result.retried_waits = len(self._tries_of_waits() - tries)
        return result

    # -- The creates -----------------------------------------------------------------------------------------

    def _book(self) -> None:
        """Decide what happens to each create, until all are made; kill each worker within one."""
        cluster, result = self.cluster, self.result
        plan = [
            Kill("sync", "client", self._clients // 2, PROCESSED_LATER),
            Kill("book", "appointment", 0, NO_RESPONSE),
            Kill("book", "appointment", 0, NEVER_PROCESSED),
        ]

        def is_booked() -> bool:
            return not plan and self._states("book")["success"] == self._consults

        def serve() -> bool:
            self._note_restarts()
            while not self._proxy.held.empty():
                self._decide(self._proxy.held.get(), plan)
            return is_booked() and self._states("sync")["success"] == 1

        # A worker that starts while the broker is down exits.
        self._until(lambda: bool(serve()) or not (plan or self._starting), "killed workers are up again")
        done = self._states("book")["success"] + self._states("sync")["success"]
        result.left_to_broker = self._consults + 1 - done
        cluster.kill_broker()
        self._keeps_last = False
        self._say(f"the broker was killed with {result.left_to_broker} tasks to go")
        until = time.monotonic() + BROKER_OUTAGE
        self._until(lambda: bool(serve()) or time.monotonic() > until, "the outage is over")
        cluster.start_broker()
        self._say("the broker was started, with an empty queue")
        self._until(serve, "all creates are made")
        self._say(f"all is booked and synced: {self._count_bookings()} appointments")

    def _decide(self, held: HeldCreate, plan: list[Kill]) -> None:
        # Each worker once within a booking.
        killed = {kill.worker for kill in self.result.kills if kill.kind == held.kind}
        for kill in plan:
            if kill.kind != held.kind or held.number < kill.number:
                continue
            map_index = held.number if kill.task_id == "book" else -1
            worker = self.cluster.host_of(DAG_ID, self.run_id, kill.task_id, map_index)
            # A killed worker leaves creates behind, which are processed too.
            if worker is None or worker in self._starting or worker in killed:
                continue
            plan.remove(kill)
            kill.worker = worker
            self._kill(kill, held)
            return
        if self._keeps_last and held.kind == "appointment" and held.number == self._consults - 1:
            held.drop()
        else:
            held.release()

    def _kill(self, kill: Kill, held: HeldCreate) -> None:
        if kill.point == NO_RESPONSE:
            held.process()
        self.cluster.kill(kill.worker)
        if kill.point == PROCESSED_LATER:
            held.process()
        held.drop()
        self.result.kills.append(kill)
        self._say(str(kill))
        self._restart(kill.worker)
        if kill.task_id == "sync":
            self._kill_scheduler("scheduler-1")

    def _kill_scheduler(self, name: str) -> None:
        self.cluster.kill(name)
        self._say(f"{name} killed")
        self._restart(name)

    def _restart(self, name: str) -> None:
        self.cluster.start(name, wait=False)
        self._starting.add(name)

    def _note_restarts(self) -> None:
        for name in [name for name in self._starting if self.cluster.is_up(name)]:
            self._starting.remove(name)
            self._say(f"{name} is up again")

    # -- The waits -------------------------------------------------------------------------------------------

    def _count_polls(self) -> None:
        """Count the requests, again while triggerers start, stall or take over from each other."""
        result, triggerers = self.result, self.cluster.names("triggerer")
        for _ in range(COUNTS_MAX):
            before, begin = self._proxy.count("GET"), time.monotonic()
            end = begin + INTERVALS * POKE_INTERVAL
            self._until_time(end)
            polls = self._proxy.count("GET") - before
            intervals = (time.monotonic() - begin) / POKE_INTERVAL
            result.by_triggerer = self.cluster.triggerers_of_waits()
            result.polls_per_interval = polls / intervals / len(triggerers)
            self._say(f"{polls} requests in {intervals:.1f} intervals; waits: {dict(result.by_triggerer)}")
            # One more for each triggerer, because an interval may begin and end within the time.
            is_paced = intervals <= polls <= len(triggerers) * (intervals + 1)
            if is_paced and set(result.by_triggerer) == set(triggerers):
                result.is_paced = True
                return

    def _wait(self) -> None:
        """Kill each triggerer and a scheduler while the waits end."""
        cluster = self.cluster
        ids = [str(record["id"]) for record in self._sandbox.records("appointments")]
        half = len(ids) // 2
        cluster.kill("triggerer-1")
        self._say("triggerer-1 killed")
        for appointment_id in ids[:half]:
            self._sandbox.set_state(appointment_id, "finished")
        self._kill_scheduler("scheduler-2")
        self._until(lambda: self._waits("success") == half, "half of the waits ended")
        cluster.kill("triggerer-2")
        self._say(f"triggerer-2 killed after {half} waits ended; no triggerer is left")
        for appointment_id in ids[half:]:
            self._sandbox.set_state(appointment_id, "finished")
        for name in cluster.names("triggerer"):
            self._restart(name)
        self._until(lambda: self._waits("success") == len(ids), "all waits ended")
        self._say("all waits ended")

    # -- The changes -----------------------------------------------------------------------------------------

    def _has_baseline(self) -> bool:
        # The first run only stores it.
        runs = self.cluster.run_ids(CHANGES)
        return any(self.cluster.run_state(CHANGES, run_id) == "success" for run_id in runs)

    def _find_changes(self) -> set[tuple[str, str]]:
        """Return what has changed since the baseline."""
        records = self._sandbox.records("appointments")
        booked = {(record["id"], "created") for record in records if record["client_id"] is not None}
        return booked | {(record["id"], "state") for record in records}

    def _changes(self) -> Counter[tuple[str, str]]:
        """Return how often each change was reported."""
        runs = self.cluster.run_ids(CHANGES)
        return Counter(
            (change["id"], kind)
            for run_id in runs
            for change in self.cluster.xcom(CHANGES, run_id, "list_changes") or ()
            for kind in change["kinds"]
        )

    # -- Internals -------------------------------------------------------------------------------------------

    def _states(self, task_id: str) -> Counter[str | None]:
        tasks = self.cluster.task_states(DAG_ID, self.run_id)
        return Counter(task.state for task in tasks if task.task_id == task_id)

    def _waits(self, state: str) -> int:
        return sum(self._states(task_id)[state] for task_id in WAITS)

    def _tries_of_waits(self) -> set[tuple[str, int, int]]:
        tasks = self.cluster.task_states(DAG_ID, self.run_id)
        return {(task.task_id, task.map_index, task.try_number) for task in tasks if task.task_id in WAITS}

    def _count_bookings(self) -> int:
        return sum(record["client_id"] is not None for record in self._sandbox.records("appointments"))

    def _until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + RUN_TIMEOUT
        while not condition():
            self._note_restarts()
            self.cluster.check_alive()
            has_failed = self._waits("failed") or self.cluster.run_state(DAG_ID, self.run_id) == "failed"
            if has_failed or time.monotonic() > deadline:
                run = self.cluster.describe_run(DAG_ID, self.run_id)
                raise LocalAirflowError(f"Waited in vain until {what}:\n{run}")
            time.sleep(0.2)

    def _until_time(self, end: float) -> None:
        self._until(lambda: time.monotonic() > end, "some time has passed")

    def _collect(self) -> None:
        cluster, result, run = self.cluster, self.result, (DAG_ID, self.run_id)
        ids: dict[str, set[str]] = {}
        for record in self._sandbox.records("appointments"):
            if record["client_id"] is not None:
                ids.setdefault(record["client_id"], set()).add(record["id"])
                result.appointments[record["client_id"]] += 1
        result.clients.update(record["reference_code"] for record in self._sandbox.records("clients"))
        result.lost_tries.update(task.task_id for task in cluster.earlier_tries(*run))
        result.changes = self._changes()
        result.lost_lists = sum(len(cluster.earlier_tries(CHANGES, id)) for id in cluster.run_ids(CHANGES))
        for task in cluster.task_states(*run):
            returned = cluster.xcom(*run, task.task_id, task.map_index)
            if task.task_id == "book":
                result.wrong_ids += returned not in ids.get(f"c{task.map_index}", ())
            elif task.task_id in WAITS:
                log = cluster.task_log(*run, task.task_id, task.map_index, task.try_number)
                ends = log.count("is in state 'finished'.")
                result.waits[task.task_id, task.state, returned, ends] += 1


def count_waits(consults: int) -> int:
    """Return how many waits a run has."""
    return (1 + WATCHES_PER_CONSULT) * consults


def faultless_waits(consults: int) -> dict[tuple[Any, ...], int]:
    """Return what :attr:`Result.waits` has if each wait ended once."""
    return {
        ("wait", "success", "finished", 1): consults,
        ("watch", "success", "finished", 1): WATCHES_PER_CONSULT * consults,
    }


def cluster_config(consults: int) -> dict[str, dict[str, str]]:
    """
    Return the settings of a cluster with which timers start runs, and each of two triggerers gets waits.

    :param consults: number of appointments to book.
    """
    capacity = str(int(count_waits(consults) * 0.55))
    return {
        # Its name in Airflow 3, and in Airflow 2.
        "triggerer": {"capacity": capacity, "default_capacity": capacity},
        "scheduler": {"use_job_schedule": "True"},
    }


def install_dag(folder: Path) -> None:
    """Copy the DAG into a DAGs folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(DAG_FILE, folder)
