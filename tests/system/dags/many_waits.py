"""
Mapped waits for many appointments, and from Airflow 3.3 on a watched list with the same connection.

The connection is in Airflow's database.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult.exceptions import WebcamconsultConfigurationError
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor
from airflow_provider_webcamconsult.triggers.changes import webcamconsult_changes

CONNECTION: dict[str, Any] = {"webcamconsult_conn_id": "many_waits", "poke_interval": 2}


@dag(
    schedule=None,
    catchup=False,
    max_active_tasks=1000,
    default_args={
        **CONNECTION,
        "deferrable": True,
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

with suppress(WebcamconsultConfigurationError):  # before Airflow 3.3
    # Only an asset that a DAG is scheduled on is watched. Here, that starts no run.
    dag(dag_id="watched", schedule=[webcamconsult_changes(**CONNECTION)])(lambda: None)()
