"""
Import clients: one row of a file, one mapped task, one client.

The story: a practice moves to Webcamconsult and brings its clients as a CSV file. Each row gets a task of
its own: one that the service refuses fails alone, with its own log, and can be mended and cleared alone.
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
    """Read the file; only ever called inside a task."""
    with Path(__file__).with_name("clients.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def client_with(reference_code: str) -> Callable[[Any], ClientAttributes]:
    """Return what gives one client's attributes, when its task asks for them."""

    def attributes(context: Any) -> ClientAttributes:
        row = next(row for row in read_rows() if row["reference_code"] == reference_code)
        return {
            "reference_code": row["reference_code"],
            "initials": row["initials"],
            "last_name": row["last_name"],
            "email": row["email"],
            # A day is enough: it is sent as that day's midnight in the time zone of the connection.
            "date_of_birth": row["date_of_birth"],
        }

    return attributes


@dag(schedule=None, catchup=False, tags=["webcamconsult"], doc_md=__doc__)
def clients_import() -> None:
    @task
    def reference_codes() -> list[str]:
        # Keys alone: this list is stored in Airflow's database, the rows are not.
        return [row["reference_code"] for row in read_rows()]

    # One task for each key. The attributes are a callable: it runs inside the task, and what it returns is
    # neither rendered nor stored.
    create_client = WebcamconsultCreateClientOperator.partial(
        task_id="create_client",
        max_active_tis_per_dagrun=4,  # be kind to the service
    ).expand(attributes=reference_codes().map(client_with))

    @task
    def report(client_ids: list[str]) -> None:
        print(f"{len(list(client_ids))} clients were created.")

    report(create_client.output)


clients_import()
