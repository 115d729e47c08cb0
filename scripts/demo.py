"""Run the example DAG `booking` on a real Airflow against the sandbox, and tell what happens.

Run by `make demo`. Everything that is made is in `.airflow/demo`, which is made anew each time and kept at
the end; everything that is started is stopped.
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

# In seconds, generous: it only bounds how long a failure takes on a slow machine.
RUN_TIMEOUT = 300.0

POLL_INTERVAL = 0.2  # seconds

BEGIN = time.monotonic()

DOES = {
    "ensure_professional": "looks for the professional among the users; makes one if there is none",
    "ensure_client": "looks for the client by reference code; makes one if there is none",
    "book_consult": "creates the appointment",
    "wait_until_over": "looks at the appointment",
    "follow_up": "goes on with what comes after a consult",
}
"""What each task of the DAG does, in plain words; a task that is not named here is shown without."""

DID = {
    "ensure_professional": "the professional is user {}",
    "ensure_client": "the client is client {}",
    "book_consult": "the consult is appointment {}",
    "wait_until_over": "the appointment is '{}'",
}
"""The same for what a task returned."""


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


def say(what: str, state: str = "", text: str = "") -> None:
    """Print one step: after how many seconds, what, in which state, in plain words."""
    print(f"{time.monotonic() - BEGIN:6.1f} s  {what:26} {state:9} {text}".rstrip(), flush=True)


class Story:
    """Tells what changes, once for each change."""

    def __init__(self, airflow: LocalAirflow, sandbox: LocalSandbox, run_id: str) -> None:
        self.airflow = airflow
        self.sandbox = sandbox
        self.run_id = run_id
        self._states: dict[tuple[str, int], str | None] = {}
        self._deferred: set[tuple[str, int]] = set()
        self._appointments: dict[str, str] = {}

    def follow(self) -> str:
        """Tell until the run is at its end, and return its state."""
        deadline = time.monotonic() + RUN_TIMEOUT
        while True:
            # Asked first, so that what happens until then is told too.
            state = self.airflow.run_state(DAG_ID, self.run_id)
            self._tell_appointments()
            for task in self.airflow.task_states(DAG_ID, self.run_id):
                self._tell_task(task)
            if state in END_STATES:
                return str(state)
            self.airflow.check_alive()
            if time.monotonic() > deadline:
                raise DemoError(f"The run is not at its end after {RUN_TIMEOUT:.0f} s.")
            time.sleep(POLL_INTERVAL)

    def _tell_task(self, task: TaskState) -> None:
        key = (task.task_id, task.map_index)
        before, now = self._states.get(key), task.state
        self._states[key] = now
        if now == before:
            return
        if before == "deferred":
            say(task.task_id, "fired", "the trigger saw what it waited for: back to a worker")
        if now == "running" and key not in self._deferred:
            say(task.task_id, "running", DOES.get(task.task_id, ""))
        elif now == "deferred":
            self._deferred.add(key)
            say(task.task_id, "deferred", "waiting, no worker slot is used")
        elif now == "success":
            result = self.airflow.xcom(DAG_ID, self.run_id, task.task_id, task.map_index)
            said = DID.get(task.task_id, "") if result is not None else ""
            say(task.task_id, "success", said.format(result))
        elif now in ("failed", "up_for_retry", "upstream_failed", "skipped"):
            say(task.task_id, now.replace("_", " "), f"(try {task.try_number})")

    def _tell_appointments(self) -> None:
        for appointment in self.sandbox.records("appointments"):
            name, state = str(appointment["id"]), str(appointment["state"])
            if self._appointments.get(name) != state:
                self._appointments[name] = state
                say("  in the sandbox", "", f"appointment {name} is '{state}'")


def describe(record: dict[str, Any]) -> str:
    """Return a line about a record; the people of the example are made up."""
    if "date" in record and "duration" in record:
        who = f"user {record['user_id']} and client {record['client_id']}"
        return f"{who}, {record['date']}, {record['duration']} minutes, '{record['state']}'"
    names = ("titles", "initials", "surname_prefix", "last_name")
    return " ".join(str(record[name]) for name in names if record.get(name))


def tell_the_end(airflow: LocalAirflow, sandbox: LocalSandbox, run_id: str) -> None:
    """Print what there is now, and where to look next."""
    print("\nIn the sandbox there is now:")
    for resource in ("users", "clients", "appointments"):
        for record in sandbox.records(resource):
            print(f"  {resource[:-1]:12} {record['id']}  {describe(record)}")
    logs = (airflow.logs / f"dag_id={DAG_ID}" / f"run_id={run_id}").relative_to(ROOT)
    print("\nWhere to go from here:")
    print(f"  the DAG                       {(DAGS / f'{DAG_ID}.py').relative_to(ROOT)}")
    print(f"  what its tasks logged         {logs}")
    print("  into your own Airflow         README.md, from 'Install' on")
    print("  the sandbox alone             .venv/bin/python -m airflow_provider_webcamconsult.sandbox")


def run() -> None:
    """Run the demo from beginning to end."""
    print("Setting up:", flush=True)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: say("Stopped", "", "nothing of the demo is left running"))
        sandbox = stack.enter_context(LocalSandbox(HOME / "logs" / "components" / "sandbox.log"))
        say("Sandbox", "up", sandbox.describe())
        airflow = LocalAirflow(HOME, DAGS, env={CONNECTION: sandbox.variable})
        names = ", ".join(component.name for component in airflow.components)
        say(f"Airflow {airflow.version}", "starting", names)
        stack.enter_context(airflow)
        say(f"Airflow {airflow.version}", "up", f"{airflow.url}")
        run_id = airflow.trigger(DAG_ID)
        say(f"DAG {DAG_ID}", "started", run_id)
        print("\nThe run:", flush=True)
        state = Story(airflow, sandbox, run_id).follow()
        if state != "success":
            raise DemoError(f"The run failed.\n{airflow.describe_run(DAG_ID, run_id)}")
        say(f"DAG {DAG_ID}", "success", "all tasks are done")
        tell_the_end(airflow, sandbox, run_id)
        print("\nStopping:", flush=True)


def main() -> int:
    """Run the demo; 0 if the DAG ran to success, 1 if not, 130 after Ctrl-C."""
    stop_on_signals()
    try:
        with new_home(HOME):
            run()
    except KeyboardInterrupt:
        print("\nInterrupted; everything is stopped.", file=sys.stderr)
        return 130
    except (DemoError, LocalAirflowError, LocalSandboxError, OSError) as error:
        print(f"\nThe demo failed. {error}\nThe logs are kept in {os.path.relpath(HOME)}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
