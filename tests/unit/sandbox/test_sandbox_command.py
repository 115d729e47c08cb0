"""``python -m airflow_provider_webcamconsult.sandbox`` as a separate process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_webcamconsult.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "airflow_provider_webcamconsult.sandbox"]


@dataclass
class Command:
    """A sandbox that runs as a command, and its output on start."""

    process: subprocess.Popen[str]
    banner: str

    @property
    def connection(self) -> dict[str, Any]:
        name, _, value = shlex.split(self.banner.splitlines()[-1])[1].partition("=")
        assert name == "AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT"
        connection: dict[str, Any] = json.loads(value)
        return connection

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Token token={self.connection['password']}"}
        return requests.request(
            method, f"{self.connection['host']}{path}", headers=headers, timeout=30, **options
        )

    def end(self, signal_number: int = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(signal_number)
        rest, log = self.process.communicate(timeout=30)
        assert rest == ""
        return self.process.returncode, log


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Command]:
    with subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As in a user's pipe: output that is not flushed does not arrive.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    ) as process:
        assert process.stdout
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        banner = ""
        while not banner.startswith("export") and "\nexport" not in banner:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            banner += line
        try:
            yield Command(process, banner)
        finally:
            watchdog.cancel()
            process.kill()


def error_output(*arguments: str) -> str:
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def test_banner_shows_url_tokens_and_connection() -> None:
    with running() as command:
        url = command.connection["host"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        tokens = ("38826f79010b41b5aaeb4710debb09db", "eb4710debb09db38826f79010b41b5aa")
        for shown in (url, *tokens):
            assert shown in command.banner
        line = {"conn_type": "webcamconsult", "host": url, "password": tokens[0]}
        export = f"export AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT='{json.dumps(line)}'"
        assert command.banner.splitlines()[-1] == export
        assert command("GET", "/users.json").status_code == 200


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_sigint_and_sigterm_stop_cleanly_with_open_connections(signal_number: int) -> None:
    with running() as command, requests.Session() as session:
        session.get(f"{command.connection['host']}/nothing.json", timeout=30)
        assert command.end(signal_number) == (0, "GET /*** 404\n")


def test_log_contains_no_tokens_or_personal_data() -> None:
    with running() as command:
        body = {"user": {"last_name": "Akkermans", "email": "jakkermans@example.com"}}
        token = command.connection["password"]
        command("POST", f"/users.json?authentication_token={token}&email=jakkermans@example.com", json=body)
        command("GET", "/users/jakkermans@example.com.json")
        assert command.end() == (0, "POST /users.json 200\nGET /users/*** 404\n")


def test_options_are_passed_to_sandbox() -> None:
    with running(
        "--token", "one", "two", "--token", "it's", "--states", "begonnen", "--plural-paths"
    ) as command:
        assert command.connection["password"] == "one"
        assert command.connection["extra"] == {"plural_paths": True}
        assert all(f"Token: {token}\n" in command.banner for token in ("one", "two", "it's"))
        created = command("POST", "/appointments.json", json={"appointment": {"duration": 30}}).json()
        assert created["appointment"]["state"] == "begonnen"
        record_id = created["appointment"]["id"]
        assert command("GET", f"/appointments/{record_id}.json").json() == created
        assert command("GET", f"/appointment/{record_id}.json").status_code == 404


def test_data_survives_kill_and_restart(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    with running("--data", str(data)) as command:
        created = command("POST", "/users.json", json={"user": {"last_name": "Akkermans"}}).json()["user"]
        command.end(signal.SIGKILL)
    with running("--data", str(data)) as command:
        assert command("GET", f"/users/{created['id']}.json").json() == {"user": created}


def test_port_in_use_prints_one_line_error() -> None:
    with Sandbox() as sandbox:
        port = sandbox.url.rpartition(":")[2]
        error = error_output("--port", port)
    assert len(error.splitlines()) == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in error
    assert "Use port 0 to pick a free port" in error


@pytest.mark.parametrize("states", ["idle,finished", "idle:5x,finished", ""])
def test_invalid_states_print_one_line_error(states: str) -> None:
    error = error_output("--port", "0", "--states", states)
    assert len(error.splitlines()) == 1
    assert "states" in error


def test_damaged_data_file_prints_one_line_error(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text("{")
    error = error_output("--port", "0", "--data", str(data))
    assert len(error.splitlines()) == 1
    assert "data.json" in error


def test_missing_extra_prints_install_command() -> None:
    code = (
        "import runpy, sys; sys.modules['uvicorn'] = None;"
        "runpy.run_module('airflow_provider_webcamconsult.sandbox', run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "python -m airflow_provider_webcamconsult.sandbox: The sandbox requires uvicorn, which is not "
        "installed. Install the provider with its extra 'sandbox', for example pip install '.[sandbox]' in a "
        "checkout, or run: pip install starlette uvicorn"
    ]
