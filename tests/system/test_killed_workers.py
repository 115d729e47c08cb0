"""
Killed workers, late and simultaneous creates leave one record, and killed syncs write everything once.

`make chaos` repeats this many times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devtools.chaos import (
    INTENT_STORED,
    LATE_POINTS,
    NEVER_PROCESSED,
    NO_RESPONSE,
    PROCESSED_LATER,
    RACE_IF_EXISTS,
    RESPONSE_RECEIVED,
    ChaosProxy,
    Races,
    install_dags,
    kill_syncs,
    kill_workers,
    race,
)

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_webcamconsult.sandbox import Sandbox
    from devtools.local_airflow import LocalAirflow

KILL_POINTS = (INTENT_STORED, NEVER_PROCESSED, PROCESSED_LATER, NO_RESPONSE, RESPONSE_RECEIVED, *LATE_POINTS)
PAIRS = len(RACE_IF_EXISTS)
SYNCS = range(100, 102)


@pytest.mark.slow
def test_killed_late_and_simultaneous_writes_leave_one_record(
    local_airflow: LocalAirflow, airflow_sandbox: Sandbox, dags_folder: Path
) -> None:
    if local_airflow.version.startswith("3.0."):
        pytest.skip("Airflow 3.0 does not retry killed tasks")
    plan = dict(enumerate(KILL_POINTS))
    with ChaosProxy(airflow_sandbox.url, plan, airflow_sandbox.tokens[1], SYNCS) as proxy:
        files = install_dags(dags_folder, airflow_sandbox, proxy, PAIRS)
        try:
            kills = kill_workers(local_airflow, airflow_sandbox, proxy)
            races = race(local_airflow, airflow_sandbox, proxy, PAIRS)
            syncs = kill_syncs(local_airflow, airflow_sandbox, proxy)
        finally:
            for file in files:
                file.unlink()
    results = {kill.kill_point: (kill.retried, kill.duplicated, kill.missing) for kill in kills}
    assert results == dict.fromkeys(KILL_POINTS, (1, 0, 0))
    assert races == [Races(if_exists, 1, 1, 0, 0, 0) for if_exists in RACE_IF_EXISTS]
    assert (syncs.duplicated, syncs.missing, syncs.wrong) == (0, 0, 0)
    assert syncs.retried
