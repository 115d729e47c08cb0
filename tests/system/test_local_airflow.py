"""The local Airflow itself: it reports runs correctly, and leaves no processes behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devtools import ROOT
from devtools.local_airflow import LocalAirflow, LocalAirflowError
from tests.system.processes import TIMEOUT, needs_proc, processes_in, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

DAGS = Path(__file__).parent / "dags"

LONG_RUN = """
import sys
from pathlib import Path
from devtools.local_airflow import LocalAirflow

home, dags, python = sys.argv[1:]
with LocalAirflow(Path(home), Path(dags), python=python) as airflow:
    airflow.wait("toy_long", airflow.trigger("toy_long"))
"""


class TestRun:
    def test_states_and_results_are_reported_from_start_to_end(self, local_airflow: LocalAirflow) -> None:
        run_id = local_airflow.trigger("toy_success", conf={"asked": "for"})

        def is_deferred() -> bool:
            states = {task.task_id: task.state for task in local_airflow.task_states("toy_success", run_id)}
            return states.get("wait") == "deferred"

        wait_until(is_deferred, "deferred")
        assert local_airflow.wait("toy_success", run_id) == "success"

        tasks = local_airflow.task_states("toy_success", run_id)
        assert [(task.task_id, task.map_index, task.state, task.try_number) for task in tasks[:2]] == [
            ("begin", -1, "success", 1),
            ("wait", -1, "success", 1),
        ]
        assert sorted((task.task_id, task.map_index, task.state) for task in tasks[2:]) == [
            ("double", 0, "success"),
            ("double", 1, "success"),
        ]
        assert all(task.start and task.end and task.start <= task.end for task in tasks)

        assert local_airflow.xcom("toy_success", run_id, "begin") == {"numbers": [1, 2], "word": "été"}
        assert local_airflow.xcom("toy_success", run_id, "wait") == 3.0
        assert local_airflow.xcom("toy_success", run_id, "double", map_index=1) == 4
        assert local_airflow.xcom("toy_success", run_id, "no such task") is None
        assert "conf: {'asked': 'for'}" in local_airflow.task_log("toy_success", run_id, "begin")

    def test_failure_is_described_with_its_reason(self, local_airflow: LocalAirflow) -> None:
        run_id = local_airflow.trigger("toy_failure")

        assert local_airflow.wait("toy_failure", run_id) == "failed"

        assert "ValueError: the reason for the failure" in local_airflow.task_log(
            "toy_failure", run_id, "fail"
        )
        description = local_airflow.describe_run("toy_failure", run_id)
        assert description.startswith("fail: failed (try 1)")
        assert "the reason for the failure" in description

    def test_trigger_raises_the_import_error_when_the_file_is_broken(
        self, local_airflow: LocalAirflow, broken_file: Path
    ) -> None:
        with pytest.raises(LocalAirflowError, match="Found no DAG toy_broken") as error:
            local_airflow.trigger("toy_broken")

        assert broken_file.name in str(error.value)
        assert "ModuleNotFoundError: No module named 'no_such_module'" in str(error.value)


@pytest.fixture
def broken_file(dags_folder: Path) -> Iterator[Path]:
    # Airflow ignores files that do not mention DAGs.
    file = dags_folder / "toy_broken.py"
    file.write_text("import airflow, no_such_module  # dag")
    yield file
    file.unlink()


class TestCleanup:
    @needs_proc
    def test_no_process_is_left_after_sigterm_during_a_task(
        self, airflow_python: str, tmp_path: Path
    ) -> None:
        script = subprocess.Popen(
            [sys.executable, "-c", LONG_RUN, str(tmp_path), str(DAGS), airflow_python], cwd=ROOT
        )
        try:
            wait_until(
                lambda: "sleep 3600" in processes_in(tmp_path).values() or script.poll() is not None,
                "the task runs",
            )
        finally:
            script.send_signal(signal.SIGTERM)
            status = script.wait(TIMEOUT)

        assert status == 128 + signal.SIGTERM
        assert processes_in(tmp_path) == {}

    @needs_proc
    def test_no_process_is_left_and_the_error_names_the_component_when_one_is_killed(
        self, airflow_python: str, tmp_path: Path
    ) -> None:
        def run() -> None:
            with LocalAirflow(tmp_path, DAGS, python=airflow_python) as airflow:
                run_id = airflow.trigger("toy_long")
                wait_until(lambda: "sleep 3600" in processes_in(tmp_path).values(), "the task runs")
                os.kill(airflow.pid("scheduler"), signal.SIGKILL)
                airflow.wait("toy_long", run_id)

        with pytest.raises(LocalAirflowError, match=r"scheduler exited with status -9. The end of .*\.log:"):
            run()

        assert processes_in(tmp_path) == {}

    @needs_proc
    def test_no_process_is_left_and_the_error_explains_when_the_start_fails(
        self, airflow_python: str, tmp_path: Path
    ) -> None:
        nowhere = {"triggerer": {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////no/such/folder/x.db"}}
        airflow = LocalAirflow(tmp_path, DAGS, python=airflow_python, component_env=nowhere)

        with pytest.raises(
            LocalAirflowError,
            match=r"triggerer exited with status 1(.|\n)*unable to open database file",
        ):
            airflow.__enter__()

        assert processes_in(tmp_path) == {}
