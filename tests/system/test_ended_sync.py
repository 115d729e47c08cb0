"""A sync stops when a user ends its task."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.sandbox import Sandbox
    from devtools.local_airflow import LocalAirflow

#: Airflow kills the process 5 seconds after SIGTERM.
KILL_SECONDS = 8.0
START_TIMEOUT = 120.0


def test_sync_that_a_user_marks_as_failed_sends_nothing_more(
    local_airflow: LocalAirflow, airflow_sandbox: Sandbox
) -> None:
    if not local_airflow.is_airflow_3:
        pytest.skip("Airflow 2 ends every task by an exception")

    def created() -> int:
        clients = airflow_sandbox.records("clients")
        return sum(str(client["reference_code"]).startswith("ENDED-") for client in clients)

    run_id = local_airflow.trigger("ended_sync")
    began = time.monotonic()
    while not created():
        assert time.monotonic() - began < START_TIMEOUT, local_airflow.describe_run("ended_sync", run_id)
        time.sleep(0.1)
    local_airflow.mark_failed("ended_sync", run_id, "sync")
    log = ""
    while "Airflow is ending the task (SIGTERM)" not in log:
        assert time.monotonic() - began < START_TIMEOUT, log
        time.sleep(0.5)
        log = local_airflow.task_log("ended_sync", run_id, "sync")
    in_time = created()
    time.sleep(KILL_SECONDS)
    assert created() == in_time
    assert local_airflow.wait("ended_sync", run_id) == "failed"
