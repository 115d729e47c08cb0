"""Fixtures: a real Airflow, and the sandbox that its DAGs use."""

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

collect_ignore = ["stories"]
"""A project of its own, which test_stories.py tests."""

AIRFLOW_2_11_PYTHON = "AIRFLOW_2_11_PYTHON"
"""The environment variable with the interpreter of an environment with Airflow 2.11. `make test` sets it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests in this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.airflow_run)


@pytest.fixture(scope="session")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return the DAGs folder of `local_airflow`: copies of `example_dags/` and of `dags/` beside this file.

    Airflow reads added files within seconds. A test that adds a file must delete it at the end.
    """
    folder = tmp_path_factory.mktemp("dags")
    for source in (ROOT / "example_dags", Path(__file__).parent / "dags"):
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="session", params=["airflow-3", "airflow-2.11"])
def airflow_python(request: pytest.FixtureRequest) -> str:
    """
    Return the interpreter of each Airflow in turn, so that a test runs once with each version.

    One is the interpreter that runs the tests. If it has Airflow 3, the environment variable
    AIRFLOW_2_11_PYTHON names the one with Airflow 2.11. Without the variable, its tests are skipped.
    """
    is_airflow_2 = importlib.metadata.version("apache-airflow").startswith("2.")
    if is_airflow_2 is (request.param == "airflow-2.11"):
        return sys.executable
    if is_airflow_2:
        pytest.skip("this environment has no Airflow 3")
    python = os.environ.get(AIRFLOW_2_11_PYTHON)
    if not python:
        pytest.skip(f"{AIRFLOW_2_11_PYTHON} is not set (`make test` sets it on Python 3.10 to 3.12)")
    return python


@pytest.fixture(scope="session")
def airflow_sandbox(airflow_python: str) -> Iterator[Sandbox]:
    """
    The sandbox that `local_airflow` uses, one for each version of Airflow.

    Its appointments stay idle until a test sets their state. The tests share its records, so select those of
    a run by the ids that its tasks returned.
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
    """URL of a host that responds with web pages."""
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
    A running Airflow, one for each version in turn, for all tests of the session.

    It has the DAGs of `dags_folder`, the connection `webcamconsult_default` to `airflow_sandbox`, and the
    faulty connections `without_token`, `wrong_token` and `html`. Only triggered DAGs run:

        run_id = local_airflow.trigger("booking")
        assert local_airflow.wait("booking", run_id) == "success"
        appointment_id = local_airflow.xcom("booking", run_id, "book_consult")
    """
    valid = {"conn_type": "webcamconsult", "host": airflow_sandbox.url, "password": airflow_sandbox.token}
    connections = {
        "webcamconsult_default": valid,
        "without_token": {**valid, "password": ""},
        "wrong_token": {**valid, "password": "of-nobody"},
        "html": {**valid, "host": web_page},
    }
    with LocalAirflow(
        tmp_path_factory.mktemp("airflow-home"),
        dags_folder,
        python=airflow_python,
        env={f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()},
        # Seconds until a triggerer takes over the triggers of a killed one.
        config={"triggerer": {"triggerer_health_check_threshold": "10"}},
    ) as airflow:
        yield airflow
