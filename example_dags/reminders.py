"""
Remind the clients of today's consults, a quarter of an hour before each.

This DAG lists the consults of the day and waits for each of them, without occupying a worker. A
consult that is moved is reminded of at its new time; one that is cancelled or moved to another day is not.
Nor is one that is booked for today, or moved to today, after the list was made.
"""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

# Works on Airflow 2.11 and 3.
from airflow.providers.common.compat.sdk import AirflowSkipException, dag, task, task_group

from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentTimeSensor

TIME_ZONE = ZoneInfo("Europe/Amsterdam")


def is_today(date: str | None) -> bool:
    """Return whether a date of Webcamconsult is today."""
    if date is None:
        return False
    day = datetime.datetime.fromisoformat(date).astimezone(TIME_ZONE).date()
    return day == datetime.datetime.now(TIME_ZONE).date()


@dag(
    schedule=None,  # in production: each morning, such as "0 5 * * *"
    catchup=False,
    tags=["webcamconsult"],
    doc_md=__doc__,
)
def reminders() -> None:
    @task
    def todays_consults() -> list[str]:
        # Return only ids, because Airflow stores what a task returns.
        return [each["id"] for each in WebcamconsultHook().appointments.iterate() if is_today(each["date"])]

    # Each consult has its own wait and its own reminder, which starts as soon as that wait is over.
    @task_group
    def reminder(appointment_id: str) -> None:
        # Deferred: the triggerer waits, for all consults in one poll. The state "cancelled" is the sandbox's;
        # your organisation may use another one. A deleted consult always counts as cancelled, and one that
        # began in the meantime is skipped too.
        wait = WebcamconsultAppointmentTimeSensor(
            task_id="wait",
            appointment_id=appointment_id,
            offset=datetime.timedelta(minutes=-15),
            cancelled_states=["cancelled"],
            deferrable=True,
            max_wait=datetime.timedelta(minutes=10),  # notices within that time that a consult was moved
        )

        @task
        def remind(appointment_id: str, date: str) -> None:
            if not is_today(date):
                raise AirflowSkipException("Moved to another day, whose run sends the reminder.")
            # For example, look up the client of the consult and send a message.
            print(f"Consult {appointment_id} begins at {date}.")

        remind(appointment_id, wait.output)

    reminder.expand(appointment_id=todays_consults())


reminders()
