"""Run the sandbox in its own process, for a real Airflow."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from devtools import ROOT
from devtools.local_airflow import defer_signals

if TYPE_CHECKING:
    from pathlib import Path

STATES = "idle:5s,started:5s,finished"
CONNECTION = "AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT"

# Timeouts in seconds. They are generous: only failures reach them, even on a slow machine.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 5.0
REQUEST_TIMEOUT = 10.0

POLL_INTERVAL = 0.2  # seconds


class LocalSandboxError(RuntimeError):
    """The sandbox did not start. The message ends with its output."""


class LocalSandbox:
    """
    A running sandbox: `with LocalSandbox(log) as sandbox:`.

    :param log: file for its output.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self.connection: dict[str, Any] = {}
        """The Airflow connection to the sandbox."""
        self.variable = ""
        """The same connection, as the value of the environment variable :data:`CONNECTION`."""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LocalSandbox:
        command = [sys.executable, "-m", "airflow_provider_webcamconsult.sandbox", "--port", "0"]
        try:
            with self.log.open("wb") as output, defer_signals():
                self._process = subprocess.Popen(
                    [*command, "--states", STATES],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    # Ctrl-C in the terminal signals only the script, which then stops its processes in order.
                    start_new_session=True,
                )
            self.variable = self._wait_for_connection(self._process)
            self.connection = json.loads(self.variable)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def describe(self) -> str:
        """Return a text with the URL, and with the states that appointments go through."""
        states = STATES.replace(":", " for ").replace(",", ", then ")
        return f"{self.connection['host']} (new appointments are {states})"

    def records(self, resource: str) -> list[dict[str, Any]]:
        """Return all users, clients or appointments."""
        headers = {"Authorization": f"Token token={self.connection['password']}"}
        request = urllib.request.Request(f"{self.connection['host']}/{resource}.json", headers=headers)  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=REQUEST_TIMEOUT) as response:
            records: list[dict[str, Any]] = json.load(response)
        return records

    def _wait_for_connection(self, process: subprocess.Popen[bytes]) -> str:
        """Wait until the sandbox prints the Airflow connection, and return its JSON."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            text = self.log.read_text()
            for line in text.splitlines(keepends=True):
                if line.startswith(f"export {CONNECTION}=") and line.endswith("\n"):
                    return shlex.split(line)[1].partition("=")[2]
            if process.poll() is not None or time.monotonic() > deadline:
                raise LocalSandboxError(f"The sandbox did not start:\n{text}")
            time.sleep(POLL_INTERVAL)

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
