"""
Offboard a client: delete the open appointments, then delete the client.

Trigger this DAG with the id of a client who leaves the practice:
``airflow dags trigger offboarding --conf '{"client_id": "CLIENT_ID"}'``.
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
    params={"client_id": Param(type="string", minLength=1, description="Id of the client to delete.")},
    doc_md=__doc__,
)
def offboarding() -> None:
    # fields selects what the task returns, which Airflow stores in its database. These attributes are not
    # personal.
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

    # One mapped task for each open appointment (in state "idle"). Without any, the task is skipped.
    delete_appointment = WebcamconsultDeleteAppointmentOperator.partial(task_id="delete_appointment").expand(
        appointment_id=open_appointments(appointments.output)
    )

    # none_failed: run if all deletions succeeded or were skipped. If one failed, the client still has an
    # appointment and is not deleted.
    delete_client = WebcamconsultDeleteClientOperator(
        task_id="delete_client",
        client_id="{{ params.client_id }}",
        trigger_rule=TriggerRule.NONE_FAILED,
    )

    delete_appointment >> delete_client


offboarding()
