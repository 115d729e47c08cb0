"""Imports stay cheap, because the scheduler parses DAG files all the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from devtools import ROOT

_ADDED_TO_AIRFLOW = """
import json, sys
try:
    from airflow.sdk import BaseOperator
except ImportError:
    import airflow.sensors.base
    from airflow.models import BaseOperator
BaseOperator(task_id="bare")  # Airflow 3.0 loads its web server at the first operator
before = {*sys.modules}
from airflow_provider_webcamconsult.operators import appointments, clients, users
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor
clients.WebcamconsultCreateClientOperator(task_id="make", attributes={"date_of_birth": "1984-12-18"})
WebcamconsultAppointmentStateSensor(task_id="wait", appointment_id="an-id", deferrable=True)
print("ADDED " + json.dumps(sorted({*sys.modules} - before)))
"""


def test_dag_file_imports_no_http_library_no_json_library_and_no_sandbox() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _ADDED_TO_AIRFLOW],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (added,) = [json.loads(line[6:]) for line in result.stdout.splitlines() if line.startswith("ADDED ")]
    assert "airflow_provider_webcamconsult.sensors.appointments" in added
    heavy = (
        "msgspec",
        "requests",
        "urllib3",
        "starlette",
        "uvicorn",
        "airflow_provider_webcamconsult.sandbox",
    )
    assert [module for module in added if module.startswith(heavy)] == []


def test_provider_info_needs_only_standard_library() -> None:
    # -I and -S: isolated and without site-packages, only the standard library can be imported.
    code = (
        f"import json, sys; sys.path.insert(0, {str(ROOT)!r}); "
        "from airflow_provider_webcamconsult.get_provider_info import get_provider_info; "
        "print(json.dumps(get_provider_info()))"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout)["name"] == "Webcamconsult"
