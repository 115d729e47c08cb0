"""
Sessions for other versions of Airflow and Python, the lowest dependencies, and the wheel.

``nox`` lists the sessions, and ``nox -s wheel`` runs those with that name. Arguments after ``--`` go to
pytest: ``nox -s tests -- -m "not airflow_run"``.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.sessions = []

#: Each version at least once: oldest with oldest, newest with newest, and crosswise. CI runs only the tagged
#: one, to end within an hour, since ``make test`` already covers the oldest and the newest Airflow.
AIRFLOW_AND_PYTHON: list[tuple[str, str, list[str]]] = [
    ("2.11.2", "3.10", []),
    ("2.11.2", "3.12", []),
    ("3.0.6", "3.11", ["ci"]),
    ("3.1.8", "3.12", []),
    ("3.2.2", "3.13", []),
    ("3.3.2", "3.10", []),
    ("3.3.2", "3.13", []),
]


def install(session: nox.Session, constraints: str, *packages: str) -> None:
    """Install packages with pinned versions, also those of build dependencies."""
    file = f"constraints/{constraints}.txt"
    session.install("--constraint", file, "--build-constraint", file, *packages)


@nox.session
@nox.parametrize(
    ["airflow", "python"],
    [
        nox.param(airflow, python, id=f"airflow-{airflow}-python-{python}", tags=tags)
        for airflow, python, tags in AIRFLOW_AND_PYTHON
    ],
)
def tests(session: nox.Session, airflow: str) -> None:
    """Run the tests on one Airflow and one Python."""
    install(
        session, f"airflow-{airflow}", f"apache-airflow=={airflow}", "--group=test", "--editable=.[sandbox]"
    )
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python="3.10")
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that pyproject.toml allows."""
    install(session, "lowest", "apache-airflow", "--group=test", "--editable=.[sandbox]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(tags=["ci"])
@nox.parametrize(["airflow", "python"], [("2.11.2", "3.10"), ("3.3.2", "3.13")])
def wheel(session: nox.Session, airflow: str) -> None:
    """Install the wheel into an empty environment, and run the README's first DAG and its test there."""
    folder = session.create_tmp()
    session.run("uv", "build", "--quiet", "--wheel", "--clear", f"--out-dir={folder}")
    extra = "[sandbox]" if airflow.startswith("2.") else ""
    (file,) = Path(folder).glob("*.whl")
    install(session, f"airflow-{airflow}", f"apache-airflow=={airflow}", f"{file}{extra}", "pytest")
    session.run("python", "scripts/first_dag.py")


@nox.session(python="3.13")
def docs(session: nox.Session) -> None:
    """Build the documentation on the newest Python."""
    install(session, "airflow-3.3.2", "apache-airflow==3.3.2", "--group=docs", ".")
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-q", "docs", session.create_tmp())
