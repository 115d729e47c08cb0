"""Waits end the same in each mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.sandbox import Sandbox
    from devtools.local_airflow import LocalAirflow

MODES = ("poke", "reschedule", "deferrable")
ENDS = {
    "reached": "success",
    "all": "success",
    "not_idle": "success",
    "failed": "failed",
    "soft_failed": "skipped",
    "timed_out": "failed",
    "soft_timed_out": "skipped",
    "gone": "failed",
}
STATES_OF_EACH = ("started", "cancelled")


@pytest.fixture(scope="module")
def waits_run(local_airflow: LocalAirflow, airflow_sandbox: Sandbox) -> str:
    """Run the DAG once for all tests. The consult ends once the waits for it are deferred."""
    run_id = local_airflow.trigger("waits")
    for end in ("all", "reached", "not_idle", "failed", "soft_failed"):
        local_airflow.wait_for_task("waits", run_id, f"{end}_deferrable", "deferred")
    for map_index, state in enumerate(STATES_OF_EACH):
        appointment_id = local_airflow.xcom("waits", run_id, "book_each", map_index)
        airflow_sandbox.set_state(appointment_id, state)
    airflow_sandbox.set_state(local_airflow.xcom("waits", run_id, "book"), "finished")
    assert local_airflow.wait("waits", run_id) == "failed"
    return run_id


@pytest.mark.parametrize("mode", MODES)
def test_wait_ends_in_the_expected_state_without_a_retry(
    local_airflow: LocalAirflow, waits_run: str, mode: str
) -> None:
    states = {state.task_id: state for state in local_airflow.task_states("waits", waits_run)}
    assert {end: states[f"{end}_{mode}"].state for end in ENDS} == ENDS
    assert {end: states[f"{end}_{mode}"].try_number for end in ENDS} == dict.fromkeys(ENDS, 1)


@pytest.mark.parametrize("mode", MODES)
def test_wait_returns_the_state_that_ended_it(local_airflow: LocalAirflow, waits_run: str, mode: str) -> None:
    assert local_airflow.xcom("waits", waits_run, f"reached_{mode}") == "finished"
    assert local_airflow.xcom("waits", waits_run, f"not_idle_{mode}") == "finished"


@pytest.mark.parametrize("mode", MODES)
def test_mapped_wait_returns_the_state_of_its_own_appointment(
    local_airflow: LocalAirflow, waits_run: str, mode: str
) -> None:
    assert [local_airflow.xcom("waits", waits_run, f"each_{mode}", index) for index in (0, 1)] == [
        *STATES_OF_EACH
    ]


@pytest.mark.parametrize("mode", MODES)
def test_wait_for_many_returns_the_state_of_each(
    local_airflow: LocalAirflow, waits_run: str, mode: str
) -> None:
    ids = [local_airflow.xcom("waits", waits_run, "book_each", index) for index in (0, 1)]
    states = local_airflow.xcom("waits", waits_run, f"all_{mode}")
    assert states == dict(zip(ids, STATES_OF_EACH, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_failed_wait_logs_the_reason(local_airflow: LocalAirflow, waits_run: str, mode: str) -> None:
    log = local_airflow.task_log("waits", waits_run, f"failed_{mode}")
    assert "is in state 'finished', which is one of failed_states; expected 'never'" in log
    log = local_airflow.task_log("waits", waits_run, f"gone_{mode}")
    assert "does not exist for this API token" in log
