"""
DAGs that follow appointments by this provider and by ``HttpEventTrigger``, for the benchmark.

Each has one task, which returns the appointments that have finished and that no earlier run has returned.
``HttpEventTrigger`` fires if the list is not the one that it fired for last. ``http_events`` takes the lists
from the events that started its run, and ``http_list`` requests the list again. What they have seen is in
files, because this trigger keeps nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.http.triggers.http import HttpEventTrigger, HttpResponseSerializer
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_webcamconsult.operators.changes import WebcamconsultListChangesOperator
from airflow_provider_webcamconsult.triggers.changes import webcamconsult_changes

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(os.environ["CHANGES_FOLDER"])
#: Seconds between two polls.
INTERVAL_SECONDS = 2
ENDPOINT = "appointments.json"


ours = webcamconsult_changes(name="changed_appointments", poke_interval=INTERVAL_SECONDS)

with DAG("changes", schedule=[ours], max_active_runs=1):
    WebcamconsultListChangesOperator(
        task_id="list_changes", inlets=[ours], changes=["state"], states=["finished"]
    )


async def has_changed(response: Any) -> bool:
    """Return whether the list differs from the one before."""
    file, digest = FOLDER / "http_digest", hashlib.sha256(response.content).hexdigest()
    if file.exists() and file.read_text() == digest:
        return False
    file.write_text(digest)
    return True


def report(name: str, lists: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the finished appointments of some lists that are not in the file with a name, and add them."""
    file = FOLDER / name
    told = set(json.loads(file.read_text())) if file.exists() else set()
    found = {each["id"] for records in lists for each in records if each["state"] == "finished"} - told
    file.write_text(json.dumps([*told, *found]))
    return [{"id": record_id} for record_id in sorted(found)]


theirs = Asset(
    "http_appointments",
    watchers=[
        AssetWatcher(
            name="http_appointments",
            trigger=HttpEventTrigger(
                response_check_path="follow_lists.has_changed",
                endpoint=ENDPOINT,
                poll_interval=INTERVAL_SECONDS,
            ),
        )
    ],
)

with DAG("http_events", schedule=[theirs], max_active_runs=1):

    @task
    def read_events(*, triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        """Return the appointments in the events that started the run."""
        events = triggering_asset_events[theirs]
        responses = (HttpResponseSerializer.deserialize(each.extra["payload"]["response"]) for each in events)
        return report("http_events", (each.json() for each in responses))

    read_events.override(task_id="list_changes")()

with DAG("http_list", schedule=[theirs], max_active_runs=1):

    @task
    def request_list() -> list[dict[str, Any]]:
        """Return the appointments in the list."""
        return report("http_list", [HttpHook("GET").run(ENDPOINT).json()])

    request_list.override(task_id="list_changes")()
