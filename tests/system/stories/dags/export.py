"""Export the finished consults for analysis, without the ids of the clients."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import dag

from airflow_provider_webcamconsult.operators.appointments import WebcamconsultListAppointmentsOperator


@dag(schedule=None, params={"folder": "/exports"})
def export() -> None:
    WebcamconsultListAppointmentsOperator(
        task_id="export",
        fields=["client_id", "date", "duration"],
        where={"state": "finished"},
        path="{{ params.folder }}/consults.csv",
        pseudonymize=["client_id"],
        pseudonymize_conn_id="pseudonyms",
    )


export()
