"""
Run a real Airflow with its UI against the sandbox, until Ctrl-C.

Run by `make ui`. `ui.py PYTHON` runs the Airflow of a different environment. All files are in `.airflow/ui`,
which each run empties first. All processes are stopped at the end.
"""

from __future__ import annotations

import os
import sys
import time

from devtools import ROOT
from devtools.local_airflow import LocalAirflowError, new_home, stop_on_signals
from devtools.local_sandbox import LocalSandboxError
from devtools.ui import CONN_ID, DAGS, open_ui

HOME = ROOT / ".airflow" / "ui"

PORT = 8080
"""Airflow's default port. If it is taken, the UI uses a free one."""

CHECK_INTERVAL = 1.0  # seconds


def run(python: str) -> None:
    """Run until an exception or a signal."""
    with open_ui(HOME, python, PORT) as (airflow, _):
        for dag in DAGS.glob("*.py"):
            airflow.wait_for_dag(dag.stem)
        connections = "connections" if airflow.is_airflow_3 else "connection/list/"
        print(
            f"""
Airflow is running at {airflow.url} (no login needed). Try:
  edit and test the connection {CONN_ID}    {airflow.url}/{connections}
  trigger the DAG booking                               {airflow.url}/dags/booking
Press Ctrl-C to stop.""",
            flush=True,
        )
        while True:
            airflow.check_alive()
            time.sleep(CHECK_INTERVAL)


def main() -> int:
    """Run until Ctrl-C. Return 1 if something failed."""
    stop_on_signals()
    try:
        with new_home(HOME):
            run(sys.argv[1] if len(sys.argv) > 1 else sys.executable)
    except KeyboardInterrupt:
        print("Nothing is left running.")
    except (LocalAirflowError, LocalSandboxError, OSError) as error:
        print(f"\n{error}\nThe logs are in {os.path.relpath(HOME)}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
