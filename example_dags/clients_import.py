"""
Import clients from a CSV file, with one mapped task for each row.

A practice moves to Webcamconsult and has its clients in a CSV file. Each client gets its own task. If the
service rejects a client, only that task fails, and the last task names the keys that failed. Read the log,
correct the row and clear the task. A second run does not import anybody twice.

Each of these tasks lists all clients. To compare a file of all clients each night, see `clients_sync`.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, TriggerRule, dag, task

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

    # It runs on every try, also after an earlier one has created the client: keep it free of conditions.
    def attributes(context: Any) -> ClientAttributes:
        context["label"] = reference_code  # for map_index_template below
        row = next(row for row in read_rows() if row["reference_code"] == reference_code)
        return {
            "reference_code": row["reference_code"],
            "initials": row["initials"],
            "last_name": row["last_name"],
            "email": row["email"],
            # A day is sent as midnight in Europe/Amsterdam, the service's own time zone.
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
    # result is neither rendered nor stored. In the UI, a task has the label that its callable has set.
    # Airflow stores the label, so it is a key and not a name.
    codes = reference_codes()
    create_client = WebcamconsultCreateClientOperator.partial(
        task_id="create_client",
        map_index_template="{{ label }}",
        # A second run of the DAG does not create the clients again. To find them, each task reads the list of
        # all clients once: 300 rows are 300 lists. A first import of clients that cannot exist yet needs none
        # with the default, "create".
        if_exists="reuse",
        max_active_tis_per_dagrun=4,  # limits the load on the service
    ).expand(attributes=codes.map(client_with))

    # all_done: report even if some tasks failed. This task then fails too, and the run with it.
    @task(trigger_rule=TriggerRule.ALL_DONE)
    def report(codes: list[str], ti: Any = None) -> None:
        def is_missing(index: int) -> bool:
            return ti.xcom_pull(task_ids="create_client", map_indexes=index) is None

        missing = [code for index, code in enumerate(codes) if is_missing(index)]
        if missing:
            raise AirflowFailException(f"{len(missing)} of {len(codes)} not imported: {', '.join(missing)}")
        print(f"Imported {len(codes)} clients.")

    create_client >> report(codes)


clients_import()
