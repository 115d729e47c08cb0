"""`make ui`: a real Airflow with its UI, until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devtools import ROOT
from tests.system.processes import TIMEOUT, needs_proc, processes_in, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.browser

FEEDBACK_TIMEOUT = 2.0
"""Seconds until the script must show that it noticed Ctrl-C."""

STOP_TIMEOUT = 60.0  # seconds; generous for a busy machine


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Bind the script's preferred port, unless it is already taken."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", 8080))
            other.listen()
        except OSError:
            pass
        yield 8080


def sandboxes() -> set[str]:
    """Return the ids of the processes that run the sandbox's command."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if "airflow_provider_webcamconsult.sandbox" in (folder / "cmdline").read_text():
                found.add(folder.name)
    return found


@pytest.fixture
def no_sandbox_left() -> Iterator[None]:
    """Check that the test leaves no sandbox running. Other tests may run theirs."""
    before = sandboxes()
    yield
    assert sandboxes() <= before


@needs_proc
@pytest.mark.usefixtures("no_sandbox_left")
def test_ui_is_ready_when_it_says_so_and_ctrl_c_stops_everything(
    airflow_python: str, output: Path, taken_port: int
) -> None:
    with output.open("wb") as file:
        script = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "ui.py"), airflow_python],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
    home = ROOT / ".airflow" / "ui"
    try:
        wait_until(
            lambda: "Press Ctrl-C to stop." in output.read_text() or script.poll() is not None, "it is ready"
        )
        printed = output.read_text()
        assert "no login needed" in printed
        pages = re.findall(r"http://127\.0\.0\.1:\d+/\S+", printed)
        assert len(pages) == 2
        assert f":{taken_port}/" not in printed
        for page in pages:
            with urllib.request.urlopen(page, timeout=TIMEOUT) as response:  # noqa: S310
                assert response.status == 200

        env = {**os.environ, "AIRFLOW_HOME": str(home)}
        command = [airflow_python, "-m", "airflow", "connections", "test", "webcamconsult_default"]
        tested = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert "Connection success!" in tested.stdout

        second = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "ui.py")],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert second.returncode == 1
        assert "Another `make ui` is running" in second.stderr
    finally:
        script.send_signal(signal.SIGINT)
        interrupted = time.monotonic()
        while "Stopping" not in output.read_text() and time.monotonic() - interrupted < FEEDBACK_TIMEOUT:
            time.sleep(0.05)
        gave_feedback = "Stopping" in output.read_text()
        script.wait(STOP_TIMEOUT)

    assert gave_feedback
    assert script.returncode == 0
    assert output.read_text().endswith("Nothing is left running.\n")
    assert processes_in(home) == {}


@needs_proc
@pytest.mark.usefixtures("no_sandbox_left")
@pytest.mark.parametrize("after", [0.0, 0.3, 0.6, 0.9, 3.0], ids=lambda after: f"{after} s")
def test_signal_during_startup_stops_everything(after: float, output: Path) -> None:
    with output.open("wb") as file:
        script = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "ui.py")],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
    wait_until(lambda: "starting" in output.read_text() or script.poll() is not None, "it starts")
    time.sleep(after)
    script.send_signal(signal.SIGHUP)  # sent when a terminal is closed
    assert script.wait(STOP_TIMEOUT) == 128 + signal.SIGHUP
    assert processes_in(ROOT / ".airflow" / "ui") == {}
