"""Find the processes of an Airflow home."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 180.0  # seconds; generous for a busy machine
POLL_INTERVAL = 0.1  # seconds


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"not within {TIMEOUT:.0f} s: {what}"
        time.sleep(POLL_INTERVAL)


def processes_in(home: Path) -> dict[int, str]:
    """Return the command lines of all processes whose working directory is in an Airflow home, by id."""
    found = {}
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if Path(os.readlink(link)).is_relative_to(home):
                found[int(link.parent.name)] = (
                    (link.parent / "cmdline").read_text().replace("\0", " ").strip()
                )
        except OSError:
            continue  # The process has ended.
    return found


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc to find processes"
)
