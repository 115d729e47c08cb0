"""Lists all clients and appointments as changes, with baselines in a file and in the state of an asset."""

from __future__ import annotations

import os
from typing import Any

from airflow.providers.common.compat.sdk import dag

from airflow_provider_webcamconsult.exceptions import WebcamconsultConfigurationError
from airflow_provider_webcamconsult.operators.changes import WebcamconsultListChangesOperator
from airflow_provider_webcamconsult.triggers.changes import webcamconsult_changes

RESOURCES = ("clients", "appointments")
FOLDER = os.environ["AIRFLOW_HOME"]

schedule: list[Any] | None
try:
    schedule = [
        webcamconsult_changes(resource, webcamconsult_conn_id="as_header", poke_interval=2)
        for resource in RESOURCES
    ]
except WebcamconsultConfigurationError:
    schedule = None


@dag(schedule=schedule, catchup=False, default_args={"webcamconsult_conn_id": "as_header", "initial": "all"})
def changes() -> None:
    WebcamconsultListChangesOperator(task_id="in_file", baseline_path=f"{FOLDER}/baseline.json")
    for number, resource in enumerate(RESOURCES):
        baseline: dict[str, Any] = (
            {"inlets": [schedule[number]]} if schedule else {"baseline_path": f"{FOLDER}/{resource}.json"}
        )
        WebcamconsultListChangesOperator(task_id=f"changed_{resource}", resource=resource, **baseline)


changes()
