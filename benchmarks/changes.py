"""
Measure what it costs to watch a list, and count what is told while triggerers and tasks are killed.

The first part polls a list in this process, and takes its CPU time. The second part changes appointments of a
sandbox while a real Airflow 3.3 or newer follows them: first one by one, then in bursts while its processes
are killed. The third part follows the same bursts by this provider and by the HTTP provider.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.server
import json
import logging
import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.baseline import Baseline, dump
from airflow_provider_webcamconsult.api.changes import Marker, list_digest
from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.sandbox import Sandbox
from airflow_provider_webcamconsult.triggers.changes import WebcamconsultChangesTrigger
from devtools import ROOT
from devtools.changes import COMPLAINT, book, watching

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.connection import Connection

TOKEN = "of-the-benchmark"  # noqa: S105
POLLS = 20
INTERVAL_SECONDS = 1.0
#: Number of changes before the kills, and seconds over which the others are spread.
SINGLE_CHANGES = 8
SPREAD_SECONDS = 120.0
#: Number of bursts, of changes in each, and of appointments in the list.
BURSTS = 3
BURST_CHANGES = 20
BURST_APPOINTMENTS = 200
#: Seconds of a burst, after which a change counts as missed, and in which the requests of no change count.
BURST_SECONDS = 10.0
MISSED_SECONDS = 30.0
QUIET_SECONDS = 60.0


def appointments(number: int) -> list[dict[str, Any]]:
    """Return appointments with random ids and dates."""
    spread = random.Random(1)  # noqa: S311
    return [
        {
            "id": spread.randbytes(12).hex(),
            "state": spread.choice(["idle", "started", "finished", "cancelled"]),
            "user_id": spread.randbytes(12).hex(),
            "client_id": spread.randbytes(12).hex(),
            "date": f"2030-{spread.randint(1, 12):02}-{spread.randint(1, 28):02}T"
            f"{spread.randint(8, 17):02}:{spread.choice(['00', '15', '30', '45'])}:00.000+01:00",
            "duration": 30,
            "inloop_json": {"email": "someemail@somedomain.com"},
        }
        for _ in range(number)
    ]


# -- The cost of a poll --------------------------------------------------------------------------------------


def serve(pipe: Connection, number: int, has_etag: bool) -> None:
    """
    Respond with a list until the process ends.

    :param pipe: receives the port.
    :param number: length of the list.
    :param has_etag: whether the list has an ETag.
    """
    body = json.dumps(appointments(number)).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            is_known = has_etag and self.headers["If-None-Match"] == '"1"'
            self.send_response(304 if is_known else 200)
            self.send_header("Content-Type", "application/json")
            if has_etag:
                self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0" if is_known else str(len(body)))
            self.end_headers()
            if not is_known:
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Log nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pipe.send(server.server_port)
    server.serve_forever()


async def poll(digest: str | None) -> float:
    """Return the CPU seconds of a poll of a list that was taken in."""
    has_read_list = asyncio.Event()

    class State:
        async def aget(self, key: str) -> str | None:
            has_read_list.set()
            return digest

    trigger = WebcamconsultChangesTrigger(
        "appointments", "an-asset", "webcamconsult_default", INTERVAL_SECONDS
    )
    trigger.asset_state_store = State()  # type: ignore[assignment]
    async with aclosing(trigger.run()) as events:  # type: ignore[type-var]
        following = asyncio.ensure_future(anext(events))
        await has_read_list.wait()
        await asyncio.sleep(INTERVAL_SECONDS)
        start = time.process_time()
        await asyncio.sleep(POLLS * INTERVAL_SECONDS)
        seconds = (time.process_time() - start) / POLLS
        if following.done():
            raise RuntimeError("The list was not taken in.")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    return seconds


def cost(number: int) -> Iterator[str]:
    """Yield the rows of the table of the first part."""
    yield f"| {number:,} appointments | |\n| --- | --- |"
    marker = Marker(APPOINTMENT, TOKEN)
    marks = marker.marks(appointments(number))
    context = multiprocessing.get_context("spawn")
    for has_etag, what in ((True, "unchanged poll, with ETags"), (False, "poll without ETags")):
        pipe, far_end = context.Pipe()
        process = context.Process(target=serve, args=(far_end, number, has_etag), daemon=True)
        process.start()
        connection = {
            "conn_type": "webcamconsult",
            "host": f"http://127.0.0.1:{pipe.recv()}",
            "password": TOKEN,
        }
        os.environ["AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT"] = json.dumps(connection)
        yield f"| {what}, CPU, ms | {asyncio.run(poll(list_digest(marks))) * 1000:.1f} |"
        process.terminate()
    size = len(json.dumps(dump(Baseline(marks, marker.check))))
    yield f"| baseline, bytes for each appointment | {size / number:.1f} |"


# -- Kills ---------------------------------------------------------------------------------------------------


def follow(changes: int, triggerer_kills: int, task_kills: int) -> Iterator[str]:
    """Yield the rows of the table of the second part."""
    yield "| an Airflow that follows changes | |\n| --- | --- |"
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox() as sandbox,
        watching(Path(folder), sandbox) as watch,
    ):
        ids = book(sandbox, SINGLE_CHANGES + changes)
        watch.until_baseline()
        for appointment_id in ids[:SINGLE_CHANGES]:
            watch.change(appointment_id)
            time.sleep(random.uniform(6, 9))  # noqa: S311
        watch.until_told()
        for name, value in watch.summary().items():
            yield f"| without kills: {name} | {value} |"

        def change_all() -> None:
            left = ids[SINGLE_CHANGES:]
            while left:
                size = random.choice([1, 1, 2, 5, 10])  # noqa: S311
                burst, left = left[:size], left[size:]
                for appointment_id in burst:
                    watch.change(appointment_id)
                time.sleep(SPREAD_SECONDS * len(burst) / changes)

        def kill_tasks() -> None:
            while watch.task_kills < task_kills and changing.is_alive():
                watch.kill_task()

        changing = threading.Thread(target=change_all)
        killing = threading.Thread(target=kill_tasks)
        changing.start()
        killing.start()
        while watch.triggerer_kills < triggerer_kills:
            time.sleep(random.uniform(1, 5))  # noqa: S311
            watch.kill_triggerer()
        changing.join()
        killing.join()
        watch.until_told()
        for name, value in watch.summary().items():
            yield f"| with kills: {name} | {value} |"


# -- Beside the HTTP provider --------------------------------------------------------------------------------

FOLLOW_LISTS = ROOT / "benchmarks" / "dags" / "follow_lists.py"
#: What follows the appointments: the DAG, and the name of its asset.
FOLLOWERS = {
    "this provider": ("changes", "changed_appointments"),
    "`HttpEventTrigger`, whose events are read": ("http_events", "http_appointments"),
    "`HttpEventTrigger`, and the list again": ("http_list", "http_appointments"),
}


def bursts() -> Iterator[str]:
    """Yield the rows of the table of the third part."""
    yield f"| {BURSTS} bursts of {BURST_CHANGES} changes | {' | '.join(FOLLOWERS)} |"
    yield f"| --- |{' --- |' * len(FOLLOWERS)}"
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox() as ours,
        Sandbox() as theirs,
        watching(Path(folder), ours, dag_file=FOLLOW_LISTS, env=http_environment(theirs)) as watch,
    ):
        sandboxes = {dag_id: ours if dag_id == "changes" else theirs for dag_id, _ in FOLLOWERS.values()}
        left = [book(each, BURST_APPOINTMENTS) for each in (ours, theirs)]
        for dag_id in sandboxes:
            watch.until_baseline(dag_id)
        time.sleep(MISSED_SECONDS)
        before = {dag_id: len(sandbox.requests) for dag_id, sandbox in sandboxes.items()}
        time.sleep(QUIET_SECONDS)
        yield row(
            "requests per minute, while nothing changes",
            (
                (len(each.requests) - before[dag_id]) / QUIET_SECONDS * 60
                for dag_id, each in sandboxes.items()
            ),
            ".0f",
        )
        changed: dict[str, float] = {}
        missed: dict[str, list[int]] = {dag_id: [] for dag_id in sandboxes}
        for _ in range(BURSTS):
            for _ in range(BURST_CHANGES):
                for ids, sandbox in zip(left, (ours, theirs), strict=True):
                    changed[ids[-1]] = time.time()
                    sandbox.set_state(ids.pop(), "finished")
                time.sleep(BURST_SECONDS / BURST_CHANGES)
            time.sleep(MISSED_SECONDS)
            for dag_id, sandbox in sandboxes.items():
                own = {each["id"] for each in sandbox.records("appointments")} & changed.keys()
                missed[dag_id].append(len(own - {record_id for record_id, _ in watch.reports(dag_id)}))
        after = f"changes not reported {MISSED_SECONDS:.0f} s after each burst"
        yield row(after, (", ".join(map(str, each)) for each in missed.values()))
        delays = [
            # A run that requests the list also finds what has changed since its start.
            [max(start - changed[record_id], 0.0) for record_id, start in watch.reports(dag_id)]
            for dag_id in sandboxes
        ]
        for name, function in (("median", statistics.median), ("maximum", max)):
            title = f"from a change to the start of the run that reports it, {name}, s"
            yield row(title, map(function, delays), ".1f")
        stored = [watch.airflow.events(asset) for _, asset in FOLLOWERS.values()]
        yield row("events", map(len, stored))
        yield row("bytes stored for an event", (statistics.mean(map(len, each)) for each in stored), ",.0f")
        texts = ["".join(map(decoded, each)) for each in stored]
        yield row(
            "whether events have personal data", ("yes" if COMPLAINT in text else "no" for text in texts)
        )
        owned = [*zip(texts, sandboxes.values(), strict=True)]
        yield row(
            "appointments whose credential is in an event",
            (
                sum(each["token"] in text for each in sandbox.records("appointments"))
                for text, sandbox in owned
            ),
        )
        yield row(
            "whether the API token is in an event",
            ("yes" if sandbox.token in text else "no" for text, sandbox in owned),
        )


def http_environment(sandbox: Sandbox) -> dict[str, str]:
    """Return what the HTTP provider needs: a connection, and the path of a function that it imports."""
    headers = {"Authorization": f"Token token={sandbox.token}"}
    connection = {"conn_type": "http", "host": sandbox.url, "extra": headers}
    return {
        "AIRFLOW_CONN_HTTP_DEFAULT": json.dumps(connection),
        "PYTHONPATH": os.pathsep.join([str(FOLLOW_LISTS.parent), str(ROOT)]),
    }


def row(name: str, values: Iterable[Any], form: str = "") -> str:
    """Return a row of a table."""
    return f"| {name} | {' | '.join(format(value, form) for value in values)} |"


def decoded(extra: str) -> str:
    """Return what is stored for an event, with the body of a response as text."""
    payload = json.loads(extra)["payload"]
    return extra + base64.b64decode(payload.get("response", {}).get("content", "")).decode()


def main() -> None:
    """Run the benchmark, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().split("\n\n", maxsplit=1)[0])
    parser.add_argument("--only", choices=["cost", "follow", "bursts"], help="run only this part")
    parser.add_argument(
        "--appointments", type=int, default=10_000, help="length of the list (default: 10000)"
    )
    parser.add_argument("--changes", type=int, default=200, help="changes under kills (default: 200)")
    parser.add_argument("--triggerer-kills", type=int, default=11, help="(default: 11)")
    parser.add_argument("--task-kills", type=int, default=6, help="(default: 6)")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # the sandbox's requests
    parts = {
        "cost": cost(arguments.appointments),
        "follow": follow(arguments.changes, arguments.triggerer_kills, arguments.task_kills),
        "bursts": bursts(),
    }
    for name, rows in parts.items():
        if arguments.only in (None, name):
            print(f"\n## {name}\n")
            for row in rows:
                print(row, flush=True)


if __name__ == "__main__":
    main()
