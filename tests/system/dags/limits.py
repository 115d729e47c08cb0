"""Waits that never reach their target, with each kind of timeout in each mode of the sensor."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import dag

from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor

MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule", "priority_weight": 2},
    "deferrable": {"deferrable": True, "priority_weight": 3},
}
LIMIT_SECONDS = {
    "poke": 10,
    # The last poke of a rescheduled wait is 15 s before its end, but not within the first 5 s.
    "reschedule": 32,
    "deferrable": 10,
}


@dag(
    schedule=None,
    catchup=False,
    default_args={"poke_interval": 4, "retries": 1, "retry_delay": timedelta(0)},
)
def limits() -> None:
    for name, mode in MODES.items():
        limit = LIMIT_SECONDS[name]
        arguments: dict[str, Any] = {
            "appointment_id": "{{ dag_run.conf['appointment_id'] }}",
            "target_states": ["never"],
            **mode,
        }
        WebcamconsultAppointmentStateSensor(task_id=f"timeout_{name}", timeout=limit, **arguments)
        WebcamconsultAppointmentStateSensor(
            task_id=f"execution_timeout_{name}",
            execution_timeout=timedelta(seconds=limit),
            soft_fail=True,
            **arguments,
        )
    WebcamconsultAppointmentStateSensor(
        task_id="target_skipped",
        appointment_id="{{ dag_run.conf['target_skipped_id'] }}",
        target_states=["started"],
        timeout=30,
        **MODES["deferrable"],
    )


limits()
