"""Remind the clients of the consults of tomorrow."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook


@dag(schedule=None)
def reminders() -> None:
    @task
    def tomorrow() -> list[str]:
        today = datetime.datetime.now(ZoneInfo("Europe/Amsterdam")).date()
        return [
            consult["id"]
            for consult in WebcamconsultHook().appointments.list()
            if consult["state"] == "idle"
            and datetime.datetime.fromisoformat(consult["date"]).date() == today + datetime.timedelta(days=1)
        ]

    @task
    def remind(appointment_id: str) -> str:
        hook = WebcamconsultHook()
        client_id = hook.appointments.get(appointment_id)["client_id"]
        address = hook.clients.get(client_id)["email"]
        assert address  # For example, send an e-mail to it. Return only the id, because Airflow stores it.
        return client_id

    remind.expand(appointment_id=tomorrow())


reminders()
