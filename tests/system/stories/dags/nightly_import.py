"""Each night, create and update the clients that the practice's system has exported to a CSV file."""

from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import dag

from airflow_provider_webcamconsult.operators.clients import WebcamconsultSyncClientsOperator


@dag(
    schedule="0 3 * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    catchup=False,
    max_active_runs=1,
    params={"rows": "/exports/clients.csv"},
)
def nightly_import() -> None:
    WebcamconsultSyncClientsOperator(task_id="sync", rows="{{ params.rows }}", key="reference_code")


nightly_import()
