"""
Run the README's first DAG and its test with the installed provider, as a newcomer would, and check both.

Run by ``nox -s wheel``, in an environment that has Airflow, the wheel and pytest, but not this checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

import airflow

import airflow_provider_webcamconsult
from airflow_provider_webcamconsult.sandbox import Sandbox

ROOT = Path(__file__).resolve().parent.parent

COMMAND_TIMEOUT = 180  # seconds
TEST_TIMEOUT = 300  # seconds


def first_dag() -> str:
    """Return the README's DAG, changed for Airflow 2.11 as the README says."""
    section = (ROOT / "README.md").read_text().split("\n## Quick start\n")[1]
    dag = section.split("```python\n")[1].split("```")[0]
    if airflow.__version__.startswith("2."):
        dag = dag.replace("from airflow.sdk import dag", "from airflow.decorators import dag")
    return dag


def run(*arguments: str, env: dict[str, str]) -> str:
    """Run this environment's ``airflow`` and return its output. If it fails, print that and exit."""
    command = [sys.executable, "-m", "airflow", *arguments]
    done = subprocess.run(
        command, env=env, cwd=env["AIRFLOW_HOME"], capture_output=True, text=True, timeout=COMMAND_TIMEOUT
    )
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        sys.exit(f"`airflow {' '.join(arguments)}` exited with status {done.returncode}.")
    return done.stdout


def first_test() -> str:
    """Return the guide's test of the DAG."""
    section = (ROOT / "docs" / "guides" / "sandbox.rst").read_text().split("``webcamconsult_dag`` loads")[1]
    block = section.split(".. code-block:: python\n")[1].split("\n- ")[0]
    return textwrap.dedent(block)


def run_first_test() -> None:
    """Run the guide's test of the DAG, in a project as a user has it."""
    with TemporaryDirectory(prefix="project-") as folder:
        project = Path(folder)
        files = {
            "pytest.ini": "[pytest]\naddopts = --strict-markers\n",
            "dags/my_first_consult.py": first_dag(),
            "tests/test_my_first_consult.py": first_test(),
        }
        for name, text in files.items():
            (project / name).parent.mkdir(exist_ok=True)
            (project / name).write_text(text)
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        env["AIRFLOW_HOME"] = str(project / "home-of-the-user")
        done = subprocess.run([sys.executable, "-m", "pytest"], cwd=project, env=env, timeout=TEST_TIMEOUT)
        if done.returncode:
            sys.exit("The guide's test failed.")
        if (project / "home-of-the-user" / "airflow.db").exists():
            sys.exit("The test created a database in the user's own Airflow home.")


def main() -> None:
    """Check that Airflow finds the provider, run the DAG, and check the appointment."""
    installed = Path(airflow_provider_webcamconsult.__file__)
    if ROOT / "airflow_provider_webcamconsult" in installed.parents:
        sys.exit(f"{installed} belongs to the checkout. Install the wheel.")
    with TemporaryDirectory(prefix="airflow-home-") as home, Sandbox(states="finished") as sandbox:
        connection = {"conn_type": "webcamconsult", "host": sandbox.url, "password": sandbox.token}
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT": json.dumps(connection),
        }
        found = run("providers", "get", "airflow-provider-webcamconsult", env=env)
        if airflow_provider_webcamconsult.__version__ not in found:
            sys.exit(f"Airflow did not find the provider:\n{found}")
        dags = Path(home, "dags")
        dags.mkdir()
        (dags / "my_first_consult.py").write_text(first_dag())
        run("db", "migrate", env=env)
        ids = json.dumps({"user_id": "a-user", "client_id": "a-client"})
        run("dags", "test", "my_first_consult", "--conf", ids, env=env)
        booked = [(record["client_id"], record["date"]) for record in sandbox.records("appointments")]
    if booked != [("a-client", "2030-03-01T09:30:00.000+01:00")]:
        sys.exit(f"The DAG ended, but booked these appointments: {booked}")
    print(f"On Airflow {airflow.__version__}, the README's first DAG booked one appointment.")
    run_first_test()


if __name__ == "__main__":
    main()
