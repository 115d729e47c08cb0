"""What a create promises, one promise after the other; test_fault_table.py has the faults."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult import idempotent_create, transport
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConflictError,
    WebcamconsultInputError,
    WebcamconsultMismatchError,
    WebcamconsultNonRetryableError,
    WebcamconsultNotFoundError,
    WebcamconsultRateLimitError,
    WebcamconsultServerError,
    WebcamconsultUnknownOutcomeError,
)
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultDeleteClientOperator,
    WebcamconsultUpdateClientOperator,
)
from airflow_provider_webcamconsult.operators.users import WebcamconsultCreateUserOperator
from airflow_provider_webcamconsult.sandbox import Sandbox
from airflow_provider_webcamconsult.version_compat import AirflowFailException
from devtools.fault_proxy import FAULTS, FaultProxy, ProxiedRequest, Proxy, make_response
from tests.unit.idempotent_create.airflow_task import TaskInstance

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.api.resources import ClientAttributes
    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Log, Serve, Service, Step

CREATE: dict[str, Any] = {
    "user": WebcamconsultCreateUserOperator,
    "client": WebcamconsultCreateClientOperator,
    "appointment": WebcamconsultCreateAppointmentOperator,
}
USER: Any = {"last_name": "Akkermans", "email": "j.akkermans@example.com"}
CLIENT: Any = {"last_name": "Ester", "reference_code": "DL-1", "date_of_birth": "1984-12-18"}
CONSULT: Any = {"user_id": "u1", "client_id": "c1", "date": "2030-03-01T09:30:00.000+01:00", "duration": 30}
ATTRIBUTES: dict[str, dict[str, Any]] = {"user": USER, "client": CLIENT, "appointment": CONSULT}
# Found by its e-mail address alone, which is its mother's.
CHILD: Any = {
    "initials": "A.",
    "last_name": "Ester",
    "email": "family@example.com",
    "date_of_birth": "2015-01-02",
}
SISTER: Any = {**CHILD, "initials": "B.", "date_of_birth": "2017-03-04"}
NAMELESS: Any = {"last_name": "Ester"}

AT_ONCE = datetime.timedelta()

kinds = pytest.mark.parametrize("kind", CREATE)
each_if_exists = pytest.mark.parametrize("if_exists", idempotent_create.IF_EXISTS)
looking_first = pytest.mark.parametrize("if_exists", ["reuse", "update", "fail"])


@pytest.fixture(params=[True, False], ids=["store", "no store"])
def task(request: pytest.FixtureRequest) -> TaskInstance:
    """A task on Airflow 3.3, which has a task state store, and on an older one."""
    return TaskInstance(request.param)


@pytest.fixture
def task_33() -> TaskInstance:
    return TaskInstance(has_store=True)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotent_create, "LOOKUP_DELAYS_SECONDS", (0.0, 0.001, 0.002))


def create(task: TaskInstance, attributes: Any, kind: str = "appointment", **arguments: Any) -> str:
    operator = CREATE[kind](task_id="create", attributes=attributes, **arguments)
    record_id: str = operator.execute(task.context)
    return record_id


def ids(service: Service, kind: str = "appointment") -> list[str]:
    return [record["id"] for record in service.records(f"{kind}s")]


def lose(service: Service, connect: Connect, task: TaskInstance, attributes: Any, kind: str) -> None:
    """Run the first try of a create: carried out long after the client gave up, as far as it knows never."""
    with FaultProxy(service.url, FAULTS["processed long after the client gave up"], "POST") as proxy:
        connect(proxy.url, service.token, timeout=0.2)
        with pytest.raises(WebcamconsultUnknownOutcomeError):
            create(task, attributes, kind)
        proxy.heal()
    connect(service.url, service.token)


# -- What is noted -------------------------------------------------------------------------------------------


def test_notes_the_intent_before_and_the_id_after(
    service: Service, connect: Connect, task_33: TaskInstance
) -> None:
    class Looking(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            noted.append(list(task_33.store.get("webcamconsult_create")))
            super().handle(request)

    noted: list[list[str]] = []
    with Looking(service.url) as proxy:
        connect(proxy.url, service.token)
        created = create(task_33, CONSULT)
    assert noted == [["sent_at", "fingerprint"]]
    assert task_33.store.get("webcamconsult_create") == {"id": created, "verified": True}


def test_notes_nothing_personal(service: Service, connect: Connect, task_33: TaskInstance) -> None:
    person = {**CHILD, "reference_code": "BSN-123456782"}
    lose(service, connect, task_33, person, "client")
    task_33.retry()
    create(task_33, person, "client")
    noted = "".join(task_33.store.history)
    assert "sent_at" in noted
    assert "verified" in noted
    assert not [value for value in (*person.values(), service.token) if value in noted]


@kinds
@each_if_exists
def test_returns_the_one_record_when_cleared(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, kind: str, if_exists: str
) -> None:
    created = create(task, ATTRIBUTES[kind], kind, if_exists=if_exists)
    for _ in range(2):
        task.clear()
        assert create(task, ATTRIBUTES[kind], kind, if_exists=if_exists) == created
    assert ids(service, kind) == [created]


@kinds
@each_if_exists
def test_creates_anew_when_cleared_after_the_record_was_deleted(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, kind: str, if_exists: str
) -> None:
    created = create(task, ATTRIBUTES[kind], kind, if_exists=if_exists)
    getattr(hook, f"{kind}s").delete(created)
    task.clear()
    anew = create(task, ATTRIBUTES[kind], kind, if_exists=if_exists)
    assert anew != created
    assert ids(service, kind) == [anew]


def test_returns_its_record_when_cleared_though_it_has_changed_since(
    hook: WebcamconsultHook, service: Service, task_33: TaskInstance
) -> None:
    created = create(task_33, CLIENT, "client")
    hook.clients.update(created, {"last_name": "Ester-Bakker", "reference_code": "DL-9"})
    task_33.clear()
    assert create(task_33, CLIENT, "client") == created
    assert ids(service, "client") == [created]


def test_brings_its_record_in_line_when_cleared_with_update(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    created = create(task, CLIENT, "client", if_exists="update")
    hook.clients.update(created, {"last_name": "Ester-Bakker"})
    task.clear()
    assert create(task, CLIENT, "client", if_exists="update") == created
    assert [record["last_name"] for record in service.records("clients")] == ["Ester"]


def test_a_wrong_detail_path_is_not_taken_for_a_deletion(connect: Connect, task_33: TaskInstance) -> None:
    # The service has /clients/{id}.json and the connection says /client/{id}.json, or the other way round.
    with Sandbox(plural_paths=True) as sandbox:
        connect(sandbox.url, sandbox.token)
        created = create(task_33, NAMELESS, "client")
        task_33.clear()
        assert create(task_33, NAMELESS, "client") == created
        assert len(sandbox.records("clients")) == 1


# -- What exists already -------------------------------------------------------------------------------------


def test_ignore_does_not_look(hook: WebcamconsultHook, service: Service, task: TaskInstance) -> None:
    create(task, CONSULT)
    assert [request.method for request in service.requests] == ["POST"]


@kinds
def test_reuse_takes_it(hook: WebcamconsultHook, service: Service, task: TaskInstance, kind: str) -> None:
    there = getattr(hook, f"{kind}s").create(ATTRIBUTES[kind])["id"]
    assert create(task, ATTRIBUTES[kind], kind, if_exists="reuse") == there
    assert ids(service, kind) == [there]


def test_reuse_names_what_the_record_has_otherwise(
    hook: WebcamconsultHook, connect: Connect, task: TaskInstance, log: Log
) -> None:
    shorter: Any = {**CONSULT, "duration": 20}
    there = hook.appointments.create(shorter)["id"]
    assert create(task, CONSULT, if_exists="reuse") == there
    assert any(f"{there} has another duration than was given" in warning for warning in log.warnings)


def test_update_brings_in_line_what_differs(service: Service, connect: Connect, task: TaskInstance) -> None:
    class Listening(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "PUT":
                changes.append(request.read().partition(b"\r\n\r\n")[2])
            super().handle(request)

    changes: list[bytes] = []
    with Listening(service.url) as proxy:
        hook = connect(proxy.url, service.token)
        shorter: Any = {**CONSULT, "duration": 20}
        there = hook.appointments.create(shorter)["id"]
        assert create(task, CONSULT, if_exists="update") == there
        assert changes == [b'{"appointment": {"duration": 30}}']
        assert create(TaskInstance(has_store=False), CONSULT, if_exists="update") == there
        assert len(changes) == 1
    assert ids(service) == [there]


def test_fail_fails_without_a_retry_and_names_it(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    there = hook.appointments.create(CONSULT)["id"]
    with pytest.raises(WebcamconsultConflictError, match=f"Appointment {there} with the same") as raised:
        create(task, CONSULT, if_exists="fail")
    assert raised.value.ids == [there]
    assert isinstance(raised.value, AirflowFailException)
    assert ids(service) == [there]


def test_fail_fails_on_a_retry_too_after_a_try_that_sent_nothing(
    service: Service, connect: Connect, task_33: TaskInstance
) -> None:
    connect(service.url, service.token).appointments.create(CONSULT)

    class Down(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            request.respond(make_response(503))

    with Down(service.url) as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultServerError):
            create(task_33, CONSULT, if_exists="fail")
    connect(service.url, service.token)
    task_33.retry()
    with pytest.raises(WebcamconsultConflictError):
        create(task_33, CONSULT, if_exists="fail")


@looking_first
def test_never_guesses_among_two(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str
) -> None:
    there = [hook.appointments.create(CONSULT)["id"] for _ in range(2)]
    with pytest.raises(WebcamconsultConflictError, match=f"2 appointments .*{', '.join(there)}") as raised:
        create(task, CONSULT, if_exists=if_exists)
    assert raised.value.ids == there
    assert isinstance(raised.value, AirflowFailException)
    assert ids(service) == there


def test_never_guesses_among_two_after_a_lost_answer(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    connect(service.url, service.token).appointments.create(CONSULT)
    with FaultProxy(service.url, FAULTS["closed before the response"], "POST") as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultConflictError) as raised:
            create(task, CONSULT)
        assert raised.value.ids == ids(service)
        assert len(raised.value.ids) == 2
        task.clear()  # without having looked
        with pytest.raises(WebcamconsultConflictError):
            create(task, CONSULT)
    assert len(ids(service)) == 2


@each_if_exists
def test_does_not_take_a_record_that_has_no_key_for_one_that_has(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str
) -> None:
    hook.clients.create(NAMELESS)
    other: Any = {**CLIENT, "reference_code": "DL-2"}
    hook.clients.create(other)
    create(task, CLIENT, "client", if_exists=if_exists)
    assert len(ids(service, "client")) == 3


def test_refuses_another_if_exists(hook: WebcamconsultHook, service: Service, task: TaskInstance) -> None:
    with pytest.raises(WebcamconsultInputError, match="if_exists must be one of create, reuse, update, fail"):
        create(task, CONSULT, if_exists="replace")
    assert service.requests == []


# -- A family with one e-mail address ------------------------------------------------------------------------


def test_a_family_member_is_created_beside_another(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    child = hook.clients.create(CHILD)["id"]
    assert create(task, SISTER, "client") != child
    assert len(ids(service, "client")) == 2


@each_if_exists
def test_a_family_member_is_never_taken_for_another(
    service: Service, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    hook = connect(service.url, service.token)
    child = hook.clients.create(CHILD)
    with FaultProxy(service.url, FAULTS["closed without processing"], "POST") as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultConflictError, match=child["id"]):
            create(task, SISTER, "client", if_exists=if_exists)
    assert hook.clients.list() == [child]


def test_a_family_member_is_created_by_the_retry_of_a_try_that_sent_nothing(
    service: Service, connect: Connect, task_33: TaskInstance
) -> None:
    hook = connect(service.url, service.token)
    child = hook.clients.create(CHILD)["id"]

    class Busy(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            request.respond(make_response(429))

    with Busy(service.url) as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultRateLimitError):
            create(task_33, SISTER, "client")
    connect(service.url, service.token)
    task_33.retry()
    assert create(task_33, SISTER, "client") != child
    assert len(ids(service, "client")) == 2


# -- No natural key, or another one --------------------------------------------------------------------------


@looking_first
def test_says_what_a_look_up_needs(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str
) -> None:
    with pytest.raises(WebcamconsultInputError, match="found by: reference_code, else by email"):
        create(task, NAMELESS, "client", if_exists=if_exists)
    assert service.requests == []


def test_what_cannot_be_found_again_is_not_created_twice_without_a_person(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    with FaultProxy(service.url, FAULTS["closed before the response"], "POST") as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultNonRetryableError, match="found by reference_code, else by email"):
            create(task, NAMELESS, "client")
        assert len(ids(service, "client")) == 1
        # A person looked at the service, and asks for another.
        task.clear()
        create(task, NAMELESS, "client")
    assert len(ids(service, "client")) == 2


def test_what_cannot_be_found_again_is_not_created_twice_by_a_retry(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    if task.has_store:  # killed after its intent was noted
        task.store.set("webcamconsult_create", {"sent_at": 0.0, "fingerprint": "unknown"})
    task.retry()
    with pytest.raises(WebcamconsultNonRetryableError):
        create(task, NAMELESS, "client")
    assert service.requests == []
    task.clear()
    create(task, NAMELESS, "client")
    assert len(ids(service, "client")) == 1


@pytest.mark.parametrize(
    ("kind", "first", "then"),
    [
        ("appointment", CONSULT, {**CONSULT, "date": "2030-03-01T09:31"}),
        ("client", CLIENT, {**CLIENT, "reference_code": "DL-2"}),
        ("client", {**CLIENT, "email": "t@example.com"}, {"last_name": "Ester", "email": "t@example.com"}),
        ("client", {"email": "t@example.com"}, {"email": "t@example.com", "reference_code": "DL-1"}),
    ],
    ids=["another date", "another code", "no code any more", "a code now"],
)
def test_does_not_create_a_second_one_when_the_attributes_change_between_the_tries(
    service: Service, connect: Connect, task_33: TaskInstance, kind: str, first: Any, then: Any
) -> None:
    lose(service, connect, task_33, first, kind)
    (there,) = ids(service, kind)
    task_33.retry()
    with contextlib.suppress(WebcamconsultConflictError):  # a changed date, say, is not for a task to judge
        assert create(task_33, then, kind) == there
    assert ids(service, kind) == [there]


def test_finds_it_after_the_token_was_changed(service: Service, connect: Connect, task: TaskInstance) -> None:
    lose(service, connect, task, CONSULT, "appointment")
    (there,) = ids(service)

    class OldTokenForNew(Proxy):
        """The service after the organisation got a new token."""

        def handle(self, request: ProxiedRequest) -> None:
            request.replace(b"new-token", service.token.encode())
            super().handle(request)

    with OldTokenForNew(service.url) as proxy:
        connect(proxy.url, "new-token")
        task.retry()
        assert create(task, CONSULT) == there
    assert ids(service) == [there]


# -- An outcome that is not known ----------------------------------------------------------------------------


@pytest.mark.parametrize("busy_at_first", [False, True], ids=["", "after a 429"])
def test_waits_until_a_lost_create_can_no_longer_be_under_way(
    service: Service,
    connect: Connect,
    task: TaskInstance,
    monkeypatch: pytest.MonkeyPatch,
    busy_at_first: bool,
) -> None:
    settle_seconds = 1.0
    # Counted from when the create was sent, not from when it was first meant to be.
    monkeypatch.setattr(transport, "RETRY_AFTER_MAX_SECONDS", 1.2 * settle_seconds)
    task.task.retry_delay = AT_ONCE

    class Slow(Proxy):
        """Loses the client, and passes its request on only after the retry has looked for the record."""

        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST" and busy_at_first and self.count("POST") == 1:
                request.respond(make_response(429, headers={"Retry-After": "30"}))
                return
            if request.method == "POST":
                request.read()
                request.disconnect()
                assert retry_looked.wait(60)
                request.forward()
                return
            super().handle(request)
            if task.try_number > 1:
                retry_looked.set()

    retry_looked = threading.Event()
    with Slow(service.url) as proxy:
        connect(proxy.url, service.token, timeout=settle_seconds)
        with pytest.raises(WebcamconsultUnknownOutcomeError):
            create(task, CONSULT)
        task.retry(after=AT_ONCE)
        created = create(task, CONSULT)
        assert proxy.count("POST") == 1 + busy_at_first
    assert ids(service) == [created]


def test_waits_no_longer_than_that_whatever_the_clock_of_the_other_worker_says(
    hook: WebcamconsultHook, service: Service, task_33: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WaitingError(Exception):
        pass

    def sleep(seconds: float) -> None:
        assert seconds <= hook.settings.timeout
        raise WaitingError

    monkeypatch.setattr(time, "sleep", sleep)
    task_33.store.set("webcamconsult_create", {"sent_at": time.time() + 3600, "fingerprint": "unknown"})
    task_33.retry(after=AT_ONCE)
    with pytest.raises(WaitingError):
        create(task_33, CONSULT)


def test_finds_it_on_the_retry_where_the_look_ups_fail_too(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    class Dying(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST":
                request.forward()
            else:
                request.respond(make_response(502))

    with Dying(service.url) as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultUnknownOutcomeError) as raised:
            create(task, CONSULT)
        assert not isinstance(raised.value, AirflowFailException)
    connect(service.url, service.token)
    task.retry()
    assert ids(service) == [create(task, CONSULT)]


def test_tells_of_two_where_the_first_is_carried_out_after_all(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    class Late(Proxy):
        """Passes the first create on when the second has come: no client can prevent two then."""

        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST" and not late:
                request.read()
                late.append(request)
                return
            if request.method == "POST":
                late[0].forward()
            super().handle(request)

    late: list[ProxiedRequest] = []
    with Late(service.url) as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultUnknownOutcomeError):
            create(task, CONSULT)
        task.retry()
        with pytest.raises(WebcamconsultConflictError) as raised:
            create(task, CONSULT)
    assert sorted(raised.value.ids) == sorted(ids(service))
    assert len(raised.value.ids) == 2
    assert isinstance(raised.value, AirflowFailException)


def test_the_hook_without_a_task_says_that_running_it_again_would_create_blindly(
    service: Service, connect: Connect
) -> None:
    with FaultProxy(service.url, FAULTS["closed without processing"], "POST") as proxy:
        hook = connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultNonRetryableError, match="Look whether it is at the service"):
            hook.appointments.create(CONSULT)
    with FaultProxy(service.url, FAULTS["closed without processing"], "POST") as proxy:
        hook = connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultUnknownOutcomeError) as raised:
            hook.appointments.create(CONSULT, if_exists="reuse")
        assert not isinstance(raised.value, AirflowFailException)
    assert ids(service) == []


# -- What was kept is what was sent --------------------------------------------------------------------------

SECRET = "s3cret-family-name"
NOT_KEPT: dict[str, tuple[str, dict[str, Any], str, Any]] = {
    "a date in 1970": ("appointment", CONSULT, "date", "1970-01-01T01:00:00.000+01:00"),
    "a date cleared": ("appointment", CONSULT, "date", None),
    "a date an hour later": ("appointment", CONSULT, "date", "2030-03-01T10:30:00.000+01:00"),
    "a duration of nothing": ("appointment", CONSULT, "duration", 0),
    "another user": ("appointment", CONSULT, "user_id", "u2"),
    "another client": ("appointment", CONSULT, "client_id", None),
    "another birthday": ("client", CLIENT, "date_of_birth", "1984-12-19T00:00:00.000+01:00"),
}


def _server(serve: Serve, kind: str, record: dict[str, Any]) -> Any:
    """A service that keeps one record as it pleases."""
    answer: Step = {"body": {kind: record}}
    return serve(answer)


@pytest.mark.parametrize("case", NOT_KEPT)
def test_what_a_booking_depends_on_must_be_kept(
    serve: Serve, connect: Connect, task: TaskInstance, case: str
) -> None:
    kind, attributes, name, kept = NOT_KEPT[case]
    attributes = {**attributes, "external": SECRET} if kind == "client" else attributes
    server = _server(serve, kind, {"id": "r1", **attributes, name: kept})
    connect(server.url)
    with pytest.raises(WebcamconsultMismatchError, match=f"{kind} r1 .*{name}") as raised:
        create(task, attributes, kind)
    assert (raised.value.record_id, raised.value.attributes) == ("r1", [name])
    assert isinstance(raised.value, AirflowFailException)
    assert not [value for value in (kept, SECRET) if value and str(value) in str(raised.value)]


def test_a_retry_says_again_what_was_not_kept_and_does_not_create(
    serve: Serve, connect: Connect, task_33: TaskInstance
) -> None:
    server = _server(serve, "appointment", {"id": "r1", **CONSULT, "duration": 0})
    connect(server.url)
    for _ in range(3):
        with pytest.raises(WebcamconsultMismatchError):
            create(task_33, CONSULT)
        task_33.clear()
    assert [request.method for request in server.requests] == ["POST", "GET", "GET"]
    # A person has put it right.
    server.steps = [{"body": {"appointment": {"id": "r1", **CONSULT}}}]
    assert create(task_33, CONSULT) == "r1"


@each_if_exists
def test_what_is_found_after_a_lost_answer_must_be_as_it_was_sent(
    serve: Serve, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    kept = {"id": "r1", **CONSULT, "duration": 0}
    steps: list[Step] = [{"cut": "after the request"}, {"body": [kept]}]
    if if_exists != "create":
        steps.insert(0, {"body": []})
    server = serve(*steps, {"body": {"appointment": kept}})
    connect(server.url)
    with pytest.raises((WebcamconsultMismatchError, WebcamconsultConflictError), match=r"r1 .*duration"):
        create(task, CONSULT, if_exists=if_exists)
    assert [request.method for request in server.requests].count("POST") == 1


@pytest.mark.parametrize("kept", [{}, {"last_name": None}, {"last_name": "E"}], ids=["absent", "null", "cut"])
def test_what_else_was_ignored_is_a_warning_or_with_strict_an_error(
    serve: Serve, connect: Connect, task: TaskInstance, log: Log, kept: dict[str, Any]
) -> None:
    record = {"id": "r1", "reference_code": "DL-1", **kept}
    attributes = {"reference_code": "DL-1", "last_name": SECRET}
    server = _server(serve, "client", record)
    connect(server.url)
    assert create(task, attributes, "client") == "r1"
    assert [
        warning for warning in log.warnings if "client r1 does not have what was sent as last_name" in warning
    ]
    assert SECRET not in log.text
    with pytest.raises(WebcamconsultMismatchError, match="last_name"):
        create(TaskInstance(task.has_store), attributes, "client", strict=True)


@pytest.mark.parametrize("strict", [False, True])
def test_an_update_is_compared_too(serve: Serve, connect: Connect, task: TaskInstance, strict: bool) -> None:
    server = _server(serve, "client", {"id": "r1", "last_name": "X", "date_of_birth": None})
    connect(server.url)

    def update(attributes: ClientAttributes) -> None:
        operator = WebcamconsultUpdateClientOperator(
            task_id="update", client_id="r1", attributes=attributes, strict=strict
        )
        operator.execute(task.context)

    with pytest.raises(WebcamconsultMismatchError, match="date_of_birth"):
        update({"date_of_birth": "1984-12-18"})
    if strict:
        with pytest.raises(WebcamconsultMismatchError, match="last_name"):
            update({"last_name": "Y"})
    else:
        update({"last_name": "Y"})


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("appointment", {**CONSULT, "duration": "30"}),  # what a template renders to
        ("appointment", {**CONSULT, "date": "2030-03-01T08:30:00Z"}),
        ("appointment", {**CONSULT, "date": datetime.datetime(2030, 3, 1, 9, 30, 0, 999)}),
        ("client", {**CLIENT, "date_of_birth": "1931-05-06"}),
        ("client", {**CLIENT, "date_of_birth": None, "gender": ""}),
        ("client", {**CLIENT, "id": "ignored", "client_full_name": "ignored"}),
        ("client", {**CLIENT, "division_ids": ["d2", "d1"]}),
        ("user", {**USER, "email": "J.Akkermans@example.com"}),
    ],
    ids=[
        "text as a number",
        "another offset",
        "microseconds",
        "before 1937",
        "null",
        "generated",
        "a list",
        "letter case",
    ],
)
def test_the_same_in_another_form_is_kept(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, log: Log, kind: str, attributes: Any
) -> None:
    created = create(task, attributes, kind, strict=True)
    for if_exists in ("reuse", "update"):
        assert create(TaskInstance(task.has_store), attributes, kind, if_exists=if_exists) == created
    assert "PUT" not in [request.method for request in service.requests]


# -- Deletes and updates -------------------------------------------------------------------------------------


def delete(task: TaskInstance, client_id: str, **arguments: Any) -> None:
    WebcamconsultDeleteClientOperator(task_id="delete", client_id=client_id, **arguments).execute(
        task.context
    )


def test_a_delete_whose_record_is_gone_ends_well_on_a_retry(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    created = hook.clients.create(CLIENT)["id"]
    delete(task, created)
    task.retry()  # killed before it could say so
    delete(task, created)
    assert ids(service, "client") == []


def test_a_delete_whose_record_is_gone_fails_on_the_first_try(
    hook: WebcamconsultHook, task: TaskInstance
) -> None:
    with pytest.raises(WebcamconsultNotFoundError):
        delete(task, "0" * 24)
    delete(task, "0" * 24, ignore_if_missing=True)


def test_an_update_ends_well_on_a_retry(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    created = hook.clients.create(CLIENT)["id"]
    operator = WebcamconsultUpdateClientOperator(
        task_id="update", client_id=created, attributes={"last_name": "Ester-Bakker"}
    )
    assert operator.execute(task.context) == created
    task.retry()
    assert operator.execute(task.context) == created
    assert [record["last_name"] for record in service.records("clients")] == ["Ester-Bakker"]
