"""
Run a real Airflow as on several machines: PostgreSQL, Redis, CeleryExecutor, and two of each component.

Needs the programs of PostgreSQL and Redis, and in both environments the dependency group `cluster`::

    with Cluster(Path("/tmp/home"), Path("example_dags")) as cluster:
        run_id = cluster.trigger("booking")
        cluster.kill("worker-1")
        cluster.start("worker-1")
        assert cluster.wait("booking", run_id) == "success"

Each component has a host name of its own, and a kill hits all of its processes. All share a log folder.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devtools import ROOT
from devtools.local_airflow import (
    MIGRATE_TIMEOUT,
    POLL_INTERVAL,
    START_TIMEOUT,
    ZOMBIE_INTERVAL,
    Component,
    LocalAirflow,
    LocalAirflowError,
    defer_signals,
    free_port,
    last_lines,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST_NAME = "CLUSTER_HOST_NAME"
"""The environment variable with the host name of a component."""

PAIRS = {"scheduler": "SchedulerJob", "triggerer": "TriggererJob", "worker": None}
"""The components that there are two of, and the types of their jobs."""

WORKER_SLOTS = 4
"""How many tasks a worker runs at once."""

ROLE = "airflow"
"""Name of the database, and of its user."""

# All in seconds. By default, Airflow takes minutes to notice what these make it notice soon.
HEARTBEAT_TIMEOUT = 15
"""How long a task may go without a heartbeat until Airflow retries it."""
HEALTH_THRESHOLD = 20
"""How long a scheduler or a triggerer may go without one until another takes over."""
QUEUED_TIMEOUT = 45
"""
How long a task may stay queued until Airflow queues it again: a killed broker loses its queue.

A task that starts at that very moment is ended, and started again as the same try.
"""
CHECK_INTERVAL = 5
"""Seconds between Airflow's checks for dead tasks and for tasks that stay queued."""

STOP_TIMEOUT = 20.0


def host_name() -> str:
    """Return the host name of this process: Airflow's `hostname_callable`."""
    return os.environ.get(HOST_NAME) or socket.gethostname()


def find_program(name: str) -> str | None:
    """Return the path of a program of PostgreSQL or Redis. Debian keeps the former out of the `PATH`."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, debian)]))


def find_missing() -> str:
    """Return the services that this machine lacks, as a text; an empty one if a cluster can run."""
    programs = {"PostgreSQL": "initdb", "Redis": "redis-server"}
    return " and ".join(name for name, program in programs.items() if find_program(program) is None)


class Service:
    """
    A server beside Airflow, in a process group of its own.

    :param name: its name, also of its log.
    :param command: its command line.
    :param port: the port that it listens on.
    :param folder: its working directory.
    :param log: file for its output.
    :param user: the user to run it as; None for the present one.
    """

    def __init__(
        self, name: str, command: list[str], port: int, folder: Path, log: Path, user: str | None
    ) -> None:
        self.name = name
        self._command = command
        self._port = port
        self._folder = folder
        self._log = log
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        with self._log.open("ab") as output, defer_signals():
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **as_user(self._user),
            )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            self.check_alive()
            if time.monotonic() > deadline:
                raise LocalAirflowError(self._describe("is not up"))
            time.sleep(POLL_INTERVAL)

    def check_alive(self) -> None:
        """Raise if the server has exited by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise LocalAirflowError(self._describe(f"exited with status {self._process.returncode}"))

    def kill(self) -> None:
        """Kill the server and its children."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the server and its children; kill what is left after a while."""
        # PostgreSQL's fast shutdown; Redis treats it like SIGTERM.
        self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _describe(self, what: str) -> str:
        return f"{self.name} {what}. The end of {self._log}:\n{last_lines(self._log.read_text())}"


