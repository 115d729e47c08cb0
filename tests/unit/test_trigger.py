"""The trigger: its real run in an event loop, against real servers."""

from __future__ import annotations

import asyncio
import json
import time
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import airflow
import pytest

from airflow_provider_webcamconsult import exceptions
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.triggers.appointments import (
    WebcamconsultAppointmentStateTrigger,
    deserialize_error,
    serialize_error,
)

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Log, Serve, Service, Step

AIRFLOW_2 = airflow.__version__.startswith("2.")
ID = "1234567890abcdef12345678"
TASK_INSTANCE: Any = SimpleNamespace(dag_id="dag", task_id="wait", run_id="run", map_index=-1)


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)


def seen(state: object) -> Step:
    return {"body": {"appointment": {"id": ID, "state": state}}}


def make(**arguments: Any) -> WebcamconsultAppointmentStateTrigger:
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
    # As it gets through Airflow's database.
    return json.loads(json.dumps(event))


def test_what_is_stored_of_a_trigger_makes_it_again() -> None:
    arguments: dict[str, Any] = {
        "appointment_id": ID,
        "target_states": ["finished"],
        "failed_states": ["cancelled"],
        "webcamconsult_conn_id": "webcamconsult_default",
        "poke_interval": 7.5,
        "deadline": 1.5e9,
        "timeout_name": "execution_timeout",
        "last_state": "idle",
        "end_from_trigger": True,
        "do_xcom_push": False,
    }
    trigger = WebcamconsultAppointmentStateTrigger(**arguments)
    path, stored = json.loads(json.dumps(trigger.serialize()))
    module, _, name = path.rpartition(".")
    again = getattr(import_module(module), name)(**stored)
    assert type(again) is WebcamconsultAppointmentStateTrigger
    assert vars(again).items() >= arguments.items()


def test_a_state_of_the_service_ends_the_wait(hook: WebcamconsultHook, service: Service) -> None:
    record_id = hook.appointments.create({"date": "2030-03-01T09:30"})["id"]
    service.set_state(record_id, "started")
    assert only_event(make(appointment_id=record_id)) == {"state": "started"}


@pytest.mark.parametrize(
    ("target_states", "failed_states", "states", "last"),
    [
        (None, [], ["idle", "idle", "anything"], "anything"),
        (["finished"], [], ["idle", "started", "finished"], "finished"),
        (["idle"], [], ["idle"], "idle"),
        (["finished"], ["cancelled"], ["idle", "cancelled"], "cancelled"),
        (None, ["cancelled"], ["idle", "cancelled"], "cancelled"),
        # A state has to be the awaited one, not a part of it.
        (["finished"], [], ["fin", "Finished", "finished"], "finished"),
    ],
)
def test_it_looks_until_a_target_or_failed_state_is_there(
    target_states: list[str] | None,
    failed_states: list[str],
    states: list[str],
    last: str,
    connect: Connect,
    serve: Serve,
) -> None:
    server = serve(*map(seen, states))
    connect(server.url)
    assert only_event(make(target_states=target_states, failed_states=failed_states)) == {"state": last}
    assert len(server.requests) == len(states)


def test_what_is_over_is_not_polled_at_again_though_a_look_takes_longer_than_the_interval(
    connect: Connect, serve: Serve
) -> None:
    server = serve({**seen("finished"), "delay": 0.2})
    connect(server.url)
    assert only_event(make(poke_interval=0.05)) == {"state": "finished"}
    time.sleep(0.1)  # what was sent meanwhile has arrived
    assert len(server.requests) == 1


def test_end_from_trigger_ends_the_task_here(connect: Connect, serve: Serve) -> None:
    connect(serve(seen("finished")).url)
    trigger = make(end_from_trigger=True, do_xcom_push=False)
    trigger.task_instance = TASK_INSTANCE
    assert only_event(trigger) == "success"


@pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 keeps the value with the event")
def test_where_the_value_cannot_be_kept_a_worker_ends_the_task(
    connect: Connect, serve: Serve, log: Log
) -> None:
    connect(serve(seen("finished")).url)
    trigger = make(end_from_trigger=True)
    trigger.task_instance = TASK_INSTANCE  # and no triggerer that would keep it
    assert only_event(trigger) == {"state": "finished"}
    (warning,) = log.warnings
    assert warning.startswith("Could not store the return value from the triggerer (")
    assert warning.endswith("). A worker will end the task.")


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ({"status": 404}, "WebcamconsultNotFoundError"),
        ({"status": 401}, "WebcamconsultAuthenticationError"),
        ({"status": 403}, "WebcamconsultAuthenticationError"),
        ({"status": 422}, "WebcamconsultValidationError"),
        ({"status": 400}, "WebcamconsultRequestError"),
    ],
)
def test_what_cannot_pass_ends_the_wait_with_the_error(
    step: Step, error: str, connect: Connect, serve: Serve
) -> None:
    connect(serve(seen("idle"), step).url)
    event = only_event(make())
    assert event["state"] == "idle"
    assert (event["error"]["type"], event["error"]["status_code"]) == (error, step["status"])


@pytest.mark.parametrize(
    "step",
    [
        {"status": 500},
        {"status": 503},
        {"status": 429},
        {"cut": "after the request"},
        {"body": "no JSON"},
        {"body": "<html>We are back soon.</html>"},
        {"status": 302, "headers": {"Location": "/maintenance"}},
        {"status": 302, "headers": {"Location": "http://["}},
        {"delay": 1},
        seen(None),
        seen(""),
        seen(5),
        {"body": {"appointment": {"id": ID}}},
    ],
    ids=str,
)
def test_what_can_pass_is_ridden_out_and_logged(step: Step, connect: Connect, serve: Serve, log: Log) -> None:
    connect(serve(step, step, seen("finished")).url, retries=0, timeout=0.25)
    assert only_event(make()) == {"state": "finished"}
    assert ["Still waiting. Next check in" in warning for warning in log.warnings] == [True, True]


def test_a_connection_that_is_not_there_ends_the_wait() -> None:
    event = only_event(make(webcamconsult_conn_id="nowhere"))
    assert event["error"]["type"] == "WebcamconsultConfigurationError"


def test_the_deadline_ends_the_wait_after_a_last_look(connect: Connect, serve: Serve) -> None:
    server = serve(seen("idle"))
    connect(server.url)
    began = time.monotonic()
    event = only_event(make(poke_interval=60, deadline=time.time() + 0.3))
    assert event == {"state": "idle", "timed_out": "timeout"}
    assert len(server.requests) == 1
    assert 0.25 <= time.monotonic() - began < 5


def test_the_last_look_announces_no_other(connect: Connect, serve: Serve, log: Log) -> None:
    connect(serve(seen("started")).url)
    trigger = make(
        target_states=["finished"], last_state="idle", poke_interval=60, deadline=time.time() + 0.1
    )
    assert only_event(trigger)["timed_out"] == "timeout"
    assert f"Appointment {ID} is in state 'started'." in log.of("info")


def test_a_state_that_is_there_at_the_deadline_counts(connect: Connect, serve: Serve) -> None:
    connect(serve(seen("finished")).url)
    assert only_event(make(poke_interval=60, deadline=time.time() + 0.1)) == {"state": "finished"}


def test_a_deadline_that_has_passed_ends_the_wait_at_once(connect: Connect, serve: Serve) -> None:
    connect(serve(seen("idle")).url)
    event = only_event(make(poke_interval=60, deadline=time.time() - 60))
    assert event["timed_out"] == "timeout"


def test_a_service_that_hangs_does_not_hold_up_the_deadline(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "LAST_POLL_SECONDS", 0.1)
    connect(serve({"delay": 2}).url, retries=0, timeout=1)

    async def wait() -> tuple[Any, float]:
        began = time.monotonic()
        (event,) = await events(make(deadline=time.time() + 0.2))
        return event, time.monotonic() - began

    event, seconds = asyncio.run(wait())
    assert event == {"state": None, "timed_out": "timeout"}
    assert seconds < 0.8


def test_the_other_triggers_go_on_while_it_looks(connect: Connect, serve: Serve) -> None:
    connect(serve({**seen("finished"), "delay": 0.3}).url)

    async def count_while_waiting() -> int:
        waiting, ticks = asyncio.create_task(events(make())), 0
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
def test_each_error_gets_through_an_event(error_class: type[exceptions.WebcamconsultError]) -> None:
    error = error_class("Sentence.", method="GET", path="/users.json", status_code=418, reason="I'm a Teapot")
    again = deserialize_error(json.loads(json.dumps(serialize_error(error))))
    assert type(again) is error_class
    assert (str(again), again.method, again.path, again.status_code, again.reason) == (
        "Sentence.",
        "GET",
        "/users.json",
        418,
        "I'm a Teapot",
    )
