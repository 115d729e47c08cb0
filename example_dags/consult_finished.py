"""
Send an invoice for each consult that has finished.

On Airflow 3.3 and newer, a finished consult starts the DAG ``consult_finished`` within a minute. It lists
what has changed and starts one run of the DAG ``invoicing`` for each consult, with the id of the appointment
as the partition key. On older versions, ``consult_finished`` runs every five minutes and sends the invoices
itself.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

# Works on Airflow 2.11 and 3. On Airflow 3, you can also write "from airflow.sdk import dag, task".
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult.exceptions import WebcamconsultConfigurationError
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.changes import WebcamconsultListChangesOperator
from airflow_provider_webcamconsult.triggers.changes import webcamconsult_changes

# The state depends on your organisation; this example uses that of the sandbox.
FINISHED: dict[str, Any] = {"changes": ["state"], "states": ["finished"]}


def send_invoice(appointment_id: str) -> None:
    """Send an invoice. A task that is retried sends it again, so use the id to send it only once."""
    appointment = WebcamconsultHook().appointments.get(appointment_id)
    print(f"Invoice for consult {appointment_id}, {appointment['duration']} minutes.")


try:
    appointments_changed = webcamconsult_changes("appointments", poke_interval=30)
except WebcamconsultConfigurationError:  # before Airflow 3.3

    @dag(
        schedule="*/5 * * * *",
        start_date=datetime.datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=1,
        tags=["webcamconsult"],
        doc_md=__doc__,
    )
    def consult_finished() -> None:
        list_finished = WebcamconsultListChangesOperator(
            task_id="list_finished",
            # For real consults, a file that all workers reach, such as one in an object storage.
            baseline_path=str(Path(__file__).with_name("consult_finished_baseline.json")),
            **FINISHED,
        )

        @task
        def invoice(change: dict[str, Any]) -> None:
            send_invoice(change["id"])

        invoice.expand(change=list_finished.output)

else:
    from airflow.sdk import Asset, PartitionedAssetTimetable

    finished_consults = Asset("finished_consults")

    @dag(schedule=[appointments_changed], max_active_runs=1, tags=["webcamconsult"], doc_md=__doc__)
    def consult_finished() -> None:
        # The asset has the baseline. The task is skipped, and so is the next one, if no consult has finished.
        list_finished = WebcamconsultListChangesOperator(
            task_id="list_finished", inlets=[appointments_changed], **FINISHED
        )

        @task(outlets=[finished_consults])
        def start_invoicing(changes: list[dict[str, Any]], *, outlet_events: Any = None) -> None:
            outlet_events[finished_consults].add_partitions([change["id"] for change in changes])

        start_invoicing(list_finished.output)

    @dag(
        schedule=PartitionedAssetTimetable(assets=finished_consults),
        catchup=False,
        tags=["webcamconsult"],
        doc_md=__doc__,
    )
    def invoicing() -> None:
        @task
        def invoice(*, dag_run: Any = None) -> None:
            send_invoice(dag_run.partition_key)

        invoice()

    invoicing()

consult_finished()
