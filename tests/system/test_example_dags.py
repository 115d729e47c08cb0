"""All example DAGs succeed on both Airflow versions."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
import requests

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.sandbox import Sandbox
    from devtools.local_airflow import LocalAirflow


def run_booking(airflow: LocalAirflow, sandbox: Sandbox) -> str:
    """Run the DAG to its end. The consult ends once the wait for it is deferred."""
    run_id = airflow.trigger("booking")
    airflow.wait_for_task("booking", run_id, "wait_until_over", "deferred")
    sandbox.set_state(airflow.xcom("booking", run_id, "book_consult"), "finished")
    assert airflow.wait("booking", run_id) == "success", airflow.describe_run("booking", run_id)
    return run_id


def test_booking_books_one_consult_and_defers_until_its_end(
    local_airflow: LocalAirflow, airflow_sandbox: Sandbox
) -> None:
    run_id = run_booking(local_airflow, airflow_sandbox)

    appointment_id = local_airflow.xcom("booking", run_id, "book_consult")
    (appointment,) = [
        record for record in airflow_sandbox.records("appointments") if record["id"] == appointment_id
    ]
    assert appointment["date"] == "2030-03-01T09:30:00.000+01:00"
    assert appointment["client_id"] == local_airflow.xcom("booking", run_id, "ensure_client")
    assert local_airflow.xcom("booking", run_id, "wait_until_over") == "finished"


def test_booking_reuses_the_client_when_run_again(
    local_airflow: LocalAirflow, airflow_sandbox: Sandbox
) -> None:
    for _ in range(2):
        run_booking(local_airflow, airflow_sandbox)

    clients = [
        client for client in airflow_sandbox.records("clients") if client["reference_code"] == "DL-123"
    ]
    assert len(clients) == 1


def test_clients_import_creates_a_client_for_each_row(
    local_airflow: LocalAirflow, airflow_sandbox: Sandbox
) -> None:
    run_id = local_airflow.trigger("clients_import")

    assert local_airflow.wait("clients_import", run_id) == "success", local_airflow.describe_run(
        "clients_import", run_id
    )
    dates_of_birth = {
        client["reference_code"]: client["date_of_birth"]
        for client in airflow_sandbox.records("clients")
        if client["reference_code"] in ("DL-201", "DL-202", "DL-203")
    }
    assert {code: date[:10] for code, date in dates_of_birth.items()} == {
        "DL-201": "1931-05-01",
        "DL-202": "1957-11-23",
        "DL-203": "2001-02-28",
    }


def test_clients_sync_creates_the_rows_and_deletes_who_is_gone(
    local_airflow: LocalAirflow, airflow_sandbox: Sandbox
) -> None:
    session = requests.Session()
    session.headers["Authorization"] = f"Token token={airflow_sandbox.token}"
    for code in ("PS-300", "made-by-hand"):
        session.post(f"{airflow_sandbox.url}/clients.json", json={"client": {"reference_code": code}})

    run_id = local_airflow.trigger("clients_sync")

    assert local_airflow.wait("clients_sync", run_id) == "success", local_airflow.describe_run(
        "clients_sync", run_id
    )
    counts = local_airflow.xcom("clients_sync", run_id, "sync_clients")
    assert counts == {"rows": 3, "created": 3, "updated": 0, "unchanged": 0, "deleted": 1, "failed": 0}
    codes = {client["reference_code"] for client in airflow_sandbox.records("clients")}
    assert {"PS-301", "PS-302", "PS-303", "made-by-hand"} <= codes
    assert "PS-300" not in codes


REMINDED_BEFORE = datetime.timedelta(minutes=15)
"""As in the DAG."""
UNTIL_DEFERRED = datetime.timedelta(seconds=50)
"""Until the first reminders are due: the waits have to be deferred by then."""
UNTIL_MOVED = datetime.timedelta(seconds=15)


def test_reminders_follow_a_moved_consult_and_skip_a_cancelled_one(
    local_airflow: LocalAirflow, airflow_sandbox: Sandbox
) -> None:
    now = datetime.datetime.now(ZoneInfo("Europe/Amsterdam"))
    due = now + UNTIL_DEFERRED
    if (due + UNTIL_MOVED + REMINDED_BEFORE).date() != now.date():
        pytest.skip("the consults would be tomorrow's")
    session = requests.Session()
    session.headers["Authorization"] = f"Token token={airflow_sandbox.token}"

    def attributes(due: datetime.datetime) -> dict[str, object]:
        return {"appointment": {"date": (due + REMINDED_BEFORE).isoformat(timespec="milliseconds")}}

    def book(due: datetime.datetime) -> str:
        response = session.post(f"{airflow_sandbox.url}/appointments.json", json=attributes(due))
        return str(response.json()["appointment"]["id"])

    kept, moved, cancelled = book(due), book(due), book(due)
    tomorrows = book(due + datetime.timedelta(days=1))

    run_id = local_airflow.trigger("reminders")
    listed = wait_until_deferred(local_airflow, run_id, 3)
    session.put(f"{airflow_sandbox.url}/appointment/{moved}.json", json=attributes(due + UNTIL_MOVED))
    airflow_sandbox.set_state(cancelled, "cancelled")

    assert local_airflow.wait("reminders", run_id) == "success", local_airflow.describe_run(
        "reminders", run_id
    )
    assert {*listed} == {kept, moved, cancelled}
    assert tomorrows not in listed
    tasks = {(each.task_id, each.map_index): each for each in local_airflow.task_states("reminders", run_id)}
    waits = {id: tasks["reminder.wait", index] for index, id in enumerate(listed)}
    reminders = {id: tasks["reminder.remind", index].state for index, id in enumerate(listed)}
    assert reminders == {kept: "success", moved: "success", cancelled: "skipped"}
    assert {id: wait.state for id, wait in waits.items()} == reminders
    ends = {id: wait.end for id, wait in waits.items() if wait.end}
    assert ends[kept] >= due
    assert ends[moved] >= due + UNTIL_MOVED


def wait_until_deferred(airflow: LocalAirflow, run_id: str, count: int) -> list[str]:
    """Wait until the waits of the reminders are deferred, and return the ids of their consults in order."""
    deadline = time.monotonic() + UNTIL_DEFERRED.total_seconds()
    while time.monotonic() < deadline:
        states = [each.state for each in airflow.task_states("reminders", run_id)]
        if states.count("deferred") == count:
            return list(airflow.xcom("reminders", run_id, "todays_consults"))
        time.sleep(0.5)
    raise AssertionError(airflow.describe_run("reminders", run_id))


def test_consult_finished_lists_each_finished_consult_once_and_again_when_it_is_cleared(
    local_airflow: LocalAirflow, airflow_sandbox: Sandbox
) -> None:
    def create() -> str:
        response = requests.post(
            f"{airflow_sandbox.url}/appointments.json",
            json={"appointment": {"date": "2031-01-01T10:00:00.000+01:00"}},
            headers={"Authorization": f"Token token={airflow_sandbox.token}"},
            timeout=30,
        )
        return str(response.json()["appointment"]["id"])

    def listed(run_id: str) -> list[str]:
        assert local_airflow.wait("consult_finished", run_id) == "success", local_airflow.describe_run(
            "consult_finished", run_id
        )
        changes = local_airflow.xcom("consult_finished", run_id, "list_finished") or []
        return [change["id"] for change in changes if change["id"] in (first, second)]

    first, second = create(), create()
    airflow_sandbox.set_state(first, "started")
    assert listed(local_airflow.trigger("consult_finished")) == []
    airflow_sandbox.set_state(first, "finished")
    run_id = local_airflow.trigger("consult_finished")
    assert listed(run_id) == [first]
    airflow_sandbox.set_state(second, "finished")
    local_airflow.clear("consult_finished", run_id)
    assert listed(run_id) == sorted([first, second])
    assert listed(local_airflow.trigger("consult_finished")) == []


def test_offboarding_deletes_open_appointments_and_deletes_the_client(
    local_airflow: LocalAirflow, airflow_sandbox: Sandbox
) -> None:
    session = requests.Session()
    session.headers["Authorization"] = f"Token token={airflow_sandbox.token}"

    def create(kind: str, attributes: dict[str, object]) -> str:
        response = session.post(f"{airflow_sandbox.url}/{kind}s.json", json={kind: attributes})
        return str(response.json()[kind]["id"])

    leaves, stays = (create("client", {"last_name": name}) for name in ("Leaves", "Stays"))
    appointments = {
        name: create("appointment", {"client_id": client_id, "date": "2031-01-01T10:00:00.000+01:00"})
        for name, client_id in (("open", leaves), ("over", leaves), ("of another client", stays))
    }
    airflow_sandbox.set_state(appointments["over"], "finished")

    run_id = local_airflow.trigger("offboarding", conf={"client_id": leaves})

    assert local_airflow.wait("offboarding", run_id) == "success", local_airflow.describe_run(
        "offboarding", run_id
    )
    left = {record["id"] for record in airflow_sandbox.records("appointments")}
    assert {name for name, record_id in appointments.items() if record_id in left} == {
        "over",
        "of another client",
    }
    clients = {record["id"] for record in airflow_sandbox.records("clients")}
    assert stays in clients
    assert leaves not in clients
