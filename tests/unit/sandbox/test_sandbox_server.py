"""The sandbox as a context manager: starting, stopping, inspecting and saving its data."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_webcamconsult.sandbox import RecordedRequest, Sandbox, SandboxError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.sandbox.conftest import Api


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


# Starting and stopping


def test_sandbox_responds_after_start_and_frees_port_after_stop(access: type[Api]) -> None:
    with Sandbox() as sandbox:
        assert access(sandbox)("GET", "/users.json").status_code == 200
        port = int(sandbox.url.removeprefix("http://127.0.0.1:"))
    with pytest.raises(requests.ConnectionError):
        requests.get(sandbox.url, timeout=30)
    with Sandbox(port=port) as restarted:
        assert restarted.url == sandbox.url


def test_sandbox_stops_with_idle_and_stalled_connections(access: type[Api]) -> None:
    threads = set(threading.enumerate())
    with Sandbox() as sandbox:
        api = access(sandbox)
        api("GET", "/users.json")
        port = int(sandbox.url.rpartition(":")[2])
        stalled = socket.create_connection(("127.0.0.1", port))
        stalled.sendall(b"POST /users.json HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        untouched = socket.create_connection(("127.0.0.1", port))
    # Threads of earlier tests may have ended meanwhile.
    assert set(threading.enumerate()) <= threads
    with Sandbox(port=port):
        pass
    for connection in (stalled, untouched):
        connection.close()
    api.session.close()


def test_two_sandboxes_run_independently(access: type[Api]) -> None:
    with Sandbox() as one, Sandbox() as two:
        access(one).create("user", email="jakkermans@example.com")
        assert one.url != two.url
        assert access(two)("GET", "/users.json").json() == []


def test_sandbox_can_be_started_and_stopped_manually_and_restarted(access: type[Api]) -> None:
    sandbox = Sandbox()
    with pytest.raises(RuntimeError, match="not been started"):
        _ = sandbox.url
    for count in (1, 2):
        sandbox.start()
        with pytest.raises(RuntimeError, match="already"):
            sandbox.start()
        access(sandbox).create("user")
        sandbox.stop()
        sandbox.stop()
        assert len(sandbox.records("users")) == count


def test_sandbox_stops_when_with_block_raises() -> None:
    with pytest.raises(ZeroDivisionError), Sandbox() as sandbox:
        _ = 1 / 0
    with pytest.raises(requests.ConnectionError):
        requests.get(sandbox.url, timeout=30)


def test_sandbox_listens_only_on_loopback() -> None:
    with Sandbox() as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", int(sandbox.url.rpartition(":")[2])), timeout=30)


def test_port_in_use_and_invalid_port_raise_clear_errors() -> None:
    with Sandbox() as sandbox, pytest.raises(SandboxError, match=r"Cannot listen on .*in use"):
        Sandbox(port=int(sandbox.url.rpartition(":")[2])).start()
    with pytest.raises(SandboxError, match="0 to 65535"):
        Sandbox(port=70_000).start()


@pytest.mark.parametrize("tokens", [(), ("",), ("a b",), ('a"b',), ("a,b",), ("é",)])
def test_tokens_invalid_in_a_header_are_rejected(tokens: tuple[str, ...]) -> None:
    with pytest.raises(SandboxError, match="token"):
        Sandbox(tokens=tokens)


def test_single_token_may_be_a_string() -> None:
    assert Sandbox(tokens="only").tokens == ("only",)


def test_sandbox_imports_server_lazily_and_never_the_provider_or_airflow() -> None:
    code = """
import sys
from airflow_provider_webcamconsult.sandbox import Sandbox
assert not {"starlette", "uvicorn"} & sys.modules.keys()
with Sandbox():
    pass
assert not {"airflow", "requests", "pendulum"} & sys.modules.keys()
package = "airflow_provider_webcamconsult"
loaded = {name for name in sys.modules if name.startswith(f"{package}.")}
assert all(name.startswith(f"{package}.sandbox") for name in loaded), loaded
"""
    result = run_python(code)
    assert (result.returncode, result.stderr) == (0, "")


def test_missing_extra_raises_error_with_install_command() -> None:
    code = """
import sys
sys.modules["starlette"] = None
from airflow_provider_webcamconsult.sandbox import Sandbox, SandboxError
try:
    Sandbox().start()
except SandboxError as error:
    print(error)
