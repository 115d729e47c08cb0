"""The sensor: the result of one poke, and how a wait ends on the worker and deferred."""

from __future__ import annotations

import datetime
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import airflow
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultConfigurationError,
    WebcamconsultInputError,
    WebcamconsultNotFoundError,
)
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultGetAppointmentOperator
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.sensors import base as sensors
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor
from airflow_provider_webcamconsult.triggers.appointments import WebcamconsultAppointmentStateTrigger
from airflow_provider_webcamconsult.version_compat import (
    AIRFLOW_VERSION,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    can_end_from_trigger,
)
from tests.unit.sensor_run import defer, run_to_end

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Log, Serve, Service, Step

ID = "1234567890abcdef12345678"
GONE: list[Step] = [{"status": 404}, {"status": 404}, {"body": []}]
"""The API says twice that the appointment does not exist, and the list confirms it."""
AIRFLOW_2 = AIRFLOW_VERSION < (3,)


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)
    monkeypatch.setattr(sensors, "CONFIRMATION_SECONDS", 0.01)


def response_with_state(state: object) -> Step:
    return {"body": {"appointment": {"id": ID, "state": state}}}


def make_sensor(**arguments: Any) -> Any:
    return WebcamconsultAppointmentStateSensor(
        **{"task_id": "wait", "appointment_id": ID, "poke_interval": 0.05, "timeout": 60, **arguments}
    )


WEB_PAGE: Step = {"body": "<html>We are back soon.</html>"}
REDIRECT: Step = {"status": 302, "headers": {"Location": "/maintenance"}}

# One poke


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
def test_poke_succeeds_only_in_target_state(
    target_states: Any, failed_states: Any, state: str, done: bool, hook: WebcamconsultHook, service: Service
) -> None:
    record_id = hook.appointments.create({"date": "2030-03-01T09:30"})["id"]
    service.set_state(record_id, state)
    sensor = make_sensor(appointment_id=record_id, target_states=target_states, failed_states=failed_states)
    result = sensor.poke({})
    assert (bool(result), result.xcom_value) == (done, state if done else None)


@pytest.mark.parametrize("target_states", [None, ["finished"]])
def test_failed_state_fails_task_without_retry(
    target_states: list[str] | None, connect: Connect, serve: Serve
) -> None:
    connect(serve(response_with_state("cancelled")).url)
    with pytest.raises(
        AirflowFailException, match=f"Appointment {ID} is in state 'cancelled', which is one of failed_states"
    ):
        make_sensor(target_states=target_states, failed_states=["cancelled"]).poke({})


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        (GONE, WebcamconsultNotFoundError),
        ([{"status": 401}] * 2, WebcamconsultAuthenticationError),
        ([{"status": 403}] * 2, WebcamconsultAuthenticationError),
    ],
)
@pytest.mark.parametrize("after_success", [False, True])
def test_repeated_rejection_by_the_api_fails_task_without_retry(
    steps: list[Step], error: type[Exception], after_success: bool, connect: Connect, serve: Serve
) -> None:
    server = serve(*[response_with_state("idle")] * after_success, *steps)
    connect(server.url)
    sensor = make_sensor()
    for _ in range(after_success):
        sensor.poke({})
    with pytest.raises(error) as failed:
        sensor.poke({})
    assert isinstance(failed.value, AirflowFailException)
    assert len(server.requests) == len(steps) + after_success


@pytest.mark.parametrize(
    "step", [{"status": 401}, {"status": 403}, {"status": 404}, WEB_PAGE, REDIRECT], ids=str
)
def test_single_rejection_is_a_hiccup(step: Step, connect: Connect, serve: Serve) -> None:
    connect(serve(step, response_with_state("finished")).url)
    assert make_sensor().poke({})


@pytest.mark.parametrize(
    "step",
    [
        *({"status": status} for status in (400, 405, 406, 408, 409, 410, 418, 421, 422, 423, 425, 426)),
        *({"status": status} for status in (429, 431, 451, 499, 500, 502, 503, 504)),
        *({"status": status, "body": "<html>Blocked.</html>"} for status in (401, 403, 404)),
        {"cut": "after the request"},
        {"body": "not JSON"},
        {"body": {"appointment": {"id": ID}}},
        response_with_state(None),
        response_with_state(""),
        response_with_state(5),
    ],
    ids=str,
)
def test_transient_error_is_tolerated_from_first_poke(
    step: Step, connect: Connect, serve: Serve, log: Log
) -> None:
    connect(serve(step).url, retries=0)
    assert not make_sensor().poke({})
    assert any("Still waiting. Next check in" in warning for warning in log.warnings)


