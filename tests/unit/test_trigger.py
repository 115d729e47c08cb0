"""The trigger, which runs in an event loop against real servers."""

from __future__ import annotations

import asyncio
import json
import time
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult import exceptions
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.triggers.appointments import WebcamconsultAppointmentStateTrigger
from airflow_provider_webcamconsult.triggers.base import deserialize_error, serialize_error
from airflow_provider_webcamconsult.version_compat import AIRFLOW_VERSION

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Log, Serve, Service, Step

AIRFLOW_2 = AIRFLOW_VERSION < (3,)
ID = "1234567890abcdef12345678"
TASK_INSTANCE: Any = SimpleNamespace(dag_id="dag", task_id="wait", run_id="run", map_index=-1)


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)


def response_with_state(state: object) -> Step:
    return {"body": {"appointment": {"id": ID, "state": state}}}


def make_trigger(**arguments: Any) -> WebcamconsultAppointmentStateTrigger:
    return WebcamconsultAppointmentStateTrigger(
        **{
            "appointment_id": ID,
            "target_states": None,
            "failed_states": [],
            "webcamconsult_conn_id": "webcamconsult_default",
            "poke_interval": 0.05,
            "deadline": time.time() + 60,
            **arguments,
        }
    )


async def events(trigger: WebcamconsultAppointmentStateTrigger) -> list[Any]:
    return [event.payload async for event in trigger.run()]


def only_event(trigger: WebcamconsultAppointmentStateTrigger) -> Any:
    (event,) = asyncio.run(events(trigger))
    # Airflow stores the event as JSON in its database.
    return without_time(json.loads(json.dumps(event)))


def without_time(event: Any) -> Any:
    if isinstance(event, dict):
        assert event.pop("at") == pytest.approx(time.time(), abs=60)
    return event


def test_trigger_that_a_release_has_stored_can_be_recreated() -> None:
    # The path and the arguments of the first release: later ones must still read them after an upgrade.
    path = "airflow_provider_webcamconsult.triggers.appointments.WebcamconsultAppointmentStateTrigger"
    stored: dict[str, Any] = {
        "appointment_id": ID,
        "target_states": ["finished"],
        "failed_states": ["cancelled"],
        "webcamconsult_conn_id": "webcamconsult_default",
        "poke_interval": 7.5,
        "deadline": 1.5e9,
        "exponential_backoff": True,
        "max_wait": 60.0,
        "timeout_name": "execution_timeout",
        "last_state": "idle",
        "end_from_trigger": True,
        "do_xcom_push": False,
    }
    module, _, name = path.rpartition(".")
    recreated = getattr(import_module(module), name)(**stored)
    assert vars(recreated).items() >= stored.items()
    # Parameters that came later have defaults.
    later = {"appointment_ids": None, "wait_for": "all"}
    assert json.loads(json.dumps(recreated.serialize())) == [path, {**stored, **later}]


def test_state_from_service_ends_trigger(hook: WebcamconsultHook, service: Service) -> None:
    record_id = hook.appointments.create({"date": "2030-03-01T09:30"})["id"]
    service.set_state(record_id, "started")
    assert only_event(make_trigger(appointment_id=record_id)) == {"values": {record_id: "started"}}


@pytest.mark.parametrize(
    ("target_states", "failed_states", "states", "final"),
    [
        (None, [], ["idle", "idle", "anything"], "anything"),
        (["finished"], [], ["idle", "started", "finished"], "finished"),
        (["idle"], [], ["idle"], "idle"),
        (["finished"], ["cancelled"], ["idle", "cancelled"], "cancelled"),
        (None, ["cancelled"], ["idle", "cancelled"], "cancelled"),
        # A state must match exactly.
        (["finished"], [], ["fin", "Finished", "finished"], "finished"),
    ],
)
def test_trigger_polls_until_target_or_failed_state(
    target_states: list[str] | None,
    failed_states: list[str],
    states: list[str],
    final: str,
    connect: Connect,
    serve: Serve,
) -> None:
    server = serve(*map(response_with_state, states))
    connect(server.url)
    assert only_event(make_trigger(target_states=target_states, failed_states=failed_states)) == {
        "values": {ID: final}
    }
    assert len(server.requests) == len(states)


def test_no_poll_follows_a_final_response_slower_than_the_interval(connect: Connect, serve: Serve) -> None:
    server = serve({**response_with_state("finished"), "delay": 0.2})
    connect(server.url)
    assert only_event(make_trigger(poke_interval=0.05)) == {"values": {ID: "finished"}}
    time.sleep(0.1)  # any further request would have arrived by now
    assert len(server.requests) == 1


def test_end_from_trigger_ends_task_in_triggerer(connect: Connect, serve: Serve) -> None:
    connect(serve(response_with_state("finished")).url)
    trigger = make_trigger(end_from_trigger=True, do_xcom_push=False)
    trigger.task_instance = TASK_INSTANCE
    assert only_event(trigger) == "success"


@pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 stores the value with the event")
def test_worker_ends_task_when_return_value_cannot_be_stored(
    connect: Connect, serve: Serve, log: Log
) -> None:
    connect(serve(response_with_state("finished")).url)
    trigger = make_trigger(end_from_trigger=True)
    trigger.task_instance = TASK_INSTANCE  # without a triggerer that could store the value
    assert only_event(trigger) == {"values": {ID: "finished"}}
    (warning,) = log.warnings
    assert warning.startswith("Could not store the return value from the triggerer (")
    assert warning.endswith("). A worker will end the task.")


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ({"status": 404}, "WebcamconsultNotFoundError"),
        ({"status": 401}, "WebcamconsultAuthenticationError"),
        ({"status": 403}, "WebcamconsultAuthenticationError"),
    ],
)
def test_rejection_by_the_api_ends_trigger_when_it_is_repeated(
    step: Step, error: str, connect: Connect, serve: Serve
) -> None:
    server = serve(response_with_state("idle"), step)
    connect(server.url)
    event = only_event(make_trigger())
    found = event["missing"][ID] if error == "WebcamconsultNotFoundError" else event["error"]
    assert (found["type"], found["status_code"]) == (error, step["status"])
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "step",
    [
        *({"status": status} for status in (400, 405, 406, 408, 409, 410, 418, 421, 422, 423, 425, 426)),
        *({"status": status} for status in (429, 431, 451, 499, 500, 502, 503, 504)),
        *({"status": status, "body": "<html>Blocked.</html>"} for status in (401, 403, 404)),
        {"cut": "after the request"},
        {"body": "no JSON"},
        {"body": "<html>We are back soon.</html>"},
        {"status": 302, "headers": {"Location": "/maintenance"}},
        {"status": 302, "headers": {"Location": "http://["}},
        {"delay": 1},
        response_with_state(None),
        response_with_state(""),
        response_with_state(5),
        {"body": {"appointment": {"id": ID}}},
    ],
    ids=str,
)
def test_transient_error_is_tolerated_and_logged(
    step: Step, connect: Connect, serve: Serve, log: Log
) -> None:
    connect(serve(step, step, response_with_state("finished")).url, retries=0, timeout=0.25)
    assert only_event(make_trigger()) == {"values": {ID: "finished"}}
    assert ["Still waiting. Next check in" in warning for warning in log.warnings] == [True, True]


def test_connection_that_stays_missing_ends_trigger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "CONNECTION_GRACE_SECONDS", 0.1)
    event = only_event(make_trigger(webcamconsult_conn_id="nowhere"))
    assert event["error"]["type"] == "WebcamconsultConnectionError"


def test_deadline_ends_trigger_after_final_poll(connect: Connect, serve: Serve) -> None:
    server = serve(response_with_state("idle"))
    connect(server.url)
    started = time.monotonic()
    event = only_event(make_trigger(poke_interval=60, deadline=time.time() + 0.3))
    assert event == {"values": {ID: "idle"}, "timed_out": "timeout"}
    assert len(server.requests) == 1
    assert 0.25 <= time.monotonic() - started < 5


def test_final_poll_does_not_announce_another(connect: Connect, serve: Serve, log: Log) -> None:
    connect(serve(response_with_state("started")).url)
    trigger = make_trigger(
        target_states=["finished"], last_state="idle", poke_interval=60, deadline=time.time() + 0.1
    )
    assert only_event(trigger)["timed_out"] == "timeout"
    assert f"Appointment {ID} is in state 'started'." in log.messages("info")


def test_target_state_at_deadline_succeeds(connect: Connect, serve: Serve) -> None:
    connect(serve(response_with_state("finished")).url)
    assert only_event(make_trigger(poke_interval=60, deadline=time.time() + 0.1)) == {
        "values": {ID: "finished"}
    }


def test_past_deadline_ends_trigger_immediately(connect: Connect, serve: Serve) -> None:
    connect(serve(response_with_state("idle")).url)
    event = only_event(make_trigger(poke_interval=60, deadline=time.time() - 60))
    assert event["timed_out"] == "timeout"


def test_hanging_service_does_not_delay_deadline(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "LAST_POLL_SECONDS", 0.1)
    connect(serve({"delay": 2}).url, retries=0, timeout=1)

    async def wait() -> tuple[Any, float]:
        started = time.monotonic()
        (event,) = await events(make_trigger(deadline=time.time() + 0.2))
        return event, time.monotonic() - started

    event, seconds = asyncio.run(wait())
    assert without_time(event) == {"values": {}, "timed_out": "timeout"}
    assert seconds < 0.8


def test_polling_does_not_block_other_triggers(connect: Connect, serve: Serve) -> None:
    connect(serve({**response_with_state("finished"), "delay": 0.3}).url)

    async def count_while_waiting() -> int:
        waiting, ticks = asyncio.create_task(events(make_trigger())), 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert asyncio.run(count_while_waiting()) >= 10


@pytest.mark.parametrize(
    "error_class",
    [
        error_class
        for error_class in vars(exceptions).values()
        if isinstance(error_class, type) and issubclass(error_class, exceptions.WebcamconsultError)
    ],
)
def test_each_error_survives_event_serialization(error_class: type[exceptions.WebcamconsultError]) -> None:
    error = error_class("Sentence.", method="GET", path="/users.json", status_code=418, reason="I'm a Teapot")
    restored = deserialize_error(json.loads(json.dumps(serialize_error(error))))
    assert type(restored) is error_class
    assert (str(restored), restored.method, restored.path, restored.status_code, restored.reason) == (
        "Sentence.",
        "GET",
        "/users.json",
        418,
        "I'm a Teapot",
    )
