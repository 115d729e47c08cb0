"""The sensor: what one look means, and how a wait ends, on the worker and deferred."""

from __future__ import annotations

import asyncio
import datetime
import json
import sqlite3
import time
from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING, Any

import airflow
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, TaskDeferred

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultConfigurationError,
    WebcamconsultInputError,
    WebcamconsultNotFoundError,
    WebcamconsultRequestError,
)
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.sensors import appointments as sensors
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor
from airflow_provider_webcamconsult.triggers.appointments import WebcamconsultAppointmentStateTrigger
from airflow_provider_webcamconsult.version_compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
)

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Log, Serve, Service, Step

ID = "1234567890abcdef12345678"
AIRFLOW_2 = airflow.__version__.startswith("2.")


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)


def seen(state: object) -> Step:
    return {"body": {"appointment": {"id": ID, "state": state}}}


def make(**arguments: Any) -> Any:
    return WebcamconsultAppointmentStateSensor(
        **{"task_id": "wait", "appointment_id": ID, "poke_interval": 0.05, "timeout": 60, **arguments}
    )


WEB_PAGE: Step = {"body": "<html>We are back soon.</html>"}
REDIRECT: Step = {"status": 302, "headers": {"Location": "/maintenance"}}

# One look


@pytest.mark.parametrize(
    ("target_states", "failed_states", "state", "done"),
    [
        (None, (), "idle", False),
        (None, (), "anything", True),
        (None, ["cancelled"], "started", True),
        (["finished"], (), "idle", False),
        (["finished"], (), "started", False),
        (["finished"], (), "finished", True),
        (("started", "finished"), {"cancelled"}, "started", True),
        ({"idle"}, (), "idle", True),
    ],
)
def test_a_look_finds_a_target_state_or_not(
    target_states: Any, failed_states: Any, state: str, done: bool, hook: WebcamconsultHook, service: Service
) -> None:
    record_id = hook.appointments.create({"date": "2030-03-01T09:30"})["id"]
    service.set_state(record_id, state)
    sensor = make(appointment_id=record_id, target_states=target_states, failed_states=failed_states)
    look = sensor.poke({})
    assert (bool(look), look.xcom_value) == (done, state if done else None)


@pytest.mark.parametrize("target_states", [None, ["finished"]])
def test_a_failed_state_fails_the_task_for_good(
    target_states: list[str] | None, connect: Connect, serve: Serve
) -> None:
    connect(serve(seen("cancelled")).url)
    with pytest.raises(
        AirflowFailException, match=f"Appointment {ID} is in state 'cancelled', which is one of failed_states"
    ):
        make(target_states=target_states, failed_states=["cancelled"]).poke({})


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ({"status": 404}, WebcamconsultNotFoundError),
        ({"status": 401}, WebcamconsultAuthenticationError),
        ({"status": 403}, WebcamconsultAuthenticationError),
        ({"status": 400}, WebcamconsultRequestError),
    ],
)
@pytest.mark.parametrize("began_well", [False, True])
def test_what_cannot_pass_fails_the_task_for_good(
    step: Step, error: type[Exception], began_well: bool, connect: Connect, serve: Serve
) -> None:
    connect(serve(*[seen("idle")] * began_well, step).url)
    sensor = make()
    for _ in range(began_well):
        sensor.poke({})
    with pytest.raises(error) as failed:
        sensor.poke({})
    assert isinstance(failed.value, AirflowFailException)


@pytest.mark.parametrize(
    "step",
    [
        {"status": 500},
        {"status": 503},
        {"status": 429},
        {"cut": "after the request"},
        {"body": "no JSON"},
        {"body": {"appointment": {"id": ID}}},
        seen(None),
        seen(""),
        seen(5),
    ],
    ids=str,
)
def test_what_can_pass_is_survived_from_the_first_look_on(
    step: Step, connect: Connect, serve: Serve, log: Log
) -> None:
    connect(serve(step).url, retries=0)
    assert not make().poke({})
    assert any("Still waiting. Next check in" in warning for warning in log.warnings)


