"""
Many waits survive killed triggerers, an outage of the service and a new token, and none fires twice.

The environment variable MANY_WAITS sets their number.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_webcamconsult.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from devtools.local_airflow import LocalAirflow


WAITS = int(os.environ.get("MANY_WAITS", "60")) // 10 * 10
ON_A_WORKER = WAITS // 10
IN_THE_TRIGGERER = WAITS - ON_A_WORKER
PART = WAITS // 5
POKE_INTERVAL_SECONDS = 2
COUNTED_SECONDS = 4 * POKE_INTERVAL_SECONDS
COUNTS_MAX = 5
LIST = "/appointments.json"
LIST_WAITS_MIN = 20
"""Number of waits from which a triggerer surely requests the list. Fewer may be lighter one by one."""
OLD_TOKEN, NEW_TOKEN = "the-old-token", "the-new-token"

HAS_WATCHERS = re.compile(r"3\.(?![012]\.)")

TIMEOUT = 900.0  # seconds; generous for a busy machine
TASK_IDS = ("ends_in_the_triggerer", "ends_on_a_worker")


class ManyWaits:
    """A run of the DAG, and the service with its appointments."""

    def __init__(self, airflow: LocalAirflow, folder: Path) -> None:
        self.airflow = airflow
        self.data = folder / "data.json"
        self.sandbox = Sandbox([OLD_TOKEN], data=self.data)
        self.sandbox.start()
        self.port = int(self.sandbox.url.rpartition(":")[2])
        self.set_token(OLD_TOKEN)
        self.appointments = [self.book() for _ in range(IN_THE_TRIGGERER + ON_A_WORKER)]
        many, few = self.appointments[:IN_THE_TRIGGERER], self.appointments[IN_THE_TRIGGERER:]
        self.run_id = airflow.trigger("many_waits", conf={"many": many, "few": few})
        self.counted: Counter[str] = Counter()
        self.counted_polls = 0.0
        self.counted_few = 0
        # Each part has some of both kinds.
        self.parts = [self.appointments[number::5] for number in range(5)]

    def set_token(self, token: str) -> None:
        connection = {"conn_type": "webcamconsult", "host": self.sandbox.url, "password": token}
        self.airflow.set_connections({"many_waits": connection})

    def book(self) -> str:
        response = requests.post(
            f"{self.sandbox.url}/appointments.json",
            json={"appointment": {"date": "2031-01-01T10:00:00.000+01:00"}},
            headers={"Authorization": f"Token token={OLD_TOKEN}"},
            timeout=30,
        )
        return str(response.json()["appointment"]["id"])

    def finish(self, part: int) -> None:
        for appointment_id in self.parts[part]:
            self.sandbox.set_state(appointment_id, "finished")

    def replace_token(self) -> None:
        self.sandbox.stop()
        stored = json.loads(self.data.read_text())["organisations"]
        self.data.write_text(json.dumps({"organisations": {NEW_TOKEN: stored[OLD_TOKEN]}}))
        self.sandbox = Sandbox([NEW_TOKEN], data=self.data, port=self.port)
        self.sandbox.start()

    def count_requests(self) -> None:
        """Count the requests of some seconds by their paths, and the waits of triggerers that have few."""
        before, begin = len(self.sandbox.requests), time.monotonic()
        time.sleep(COUNTED_SECONDS)
        self.counted = Counter(request.path for request in self.sandbox.requests[before:])
        self.counted_polls = (time.monotonic() - begin) / POKE_INTERVAL_SECONDS + 1
        # Airflow decides which triggerer gets a wait.
        by_triggerer = self.waits_by_triggerer().values()
        self.counted_few = sum(waits for waits in by_triggerer if waits < LIST_WAITS_MIN)

    def are_requests_shared(self) -> bool:
        """Return whether only the waits of triggerers that have few of them sent requests of their own."""
        lists, alone = self.counted[LIST], self.counted.keys() - {LIST}
        alone_max = self.counted_few * self.counted_polls
        return (
            len(alone) <= self.counted_few
            and self.counted.total() - lists <= alone_max
            and lists <= 2 * self.counted_polls
        )

    def stop_service(self, seconds: float) -> None:
        self.sandbox.stop()
        time.sleep(seconds)
        self.sandbox = Sandbox([OLD_TOKEN], data=self.data, port=self.port)
        self.sandbox.start()

    def states(self) -> Counter[str | None]:
        tasks = self.airflow.task_states("many_waits", self.run_id)
        return Counter(task.state for task in tasks if task.task_id in TASK_IDS)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            self.airflow.check_alive()
            assert time.monotonic() < deadline, f"not within {TIMEOUT:.0f} s; now {self.states()}"
            time.sleep(0.2)

    def until_ended(self, number: int) -> None:
        self.until(lambda: self.states()["success"] + self.states()["failed"] == number)

    def waits_by_triggerer(self) -> Counter[Any]:
        """Return the number of waits of each triggerer."""
        return self.airflow.triggers_of_triggerers()

    def log(self, task_id: str, map_index: int) -> str:
        return self.airflow.task_log("many_waits", self.run_id, task_id, map_index)


@pytest.fixture(scope="module")
def many_waits(local_airflow: LocalAirflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManyWaits]:
    """Put one run through all disturbances."""
    begin = time.monotonic()

    def log_step(what: str) -> None:
        print(f"{local_airflow.version} {time.monotonic() - begin:.0f} s: {what}")

    local_airflow.start_triggerer("second-triggerer")
    waits = ManyWaits(local_airflow, tmp_path_factory.mktemp("service"))
    try:
        log_step("triggered")
        waits.until(lambda: waits.states()["deferred"] == WAITS and None not in waits.waits_by_triggerer())
        log_step(f"deferred, by triggerer: {dict(waits.waits_by_triggerer())}")
        assert len(waits.waits_by_triggerer()) == 2

        if HAS_WATCHERS.match(local_airflow.version):
            waits.until(lambda: local_airflow.events("webcamconsult_appointments_many_waits"))
        for _ in range(COUNTS_MAX):
            waits.count_requests()
            log_step(f"requests of {waits.counted_polls:.1f} intervals: {dict(waits.counted)}")
            # The last waits may still be joining the others, each with a poll of its own.
            if waits.are_requests_shared():
                break

        waits.finish(0)
        local_airflow.kill("triggerer")
        log_step("one of two triggerers was killed")
        waits.until_ended(PART)

        local_airflow.kill("second-triggerer")
        waits.finish(1)
        local_airflow.start_triggerer("triggerer")
        log_step("the other one was killed and restarted")
        waits.until_ended(2 * PART)

        log_step("the service stops")
        waits.stop_service(3 * POKE_INTERVAL_SECONDS)
        waits.finish(2)
        waits.until_ended(3 * PART)

        log_step("an appointment is deleted")
        gone = waits.parts[3].pop(0)
        requests.delete(
            f"{waits.sandbox.url}/appointment/{gone}.json",
            headers={"Authorization": f"Token token={OLD_TOKEN}"},
            timeout=30,
        ).raise_for_status()
        waits.until(lambda: waits.states()["failed"])
        assert waits.states() == {"success": 3 * PART, "failed": 1, "deferred": 2 * PART - 1}

        waits.set_token(NEW_TOKEN)
        waits.replace_token()
        log_step("the token was replaced")
        waits.finish(3)
        waits.until_ended(4 * PART)
        waits.finish(4)
        waits.until_ended(5 * PART)
        local_airflow.wait("many_waits", waits.run_id)
        log_step("ended")
        yield waits
    finally:
        waits.sandbox.stop()


def test_each_wait_ends_once_on_its_first_try(many_waits: ManyWaits) -> None:
    airflow, run_id = many_waits.airflow, many_waits.run_id
    assert airflow.earlier_tries("many_waits", run_id) == []
    ends = [
        (task.state, task.try_number, airflow.xcom("many_waits", run_id, task.task_id, task.map_index))
        for task in airflow.task_states("many_waits", run_id)
        if task.task_id in TASK_IDS
    ]
    assert Counter(ends) == {("success", 1, "finished"): WAITS - 1, ("failed", 1, None): 1}


def test_waits_and_a_watched_list_make_one_request_for_each_triggerer_and_interval(
    many_waits: ManyWaits,
) -> None:
    assert many_waits.are_requests_shared(), (many_waits.counted, many_waits.counted_few)


def test_log_shows_one_end_for_each_wait(many_waits: ManyWaits) -> None:
    not_once = []
    # A triggerer that is killed between a log line and its event leaves the line; the next one repeats it.
    ended_during_kill = {*many_waits.parts[0]}
    for task in many_waits.airflow.task_states("many_waits", many_waits.run_id):
        if task.task_id in TASK_IDS and task.state == "success":
            log = many_waits.log(task.task_id, task.map_index)
            appointment_id = next(id for id in many_waits.appointments if id in log)
            ends = log.count("is in state 'finished'.")
            if ends != 1 and not (ends == 2 and appointment_id in ended_during_kill):
                not_once.append((task.task_id, task.map_index, ends, log))
    assert not_once == []


def test_deleted_appointment_fails_only_its_own_wait_with_the_cause(many_waits: ManyWaits) -> None:
    (failed,) = [
        task
        for task in many_waits.airflow.task_states("many_waits", many_waits.run_id)
        if task.state == "failed"
    ]
    log = many_waits.log(failed.task_id, failed.map_index)
    assert "does not exist for this API token" in log


def test_success_from_the_triggerer_starts_a_worker_once_instead_of_twice(
    many_waits: ManyWaits,
) -> None:
    if many_waits.airflow.version.startswith(("3.0.", "3.1.", "3.2.")):
        pytest.skip("in Airflow 3.0 to 3.2, triggers cannot return a value, so workers end all waits")
    starts = {
        task_id: {
            many_waits.log(task_id, task.map_index).count("::group::Pre")
            for task in many_waits.airflow.task_states("many_waits", many_waits.run_id)
            if task.task_id == task_id and task.state == "success"
        }
        for task_id in TASK_IDS
    }
    assert starts == {"ends_in_the_triggerer": {1}, "ends_on_a_worker": {2}}


def test_log_mentions_no_other_appointments(many_waits: ManyWaits) -> None:
    own = dict(zip(many_waits.appointments, [*range(IN_THE_TRIGGERER), *range(ON_A_WORKER)], strict=True))
    mixed = []
    for position, appointment_id in enumerate(many_waits.appointments):
        task_id = TASK_IDS[position >= IN_THE_TRIGGERER]
        log = many_waits.log(task_id, own[appointment_id])
        assert f"Waiting for appointment {appointment_id} to reach 'finished'. Next check in" in log
        if any(other in log for other in own if other != appointment_id):
            mixed.append((task_id, own[appointment_id]))
    assert mixed == []
