"""Each change of an appointment is told once, while triggerers and tasks are killed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_webcamconsult.sandbox import Sandbox
from devtools.changes import book, watching

if TYPE_CHECKING:
    from pathlib import Path

CHANGES = 24
BURST = 10


@pytest.mark.slow
def test_each_change_is_told_once_through_kills(airflow_python: str, tmp_path: Path) -> None:
    with Sandbox() as sandbox, watching(tmp_path, sandbox, airflow_python) as watch:
        if watch.airflow.version.startswith("3.0."):
            pytest.skip("Airflow 3.0 does not retry killed tasks")
        appointments = book(sandbox, CHANGES)
        watch.until_baseline()
        kill = threading.Thread(target=watch.kill_task)
        kill.start()
        for appointment_id in appointments[:BURST]:
            watch.change(appointment_id)
        kill.join()
        watch.kill_triggerer()
        for appointment_id in appointments[BURST:]:
            watch.change(appointment_id)
            time.sleep(0.3)
        watch.until_told()
        figures = watch.summary()
    assert (figures["missing"], figures["repeated"]) == (0, 0)
    assert (figures["triggerers killed"], figures["tasks killed"]) == (1, 1)
