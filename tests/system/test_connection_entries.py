"""Connections read the same from every source, and Airflow's commands show the provider."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.get_provider_info import CONNECTION_FIELDS
from tests.system.connection_readings import read_connections

if TYPE_CHECKING:
    from devtools.local_airflow import LocalAirflow

pytestmark = pytest.mark.browser

TOKEN = "t0ken/with+signs=&%"
EXTRA = {
    "timezone": "America/New_York",
    "timeout": 2.5,
    "retries": 1,
    "auth_as_parameter": True,
    "plural_paths": False,
    "insecure": True,
}
CONNECTION = {
    "conn_type": "webcamconsult",
    "host": "https://example.com/api",
    "port": 8443,
    "password": TOKEN,
    "extra": EXTRA,
}
JSON = json.dumps(CONNECTION)
URI = (
    "webcamconsult://:t0ken%2Fwith%2Bsigns%3D%26%25@https%3A%2F%2Fexample.com%2Fapi:8443/"
    "?timezone=America%2FNew_York&timeout=2.5&retries=1&auth_as_parameter=true&plural_paths=false&insecure=true"
)
READ = {
    "base_url": "https://example.com:8443/api",
    "token": TOKEN,
    "timezone": "America/New_York",
    "timeout": 2.5,
    "retries": 1,
    "auth_as_parameter": True,
    "plural_paths": False,
    "insecure": True,
}
DEFAULTS = {
    "base_url": "https://eapi.webcamconsult.com",
    "token": "a-token",
    "timezone": "Europe/Amsterdam",
    "timeout": 30,
    "retries": 3,
    "auth_as_parameter": False,
    "plural_paths": False,
    "insecure": False,
}


def test_connection_reads_the_same_from_command_line_and_environment(
    local_airflow: LocalAirflow,
) -> None:
    local_airflow.command("connections", "add", "added_as_json", "--conn-json", JSON)
    local_airflow.command("connections", "add", "added_as_uri", "--conn-uri", URI)
    variables = {"AIRFLOW_CONN_JSON_VARIABLE": JSON, "AIRFLOW_CONN_URI_VARIABLE": URI}

    names = ("added_as_json", "added_as_uri", "json_variable", "uri_variable")
    readings = read_connections(local_airflow, *names, env=variables)

    assert dict(zip(names, readings, strict=True)) == dict.fromkeys(names, READ)


def test_omitted_connection_fields_have_their_defaults(local_airflow: LocalAirflow) -> None:
    few = {"conn_type": "webcamconsult", "password": "a-token"}
    local_airflow.command("connections", "add", "few_as_json", "--conn-json", json.dumps(few))
    local_airflow.command("connections", "add", "few_as_uri", "--conn-uri", "webcamconsult://:a-token@")
    some = {**few, "extra": {"retries": 5, "timezone": None}}
    variables = {
        "AIRFLOW_CONN_FEW_JSON_VARIABLE": json.dumps(few),
        "AIRFLOW_CONN_FEW_URI_VARIABLE": "webcamconsult://:a-token@",
        "AIRFLOW_CONN_SOME_VARIABLE": json.dumps(some),
    }

    names = ("few_as_json", "few_as_uri", "few_json_variable", "few_uri_variable", "some_variable")
    readings = read_connections(local_airflow, *names, env=variables)

    assert readings == [DEFAULTS] * 4 + [{**DEFAULTS, "retries": 5}]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["list"], ["airflow-provider-webcamconsult"]),
        (["get", "airflow-provider-webcamconsult", "--full"], ["connection-types", *CONNECTION_FIELDS]),
        (["hooks"], ["webcamconsult", "Webcamconsult", "webcamconsult_conn_id"]),
        (["widgets"], [f"extra__webcamconsult__{name}" for name in CONNECTION_FIELDS]),
        (["behaviours"], ["webcamconsult"]),
    ],
    ids=lambda value: value[0] if value and len(value) < 4 and value[0].islower() else "",
)
def test_providers_command_shows_the_provider_without_warnings(
    command: list[str], shown: list[str], local_airflow: LocalAirflow
) -> None:
    if command[0] in ("widgets", "behaviours") and local_airflow.version.startswith(("3.0.", "3.1.")):
        pytest.skip("Airflow 3.0 and 3.1 list none for any provider, unless the FAB provider is installed")
    printed = local_airflow.command("providers", *command, "--output", "json")

    (start,) = re.findall(r"^(?:\[\]|\[?{).*", printed, re.MULTILINE | re.DOTALL)
    entries: Any = json.loads(start)
    ours = json.dumps([entry for entry in entries if "webcamconsult" in json.dumps(entry)])
    assert [text for text in shown if text not in ours] == []
    warnings = printed[: printed.index(start)]
    assert not re.search("webcamconsult|importing|exception", warnings, re.IGNORECASE), warnings
