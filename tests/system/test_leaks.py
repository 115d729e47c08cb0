"""
Airflow stores no patients' data and no tokens.

All example DAGs, and many calls that fail, run with the log level DEBUG. Then every file of the Airflow home,
every table of the database and all output are searched for unique values. The same search finds what a
careless DAG leaks.
"""

from __future__ import annotations

import csv
import http.server
import json
import logging
import shutil
import socket
import subprocess
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_webcamconsult.sandbox import Sandbox
from devtools import ROOT
from devtools.local_airflow import LocalAirflow
from tests.system import leaks
from tests.system.processes import wait_until

DAGS = {
    "booking": "success",
    "clients_import": "success",
    "clients_sync": "success",
    "reminders": "success",
    "offboarding": "success",
    "consult_finished": "success",
    "careful": "success",
    "failing": "failed",
    "careless": "failed",
    "changes": "success",
}
"""The DAGs, and the final states of their runs."""

# Unique values with characters that JSON and URLs encode.
TOKENS = {
    name: f"zq{name}xv/+=token"
    for name in ("parameter", "header", "wrong", "wrong_parameter", "echo", "echo_parameter", "refused")
}
USERS = ("native", "booking_user")
CLIENTS = ("rendered", "mapped", "own", "failing", "booking_client", "row1", "row2", "sync1", "sync2")
COMPLAINT = "Zqcomplaintéxv"

LINEAGE = "lineage.jsonl"

FAULTS = ("echoes", "redirects", "fails", "web_page", "disconnects", "stores_other")

CONTROL = {
    "printed": "zqprintedxv",
    "debug": "zqdebugxv",
    "raised": "zqraisedxv",
    "JSON": "zqjsonéxv",
    "URL": "zqurl+=xv",
    "base64": "zqbase64xv",
    "token": "zqcontroltoken+=xv",
    "returned": "zqreturnedxv",
    "rendered": "zqrenderedxv",
    "conf": "zqconfxv",
    "parsed": "zqparsedxv",
}
FOUND = {
    ("printed", "plain", "task log"),
    ("debug", "plain", "task log"),
    ("raised", "plain", "task log"),
    ("JSON", "JSON", "task log"),
    ("URL", "URL", "task log"),
    ("base64", "base64", "task log"),
    ("token", "URL", "task log"),
    ("returned", "plain", "table xcom"),
    ("rendered", "plain", "table rendered_task_instance_fields"),
    ("conf", "plain", "table dag_run"),
    ("parsed", "plain", "commands.log"),
}
#: Airflow 3.0 does not log lines of level DEBUG.
NOT_FOUND_3_0 = {("debug", "plain", "task log"), ("token", "URL", "task log")}


def user(name: str) -> dict[str, str]:
    return {
        "last_name": f"Zq{name}Éclair",
        "email": f"zq{name}+post@example.com",
        "address": f"Zq{name}straat 731",
    }


def client(name: str) -> dict[str, str]:
    number = CLIENTS.index(name)
    born = f"19{41 + number}-07-{13 + number}"
    return {"last_name": f"Zq{name}Éclair", "email": f"zq{name}+post@example.com", "date_of_birth": born}


def secrets(sandbox: Sandbox) -> dict[str, str]:
    """Return the values that must not be found: tokens, personal data, and credentials to open consults."""
    found = {f"token {name}": token for name, token in TOKENS.items()} | {"complaint": COMPLAINT}
    for name in (*USERS, *CLIENTS):
        person = user(name) if name in USERS else client(name)
        found |= {f"{key} of {name}": value for key, value in person.items()}
        year, month, day = person.get("date_of_birth", "0000-00-00").split("-")
        if year != "0000":
            found[f"birthday of {name}"] = f"{day}-{month}-{year}"
    for token in sandbox.tokens:
        for kind, credential in (("clients", "authentication_token"), ("appointments", "token")):
            for record in sandbox.records(kind, token):
                found[f"{credential} of {record['id']}"] = record[credential]
    return found


