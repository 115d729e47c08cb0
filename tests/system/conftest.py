"""A real Airflow for tests, with the sandbox behind it."""

from __future__ import annotations

import http.server
import importlib.metadata
import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_webcamconsult.sandbox import Sandbox
from devtools import ROOT
from devtools.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator

AIRFLOW_2_11_PYTHON = "AIRFLOW_2_11_PYTHON"
"""The variable with the interpreter of an environment that has Airflow 2.11; `make test` sets it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.airflow_run)


@pytest.fixture(scope="session")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return the DAGs folder of `local_airflow`: copies of `example_dags/` and of `dags/` beside this file.

    A file that a test adds is read within seconds; take it away again at the end of the test.
    """
    folder = tmp_path_factory.mktemp("dags")
    for source in (ROOT / "example_dags", Path(__file__).parent / "dags"):
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="session", params=["airflow-3", "airflow-2.11"])
def airflow_python(request: pytest.FixtureRequest) -> str:
    """
    Return the interpreter of each Airflow in turn: a test that uses it runs once with each version.

    One is that of the environment that runs the tests. If that is an Airflow 3, Airflow 2.11 is in another,
    whose interpreter the variable AIRFLOW_2_11_PYTHON names; without it, its tests are skipped.
    """
    is_airflow_2 = importlib.metadata.version("apache-airflow").startswith("2.")
    if is_airflow_2 is (request.param == "airflow-2.11"):
        return sys.executable
    if is_airflow_2:
        pytest.skip("this environment has Airflow 2")
    python = os.environ.get(AIRFLOW_2_11_PYTHON)
    if not python:
        pytest.skip(f"{AIRFLOW_2_11_PYTHON} names no interpreter (make test sets it on Python 3.10 to 3.12)")
    return python


@pytest.fixture(scope="session")
def airflow_sandbox(airflow_python: str) -> Iterator[Sandbox]:
    """
    Give the sandbox that `local_airflow` speaks to, one for each version of Airflow.

    Its appointments stay idle until a test sets their state. Its records stay from test to test: look for
    those of your own run, by the ids that its tasks returned.
    """
    with Sandbox() as sandbox:
        yield sandbox


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = b"<!doctype html><title>Welcome</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def web_page() -> Iterator[str]:
    """Give the address of a host that answers with web pages."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def local_airflow(
    airflow_python: str,
    airflow_sandbox: Sandbox,
    web_page: str,
    dags_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LocalAirflow]:
    """
    Give a running Airflow, one after the other of each version, for all tests of the session.

    It has the DAGs of `dags_folder`, the connection `webcamconsult_default` to `airflow_sandbox`, and some
    that are wrong: `without_token`, `wrong_token` and `html`. Nothing runs but what a test triggers:

        run_id = local_airflow.trigger("booking")
        assert local_airflow.wait("booking", run_id) == "success"
        appointment_id = local_airflow.xcom("booking", run_id, "book_consult")
    """
    usual = {"conn_type": "webcamconsult", "host": airflow_sandbox.url, "password": airflow_sandbox.token}
    connections = {
        "webcamconsult_default": usual,
        "without_token": {**usual, "password": ""},
        "wrong_token": {**usual, "password": "wrong"},
        "html": {**usual, "host": web_page},
    }
    with LocalAirflow(
        tmp_path_factory.mktemp("airflow-home"),
        dags_folder,
        python=airflow_python,
        env={
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()},
            # Airflow 2 refuses SQLite with an executor that runs tasks side by side; for few it serves.
            "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
        },
        config={
            "core": {"executor": "LocalExecutor"},
            # Else two tasks of Airflow 2 that end together both schedule the next: that counts two tries.
            "scheduler": {"schedule_after_task_execution": "False"},
            # After how long another triggerer takes over from one that was killed.
            "triggerer": {"triggerer_health_check_threshold": "10"},
        },
    ) as airflow:
        yield airflow
