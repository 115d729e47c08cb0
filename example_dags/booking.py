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

from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import WebcamconsultCreateClientOperator
from airflow_provider_webcamconsult.operators.users import WebcamconsultCreateUserOperator
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor


def consult_request() -> dict[str, Any]:
    """Read what the other system asks for; only ever called inside a task."""
    request: dict[str, Any] = json.loads(Path(__file__).with_name("consult_request.json").read_text())
    return request


@dag(schedule=None, catchup=False, tags=["webcamconsult"], doc_md=__doc__)
def booking() -> None:
    # People's data stays inside the task that uses it: attributes may be a callable, which is called in the
    # task and whose answer is neither rendered nor stored. if_exists="reuse" looks first: a user is found by
    # e-mail address, a client by reference code. What these tasks return, and Airflow stores, is the id.
    ensure_professional = WebcamconsultCreateUserOperator(
        task_id="ensure_professional",
        attributes=lambda context: consult_request()["professional"],
        if_exists="reuse",
    )
    ensure_client = WebcamconsultCreateClientOperator(
        task_id="ensure_client",
        attributes=lambda context: consult_request()["client"],
        if_exists="reuse",
    )

    # A time without offset is in the time zone of the connection: Europe/Amsterdam unless it says otherwise.
    # Whatever happens to the task (a retry, a lost answer, a killed worker), there is one
    # appointment in the end.
    book_consult = WebcamconsultCreateAppointmentOperator(
        task_id="book_consult",
        attributes={
            "user_id": ensure_professional.output,
            "client_id": ensure_client.output,
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
    def follow_up(appointment_id: str, state: str) -> None:
        # Ask for feedback, write the invoice, …
        print(f"Consult {appointment_id} is {state}.")

    follow_up(book_consult.output, wait_until_over.output)


booking()
