"""Workers that are killed while they create leave one record; `make chaos` does the same a hundred times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devtools.chaos import (
    ANSWERED,
    CARRIED_OUT_LATER,
    INTENT_NOTED,
    NEVER_CARRIED_OUT,
    NOT_ANSWERED,
    ChaosProxy,
    kill_workers,
    prepare,
)

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_webcamconsult.sandbox import Sandbox
    from devtools.local_airflow import LocalAirflow

MOMENTS = (INTENT_NOTED, NEVER_CARRIED_OUT, CARRIED_OUT_LATER, NOT_ANSWERED, ANSWERED)


@pytest.mark.slow
def test_a_killed_worker_leaves_one_record(
    local_airflow: LocalAirflow, airflow_sandbox: Sandbox, dags_folder: Path
) -> None:
    if local_airflow.version.startswith("3.0."):
        pytest.skip("Airflow 3.0 does not try again what was killed")
    plan = dict(enumerate(MOMENTS))
    with ChaosProxy(airflow_sandbox.url, plan, airflow_sandbox.tokens[1]) as proxy:
        files = prepare(dags_folder, airflow_sandbox, proxy)
        try:
            kills = kill_workers(local_airflow, airflow_sandbox, proxy)
        finally:
            for file in files:
                file.unlink()
    seen = {kill.moment: (kill.retried, kill.twice, kill.missing) for kill in kills}
    assert seen == dict.fromkeys(MOMENTS, (1, 0, 0))
