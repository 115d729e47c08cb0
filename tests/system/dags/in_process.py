"""Waits in sequence, and the outcomes of mapped creates, for `dag.test()`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import chain, dag, task

from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import WebcamconsultCreateClientOperator
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

    people = WebcamconsultCreateClientOperator.partial(task_id="people", if_exists="reuse").expand(
        attributes=[{"reference_code": "DL-1"}, {"reference_code": "DL-2"}]
    )
    again = WebcamconsultCreateClientOperator(
        task_id="again", attributes={"reference_code": "DL-1"}, if_exists="reuse"
    )

    @task
    def outcomes(of_people: Any, of_again: str) -> list[str]:
        return [*of_people, of_again]

    people >> again >> outcomes(people.output["outcome"], again.output["outcome"]) >> book  # type: ignore[index]


in_process()
