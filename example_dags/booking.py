"""
Book a video consult, wait until it is over, and follow up.

Another system requests a consult; here, the request is a JSON file. This DAG ensures that the professional
and the client exist and books the appointment. Without occupying a worker, it waits until the consult is
over, and then follows up.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

# Works on Airflow 2.11 and 3. On Airflow 3, you can also write "from airflow.sdk import dag, task".
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import WebcamconsultCreateClientOperator
from airflow_provider_webcamconsult.operators.users import WebcamconsultCreateUserOperator
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor


def consult_request() -> dict[str, Any]:
    """Read the request. Call this only inside a task, to keep personal data out of the DAG."""
    request: dict[str, Any] = json.loads(Path(__file__).with_name("consult_request.json").read_text())
    return request


@dag(schedule=None, catchup=False, tags=["webcamconsult"], doc_md=__doc__)
def booking() -> None:
    # Personal data stays inside the task, because attributes is a callable: it is called when the task runs,
    # and its result is neither rendered nor stored. The task returns only the id of the record. With
    # if_exists="reuse", the task first looks up an existing record: a user by e-mail address, a client by
    # reference code.
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

    # A date without a UTC offset is in the connection's time zone, by default Europe/Amsterdam. A retry never
    # books a second appointment, even if the response was lost or the worker was killed.
    book_consult = WebcamconsultCreateAppointmentOperator(
        task_id="book_consult",
        attributes={
            "user_id": ensure_professional.output,
            "client_id": ensure_client.output,
            "date": "2030-03-01T09:30",
            "duration": 30,
        },
        # If the professional or the client has another consult at that time, the task fails. A finished one
        # takes no time any more, so you can run this example again.
        if_overlaps="fail",
        free_states=["cancelled", "finished"],
    )

    # Deferred: the triggerer waits, so the task does not occupy a worker slot. The API document names only
    # the state "idle". Other states depend on your organisation; this example uses those of the sandbox.
    # Without target_states, the sensor succeeds as soon as the appointment is no longer idle.
    wait_until_over = WebcamconsultAppointmentStateSensor(
        task_id="wait_until_over",
        appointment_id=book_consult.output,
        target_states=["finished"],
        failed_states=["cancelled"],
        deferrable=True,
        poke_interval=5,  # seconds; short for this example. Use 60 for real consults.
        # From now on, so for a real consult it must be longer than the time until it begins.
        timeout=datetime.timedelta(hours=2).total_seconds(),
    )

    @task
    def follow_up(appointment_id: str, state: str) -> None:
        # For example, ask the client for feedback or send an invoice.
        print(f"Consult {appointment_id} is {state}.")

    follow_up(book_consult.output, wait_until_over.output)


booking()
