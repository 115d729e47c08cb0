"""Each possible end of a wait, in each mode of the sensor."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import dag

from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor

# The deferrable sensors run first, because a poking one may occupy the only worker until its end.
MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    # A task that is rescheduled within a second may be queued again before the scheduler has processed the
    # end of its last poke. The scheduler then considers the task killed.
    "reschedule": {"mode": "reschedule", "priority_weight": 2, "poke_interval": 5},
    "deferrable": {"deferrable": True, "priority_weight": 3},
}
NO_SUCH_APPOINTMENT = "f" * 24


@dag(schedule=None, catchup=False, default_args={"poke_interval": 1, "timeout": 60})
def waits() -> None:
    book = WebcamconsultCreateAppointmentOperator(
        task_id="book", attributes={"date": "2030-03-01T09:30", "duration": 30}
    )
    book_each = WebcamconsultCreateAppointmentOperator.partial(task_id="book_each").expand(
        attributes=[{"date": f"2030-03-0{day}T09:30", "duration": 30} for day in (2, 3)]
    )
    for name, mode in MODES.items():
        WebcamconsultAppointmentStateSensor.partial(task_id=f"each_{name}", **mode).expand(
            appointment_id=book_each.output
        )
        WebcamconsultAppointmentStateSensor(task_id=f"all_{name}", appointment_ids=book_each.output, **mode)
        WebcamconsultAppointmentStateSensor(
            task_id=f"reached_{name}", appointment_id=book.output, target_states=["finished"], **mode
        )
        WebcamconsultAppointmentStateSensor(task_id=f"not_idle_{name}", appointment_id=book.output, **mode)
        WebcamconsultAppointmentStateSensor(
            task_id=f"failed_{name}",
            appointment_id=book.output,
            target_states=["never"],
            failed_states=["finished"],
            retries=2,
            **mode,
        )
        WebcamconsultAppointmentStateSensor(
            task_id=f"soft_failed_{name}",
            appointment_id=book.output,
            target_states=["never"],
            failed_states=["finished"],
            soft_fail=True,
            **mode,
        )
        WebcamconsultAppointmentStateSensor(
            task_id=f"timed_out_{name}",
            appointment_id=book.output,
            target_states=["never"],
            timeout=2,
            retries=2,
            **mode,
        )
        WebcamconsultAppointmentStateSensor(
            task_id=f"soft_timed_out_{name}",
            appointment_id=book.output,
            target_states=["never"],
            timeout=2,
            soft_fail=True,
            **mode,
        )
        WebcamconsultAppointmentStateSensor(
            task_id=f"gone_{name}", appointment_id=NO_SUCH_APPOINTMENT, retries=2, **mode
        )


waits()
