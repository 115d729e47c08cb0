"""
Keep all clients in step with the practice's own system, in one task.

Each night, the practice's system exports its clients to a file. The task compares the file with
Webcamconsult, and creates, updates and deletes what differs. It touches only clients whose reference code
begins with "PS-", because others were created by hand. A row that is refused does not stop the others.
"""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult.operators.clients import WebcamconsultSyncClientsOperator


@dag(
    schedule=None,  # in production: each night, such as "0 3 * * *"
    catchup=False,
    max_active_runs=1,  # two runs at once would create the same clients
    tags=["webcamconsult"],
    doc_md=__doc__,
)
def clients_sync() -> None:
    sync_clients = WebcamconsultSyncClientsOperator(
        task_id="sync_clients",
        # In production: a file on any storage that Airflow reads, such as "s3://exports/{{ ds }}.csv".
        rows=str(Path(__file__).with_name("practice_export.csv")),
        key="reference_code",
        mode="mirror",
        key_prefix="PS-",
        max_deletes=1,  # refuses an export that lacks more clients than that
    )

    @task
    def report(counts: dict[str, int]) -> None:
        print(f"Of {counts['rows']} clients, {counts['created']} were new and {counts['deleted']} are gone.")

    report(sync_clients.output)


clients_sync()
