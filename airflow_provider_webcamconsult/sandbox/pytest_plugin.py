"""
The pytest plugin of the sandbox: fixtures to test a DAG. pytest loads it wherever the provider is installed.

Nothing of Airflow is imported, and nothing starts, until a test asks for a fixture.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from airflow_provider_webcamconsult.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARKER = "webcamconsult_sandbox"
CONNECTION = "AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT"


def pytest_configure(config: pytest.Config) -> None:
    """
    Register the marker.

    :param config: the configuration of pytest.
    """
    config.addinivalue_line("markers", f"{MARKER}(**arguments): arguments of the Sandbox of the test")


@pytest.fixture
def webcamconsult_sandbox(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    """
    Run a sandbox without records, to which the connection `webcamconsult_default` leads.

    `@pytest.mark.webcamconsult_sandbox(states="idle:1s,finished")` passes arguments to `Sandbox`.
    """
    marker = request.node.get_closest_marker(MARKER)
    arguments: dict[str, Any] = marker.kwargs if marker else {}
    with Sandbox(**arguments) as sandbox:
        connection: dict[str, Any] = {
            "conn_type": "webcamconsult",
            "host": sandbox.url,
            "password": sandbox.token,
        }
        if arguments.get("plural_paths"):
            connection["extra"] = {"plural_paths": True}
        monkeypatch.setenv(CONNECTION, json.dumps(connection))
        yield sandbox


@pytest.fixture(scope="session")
def _webcamconsult_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give Airflow a migrated database of its own, in a folder of the session."""
    home = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as patch:
        if "airflow" not in sys.modules:
            patch.setenv("AIRFLOW_HOME", str(home))
        patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{home / 'airflow.db'}")
        patch.delenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC", raising=False)
        from airflow import settings
        from airflow.utils.db import initdb

        # A test module that imports Airflow has bound it to the database of the user.
        _connect(settings)
        initdb()
        yield
        settings.dispose_orm()
    _connect(settings)


def _connect(settings: Any) -> None:
    """Let Airflow use the database and the DAGs folder that its configuration names now."""
    settings.configure_vars()
    settings.configure_orm()


class LoadDag(Protocol):
    """Load a DAG from its file, so that `dag.test()` works."""

    def __call__(self, path: str | Path, dag_id: str | None = None) -> Any:
        """
        Return the DAG. Its tasks are not retried, so that a failure ends the test.

        :param path: the file, absolute or relative to pytest's root folder. Airflow reads its whole folder.
        :param dag_id: id of the DAG, for a file with several.
        """


@pytest.fixture
def webcamconsult_dag(
    _webcamconsult_airflow: None,
    webcamconsult_sandbox: Sandbox,  # so that a DAG never reaches the service that the environment names
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[LoadDag]:
    """
    Load a DAG from its file, with a database for `dag.test()`: `webcamconsult_dag("dags/booking.py")`.

    The connection `webcamconsult_default` leads to the test's sandbox.
    """
    from airflow import settings

    configure: Any = settings.configure_vars

    def load(path: str | Path, dag_id: str | None = None) -> Any:
        file = pytestconfig.rootpath / path
        if not file.is_file():
            raise FileNotFoundError(
                f"There is no file {file}. Pass a path relative to {pytestconfig.rootpath}."
            )
        monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(file.parent))
        monkeypatch.syspath_prepend(file.parent)
        configure()
        bag = _dag_bag(file)
        if bag.import_errors:
            pytest.fail("\n".join(bag.import_errors.values()), pytrace=False)
        if dag_id is None and len(bag.dags) != 1:
            pytest.fail(f"{file} has {len(bag.dags)} DAGs. Pass the dag_id of one of them: {[*bag.dags]}.")
        dag = bag.dags[dag_id or next(iter(bag.dags))]
        for task in dag.tasks:
            if hasattr(task, "partial_kwargs"):
                task.partial_kwargs["retries"] = 0
            else:
                task.retries = 0
        return dag

    yield load
    monkeypatch.undo()
    configure()


def _dag_bag(file: Path) -> Any:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]
    return DagBag(os.fspath(file))
