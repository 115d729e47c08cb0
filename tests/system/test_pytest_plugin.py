"""The pytest plugin runs a DAG in a project as a user has it, without a running Airflow."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from airflow_provider_webcamconsult.version_compat import AIRFLOW_VERSION
from devtools import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    RunProject = Callable[[dict[str, str], str], str]

PLUGIN = "airflow_provider_webcamconsult.sandbox.pytest_plugin"
TIMEOUT = 300  # seconds
#: What the shell of a user may have; nothing listens there.
LIVE_CONNECTION = "webcamconsult://:of-the-user@http%3A%2F%2F127.0.0.1:1"
FAILING_DAG = """
from airflow.providers.common.compat.sdk import dag, task
from helper import REASON


@dag(schedule=None, default_args={"retries": 3})
def failing():
    @task
    def fail(number):
        raise ValueError(REASON)

    fail.expand(number=[1])


failing()
"""


@pytest.fixture
def run_project(airflow_python: str, tmp_path: Path) -> RunProject:
    """Write a project with DAGs and one module of tests, and run pytest in its folder."""

    def run(dags: dict[str, str], tests: str) -> str:
        files = {
            "pytest.ini": "[pytest]\naddopts = --strict-markers\n",
            **{f"dags/{name}.py": code for name, code in dags.items()},
            "dags/helper.py": "REASON = 'a reason'\n",
            "tests/test_dags.py": tests,
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        env = {
            **os.environ,
            "AIRFLOW_HOME": str(tmp_path / "home-of-the-user"),
            # The environment's entry point may be of another checkout.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT": LIVE_CONNECTION,
        }
        command = [airflow_python, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=TIMEOUT)
        assert not (tmp_path / "home-of-the-user" / "airflow.db").exists()
        return done.stdout

    return run


def python_blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text()
    found = re.findall(r"(?m)^\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)", text)
    return [textwrap.dedent(code) for code in found] + re.findall(r"(?ms)^```python\n(.*?)^```$", text)


def test_the_guides_tests_of_dags_pass(
    run_project: RunProject, request: pytest.FixtureRequest, airflow_python: str
) -> None:
    is_airflow_2 = "airflow-2.11" in request.node.callspec.id
    guides = ["sandbox", "reminders", "syncing", "exports"]
    if airflow_python == sys.executable and AIRFLOW_VERSION >= (3, 3):
        guides.append("changes")  # earlier, Airflow does not keep the state of assets
    blocks = [
        code
        for page in ["README.md", *(f"docs/guides/{name}.rst" for name in guides)]
        for code in python_blocks(page)
    ]
    tests = "\n".join(code for code in blocks if "webcamconsult_dag(" in code)
    names = {*re.findall(r"dags/(\w+)\.py", tests)}
    dags = {name: code for code in blocks for name in names if code.rstrip().endswith(f"\n{name}()")}
    assert len(dags) == len(guides)
    dags = {
        name: code.replace(
            "from airflow.sdk import dag", "from airflow.providers.common.compat.sdk import dag"
        )
        for name, code in dags.items()
    }
    if is_airflow_2:
        tests = tests.replace("logical_date=", "execution_date=")

    output = run_project(dags, tests)

    assert re.search(rf"^=+ {tests.count('def test_')} passed", output, re.MULTILINE), output


def test_a_failing_task_ends_the_run_without_retries(run_project: RunProject) -> None:
    # Importing Airflow here binds it to the database of the user before any fixture starts.
    tests = """
import airflow.models


def test_fails(webcamconsult_dag):
    assert webcamconsult_dag("dags/a_dag.py", "failing").test().state == "failed"


def test_unknown_file(webcamconsult_dag):
    webcamconsult_dag("dags/another.py")


def test_uses_no_connection_of_the_user(webcamconsult_dag):
    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook

    assert WebcamconsultHook().appointments.list() == []
"""
    output = run_project({"a_dag": FAILING_DAG}, tests)

    assert re.search("^=+ 1 failed, 2 passed", output, re.MULTILINE), output
    assert "There is no file" in output


def test_an_import_error_of_the_dag_is_the_tests_failure(run_project: RunProject) -> None:
    tests = 'def test_imports(webcamconsult_dag):\n    webcamconsult_dag("dags/a_dag.py")\n'

    # Airflow reads only files that have the words "airflow" and "dag".
    output = run_project({"a_dag": "import no_such_module  # of an Airflow DAG\n"}, tests)

    assert re.search("^=+ 1 failed", output, re.MULTILINE), output
    assert "No module named 'no_such_module'" in output