def test_log_shows_state_changes_target_states_and_next_poke(
    connect: Connect, serve: Serve, log: Log
) -> None:
    connect(
        serve(*map(response_with_state, ["idle", "idle", "started", "started", "paused", "finished"])).url
    )
    sensor = make_sensor(target_states=["finished", "cancelled"], poke_interval=30)
    while not sensor.poke({}):
        pass
    waiting = f"Waiting for appointment {ID} to reach 'finished' or 'cancelled'. Next check in 30 s."
    assert log.messages("info") == [
        f"Appointment {ID} is in state 'idle'.",
        waiting,
        f"Appointment {ID} is in state 'started'.",
        waiting,
        f"Appointment {ID} is in state 'paused'.",
        waiting,
        f"Appointment {ID} is in state 'finished'.",
    ]


@pytest.mark.parametrize("step", [WEB_PAGE, REDIRECT], ids=["web page", "redirect"])
class TestHostOtherThanApi:
    def test_raises_configuration_error_on_first_poke(
        self, step: Step, connect: Connect, serve: Serve
    ) -> None:
        connect(serve(step).url)
        with pytest.raises(WebcamconsultConfigurationError):
            make_sensor().poke({})

    def test_is_tolerated_after_a_successful_poke(self, step: Step, connect: Connect, serve: Serve) -> None:
        connect(serve(response_with_state("idle"), step, step, response_with_state("finished")).url)
        sensor = make_sensor()
        assert [bool(sensor.poke({})) for _ in range(3)] == [False, False, True]

    @pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 has the number of pokes only in its database")
    @pytest.mark.parametrize("pokes", [0, 2])
    def test_depends_on_earlier_pokes_from_context(
        self, pokes: int, step: Step, connect: Connect, serve: Serve
    ) -> None:
        connect(serve(step).url)
        sensor, context = make_sensor(mode="reschedule"), {"task_reschedule_count": pokes}
        if pokes:
            assert not sensor.poke(context)
        else:
            with pytest.raises(WebcamconsultConfigurationError):
                sensor.poke(context)

    @pytest.mark.skipif(not AIRFLOW_2, reason="Airflow 3 has the number of pokes in the context")
    def test_depends_on_earlier_pokes_from_database(self, step: Step, connect: Connect, serve: Serve) -> None:
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.taskreschedule import TaskReschedule

        connect(serve(step).url)
        engine: Any = airflow.settings.engine
        TaskReschedule.metadata.create_all(engine, tables=[TaskReschedule.metadata.tables["task_reschedule"]])
        with DAG("dag", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
            sensor = make_sensor(mode="reschedule", task_id=f"wait_{len(step)}")
        task_instance: Any = TaskInstance  # Airflow 3 requires more arguments
        context = {"ti": task_instance(sensor, run_id="run")}
        with pytest.raises(WebcamconsultConfigurationError):
            sensor.poke(context)
        # A plain connection does not enforce the foreign key to the run, which does not exist.
        with closing(sqlite3.connect(engine.url.database)) as database, database:
            database.execute(
                "INSERT INTO task_reschedule (dag_id, task_id, run_id, map_index, try_number, start_date,"
                " end_date, duration, reschedule_date) VALUES ('dag', ?, 'run', -1, ?, ?, ?, 0, ?)",
                (sensor.task_id, context["ti"].try_number, *["2026-01-01 00:00:00.000000"] * 3),
            )
        assert not sensor.poke(context)
        # A later process counts its timeout from the first poke.
        later = make_sensor(
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
        ({"target_states": ["finished", "None"]}, "target_states contains 'None'"),
        ({"failed_states": ["nan"]}, "failed_states contains 'nan'"),
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
def test_invalid_arguments_are_rejected_before_any_request(
    arguments: dict[str, Any], problem: str, hook: WebcamconsultHook, service: Service
) -> None:
    with pytest.raises(WebcamconsultInputError, match=problem):
        make_sensor(**arguments).execute({})
    assert service.requests == []


def test_failed_states_may_be_none(connect: Connect, serve: Serve) -> None:
    connect(serve(response_with_state("finished")).url)
    assert make_sensor(failed_states=None).poke({})


def test_id_states_and_connection_are_templated() -> None:
    sensor = make_sensor(
        appointment_id="{{ value }}",
        target_states=["{{ value }}"],
        failed_states=["not {{ value }}"],
        webcamconsult_conn_id="{{ value }}",
    )
    sensor.render_template_fields({"value": "rendered"})
    assert (sensor.appointment_id, sensor.target_states) == ("rendered", ["rendered"])
    assert (sensor.failed_states, sensor.hook.webcamconsult_conn_id) == (["not rendered"], "rendered")


# Complete waits


BOTH_MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["on the worker", "deferred"])


@BOTH_MODES
@pytest.mark.parametrize(
    "steps",
    [
        [response_with_state("finished")],
        [response_with_state("idle"), response_with_state("started"), response_with_state("finished")],
        [response_with_state("idle"), {"status": 503}, WEB_PAGE, response_with_state("finished")],
    ],
    ids=["first poke", "later poke", "after service failures"],
)
def test_sensor_returns_final_state(
    steps: list[Step], deferrable: bool, connect: Connect, serve: Serve
) -> None:
    server = serve(*steps)
    connect(server.url, retries=0)
    sensor = make_sensor(target_states=["finished"], deferrable=deferrable, poke_interval=0.1)
    assert run_to_end(sensor) == "finished"
    # On a busy machine, the next poll may start before the trigger unsubscribes.
    assert len(server.requests) - len(steps) in ((0, 1) if deferrable else (0,))


@BOTH_MODES
@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize(
    ("last", "error", "message"),
    [
        (
            [response_with_state("cancelled")],
            AirflowFailException,
            "is in state 'cancelled', which is one of failed_states; expected 'finished'. "
            "Check the appointment in Webcamconsult.",
        ),
        (
            GONE,
            WebcamconsultNotFoundError,
            f"Appointment {ID} does not exist for this API token: it was deleted, or the id is wrong.",
        ),
        (
            [{"status": 401}],
            WebcamconsultAuthenticationError,
            f"GET /appointment/{ID}.json with connection 'webcamconsult_default' returned 401. Webcamconsult",
        ),
    ],
    ids=["failed state", "missing", "unauthorized"],
)
def test_permanent_failure_fails_without_retry_or_skips_with_soft_fail(
    last: list[Step],
    error: type[Exception],
    message: str,
    soft_fail: bool,
    deferrable: bool,
    connect: Connect,
    serve: Serve,
) -> None:
    connect(serve(response_with_state("idle"), *last).url)
    sensor = make_sensor(
        target_states=["finished"], failed_states=["cancelled"], deferrable=deferrable, soft_fail=soft_fail
    )
    with pytest.raises(AirflowSkipException if soft_fail else error) as raised:
        run_to_end(sensor)
    reason = raised.value.__cause__ if soft_fail else raised.value
    assert type(reason) is error
    assert message in str(reason)


@BOTH_MODES
@pytest.mark.parametrize("soft_fail", [False, True])
def test_timeout_raises_or_skips_with_soft_fail(
    soft_fail: bool, deferrable: bool, connect: Connect, serve: Serve
) -> None:
    connect(serve(response_with_state("idle")).url)
    sensor = make_sensor(timeout=0.1, poke_interval=0.05, deferrable=deferrable, soft_fail=soft_fail)
    with pytest.raises(AirflowSkipException if soft_fail else AirflowSensorTimeout):
        run_to_end(sensor)


@BOTH_MODES
@pytest.mark.parametrize("seconds", [0, 0.1], ids=["during a poke", "between pokes"])
def test_execution_timeout_ignores_soft_fail(
    seconds: float, deferrable: bool, connect: Connect, serve: Serve
) -> None:
    connect(serve(response_with_state("idle")).url)
    timeout = datetime.timedelta(seconds=seconds)
    sensor = make_sensor(execution_timeout=timeout, poke_interval=0.05, deferrable=deferrable, soft_fail=True)
    with pytest.raises(AirflowTaskTimeout):
        run_to_end(sensor)


# Airflow's settings, in each mode

FAILED, SKIPPED, FINISHED = "failed", "skipped", "finished"

FAILURES: dict[str, tuple[list[Step], dict[str, Any]]] = {
    "failed state": ([response_with_state("cancelled")], {}),
    "missing appointment": (GONE, {}),
    "timeout": ([response_with_state("idle")], {"timeout": 0.1}),
    "temporary error": ([{"status": 503}, response_with_state("finished")], {}),
}

OUTCOMES: dict[str, dict[str, str]] = {
    "failed state": {"": FAILED, "soft_fail": SKIPPED, "never_fail": SKIPPED, "silent_fail": FAILED},
    "missing appointment": {"": FAILED, "soft_fail": SKIPPED, "never_fail": SKIPPED, "silent_fail": FAILED},
    "timeout": {"": FAILED, "soft_fail": SKIPPED, "never_fail": SKIPPED, "silent_fail": FAILED},
    "temporary error": dict.fromkeys(["", "soft_fail", "never_fail", "silent_fail"], FINISHED),
}


@pytest.mark.parametrize("mode", ["poke", "deferred", "deferred at once"])
@pytest.mark.parametrize(
    ("cause", "setting", "expected"),
    [(cause, setting, each) for cause, row in OUTCOMES.items() for setting, each in row.items()],
)
def test_settings_have_the_same_effect_in_each_mode(
    cause: str, setting: str, expected: str, mode: str, connect: Connect, serve: Serve
) -> None:
    steps, arguments = FAILURES[cause]
    # The first poke is on the worker, so the trigger meets what comes second.
    first = [response_with_state("idle")] if mode == "deferred" else []
    connect(serve(*first, *steps).url)
    settings = {setting: True} if setting else {}
    sensor = make_sensor(
        **{
            "target_states": ["finished"],
            "failed_states": ["cancelled"],
            "deferrable": mode != "poke",
            **settings,
            **arguments,
        }
    )
    try:
        outcome = run_to_end(sensor)
    except AirflowSkipException:
        outcome = SKIPPED
    except (AirflowFailException, AirflowSensorTimeout):
        outcome = FAILED
    assert outcome == expected


@pytest.mark.parametrize("poke_count", [1, 2, 5, 9])
def test_exponential_backoff_is_airflows_on_the_worker(
    poke_count: int, connect: Connect, serve: Serve
) -> None:
    connect(serve(response_with_state("idle")).url)
    sensor = make_sensor(poke_interval=10, exponential_backoff=True, max_wait=300, timeout=100_000)
    sensor.poke({})
    shortest = 10 * 2 ** (poke_count - 2)
    interval = sensor._get_next_poke_interval(time.monotonic(), lambda: 0.0, poke_count)
    assert min(shortest, 300) <= interval <= min(2 * shortest, 300)


@pytest.mark.parametrize("deferrable", [False, True])
def test_timeout_may_be_longer_than_a_date_can_tell(deferrable: bool, connect: Connect, serve: Serve) -> None:
    connect(serve(response_with_state("idle")).url)
    sensor = make_sensor(timeout=1e12, deferrable=deferrable)
    if deferrable:
        assert defer(sensor).trigger.deadline > time.time() + 10 * 365 * 86400
    else:
        assert not sensor.poke({})


# Rescheduling


def test_reschedule_interval_has_a_minimum(connect: Connect, serve: Serve) -> None:
    connect(serve(response_with_state("idle")).url)
    sensor = make_sensor(mode="reschedule", timeout=60)
    assert not sensor.poke({})
    assert sensor._get_next_poke_interval(None, lambda: 0.0, 1) == sensors.RESCHEDULE_MIN_SECONDS


def test_rescheduled_sensor_stays_on_worker_near_its_timeout(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "LAST_LEG_SECONDS", 0.2)
    monkeypatch.setattr(sensors, "RESCHEDULE_MIN_SECONDS", 0.2)
    connect(serve(response_with_state("idle")).url)
    with pytest.raises(AirflowSensorTimeout):
        make_sensor(mode="reschedule", timeout=0.3).poke({})


# Deferring


@pytest.mark.parametrize("step", [response_with_state("idle"), {"status": 503}], ids=str)
def test_unfinished_wait_is_deferred_to_trigger(step: Step, connect: Connect, serve: Serve) -> None:
    connect(serve(step).url, retries=0)
    deferred = defer(
        make_sensor(
            target_states=("finished",),
            failed_states={"cancelled"},
            poke_interval=7.5,
            exponential_backoff=True,
            max_wait=datetime.timedelta(seconds=90),
            timeout=600,
            deferrable=True,
        )
    )
    assert type(deferred.trigger) is WebcamconsultAppointmentStateTrigger
    arguments = deferred.trigger.serialize()[1]
    assert arguments.pop("deadline") == pytest.approx(time.time() + 600, abs=30)
    assert arguments == {
        "appointment_id": ID,
        "target_states": ["finished"],
        "failed_states": ["cancelled"],
        "webcamconsult_conn_id": "webcamconsult_default",
        "poke_interval": 7.5,
        "exponential_backoff": True,
        "max_wait": 90.0,
        "timeout_name": "timeout",
        "last_state": "idle" if "body" in step else None,
        "end_from_trigger": False,
        "do_xcom_push": True,
        "appointment_ids": None,
        "wait_for": "all",
    }
    assert deferred.method_name == "execute_complete"


@pytest.mark.skipif(not can_end_from_trigger(), reason="a worker always ends it")
@pytest.mark.parametrize(
    ("is_mapped_over", "multiple_outputs", "expected"),
    [(False, False, True), (True, False, False), (False, True, False)],
)
def test_worker_ends_the_wait_if_airflow_needs_more_than_its_return_value(
    is_mapped_over: bool, multiple_outputs: bool, expected: bool, connect: Connect, serve: Serve
) -> None:
    connect(serve(response_with_state("idle")).url)
    with DAG("flow", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
        wait = make_sensor(deferrable=True, end_from_trigger=True, multiple_outputs=multiple_outputs)
        get = WebcamconsultGetAppointmentOperator.partial(task_id="get")
        if is_mapped_over:
            get.expand(appointment_id=wait.output)
        else:
            _ = wait >> get.expand(appointment_id=[ID])
    assert defer(wait).trigger.serialize()[1]["end_from_trigger"] is expected


@pytest.mark.parametrize(
    ("timeout", "execution_timeout", "limit"), [(600, None, 600), (600, 300, 300), (300, 600, 300)]
)
def test_deadline_is_the_shorter_of_the_two_timeouts(
    timeout: float, execution_timeout: float | None, limit: float, connect: Connect, serve: Serve
) -> None:
    connect(serve(response_with_state("idle")).url)
    execution = None if execution_timeout is None else datetime.timedelta(seconds=execution_timeout)
    before = time.time()
    deferred = defer(make_sensor(timeout=timeout, execution_timeout=execution, deferrable=True))
    deadline = deferred.trigger.serialize()[1]["deadline"]
    assert before + limit <= deadline <= time.time() + limit
    # Airflow's own timeout is only a fallback: whether a retry follows depends on Airflow's version.
    assert deferred.timeout > datetime.timedelta(seconds=limit)


@BOTH_MODES
def test_appointment_that_the_list_shows_is_not_missing(
    deferrable: bool, connect: Connect, serve: Serve
) -> None:
    connect(serve(response_with_state("idle"), *GONE[:2], {"body": [{"id": ID, "state": "idle"}]}).url)
    with pytest.raises(WebcamconsultConfigurationError, match=f"appointment {ID} still exists"):
        run_to_end(make_sensor(target_states=["finished"], deferrable=deferrable))


def test_sensor_is_not_deferred_when_first_poke_fails(connect: Connect, serve: Serve) -> None:
    connect(serve(*GONE).url)
    with pytest.raises(WebcamconsultNotFoundError):
        make_sensor(deferrable=True).execute({})


@pytest.mark.parametrize(
    "event",
    [
        # What Airflow passes on for a trigger that ended the task itself.
        "success",
        None,
        [],
        3,
        {},
        {"values": {}, "at": 1.5e9},
        {"values": {ID: "finished"}},
        {"values": {ID: "finished"}, "at": "now"},
        {"values": "finished", "at": 1.5e9},
        *({"values": {ID: state}, "at": 1.5e9} for state in (None, "", 5, "idle", "started")),
        {"values": {"another": "finished"}, "at": 1.5e9},
        *(
            {"values": {}, "at": 1.5e9, "error": error}
            for error in (
                "a sentence",
                {"type": "WebcamconsultNotFoundError"},
                {"type": "NoSuchError", "message": "A sentence."},
                {"type": "annotations", "message": "A sentence."},
            )
        ),
        {"state": "finished"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("soft_fail", [False, True])
def test_unexpected_event_does_not_succeed(event: Any, soft_fail: bool) -> None:
    sensor = make_sensor(target_states=["finished"], soft_fail=soft_fail)
    with pytest.raises(AirflowSkipException if soft_fail else AirflowFailException):
        sensor.resume_execution("execute_complete", {"event": event}, {})
