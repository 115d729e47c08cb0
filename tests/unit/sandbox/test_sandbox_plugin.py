"""The fixture with a sandbox that the pytest plugin has; `tests/system` has those that run a DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

PLUGIN = "airflow_provider_webcamconsult.sandbox.pytest_plugin"

NOTHING_IMPORTED = """
    import sys

    def test_modules():
        assert not {"airflow", "requests", "starlette", "uvicorn"} & {*sys.modules}
    """
# In one module, because each run imports Airflow.
FIXTURE = """
    import os
    import pytest

    VARIABLE = "AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT"

    @pytest.fixture
    def hook():
        from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
        return WebcamconsultHook()

    @pytest.mark.parametrize("number", [1, 2])
    def test_sandbox_is_empty_and_connected(webcamconsult_sandbox, hook, number):
        hook.users.create({"last_name": "Akkermans"})
        assert len(webcamconsult_sandbox.records("users")) == 1

    @pytest.mark.webcamconsult_sandbox(states="booked", plural_paths=True)
    def test_marker_passes_arguments(webcamconsult_sandbox, hook):
        created = hook.appointments.create({"date": "2030-03-01T09:30"})
        assert hook.appointments.get(created["id"])["state"] == "booked"

    def test_connection_is_the_users_again():
        assert os.environ[VARIABLE] == "of the user"
    """


@pytest.fixture
def passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    # Otherwise, pytest finds the plugin twice if the entry point is installed.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT", "of the user")

    def passes(code: str, tests: int) -> None:
        pytester.makepyfile(code)
        # Not in this process: Airflow 2.11 cannot be imported twice.
        run = pytester.runpytest_subprocess("-p", PLUGIN, "-p", "no:cacheprovider", "--strict-markers")
        run.assert_outcomes(passed=tests)

    return passes


def test_plugin_imports_nothing_of_airflow(passes: Callable[[str, int], None]) -> None:
    passes(NOTHING_IMPORTED, 1)


def test_each_test_has_its_own_sandbox_and_connection(passes: Callable[[str, int], None]) -> None:
    passes(FIXTURE, 4)
