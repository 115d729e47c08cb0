"""
Run a synchronization in processes that are killed at random moments among their creates, until one run ends.

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
import threading
import traceback
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

    from airflow_provider_webcamconsult.api.request import Request

FLOOR_SECONDS = 0.5


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


class KilledTransport(Transport):
    """A transport that kills its process with SIGKILL a moment after it has begun to send some creates."""

    creates_left = 0
    delay = 0.0

    def send(self, request: Request, **arguments: Any) -> Any:
        if request.is_create:
            self.creates_left -= 1
            if not self.creates_left:
                threading.Timer(self.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return super().send(request, **arguments)


def sync(url: str, token: str, folder: Path, count: int, creates: int, delay: float) -> None:
    settings = Settings(
        conn_id="sandbox",
        base_url=url,
        token=token,
        timezone=pendulum.timezone("Europe/Amsterdam"),
        timeout=30,
        retries=3,
        auth_as_parameter=False,
        plural_paths=False,
        insecure=False,
    )
    transport = KilledTransport(settings, logging.getLogger(__name__))
    transport.creates_left, transport.delay = creates, delay
    clients = SyncableRecords(transport, CLIENT)
    rows = [{"reference_code": f"DL-{number}", "last_name": "Ester"} for number in range(count)]
    result = clients.sync(rows, key="reference_code", checkpoint=FileCheckpoint(folder), workers=2)
    (folder / "result.json").write_text(json.dumps(result.counts()))


def main(url: str, token: str, folder: Path, count: int, kills: int) -> None:
    vars(run)["CREATE_FLOOR_SECONDS"] = FLOOR_SECONDS
    random_values = random.Random(7)  # noqa: S311
    for number in range(kills + 1):
        # The last run is not killed.
        creates = random_values.randint(2, count // kills) if number < kills else 0
        delay = random_values.uniform(0.0, 0.01)
        child = os.fork()
        if not child:
            try:
                sync(url, token, folder, count, creates, delay)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    print((folder / "result.json").read_text())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
