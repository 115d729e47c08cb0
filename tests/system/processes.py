"""The processes that work in an Airflow home."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 180.0  # seconds, for what takes a few on a quiet machine
POLL_INTERVAL = 0.1  # seconds


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"not within {LIMIT:.0f} s: {what}"
        time.sleep(POLL_INTERVAL)


def processes_in(home: Path) -> dict[int, str]:
    """Return the processes that work in an Airflow home, with command lines, whoever is their parent."""
    found = {}
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if Path(os.readlink(link)).is_relative_to(home):
                found[int(link.parent.name)] = (
                    (link.parent / "cmdline").read_text().replace("\0", " ").strip()
                )
        except OSError:
            continue  # It has ended meanwhile.
    return found


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc to look for what is left"
)
