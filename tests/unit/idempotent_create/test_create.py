"""The guarantees of an idempotent create; test_fault_table.py covers the faults."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult import idempotent_create, transport
from airflow_provider_webcamconsult.create_result import IF_EXISTS
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConflictError,
    WebcamconsultInputError,
    WebcamconsultMismatchError,
    WebcamconsultNonRetryableError,
    WebcamconsultNotFoundError,
    WebcamconsultRateLimitError,
    WebcamconsultResponseError,
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
# The natural key is only the e-mail address, which the family shares.
CHILD: Any = {
    "initials": "A.",
    "last_name": "Ester",
    "email": "family@example.com",
    "date_of_birth": "2015-01-02",
}
SISTER: Any = {**CHILD, "initials": "B.", "date_of_birth": "2017-03-04"}
WITHOUT_KEY: Any = {"last_name": "Ester"}

AT_ONCE = datetime.timedelta()

kinds = pytest.mark.parametrize("kind", CREATE)
each_if_exists = pytest.mark.parametrize("if_exists", IF_EXISTS)
with_lookup = pytest.mark.parametrize("if_exists", ["reuse", "update", "fail"])


@pytest.fixture(params=[True, False], ids=["store", "no store"])
def task(request: pytest.FixtureRequest) -> TaskInstance:
    """Return a task on Airflow 3.3, which has a task state store, and on an older version, which has none."""
    return TaskInstance(request.param)


@pytest.fixture
def task_33() -> TaskInstance:
    return TaskInstance(has_store=True)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotent_create, "LOOKUP_DELAYS_SECONDS", (0.0, 0.001, 0.002))
    monkeypatch.setattr(idempotent_create, "CREATE_FLOOR_SECONDS", 0.05)


def create(task: TaskInstance, attributes: Any, kind: str = "appointment", **arguments: Any) -> str:
    operator = CREATE[kind](task_id="create", attributes=attributes, **arguments)
    record_id: str = operator.execute(task.context)
    return record_id


def ids(service: Service, kind: str = "appointment") -> list[str]:
    return [record["id"] for record in service.records(f"{kind}s")]


def run_lost_create(
    service: Service, connect: Connect, task: TaskInstance, attributes: Any, kind: str
) -> None:
    """Run a first try whose create is processed only after the client has given up."""
    with FaultProxy(service.url, FAULTS["processed long after the client gave up"], "POST") as proxy:
        connect(proxy.url, service.token, timeout=0.2)
        with pytest.raises(WebcamconsultUnknownOutcomeError):
            create(task, attributes, kind)
        proxy.heal()
    connect(service.url, service.token)


# -- Checkpoint ----------------------------------------------------------------------------------------------


def test_create_stores_intent_before_request_and_id_after_response(
    service: Service, connect: Connect, task_33: TaskInstance
) -> None:
    class CheckpointReader(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            checkpoints.append(list(task_33.store.get("webcamconsult_create")))
            super().handle(request)

    checkpoints: list[list[str]] = []
    with CheckpointReader(service.url) as proxy:
        connect(proxy.url, service.token)
        created = create(task_33, CONSULT)
    assert checkpoints == [["sent_at", "fingerprint", "first_sent_at"]]
    stored = task_33.store.get("webcamconsult_create")
    assert (stored["id"], stored["outcome"], stored["verified"]) == (created, "created", True)


def test_checkpoint_contains_no_personal_data(
    service: Service, connect: Connect, task_33: TaskInstance
) -> None:
    person = {**CHILD, "reference_code": "BSN-123456782"}
    run_lost_create(service, connect, task_33, person, "client")
    task_33.retry()
    create(task_33, person, "client")
    stored = "".join(task_33.store.history)
    assert "sent_at" in stored
    assert "verified" in stored
    assert not [value for value in (*person.values(), service.token) if value in stored]


@kinds
@each_if_exists
def test_cleared_task_returns_the_record_it_created(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, kind: str, if_exists: str
) -> None:
    created = create(task, ATTRIBUTES[kind], kind, if_exists=if_exists)
    for _ in range(2):
        task.clear()
        assert create(task, ATTRIBUTES[kind], kind, if_exists=if_exists) == created
    assert ids(service, kind) == [created]


@kinds
@each_if_exists
def test_cleared_task_creates_again_when_its_record_was_deleted(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, kind: str, if_exists: str
) -> None:
    created = create(task, ATTRIBUTES[kind], kind, if_exists=if_exists)
    getattr(hook, f"{kind}s").delete(created)
    task.clear()
    recreated = create(task, ATTRIBUTES[kind], kind, if_exists=if_exists)
    assert recreated != created
    assert ids(service, kind) == [recreated]


def test_cleared_task_returns_its_record_when_the_record_has_changed(
    hook: WebcamconsultHook, service: Service, task_33: TaskInstance
) -> None:
    created = create(task_33, CLIENT, "client")
    hook.clients.update(created, {"last_name": "Ester-Bakker", "reference_code": "DL-9"})
    task_33.clear()
    assert create(task_33, CLIENT, "client") == created
    assert ids(service, "client") == [created]


def test_cleared_task_updates_its_record_when_if_exists_is_update(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    created = create(task, CLIENT, "client", if_exists="update")
    hook.clients.update(created, {"last_name": "Ester-Bakker"})
    task.clear()
    assert create(task, CLIENT, "client", if_exists="update") == created
    assert [record["last_name"] for record in service.records("clients")] == ["Ester"]


def test_404_from_wrong_path_does_not_count_as_deleted(connect: Connect, task_33: TaskInstance) -> None:
    # The service uses /clients/{id}.json and the connection /client/{id}.json, or vice versa.
    with Sandbox(plural_paths=True) as sandbox:
        connect(sandbox.url, sandbox.token)
        created = create(task_33, WITHOUT_KEY, "client")
        task_33.clear()
        assert create(task_33, WITHOUT_KEY, "client") == created
        assert len(sandbox.records("clients")) == 1


# -- Existing records ----------------------------------------------------------------------------------------


def test_if_exists_create_sends_no_lookup(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    create(task, CONSULT)
    assert [request.method for request in service.requests] == ["POST"]


@kinds
def test_if_exists_reuse_returns_existing_record(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, kind: str
) -> None:
    existing = getattr(hook, f"{kind}s").create(ATTRIBUTES[kind])["id"]
    assert create(task, ATTRIBUTES[kind], kind, if_exists="reuse") == existing
    assert ids(service, kind) == [existing]


def test_if_exists_reuse_warns_about_differing_attributes(
    hook: WebcamconsultHook, connect: Connect, task: TaskInstance, log: Log
) -> None:
    shorter: Any = {**CONSULT, "duration": 20}
    existing = hook.appointments.create(shorter)["id"]
    assert create(task, CONSULT, if_exists="reuse") == existing
    assert any(
        f"{existing} differs from the given attributes in duration." in warning for warning in log.warnings
    )


def test_if_exists_update_sends_only_differing_attributes(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    class BodyRecorder(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "PUT":
                bodies.append(request.read().partition(b"\r\n\r\n")[2])
            super().handle(request)

    bodies: list[bytes] = []
    with BodyRecorder(service.url) as proxy:
        hook = connect(proxy.url, service.token)
        shorter: Any = {**CONSULT, "duration": 20}
        existing = hook.appointments.create(shorter)["id"]
        assert create(task, CONSULT, if_exists="update") == existing
        assert bodies == [b'{"appointment": {"duration": 30}}']
        assert create(TaskInstance(has_store=False), CONSULT, if_exists="update") == existing
        assert len(bodies) == 1
    assert ids(service) == [existing]


def test_if_exists_fail_raises_non_retryable_error_with_existing_id(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    existing = hook.appointments.create(CONSULT)["id"]
    with pytest.raises(WebcamconsultConflictError, match=f"Appointment {existing} with the same") as raised:
        create(task, CONSULT, if_exists="fail")
    assert raised.value.ids == [existing]
    assert isinstance(raised.value, AirflowFailException)
    assert ids(service) == [existing]


def test_if_exists_fail_raises_on_retry_when_first_try_sent_no_create(
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


@with_lookup
def test_lookup_with_two_matches_raises_conflict(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str
) -> None:
    existing = [hook.appointments.create(CONSULT)["id"] for _ in range(2)]
    with pytest.raises(WebcamconsultConflictError, match=f"2 appointments .*{', '.join(existing)}") as raised:
        create(task, CONSULT, if_exists=if_exists)
    assert raised.value.ids == existing
    assert isinstance(raised.value, AirflowFailException)
    assert ids(service) == existing


def test_lookup_with_two_matches_after_lost_response_raises_conflict(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    connect(service.url, service.token).appointments.create(CONSULT)
    with FaultProxy(service.url, FAULTS["closed before the response"], "POST") as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultConflictError) as raised:
            create(task, CONSULT)
        assert raised.value.ids == ids(service)
        assert len(raised.value.ids) == 2
        task.clear()  # without a check by a person
        with pytest.raises(WebcamconsultConflictError):
            create(task, CONSULT)
    assert len(ids(service)) == 2


@each_if_exists
def test_record_with_other_or_missing_key_does_not_match(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str
) -> None:
    hook.clients.create(WITHOUT_KEY)
    other: Any = {**CLIENT, "reference_code": "DL-2"}
    hook.clients.create(other)
    create(task, CLIENT, "client", if_exists=if_exists)
    assert len(ids(service, "client")) == 3


def test_unknown_if_exists_is_rejected(hook: WebcamconsultHook, service: Service, task: TaskInstance) -> None:
    with pytest.raises(WebcamconsultInputError, match="if_exists must be one of create, reuse, update, fail"):
        create(task, CONSULT, if_exists="replace")
    assert service.requests == []


# -- Clients with a shared e-mail address --------------------------------------------------------------------


def test_family_member_with_shared_email_is_created(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    child = hook.clients.create(CHILD)["id"]
    assert create(task, SISTER, "client") != child
    assert len(ids(service, "client")) == 2


@each_if_exists
def test_lookup_that_finds_another_family_member_raises_conflict(
    service: Service, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    hook = connect(service.url, service.token)
    child = hook.clients.create(CHILD)
    with FaultProxy(service.url, FAULTS["closed without processing"], "POST") as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultConflictError, match=child["id"]):
            create(task, SISTER, "client", if_exists=if_exists)
    assert hook.clients.list() == [child]


def test_family_member_is_created_on_retry_when_first_try_was_rate_limited(
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


# -- No natural key, or a different one ----------------------------------------------------------------------


@with_lookup
def test_lookup_without_natural_key_is_rejected_before_any_request(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str
) -> None:
    with pytest.raises(WebcamconsultInputError, match="neither reference_code nor email was given"):
        create(task, WITHOUT_KEY, "client", if_exists=if_exists)
    assert service.requests == []


def test_lost_create_without_natural_key_is_repeated_only_when_task_is_cleared(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    with FaultProxy(service.url, FAULTS["closed before the response"], "POST") as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(
            WebcamconsultNonRetryableError, match="neither reference_code nor email was given"
        ):
            create(task, WITHOUT_KEY, "client")
        assert len(ids(service, "client")) == 1
        # A person has checked Webcamconsult and decided to create another record.
        task.clear()
        create(task, WITHOUT_KEY, "client")
    assert len(ids(service, "client")) == 2


def test_retry_of_create_without_natural_key_is_rejected(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    if task.has_store:  # the worker was killed after storing the intent
        task.store.set("webcamconsult_create", {"sent_at": 0.0, "fingerprint": "unknown"})
    task.retry()
    with pytest.raises(WebcamconsultNonRetryableError):
        create(task, WITHOUT_KEY, "client")
    assert service.requests == []
    task.clear()
    create(task, WITHOUT_KEY, "client")
    assert len(ids(service, "client")) == 1


@pytest.mark.parametrize(
    ("kind", "first", "then"),
    [
        ("appointment", CONSULT, {**CONSULT, "date": "2030-03-01T09:31"}),
        ("client", CLIENT, {**CLIENT, "reference_code": "DL-2"}),
        ("client", {**CLIENT, "email": "t@example.com"}, {"last_name": "Ester", "email": "t@example.com"}),
        ("client", {"email": "t@example.com"}, {"email": "t@example.com", "reference_code": "DL-1"}),
    ],
    ids=["different date", "different code", "code removed", "code added"],
)
def test_retry_with_changed_attributes_does_not_create_a_second_record(
    service: Service, connect: Connect, task_33: TaskInstance, kind: str, first: Any, then: Any
) -> None:
    run_lost_create(service, connect, task_33, first, kind)
    (existing,) = ids(service, kind)
    task_33.retry()
    # For example for a different date, or for a key that the record does not have.
    with contextlib.suppress(WebcamconsultConflictError, WebcamconsultMismatchError):
        assert create(task_33, then, kind) == existing
    assert ids(service, kind) == [existing]


def test_retry_finds_record_after_token_was_replaced(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    run_lost_create(service, connect, task, CONSULT, "appointment")
    (existing,) = ids(service)

    class OldTokenForNew(Proxy):
        """The service after the organisation got a new token."""

        def handle(self, request: ProxiedRequest) -> None:
            request.replace(b"new-token", service.token.encode())
            super().handle(request)

    with OldTokenForNew(service.url) as proxy:
        connect(proxy.url, "new-token")
        task.retry()
        assert create(task, CONSULT) == existing
    assert ids(service) == [existing]


# -- Unknown outcome -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy_at_first", [False, True], ids=["", "after a 429"])
def test_retry_waits_until_lost_create_can_no_longer_be_in_flight(
    service: Service,
    connect: Connect,
    task: TaskInstance,
    monkeypatch: pytest.MonkeyPatch,
    busy_at_first: bool,
) -> None:
    settle_seconds = 1.0
    # The wait is counted from when the create was sent, not from the first attempt.
    monkeypatch.setattr(transport, "RETRY_AFTER_MAX_SECONDS", 1.2 * settle_seconds)
    monkeypatch.setattr(idempotent_create, "CREATE_FLOOR_SECONDS", settle_seconds)
    task.task.retry_delay = AT_ONCE

    class Slow(Proxy):
        """Disconnects the client, and forwards its request only after the lookup of the retry."""

        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST" and busy_at_first and self.count("POST") == 1:
                request.respond(make_response(429, headers={"Retry-After": "30"}))
                return
            if request.method == "POST":
                request.read()
                request.disconnect()
                assert retry_looked_up.wait(60)
                request.forward()
                return
            super().handle(request)
            if task.try_number > 1:
                retry_looked_up.set()

    retry_looked_up = threading.Event()
    with Slow(service.url) as proxy:
        connect(proxy.url, service.token, timeout=settle_seconds)
        with pytest.raises(WebcamconsultUnknownOutcomeError):
            create(task, CONSULT)
        task.retry(after=AT_ONCE)
        created = create(task, CONSULT)
        assert proxy.count("POST") == 1 + busy_at_first
    assert ids(service) == [created]


def test_wait_for_lost_create_is_limited_when_worker_clocks_differ(
    hook: WebcamconsultHook, service: Service, task_33: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WaitingError(Exception):
        pass

    def sleep(seconds: float) -> None:
        assert seconds <= idempotent_create.CREATE_FLOOR_SECONDS
        raise WaitingError

    # Longer than the look-up takes on a busy machine.
    monkeypatch.setattr(idempotent_create, "CREATE_FLOOR_SECONDS", 60)
    monkeypatch.setattr(time, "sleep", sleep)
    task_33.store.set("webcamconsult_create", {"sent_at": time.time() + 3600, "fingerprint": "unknown"})
    task_33.retry(after=AT_ONCE)
    with pytest.raises(WaitingError):
        create(task_33, CONSULT)


def test_retry_finds_record_when_first_lookups_failed(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    class FailingAfterCreate(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST":
                request.forward()
            else:
                request.respond(make_response(502))

    with FailingAfterCreate(service.url) as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultUnknownOutcomeError) as raised:
            create(task, CONSULT)
        assert not isinstance(raised.value, AirflowFailException)
    connect(service.url, service.token)
    task.retry()
    assert ids(service) == [create(task, CONSULT)]


@with_lookup
def test_lookup_that_meets_a_malformed_record_sends_no_create(
    if_exists: Any, connect: Connect, serve: Serve, task: TaskInstance
) -> None:
    # It may be the record that the look-up is for.
    server = serve({"body": [{"id": None}]})
    connect(server.url)
    with pytest.raises(WebcamconsultResponseError, match="record 1 of the list"):
        create(task, CONSULT, if_exists=if_exists)
    assert {request.method for request in server.requests} == {"GET"}


def test_lookup_that_meets_a_malformed_record_sends_no_second_create(
    connect: Connect, serve: Serve, task: TaskInstance
) -> None:
    server = serve({"cut": "after the request"}, {"body": [{"id": None}]})
    connect(server.url)
    with pytest.raises(WebcamconsultUnknownOutcomeError):
        create(task, CONSULT)
    task.retry()
    with pytest.raises(WebcamconsultResponseError, match="record 1 of the list"):
        create(task, CONSULT)
    assert [request.method for request in server.requests].count("POST") == 1


def test_late_first_create_is_reported_as_conflict(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    class Late(Proxy):
        """Forwards the first create only after the second: no client can prevent this duplicate."""

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


def test_unknown_outcome_in_hook_is_retryable_only_with_lookup(service: Service, connect: Connect) -> None:
    with FaultProxy(service.url, FAULTS["closed without processing"], "POST") as proxy:
        hook = connect(proxy.url, service.token)
        with pytest.raises(
            WebcamconsultNonRetryableError, match="Check whether the appointment exists in Webcamconsult"
        ):
            hook.appointments.create(CONSULT)
    with FaultProxy(service.url, FAULTS["closed without processing"], "POST") as proxy:
        hook = connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultUnknownOutcomeError) as raised:
            hook.appointments.create(CONSULT, if_exists="reuse")
        assert not isinstance(raised.value, AirflowFailException)
    assert ids(service) == []


# -- Comparison of response and request ----------------------------------------------------------------------

SECRET = "s3cret-family-name"
MISMATCHES: dict[str, tuple[str, dict[str, Any], str, Any]] = {
    "date in 1970": ("appointment", CONSULT, "date", "1970-01-01T01:00:00.000+01:00"),
    "date cleared": ("appointment", CONSULT, "date", None),
    "date an hour later": ("appointment", CONSULT, "date", "2030-03-01T10:30:00.000+01:00"),
    "duration of zero": ("appointment", CONSULT, "duration", 0),
    "different user": ("appointment", CONSULT, "user_id", "u2"),
    "client cleared": ("appointment", CONSULT, "client_id", None),
    "different date of birth": ("client", CLIENT, "date_of_birth", "1984-12-19T00:00:00.000+01:00"),
}


def _server(serve: Serve, kind: str, record: dict[str, Any]) -> Any:
    """Start a server that returns the same record for every request."""
    step: Step = {"body": {kind: record}}
    return serve(step)


@pytest.mark.parametrize("case", MISMATCHES)
def test_different_must_match_attribute_in_response_raises(
    serve: Serve, connect: Connect, task: TaskInstance, case: str
) -> None:
    kind, attributes, name, stored = MISMATCHES[case]
    attributes = {**attributes, "external": SECRET} if kind == "client" else attributes
    server = _server(serve, kind, {"id": "r1", **attributes, name: stored})
    connect(server.url)
    with pytest.raises(WebcamconsultMismatchError, match=rf"a different {name} on {kind} r1\.") as raised:
        create(task, attributes, kind)
    assert (raised.value.record_id, raised.value.attributes) == ("r1", [name])
    assert isinstance(raised.value, AirflowFailException)
    assert not [value for value in (stored, SECRET) if value and str(value) in str(raised.value)]


def test_cleared_task_raises_same_mismatch_and_does_not_create(
    serve: Serve, connect: Connect, task_33: TaskInstance
) -> None:
    server = _server(serve, "appointment", {"id": "r1", **CONSULT, "duration": 0})
    connect(server.url)
    for _ in range(3):
        with pytest.raises(WebcamconsultMismatchError):
            create(task_33, CONSULT)
        task_33.clear()
    assert [request.method for request in server.requests] == ["POST", "GET", "GET"]
    # A person has corrected the record.
    server.steps = [{"body": {"appointment": {"id": "r1", **CONSULT}}}]
    assert create(task_33, CONSULT) == "r1"


@each_if_exists
def test_record_found_after_lost_response_is_compared_with_request(
    serve: Serve, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    stored = {"id": "r1", **CONSULT, "duration": 0}
    steps: list[Step] = [{"cut": "after the request"}, {"body": [stored]}]
    if if_exists != "create":
        steps.insert(0, {"body": []})
    server = serve(*steps, {"body": {"appointment": stored}})
    connect(server.url)
    with pytest.raises(
        (WebcamconsultMismatchError, WebcamconsultConflictError),
        match=r"r1 .*duration|duration on appointment r1",
    ):
        create(task, CONSULT, if_exists=if_exists)
    assert [request.method for request in server.requests].count("POST") == 1


@pytest.mark.parametrize(
    "stored", [{}, {"last_name": None}, {"last_name": "E"}], ids=["absent", "null", "truncated"]
)
def test_other_different_attribute_warns_or_raises_with_strict(
    serve: Serve, connect: Connect, task: TaskInstance, log: Log, stored: dict[str, Any]
) -> None:
    record = {"id": "r1", "reference_code": "DL-1", **stored}
    attributes = {"reference_code": "DL-1", "last_name": SECRET}
    server = _server(serve, "client", record)
    connect(server.url)
    assert create(task, attributes, "client") == "r1"
    assert [
        warning
        for warning in log.warnings
        if "attributes of client r1 are different or missing in the response: last_name" in warning
    ]
    assert SECRET not in log.text
    with pytest.raises(WebcamconsultMismatchError, match="last_name"):
        create(TaskInstance(task.has_store), attributes, "client", strict=True)


@pytest.mark.parametrize("strict", [False, True])
def test_update_response_is_compared_with_request(
    serve: Serve, connect: Connect, task: TaskInstance, strict: bool
) -> None:
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
        "number as text",
        "different offset",
        "microseconds",
        "before 1937",
        "null",
        "read-only",
        "list order",
        "letter case",
    ],
)
def test_equivalent_values_do_not_count_as_different(
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


def test_delete_of_missing_record_succeeds_on_retry(
    hook: WebcamconsultHook, service: Service, task: TaskInstance
) -> None:
    created = hook.clients.create(CLIENT)["id"]
    delete(task, created)
    task.retry()  # the worker was killed before it reported success
    delete(task, created)
    assert ids(service, "client") == []


def test_cleared_delete_of_a_record_that_no_try_can_have_deleted_fails_again(
    hook: WebcamconsultHook, service: Service
) -> None:
    task = TaskInstance(has_store=True)
    deleted = hook.clients.create(CLIENT)["id"]
    for _ in range(2):
        with pytest.raises(WebcamconsultNotFoundError):
            delete(task, "f" * 24)
        task.clear()
    for _ in range(2):
        delete(task, deleted)
        task.clear()
    with pytest.raises(WebcamconsultNotFoundError):
        delete(task, "f" * 24)


def test_delete_of_missing_record_fails_on_first_try_unless_ignored(
    hook: WebcamconsultHook, task: TaskInstance
) -> None:
    with pytest.raises(WebcamconsultNotFoundError):
        delete(task, "f" * 24)
    delete(task, "f" * 24, ignore_if_missing=True)


def test_update_succeeds_on_retry(hook: WebcamconsultHook, service: Service, task: TaskInstance) -> None:
    created = hook.clients.create(CLIENT)["id"]
    operator = WebcamconsultUpdateClientOperator(
        task_id="update", client_id=created, attributes={"last_name": "Ester-Bakker"}
    )
    assert operator.execute(task.context) == created
    task.retry()
    assert operator.execute(task.context) == created
    assert [record["last_name"] for record in service.records("clients")] == ["Ester-Bakker"]