def test_the_log_tells_each_change_of_state_what_is_awaited_and_when_it_looks_next(
    connect: Connect, serve: Serve, log: Log
) -> None:
    connect(serve(*map(seen, ["idle", "idle", "started", "started", "paused", "finished"])).url)
    sensor = make(target_states=["finished", "cancelled"], poke_interval=30)
    while not sensor.poke({}):
        pass
    waiting = "Waiting for 'finished' or 'cancelled'. Next check in 30 s."
    assert log.of("info") == [
        f"Appointment {ID} is in state 'idle'.",
        waiting,
        f"Appointment {ID} is in state 'started'.",
        waiting,
        f"Appointment {ID} is in state 'paused'.",
        waiting,
        f"Appointment {ID} is in state 'finished'.",
    ]


@pytest.mark.parametrize("step", [WEB_PAGE, REDIRECT], ids=["web page", "redirect"])
class TestAHostThatIsNotTheApi:
    def test_is_a_wrong_connection_at_the_first_look(
        self, step: Step, connect: Connect, serve: Serve
    ) -> None:
        connect(serve(step).url)
        with pytest.raises(WebcamconsultConfigurationError):
            make().poke({})

    def test_is_a_pause_of_the_service_after_a_good_one(
        self, step: Step, connect: Connect, serve: Serve
    ) -> None:
        connect(serve(seen("idle"), step, seen("finished")).url)
        sensor = make()
        assert [bool(sensor.poke({})) for _ in range(3)] == [False, False, True]

    @pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 keeps the looks in its database")
    @pytest.mark.parametrize("looks", [0, 2])
    def test_is_either_by_the_number_of_looks_in_earlier_processes(
        self, looks: int, step: Step, connect: Connect, serve: Serve
    ) -> None:
        connect(serve(step).url)
        sensor, context = make(mode="reschedule"), {"task_reschedule_count": looks}
        if looks:
            assert not sensor.poke(context)
        else:
            with pytest.raises(WebcamconsultConfigurationError):
                sensor.poke(context)

    @pytest.mark.skipif(not AIRFLOW_2, reason="Airflow 3 tells the number of looks in the context")
    def test_is_either_by_the_looks_in_the_database(self, step: Step, connect: Connect, serve: Serve) -> None:
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.taskreschedule import TaskReschedule

        connect(serve(step).url)
        engine: Any = airflow.settings.engine
        TaskReschedule.metadata.create_all(engine, tables=[TaskReschedule.metadata.tables["task_reschedule"]])
        with DAG("dag", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
            sensor = make(mode="reschedule", task_id=f"wait_{len(step)}")
        task_instance: Any = TaskInstance  # Airflow 3's wants more
        context = {"ti": task_instance(sensor, run_id="run")}
        with pytest.raises(WebcamconsultConfigurationError):
            sensor.poke(context)
        # Of a run that the database does not know, which it does not mind from a plain connection.
        with closing(sqlite3.connect(engine.url.database)) as database, database:
            database.execute(
                "INSERT INTO task_reschedule (dag_id, task_id, run_id, map_index, try_number, start_date,"
                " end_date, duration, reschedule_date) VALUES ('dag', ?, 'run', -1, ?, ?, ?, 0, ?)",
                (sensor.task_id, context["ti"].try_number, *["2026-01-01 00:00:00.000000"] * 3),
            )
        assert not sensor.poke(context)
        # A later process counts its limit from the first one.
        later = make(
            mode="reschedule", task_id=sensor.task_id, execution_timeout=datetime.timedelta(seconds=30)
        )
        with pytest.raises(AirflowTaskTimeout):
            later.poke(context)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"target_states": []}, "target_states is empty"),
        ({"target_states": "finished"}, "target_states must be a list"),
        ({"target_states": "['finished']"}, "target_states must be a list"),
        ({"target_states": 3}, "target_states must be a list"),
        ({"target_states": ["finished", None]}, "target_states must be a list"),
        ({"target_states": [""]}, "target_states must be a list"),
        ({"failed_states": None}, "failed_states must be a list"),
        ({"failed_states": "cancelled"}, "failed_states must be a list"),
        ({"failed_states": [1]}, "failed_states must be a list"),
        (
            {"target_states": ["b", "a"], "failed_states": ["b", "a", "c"]},
            "^States in both target_states and failed_states: a, b. ",
        ),
        ({"appointment_id": None}, "^appointment_id "),
        ({"appointment_id": "None"}, "^appointment_id "),
        ({"appointment_id": "a/b"}, "^appointment_id "),
    ],
)
def test_a_wait_that_cannot_be_meant_is_refused_before_anything_is_sent(
    arguments: dict[str, Any], problem: str, hook: WebcamconsultHook, service: Service
) -> None:
    with pytest.raises(WebcamconsultInputError, match=problem):
        make(**arguments).execute({})
    assert service.requests == []


