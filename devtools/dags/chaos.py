"""
Tasks that are killed while they write, that create in pairs, or whose responses are lost, for `make chaos`.

The plan is in `chaos.json` beside this file.
"""

from __future__ import annotations

import datetime
import functools
import http.client
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_webcamconsult import idempotent_create, transport
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultSyncClientsOperator,
)
from airflow_provider_webcamconsult.sync import run

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAN: dict[str, Any] = json.loads(Path(__file__).with_name("chaos.json").read_text())
# The proxy never processes a request later than this.
idempotent_create.CREATE_FLOOR_SECONDS = PLAN["floor"]
vars(run)["CREATE_FLOOR_SECONDS"] = PLAN["floor"]
idempotent_create.LOOKUP_DELAYS_SECONDS = PLAN["lookup_delays"]
START = datetime.datetime(2030, 1, 1, 9, tzinfo=datetime.timezone.utc)

for conn_id, timeout in {"CHAOS": PLAN["timeout"], "CHAOS_PAIRS": PLAN["pair_timeout"]}.items():
    os.environ[f"AIRFLOW_CONN_{conn_id}"] = json.dumps(
        {
            "conn_type": "webcamconsult",
            "host": PLAN["url"],
            "password": PLAN["token"],
            "extra": {"timeout": timeout},
        }
    )
os.environ["AIRFLOW_CONN_CHAOS_HTTP"] = json.dumps({"conn_type": "http", "host": PLAN["url"]})


def report(number: int, stage: str) -> None:
    """Report this process and its stage to the proxy, which may kill it before it responds."""
    connection = http.client.HTTPConnection(urlsplit(PLAN["url"]).netloc)
    connection.request("POST", f"/chaos/{number}/{stage}/{os.getpid()}")
    connection.getresponse().read()


def reporting_encode(body: Any) -> bytes:
    """Report a create between its checkpoint and its request, and encode its body."""
    report(body["appointment"]["inloop_json"]["number"], "stored")
    return encode(body)


encode = transport.encode  # type: ignore[attr-defined]


def consult(number: int, prefix: str = "c") -> dict[str, Any]:
    """Return the attributes of one appointment."""
    start = START + datetime.timedelta(hours=number)
    return {"user_id": "u1", "client_id": f"{prefix}{number}", "date": start.isoformat(), "duration": 30}


def reporting_consult(number: int, _context: Any) -> Any:
    """Return the same attributes, and report the progress of the create."""
    transport.encode = reporting_encode  # type: ignore[attr-defined]
    report(number, "started")
    return {**consult(number), "inloop_json": {"number": number}}


def rows(number: int, stage: str, _context: Any) -> Iterator[dict[str, str]]:
    """Yield the clients of a sync: first every second one, with an old name."""
    if stage == "sync":
        report(number, "started")
    is_prepared = stage == "prepare"
    for row in range(PLAN["sync_rows"] + (PLAN["sync_gone"] if is_prepared else 0)):
        if row % 2 or not is_prepared:
            key = f"s{number}-{row}"
            yield {"reference_code": key, "last_name": PLAN["sync_old"] if is_prepared else key}


# Airflow 2 may find the same dead task several times, and each time uses up a try.
ARGUMENTS: dict[str, Any] = {"retries": 10, "retry_delay": datetime.timedelta(0)}
# Airflow 2 counts a dead task as active until it finds it. Airflow 3 queues all tasks that may be active at
# once, and retries behind them.
MAX_ACTIVE_TASKS = 1000 if airflow_version.startswith("2.") else 4

with DAG(
    "chaos_kills", schedule=None, catchup=False, default_args=ARGUMENTS, max_active_tasks=MAX_ACTIVE_TASKS
):
    for number in PLAN["kills"]:
        WebcamconsultCreateAppointmentOperator(
            task_id=f"create_{number}",
            attributes=functools.partial(reporting_consult, number),
            if_exists=PLAN["if_exists"][number % len(PLAN["if_exists"])],
            webcamconsult_conn_id="chaos",
            # A retry starts before the tasks after it.
            priority_weight=len(PLAN["kills"]) - number,
        )

with DAG(
    "chaos_races", schedule=None, catchup=False, default_args=ARGUMENTS, max_active_tasks=MAX_ACTIVE_TASKS
):
    operators: dict[str, Any] = {
        "clients": WebcamconsultCreateClientOperator,
        "appointments": WebcamconsultCreateAppointmentOperator,
    }
    for kind, pairs in PLAN["races"].items():
        if not pairs:
            continue
        operators[kind].partial(task_id=f"create_{kind}", webcamconsult_conn_id="chaos_pairs").expand_kwargs(
            [
                {
                    "attributes": {"reference_code": f"p{pair}"} if kind == "clients" else consult(pair, "p"),
                    "if_exists": PLAN["race_if_exists"][pair % len(PLAN["race_if_exists"])],
                }
                for pair in pairs
                for _ in range(2)
            ]
        )

if PLAN["lost"]:
    from airflow.providers.http.operators.http import HttpOperator

    with DAG(
        "chaos_lost", schedule=None, catchup=False, default_args=ARGUMENTS, max_active_tasks=MAX_ACTIVE_TASKS
    ):
        for number in PLAN["lost"]:
            WebcamconsultCreateAppointmentOperator(
                task_id=f"ours_{number}",
                attributes=consult(number),
                webcamconsult_conn_id="chaos",
            )
            HttpOperator(
                task_id=f"theirs_{number}",
                http_conn_id="chaos_http",
                endpoint="/appointments.json",
                method="POST",
                headers={
                    "Authorization": f"Token token={PLAN['other_token']}",
                    "Content-Type": "application/json",
                },
                data=json.dumps({"appointment": consult(number)}),
                extra_options={"timeout": PLAN["timeout"]},
            )

with DAG(
    "chaos_syncs", schedule=None, catchup=False, default_args=ARGUMENTS, max_active_tasks=MAX_ACTIVE_TASKS
):
    for number in PLAN["syncs"]:
        prepare, sync, again = (
            WebcamconsultSyncClientsOperator(
                task_id=f"{stage}_{number}",
                rows=functools.partial(rows, number, stage),
                key="reference_code",
                mode="mirror",
                key_prefix=f"s{number}-",
                max_deletes=1.0,
                webcamconsult_conn_id="chaos",
            )
            for stage in ("prepare", "sync", "again")
        )
        prepare >> sync >> again
