"""Change appointments while a real Airflow follows them, kill its processes, and count the runs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import requests

from devtools import ROOT
from devtools.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from airflow_provider_webcamconsult.sandbox import Sandbox

DAG_FILE = ROOT / "devtools" / "dags" / "watch_changes.py"
TIMEOUT_SECONDS = 600.0
#: Seconds to wait for the next task to kill.
NEXT_TASK_SECONDS = 60.0
#: Seconds after which a second run for the same appointment would have started.
SETTLE_SECONDS = 10.0
#: What each appointment has as personal data.
COMPLAINT = "ZqComplaint"
#: Seconds from the moment that the baseline has moved to the end of the task, in which it can be killed.
PAUSE_SECONDS = 1.0


@contextlib.contextmanager
def watching(
    home: Path,
    sandbox: Sandbox,
    python: str = sys.executable,
    pause: float = PAUSE_SECONDS,
    dag_file: Path = DAG_FILE,
    env: Mapping[str, str] | None = None,
) -> Iterator[Watch]:
    """
    Run an Airflow that follows the sandbox's appointments: by an asset from 3.3 on, by a timer below.

    :param home: the AIRFLOW_HOME.
    :param sandbox: the sandbox.
    :param python: interpreter of the environment with the Airflow.
    :param pause: seconds from the moment that the baseline has moved to the end of the task.
    :param dag_file: the DAGs.
    :param env: more environment variables for all components.
    """
    dags = home / "dags"
    dags.mkdir(parents=True)
    shutil.copy(dag_file, dags)
    connection = {"conn_type": "webcamconsult", "host": sandbox.url, "password": sandbox.token}
    airflow = LocalAirflow(
        home / "airflow",
        dags,
        python=python,
        env={
            "AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT": json.dumps(connection),
            "CHANGES_FOLDER": str(home),
            "CHANGES_PAUSE": str(pause),
            **(env or {}),
        },
        config={
            # Only with this, timers and assets start runs.
            "scheduler": {"use_job_schedule": "True", "task_instance_heartbeat_timeout": "15"},
            # Seconds until a triggerer takes over the triggers of a killed one.
            "triggerer": {"triggerer_health_check_threshold": "5"},
        },
    )
    with airflow:
        yield Watch(airflow, sandbox, home)


def book(sandbox: Sandbox, number: int) -> list[str]:
    """Create appointments, and return their ids."""
    session = requests.Session()
    session.headers["Authorization"] = f"Token token={sandbox.token}"
    appointment = {
        "date": "2031-01-01T10:00:00.000+01:00",
        "duration": 30,
        "inloop_json": {"complaint": COMPLAINT},
    }
    url = f"{sandbox.url}/appointments.json"
    responses = (session.post(url, json={"appointment": appointment}) for _ in range(number))
    return [str(response.json()["appointment"]["id"]) for response in responses]


@dataclass
class Watch:
    """
    A running Airflow and the appointments that it follows.

    :param airflow: the Airflow.
    :param sandbox: the sandbox with the appointments.
    :param folder: folder in which the task leaves its process id.
    """

    airflow: LocalAirflow
    sandbox: Sandbox
    folder: Path
    changed: dict[str, float] = field(default_factory=dict)
    """When each appointment was changed, in seconds since the epoch."""
    triggerer_kills: int = 0
    task_kills: int = 0

    def query(self, query: str, *values: object) -> list[Any]:
        """Return rows of Airflow's database."""
        address = f"{self.airflow.database.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, timeout=30, uri=True)) as connection:
            return connection.execute(query, values).fetchall()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            self.airflow.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"Not within {TIMEOUT_SECONDS:.0f} s: {what}.")
            time.sleep(0.1)

    def until_baseline(self, dag_id: str = "watch") -> None:
        """Wait until the first run of a DAG has stored a baseline, and ended."""
        query = "SELECT 1 FROM dag_run WHERE state = 'success' AND dag_id = ?"
        self.until(lambda: self.query(query, dag_id), "an ended run")

    def change(self, appointment_id: str) -> None:
        """Change the state of an appointment."""
        self.changed[appointment_id] = time.time()
        self.sandbox.set_state(appointment_id, "finished")

    def kill_triggerer(self) -> None:
        """Kill the triggerer, and start another one."""
        self.airflow.kill("triggerer")
        self.airflow.start_triggerer("triggerer")
        self.triggerer_kills += 1

    def kill_task(self) -> None:
        """Kill the next process of the task that lists changes, at a random moment after its start."""
        file = self.folder / "pid"
        file.unlink(missing_ok=True)
        deadline = time.monotonic() + NEXT_TASK_SECONDS
        while not (file.exists() and (pid := file.read_text())):
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        time.sleep(random.uniform(0, PAUSE_SECONDS))  # noqa: S311
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
            self.task_kills += 1

    def reports(self, dag_id: str = "watch") -> list[tuple[str, float]]:
        """Return the id of each reported change, with the start of the run in seconds since the epoch."""
        reports = []
        for run_id, start in self.query("SELECT run_id, start_date FROM dag_run WHERE dag_id = ?", dag_id):
            for change in self.airflow.xcom(dag_id, run_id, "list_changes") or []:
                date = datetime.fromisoformat(start).replace(tzinfo=timezone.utc)
                reports.append((change["id"], date.timestamp()))
        return reports

    @property
    def has_asset(self) -> bool:
        """Whether an asset starts the runs, and each change has a run of its own."""
        return bool(self.query("SELECT 1 FROM dag WHERE dag_id = 'follow'"))

    def told(self) -> Counter[str]:
        """Return how often each change was told: by a run of its own, or by a report."""
        if not self.has_asset:
            return Counter(record_id for record_id, _ in self.reports())
        rows = self.query("SELECT partition_key FROM dag_run WHERE dag_id = 'follow'")
        return Counter(str(row[0]) for row in rows)

    def until_told(self) -> None:
        """Wait until each change was told, and a second time would have come."""
        self.until(lambda: self.changed.keys() <= self.told().keys(), "each change is told")
        time.sleep(SETTLE_SECONDS)

    @property
    def missing(self) -> int:
        """Number of changes that were not told."""
        return len(self.changed.keys() - self.told().keys())

    @property
    def repeated(self) -> int:
        """Number of times that a change was told again, in a report or by a run."""
        told, reported = self.told(), Counter(record_id for record_id, _ in self.reports())
        return sum(max(told[id], reported[id]) - 1 for id in told | reported if id in self.changed) + sum(
            number for id, number in told.items() if id not in self.changed
        )

    def latencies(self) -> list[float]:
        """Return the seconds from each change to the start of the run that reported it."""
        started: dict[str, float] = {}
        for record_id, start in self.reports():
            started[record_id] = min(start, started.get(record_id, start))
        return [started[id] - changed for id, changed in self.changed.items() if id in started]

    def summary(self) -> dict[str, Any]:
        """Return the figures."""
        latencies = self.latencies()
        figures: dict[str, Any] = {
            "changes": len(self.changed),
            "triggerers killed": self.triggerer_kills,
            "tasks killed": self.task_kills,
            "missing": self.missing,
            "repeated": self.repeated,
            "latency, median, s": round(statistics.median(latencies), 1),
            "latency, maximum, s": round(max(latencies), 1),
            "runs that listed": self.query("SELECT count(*) FROM dag_run WHERE dag_id = 'watch'")[0][0],
        }
        if self.has_asset:
            query = "SELECT count(*), avg(length(extra)) FROM asset_event WHERE partition_key IS NULL"
            ((events, size),) = self.query(query)
            figures |= {"events": events, "bytes of an event": round(size)}
        return figures