def test_all_that_says_what_is_awaited_is_templated() -> None:
    sensor = make(
        appointment_id="{{ value }}",
        target_states=["{{ value }}"],
        failed_states=["not {{ value }}"],
        webcamconsult_conn_id="{{ value }}",
    )
    sensor.render_template_fields({"value": "rendered"})
    assert (sensor.appointment_id, sensor.target_states) == ("rendered", ["rendered"])
    assert (sensor.failed_states, sensor.hook.webcamconsult_conn_id) == (["not rendered"], "rendered")


# A whole wait


def deferred(sensor: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as stopped:
        sensor.execute({})
    return stopped.value


def wait(sensor: Any) -> Any:
    """Wait to the end as Airflow does: on the worker, or there, in the triggerer and there again."""
    try:
        return sensor.execute({})
    except TaskDeferred as stopped:
        path, arguments = json.loads(json.dumps(stopped.trigger.serialize()))
        module, _, name = path.rpartition(".")
        trigger = getattr(import_module(module), name)(**arguments)

        async def first_event() -> Any:
            return await anext(event.payload async for event in trigger.run())

        event = json.loads(json.dumps(asyncio.run(first_event())))
        return sensor.resume_execution(stopped.method_name, {"event": event, **(stopped.kwargs or {})}, {})


BOTH_WAYS = pytest.mark.parametrize("deferrable", [False, True], ids=["on the worker", "deferred"])


@BOTH_WAYS
@pytest.mark.parametrize(
    "steps",
    [
        [seen("finished")],
        [seen("idle"), seen("started"), seen("finished")],
        [seen("idle"), {"status": 503}, WEB_PAGE, seen("finished")],
    ],
    ids=["at once", "later", "after a pause of the service"],
)
def test_a_wait_returns_the_state_that_ended_it(
    steps: list[Step], deferrable: bool, connect: Connect, serve: Serve
) -> None:
    server = serve(*steps)
    connect(server.url, retries=0)
    # With an interval, so that nothing is looked at again before the wait has left.
    assert wait(make(target_states=["finished"], deferrable=deferrable, poke_interval=0.1)) == "finished"
    assert len(server.requests) == len(steps)


@BOTH_WAYS
@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize(
    ("last", "error", "said"),
    [
        (
            seen("cancelled"),
            AirflowFailException,
            "is in state 'cancelled', which is one of failed_states; expected 'finished'.",
        ),
        (
            {"status": 404},
            WebcamconsultNotFoundError,
            f"GET /appointment/{ID}.json returned 404. No such appointment exists",
        ),
        (
            {"status": 401},
            WebcamconsultAuthenticationError,
            f"GET /appointment/{ID}.json returned 401. Webcamconsult rejected the",
        ),
    ],
    ids=["failed state", "gone", "refused"],
)
def test_a_wait_that_cannot_succeed_fails_for_good_or_skips(
    last: Step,
    error: type[Exception],
    said: str,
    soft_fail: bool,
    deferrable: bool,
    connect: Connect,
    serve: Serve,
) -> None:
    connect(serve(seen("idle"), last).url)
    sensor = make(
        target_states=["finished"], failed_states=["cancelled"], deferrable=deferrable, soft_fail=soft_fail
    )
    with pytest.raises(AirflowSkipException if soft_fail else error) as ended:
        wait(sensor)
    reason = ended.value.__cause__ if soft_fail else ended.value
    assert type(reason) is error
    assert said in str(reason)


@BOTH_WAYS
@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_wait_that_takes_too_long_times_out_or_skips(
    soft_fail: bool, deferrable: bool, connect: Connect, serve: Serve
) -> None:
    connect(serve(seen("idle")).url)
    sensor = make(timeout=0.1, poke_interval=0.05, deferrable=deferrable, soft_fail=soft_fail)
    with pytest.raises(AirflowSkipException if soft_fail else AirflowSensorTimeout):
        wait(sensor)


@BOTH_WAYS
@pytest.mark.parametrize("seconds", [0, 0.1], ids=["in a look", "between two"])
def test_an_execution_timeout_is_never_softened(
    seconds: float, deferrable: bool, connect: Connect, serve: Serve
) -> None:
    connect(serve(seen("idle")).url)
    limit = datetime.timedelta(seconds=seconds)
    sensor = make(execution_timeout=limit, poke_interval=0.05, deferrable=deferrable, soft_fail=True)
    with pytest.raises(AirflowTaskTimeout):
        wait(sensor)


# Rescheduling


def test_a_rescheduled_wait_does_not_come_back_within_seconds(connect: Connect, serve: Serve) -> None:
    connect(serve(seen("idle")).url)
    sensor = make(mode="reschedule", timeout=60)
    assert not sensor.poke({})
    assert sensor._get_next_poke_interval(None, lambda: 0.0, 1) == sensors.RESCHEDULE_MIN_SECONDS


def test_the_end_of_a_rescheduled_wait_is_waited_for_on_the_worker(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "LAST_LEG_SECONDS", 0.2)
    monkeypatch.setattr(sensors, "RESCHEDULE_MIN_SECONDS", 0.2)
    connect(serve(seen("idle")).url)
    with pytest.raises(AirflowSensorTimeout):
        make(mode="reschedule", timeout=0.3).poke({})


# Deferring


@pytest.mark.parametrize("step", [seen("idle"), {"status": 503}], ids=str)
def test_a_wait_that_is_not_over_is_handed_to_the_trigger(step: Step, connect: Connect, serve: Serve) -> None:
    connect(serve(step).url, retries=0)
    stopped = deferred(
        make(
            target_states=("finished",),
            failed_states={"cancelled"},
            poke_interval=7.5,
            timeout=600,
            deferrable=True,
        )
    )
    assert type(stopped.trigger) is WebcamconsultAppointmentStateTrigger
    arguments = stopped.trigger.serialize()[1]
    assert arguments.pop("deadline") == pytest.approx(time.time() + 600, abs=30)
    assert arguments == {
        "appointment_id": ID,
        "target_states": ["finished"],
        "failed_states": ["cancelled"],
        "webcamconsult_conn_id": "webcamconsult_default",
        "poke_interval": 7.5,
        "timeout_name": "timeout",
        "last_state": "idle" if "body" in step else None,
        "end_from_trigger": False,
        "do_xcom_push": True,
    }
    assert stopped.method_name == "execute_complete"


@pytest.mark.parametrize(
    ("timeout", "execution_timeout", "limit"), [(600, None, 600), (600, 300, 300), (300, 600, 300)]
)
def test_the_deadline_is_the_shorter_of_the_two_timeouts(
    timeout: float, execution_timeout: float | None, limit: float, connect: Connect, serve: Serve
) -> None:
    connect(serve(seen("idle")).url)
    execution = None if execution_timeout is None else datetime.timedelta(seconds=execution_timeout)
    before = time.time()
    stopped = deferred(make(timeout=timeout, execution_timeout=execution, deferrable=True))
    deadline = stopped.trigger.serialize()[1]["deadline"]
    assert before + limit <= deadline <= time.time() + limit
    # Airflow's own limit is the second line: it does not retry, or does, depending on its version.
    assert stopped.timeout > datetime.timedelta(seconds=limit)


def test_nothing_is_deferred_that_has_failed(connect: Connect, serve: Serve) -> None:
    connect(serve({"status": 404}).url)
    with pytest.raises(WebcamconsultNotFoundError):
        make(deferrable=True).execute({})


@pytest.mark.parametrize(
    "event",
    [
        # What Airflow hands over for a trigger that ended the task itself.
        "success",
        None,
        [],
        3,
        {},
        {"state": None},
        {"state": ""},
        {"state": 5},
        {"state": "idle"},
        {"state": "started"},
        {"error": "a sentence"},
        {"error": {"type": "WebcamconsultNotFoundError"}},
        {"error": {"type": "NoSuchError", "message": "A sentence."}},
        {"error": {"type": "annotations", "message": "A sentence."}},
        {"status": "finished"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("soft_fail", [False, True])
def test_an_event_that_is_not_understood_is_no_success(event: Any, soft_fail: bool) -> None:
    sensor = make(target_states=["finished"], soft_fail=soft_fail)
    with pytest.raises(AirflowSkipException if soft_fail else AirflowFailException):
        sensor.resume_execution("execute_complete", {"event": event}, {})
