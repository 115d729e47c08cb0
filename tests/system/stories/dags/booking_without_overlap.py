"""Book a consult, unless the professional or the client has another one at that time."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import dag

from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator


@dag(schedule=None, params={"user_id": "", "client_id": "", "date": ""})
def booking_without_overlap() -> None:
    WebcamconsultCreateAppointmentOperator(
        task_id="book",
        attributes={
            "user_id": "{{ params.user_id }}",
            "client_id": "{{ params.client_id }}",
            "date": "{{ params.date }}",
            "duration": 30,
        },
        if_overlaps="fail",
    )


booking_without_overlap()
