"""The example DAG `clients_import` labels its tasks, and names the keys that it did not import."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from airflow_provider_webcamconsult.sandbox import Sandbox
from devtools import ROOT
from devtools.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from pathlib import Path


def test_report_names_the_key_of_an_invalid_row(airflow_python: str, tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(ROOT / "example_dags" / "clients_import.py", dags)
    rows = (ROOT / "example_dags" / "clients.csv").read_text().replace("1957-11-23", "1957-13-23")
    (dags / "clients.csv").write_text(rows)
    with Sandbox() as sandbox:
        connection = {"conn_type": "webcamconsult", "host": sandbox.url, "password": sandbox.token}
        airflow = LocalAirflow(
            tmp_path / "home",
            dags,
            python=airflow_python,
            env={"AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT": json.dumps(connection)},
        )
        run_id, output = airflow.test_dag("clients_import")
        imported = {client["reference_code"] for client in sandbox.records("clients")}

    assert imported == {"DL-201", "DL-203"}
    assert airflow.run_state("clients_import", run_id) == "failed"
    assert "1 of 3 not imported: DL-202" in output
    labels = airflow._query("SELECT rendered_map_index FROM task_instance WHERE task_id = 'create_client'")
    assert {row[0] for row in labels} == {"DL-201", "DL-202", "DL-203"}
