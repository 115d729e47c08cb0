"""Keep a real Airflow with its UI running, against the sandbox, until Ctrl-C.

Run by `make ui`, and with the interpreter of another environment to show another Airflow: `ui.py PYTHON`.
Everything that is made is in `.airflow/ui`, which is made anew each time and kept at the end; everything that
is started is stopped.
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
"""Airflow's own; where it is taken, the UI is on a free one."""

LOOK_INTERVAL = 1.0  # seconds


def run(python: str) -> None:
    """Keep it running until an exception or a signal."""
    with open_ui(HOME, python, PORT) as (airflow, _):
        for dag in DAGS.glob("*.py"):
            airflow.wait_for_dag(dag.stem)
        connections = "connections" if airflow.is_airflow_3 else "connection/list/"
        print(
            f"""
Airflow is at {airflow.url} (no login is needed). Look at
  the connection {CONN_ID}: edit it, and press Test    {airflow.url}/{connections}
  the DAG booking: trigger it                                  {airflow.url}/dags/booking
Ctrl-C stops it.""",
            flush=True,
        )
        while True:
            airflow.check_alive()
            time.sleep(LOOK_INTERVAL)


def main() -> int:
    """Run until Ctrl-C; 1 if something failed."""
    stop_on_signals()
    try:
        with new_home(HOME):
            run(sys.argv[1] if len(sys.argv) > 1 else sys.executable)
    except KeyboardInterrupt:
        print("Nothing is left running.")
    except (LocalAirflowError, LocalSandboxError, OSError) as error:
        print(f"\n{error}\nThe logs are kept in {os.path.relpath(HOME)}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
