"""Waits end at their timeout in each mode, whatever the state of the appointment."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.sandbox import Sandbox
    from devtools.local_airflow import LocalAirflow, TaskState

LIMIT_SECONDS = {"poke": 10, "reschedule": 21, "deferrable": 10}
"""As in the DAG."""

MODES = tuple(LIMIT_SECONDS)
TOLERANCE_SECONDS = 30.0
"""The documented tolerance is 2 s, but a busy machine starts and ends processes late."""

MOMENT = re.compile(r"^\[?(\d{4}-\d\d-\d\dT[\d:.]+)(?:Z|\+0000)?")


def moments(log: str, *, of: str = "") -> list[datetime]:
    """Return the times of the log lines that contain a text."""
    found = [MOMENT.match(line) for line in log.splitlines() if of in line]
    return [datetime.fromisoformat(match[1]).replace(tzinfo=timezone.utc) for match in found if match]


@pytest.fixture(scope="module")
def limits_run(local_airflow: LocalAirflow, airflow_sandbox: Sandbox) -> str:
    appointment_id, target_skipped_id = book(airflow_sandbox), book(airflow_sandbox)
    conf = {"appointment_id": appointment_id, "target_skipped_id": target_skipped_id}
    run_id = local_airflow.trigger("limits", conf=conf)
    local_airflow.wait_for_task("limits", run_id, "target_skipped", "deferred")
    airflow_sandbox.set_state(target_skipped_id, "finished")
    assert local_airflow.wait("limits", run_id) == "failed"
    return run_id


def book(sandbox: Sandbox) -> str:
    response = requests.post(
        f"{sandbox.url}/appointments.json",
        json={"appointment": {"date": "2031-01-01T10:00:00.000+01:00"}},
        headers={"Authorization": f"Token token={sandbox.token}"},
        timeout=30,
    )
    return str(response.json()["appointment"]["id"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", ["timeout", "execution_timeout"])
def test_wait_ends_soon_after_its_timeout(
    local_airflow: LocalAirflow, limits_run: str, limit: str, mode: str
) -> None:
    task_id = f"{limit}_{mode}"
    tries = [
        task
        for task in (
            *local_airflow.earlier_tries("limits", limits_run),
            *local_airflow.task_states("limits", limits_run),
        )
        if task.task_id == task_id
    ]
    late = {task.try_number: seconds_late(local_airflow, limits_run, task, mode) for task in tries}
    print(f"{local_airflow.version} {task_id} seconds late in each try: {late}")
    assert {number: seconds for number, seconds in late.items() if seconds > TOLERANCE_SECONDS} == {}


def seconds_late(airflow: LocalAirflow, run_id: str, task: TaskState, mode: str) -> float:
    """Return how long after its timeout a wait ended, without the time to start its process."""
    log = airflow.task_log("limits", run_id, task.task_id, try_number=task.try_number)
    assert task.start
    assert task.end
    if mode == "reschedule":
        # Airflow stores only the start of the last process. The first poke is soon after the first start.
        began = moments(log, of="is in state 'idle'")[0]
    else:
        # A busy Airflow 3 stores the start seconds before the task runs.
        began = max([task.start, *moments(log, of="Filling up the DagBag")[:1]])
    # Airflow 3 may drop the last lines of a trigger.
    fired = moments(log, of=" fired") if mode == "deferrable" else []
    end = fired[0] if fired else task.end
    last_start = max(moments(log, of="is in state 'idle'") + moments(log, of="Waiting for appointment"))
    return (end - max(began + timedelta(seconds=LIMIT_SECONDS[mode]), last_start)).total_seconds()


@pytest.mark.parametrize("mode", MODES)
def test_timeout_is_not_retried_but_execution_timeout_is_even_with_soft_fail(
    local_airflow: LocalAirflow, limits_run: str, mode: str
) -> None:
    ends = {
        state.task_id: (state.state, state.try_number)
        for state in local_airflow.task_states("limits", limits_run)
    }
    assert ends[f"timeout_{mode}"] == ("failed", 1)
    assert ends[f"execution_timeout_{mode}"] == ("failed", 2)
    assert "AirflowSensorTimeout" in local_airflow.task_log("limits", limits_run, f"timeout_{mode}")
    for number in (1, 2):
        log = local_airflow.task_log("limits", limits_run, f"execution_timeout_{mode}", try_number=number)
        assert "AirflowTaskTimeout" in log


def test_wait_continues_and_logs_the_state_when_the_target_was_skipped(
    local_airflow: LocalAirflow, limits_run: str
) -> None:
    (task,) = [t for t in local_airflow.task_states("limits", limits_run) if t.task_id == "target_skipped"]
    assert (task.state, task.try_number) == ("failed", 1)
    log = local_airflow.task_log("limits", limits_run, "target_skipped")
    assert " is in state 'finished'. Next check in" in log
    assert "to reach 'started'; last seen in state 'finished'" in log
