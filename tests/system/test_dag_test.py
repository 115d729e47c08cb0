"""Waits and the outcomes of creates in `dag.test()`."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from airflow_provider_webcamconsult.sandbox import Sandbox
from devtools.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_SECONDS = 4
"""As in the DAG."""

TOLERANCE_SECONDS = 30.0
"""The documented tolerance is 2 s, but a busy machine starts and ends processes late."""
ENDS = {
    "outcomes": "success",
    "book": "success",
    "reached": "success",
    "timeout_poke": "failed",
    "timeout_reschedule": "failed",
    "timeout_deferrable": "failed",
}


def test_waits_in_dag_test_end_as_in_scheduled_runs(
    airflow_python: str, dags_folder: Path, tmp_path: Path
) -> None:
    with Sandbox(states="idle:6s,finished") as sandbox:
        connection = {"conn_type": "webcamconsult", "host": sandbox.url, "password": sandbox.token}
        airflow = LocalAirflow(
            tmp_path,
            dags_folder,
            python=airflow_python,
            env={"AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT": json.dumps(connection)},
        )
        run_id, output = airflow.test_dag("in_process")

    tasks = {task.task_id: task for task in airflow.task_states("in_process", run_id)}
    assert {task_id: tasks[task_id].state for task_id in ENDS} == ENDS, output
    assert airflow.xcom("in_process", run_id, "reached") == "finished"
    assert airflow.xcom("in_process", run_id, "outcomes") == ["created", "created", "reused"]
    assert "Started polling for connection" in output
    assert "AirflowTaskTimeout" in output
    late = {}
    for task_id, task in tasks.items():
        begin = re.search(
            rf"(?m)^\W*(\d{{4}}-\d\d-\d\dT[\d:.]+).*running task <TaskInstance: in_process.{task_id} ", output
        )
        if "timeout" in task_id and begin and task.end:
            began = datetime.fromisoformat(begin[1]).replace(tzinfo=timezone.utc)
            late[task_id] = (task.end - began).total_seconds() - LIMIT_SECONDS
    print(airflow.version, late)
    assert late.keys() >= {"timeout_poke", "timeout_reschedule", "timeout_deferrable"}
    assert {task_id: seconds for task_id, seconds in late.items() if seconds > TOLERANCE_SECONDS} == {}
