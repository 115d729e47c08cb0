"""Waits in sequence, for `dag.test()`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import chain, dag

from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor

LIMIT_SECONDS = 4


@dag(schedule=None, catchup=False, default_args={"poke_interval": 1, "trigger_rule": "all_done"})
def in_process() -> None:
    book = WebcamconsultCreateAppointmentOperator(
        task_id="book", attributes={"date": "2030-03-01T09:30", "duration": 30}
    )

    def wait(task_id: str, **arguments: Any) -> WebcamconsultAppointmentStateSensor:
        return WebcamconsultAppointmentStateSensor(task_id=task_id, appointment_id=book.output, **arguments)

    never: Any = {"target_states": ["never"]}
    execution = timedelta(seconds=LIMIT_SECONDS)
    chain(
        book,
        wait("reached", target_states=["finished"], deferrable=True, end_from_trigger=True, timeout=60),
        wait("timeout_poke", timeout=LIMIT_SECONDS, **never),
        wait("timeout_reschedule", mode="reschedule", timeout=LIMIT_SECONDS, **never),
        wait("timeout_deferrable", deferrable=True, timeout=LIMIT_SECONDS, **never),
        # Last, since it ends the whole run on Airflow 2.11.
        wait("execution_timeout_deferrable", deferrable=True, execution_timeout=execution, **never),
    )


in_process()
