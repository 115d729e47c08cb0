"""On a cluster with PostgreSQL, Redis and CeleryExecutor, killed parts lose nothing and double nothing."""

from __future__ import annotations

import configparser
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from cryptography.fernet import Fernet

from airflow_provider_webcamconsult.sandbox import Sandbox
from devtools import ROOT
from devtools.cluster import Cluster, find_missing
from devtools.cluster_run import (
    CONNECTION_ID,
    NEVER_PROCESSED,
    NO_RESPONSE,
    PROCESSED_LATER,
    ClusterRun,
    HoldingProxy,
    Result,
    cluster_config,
    count_waits,
    faultless_waits,
    install_dag,
)
from tests.system.processes import TIMEOUT, needs_proc, processes_in, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CONSULTS = 12
CLIENTS = 60

LONG_START = """
import sys
from pathlib import Path
from devtools.cluster import Cluster

home = Path(sys.argv[1])
with Cluster(home, home):
    pass
"""

pytestmark = pytest.mark.slow


class Run(NamedTuple):
    """A run that has ended, and its cluster, which still runs."""

    cluster: Cluster
    result: Result
    token: str


def skip_without_services() -> None:
    pytest.importorskip("psycopg2", reason='this environment lacks the dependency group "cluster"')
    if missing := find_missing():
        reason = f"{missing} not found; `make test` installs PostgreSQL and Redis as root on Debian"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def run(airflow_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Put one run through all kills."""
    skip_without_services()
    home = tmp_path_factory.mktemp("cluster")
    install_dag(home / "dags")
    begin = time.monotonic()

    def log_step(text: str) -> None:
        print(f"{time.monotonic() - begin:.0f} s: {text}")

    with (
        Sandbox() as sandbox,
        HoldingProxy(sandbox.url) as proxy,
        Cluster(home, home / "dags", python=airflow_python, config=cluster_config(CONSULTS)) as cluster,
    ):
        log_step(f"Airflow {cluster.version} is up")
        options = {"consults": CONSULTS, "clients": CLIENTS}
        result = ClusterRun(cluster, sandbox, proxy, **options, say=log_step).run()
        yield Run(cluster, result, sandbox.token)


def test_killed_workers_leave_one_appointment_for_each_booking(run: Run) -> None:
    result = run.result
    assert result.state == "success"
    assert result.appointments == {f"c{number}": 1 for number in range(CONSULTS)}
    assert result.wrong_ids == 0
    # Each worker was killed within a create, and Airflow repeated it.
    assert {kill.point for kill in result.kills} == {NO_RESPONSE, NEVER_PROCESSED, PROCESSED_LATER}
    assert {kill.worker for kill in result.kills} == set(run.cluster.names("worker"))
    assert result.lost_tries["book"] >= 2


def test_sync_whose_worker_is_killed_creates_each_client_once(run: Run) -> None:
    assert run.result.clients == {f"r{number}": 1 for number in range(CLIENTS)}
    assert run.result.lost_tries["sync"] >= 1


def test_broker_that_loses_its_queue_delays_bookings_only(run: Run) -> None:
    assert run.result.left_to_broker > 0
    assert run.result.state == "success"


def test_each_wait_ends_once_although_triggerers_and_schedulers_are_killed(run: Run) -> None:
    assert run.result.waits == faultless_waits(CONSULTS)
    assert run.result.retried_waits == 0


def test_each_change_is_reported_once_although_workers_and_triggerers_are_killed(run: Run) -> None:
    result = run.result
    assert len(result.expected_changes) == CONSULTS + count_waits(CONSULTS)
    assert result.changes == dict.fromkeys(result.expected_changes, 1)


def test_each_of_two_triggerers_sends_one_request_per_interval(run: Run) -> None:
    assert set(run.result.by_triggerer) == set(run.cluster.names("triggerer"))
    assert run.result.is_paced, f"{run.result.polls_per_interval} requests per interval of each triggerer"


@needs_proc
def test_no_service_is_left_after_sigterm_during_the_start(tmp_path: Path) -> None:
    skip_without_services()
    # PostgreSQL's user cannot enter the folder of pytest.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        script = subprocess.Popen(
            [sys.executable, "-c", LONG_START, str(tmp_path)], cwd=ROOT, env={**os.environ, "TMPDIR": folder}
        )
        try:
            wait_until(
                lambda: (
                    any("redis-server" in line for line in processes_in(Path(folder)).values())
                    or script.poll() is not None
                ),
                "Redis runs",
            )
            assert any("postgres" in line for line in processes_in(Path(folder)).values())
        finally:
            script.send_signal(signal.SIGTERM)
            status = script.wait(TIMEOUT)

        assert status == 128 + signal.SIGTERM
        assert processes_in(Path(folder)) == {}
        assert [*Path(folder).iterdir()] == []


@needs_proc
def test_token_is_encrypted_in_database_and_not_in_environment(run: Run) -> None:
    row = run.cluster.stored_connection(CONNECTION_ID)
    assert run.token not in repr(row)
    config = configparser.ConfigParser(interpolation=None)
    config.read(run.cluster.home / "airflow.cfg")
    key = Fernet(config["core"]["fernet_key"])
    encrypted = [value for value in row if isinstance(value, str) and value.startswith("gAAAA")]
    assert run.token in [key.decrypt(value).decode() for value in encrypted]

    processes = processes_in(run.cluster.home)
    assert len(processes) >= len(run.cluster.components)
    for pid in processes:
        try:
            environment = Path(f"/proc/{pid}/environ").read_text(errors="replace")
        except OSError:
            continue  # The process has ended.
        assert "AIRFLOW_CONN_" not in environment
        assert run.token not in environment
