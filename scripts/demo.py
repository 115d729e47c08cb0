"""
Run the example DAG `booking` on a real Airflow against the sandbox, and print each step.

Run by `make demo`. All files are in `.airflow/demo`, which each run empties first. All processes are stopped
at the end.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

from devtools import ROOT
from devtools.local_airflow import (
    END_STATES,
    LocalAirflow,
    LocalAirflowError,
    TaskState,
    new_home,
    stop_on_signals,
)
from devtools.local_sandbox import CONNECTION, LocalSandbox, LocalSandboxError

DAG_ID = "booking"
DAGS = ROOT / "example_dags"
HOME = ROOT / ".airflow" / "demo"

RUN_TIMEOUT = 300.0  # seconds; generous, only a failure reaches it

POLL_INTERVAL = 0.2  # seconds

BEGIN = time.monotonic()

START_TEXTS = {
    "ensure_professional": "finds the professional, or creates a user",
    "ensure_client": "finds the client by reference code, or creates one",
    "book_consult": "creates the appointment",
    "wait_until_over": "checks the state of the appointment",
    "follow_up": "runs after the consult",
}
"""The text for the start of a task; other tasks have none."""

SUCCESS_TEXTS = {
    "ensure_professional": "user {}",
    "ensure_client": "client {}",
    "book_consult": "appointment {}",
    "wait_until_over": "the appointment is '{}'",
}
"""The text for the success of a task, with the value that it returned."""


class DemoError(Exception):
    """The demo failed. The message says why."""


def print_step(subject: str, state: str = "", text: str = "") -> None:
    """Print one step, after the seconds since the start."""
    print(f"{time.monotonic() - BEGIN:6.1f} s  {subject:26} {state:9} {text}".rstrip(), flush=True)


class RunFollower:
    """
    Prints the state changes of the tasks and the appointments.

    :param airflow: the Airflow of the run.
    :param sandbox: the sandbox with the appointments.
    :param run_id: the run.
    """

    def __init__(self, airflow: LocalAirflow, sandbox: LocalSandbox, run_id: str) -> None:
        self.airflow = airflow
        self.sandbox = sandbox
        self.run_id = run_id
        self._states: dict[tuple[str, int], str | None] = {}
        self._deferred: set[tuple[str, int]] = set()
        self._appointments: dict[str, str] = {}

    def follow(self) -> str:
        """Print changes until the run has ended, and return its state."""
        deadline = time.monotonic() + RUN_TIMEOUT
        while True:
            # Read first, so that the last changes are printed too.
            state = self.airflow.run_state(DAG_ID, self.run_id)
            self._print_appointments()
            for task in self.airflow.task_states(DAG_ID, self.run_id):
                self._print_task(task)
            if state in END_STATES:
                return str(state)
            self.airflow.check_alive()
            if time.monotonic() > deadline:
                raise DemoError(f"The run has not ended after {RUN_TIMEOUT:.0f} s.")
            time.sleep(POLL_INTERVAL)

    def _print_task(self, task: TaskState) -> None:
        key = (task.task_id, task.map_index)
        before, now = self._states.get(key), task.state
        self._states[key] = now
        if now == before:
            return
        if before == "deferred":
            print_step(task.task_id, "fired", "the trigger ended the wait; the task returns to a worker")
        if now == "running" and key not in self._deferred:
            print_step(task.task_id, "running", START_TEXTS.get(task.task_id, ""))
        elif now == "deferred":
            self._deferred.add(key)
            print_step(task.task_id, "deferred", "waiting in the triggerer, without a worker slot")
        elif now == "success":
            result = self.airflow.xcom(DAG_ID, self.run_id, task.task_id, task.map_index)
            text = SUCCESS_TEXTS.get(task.task_id, "") if result is not None else ""
            print_step(task.task_id, "success", text.format(result))
        elif now in ("failed", "up_for_retry", "upstream_failed", "skipped"):
            print_step(task.task_id, now.replace("_", " "), f"(try {task.try_number})")

    def _print_appointments(self) -> None:
        for appointment in self.sandbox.records("appointments"):
            appointment_id, state = str(appointment["id"]), str(appointment["state"])
            if self._appointments.get(appointment_id) != state:
                self._appointments[appointment_id] = state
                print_step("  sandbox", "", f"appointment {appointment_id} is '{state}'")


def describe(record: dict[str, Any]) -> str:
    """Return a summary of a record. The people of the example are made up."""
    if "date" in record and "duration" in record:
        who = f"user {record['user_id']} and client {record['client_id']}"
        return f"{who}, {record['date']}, {record['duration']} minutes, '{record['state']}'"
    names = ("titles", "initials", "surname_prefix", "last_name")
    return " ".join(str(record[name]) for name in names if record.get(name))


def print_summary(airflow: LocalAirflow, sandbox: LocalSandbox, run_id: str) -> None:
    """Print the records in the sandbox, and the next steps."""
    print("\nThe sandbox now has:")
    for resource in ("users", "clients", "appointments"):
        for record in sandbox.records(resource):
            print(f"  {resource[:-1]:12} {record['id']}  {describe(record)}")
    logs = (airflow.logs / f"dag_id={DAG_ID}" / f"run_id={run_id}").relative_to(ROOT)
    print("\nNext steps:")
    print(f"  read the DAG                  {(DAGS / f'{DAG_ID}.py').relative_to(ROOT)}")
    print(f"  read the task logs            {logs}")
    print("  use it in your own Airflow    README.md, section 'Install'")
    print("  run the sandbox               .venv/bin/python -m airflow_provider_webcamconsult.sandbox")


def run() -> None:
    """Run the whole demo."""
    print("Setting up:", flush=True)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: print_step("Stopped", "", "nothing is left running"))
        sandbox = stack.enter_context(LocalSandbox(HOME / "logs" / "components" / "sandbox.log"))
        print_step("Sandbox", "up", sandbox.describe())
        airflow = LocalAirflow(HOME, DAGS, env={CONNECTION: sandbox.variable})
        names = ", ".join(component.name for component in airflow.components)
        print_step(f"Airflow {airflow.version}", "starting", names)
        stack.enter_context(airflow)
        print_step(f"Airflow {airflow.version}", "up", airflow.url)
        run_id = airflow.trigger(DAG_ID)
        print_step(f"DAG {DAG_ID}", "started", run_id)
        print("\nThe run:", flush=True)
        state = RunFollower(airflow, sandbox, run_id).follow()
        if state != "success":
            raise DemoError(f"The run failed.\n{airflow.describe_run(DAG_ID, run_id)}")
        print_step(f"DAG {DAG_ID}", "success", "all tasks succeeded")
        print_summary(airflow, sandbox, run_id)
        print("\nStopping:", flush=True)


def main() -> int:
    """Run the demo. Return 0 if the DAG succeeded, 1 if not, 130 after Ctrl-C."""
    stop_on_signals()
    try:
        with new_home(HOME):
            run()
    except KeyboardInterrupt:
        print("\nInterrupted. Nothing is left running.", file=sys.stderr)
        return 130
    except (DemoError, LocalAirflowError, LocalSandboxError, OSError) as error:
        print(f"\nThe demo failed. {error}\nThe logs are in {os.path.relpath(HOME)}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
