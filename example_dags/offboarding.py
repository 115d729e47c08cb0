"""
Offboard a client: cancel the open appointments, then delete the client.

The story: a client leaves the practice. Start this DAG with the client's id:
``airflow dags trigger offboarding --conf '{"client_id": "…"}'``.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import Param, TriggerRule, dag, task

from airflow_provider_webcamconsult.operators.appointments import (
    WebcamconsultDeleteAppointmentOperator,
    WebcamconsultListAppointmentsOperator,
)
from airflow_provider_webcamconsult.operators.clients import WebcamconsultDeleteClientOperator


@dag(
    schedule=None,
    catchup=False,
    tags=["webcamconsult"],
    params={"client_id": Param(type="string", minLength=1, description="The client who leaves.")},
    doc_md=__doc__,
)
def offboarding() -> None:
    # fields says what may be stored in Airflow's database: enough to decide, and nothing about a person.
    appointments = WebcamconsultListAppointmentsOperator(
        task_id="list_appointments",
        fields=["id", "client_id", "state"],
    )

    @task
    def open_appointments(appointments: list[dict[str, Any]], params: dict[str, Any]) -> list[str]:
        return [
            appointment["id"]
            for appointment in appointments
            if appointment["client_id"] == params["client_id"] and appointment["state"] == "idle"
        ]

    # One task for each appointment; none at all if there is none, and then this is skipped.
    cancel_appointment = WebcamconsultDeleteAppointmentOperator.partial(task_id="cancel_appointment").expand(
        appointment_id=open_appointments(appointments.output)
    )

    # none_failed: goes on after skipped cancellations, but never after a failed one. A client who still has
    # an appointment is not deleted.
    delete_client = WebcamconsultDeleteClientOperator(
        task_id="delete_client",
        client_id="{{ params.client_id }}",
        trigger_rule=TriggerRule.NONE_FAILED,
    )

    cancel_appointment >> delete_client


offboarding()
