"""
Book a consult, wait until it is over, go on.

The story: another system asks for a consult (here: a file). This DAG makes sure that the professional and the
client exist, books the appointment, waits until the consult is over without using a worker, and goes on.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

# The same on Airflow 2.11 and 3; on Airflow 3 alone it would be "from airflow.sdk import dag, task".
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor


def consult_request() -> dict[str, Any]:
    """Read what the other system asks for; only ever called inside a task."""
    request: dict[str, Any] = json.loads(Path(__file__).with_name("consult_request.json").read_text())
    return request


@dag(schedule=None, catchup=False, tags=["webcamconsult"], doc_md=__doc__)
def booking() -> None:
    # People's data stays inside the task that uses it: what a task returns is stored in Airflow's database,
    # so these two return an id and nothing else.
    @task
    def make_sure_of_professional() -> str:
        wanted = consult_request()["professional"]
        hook = WebcamconsultHook()
        known = [user["id"] for user in hook.users.list() if user.get("email") == wanted["email"]]
        return known[0] if known else hook.users.create(wanted)["id"]

    @task
    def make_sure_of_client() -> str:
        wanted = consult_request()["client"]
        hook = WebcamconsultHook()
        known = [
            client["id"]
            for client in hook.clients.list()
            if client.get("reference_code") == wanted["reference_code"]
        ]
        return known[0] if known else hook.clients.create(wanted)["id"]

    # A time without offset is in the time zone of the connection: Europe/Amsterdam unless it says otherwise.
    book_consult = WebcamconsultCreateAppointmentOperator(
        task_id="book_consult",
        attributes={
            "user_id": make_sure_of_professional(),
            "client_id": make_sure_of_client(),
            "date": "2030-03-01T09:30",
            "duration": 30,
        },
    )

    # Deferred: the wait is in the triggerer, and no worker slot is used. The API document names one state,
    # "idle"; the others are those of your organisation (here: of the sandbox). Without target_states the wait
    # ends as soon as the appointment is no longer idle.
    wait_until_over = WebcamconsultAppointmentStateSensor(
        task_id="wait_until_over",
        appointment_id=book_consult.output,
        target_states=["finished"],
        failed_states=["cancelled"],
        deferrable=True,
        poke_interval=5,  # seconds; short, to watch it. 60 is plenty for real consults.
        timeout=datetime.timedelta(hours=2).total_seconds(),
    )

    @task
    def go_on(appointment_id: str, state: str) -> None:
        # Ask for feedback, write the invoice, …
        print(f"Consult {appointment_id} is {state}.")

    go_on(book_consult.output, wait_until_over.output)


booking()
