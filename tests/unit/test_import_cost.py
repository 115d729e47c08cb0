"""What an import costs: the scheduler parses DAGs all day, and most of them send nothing."""

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


def test_a_dag_file_loads_neither_an_http_library_nor_the_sandbox() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _ADDED_TO_AIRFLOW],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (added,) = [json.loads(line[6:]) for line in run.stdout.splitlines() if line.startswith("ADDED ")]
    assert "airflow_provider_webcamconsult.sensors.appointments" in added
    heavy = ("requests", "urllib3", "starlette", "uvicorn", "airflow_provider_webcamconsult.sandbox")
    assert [module for module in added if module.startswith(heavy)] == []


def test_the_description_for_airflow_needs_nothing_but_python() -> None:
    # Isolated and without site-packages: what is not of the standard library is not to be found.
    code = (
        f"import json, sys; sys.path.insert(0, {str(ROOT)!r}); "
        "from airflow_provider_webcamconsult.get_provider_info import get_provider_info; "
        "print(json.dumps(get_provider_info()))"
    )
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["name"] == "Webcamconsult"
