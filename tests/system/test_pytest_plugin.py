"""The pytest plugin runs a DAG in a project as a user has it, without a running Airflow."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from devtools import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    RunProject = Callable[[str, str], str]

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
    """Write a project with one DAG and one module of tests, and run pytest in its folder."""

    def run(dag: str, tests: str) -> str:
        files = {
            "pytest.ini": "[pytest]\naddopts = --strict-markers\n",
            "dags/a_dag.py": dag,
            "dags/helper.py": "REASON = 'a reason'\n",
            "tests/test_a_dag.py": tests,
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


def test_the_guides_tests_of_a_dag_pass(
    run_project: RunProject, request: pytest.FixtureRequest, airflow_python: str
) -> None:
    is_airflow_2 = "airflow-2.11" in request.node.callspec.id
    readme, guide = ((ROOT / name).read_text() for name in ("README.md", "docs/guides/sandbox.rst"))
    (dag,) = (
        code for code in re.findall(r"(?ms)^```python\n(.*?)^```$", readme) if "my_first_consult" in code
    )
    dag = dag.replace("from airflow.sdk import dag", "from airflow.providers.common.compat.sdk import dag")
    blocks = re.findall(r"(?m)^\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)", guide)
    tests = "\n".join(textwrap.dedent(block) for block in blocks if "webcamconsult_dag(" in block)
    if is_airflow_2:
        tests = tests.replace("logical_date=", "execution_date=")

    output = run_project(dag, tests.replace("my_first_consult.py", "a_dag.py"))

    assert re.search("^=+ 3 passed", output, re.MULTILINE), output


def test_the_guides_test_of_changes_passes(run_project: RunProject, airflow_python: str) -> None:
    if airflow_python != sys.executable or version("apache-airflow") < "3.3":
        pytest.skip("Airflow keeps the state of assets from 3.3")
    guide = (ROOT / "docs/guides/changes.rst").read_text()
    examples = re.findall(r"(?m)^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", guide)
    (test,) = (code for code in examples if "def test_" in code)

    output = run_project(
        textwrap.dedent(examples[0]), textwrap.dedent(test).replace("follow_changes.py", "a_dag.py")
    )

    assert re.search("^=+ 1 passed", output, re.MULTILINE), output


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
    output = run_project(FAILING_DAG, tests)

    assert re.search("^=+ 1 failed, 2 passed", output, re.MULTILINE), output
    assert "There is no file" in output


def test_an_import_error_of_the_dag_is_the_tests_failure(run_project: RunProject) -> None:
    tests = 'def test_imports(webcamconsult_dag):\n    webcamconsult_dag("dags/a_dag.py")\n'

    # Airflow reads only files that have the words "airflow" and "dag".
    output = run_project("import no_such_module  # of an Airflow DAG\n", tests)

    assert re.search("^=+ 1 failed", output, re.MULTILINE), output
    assert "No module named 'no_such_module'" in output
