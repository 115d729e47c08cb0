"""
Import clients from a CSV file, with one mapped task for each row.

A practice moves to Webcamconsult and has its clients in a CSV file. Each client gets its own task. If the
service rejects a client, only that task fails. Read its log, correct the row and clear the task. A second run
does not import anybody twice.

Each of these tasks lists all clients. To compare a file of all clients each night, see `clients_sync`.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult.operators.clients import WebcamconsultCreateClientOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_webcamconsult.api.resources import ClientAttributes


def read_rows() -> list[dict[str, str]]:
    """Read the file. Call this only inside a task, to keep personal data out of the DAG."""
    with Path(__file__).with_name("clients.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def client_with(reference_code: str) -> Callable[[Any], ClientAttributes]:
    """Return a callable that reads the attributes of one client when its task runs."""

    def attributes(context: Any) -> ClientAttributes:
        row = next(row for row in read_rows() if row["reference_code"] == reference_code)
        return {
            "reference_code": row["reference_code"],
            "initials": row["initials"],
            "last_name": row["last_name"],
            "email": row["email"],
            # A date without a time is sent as midnight in the connection's time zone.
            "date_of_birth": row["date_of_birth"],
        }

    return attributes


@dag(schedule=None, catchup=False, tags=["webcamconsult"], doc_md=__doc__)
def clients_import() -> None:
    @task
    def reference_codes() -> list[str]:
        # Return only the keys, because Airflow stores this list in its database.
        return [row["reference_code"] for row in read_rows()]

    # One mapped task for each key. Its attributes are a callable: it is called when the task runs, and its
    # result is neither rendered nor stored.
    create_client = WebcamconsultCreateClientOperator.partial(
        task_id="create_client",
        if_exists="reuse",  # a second run of the DAG does not create the clients again
        max_active_tis_per_dagrun=4,  # limits the load on the service
    ).expand(attributes=reference_codes().map(client_with))

    @task
    def report(client_ids: list[str]) -> None:
        print(f"Imported {len(list(client_ids))} clients.")

    report(create_client.output)


clients_import()
