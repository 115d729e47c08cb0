"""
Run a synchronization in a process that is killed at random moments, until one run ends.

Arguments: URL, token, folder for the checkpoint, number of rows, number of kills. Prints the counts of the
last run as JSON. The process forks for each run, because importing Airflow takes longer than a run.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_provider_webcamconsult.api.resources import CLIENT
from airflow_provider_webcamconsult.connection import Settings
from airflow_provider_webcamconsult.sync import run
from airflow_provider_webcamconsult.sync.records import SyncableRecords
from airflow_provider_webcamconsult.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Mapping

FLOOR_SECONDS = 1.0


class FileCheckpoint:
    """A checkpoint in a file, as durable as Airflow's task state store."""

    persistent = True

    def __init__(self, folder: Path) -> None:
        self.file = folder / "checkpoint.json"

    def read(self) -> Mapping[str, Any]:
        stored: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}
        return stored

    def write(self, value: Mapping[str, Any]) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(dict(value)))
        new.replace(self.file)


def sync(url: str, token: str, folder: Path, count: int) -> None:
    settings = Settings(
        base_url=url,
        token=token,
        timezone=pendulum.timezone("Europe/Amsterdam"),
        timeout=30,
        retries=3,
        auth_as_parameter=False,
        plural_paths=False,
        insecure=False,
    )
    clients = SyncableRecords(Transport(settings, logging.getLogger(__name__)), CLIENT)
    rows = [{"reference_code": f"DL-{number}", "last_name": "Ester"} for number in range(count)]
    result = clients.sync(rows, key="reference_code", checkpoint=FileCheckpoint(folder), workers=2)
    (folder / "result.json").write_text(json.dumps(result.counts()))


def main(url: str, token: str, folder: Path, count: int, kills: int) -> None:
    vars(run)["CREATE_FLOOR_SECONDS"] = FLOOR_SECONDS
    seconds = random.Random(7)  # noqa: S311
    for number in range(kills + 1):
        child = os.fork()
        if not child:
            try:
                sync(url, token, folder, count)
            finally:
                os._exit(0)
        if number < kills:
            time.sleep(seconds.uniform(0.02, 0.3) + (FLOOR_SECONDS if number % 2 else 0.0))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    print((folder / "result.json").read_text())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
