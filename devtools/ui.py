"""A real Airflow with its UI, the example DAGs, and a connection to the sandbox."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from devtools import ROOT
from devtools.local_airflow import LocalAirflow
from devtools.local_sandbox import LocalSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAGS = ROOT / "example_dags"
CONN_ID = "webcamconsult_default"


@contextlib.contextmanager
def open_ui(home: Path, python: str, port: int = 0) -> Iterator[tuple[LocalAirflow, LocalSandbox]]:
    """Run an Airflow with the example DAGs, and with the connection to the sandbox in its database."""
    with LocalSandbox(home / "logs" / "components" / "sandbox.log") as sandbox:
        airflow = LocalAirflow(
            home, DAGS, python=python, config={"core": {"test_connection": "Enabled"}}, ui=True, port=port
        )
        print(f"Sandbox: {sandbox.describe()}")
        print(f"Airflow {airflow.version}: starting (takes about 30 s)", flush=True)
        with airflow:
            # The Test button of Airflow 3.3.2 works only with a separate port.
            url = urlsplit(sandbox.connection["host"])
            address = {"host": f"{url.scheme}://{url.hostname}", "port": url.port}
            connection = json.dumps({**sandbox.connection, **address})
            airflow.command("connections", "add", CONN_ID, "--conn-json", connection)
            yield airflow, sandbox
