"""The rest of the newcomer's day: what each DAG leaves in the sandbox, and what its tasks return."""

from __future__ import annotations

import csv
import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_webcamconsult.sandbox import Sandbox
    from airflow_provider_webcamconsult.sandbox.pytest_plugin import LoadDag


def returned(run: Any, task_id: str) -> Any:
    return run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


def returned_by_each(run: Any, task_id: str) -> list[Any]:
    tasks = [task for task in run.get_task_instances() if task.task_id == task_id]
    return [task.xcom_pull(task_ids=task_id, map_indexes=task.map_index) for task in tasks]


def book(client_id: str, date: str = "2030-03-01T09:30", duration: int = 30) -> str:
    attributes: Any = {"user_id": "u1", "client_id": client_id, "date": date, "duration": duration}
    return WebcamconsultHook().appointments.create(attributes)["id"]


def test_nightly_import_creates_300_clients_once(
    webcamconsult_sandbox: Sandbox, webcamconsult_dag: LoadDag, tmp_path: Path
) -> None:
    file = tmp_path / "clients.csv"
    codes = [f"P-{number}" for number in range(300)]
    rows = "".join(f"{code},Jansen,{code.lower()}@example.com,1957-11-23\n" for code in codes)
    file.write_text(f"reference_code,last_name,email,date_of_birth\n{rows}")
    dag = webcamconsult_dag("dags/nightly_import.py")

    first, second = (dag.test(run_conf={"rows": str(file)}) for _ in range(2))

    assert returned(first, "sync")["created"] == 300
    assert returned(second, "sync")["unchanged"] == 300
    assert sorted(client["reference_code"] for client in webcamconsult_sandbox.records("clients")) == sorted(
        codes
    )


def test_invoicing_has_a_task_for_each_finished_consult(
    webcamconsult_sandbox: Sandbox, webcamconsult_dag: LoadDag
) -> None:
    for client_id, duration in (("c1", 20), ("c2", 40)):
        webcamconsult_sandbox.set_state(book(client_id, duration=duration), "finished")
    book("c9")  # stays idle

    run = webcamconsult_dag("dags/invoicing.py").test()

    assert run.state == "success"
    assert sorted(returned_by_each(run, "invoice")) == ["c1: 20 minutes", "c2: 40 minutes"]


def test_reminders_go_to_the_clients_of_today_in_time(
    webcamconsult_sandbox: Sandbox, webcamconsult_dag: LoadDag
) -> None:
    now = datetime.datetime.now(ZoneInfo("Europe/Amsterdam"))
    if (now + datetime.timedelta(minutes=16)).date() != now.date():
        pytest.skip("the consults would be tomorrow's")
    clients = [
        WebcamconsultHook().clients.create({"last_name": "Jansen", "email": f"{name}@example.com"})["id"]
        for name in ("soon", "tomorrow")
    ]
    soon = (now + datetime.timedelta(minutes=15, seconds=5)).isoformat(timespec="milliseconds")
    book(clients[0], soon)
    book(clients[1], (now + datetime.timedelta(days=1)).isoformat(timespec="milliseconds"))
    webcamconsult_sandbox.set_state(book("nobody", soon), "cancelled")

    run = webcamconsult_dag("dags/reminders.py").test()

    assert run.state == "success"
    assert [each for each in returned_by_each(run, "reminder.remind") if each] == [clients[0]]


def test_export_has_digests_of_the_clients(
    webcamconsult_sandbox: Sandbox,
    webcamconsult_dag: LoadDag,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_PSEUDONYMS", '{"conn_type": "generic", "password": "a-key-for-this-test"}'
    )
    for client_id, time in (("c1", "09:30"), ("c1", "10:30"), ("c2", "11:30")):
        webcamconsult_sandbox.set_state(book(client_id, f"2030-03-01T{time}"), "finished")
    book("c9")  # stays idle

    run = webcamconsult_dag("dags/export.py").test(run_conf={"folder": str(tmp_path)})

    file = tmp_path / "consults.csv"
    assert returned(run, "export") == {"path": str(file), "records": 3}
    with file.open(newline="") as lines:
        digests = [row["client_id"] for row in csv.DictReader(lines)]
    assert {len(digest) for digest in digests} == {64}
    assert len(set(digests)) == 2
