"""How the state of an appointment moves: by a schedule, or by hand."""

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


def test_a_schedule_moves_each_appointment_from_the_moment_of_its_creation(
    access: type[Api], tmp_path: Path
) -> None:
    seconds_to_state = {
        0: "idle",
        3500: "idle",
        3605: "started",
        3600 + 1700: "started",
        3600 + 1805: "busy",
        3600 + 1800 + 605: "finished",
        1_000_000: "finished",
    }
    # The times of creation are moved in the data file, so that the test has neither to wait nor to be fast.
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

    # A schedule is an appointment's own: that of a later start is for later appointments.
    with Sandbox(states="other", data=data) as sandbox:
        answers = access(sandbox)("GET", "/appointments.json").json()
        records = sandbox.records("appointments")
    assert [answer["state"] for answer in answers] == [*seconds_to_state.values()]
    for answer, record in zip(answers, records, strict=True):
        assert record["state"] == answer["state"]
        started_at = answer.get("started_at")
        assert (started_at is None) == (answer["state"] == "idle")
        if started_at:
            lasted = datetime.fromisoformat(started_at) - datetime.fromisoformat(record["created_at"])
            assert lasted == timedelta(hours=1)


def test_a_new_appointment_is_idle_unless_the_schedule_begins_with_another_name(access: type[Api]) -> None:
    with Sandbox() as sandbox:
        appointment = access(sandbox).create("appointment")
        assert appointment["state"] == "idle"
        assert "started_at" not in appointment
    with Sandbox(states="in de wachtkamer") as sandbox:
        appointment = access(sandbox).create("appointment")
        assert appointment["state"] == "in de wachtkamer"
        assert appointment["started_at"]


def test_a_schedule_is_followed_while_the_sandbox_runs(access: type[Api]) -> None:
    with Sandbox(states="idle:0.2s,started:0.2s,finished") as sandbox:
        api = access(sandbox)
        path = f"/appointment/{api.create('appointment')['id']}.json"
        seen: list[str] = []
        deadline = time.monotonic() + 30
        while seen[-1:] != ["finished"] and time.monotonic() < deadline:
            state = api("GET", path).json()["appointment"]["state"]
            seen += [state] if seen[-1:] != [state] else []
            time.sleep(0.02)
    # A slow machine may miss a state, but none comes late or again.
    assert seen[-1] == "finished"
    assert seen == [state for state in ("idle", "started", "finished") if state in seen]


def test_a_change_of_state_changes_the_etag(api: Api) -> None:
    appointment = api.create("appointment")
    for path in ("/appointments.json", f"/appointment/{appointment['id']}.json"):
        headers = {"If-None-Match": api("GET", path).headers["ETag"]}
        assert api("GET", path, headers=headers).status_code == 304
        api.sandbox.set_state(appointment["id"], f"seen at {path}")
        assert api("GET", path, headers=headers).status_code == 200


def test_the_control_endpoint_sets_any_state_and_ends_the_schedule(access: type[Api]) -> None:
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


def test_an_appointment_started_when_its_schedule_says_even_if_nobody_looked(access: type[Api]) -> None:
    with Sandbox(states="idle:0.05s,started") as sandbox:
        appointment = access(sandbox).create("appointment")
        time.sleep(0.1)
        sandbox.set_state(appointment["id"], "finished")
        (record,) = sandbox.records("appointments")
    lasted = datetime.fromisoformat(record["started_at"]) - datetime.fromisoformat(record["created_at"])
    assert lasted == timedelta(seconds=0.05)


def test_the_control_endpoint_asks_for_the_token_of_the_organisation(api: Api, other_api: Api) -> None:
    control = f"/sandbox/appointments/{api.create('appointment')['id']}/state"
    body = {"state": "finished"}
    assert other_api("PUT", control, json=body).status_code == 404
    assert api("PUT", control, json=body, headers={"Authorization": "Token token=x"}).status_code == 401
    assert api.sandbox.records("appointments", api.token)[0]["state"] == "idle"


@pytest.mark.parametrize("body", [{}, {"state": None}, {"state": ""}, {"state": 1}])
def test_the_control_endpoint_refuses_what_is_no_name(api: Api, body: dict[str, Any]) -> None:
    control = f"/sandbox/appointments/{api.create('appointment')['id']}/state"
    answer = api("PUT", control, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"].keys() == {"state"}


def test_set_state_reaches_the_appointments_of_every_organisation(access: type[Api]) -> None:
    with Sandbox(tokens=("one", "two")) as sandbox:
        api = access(sandbox, "two")
        appointment = api.create("appointment")
        sandbox.set_state(appointment["id"], "finished")
        assert api("GET", "/appointments.json").json()[0]["state"] == "finished"
        with pytest.raises(LookupError):
            sandbox.set_state("1234567890abcdef12345678", "finished")
        with pytest.raises(ValueError, match="non-empty"):
            sandbox.set_state(appointment["id"], "")


def test_the_service_keeps_the_date_that_an_appointment_had_at_first(api: Api) -> None:
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
def test_a_schedule_that_cannot_be_read_is_refused_at_once(states: str) -> None:
    with pytest.raises(SandboxError, match="states"):
        Sandbox(states=states)
