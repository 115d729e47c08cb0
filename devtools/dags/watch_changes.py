"""
DAGs that follow the changes of appointments, for tests and benchmarks that kill them.

``watch`` lists what changed and starts one run of ``follow`` for each appointment. It leaves its process id
in the folder of the environment variable `CHANGES_FOLDER`, and pauses so that it can be killed at any moment.
Before Airflow 3.3, a timer starts it, and it only lists.
"""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_webcamconsult.exceptions import WebcamconsultConfigurationError
from airflow_provider_webcamconsult.operators.changes import WebcamconsultListChangesOperator
from airflow_provider_webcamconsult.triggers.changes import webcamconsult_changes

FOLDER = Path(os.environ["CHANGES_FOLDER"])
INTERVAL_SECONDS = 2
TIMER = datetime.timedelta(seconds=5)
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
RETRIES: dict[str, Any] = {"retries": 20, "retry_delay": datetime.timedelta(seconds=1)}
#: Seconds from the moment that the baseline has moved to the end of the task.
PAUSE_SECONDS = float(os.environ.get("CHANGES_PAUSE", "0"))


def list_changes(**arguments: Any) -> WebcamconsultListChangesOperator:
    """Return the task that lists changes, which can be killed."""
    return WebcamconsultListChangesOperator(
        task_id="list_changes",
        pre_execute=lambda context: (FOLDER / "pid").write_text(str(os.getpid())),
        post_execute=lambda context, result: time.sleep(PAUSE_SECONDS),
        **RETRIES,
        **arguments,
    )


try:
    changed = webcamconsult_changes(poke_interval=INTERVAL_SECONDS)
except WebcamconsultConfigurationError:
    with DAG("watch", start_date=START, schedule=TIMER, catchup=False, max_active_runs=1):
        list_changes(baseline_path=str(FOLDER / "baseline.json"))
else:
    from airflow.sdk import Asset, PartitionedAssetTimetable

    followed = Asset("followed_appointments")

    with DAG("watch", schedule=[changed], max_active_runs=1):

        @task(outlets=[followed], **RETRIES)
        def start_runs(changes: list[dict[str, Any]], *, outlet_events: Any = None) -> None:
            """Start one run for each changed appointment."""
            outlet_events[followed].add_partitions([change["id"] for change in changes])

        start_runs(list_changes(inlets=[changed]).output)  # type: ignore[arg-type]

    with DAG("follow", schedule=PartitionedAssetTimetable(assets=followed), max_active_runs=100):

        @task
        def follow(*, dag_run: Any = None) -> str:
            """Return the id of the appointment."""
            return str(dag_run.partition_key)

        follow()