class EchoServer(http.server.ThreadingHTTPServer):
    """
    A host that echoes requests in faulty ways. The first segment of the path names the fault.

    :param other_host: URL that it redirects to.
    """

    daemon_threads = True

    def __init__(self, other_host: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _EchoHandler)
        self.other_host = other_host
        self.received: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _EchoHandler(http.server.BaseHTTPRequestHandler):
    server: EchoServer

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        received = f"{self.path} {self.headers} {body}"
        self.server.received.append(received)
        sent = json.loads(body or "{}")
        attributes = sent.get("client", {})
        fault = urlsplit(self.path).path.split("/")[1]
        if fault == "disconnects":
            self.close_connection = True
        elif fault == "redirects":
            self.send(307, "", Location=f"{self.server.other_host}{self.path}")
        elif fault == "web_page":
            self.send(200, f"<html>{received}</html>")
        elif fault == "stores_other":
            other = {name: f"{value}!" for name, value in attributes.items()}
            self.send(200, json.dumps({"client": {"id": "an-id", **other, "token": received}}))
        elif fault == "echoes":
            values = [*attributes.values(), sent.get("authentication_token", "")]
            errors = {f"{value} is wrong": [value, f"'{value}' is wrong"] for value in values}
            self.send(422, json.dumps({"errors": errors}))
        else:
            self.send(500, json.dumps({"error": received}))

    do_GET = do_POST = do_PUT = do_DELETE = handle_request

    def send(self, status: int, text: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def connections(sandbox: Sandbox, echo: EchoServer, refused: socket.socket) -> dict[str, Any]:
    def connection(host: str, token: str, auth_as_parameter: bool) -> dict[str, Any]:
        extra = json.dumps({"auth_as_parameter": auth_as_parameter, "retries": 0})
        return {"conn_type": "webcamconsult", "host": host, "password": TOKENS[token], "extra": extra}

    made = {
        "webcamconsult_default": connection(sandbox.url, "parameter", True),
        "as_header": connection(sandbox.url, "header", False),
        "wrong_token": connection(sandbox.url, "wrong", False),
        "wrong_token_as_parameter": connection(sandbox.url, "wrong_parameter", True),
    }
    refused.bind(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{refused.getsockname()[1]}"
    for name, how in (("refused", False), ("refused_as_parameter", True)):
        made[name] = connection(address, "refused", how)
    for fault in FAULTS:
        made[fault] = connection(f"{echo.url}/{fault}", "echo", False)
        made[f"{fault}_as_parameter"] = connection(f"{echo.url}/{fault}", "echo_parameter", True)
    return made


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the DAGs, with files of unique people."""
    folder = tmp_path_factory.mktemp("leak-dags")
    for source in (ROOT / "example_dags", Path(__file__).parent / "leak_dags"):
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    people = {name: user(name) for name in USERS} | {name: client(name) for name in CLIENTS}
    (folder / "people.json").write_text(
        json.dumps({**people, "complaint": COMPLAINT, "control": CONTROL}), encoding="utf-8"
    )
    request = {
        "professional": people["booking_user"],
        "client": {**people["booking_client"], "reference_code": "DL-1"},
    }
    (folder / "consult_request.json").write_text(json.dumps(request))
    for file_name, names, prefix in (
        ("clients.csv", ("row1", "row2"), ""),
        ("practice_export.csv", ("sync1", "sync2"), "PS-"),
    ):
        rows = [{"reference_code": f"{prefix}{name}", "initials": "A", **people[name]} for name in names]
        with (folder / file_name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return folder


@dataclass(repr=False)
class Run:
    """
    A run of all DAGs, and what it left behind.

    :param version: version of Airflow.
    :param states: final state of each DAG's run.
    :param places: contents of all files and tables, by name.
    :param secrets: values that must not be there.
    :param other_host: requests that another host received.
    """

    version: str
    states: dict[str, str]
    places: dict[str, bytes]
    secrets: dict[str, str]
    other_host: list[str]


@pytest.fixture(scope="module")
def run(airflow_python: str, dags: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    home, output = tmp_path_factory.mktemp("leak-home"), tmp_path_factory.mktemp("leak-output")
    with ExitStack() as stack:
        log_to(output / "sandbox.log", stack)
        other_host = stack.enter_context(EchoServer())
        echo = stack.enter_context(EchoServer(other_host.url))
        sandbox = stack.enter_context(Sandbox([TOKENS["parameter"], TOKENS["header"]]))
        airflow = stack.enter_context(
            LocalAirflow(
                home,
                dags,
                python=airflow_python,
                config={
                    "logging": {"logging_level": "DEBUG"},
                    # Only Airflow's OpenLineage provider reads it, where it is installed.
                    "openlineage": {
                        "transport": json.dumps(
                            {"type": "file", "log_file_path": str(output / LINEAGE), "append": True}
                        ),
                        "include_full_task_info": "True",
                    },
                },
                # The commands of Airflow 3.0 do not find modules beside a DAG.
                env={"PYTHONPATH": str(dags)},
            )
        )
        described = output / "connections.json"
        described.write_text(json.dumps(connections(sandbox, echo, stack.enter_context(socket.socket()))))
        printed = [airflow.command("connections", "import", str(described))]
        described.unlink()
        confs: dict[str, dict[str, str]] = {
            "careless": {"leaked": CONTROL["conf"], "url": f"{sandbox.url}/users.json"},
            "offboarding": {"client_id": a_client(sandbox)},
        }
        runs = {dag_id: airflow.trigger(dag_id, confs.get(dag_id)) for dag_id in DAGS if dag_id != "changes"}
        airflow.wait_for_task("booking", runs["booking"], "wait_until_over", "deferred")
        sandbox.set_state(airflow.xcom("booking", runs["booking"], "book_consult"), "finished")
        states = {dag_id: airflow.wait(dag_id, run_id) for dag_id, run_id in runs.items()}
        # A state that is no name may be anything.
        sandbox.set_state(an_appointment(sandbox), COMPLAINT)
        # Last, so that the others have created everybody.
        states["changes"] = airflow.wait("changes", airflow.trigger("changes"))
        if "table asset_state_store" in dict(leaks.tables(airflow.database)):
            wait_until(lambda: b'"digest"' in read(airflow, "asset_event"), "an event of a trigger")
        for task in (("rendered_user",), ("partial_client", "--map-index", "0")):
            printed.append(airflow.command("tasks", "render", "careful", task[0], runs["careful"], *task[1:]))
        (output / "commands.log").write_text("\n".join(printed))
        values = secrets(sandbox)
        # Stop everything before the search, so that all output is written.
        stack.pop_all().close()
    places = {
        **dict(leaks.files(home)),
        **dict(leaks.files(output)),
        **dict(leaks.tables(airflow.database)),
    }
    return Run(airflow.version, states, places, values, other_host.received)


def read(airflow: LocalAirflow, table: str) -> bytes:
    return dict(leaks.tables(airflow.database))[f"table {table}"]


def log_to(file: Path, stack: ExitStack) -> None:
    """Write the log of this process, which runs the sandbox, to a file."""
    root = logging.getLogger()
    handler = logging.FileHandler(file, encoding="utf-8")
    stack.callback(handler.close)
    stack.callback(root.removeHandler, handler)
    stack.callback(root.setLevel, root.level)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)


def a_client(sandbox: Sandbox) -> str:
    """Create a client to delete."""
    response = requests.post(
        f"{sandbox.url}/clients.json",
        json={"client": {"last_name": "Leaves"}},
        headers={"Authorization": f"Token token={sandbox.token}"},
        timeout=30,
    )
    return str(response.json()["client"]["id"])


def an_appointment(sandbox: Sandbox) -> str:
    """Create an appointment in the organisation whose changes are listed."""
    response = requests.post(
        f"{sandbox.url}/appointments.json",
        json={"appointment": {"duration": 30}},
        headers={"Authorization": f"Token token={TOKENS['header']}"},
        timeout=30,
    )
    return str(response.json()["appointment"]["id"])


def kind_of(place: str) -> str:
    return "task log" if "/task_id=" in place else place


def test_dags_end_in_the_expected_states(run: Run) -> None:
    assert run.states == DAGS


def test_rendered_fields_show_names_and_hide_values(run: Run) -> None:
    assert run.places["commands.log"].count(b"'last_name': '***'") == 2
    stored = run.places["table rendered_task_instance_fields"]
    assert b"last_name" in stored
    assert b"division_id" in stored


def test_logs_have_debug_lines_of_all_components(run: Run) -> None:
    if run.version.startswith("3.0."):
        pytest.skip("Airflow 3.0 does not log lines of level DEBUG")
    debug = [place for place, content in run.places.items() if b"connectionpool" in content]
    assert any("/task_id=own_code/" in place for place in debug)
    # Polls are logged by the triggerer, not by a task.
    assert any(place.endswith("components/triggerer.log") for place in debug)
    assert b"GET /appointment/" in run.places["sandbox.log"]


def test_openlineage_gets_events_of_syncs_that_end_and_that_fail(run: Run, airflow_python: str) -> None:
    check = [airflow_python, "-c", "import airflow.providers.openlineage.extractors"]
    if subprocess.run(check, capture_output=True).returncode:
        pytest.skip("Airflow's OpenLineage provider is not installed")
    events = [json.loads(line) for line in run.places[LINEAGE].splitlines()]
    ended = {(event["job"]["name"], event["eventType"]) for event in events if event["outputs"]}
    assert ended == {("clients_sync.sync_clients", "COMPLETE"), ("failing.sync", "FAIL")}


def test_changes_have_left_baselines_and_events(run: Run) -> None:
    assert b'"marks"' in run.places["baseline.json"]
    reported = run.places["table xcom"]
    assert b"created" in reported
    if "table asset_state_store" in run.places:
        assert run.places["table asset_state_store"].count(b'"marks"') >= 2
        assert b'"digest"' in run.places["table asset_event"]
    else:
        assert b'"marks"' in run.places["clients.json"]


def test_search_finds_all_leaks_of_a_careless_dag(run: Run) -> None:
    found = {
        # Airflow 3 writes its logs as JSON.
        (leak.name, leak.form.replace("JSON in JSON", "JSON"), kind_of(leak.place))
        for leak in leaks.search(CONTROL, run.places)
    }
    missed = FOUND - found
    assert missed - (NOT_FOUND_3_0 if run.version.startswith("3.0.") else set()) == set()


def test_no_token_and_no_personal_data_is_stored(run: Run) -> None:
    assert leaks.search(run.secrets, run.places) == []


def test_no_token_is_sent_to_another_host(run: Run) -> None:
    assert run.other_host
    assert leaks.search(TOKENS, {"other_host": "\n".join(run.other_host).encode()}) == []