"""
    assert (
        "pip install '.[sandbox]' in a checkout, or run: pip install starlette uvicorn"
        in run_python(code).stdout
    )


# Inspecting


def test_requests_are_recorded_in_order_without_query_or_control_endpoint(
    access: type[Api],
) -> None:
    with Sandbox() as sandbox:
        api = access(sandbox)
        appointment = api.create("appointment")
        api("GET", "/nothing.json", params={"authentication_token": sandbox.token})
        api("PUT", f"/sandbox/appointments/{appointment['id']}/state", json={"state": "finished"})
        api("GET", "/users.json", headers={"Authorization": None})
        assert sandbox.requests == [
            ("POST", "/appointments.json", 200),
            ("GET", "/nothing.json", 404),
            ("GET", "/users.json", 401),
        ]
        assert sandbox.requests[0] == RecordedRequest(
            method="POST", path="/appointments.json", status_code=200
        )


def test_default_tokens_are_those_of_the_document() -> None:
    tokens = ("38826f79010b41b5aaeb4710debb09db", "eb4710debb09db38826f79010b41b5aa")
    assert Sandbox().tokens == tokens
    assert Sandbox().token == tokens[0]


def test_records_returns_copy_of_organisation_data(access: type[Api]) -> None:
    with Sandbox(tokens=("one", "two")) as sandbox:
        access(sandbox, "two").create("client", division_ids=["1"])
        assert sandbox.records("clients") == []
        (record,) = sandbox.records("clients", token="two")
        assert record["authentication_token"]
        record["division_ids"].append("2")
        assert sandbox.records("clients", token="two")[0]["division_ids"] == ["1"]
        for resource, token in (("nonsense", "one"), ("clients", "nobody's")):
            with pytest.raises(ValueError, match="users, clients, appointments"):
                sandbox.records(resource, token)


def test_log_has_one_line_per_request_without_tokens_or_personal_data(
    access: type[Api], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Sandbox() as sandbox:
        api = access(sandbox)
        user = api.create("user", last_name="Akkermans", email="jakkermans@example.com")
        api("POST", "/users.json", json={"user": {"email": "jakkermans@example.com"}})
        api("GET", f"/users/{user['id']}.json", params={"authentication_token": sandbox.token})
        api("GET", "/users/jakkermans@example.com.json")
        api("GET", f"/{sandbox.token}/users.json%0aGET /forged")
    messages = [r.getMessage() for r in caplog.records if r.name == "airflow_provider_webcamconsult.sandbox"]
    assert messages == [
        "POST /users.json 200",
        "POST /users.json 422",
        f"GET /users/{user['id']}.json 200",
        "GET /users/*** 404",
        "GET /***/***/*** 404",
    ]
    server_messages = [r.getMessage() for r in caplog.records if r.name.startswith(("uvicorn", "starlette"))]
    assert server_messages == []


def test_concurrent_creates_are_all_stored(access: type[Api]) -> None:
    with Sandbox() as sandbox:
        threads = [
            threading.Thread(target=lambda: [access(sandbox).create("client") for _ in range(10)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(sandbox.records("clients")) == len(sandbox.requests) == 80


# Saving its data


def test_data_file_is_complete_after_each_write(access: type[Api], tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    with Sandbox(data=data) as sandbox:
        api = access(sandbox)

        def write(method: str, path: str, body: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
            assert api(method, path, json=body).status_code == 200
            stored = {name: sandbox.records(name) for name in ("users", "clients", "appointments")}
            # The file is complete after each write, not only after an orderly stop.
            assert json.loads(data.read_bytes())["organisations"][sandbox.token] == stored
            return stored

        for kind in ("user", "client", "appointment"):
            stored = write("POST", f"/{kind}s.json", {kind: {"id": "ignored"}})
        path = f"/users/{stored['users'][0]['id']}.json"
        write("PUT", path, {"user": {"last_name": "Åkermans"}})
        write("POST", "/users.json", {"user": {"last_name": "Ester"}})
        write("DELETE", path, {})
        control = f"/sandbox/appointments/{stored['appointments'][0]['id']}/state"
        stored = write("PUT", control, {"state": "finished"})
    with Sandbox(data=data) as restarted:
        assert {name: restarted.records(name) for name in stored} == stored
    assert list(tmp_path.iterdir()) == [data]
    assert data.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"organisations": {"x": {"users": [{"id": "1"}]}}}', "\xff"]
)
def test_damaged_data_file_raises_clear_error_and_is_not_changed(tmp_path: Path, content: str) -> None:
    data = tmp_path / "data.json"
    data.write_text(content, encoding="latin-1")
    with pytest.raises(SandboxError, match=r"data\.json is not a sandbox data file"):
        Sandbox(data=data)
    assert data.read_text(encoding="latin-1") == content


def test_inaccessible_data_file_raises_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="Cannot write the data file"):
        Sandbox(data=tmp_path / "nowhere" / "data.json")
    with pytest.raises(SandboxError, match="Cannot read the data file"):
        Sandbox(data=tmp_path)


def test_failed_save_returns_500_and_logs_no_personal_data(
    access: type[Api], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data.json"
    with Sandbox(data=data) as sandbox:
        data.unlink()
        data.mkdir()
        response = access(sandbox)("POST", "/users.json", json={"user": {"last_name": "Akkermans"}})
        assert response.status_code == 500
    assert "IsADirectoryError" in caplog.text
    assert "Akkermans" not in caplog.text
    assert list(tmp_path.iterdir()) == [data]


def test_ten_thousand_appointments_can_be_listed_and_retrieved(access: type[Api], tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    with Sandbox(data=data) as sandbox:
        access(sandbox).create("appointment", duration=30)
    stored = json.loads(data.read_bytes())
    appointments: list[dict[str, Any]] = stored["organisations"][sandbox.token]["appointments"]
    appointments[:] = [{**appointments[0], "id": f"{number:024x}"} for number in range(10_000)]
    data.write_text(json.dumps(stored))
    with Sandbox(data=data) as sandbox:
        api = access(sandbox)
        assert len(api("GET", "/appointments.json").json()) == 10_000
        last = f"{9_999:024x}"
        assert api("GET", f"/appointment/{last}.json").json()["appointment"]["id"] == last
