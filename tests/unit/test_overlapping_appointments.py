"""What creates and updates do about other appointments at the same time."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult import idempotent_create
from airflow_provider_webcamconsult.api.overlaps import PARTICIPANTS
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConflictError,
    WebcamconsultError,
    WebcamconsultInputError,
)
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.appointments import (
    WebcamconsultCreateAppointmentOperator,
    WebcamconsultUpdateAppointmentOperator,
)
from airflow_provider_webcamconsult.sandbox import Sandbox
from devtools.fault_proxy import Proxy, make_response
from tests.unit.idempotent_create.airflow_task import TaskInstance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devtools.fault_proxy import ProxiedRequest
    from tests.unit.conftest import Connect, Log, Service

PAIRS = 50
PAIRS_AT_ONCE = 5


@pytest.fixture(autouse=True)
def _short_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotent_create, "CREATE_FLOOR_SECONDS", 0.1)


def consult(at: str = "09:30", **attributes: Any) -> Any:
    date = f"2030-03-01T{at}:00.000+01:00"
    return {"user_id": "u1", "client_id": "c1", "date": date, "duration": 30, **attributes}


def ids(service: Service) -> list[str]:
    return [record["id"] for record in service.records("appointments")]


def writes(service: Service) -> list[str]:
    return [request.method for request in service.requests if request.method != "GET"]


def lists(service: Service) -> int:
    return len(
        [
            request
            for request in service.requests
            if request.path == "/appointments.json" and request.method == "GET"
        ]
    )


class TestCreate:
    def test_overlap_is_an_error_that_names_the_other_and_sends_nothing(
        self, hook: WebcamconsultHook, service: Service
    ) -> None:
        other = hook.appointments.create(consult("09:15", client_id="c2"))["id"]
        with pytest.raises(WebcamconsultConflictError, match=f"overlap with appointment {other}") as raised:
            hook.appointments.create(consult(), if_overlaps="fail")
        assert raised.value.ids == [other]
        assert writes(service) == ["POST"]

    def test_appointment_that_only_touches_another_is_created(
        self, hook: WebcamconsultHook, service: Service
    ) -> None:
        hook.appointments.create(consult("09:00"))
        hook.appointments.create(consult("10:00"))
        hook.appointments.create(consult(), if_overlaps="fail")
        assert len(ids(service)) == 3

    def test_overlap_can_be_a_warning(self, hook: WebcamconsultHook, service: Service, log: Log) -> None:
        other = hook.appointments.create(consult("09:15"))["id"]
        hook.appointments.create(consult(), if_overlaps="warn")
        assert log.warnings == [
            f"The appointment would overlap with appointment {other} (same user and client, "
            "2030-03-01T09:15:00.000+01:00, 30 minutes)."
        ]
        assert len(ids(service)) == 2

    def test_default_sends_one_request(self, hook: WebcamconsultHook, service: Service) -> None:
        hook.appointments.create(consult())
        hook.appointments.create(consult())
        assert len(service.requests) == 2

    @pytest.mark.parametrize("if_exists", ["create", "reuse", "update", "fail"])
    def test_check_shares_the_lists_of_the_look_up(
        self, hook: WebcamconsultHook, service: Service, if_exists: Any
    ) -> None:
        hook.appointments.create(consult(), if_exists=if_exists, if_overlaps="fail")
        assert lists(service) == 2

    def test_cancelled_appointment_takes_no_time(self, hook: WebcamconsultHook, service: Service) -> None:
        other = hook.appointments.create(consult("09:15"))["id"]
        service.set_state(other, "cancelled")
        hook.appointments.create(consult(), if_overlaps="fail")
        with pytest.raises(WebcamconsultConflictError):
            hook.appointments.create(consult("09:00"), if_overlaps="fail", free_states=[])

    def test_existing_appointment_is_reused_although_another_overlaps(
        self, hook: WebcamconsultHook, service: Service
    ) -> None:
        existing = hook.appointments.create(consult())["id"]
        hook.appointments.create(consult("09:15"))
        reused = hook.appointments.create(consult(), if_exists="reuse", if_overlaps="fail")
        assert reused["id"] == existing

    @pytest.mark.parametrize("argument", [{"if_overlaps": "raise"}, {"free_states": "cancelled"}])
    def test_invalid_argument_is_an_error(self, hook: WebcamconsultHook, argument: Any) -> None:
        with pytest.raises(WebcamconsultInputError):
            hook.appointments.create(consult(), **argument)


class TestUpdate:
    def test_overlap_is_an_error_that_changes_nothing(
        self, hook: WebcamconsultHook, service: Service
    ) -> None:
        other, own = (hook.appointments.create(consult(time))["id"] for time in ("09:30", "11:00"))
        with pytest.raises(WebcamconsultConflictError, match=f"{own} would overlap with appointment {other}"):
            hook.appointments.update(own, {"date": consult("09:45")["date"]}, if_overlaps="fail")
        assert writes(service) == ["POST", "POST"]

    @pytest.mark.parametrize(
        "attributes", [{"duration": 60}, {"user_id": "u2"}, {"date": "2030-03-01T10:10:00.000+01:00"}]
    )
    def test_attributes_that_are_not_updated_count_too(
        self, hook: WebcamconsultHook, attributes: Any
    ) -> None:
        own = hook.appointments.create(consult("09:30"))["id"]
        hook.appointments.create(consult("10:20", user_id="u1"))
        hook.appointments.create(consult("09:30", user_id="u2", client_id="c2"))
        with pytest.raises(WebcamconsultConflictError):
            hook.appointments.update(own, attributes, if_overlaps="fail")

    def test_appointment_can_move_within_its_own_time(
        self, hook: WebcamconsultHook, service: Service
    ) -> None:
        own = hook.appointments.create(consult())["id"]
        date = consult("09:45")["date"]
        assert hook.appointments.update(own, {"date": date}, if_overlaps="fail")["date"] == date

    def test_overlap_can_be_a_warning(self, hook: WebcamconsultHook, log: Log) -> None:
        other, own = (hook.appointments.create(consult(time))["id"] for time in ("09:30", "11:00"))
        hook.appointments.update(own, {"date": consult("09:45")["date"]}, if_overlaps="warn")
        assert log.warnings == [
            f"Appointment {own} would overlap with appointment {other} (same user and client, "
            "2030-03-01T09:30:00.000+01:00, 30 minutes)."
        ]

    def test_nothing_is_listed_if_no_time_and_nobody_changes(
        self, hook: WebcamconsultHook, service: Service
    ) -> None:
        own = hook.appointments.create(consult())["id"]
        hook.appointments.update(own, {"division_id": "d1"}, if_overlaps="fail")
        assert lists(service) == 0

    def test_of_two_updates_to_the_same_time_at_once_one_is_an_error(
        self, hook: WebcamconsultHook, service: Service, connect: Connect
    ) -> None:
        own, other = (hook.appointments.create(consult(time))["id"] for time in ("09:30", "11:00"))

        class OtherMovesFirst(Proxy):
            def handle(self, request: ProxiedRequest) -> None:
                if request.method == "PUT":
                    hook.appointments.update(other, {"date": consult("13:15")["date"]})
                super().handle(request)

        with OtherMovesFirst(service.url) as proxy:
            appointments = connect(proxy.url, service.token).appointments
            with pytest.raises(WebcamconsultConflictError, match="update was made nevertheless") as raised:
                appointments.update(own, {"date": consult("13:00")["date"]}, if_overlaps="fail")
        assert raised.value.ids == [own, other]


class TestOperator:
    @pytest.fixture
    def other(self, hook: WebcamconsultHook) -> str:
        return hook.appointments.create(consult("09:15"))["id"]

    @pytest.mark.parametrize("has_store", [True, False])
    def test_create_fails_for_an_overlap_until_the_time_is_free(
        self, hook: WebcamconsultHook, service: Service, other: str, has_store: bool
    ) -> None:
        task = TaskInstance(has_store)
        operator = WebcamconsultCreateAppointmentOperator(
            task_id="book", attributes=consult(), if_overlaps="fail"
        )
        with pytest.raises(WebcamconsultConflictError):
            operator.execute(task.context)
        service.set_state(other, "cancelled")
        task.clear()
        assert operator.execute(task.context) in ids(service)

    def test_update_fails_for_an_overlap(self, hook: WebcamconsultHook, other: str) -> None:
        own = hook.appointments.create(consult("11:00"))["id"]
        operator = WebcamconsultUpdateAppointmentOperator(
            task_id="move", appointment_id=own, attributes=consult(), if_overlaps="fail"
        )
        with pytest.raises(WebcamconsultConflictError):
            operator.execute(TaskInstance(has_store=False).context)

    @pytest.mark.parametrize("has_store", [True, False])
    def test_retry_of_a_task_that_was_killed_before_the_second_list_deletes_only_what_is_proved(
        self, service: Service, connect: Connect, has_store: bool
    ) -> None:
        direct = connect(service.url, service.token).appointments
        task = TaskInstance(has_store)

        def execute() -> None:
            WebcamconsultCreateAppointmentOperator(
                task_id="book", attributes=consult(), if_overlaps="fail"
            ).execute(task.context)

        class OtherBooksFirst(Proxy):
            """Has another task book just before, and then no list gets through any more."""

            def handle(self, request: ProxiedRequest) -> None:
                if request.method == "POST":
                    direct.create(consult("09:15"))
                if request.method == "GET" and self.count("POST"):
                    request.read()
                    request.respond(make_response(503))
                else:
                    super().handle(request)

        with OtherBooksFirst(service.url) as proxy:
            connect(proxy.url, service.token)
            with pytest.raises(WebcamconsultError):
                execute()
        connect(service.url, service.token)
        task.retry()
        with pytest.raises(WebcamconsultConflictError):
            execute()
        # Without the store, the retry cannot know that a response has shown the appointment.
        assert len(ids(service)) == (1 if has_store else 2)


@pytest.mark.parametrize("if_exists", ["create", "reuse", "update", "fail"])
def test_retry_of_a_task_whose_appointment_could_not_be_deleted_deletes_it(
    service: Service, connect: Connect, if_exists: Any
) -> None:
    direct = connect(service.url, service.token).appointments
    task = TaskInstance(has_store=True)

    class OtherBooksFirst(Proxy):
        """Has another task book just before, and lets no delete through."""

        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST":
                direct.create(consult("09:15", client_id="c2"))
            if request.method == "DELETE":
                request.read()
                request.respond(make_response(503))
            else:
                super().handle(request)

    def execute() -> None:
        WebcamconsultCreateAppointmentOperator(
            task_id="book", attributes=consult(), if_exists=if_exists, if_overlaps="fail"
        ).execute(task.context)

    with OtherBooksFirst(service.url) as proxy:
        connect(proxy.url, service.token, retries=0)
        with pytest.raises(WebcamconsultError):
            execute()
    assert len(ids(service)) == 2
    connect(service.url, service.token)
    task.retry()
    with pytest.raises(WebcamconsultConflictError, match="would overlap"):
        execute()
    (left,) = service.records("appointments")
    assert left["client_id"] == "c2"


def test_overlaps_returns_the_appointments_that_overlap(hook: WebcamconsultHook) -> None:
    hook.appointments.create(consult("08:00"))
    expected = hook.appointments.create(consult("09:15"))
    assert hook.appointments.overlaps(consult()) == [expected]


class LostPost(Proxy):
    """Loses the response to the first create."""

    def handle(self, request: ProxiedRequest) -> None:
        if request.method == "POST" and self.count("POST") == 1:
            request.forward()
        else:
            super().handle(request)


def test_own_appointment_with_a_lost_response_is_no_overlap(service: Service, connect: Connect) -> None:
    with LostPost(service.url) as proxy:
        created = connect(proxy.url, service.token).appointments.create(consult(), if_overlaps="fail")
    assert ids(service) == [created["id"]]


def book_at_once(bookings: list[Any], **options: Any) -> list[str | WebcamconsultError]:
    """Let each of some workers create an appointment at the same moment, and return the ids or errors."""
    barrier = threading.Barrier(len(bookings))

    def book(attributes: Any) -> str | WebcamconsultError:
        hook = WebcamconsultHook()
        barrier.wait()
        try:
            return hook.appointments.create(attributes, if_overlaps="fail", **options)["id"]
        except WebcamconsultError as error:
            return error

    with ThreadPoolExecutor(len(bookings)) as pool:
        return [*pool.map(book, bookings)]


@pytest.mark.parametrize(("if_exists", "shared"), [("create", "user_id"), ("fail", "client_id")])
def test_of_two_overlapping_appointments_booked_at_once_one_stays(
    hook: WebcamconsultHook, service: Service, if_exists: Any, shared: str
) -> None:
    def race(pair: int) -> list[str | WebcamconsultError]:
        return book_at_once(
            [
                consult(time, **dict.fromkeys(PARTICIPANTS, f"p{pair}-{time[-2:]}") | {shared: f"p{pair}"})
                for time in ("09:30", "09:45")
            ],
            if_exists=if_exists,
        )

    with ThreadPoolExecutor(PAIRS_AT_ONCE) as pool:
        results = [*pool.map(race, range(PAIRS))]
    left = ids(service)
    both_sent = 0
    for first, second in results:
        booked = [result for result in (first, second) if isinstance(result, str)]
        (error,) = (result for result in (first, second) if not isinstance(result, str))
        assert isinstance(error, WebcamconsultConflictError)
        assert booked == [each for each in (*booked, *error.ids) if each in left][:1]
        both_sent += len(error.ids) == 2
    assert len(left) == PAIRS
    assert both_sent > 0


@pytest.fixture
def late_booking(monkeypatch: pytest.MonkeyPatch, connect: Connect) -> Iterator[Sandbox]:
    """
    Connect to a service where another task books between the look-up and the create of the next booking.

    The ids of the service do not grow, as if several processes made them.
    """
    numbers = itertools.count(2**64 - 1, -1)
    monkeypatch.setattr(
        "airflow_provider_webcamconsult.sandbox.service._object_ids",
        lambda: (f"{int(time.time()):08x}{number:016x}" for number in numbers),
    )
    monkeypatch.setattr(idempotent_create, "RACE_SECONDS", 0.01)
    with Sandbox() as sandbox:
        direct = connect(sandbox.url, sandbox.token).appointments

        class OtherBooksFirst(Proxy):
            def handle(self, request: ProxiedRequest) -> None:
                if request.method == "POST":
                    time.sleep(1 - time.time() % 1)  # both within one second
                    direct.create(consult("09:15"), if_overlaps="fail")
                super().handle(request)

        with OtherBooksFirst(sandbox.url) as proxy:
            connect(proxy.url, sandbox.token)
            yield sandbox


class TestBookingThatTheOtherTaskCannotHaveSeen:
    def test_is_deleted_again(self, late_booking: Sandbox) -> None:
        with pytest.raises(WebcamconsultConflictError, match="created at the same time"):
            WebcamconsultHook().appointments.create(consult(), if_overlaps="fail")
        (left,) = late_booking.records("appointments")
        assert left["date"] == consult("09:15")["date"]

    def test_is_warned_about(self, late_booking: Sandbox, log: Log) -> None:
        WebcamconsultHook().appointments.create(consult(), if_overlaps="warn")
        assert len(late_booking.records("appointments")) == 2
        assert any("created at the same time" in warning for warning in log.warnings)