class Cluster(LocalAirflow):
    """
    A running cluster: `with Cluster(...) as cluster:`.

    Its components are those of :class:`LocalAirflow`, but two schedulers, two triggerers and two workers:
    `scheduler-1`, `scheduler-2` and so on. The parameters are the same.
    """

    _services: dict[str, Service]
    _folder: Path | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._services = {}
        self._database_port = free_port(0)
        self._broker_port = free_port(0)
        self._secrets = {name: secrets.token_hex(16) for name in ("database", "broker")}
        self._starts: defaultdict[str, list[datetime]] = defaultdict(list)

    def __enter__(self) -> Cluster:
        super().__enter__()
        return self

    @property
    def components(self) -> tuple[Component, ...]:
        """The components, one for each machine of the cluster."""
        # The webserver of Airflow 2 is not needed.
        single = tuple(component for component in super().components if component.name == "api-server")
        commands = {
            "scheduler": ("scheduler", "--skip-serve-logs"),
            "triggerer": ("triggerer", "--skip-serve-logs"),
        }
        pairs = [
            Component(name, self._worker_command(name) if kind == "worker" else commands[kind], job_type)
            for kind, job_type in PAIRS.items()
            for name in (f"{kind}-1", f"{kind}-2")
        ]
        return (*single, Component("dag-processor", ("dag-processor",), "DagProcessorJob"), *pairs)

    def _worker_command(self, name: str) -> tuple[str, ...]:
        options = ("--celery-hostname", f"{name}@cluster", "--pid", str(self.home / f"{name}.pid"))
        return ("celery", "worker", "--skip-serve-logs", "--concurrency", str(WORKER_SLOTS), *options)

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of the components of a kind, such as `worker`."""
        return tuple(component.name for component in self.components if component.name.startswith(kind))

    def start(self, name: str, *, wait: bool = True) -> None:
        """Start a component again that was killed."""
        component = self._component(name)
        self._start(component)
        if wait:
            self._wait_until_up(component)

    def is_up(self, name: str) -> bool:
        """Return whether a component that was started has begun to work."""
        return self._is_up(self._component(name))

    def kill_broker(self) -> None:
        """Kill Redis, which loses its queue."""
        self._services["redis"].kill()

    def start_broker(self) -> None:
        """Start Redis again, on the same port."""
        self._services["redis"].start()

    def host_of(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str | None:
        """Return the component that a task runs on, or ran on last."""
        query = (
            "SELECT hostname FROM task_instance"
            " WHERE dag_id = ? AND run_id = ? AND task_id = ? AND map_index = ?"
        )
        rows = self._query(query, dag_id, run_id, task_id, map_index)
        return str(rows[0][0]) if rows and rows[0][0] else None

    def stored_connection(self, connection_id: str) -> tuple[Any, ...]:
        """Return a connection's row in the database, all columns."""
        return self._query("SELECT * FROM connection WHERE conn_id = ?", connection_id)[0]

    def triggerers_of_waits(self) -> Counter[str | None]:
        """Return the number of triggers of each triggerer; None counts the unassigned ones."""
        query = "SELECT job.hostname FROM trigger LEFT JOIN job ON job.id = trigger.triggerer_id"
        return Counter(row[0] for row in self._query(query))

    def check_alive(self) -> None:
        """Raise if a component or a service has exited."""
        for service in self._services.values():
            service.check_alive()
        super().check_alive()

    # -- Internals -------------------------------------------------------------------------------------------

    def _component(self, name: str) -> Component:
        (found,) = (component for component in self.components if component.name == name)
        return found

    def _prepare_home(self) -> None:
        missing = find_missing()
        if missing:
            raise LocalAirflowError(f"A cluster cannot run here. Install what is missing: {missing}.")
        self._start_services()
        super()._prepare_home()

    def _start_services(self) -> None:
        logs = self.logs / "components"
        logs.mkdir(parents=True, exist_ok=True)
        # PostgreSQL refuses to run as root, and its user may have no access to the home.
        user = "postgres" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="cluster-"))
        if user:
            shutil.chown(self._folder, user)
        password = self._folder / "password"
        password.write_text(self._secrets["database"])
        if user:
            shutil.chown(password, user)
        data = self._folder / "postgresql"
        initdb = [find_program("initdb"), "--pgdata", data, "--username", ROLE, "--pwfile", password]
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            [*map(str, initdb), *options],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **as_user(user),
        )
        if done.returncode:
            raise LocalAirflowError(
                f"initdb exited with status {done.returncode}:\n{last_lines(done.stdout)}"
            )
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "port": self._database_port,
            "max_connections": 200,
            "timezone": "UTC",
            "fsync": "off",  # a killed component loses nothing; only a power cut would
        }
        postgres = [str(find_program("postgres")), "-D", str(data)]
        for name, value in settings.items():
            postgres += ["-c", f"{name}={value}"]
        redis = [str(find_program("redis-server")), "--bind", "127.0.0.1", "--port", str(self._broker_port)]
        redis += ["--requirepass", self._secrets["broker"], "--save", "", "--appendonly", "no"]
        commands = {"postgresql": (postgres, self._database_port), "redis": (redis, self._broker_port)}
        for service, (command, port) in commands.items():
            self._services[service] = Service(
                service, command, port, self._folder, logs / f"{service}.log", user
            )
            self._services[service].start()

    def _create_database(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self._query(f"CREATE DATABASE {ROLE}", database="postgres")
                break
            except OSError:
                # It accepts connections before it can serve them.
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_INTERVAL)
        self.command("db", "migrate", limit=MIGRATE_TIMEOUT)

    def _settings(self) -> dict[str, dict[str, str]]:
        settings = super()._settings()
        address = f"{ROLE}:{self._secrets['database']}@127.0.0.1:{self._database_port}/{ROLE}"
        cluster = {
            "core": {
                "executor": "CeleryExecutor",
                "parallelism": str(4 * WORKER_SLOTS),
                "hostname_callable": f"{__name__}.host_name",
            },
            "database": {"sql_alchemy_conn": f"postgresql+psycopg2://{address}"},
            "celery": {
                "broker_url": f"redis://:{self._secrets['broker']}@127.0.0.1:{self._broker_port}/0",
                "result_backend": f"db+postgresql://{address}",
                # An idle worker then holds no further task, which its death would delay.
                "worker_prefetch_multiplier": "1",
            },
            "scheduler": {
                "scheduler_idle_sleep_time": "1",
                "scheduler_health_check_threshold": str(HEALTH_THRESHOLD),
                "orphaned_tasks_check_interval": str(CHECK_INTERVAL),
                "task_queued_timeout": str(QUEUED_TIMEOUT),
                "task_queued_timeout_check_interval": str(CHECK_INTERVAL),
                # Airflow fails a task that was queued in vain more often, whatever its retries are.
                "num_stuck_in_queued_retries": "10",
            },
            "triggerer": {"triggerer_health_check_threshold": str(HEALTH_THRESHOLD)},
        }
        if self.is_airflow_3:
            cluster["scheduler"] |= {
                "task_instance_heartbeat_timeout": str(HEARTBEAT_TIMEOUT),
                "task_instance_heartbeat_timeout_detection_interval": str(CHECK_INTERVAL),
            }
        else:
            cluster["scheduler"] |= {
                "standalone_dag_processor": "True",
                "scheduler_zombie_task_threshold": str(HEARTBEAT_TIMEOUT),
                "zombie_detection_interval": str(ZOMBIE_INTERVAL),
            }
        for section, values in [*cluster.items(), *self.config.items()]:
            settings.setdefault(section, {}).update(values)
        return settings

    def _environment(self, component: str | None = None) -> dict[str, str]:
        # The workers import host_name(). Celery refuses to run as root without C_FORCE_ROOT.
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        own = {HOST_NAME: component} if component else {}
        return {"PYTHONPATH": paths, "C_FORCE_ROOT": "1", **super()._environment(component), **own}

    def _start(self, component: Component) -> None:
        self._starts[component.name].append(datetime.now(timezone.utc))
        super()._start(component)

    def _is_up(self, component: Component) -> bool:
        if component.name in self.names("worker"):
            log = self.logs / "components" / f"{component.name}.log"
            ready = log.read_text(errors="replace").count(f"{component.name}@cluster ready.")
            return ready == len(self._starts[component.name])
        if component.job_type is None:
            return super()._is_up(component)
        query = (
            "SELECT 1 FROM job WHERE job_type = ? AND hostname = ? AND state = 'running' AND start_date > ?"
        )
        return bool(self._query(query, component.job_type, component.name, self._starts[component.name][-1]))

    def _stop_processes(self) -> None:
        try:
            super()._stop_processes()
        finally:
            while self._services:
                self._services.popitem()[1].stop()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _query(self, query: str, *values: object, database: str = ROLE) -> list[tuple[Any, ...]]:
        """Send a query to PostgreSQL; return rows as SQLite would."""
        import psycopg2
        import psycopg2.extras

        try:
            connection = psycopg2.connect(
                host="127.0.0.1",
                port=self._database_port,
                user=ROLE,
                password=self._secrets["database"],
                dbname=database,
            )
        except psycopg2.OperationalError as error:
            raise ConnectionError(f"PostgreSQL accepts no connection: {error}") from error
        with contextlib.closing(connection):
            connection.autocommit = True
            for register in (psycopg2.extras.register_default_json, psycopg2.extras.register_default_jsonb):
                register(connection, loads=str)
            with connection.cursor() as cursor:
                cursor.execute(query.replace("?", "%s"), values)
                return [] if cursor.description is None else [_as_in_sqlite(row) for row in cursor]


def as_user(user: str | None) -> Mapping[str, Any]:
    """Return the arguments of `subprocess` that run a program as a user."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _as_in_sqlite(row: tuple[Any, ...]) -> tuple[Any, ...]:
    def convert(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.astimezone(timezone.utc).replace(tzinfo=None).isoformat(" ")
        return bytes(value) if isinstance(value, memoryview) else value

    return tuple(map(convert, row))
