"""Read connections with the hook, in a process of the tested Airflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devtools.local_airflow import LocalAirflow

READ_TIMEOUT = 120.0  # seconds

_READ = """
import dataclasses, json, sys
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
for conn_id in sys.argv[1:]:
    settings = WebcamconsultHook(conn_id).settings
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    assert values.pop("conn_id") == conn_id
    print("READ " + json.dumps({**values, "timezone": settings.timezone.name}))
"""


def read_connections(
    airflow: LocalAirflow, *conn_ids: str, env: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return the settings of each connection, as the hook reads them on this Airflow."""
    run = subprocess.run(
        [str(airflow.python), "-c", _READ, *conn_ids],
        env={
            **os.environ,
            "AIRFLOW_HOME": str(airflow.home),
            # Only server processes of Airflow 3 may read the database.
            "_AIRFLOW_PROCESS_CONTEXT": "server",
            **(env or {}),
        },
        capture_output=True,
        text=True,
        timeout=READ_TIMEOUT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in re.findall(r"^READ (.*)", run.stdout, re.MULTILINE)]
