"""Syncs, and one mapped create for each row, for the benchmark. The plan is beside this file."""

from __future__ import annotations

import json
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultSyncClientsOperator,
)

for number, plan in json.loads(Path(__file__).with_name("plan.json").read_text()).items():
    with DAG(f"sync_{number}", schedule=None, catchup=False):
        WebcamconsultSyncClientsOperator(
            task_id="sync",
            rows=plan["rows"],
            key="reference_code",
            workers=plan["workers"],
            webcamconsult_conn_id=f"clients_{number}",
        )
    if plan["mapped"]:
        with DAG(f"mapped_{number}", schedule=None, catchup=False):
            WebcamconsultCreateClientOperator.partial(
                task_id="create", if_exists="update", webcamconsult_conn_id=f"clients_{number}"
            ).expand(attributes=plan["mapped"])
