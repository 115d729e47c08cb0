"""A sync that takes long enough to be ended by a user."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import dag

from airflow_provider_webcamconsult.operators.clients import WebcamconsultSyncClientsOperator

ROWS = 50_000


def rows(context: Any) -> Any:
    return ({"reference_code": f"ENDED-{number}"} for number in range(ROWS))


@dag(schedule=None, catchup=False)
def ended_sync() -> None:
    WebcamconsultSyncClientsOperator(task_id="sync", rows=rows, key="reference_code")


ended_sync()
