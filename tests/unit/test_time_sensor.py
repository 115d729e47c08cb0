"""The time sensor: it follows the date of an appointment, with the same outcome in each mode."""

from __future__ import annotations

import datetime
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultInputError,
    WebcamconsultNotFoundError,
)
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.sensors import base as sensors
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentTimeSensor
from airflow_provider_webcamconsult.version_compat import AirflowFailException, AirflowSensorTimeout
from tests.unit.sensor_run import defer, restore, run_to_end

if TYPE_CHECKING:
    from tests.unit.conftest import Connect, Log, Serve, Step

ID = "1234567890abcdef12345678"
GONE: list[Step] = [{"status": 404}] * 2
"""The list then has to confirm it."""
MODES = pytest.mark.parametrize("mode", ["poke", "reschedule", "deferred"])


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)
    for name in ("CONFIRMATION_SECONDS", "RESCHEDULE_MIN_SECONDS", "LAST_LEG_SECONDS"):
        monkeypatch.setattr(sensors, name, 0.01)


def in_seconds(seconds: float) -> str:
    date = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return date.isoformat(timespec="milliseconds")


def appointment(date: object, state: str = "idle") -> Step:
    return {"body": {"appointment": {"id": ID, "date": date, "state": state}}}


def make_sensor(**arguments: Any) -> Any:
    return WebcamconsultAppointmentTimeSensor(
        **{
            "task_id": "wait",
            "appointment_id": ID,
            "offset": datetime.timedelta(),
            "poke_interval": 0.05,
            **arguments,
        }
    )


def outcome(mode: str, **arguments: Any) -> Any:
    """Run a sensor to its end. In reschedule mode, each poke has a new sensor."""
    if mode != "reschedule":
        return run_to_end(make_sensor(deferrable=mode == "deferred", **arguments))
    while True:
        sensor = make_sensor(mode="reschedule", **arguments)
        if result := sensor.poke({}):
            return result.xcom_value
        time.sleep(sensor._get_next_poke_interval(None, lambda: 0.0, 1))


@MODES
def test_ends_at_the_date_plus_the_offset_and_returns_the_date(
    mode: str, connect: Connect, serve: Serve
) -> None:
    date = in_seconds(61)
    server = serve(appointment(date))
    connect(server.url)
    assert outcome(mode, offset=datetime.timedelta(seconds=-60), poke_interval=30) == date
    assert in_seconds(60) >= date
    assert len(server.requests) <= 2  # now, and when the time has come


@MODES
@pytest.mark.parametrize(("first", "then"), [(1.5, 2), (7200, 0.5)], ids=["later", "earlier"])
def test_follows_a_moved_appointment(
    first: float, then: float, mode: str, connect: Connect, serve: Serve
) -> None:
    moved = in_seconds(then)
    connect(serve(appointment(in_seconds(first)), appointment(moved)).url)
    assert outcome(mode, max_wait=0.05) == moved
    assert in_seconds(0) >= moved


@MODES
@pytest.mark.parametrize("before", [0, 1], ids=["at once", "while waited for"])
@pytest.mark.parametrize(
    "last",
    [[appointment("2100-03-01T09:30:00.000+01:00", "cancelled")], [*GONE, {"body": []}]],
    ids=["cancelled", "gone"],
)
class TestCancelled:
    def test_is_skipped(
        self, last: list[Step], before: int, mode: str, connect: Connect, serve: Serve
    ) -> None:
        connect(serve(*[appointment(in_seconds(7200))] * before, *last).url)
        with pytest.raises(AirflowSkipException, match=f"^Appointment {ID} (is in state|does not exist)"):
            outcome(mode, cancelled_states=["cancelled"], max_wait=0.05)

    def test_fails_on_demand(
        self, last: list[Step], before: int, mode: str, connect: Connect, serve: Serve
    ) -> None:
        connect(serve(*[appointment(in_seconds(7200))] * before, *last).url)
        error = WebcamconsultNotFoundError if "status" in last[0] else AirflowFailException
        with pytest.raises(error) as raised:
            outcome(mode, cancelled_states=["cancelled"], if_cancelled="fail", max_wait=0.05)
        assert isinstance(raised.value, AirflowFailException)


@MODES
def test_appointment_that_the_list_shows_is_not_gone(mode: str, connect: Connect, serve: Serve) -> None:
    listed: Step = {"body": [{"id": ID, "date": in_seconds(7200), "state": "idle"}]}
    connect(serve(*GONE, listed).url)
    with pytest.raises(WebcamconsultConfigurationError, match=f"appointment {ID} still exists"):
        outcome(mode)


@MODES
def test_date_that_has_passed_ends_at_once(mode: str, connect: Connect, serve: Serve) -> None:
    date = in_seconds(-3600)
    server = serve(appointment(date))
    connect(server.url)
    assert outcome(mode, max_lateness=datetime.timedelta(hours=2)) == date
    assert outcome(mode, max_lateness=None) == date
    with pytest.raises(AirflowSkipException, match=r"more than 0:15:00 \(max_lateness\) ago"):
        outcome(mode)
    assert len(server.requests) == 3


