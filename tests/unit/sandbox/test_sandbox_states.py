"""How the state of an appointment changes: by a schedule or manually."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.sandbox import Sandbox, SandboxError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.sandbox.conftest import Api


def test_schedule_starts_when_appointment_is_created(access: type[Api], tmp_path: Path) -> None:
    seconds_to_state = {
        0: "idle",
        3500: "idle",
        3605: "started",
        3600 + 1700: "started",
        3600 + 1805: "busy",
        3600 + 1800 + 605: "finished",
        1_000_000: "finished",
    }
    # The data file gets earlier creation times, so the test neither waits nor depends on speed.
    data = tmp_path / "data.json"
    with Sandbox(states="idle:1h, started:30m, busy:600s, finished", data=data) as sandbox:
        for _ in seconds_to_state:
            access(sandbox).create("appointment")
    stored = json.loads(data.read_bytes())
    for record, age in zip(
        stored["organisations"][sandbox.token]["appointments"], seconds_to_state, strict=True
    ):
        created = datetime.fromisoformat(record["created_at"]) - timedelta(seconds=age)
        record["created_at"] = created.isoformat(timespec="milliseconds")
    data.write_text(json.dumps(stored))

    # Each appointment has its own schedule. The schedule of a later start applies only to new appointments.
    with Sandbox(states="other", data=data) as sandbox:
        responses = access(sandbox)("GET", "/appointments.json").json()
        records = sandbox.records("appointments")
    assert [response["state"] for response in responses] == [*seconds_to_state.values()]
    for response, record in zip(responses, records, strict=True):
        assert record["state"] == response["state"]
        started_at = response.get("started_at")
        assert (started_at is None) == (response["state"] == "idle")
        if started_at:
            elapsed = datetime.fromisoformat(started_at) - datetime.fromisoformat(record["created_at"])
            assert elapsed == timedelta(hours=1)


def test_initial_state_is_idle_or_first_state_of_schedule(access: type[Api]) -> None:
    with Sandbox() as sandbox:
        appointment = access(sandbox).create("appointment")
        assert appointment["state"] == "idle"
        assert "started_at" not in appointment
    with Sandbox(states="in de wachtkamer") as sandbox:
        appointment = access(sandbox).create("appointment")
        assert appointment["state"] == "in de wachtkamer"
        assert appointment["started_at"]


def test_state_follows_schedule_while_sandbox_runs(access: type[Api]) -> None:
    with Sandbox(states="idle:0.2s,started:0.2s,finished") as sandbox:
        api = access(sandbox)
        path = f"/appointment/{api.create('appointment')['id']}.json"
        states: list[str] = []
        deadline = time.monotonic() + 30
        while states[-1:] != ["finished"] and time.monotonic() < deadline:
            state = api("GET", path).json()["appointment"]["state"]
            states += [state] if states[-1:] != [state] else []
            time.sleep(0.02)
    # A slow machine may miss a state, but states never come out of order or twice.
    assert states[-1] == "finished"
    assert states == [state for state in ("idle", "started", "finished") if state in states]


def test_state_change_changes_etag(api: Api) -> None:
    appointment = api.create("appointment")
    for path in ("/appointments.json", f"/appointment/{appointment['id']}.json"):
        headers = {"If-None-Match": api("GET", path).headers["ETag"]}
        assert api("GET", path, headers=headers).status_code == 304
        api.sandbox.set_state(appointment["id"], f"state for {path}")
        assert api("GET", path, headers=headers).status_code == 200


def test_control_endpoint_sets_any_state_and_ends_schedule(access: type[Api]) -> None:
    with Sandbox(states="idle:1h,finished") as sandbox:
        api = access(sandbox)
        appointment = api.create("appointment")
        assert "started_at" not in appointment
        control = f"/sandbox/appointments/{appointment['id']}/state"
        assert api("PUT", control, json={"state": "geannuleerd"}).status_code == 200
        changed = api("GET", f"/appointment/{appointment['id']}.json").json()["appointment"]
        assert changed["state"] == "geannuleerd"
        assert changed["started_at"]
        assert sandbox.records("appointments")[0]["schedule"] is None
        api("PUT", control, json={"state": "idle"})
        again = api("GET", f"/appointment/{appointment['id']}.json").json()["appointment"]
        assert again == {**changed, "state": "idle"}


def test_started_at_follows_schedule_even_without_polling(access: type[Api]) -> None:
    with Sandbox(states="idle:0.05s,started") as sandbox:
        appointment = access(sandbox).create("appointment")
        time.sleep(0.1)
        sandbox.set_state(appointment["id"], "finished")
        (record,) = sandbox.records("appointments")
    elapsed = datetime.fromisoformat(record["started_at"]) - datetime.fromisoformat(record["created_at"])
    assert elapsed == timedelta(seconds=0.05)


def test_control_endpoint_requires_token_of_organisation(api: Api, other_api: Api) -> None:
    control = f"/sandbox/appointments/{api.create('appointment')['id']}/state"
    body = {"state": "finished"}
    assert other_api("PUT", control, json=body).status_code == 404
    assert api("PUT", control, json=body, headers={"Authorization": "Token token=x"}).status_code == 401
    assert api.sandbox.records("appointments", api.token)[0]["state"] == "idle"


@pytest.mark.parametrize("body", [{}, {"state": None}, {"state": ""}, {"state": 1}])
def test_control_endpoint_rejects_invalid_state(api: Api, body: dict[str, Any]) -> None:
    control = f"/sandbox/appointments/{api.create('appointment')['id']}/state"
    response = api("PUT", control, json=body)
    assert response.status_code == 422
    assert response.json()["errors"].keys() == {"state"}


def test_set_state_works_for_appointments_of_every_organisation(access: type[Api]) -> None:
    with Sandbox(tokens=("one", "two")) as sandbox:
        api = access(sandbox, "two")
        appointment = api.create("appointment")
        sandbox.set_state(appointment["id"], "finished")
        assert api("GET", "/appointments.json").json()[0]["state"] == "finished"
        with pytest.raises(LookupError):
            sandbox.set_state("1234567890abcdef12345678", "finished")
        with pytest.raises(ValueError, match="non-empty"):
            sandbox.set_state(appointment["id"], "")


def test_orig_date_does_not_change_when_date_changes(api: Api) -> None:
    appointment = api.create("appointment", date="2015-07-01T10:00:00+02:00")
    path = f"/appointment/{appointment['id']}.json"
    api("PUT", path, json={"appointment": {"date": "2016-07-01T10:00:00+02:00"}})
    (record,) = api.sandbox.records("appointments", api.token)
    assert record["orig_date"] == appointment["date"]
    assert record["date"] == "2016-07-01T10:00:00.000+02:00"


@pytest.mark.parametrize(
    "states",
    [
        "",
        "idle,finished",
        "idle:5,finished",
        "idle:5s",
        "idle:5d,finished",
        ":5s,finished",
        "idle:5s,",
        "a:1s:2s,b",
    ],
)
def test_invalid_schedule_is_rejected_on_construction(states: str) -> None:
    with pytest.raises(SandboxError, match="states"):
        Sandbox(states=states)
