"""Slow services and simultaneous tasks: when a create may be sent again, and which of two records stays."""

from __future__ import annotations

import datetime
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_webcamconsult import idempotent_create, transport
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConflictError,
    WebcamconsultError,
    WebcamconsultNonRetryableError,
    WebcamconsultUnknownOutcomeError,
    WebcamconsultValidationError,
)
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import WebcamconsultCreateClientOperator
from devtools.fault_proxy import Proxy, make_response
from tests.unit.idempotent_create.airflow_task import TaskInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devtools.fault_proxy import ProxiedRequest
    from tests.unit.conftest import Connect, Serve, Service, Step

CONSULT: Any = {"user_id": "u1", "client_id": "c1", "date": "2030-03-01T09:30:00.000+01:00", "duration": 30}
CLIENT: Any = {"reference_code": "DL-1", "last_name": "Alders"}
PAIRS = 25
PAIRS_AT_ONCE = 5


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotent_create, "LOOKUP_DELAYS_SECONDS", (0.0, 0.01))
    monkeypatch.setattr(idempotent_create, "LOOKUP_INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(idempotent_create, "RACE_SECONDS", 0.5)


def floor(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(idempotent_create, "CREATE_FLOOR_SECONDS", seconds)


class Late(Proxy):
    """Answers a create only after the caller has given up, and has it carried out still later."""

    def __init__(self, url: str, delay: float) -> None:
        super().__init__(url)
        self.delay = delay
        self.carried_out = threading.Event()

    def handle(self, request: ProxiedRequest) -> None:
        if request.method != "POST" or self.count("POST") > 1:
            super().handle(request)
            return
        request.read()
        threading.Timer(self.delay, self.carry_out, [request]).start()
        request.wait_for_disconnect()

    def carry_out(self, request: ProxiedRequest) -> None:
        request.forward()
        self.carried_out.set()


def book(task: TaskInstance) -> str:
    operator = WebcamconsultCreateAppointmentOperator(task_id="book", attributes=CONSULT)
    record_id: str = operator.execute(task.context)
    return record_id


# -- The floor -----------------------------------------------------------------------------------------------


def test_floor_is_minutes_and_longer_than_any_default_of_the_connection() -> None:
    assert idempotent_create.CREATE_FLOOR_SECONDS >= 120


@pytest.mark.parametrize("next_try", ["retry", "clear"])
@pytest.mark.parametrize("has_store", [True, False], ids=["store", "no store"])
def test_create_that_is_carried_out_late_is_not_sent_again(
    service: Service,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    has_store: bool,
    next_try: str,
) -> None:
    floor(monkeypatch, 2)
    task = TaskInstance(has_store)
    task.task.retry_delay = datetime.timedelta()
    with Late(service.url, delay=1) as proxy:
        connect(proxy.url, service.token, timeout=0.2)
        with pytest.raises(WebcamconsultUnknownOutcomeError):
            book(task)
        getattr(task, next_try)()
        created = book(task)
        assert proxy.count("POST") == 1
        assert proxy.carried_out.wait(10)
    assert [record["id"] for record in service.records("appointments")] == [created]


def test_hook_does_not_send_a_look_up_create_again_before_the_floor(
    service: Service, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor(monkeypatch, 2)
    with Late(service.url, delay=1) as proxy:
        hook = connect(proxy.url, service.token, timeout=0.2)
        created = hook.appointments.create(CONSULT, if_exists="reuse")
        assert proxy.count("POST") == 1
    assert [record["id"] for record in service.records("appointments")] == [created["id"]]


def test_lost_checkpoint_counts_as_a_create_that_was_sent_just_now(
    service: Service, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor(monkeypatch, 2)
    task = TaskInstance(has_store=True)
    with Late(service.url, delay=1) as proxy:
        connect(proxy.url, service.token, timeout=0.2)
        with pytest.raises(WebcamconsultUnknownOutcomeError):
            book(task)
        task.store.clear()
        task.clear()
        created = book(task)
    assert [record["id"] for record in service.records("appointments")] == [created]


@pytest.mark.parametrize("has_store", [True, False], ids=["store", "no store"])
def test_record_that_cannot_be_looked_up_is_created_after_a_clear_and_the_floor(
    service: Service, connect: Connect, monkeypatch: pytest.MonkeyPatch, has_store: bool
) -> None:
    floor(monkeypatch, 1)
    task = TaskInstance(has_store)
    task.task.retry_delay = datetime.timedelta()
    operator = WebcamconsultCreateClientOperator(task_id="create", attributes={"last_name": "Alders"})

    class Lost(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST" and self.count("POST") == 1:
                times.append(time.monotonic())
                return
            if request.method == "POST":
                times.append(time.monotonic())
            super().handle(request)

    times: list[float] = []
    with Lost(service.url) as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultNonRetryableError, match="clear this task"):
            operator.execute(task.context)
        task.clear()
        operator.execute(task.context)
    # The floor begins before the first request is sent, and a busy machine takes time until it arrives.
    assert times[1] - times[0] > 0.5
    assert len(service.records("clients")) == 1


def test_task_that_failed_before_it_sent_anything_does_not_wait_when_cleared(
    service: Service, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor(monkeypatch, 60)
    task = TaskInstance(has_store=True)
    connect(service.url, service.token)
    wrong: Any = {**CONSULT, "date": "garbage"}
    with pytest.raises(WebcamconsultError):
        WebcamconsultCreateAppointmentOperator(task_id="book", attributes=wrong).execute(task.context)
    task.clear()
    began = time.monotonic()
    book(task)
    assert time.monotonic() - began < 30


# -- Simultaneous tasks --------------------------------------------------------------------------------------


def race(number: int, create: Callable[[int], str]) -> list[str | WebcamconsultError]:
    """Let as many tasks create at the same time; return their ids and errors."""
    barrier = threading.Barrier(number)

    def run(index: int) -> str | WebcamconsultError:
        barrier.wait(30)
        try:
            return create(index)
        except WebcamconsultError as error:
            return error

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


def creating(attributes: Any, if_exists: Any) -> Callable[[int], str]:
    def create(_: int) -> str:
        return WebcamconsultHook().clients.create(attributes, if_exists=if_exists)["id"]

    return create


def race_in_pairs(service: Service, if_exists: Any) -> Iterator[tuple[list[Any], list[str]]]:
    """Let many pairs race, some at the same time; yield the results of each and the ids that are left."""
    codes = [f"DL-{pair}" for pair in range(PAIRS)]
    with ThreadPoolExecutor(PAIRS_AT_ONCE) as pool:
        results = pool.map(
            lambda code: race(2, creating({**CLIENT, "reference_code": code}, if_exists)), codes
        )
        pairs = list(zip(codes, results, strict=True))
    left = service.records("clients")
    for code, result in pairs:
        yield result, [record["id"] for record in left if record["reference_code"] == code]


@pytest.mark.parametrize("if_exists", ["reuse", "update"])
def test_simultaneous_creates_of_the_same_client_leave_one_record(
    hook: WebcamconsultHook, service: Service, if_exists: Any
) -> None:
    for results, left in race_in_pairs(service, if_exists):
        assert results == [*left, *left]


def test_simultaneous_creates_that_must_not_exist_leave_one_record_and_one_error(
    hook: WebcamconsultHook, service: Service
) -> None:
    for results, left in race_in_pairs(service, "fail"):
        assert [result for result in results if isinstance(result, str)] == left
        errors = [type(result) for result in results if not isinstance(result, str)]
        assert errors == [WebcamconsultConflictError]


def test_simultaneous_creates_of_a_user_whose_email_is_taken_meanwhile_reuse_it(
    hook: WebcamconsultHook, service: Service
) -> None:
    attributes: Any = {"email": "j.akkermans@example.com", "last_name": "Akkermans"}
    for _ in range(10):
        ids = race(2, lambda _: WebcamconsultHook().users.create(attributes, if_exists="reuse")["id"])
        (left,) = [record["id"] for record in service.records("users")]
        assert ids == [left, left]
        hook.users.delete(left)


def test_simultaneous_create_of_another_family_member_keeps_both(
    hook: WebcamconsultHook, service: Service
) -> None:
    family: Any = {"email": "family@example.com", "last_name": "Alders"}
    members: list[Any] = [{**family, "initials": initials} for initials in "AB"]
    results = race(2, lambda index: creating(members[index], "reuse")(index))
    left = service.records("clients")
    ids = [result for result in results if isinstance(result, str)]
    assert sorted(record["id"] for record in left) == sorted(ids)
    assert len({record["initials"] for record in left}) == len(left)


def test_three_simultaneous_creates_are_an_error_or_leave_one_record(
    hook: WebcamconsultHook, service: Service
) -> None:
    results = race(3, lambda _: WebcamconsultHook().clients.create(CLIENT, if_exists="reuse")["id"])
    left = [record["id"] for record in service.records("clients")]
    errors = [result for result in results if not isinstance(result, str)]
    assert all(isinstance(error, WebcamconsultConflictError) for error in errors)
    assert len(left) == 1 or errors


def test_task_whose_own_record_cannot_be_withdrawn_names_both(serve: Serve, connect: Connect) -> None:
    first, own = ({"id": record_id, **CLIENT} for record_id in "ab")
    refused: Step = {"status": 422, "body": {"errors": {}}}
    server = serve({"body": []}, {"body": {"client": own}}, {"body": [first, own]}, refused)
    hook = connect(server.url)
    with pytest.raises((WebcamconsultConflictError, WebcamconsultValidationError)):
        hook.clients.create(CLIENT, if_exists="reuse")


class SecondOfTwo(Proxy):
    """Has another task create the same client just before, and fails all requests of one method after it."""

    def __init__(self, url: str, token: str, failing: str) -> None:
        super().__init__(url)
        self.token = token
        self.failing: str | None = failing
        self.other: Any = None

    def handle(self, request: ProxiedRequest) -> None:
        if request.method == "POST" and self.other is None:
            self.other = requests.post(
                f"http://{self.service[0]}:{self.service[1]}/clients.json",
                json={"client": CLIENT},
                headers={"Authorization": f"Token token={self.token}"},
                timeout=10,
            ).json()["client"]["id"]
        if self.other is not None and request.method == self.failing:
            request.read()
            request.respond(make_response(503))
        else:
            super().handle(request)


@pytest.mark.parametrize("if_exists", ["reuse", "update", "fail"])
@pytest.mark.parametrize("failing", ["GET", "DELETE"])
@pytest.mark.parametrize("has_store", [True, False], ids=["store", "no store"])
def test_retry_of_a_simultaneous_create_that_was_not_settled_never_keeps_a_second_record(
    service: Service,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    has_store: bool,
    failing: str,
    if_exists: Any,
) -> None:
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.001)
    floor(monkeypatch, 0.5)
    task = TaskInstance(has_store)
    operator = WebcamconsultCreateClientOperator(task_id="create", attributes=CLIENT, if_exists=if_exists)
    with SecondOfTwo(service.url, service.token, failing) as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultError):
            operator.execute(task.context)
        proxy.failing = None
        task.retry()
        if has_store and failing == "DELETE" and if_exists != "fail":
            assert operator.execute(task.context) == proxy.other  # it has repeated the delete first
            assert [record["id"] for record in service.records("clients")] == [proxy.other]
            return
        with pytest.raises(WebcamconsultConflictError) as raised:
            operator.execute(task.context)
    left = [record["id"] for record in service.records("clients")]
    assert sorted(raised.value.ids) == sorted(left)


def test_lost_response_to_the_withdrawal_of_a_second_record_is_no_error(
    service: Service, connect: Connect
) -> None:
    class LostDelete(SecondOfTwo):
        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "DELETE" and self.count("DELETE") == 1:
                request.forward()
            else:
                super().handle(request)

    with LostDelete(service.url, service.token, failing="none") as proxy:
        reused = connect(proxy.url, service.token).clients.create(CLIENT, if_exists="reuse")
        assert proxy.count("DELETE") == 2
    assert reused["id"] == proxy.other
    assert [record["id"] for record in service.records("clients")] == [proxy.other]


@pytest.mark.parametrize("if_exists", ["reuse", "update", "fail"])
def test_simultaneous_creates_return_the_record_that_is_left_although_the_withdrawal_is_slow(
    service: Service, connect: Connect, if_exists: Any
) -> None:
    both_sent = threading.Barrier(2)

    class SlowDelete(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST":
                response = request.forward()
                both_sent.wait(10)
                request.respond(response)
            else:
                if request.method == "DELETE":
                    time.sleep(2 * idempotent_create.RACE_SECONDS)
                super().handle(request)

    with SlowDelete(service.url) as proxy:
        connect(proxy.url, service.token)
        results = race(2, creating(CLIENT, if_exists))
    (left,) = [record["id"] for record in service.records("clients")]
    ids = [result for result in results if isinstance(result, str)]
    assert ids == [left] * (1 if if_exists == "fail" else 2)


def test_create_without_a_look_up_makes_one_request(hook: WebcamconsultHook, service: Service) -> None:
    hook.appointments.create(CONSULT)
    assert [request.method for request in service.requests] == ["POST"]


def test_create_with_a_look_up_makes_one_list_before_and_one_after(
    hook: WebcamconsultHook, service: Service
) -> None:
    hook.appointments.create(CONSULT, if_exists="reuse")
    assert [request.method for request in service.requests] == ["GET", "POST", "GET"]
