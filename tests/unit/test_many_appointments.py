"""One wait for many appointments, on the worker and deferred."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_webcamconsult.exceptions import WebcamconsultConfigurationError, WebcamconsultInputError
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.sensors import base as sensors
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor
from airflow_provider_webcamconsult.version_compat import AirflowFailException, AirflowSensorTimeout
from tests.unit.sensor_run import defer, run_to_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Log, Serve, Service

    Book = Callable[[int], list[str]]

NO_SUCH_ID = "f" * 24
BOTH_MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["on the worker", "deferred"])
#: One by one, and as a list.
FEW_AND_MANY = pytest.mark.parametrize("count", [3, 12])


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)
    monkeypatch.setattr(sensors, "CONFIRMATION_SECONDS", 0.01)


@pytest.fixture
def book(hook: WebcamconsultHook) -> Book:
    def book(count: int) -> list[str]:
        return [
            hook.appointments.create({"date": f"2030-03-{day:02}T09:30"})["id"] for day in range(1, count + 1)
        ]

    return book


def make_sensor(ids: Any, **arguments: Any) -> Any:
    return WebcamconsultAppointmentStateSensor(
        **{
            "task_id": "wait",
            "appointment_ids": ids,
            "target_states": ["finished"],
            "failed_states": ["cancelled"],
            "poke_interval": 0.05,
            "timeout": 60,
            **arguments,
        }
    )


def run_while(change: Callable[[], object], sensor: Any) -> Any:
    """Run a sensor to its end, with a change after its first poke."""
    poke = sensor.poke

    def first_poke(context: Any) -> Any:
        sensor.poke = poke
        try:
            return poke(context)
        finally:
            change()

    sensor.poke = first_poke
    return run_to_end(sensor)


def run_until(service: Service, sensor: Any, states: dict[str, str]) -> Any:
    """Run a sensor to its end. Appointments reach states after its first poke."""
    return run_while(lambda: [service.set_state(id, state) for id, state in states.items()], sensor)


@BOTH_MODES
@FEW_AND_MANY
class TestManyAppointments:
    def test_all_have_to_reach_a_target_state(
        self, count: int, deferrable: bool, book: Book, service: Service
    ) -> None:
        ids = book(count)
        service.set_state(ids[0], "finished")
        sensor = make_sensor((*ids, ids[0]), deferrable=deferrable)
        assert run_until(service, sensor, dict.fromkeys(ids, "finished")) == dict.fromkeys(ids, "finished")

    def test_any_ends_the_wait_with_those_that_have_reached_one(
        self, count: int, deferrable: bool, book: Book, service: Service
    ) -> None:
        ids = book(count)
        sensor = make_sensor(ids, wait_for="any", deferrable=deferrable)
        states = {ids[0]: "cancelled", ids[1]: "finished"}
        assert run_until(service, sensor, states) == {ids[1]: "finished"}

    @pytest.mark.parametrize("soft_fail", [False, True])
    def test_failed_state_is_named_by_its_id(
        self, soft_fail: bool, count: int, deferrable: bool, book: Book, service: Service
    ) -> None:
        ids = book(count)
        sensor = make_sensor(ids, deferrable=deferrable, soft_fail=soft_fail)
        with pytest.raises(AirflowSkipException if soft_fail else AirflowFailException) as raised:
            run_until(service, sensor, {ids[1]: "cancelled"})
        reason = raised.value.__cause__ if soft_fail else raised.value
        assert f"{count} of {count} have not: {ids[1]} is in state 'cancelled'," in str(reason)

    def test_missing_appointment_is_named_by_its_id(
        self, count: int, deferrable: bool, book: Book, service: Service, hook: WebcamconsultHook
    ) -> None:
        ids = book(count)
        with pytest.raises(AirflowFailException, match=rf"have not: {ids[2]} does not exist,"):
            run_while(lambda: hook.appointments.delete(ids[2]), make_sensor(ids, deferrable=deferrable))

    def test_missing_appointment_does_not_end_a_wait_for_any(
        self, count: int, deferrable: bool, book: Book, service: Service
    ) -> None:
        ids = [NO_SUCH_ID, *book(count - 1)]
        sensor = make_sensor(ids, wait_for="any", deferrable=deferrable)
        assert run_until(service, sensor, {ids[1]: "finished"}) == {ids[1]: "finished"}

    def test_timeout_names_those_that_have_not_reached_a_target_state(
        self, count: int, deferrable: bool, book: Book, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(policy, "LAST_POLL_SECONDS", 20.0)  # a busy machine needs more than one
        ids = book(count)
        for id in ids[1:]:
            service.set_state(id, "finished")
        with pytest.raises(
            AirflowSensorTimeout, match=rf"1 of {count} have not: {ids[0]} is in state 'idle'"
        ):
            # With a short interval, a poke might straddle the timeout, which Airflow then reports first.
            run_to_end(make_sensor(ids, deferrable=deferrable, timeout=0.5, poke_interval=60))


def test_many_are_requested_as_a_list(book: Book, service: Service) -> None:
    ids = book(12)
    before = len(service.requests)
    assert not make_sensor(ids).poke({})
    assert [request.path for request in service.requests[before:]] == ["/appointments.json"]


def test_single_requests_replace_a_list_that_is_rejected(connect: Connect, serve: Serve) -> None:
    ids = [f"a{number:023x}" for number in range(12)]
    answers: Any = [{"body": {"appointment": {"id": id, "state": "finished"}}} for id in ids]
    server = serve({"status": 404}, *answers)
    connect(server.url)
    assert make_sensor(ids).poke({}).xcom_value == dict.fromkeys(ids, "finished")
    assert len(server.requests) == 1 + len(ids)


class VirtualTime:
    """A clock that advances by what is slept, and a little each time that it is read."""

    def __init__(self, seconds_per_look: float) -> None:
        self.now = time.time()
        self.seconds_per_look = seconds_per_look

    def time(self) -> float:
        self.now += self.seconds_per_look
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize("seconds_per_look", [0.01, 0.2], ids=["quick", "slow"])
def test_poll_of_many_ends_a_second_after_the_timeout(
    seconds_per_look: float, mode: str, connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"a{number:023x}" for number in range(30)]
    connect(serve({"status": 404}).url, retries=0)
    clock = VirtualTime(seconds_per_look)
    monkeypatch.setattr(sensors, "time", clock)
    monkeypatch.setattr(sensors, "CONFIRMATION_SECONDS", 60)
    sensor = make_sensor(ids, wait_for="any", timeout=4, mode=mode, poke_interval=1)
    began = clock.now
    # The list that has to confirm that they are missing is rejected too.
    with pytest.raises((AirflowSensorTimeout, WebcamconsultConfigurationError)):
        sensor.poke({})
    assert clock.now - began < 4 + policy.LAST_POLL_SECONDS + 10 * seconds_per_look


def test_missing_appointment_is_not_requested_again(
    book: Book, service: Service, hook: WebcamconsultHook
) -> None:
    ids = book(2)
    hook.appointments.delete(ids[0])
    sensor = make_sensor(ids, wait_for="any")
    requested = []
    for _ in range(2):
        before = len(service.requests)
        assert not sensor.poke({})
        requested.append([request.path for request in service.requests[before:]])
    gone, there = (f"/appointment/{id}.json" for id in ids)
    assert requested == [[gone, there, gone], [there]]


@pytest.mark.parametrize("count", [3, 12])
def test_unreadable_record_hides_no_other(count: int, connect: Connect, serve: Serve, log: Log) -> None:
    ids = [f"a{number:023x}" for number in range(count)]
    records: list[dict[str, Any]] = [{"id": id, "state": "finished"} for id in ids]
    records[0]["state"] = None
    listed: Any = (
        [{"body": records}]
        if count >= policy.LIST_TRIAL_POLLS
        else [{"body": {"appointment": each}} for each in records]
    )
    connect(serve(*listed).url)
    result = make_sensor(ids, wait_for="any").poke({})
    assert result.xcom_value == dict.fromkeys(ids[1:], "finished")
    assert any("without a valid state" in warning for warning in log.warnings)


def test_deferred_wait_is_one_trigger_that_can_be_stored(book: Book) -> None:
    ids = book(3)
    deferred = defer(make_sensor(ids, wait_for="any", deferrable=True))
    arguments = json.loads(json.dumps(deferred.trigger.serialize()[1]))
    assert (arguments["appointment_id"], arguments["appointment_ids"]) == (None, ids)
    assert arguments["wait_for"] == "any"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"appointment_id": "a"}, "^Both appointment_id and appointment_ids were given"),
        ({"ids": "['a', 'b']"}, "^appointment_ids must be a list of ids"),
        ({"ids": 5}, "^appointment_ids must be a list of ids"),
        ({"ids": ["a", "None"]}, "^appointment_id "),
        ({"ids": [{"id": "a"}]}, "^appointment_id is of type dict"),
        ({"ids": ["a", None]}, "^appointment_id "),
        ({"ids": [], "wait_for": "any"}, "^appointment_ids is empty"),
        ({"wait_for": "most"}, "^wait_for must be one of all, any"),
        ({"ids": None}, "^appointment_id is None"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(WebcamconsultInputError, match=problem):
        make_sensor(**{"ids": ["a", "b"], **arguments}).execute({})


def test_wait_for_all_of_none_ends_at_once(service: Service, hook: WebcamconsultHook) -> None:
    assert make_sensor([]).execute({}) == {}
    assert service.requests == []


def test_ids_are_templated() -> None:
    sensor = make_sensor(["{{ value }}"])
    sensor.render_template_fields({"value": "rendered"})
    assert sensor.appointment_ids == ["rendered"]
