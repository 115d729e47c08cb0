"""
A sync, bookings with their waits, and changes, for `make cluster`.

The connections are in Airflow's database.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, dag, task

from airflow_provider_webcamconsult import idempotent_create
from airflow_provider_webcamconsult.exceptions import WebcamconsultConfigurationError
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.changes import WebcamconsultListChangesOperator
from airflow_provider_webcamconsult.operators.clients import WebcamconsultSyncClientsOperator
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor
from airflow_provider_webcamconsult.sync import run as sync_run
from airflow_provider_webcamconsult.triggers.changes import webcamconsult_changes

# The proxy never processes a request later than this.
CREATE_FLOOR_SECONDS = 20.0
for module in (idempotent_create, sync_run):
    module.CREATE_FLOOR_SECONDS = CREATE_FLOOR_SECONDS  # type: ignore[attr-defined]

CHANGES_CONNECTION_ID = "changes"
TIMER = datetime.timedelta(seconds=15)
START = datetime.datetime(2031, 1, 1, 9, tzinfo=datetime.timezone.utc)
WAIT: dict[str, Any] = {
    "target_states": ["finished"],
    "deferrable": True,
    "poke_interval": 2,
    "timeout": 900,
}
DEFAULT_ARGS: dict[str, Any] = {
    "webcamconsult_conn_id": "cluster",
    # Airflow 2 may find the same dead task several times, and each time uses up a try. So does each task
    # that it sends while Redis is down.
    "retries": 10,
    "retry_delay": datetime.timedelta(0),
}


def rows(context: Any) -> list[dict[str, Any]]:
    """Return the clients that the sync creates."""
    return [
        {"reference_code": f"r{number}", "last_name": "Ester"}
        for number in range(context["dag_run"].conf["clients"])
    ]


@dag(
    schedule=None,
    catchup=False,
    max_active_tasks=12,  # little more than the workers run at once, so that none is queued for long
    default_args=DEFAULT_ARGS,
)
def cluster() -> None:
    """Sync clients; book appointments, and wait for them."""

    @task
    def consults(**context: Any) -> list[dict[str, Any]]:
        return [
            {
                "user_id": "u1",
                "client_id": f"c{number}",
                "date": (START + datetime.timedelta(hours=number)).isoformat(),
                "duration": 30,
            }
            for number in range(context["dag_run"].conf["consults"])
        ]

    WebcamconsultSyncClientsOperator(task_id="sync", rows=rows, key="reference_code")
    book = WebcamconsultCreateAppointmentOperator.partial(task_id="book").expand(attributes=consults())
    WebcamconsultAppointmentStateSensor.partial(task_id="wait", **WAIT).expand(appointment_id=book.output)

    @task
    def appointments(**context: Any) -> list[str]:
        ids: list[str] = context["dag_run"].conf["appointments"]
        return ids

    WebcamconsultAppointmentStateSensor.partial(task_id="watch", end_from_trigger=True, **WAIT).expand(
        appointment_id=appointments()
    )


cluster()


def list_changes(**arguments: Any) -> None:
    """List the appointments that are new or in a new state."""
    WebcamconsultListChangesOperator(
        task_id="list_changes",
        changes=["created", "state"],
        # A connection of its own, so that the requests of the waits can be counted.
        webcamconsult_conn_id=CHANGES_CONNECTION_ID,
        **arguments,
    )


try:
    changed = webcamconsult_changes(webcamconsult_conn_id=CHANGES_CONNECTION_ID, poke_interval=2)
except WebcamconsultConfigurationError:  # this Airflow starts no DAG from changes, so a timer does
    with DAG(
        "changes",
        start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        schedule=TIMER,
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
    ):
        list_changes(baseline_path=str(Path(__file__).with_name("baseline.json")))
else:
    with DAG("changes", schedule=[changed], max_active_runs=1, default_args=DEFAULT_ARGS):
        list_changes(inlets=[changed])
