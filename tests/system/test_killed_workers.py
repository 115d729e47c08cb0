"""A worker that is killed during a create leaves one record. `make chaos` repeats this a hundred times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devtools.chaos import (
    INTENT_STORED,
    NEVER_PROCESSED,
    NO_RESPONSE,
    PROCESSED_LATER,
    RESPONSE_RECEIVED,
    ChaosProxy,
    install_dags,
    kill_workers,
)

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_webcamconsult.sandbox import Sandbox
    from devtools.local_airflow import LocalAirflow

KILL_POINTS = (INTENT_STORED, NEVER_PROCESSED, PROCESSED_LATER, NO_RESPONSE, RESPONSE_RECEIVED)


@pytest.mark.slow
def test_create_by_killed_worker_leaves_one_record(
    local_airflow: LocalAirflow, airflow_sandbox: Sandbox, dags_folder: Path
) -> None:
    if local_airflow.version.startswith("3.0."):
        pytest.skip("Airflow 3.0 does not retry killed tasks")
    plan = dict(enumerate(KILL_POINTS))
    with ChaosProxy(airflow_sandbox.url, plan, airflow_sandbox.tokens[1]) as proxy:
        files = install_dags(dags_folder, airflow_sandbox, proxy)
        try:
            kills = kill_workers(local_airflow, airflow_sandbox, proxy)
        finally:
            for file in files:
                file.unlink()
    results = {kill.kill_point: (kill.retried, kill.duplicated, kill.missing) for kill in kills}
    assert results == dict.fromkeys(KILL_POINTS, (1, 0, 0))
