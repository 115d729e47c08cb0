"""Remind the clients of the consults of today, a quarter of an hour before each."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

from airflow.providers.common.compat.sdk import dag, task, task_group

from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentTimeSensor


@dag(schedule=None)
def reminders() -> None:
    @task
    def today() -> list[str]:
        day = datetime.datetime.now(ZoneInfo("Europe/Amsterdam")).date()
        return [
            consult["id"]
            for consult in WebcamconsultHook().appointments.list()
            if datetime.datetime.fromisoformat(consult["date"]).date() == day
        ]

    @task
    def remind(appointment_id: str) -> str:
        hook = WebcamconsultHook()
        client_id = hook.appointments.get(appointment_id)["client_id"]
        address = hook.clients.get(client_id)["email"]
        assert address  # For example, send an e-mail to it. Return only the id, because Airflow stores it.
        return client_id

    @task_group
    def reminder(appointment_id: str) -> None:
        wait = WebcamconsultAppointmentTimeSensor(
            task_id="wait", appointment_id=appointment_id, cancelled_states=["cancelled"], deferrable=True
        )
        wait >> remind(appointment_id)

    reminder.expand(appointment_id=today())


reminders()