@MODES
def test_moved_beyond_the_maximum_lateness_is_skipped(mode: str, connect: Connect, serve: Serve) -> None:
    connect(serve(appointment(in_seconds(7200)), appointment(in_seconds(-3600))).url)
    with pytest.raises(AirflowSkipException, match="max_lateness"):
        outcome(mode, max_wait=0.05)


@MODES
def test_does_not_succeed_before_a_poll_confirms_the_date(mode: str, connect: Connect, serve: Serve) -> None:
    date = in_seconds(0.3)
    server = serve(appointment(date), {"status": 503}, {"status": 503}, appointment(date))
    connect(server.url, retries=0)
    assert outcome(mode, poke_interval=0.2) == date
    assert len(server.requests) == 4


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_timeout_fails_although_the_date_is_later(mode: str, connect: Connect, serve: Serve) -> None:
    connect(serve(appointment(in_seconds(7200))).url)
    with pytest.raises(AirflowSensorTimeout, match=rf"the date of appointment {ID}; Appointment {ID} is at "):
        outcome(mode, timeout=0.2)


def test_default_timeout_is_longer_than_airflows() -> None:
    assert make_sensor().timeout > 300 * 86400
    with DAG("dag", schedule=None, default_args={"timeout": 60}):
        assert make_sensor().timeout == 60


def test_log_reports_when_the_appointment_is_moved(connect: Connect, serve: Serve, log: Log) -> None:
    connect(
        serve(
            appointment("2100-03-01T09:30:00.000+01:00"),
            appointment("2100-03-02T11:00:00.000+01:00"),
            appointment("2100-03-02T11:00:00.000+01:00"),
        ).url
    )
    sensor = make_sensor(poke_interval=7200)
    for _ in range(3):
        assert not sensor.poke({})
    assert log.messages("info") == [
        f"Appointment {ID} is at 2100-03-01 09:30:00+01:00, in state 'idle'.",
        f"Waiting for 2100-03-01 09:30:00+01:00, the date of appointment {ID}. Next check in 7200 s.",
        f"Appointment {ID} is at 2100-03-02 11:00:00+01:00, in state 'idle'.",
        f"Waiting for 2100-03-02 11:00:00+01:00, the date of appointment {ID}. Next check in 7200 s.",
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"offset": -900}, "^offset is of type int. Pass a timedelta."),
        ({"max_lateness": 900}, "^max_lateness must be a timedelta"),
        ({"max_lateness": datetime.timedelta(seconds=-1)}, "^max_lateness must be a timedelta"),
        ({"if_cancelled": "ignore"}, "^if_cancelled must be one of skip, fail."),
        ({"cancelled_states": "cancelled"}, "^cancelled_states must be a list"),
        ({"cancelled_states": ["None"]}, "^cancelled_states contains 'None'"),
        ({"appointment_id": "None"}, "^appointment_id "),
        ({"deferrable": "no"}, "^deferrable is of type str"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(WebcamconsultInputError, match=problem):
        make_sensor(**arguments).execute({})


def test_id_states_and_connection_are_templated() -> None:
    sensor = make_sensor(
        appointment_id="{{ value }}", cancelled_states=["{{ value }}"], webcamconsult_conn_id="{{ value }}"
    )
    sensor.render_template_fields({"value": "rendered"})
    assert (sensor.appointment_id, sensor.cancelled_states) == ("rendered", ["rendered"])
    assert sensor.webcamconsult_conn_id == "rendered"


def test_trigger_that_a_release_has_stored_can_be_recreated() -> None:
    path = "airflow_provider_webcamconsult.triggers.appointments.WebcamconsultAppointmentTimeTrigger"
    stored: dict[str, Any] = {
        "appointment_id": ID,
        "offset": -900.0,
        "cancelled_states": ["cancelled"],
        "max_lateness": 900.0,
        "webcamconsult_conn_id": "webcamconsult_default",
        "poke_interval": 60.0,
        "deadline": 1.5e9,
        "max_wait": 600.0,
        "timeout_name": "timeout",
        "last_date": "2030-03-01T09:30:00.000+01:00",
        "last_state": "idle",
        "end_from_trigger": False,
        "do_xcom_push": True,
    }
    recreated = restore(path, stored)
    assert json.loads(json.dumps(recreated.serialize())) == [path, stored]


def test_deferred_wait_knows_what_the_worker_has_seen(connect: Connect, serve: Serve) -> None:
    date = in_seconds(7200)
    connect(serve(appointment(date)).url)
    arguments = defer(make_sensor(deferrable=True)).trigger.serialize()[1]
    assert (arguments["last_date"], arguments["last_state"]) == (date, "idle")


@pytest.mark.parametrize(
    "value", [None, "2030-03-01T09:30", {"state": "idle"}, {"date": "soon", "state": "idle"}], ids=str
)
def test_unexpected_event_does_not_succeed(value: object) -> None:
    event = {"values": {ID: value}, "at": time.time()}
    with pytest.raises(AirflowFailException, match="Unexpected trigger event"):
        make_sensor(max_lateness=None).resume_execution("execute_complete", {"event": event}, {})
