"""Send an invoice for each finished consult, in a task of its own."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult.operators.appointments import WebcamconsultListAppointmentsOperator


@dag(schedule=None)
def invoicing() -> None:
    finished = WebcamconsultListAppointmentsOperator(
        task_id="finished", where={"state": "finished"}, fields=["client_id", "duration"]
    )

    @task
    def invoice(consult: dict[str, Any]) -> str:
        # For example, send it to the accounts. Airflow stores what the task returns: no names.
        return f"{consult['client_id']}: {consult['duration']} minutes"

    invoice.expand(consult=finished.output)


invoicing()
