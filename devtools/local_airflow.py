"""
Run a real Airflow in its own folder, for demos and tests.

Uses only the standard library, so the Airflow may be in a different virtual environment than the caller::

    with LocalAirflow(Path("/tmp/home"), Path("example_dags")) as airflow:
        run_id = airflow.trigger("booking")
        assert airflow.wait("booking", run_id) == "success"

States and results are read from Airflow's SQLite database. A query takes a millisecond, while the command
line takes seconds, and the tables have the same columns in Airflow 2.11 and 3.3. Runs are started through
Airflow 3's REST API, whose server the workers need anyway. Airflow 2.11 has no web server unless its UI is
requested, so runs are started on its command line.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from devtools import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

TEMPLATES = ROOT / ".airflow" / "templates"
"""Migrated empty databases, one for each version. Copying one is instant; migrating a new one takes 5 s."""

# Timeouts in seconds. They are generous: only failures reach them, even on a slow machine.
MIGRATE_TIMEOUT = 300.0
START_TIMEOUT = 300.0
COMMAND_TIMEOUT = 120.0
DAG_TIMEOUT = 120.0
RUN_TIMEOUT = 600.0

STOP_TIMEOUT = 5.0
"""Processes that are left then are killed, which is safe. Airflow 3's triggerer would take up to 10 s."""

KILL_TIMEOUT = 30.0

# Intervals in seconds.
POLL_INTERVAL = 0.2
TRACK_INTERVAL = 1.0
IMPORT_ERROR_GRACE = 5.0
"""How long to wait for a DAG after an import error, which may be in a different file."""
DATABASE_BUSY_TIMEOUT = 30.0
HEALTH_TIMEOUT = 5.0
ZOMBIE_INTERVAL = 20
"""
Seconds between Airflow 2's checks for dead tasks.

With a shorter interval, it counts a dead task again while it still handles the first report.
"""

LOG_LINES = 40
"""Number of log lines that an error message shows."""

LOG_NOISE = {
    "logger",
    "filename",
    "lineno",
    "ti_id",
    "dag_id",
    "run_id",
    "task_id",
    "map_index",
    "try_number",
}
"""Fields of each log line on Airflow 3 that a reader of a task's log does not need."""

