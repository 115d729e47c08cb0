"""Mapped waits for many appointments. The connection is in Airflow's database."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor


@dag(
    schedule=None,
    catchup=False,
    max_active_tasks=1000,
    default_args={
        "webcamconsult_conn_id": "many_waits",
        "deferrable": True,
        "poke_interval": 2,
        "timeout": 900,
        "retries": 1,
    },
)
def many_waits() -> None:
    @task
    def appointments(name: str, **context: Any) -> list[str]:
        ids: list[str] = context["dag_run"].conf[name]
        return ids

    WebcamconsultAppointmentStateSensor.partial(
        task_id="ends_in_the_triggerer", target_states=["finished"], end_from_trigger=True
    ).expand(appointment_id=appointments.override(task_id="many")("many"))
    WebcamconsultAppointmentStateSensor.partial(
        task_id="ends_on_a_worker", target_states=["finished"]
    ).expand(appointment_id=appointments.override(task_id="few")("few"))


many_waits()
