"""Keep a real Airflow with its UI running, against a local Webcamconsult, until Ctrl-C.

Run by `make ui`, and with the interpreter of another environment to show another Airflow: `ui.py PYTHON`.
Everything that is made is in `.airflow/ui`, which is made anew each time and kept at the end; everything that
is started is stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from local_airflow import ROOT, LocalAirflow, LocalAirflowError, new_home, stop_on_signals
from local_sandbox import LocalSandbox, LocalSandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAGS = ROOT / "example_dags"
HOME = ROOT / ".airflow" / "ui"
CONN_ID = "webcamconsult_default"

PORT = 8080
"""Airflow's own; where it is taken, the UI is on a free one."""

LOOK_INTERVAL = 1.0  # seconds


@contextlib.contextmanager
def open_ui(home: Path, python: str, port: int = 0) -> Iterator[tuple[LocalAirflow, LocalSandbox]]:
    """Run an Airflow with the example DAGs, and the connection to a local Webcamconsult in its database."""
    with LocalSandbox(home / "logs" / "components" / "sandbox.log") as sandbox:
        airflow = LocalAirflow(
            home, DAGS, python=python, config={"core": {"test_connection": "Enabled"}}, ui=True, port=port
        )
        print(f"Local Webcamconsult: {sandbox.describe()}")
        print(f"Airflow {airflow.version}: starting, which takes half a minute", flush=True)
        with airflow:
            # The Test button of Airflow 3.3.2 needs a port.
            url = urlsplit(sandbox.connection["host"])
            address = {"host": f"{url.scheme}://{url.hostname}", "port": url.port}
            connection = json.dumps({**sandbox.connection, **address})
            airflow.command("connections", "add", CONN_ID, "--conn-json", connection)
            yield airflow, sandbox


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