TASK_STATE = "task_id, map_index, state, try_number, start_date, end_date"

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill`, and a closed terminal."""

END_STATES = ("success", "failed")

_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Connects to this machine directly, even if the environment configures a proxy."""

T = TypeVar("T")


class LocalAirflowError(RuntimeError):
    """Airflow failed. The message ends with the relevant log."""


@dataclass(frozen=True)
class TaskState:
    """The current state of a task instance."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    start: datetime | None
    end: datetime | None


@dataclass(frozen=True)
class Component:
    """A long-running component of Airflow, and the type of its job if it has one."""

    name: str
    arguments: tuple[str, ...]
    job_type: str | None


@dataclass(frozen=True)
class _Process:
    """A row of `ps`. The start time distinguishes a process from a later one with the same id."""

    pid: int
    parent: int
    group: int
    started: str = field(compare=False)


class LocalAirflow:
    """
    A running Airflow: `with LocalAirflow(...) as airflow:`.

    :param home: the AIRFLOW_HOME. It is created if missing, and is not deleted. The output of the components
        is in its `logs/components`.
    :param dags: the DAGs folder.
    :param python: interpreter of the virtual environment with the Airflow to run.
    :param env: environment variables of all components, such as `AIRFLOW_CONN_…`; None removes a variable.
    :param component_env: environment variables of single components: `{"triggerer": {"X": "1"}}`.
    :param config: settings that override the defaults: `{"core": {"parallelism": "2"}}`.
    :param ui: whether to serve the UI on Airflow 2.11 too. Every visitor is an administrator.
    :param port: preferred port; a free port is used if it is taken.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        python: Path | str = sys.executable,
        env: Mapping[str, str | None] | None = None,
        component_env: Mapping[str, Mapping[str, str | None]] | None = None,
        config: Mapping[str, Mapping[str, str]] | None = None,
        ui: bool = False,
        port: int = 0,
    ) -> None:
        self.home = home.absolute()
        self.dags = dags.absolute()
        # Not resolved: Python finds its virtual environment by the path of this symbolic link.
        self.python = Path(python).absolute()
        self.env = dict(env or {})
        self.component_env = {name: dict(values) for name, values in (component_env or {}).items()}
        self.config = config or {}
        self.logs = self.home / "logs"
        self.version = self._read_version()
        self.is_airflow_3 = self.version.split(".")[0] == "3"
        self.ui = ui or self.is_airflow_3
        self.port = free_port(port)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._descendants: dict[int, _Process] = {}
        self._next_track = 0.0
        self._started = datetime.now(timezone.utc)
        self._old_sigterm: Any = None

    @property
    def url(self) -> str:
        """URL of the UI, and of Airflow 3's API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        """Airflow's SQLite database."""
        return self.home / "airflow.db"

    @property
    def components(self) -> tuple[Component, ...]:
        """The components that this version needs to run DAGs."""
        scheduler = Component("scheduler", ("scheduler", "--skip-serve-logs"), "SchedulerJob")
        triggerer = Component("triggerer", ("triggerer", "--skip-serve-logs"), "TriggererJob")
        address: tuple[str, ...] = ("--port", str(self.port))
        address += ("--host" if self.is_airflow_3 else "--hostname", "127.0.0.1")
        if not self.is_airflow_3:
            server = (Component("webserver", ("webserver", *address), None),) if self.ui else ()
            return *server, scheduler, triggerer
        # By default, Airflow 3.0 starts several workers, and kills and restarts them on a busy machine.
        address += ("--workers", "1")
        return (
            Component("api-server", ("api-server", *address), None),
            scheduler,
            Component("dag-processor", ("dag-processor",), "DagProcessorJob"),
            triggerer,
        )

    # -- Starting and stopping -------------------------------------------------------------------------------

    def __enter__(self) -> LocalAirflow:
        self._catch_sigterm()
        try:
            self._prepare_home()
            self._started = datetime.now(timezone.utc)
            for component in self.components:
                self._start(component)
            for component in self.components:
                self._wait_until_up(component)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _prepare_home(self) -> None:
        components = self.logs / "components"
        components.mkdir(parents=True, exist_ok=True)
        if not self.dags.is_dir():
            raise LocalAirflowError(f"The DAGs folder {self.dags} does not exist.")
        _write_config(self.home / "airflow.cfg", self._settings())
        if self.ui and not self.is_airflow_3:
            (self.home / "webserver_config.py").write_text(
                'AUTH_ROLE_PUBLIC = "Admin"\nWTF_CSRF_ENABLED = True\n'
            )
        self._create_database()

    def _create_database(self) -> None:
        if not self.database.exists():
            _copy_database(self._template(), self.database)

    def _settings(self) -> dict[str, dict[str, str]]:
        """Return the content of airflow.cfg. A file, so that later commands can use it too."""
        settings = {
            "core": {
                "dags_folder": str(self.dags),
                "load_examples": "False",
                "executor": "LocalExecutor",
                "parallelism": "4",
                "dags_are_paused_at_creation": "False",
                "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            },
            "database": {"load_default_connections": "False"},
            "logging": {"colored_console_log": "False"},
            "scheduler": {
                # Only triggered runs.
                "use_job_schedule": "False",
                "scheduler_heartbeat_sec": "1",
                "scheduler_idle_sleep_time": "0.2",
                "trigger_timeout_check_interval": "1",
                # Otherwise, two tasks of Airflow 2 that end together both schedule the next one.
                "schedule_after_task_execution": "False",
            },
            "triggerer": {"job_heartbeat_sec": "1"},
            # How long a worker of Airflow 3 may take to notice that its task ended.
            "workers": {"min_heartbeat_interval": "1"},
        }
        parsing = {"min_file_process_interval": "10", "parsing_processes": "1"}
        if self.is_airflow_3:
            settings["core"]["execution_api_server_url"] = f"{self.url}/execution/"
            settings["core"]["simple_auth_manager_all_admins"] = "True"
            settings["api"] = {"base_url": self.url, "secret_key": secrets.token_hex(32)}
            # Airflow 3.0 with a current pyjwt fails without an issuer.
            settings["api_auth"] = {"jwt_secret": secrets.token_hex(32), "jwt_issuer": "local-airflow"}
            settings["dag_processor"] = {
                **parsing,
                "refresh_interval": "2",
                "bundle_refresh_check_interval": "1",
            }
        else:
            settings["scheduler"] |= {**parsing, "dag_dir_list_interval": "2"}
            settings["webserver"] = {
                "base_url": self.url,
                "secret_key": secrets.token_hex(32),
                "workers": "1",
            }
        for section, values in self.config.items():
            settings.setdefault(section, {}).update(values)
        return settings

    def _template(self) -> Path:
        """Return a migrated, empty database of this version. Create it if necessary."""
        template = TEMPLATES / f"airflow-{self.version}.db"
        if template.exists():
            return template
        scratch = TEMPLATES / f"airflow-{self.version}-{os.getpid()}-{secrets.token_hex(4)}"
        scratch.mkdir(parents=True)
        try:
            _write_config(scratch / "airflow.cfg", self._settings())
            env = {**self._environment(), "AIRFLOW_HOME": str(scratch)}
            self.command("db", "migrate", env=env, limit=MIGRATE_TIMEOUT)
            _copy_database(scratch / "airflow.db", scratch / "copy.db")
            # Atomic, since other processes may create the same template.
            os.replace(scratch / "copy.db", template)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return template

    def _environment(self, component: str | None = None) -> dict[str, str]:
        """Return a component's environment variables, without those of the user's own Airflow."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        here = {
            "AIRFLOW_HOME": str(self.home),
            "PATH": f"{self.python.parent}{os.pathsep}{inherited.get('PATH', os.defpath)}",
            # The logs of the components are read while they are written.
            "PYTHONUNBUFFERED": "1",
            # Airflow 2 refuses to run tasks in parallel on SQLite unless this check is skipped.
            "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
        }
        # The components and the sandbox are on this machine: never connect to them through a proxy.
        for name in ("NO_PROXY", "no_proxy"):
            here[name] = ",".join(filter(None, [inherited.get(name), "127.0.0.1", "localhost"]))
        wanted: dict[str, str | None] = {**inherited, **here, **self.env}
        wanted.update(self.component_env.get(component or "", {}))
        return {name: value for name, value in wanted.items() if value is not None}

    def _start(self, component: Component) -> None:
        log = self.logs / "components" / f"{component.name}.log"
        with log.open("ab") as output, defer_signals():
            self._processes[component.name] = subprocess.Popen(
                [str(self.python), "-m", "airflow", *component.arguments],
                env=self._environment(component.name),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Its own process group, so that Ctrl-C in the terminal signals only this process.
                start_new_session=True,
            )

    def _wait_until_up(self, component: Component) -> None:
        self._poll(
            lambda: self._is_up(component),
            START_TIMEOUT,
            lambda: self._describe(component.name, "is not up"),
        )

    def _is_up(self, component: Component) -> bool:
        if component.job_type is None:
            return _responds(f"{self.url}{'/api/v2/version' if self.is_airflow_3 else '/health'}")
        # A reused home has rows of components that were killed.
        query = "SELECT 1 FROM job WHERE job_type = ? AND state = 'running' AND latest_heartbeat >= ?"
        return bool(self._query(query, component.job_type, f"{self._started:%Y-%m-%d %H:%M:%S}"))

    def _stop(self) -> None:
        """Stop the components and all their descendants, even those that left the process group."""
        with _ignore_signals():
            self._stop_processes()
        if self._old_sigterm is not None:
            signal.signal(signal.SIGTERM, self._old_sigterm)
            self._old_sigterm = None

    def _stop_processes(self) -> None:
        self._track_descendants()
        running = list(self._processes.values())
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
            self._track_descendants()
        # Tasks have their own process groups, and may outlive the component that started them.
        self._kill_descendants()
        for process in running:
            process.wait()
        self._processes.clear()
        self._descendants.clear()

    def _kill_descendants(self) -> None:
        deadline = time.monotonic() + KILL_TIMEOUT
        while True:
            self._track_descendants()
            if not self._descendants:
                return
            if time.monotonic() > deadline:
                raise LocalAirflowError(f"Could not kill these processes: {sorted(self._descendants)}.")
            for pid in self._descendants:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_INTERVAL)

    def _track_descendants(self) -> None:
        """
        Record the descendants of the components while their ancestry is still known.

        Both executors run tasks in their own process groups or sessions, and a task whose parent dies becomes
        a child of init. At the end, neither the group nor the parent would find all of them.
        """
        rows = _processes()
        ours = _family(rows, {process.pid for process in self._processes.values()} | set(self._descendants))
        for row in rows:
            if row.pid in ours:
                self._descendants.setdefault(row.pid, row)
        # A process id may be reused.
        alive = {row.pid: row.started for row in rows}
        self._descendants = {
            pid: row for pid, row in self._descendants.items() if alive.get(pid) == row.started
        }
        self._next_track = time.monotonic() + TRACK_INTERVAL

    def _catch_sigterm(self) -> None:
        """Make SIGTERM leave the `with` block with an exception, as Ctrl-C does."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._old_sigterm = signal.signal(signal.SIGTERM, _exit_on_signal)

    def pid(self, component: str) -> int:
        """Return the process id of a component, which is also the id of its process group."""
        return self._processes[component].pid

    def kill(self, component: str) -> None:
        """Kill a component and all of its descendants, as a machine that fails does."""
        self._track_descendants()
        process = self._processes.pop(component)
        # Stopped first: tasks have their own process groups, and their ancestry is known only while it lives.
        os.killpg(process.pid, signal.SIGSTOP)
        for pid in _family(_processes(), {process.pid}):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def start_triggerer(self, name: str) -> None:
        """Start a triggerer, again or in addition to another. Its log is named after it."""
        old = self._query("SELECT max(id) FROM job")[0][0]
        (triggerer,) = (component for component in self.components if component.name == "triggerer")
        self._start(replace(triggerer, name=name))
        self._poll(
            lambda: self._query("SELECT 1 FROM job WHERE job_type = ? AND id > ?", triggerer.job_type, old),
            START_TIMEOUT,
            lambda: self._describe(name, "is not up"),
        )

    def triggers_of_triggerers(self) -> Counter[int | None]:
        """Return the number of triggers of each triggerer by job id; None counts the unassigned ones."""
        return Counter(row[0] for row in self._query("SELECT triggerer_id FROM trigger"))

    def set_connections(self, connections: Mapping[str, Mapping[str, Any]]) -> None:
        """Write connections by id to Airflow's database, and replace those with the same ids."""
        file = self.home / "connections.json"
        file.write_text(json.dumps(connections))
        try:
            self.command("connections", "import", "--overwrite", str(file))
        finally:
            file.unlink()

    # -- Running DAGs ----------------------------------------------------------------------------------------

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, logical_date: datetime | None = None
    ) -> str:
        """Wait for a DAG, start a run of it, and return the run id."""
        self.wait_for_dag(dag_id)
        run_id = f"local__{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%f}"
        date = logical_date.isoformat() if logical_date else None
        if self.is_airflow_3:
            body = {"dag_run_id": run_id, "logical_date": date, "conf": dict(conf or {})}
            token = self._api("GET", "/auth/token")["access_token"]
            self._api("POST", f"/api/v2/dags/{dag_id}/dagRuns", body, token)
        else:
            options = ["--conf", json.dumps(conf or {}), *(["--exec-date", date] if date else [])]
            self.command("dags", "trigger", dag_id, "--run-id", run_id, *options)
        return run_id

    def clear(self, dag_id: str, run_id: str) -> None:
        """Clear all tasks of a run that has ended, as a user does, so that they run again."""
        if self.is_airflow_3:
            body = {"dag_run_id": run_id, "dry_run": False, "only_failed": False, "reset_dag_runs": True}
            token = self._api("GET", "/auth/token")["access_token"]
            before = len(self.earlier_tries(dag_id, run_id))
            self._api("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body, token)
            # Airflow 3.0 responds before it commits.
            self._poll(
                lambda: len(self.earlier_tries(dag_id, run_id)) > before,
                COMMAND_TIMEOUT,
                lambda: f"Run {run_id} of {dag_id} was not cleared.",
            )
        else:
            query = "SELECT execution_date FROM dag_run WHERE dag_id = ? AND run_id = ?"
            date = f"{self._query(query, dag_id, run_id)[0][0]}+00:00"
            self.command("tasks", "clear", dag_id, "--yes", "--start-date", date, "--end-date", date)

    def mark_failed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Mark a task (not a mapped one) as failed, as a user does; only on Airflow 3."""
        token = self._api("GET", "/auth/token")["access_token"]
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self._api("PATCH", path, {"new_state": "failed"}, token)

    def wait_for_dag(self, dag_id: str, timeout: float = DAG_TIMEOUT) -> None:
        """Wait until Airflow has parsed the DAG. Raise an import error with its file and traceback."""
        first_error: float | None = None

        def is_there() -> bool:
            nonlocal first_error
            # A run needs both tables, which Airflow writes one after the other.
            if self._query("SELECT 1 FROM dag JOIN serialized_dag USING (dag_id) WHERE dag_id = ?", dag_id):
                return True
            if self.import_errors():
                first_error = first_error or time.monotonic()
                if time.monotonic() - first_error > IMPORT_ERROR_GRACE:
                    raise LocalAirflowError(self._describe_dag(dag_id))
            return False

        self._poll(is_there, timeout, lambda: self._describe_dag(dag_id))

    def wait(self, dag_id: str, run_id: str, timeout: float = RUN_TIMEOUT) -> str:
        """Wait until a run has ended, and return its state: `success` or `failed`."""
        return self._poll(
            lambda: state if (state := self.run_state(dag_id, run_id)) in END_STATES else None,
            timeout,
            lambda: f"Run {run_id} of {dag_id} has not ended:\n{self.describe_run(dag_id, run_id)}",
        )

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, state: str, timeout: float = RUN_TIMEOUT
    ) -> None:
        """Wait until a task (not a mapped one) is in the given state."""

        def is_there() -> bool:
            tasks = self.task_states(dag_id, run_id)
            return any(task.task_id == task_id and task.state == state for task in tasks)

        self._poll(
            is_there, timeout, lambda: f"{task_id} is not {state}:\n{self.describe_run(dag_id, run_id)}"
        )

    def test_dag(self, dag_id: str) -> tuple[str, str]:
        """Run a DAG with `dag.test()`, without any component; return the run id and the output."""
        self._prepare_home()
        command = [str(self.python), "-m", "airflow", "dags", "test", dag_id]
        ended = subprocess.run(
            command,
            env=self._environment(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_TIMEOUT,
        )
        rows = self._query("SELECT run_id FROM dag_run WHERE dag_id = ? ORDER BY id DESC", dag_id)
        if not rows:
            raise LocalAirflowError(
                f"`airflow dags test {dag_id}` created no run:\n{last_lines(ended.stdout)}"
            )
        return str(rows[0][0]), ended.stdout

    def run_state(self, dag_id: str, run_id: str) -> str | None:
        """Return the state of a run; None if the run does not exist."""
        rows = self._query("SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ?", dag_id, run_id)
        return str(rows[0][0]) if rows else None

    def run_ids(self, dag_id: str) -> list[str]:
        """Return the ids of a DAG's runs."""
        return [str(row[0]) for row in self._query("SELECT run_id FROM dag_run WHERE dag_id = ?", dag_id)]

    def task_states(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Return the task instances of a run, in the order of their starts."""
        rows = self._query(
            f"SELECT {TASK_STATE} FROM task_instance"  # noqa: S608
            " WHERE dag_id = ? AND run_id = ? ORDER BY start_date IS NULL, start_date, task_id, map_index",
            dag_id,
            run_id,
        )
        return [_task_state(*row) for row in rows]

    def earlier_tries(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Return the tries of a run's tasks that were followed by another try."""
        rows = self._query(
            f"SELECT {TASK_STATE} FROM task_instance_history WHERE dag_id = ? AND run_id = ?",  # noqa: S608
            dag_id,
            run_id,
        )
        return [_task_state(*row) for row in rows]

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int = 1
    ) -> str:
        """Return the log of one try of a task: that of the worker, then that of the triggerer."""
        folder = self.logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        if map_index >= 0:
            folder /= f"map_index={map_index}"
        files = [folder / f"attempt={try_number}.log", *folder.glob(f"attempt={try_number}.log.trigger.*")]
        texts = [file.read_text(errors="replace") for file in files if file.exists()]
        return "".join(_format_log_line(line) for text in texts for line in text.splitlines())

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value"
    ) -> Any:
        """Return an XCom of a task as stored in JSON; None if there is none."""
        rows = self._query(
            "SELECT value FROM xcom"
            " WHERE dag_id = ? AND run_id = ? AND task_id = ? AND map_index = ? AND key = ?",
            dag_id,
            run_id,
            task_id,
            map_index,
            key,
        )
        if not rows or rows[0][0] is None:
            return None
        value = rows[0][0]
        # SQLite converts JSON that is a number, because of the column's type on Airflow 3.
        return json.loads(value) if isinstance(value, str | bytes) else value

    def events(self, asset: str) -> list[str]:
        """Return the JSON of each event of an asset, which only Airflow 3 has."""
        query = "SELECT asset_event.extra FROM asset_event JOIN asset ON asset.id = asset_id WHERE name = ?"
        rows = self._query(query, asset)
        return [str(extra) for (extra,) in rows]

    def import_errors(self) -> dict[str, str]:
        """Return the DAG files that Airflow failed to import, with their tracebacks."""
        return {
            str(filename): str(stacktrace).strip()
            for filename, stacktrace in self._query("SELECT filename, stacktrace FROM import_error")
        }

    def describe_run(self, dag_id: str, run_id: str) -> str:
        """Return a text with the state of each task, and the end of the log of each failed task."""
        lines = []
        for task in self.task_states(dag_id, run_id):
            mapped = f"[{task.map_index}]" if task.map_index >= 0 else ""
            lines.append(f"{task.task_id}{mapped}: {task.state or 'not started'} (try {task.try_number})")
            if task.state in ("failed", "up_for_retry"):
                log = self.task_log(dag_id, run_id, task.task_id, task.map_index, task.try_number)
                lines.append(last_lines(log))
        return "\n".join(lines)

    # -- Internals -------------------------------------------------------------------------------------------

    def _read_version(self) -> str:
        command = [
            str(self.python),
            "-c",
            "from importlib.metadata import version; print(version('apache-airflow'))",
        ]
        try:
            found = subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=COMMAND_TIMEOUT
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise LocalAirflowError(
                f"Found no Airflow in the environment of {self.python}: {error}"
            ) from error
        return found.stdout.strip()

    def command(
        self, *arguments: str, env: dict[str, str] | None = None, limit: float = COMMAND_TIMEOUT
    ) -> str:
        """Run `airflow …` and return its output."""
        name = f"airflow {' '.join(arguments)}"
        try:
            result = subprocess.run(
                [str(self.python), "-m", "airflow", *arguments],
                env=env or self._environment(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=limit,
            )
        except subprocess.TimeoutExpired as error:
            raise LocalAirflowError(f"`{name}` timed out after {limit:.0f} s.") from error
        if result.returncode:
            output = last_lines(result.stdout)
            raise LocalAirflowError(f"`{name}` exited with status {result.returncode}:\n{output}")
        return result.stdout

    def _api(self, method: str, path: str, body: object = None, token: str = "") -> Any:
        """Send a request to Airflow 3's API server."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)  # noqa: S310
        try:
            with _NO_PROXY.open(request, timeout=COMMAND_TIMEOUT) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise LocalAirflowError(f"{method} {path} returned {error.code}: {text}") from error
        except OSError as error:
            what = f"did not respond to {method} {path} ({error})"
            raise LocalAirflowError(self._describe("api-server", what)) from error

    def _query(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read from the database through a read-only connection."""
        address = f"{self.database.as_uri()}?mode=ro"
        database = sqlite3.connect(address, timeout=DATABASE_BUSY_TIMEOUT, uri=True)
        with contextlib.closing(database) as connection:
            return connection.execute(query, values).fetchall()

    def _poll(self, check: Callable[[], T | None], timeout: float, describe: Callable[[], str]) -> T:
        """Call `check` until it returns something. Raise if that takes too long, or if a component exits."""
        deadline = time.monotonic() + timeout
        while True:
            found = check()
            if found:
                return found
            self.check_alive()
            if time.monotonic() > deadline:
                raise LocalAirflowError(f"Timed out after {timeout:.0f} s. {describe()}")
            time.sleep(POLL_INTERVAL)

    def check_alive(self) -> None:
        """Raise if a component has exited."""
        if time.monotonic() >= self._next_track:
            self._track_descendants()
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise LocalAirflowError(self._describe(name, f"exited with status {process.returncode}"))

    def _describe(self, name: str, what: str) -> str:
        log = self.logs / "components" / f"{name}.log"
        return f"Airflow's {name} {what}. The end of {log}:\n{last_lines(log.read_text(errors='replace'))}"

    def _describe_dag(self, dag_id: str) -> str:
        errors = "".join(f"\n{filename}:\n{error}" for filename, error in self.import_errors().items())
        found = ", ".join(sorted(row[0] for row in self._query("SELECT dag_id FROM serialized_dag")))
        return f"Found no DAG {dag_id} in {self.dags}. DAGs there: {found or 'none'}.{errors}"


@contextlib.contextmanager
def new_home(home: Path) -> Iterator[None]:
    """Create the empty Airflow home of a script. Raise if the script is already running."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalAirflowError(
                f"Another `make {home.name}` is running in this checkout. Stop it first."
            ) from None
        shutil.rmtree(home, ignore_errors=True)
        (home / "logs" / "components").mkdir(parents=True)
        yield


def stop_on_signals() -> None:
    """Make the signals that stop a script print a message and raise an exception, so that it cleans up."""

    def stop(number: int, _: FrameType | None) -> None:
        for other in STOP_SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # the terminal was closed
            os.write(sys.stdout.fileno(), "\nStopping …\n".encode())
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    # SIGINT too, because Python ignores it if the script was started in the background.
    for number in STOP_SIGNALS:
        signal.signal(number, stop)


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Defer signals that would stop the script, until a process that is being started is registered."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    deferred: list[int] = []
    # A handler, not a blocked signal: the new process would inherit the block, but not the handler.
    old = {
        number: signal.signal(number, lambda number, _: deferred.append(number)) for number in STOP_SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        for deferred_number in deferred:
            os.kill(os.getpid(), deferred_number)


def free_port(wanted: int) -> int:
    """Return a port if it is free, otherwise another one."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier server may still be closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _responds(url: str) -> bool:
    try:
        with _NO_PROXY.open(url, timeout=HEALTH_TIMEOUT):
            return True
    except OSError:
        return False


def _write_config(file: Path, settings: Mapping[str, Mapping[str, str]]) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_dict(settings)
    with file.open("w") as output:
        parser.write(output)
    file.chmod(0o600)


def _copy_database(source: Path, target: Path) -> None:
    """Copy a database with SQLite's backup, which includes its journal."""
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def _processes() -> list[_Process]:
    """Return all processes of this machine, without zombies."""
    command = ["ps", "-A", "-o", "pid=,ppid=,pgid=,stat=,lstart="]
    environment = {**os.environ, "LC_ALL": "C"}
    listing = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    rows = (line.split(maxsplit=4) for line in listing.stdout.splitlines())
    return [
        _Process(int(pid), int(parent), int(group), started.strip())
        for pid, parent, group, state, started in rows
        if not state.startswith("Z")
    ]


def _family(rows: list[_Process], roots: set[int]) -> set[int]:
    """Return the ids of processes, of all in their process groups, and of all descendants of these."""
    family = set(roots)
    found = True
    while found:
        found = False
        for row in rows:
            if row.pid not in family and (row.parent in family or row.group in family):
                family.add(row.pid)
                found = True
    return family


def _exit_on_signal(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


@contextlib.contextmanager
def _ignore_signals() -> Iterator[None]:
    """Ignore signals, so that a second Ctrl-C leaves no processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _task_state(
    task_id: str, map_index: int, state: str | None, try_number: int, start: str | None, end: str | None
) -> TaskState:
    return TaskState(task_id, map_index, state, try_number, _parse_datetime(start), _parse_datetime(end))


def _parse_datetime(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value).replace(tzinfo=timezone.utc) if value else None


def _format_log_line(line: str) -> str:
    """Return a line of a task's log as text. Airflow 3 writes a JSON object on each line."""
    try:
        entry = json.loads(line)
        text = f"{entry.pop('timestamp', '')} {entry.pop('level', ''):8} {entry.pop('event')}"
    except (ValueError, AttributeError, KeyError, TypeError):
        return f"{line}\n"
    details = entry.pop("error_detail", None) or []
    text += "".join(f" {name}={value!r}" for name, value in entry.items() if name not in LOG_NOISE)
    for error in details:
        for frame in error.get("frames", []):
            text += f"\n    File {frame.get('filename')}, line {frame.get('lineno')}, in {frame.get('name')}"
        text += f"\n    {error.get('exc_type')}: {error.get('exc_value')}"
    return f"{text}\n"


def last_lines(text: str) -> str:
    """Return the end of a log, for an error message."""
    return "\n".join(f"  | {line}" for line in text.splitlines()[-LOG_LINES:])
