"""What proves that a create made a record: only that is used, and nothing else is changed or deleted."""

from __future__ import annotations

import datetime
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult import idempotent_create
from airflow_provider_webcamconsult.create_result import IF_EXISTS
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConflictError,
    WebcamconsultError,
    WebcamconsultMismatchError,
    WebcamconsultUnknownOutcomeError,
)
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import WebcamconsultCreateClientOperator
from airflow_provider_webcamconsult.operators.task_checkpoint import TaskCheckpoint
from devtools.fault_proxy import Proxy, make_response
from tests.unit.idempotent_create.airflow_task import Task, TaskInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from devtools.fault_proxy import ProxiedRequest
    from tests.unit.conftest import Connect, Log, ScriptedServer, Serve, Service, Step

ALDERS: Any = {"reference_code": "DL-1", "email": "alders@example.com", "last_name": "Alders"}
BAKKER: Any = {"reference_code": "DL-2", "email": "bakker@example.com", "last_name": "Bakker"}
CONSULT: Any = {"user_id": "u1", "client_id": "c1", "date": "2030-03-01T09:30:00.000+01:00", "duration": 30}
MONTH = 30 * 86400

each_if_exists = pytest.mark.parametrize("if_exists", IF_EXISTS)
with_look_up = pytest.mark.parametrize("if_exists", ["reuse", "update", "fail"])


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotent_create, "LOOKUP_DELAYS_SECONDS", (0.0, 0.001))
    monkeypatch.setattr(idempotent_create, "LOOKUP_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(idempotent_create, "CREATE_FLOOR_SECONDS", 0.05)
    monkeypatch.setattr(idempotent_create, "RACE_SECONDS", 0.001)


@pytest.fixture
def task() -> TaskInstance:
    return TaskInstance(has_store=True)


def object_id(number: int, age: float = 0) -> str:
    """Return an id as MongoDB makes it, which begins with the time of creation."""
    return f"{int(time.time() - age):08x}{number:016x}"


def create_client(task: TaskInstance, attributes: Any, **arguments: Any) -> str:
    operator = WebcamconsultCreateClientOperator(task_id="create", attributes=attributes, **arguments)
    return operator.execute(task.context)


def book(task: TaskInstance, attributes: Any = CONSULT, **arguments: Any) -> str:
    operator = WebcamconsultCreateAppointmentOperator(task_id="book", attributes=attributes, **arguments)
    return operator.execute(task.context)


def answer(kind: str, record: Any, *, if_exists: str, before: Any = ()) -> list[Step]:
    """Answer the look-up before a create, if there is one, and the create."""
    steps: list[Step] = [] if if_exists == "create" else [{"body": list(before)}]
    return [*steps, {"body": {kind: record}}]


def methods(server: ScriptedServer) -> list[str]:
    return [request.method for request in server.requests]


# -- A response that belongs to another request --------------------------------------------------------------


@pytest.mark.parametrize("age", [MONTH, 0, -MONTH], ids=["old", "new", "from the future"])
@each_if_exists
def test_client_whose_id_another_request_got_is_neither_used_nor_deleted(
    serve: Serve, connect: Connect, task: TaskInstance, if_exists: str, age: float
) -> None:
    alders = {"id": object_id(1, age), **ALDERS}
    own = {"id": object_id(2), **BAKKER}
    server = serve(
        *answer("client", {"id": alders["id"]}, if_exists=if_exists),
        {"body": {"client": alders}},
        {"body": [alders, own]},
    )
    connect(server.url)
    assert create_client(task, BAKKER, if_exists=if_exists) == own["id"]
    assert not {"PUT", "DELETE"} & {*methods(server)}
    assert methods(server).count("POST") == 1


@with_look_up
def test_response_that_shows_no_natural_key_is_not_believed(
    serve: Serve, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    # The record in the response cannot be read.
    shown, own = object_id(2), {"id": object_id(1), **ALDERS}
    server = serve(
        *answer("client", {"id": shown}, if_exists=if_exists),
        {"status": 404},
        {"body": [own]},
    )
    connect(server.url)
    assert create_client(task, ALDERS, if_exists=if_exists) == own["id"]
    assert "DELETE" not in methods(server)


@with_look_up
def test_record_that_nothing_proves_to_be_own_is_not_withdrawn(
    serve: Serve, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    # The response shows nobody's first name, so it may be about another member of the family.
    family: Any = {"email": "family@example.com", "last_name": "Alders"}
    shown, other = {"id": object_id(2), **family}, {"id": object_id(1), **family, **JAN}
    server = serve(*answer("client", shown, if_exists=if_exists), {"body": [shown, other]})
    connect(server.url)
    with pytest.raises(WebcamconsultConflictError, match="Neither was deleted") as raised:
        create_client(task, {**family, **JAN}, if_exists=if_exists)
    assert raised.value.ids == [shown["id"], other["id"]]
    assert "DELETE" not in methods(server)


def test_appointment_of_another_request_is_not_deleted_because_of_an_overlap(
    serve: Serve, connect: Connect, task: TaskInstance
) -> None:
    shown = {"id": object_id(2), "state": "idle"}
    other = {"id": object_id(1), **CONSULT, "client_id": "c2", "state": "idle"}
    server = serve({"body": []}, {"body": {"appointment": shown}}, {"status": 404}, {"body": [other]})
    connect(server.url)
    with pytest.raises(WebcamconsultMismatchError, match="no user_id, client_id and date"):
        book(task, if_overlaps="fail")
    assert "DELETE" not in methods(server)


JAN: Any = {"first_name": "Jan", "last_name": "Alders"}
PIET: Any = {"first_name": "Piet", "last_name": "Alders"}


def test_response_about_somebody_else_is_an_error_without_a_natural_key(
    serve: Serve, connect: Connect, task: TaskInstance
) -> None:
    jan = {"id": object_id(1), **JAN}
    server = serve({"body": {"client": jan}})
    connect(server.url)
    with pytest.raises(WebcamconsultMismatchError, match="if it is missing, clear this task") as raised:
        create_client(task, PIET)
    assert (raised.value.record_id, raised.value.attributes) == (jan["id"], ["first_name"])
    assert methods(server) == ["POST"]
    # A person has looked for the client, and has not found it.
    task.clear()
    own = {"id": object_id(2), **PIET}
    server.steps = [{"body": {"client": own}}]
    assert create_client(task, PIET) == own["id"]


@each_if_exists
def test_response_about_another_member_of_the_family_is_not_believed(
    serve: Serve, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    jan = {"id": object_id(1), "email": "family@example.com", **JAN}
    own = {"id": object_id(2), "email": "family@example.com", **PIET}
    server = serve(*answer("client", jan, if_exists=if_exists), {"body": [jan, own]})
    connect(server.url)
    assert create_client(task, {"email": "family@example.com", **PIET}, if_exists=if_exists) == own["id"]
    assert not {"PUT", "DELETE"} & {*methods(server)}


@pytest.mark.parametrize(
    ("if_exists", "age", "state"),
    [
        ("create", MONTH, "idle"),  # a look-up before the create would have found it
        *((if_exists, MONTH, "cancelled") for if_exists in IF_EXISTS),
        ("create", 3600, "finished"),
    ],
)
def test_response_with_an_earlier_appointment_is_not_believed(
    serve: Serve, connect: Connect, task: TaskInstance, if_exists: str, age: float, state: str
) -> None:
    earlier = {"id": object_id(1, age), **CONSULT, "state": state}
    server = serve(*answer("appointment", earlier, if_exists=if_exists), {"body": [earlier]})
    connect(server.url)
    with pytest.raises(WebcamconsultMismatchError, match=earlier["id"]):
        book(task, if_exists=if_exists)
    assert methods(server).count("POST") == 1
    assert not {"PUT", "DELETE"} & {*methods(server)}


def test_clock_of_the_service_that_is_late_does_not_dispute_what_the_look_up_did_not_list(
    serve: Serve, connect: Connect, task: TaskInstance
) -> None:
    own = {"id": object_id(1, age=600), **CONSULT, "state": "idle"}
    server = serve(*answer("appointment", own, if_exists="reuse"), {"body": [own]})
    connect(server.url)
    assert book(task, if_exists="reuse") == own["id"]


@pytest.mark.parametrize("state", ["x\x1b[31m Jan Jansen", "y" * 41, "", 7])
def test_state_that_is_no_plain_name_is_not_shown(
    serve: Serve, connect: Connect, task: TaskInstance, state: object
) -> None:
    server = serve({"body": [{"id": object_id(1, MONTH), **CONSULT, "state": state}]})
    connect(server.url)
    with pytest.raises(WebcamconsultConflictError, match="is in an unknown state, and"):
        book(task, if_exists="reuse")


# -- Simultaneous creates ------------------------------------------------------------------------------------


def test_second_of_two_clients_that_may_be_different_people_is_not_withdrawn(
    serve: Serve, connect: Connect, task: TaskInstance
) -> None:
    family: Any = {"email": "family@example.com", "last_name": "Alders"}
    own = {"id": object_id(2), **family, "first_name": "Jan"}
    other = {"id": object_id(1), **family, "date_of_birth": "1979-08-13T00:00:00.000+02:00"}
    server = serve(*answer("client", own, if_exists="reuse"), {"body": [own, other]})
    connect(server.url)
    with pytest.raises(WebcamconsultConflictError, match=r"Neither was deleted\. Give both") as raised:
        create_client(task, {**family, "first_name": "Jan"}, if_exists="reuse")
    assert raised.value.ids == [own["id"], other["id"]]
    assert "DELETE" not in methods(server)


# -- A task whose attributes have changed --------------------------------------------------------------------


@each_if_exists
def test_cleared_task_that_is_for_another_client_leaves_the_first_one_alone(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, log: Log, if_exists: str
) -> None:
    alders = create_client(task, ALDERS, if_exists=if_exists)
    before = service.records("clients")
    task.clear()
    bakker = create_client(task, BAKKER, if_exists=if_exists)
    assert service.records("clients")[:1] == before
    assert [record["id"] for record in service.records("clients")] == [alders, bakker]
    assert any(f"client {alders}, stays and is not changed" in warning for warning in log.warnings)
    task.clear()
    assert create_client(task, BAKKER, if_exists=if_exists) == bakker


@each_if_exists
@pytest.mark.parametrize("corrected", [{"date": "2030-03-08T14:00"}, {"client_id": "c2"}])
def test_cleared_task_books_what_was_corrected(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str, corrected: Any
) -> None:
    first = book(task, if_exists=if_exists)
    task.clear()
    second = book(task, {**CONSULT, **corrected}, if_exists=if_exists)
    assert [record["id"] for record in service.records("appointments")] == [first, second]


@each_if_exists
def test_retry_that_is_for_another_date_books_nothing_more(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str
) -> None:
    # For example because a template has now() in it.
    first = book(task, if_exists=if_exists)
    before = service.records("appointments")
    task.retry()
    with pytest.raises(WebcamconsultConflictError, match="with other attributes") as raised:
        book(task, {**CONSULT, "date": "2030-03-08T14:00"}, if_exists=if_exists)
    assert raised.value.ids == [first]
    assert service.records("appointments") == before


@pytest.mark.parametrize("if_exists", ["create", "reuse", "fail"])
def test_cleared_task_never_accepts_an_appointment_with_another_duration(
    hook: WebcamconsultHook, task: TaskInstance, if_exists: str
) -> None:
    created = book(task, if_exists=if_exists)
    for _ in range(2):
        task.clear()
        with pytest.raises(WebcamconsultMismatchError, match="It was not changed") as raised:
            book(task, {**CONSULT, "duration": 60}, if_exists=if_exists)
        assert (raised.value.record_id, raised.value.attributes) == (created, ["duration"])
    task.clear()
    assert book(task, if_exists=if_exists) == created


def test_cleared_task_warns_about_another_attribute_that_differs(
    hook: WebcamconsultHook, task: TaskInstance, log: Log
) -> None:
    created = create_client(task, ALDERS)
    task.clear()
    assert create_client(task, {**ALDERS, "last_name": "Alders-Bos"}) == created
    assert any(f"{created} differs from the given attributes in last_name" in each for each in log.warnings)


@pytest.mark.parametrize(
    ("if_exists", "shared"),
    [("create", {}), *((if_exists, {"email": "f@example.com"}) for if_exists in IF_EXISTS)],
)
def test_cleared_task_does_not_take_one_person_for_another(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str, shared: Any
) -> None:
    jan = create_client(task, {**shared, **JAN}, if_exists=if_exists)
    before = service.records("clients")
    task.clear()
    with pytest.raises(WebcamconsultConflictError, match="differs in first_name") as raised:
        create_client(task, {**shared, **PIET}, if_exists=if_exists)
    assert raised.value.ids == [jan]
    assert service.records("clients") == before


def test_checkpoint_of_an_older_release_still_returns_its_record(
    hook: WebcamconsultHook, task: TaskInstance
) -> None:
    created = create_client(task, ALDERS)
    task.store.set("webcamconsult_create", {"id": created, "outcome": "created", "verified": True})
    task.clear()
    assert create_client(task, ALDERS) == created


@pytest.fixture
def replace_token(service: Service, connect: Connect) -> Iterator[Callable[[], object]]:
    """Replace the token of the service and of the connection."""

    class OldTokenForNew(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            request.replace(b"new-token", service.token.encode())
            super().handle(request)

    connect(service.url, service.token)
    with OldTokenForNew(service.url) as proxy:
        yield lambda: connect(proxy.url, "new-token")


each_next_try = pytest.mark.parametrize("next_try", ["clear", "retry"])


@each_if_exists
@each_next_try
def test_new_token_does_not_count_as_another_client(
    service: Service, task: TaskInstance, replace_token: Any, if_exists: str, next_try: str
) -> None:
    created = create_client(task, ALDERS, if_exists=if_exists)
    replace_token()
    getattr(task, next_try)()
    assert create_client(task, ALDERS, if_exists=if_exists) == created
    assert len(service.records("clients")) == 1


@each_if_exists
@each_next_try
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (ALDERS, BAKKER),
        ({**JAN, "email": "f@example.com"}, {**PIET, "email": "f@example.com"}),
        ({**JAN, "email": "f@example.com"}, {**PIET, "email": "g@example.com"}),
    ],
    ids=["another reference_code", "another member of the family", "another email"],
)
def test_client_is_not_taken_for_another_one_after_the_token_was_replaced(
    service: Service,
    task: TaskInstance,
    replace_token: Any,
    if_exists: str,
    next_try: str,
    first: Any,
    then: Any,
) -> None:
    created = create_client(task, first, if_exists=if_exists)
    before = service.records("clients")
    replace_token()
    for _ in range(2):
        getattr(task, next_try)()
        with pytest.raises(WebcamconsultConflictError, match="was not used or changed") as raised:
            create_client(task, then, if_exists=if_exists)
        assert raised.value.ids == [created]
    assert service.records("clients") == before


@each_if_exists
@each_next_try
def test_moved_appointment_is_not_booked_again_after_the_token_was_replaced(
    hook: WebcamconsultHook,
    service: Service,
    task: TaskInstance,
    replace_token: Any,
    if_exists: str,
    next_try: str,
) -> None:
    created = book(task, if_exists=if_exists)
    hook.appointments.update(created, {"date": "2030-03-08T14:00"})
    replace_token()
    getattr(task, next_try)()
    with pytest.raises(WebcamconsultConflictError, match="different user_id, client_id and date"):
        book(task, if_exists=if_exists)
    assert len(service.records("appointments")) == 1


@each_if_exists
def test_retry_for_another_client_does_not_take_that_of_the_lost_create(
    service: Service, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    hook = connect(service.url, service.token)

    class Lost(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST":
                request.read()
                request.disconnect()
            else:
                super().handle(request)

    with Lost(service.url) as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultUnknownOutcomeError):
            create_client(task, ALDERS, if_exists=if_exists)
    connect(service.url, service.token)
    anna: Any = {**ALDERS, "first_name": "Anna"}
    alders = hook.clients.create(anna)
    task.retry()
    with pytest.raises(WebcamconsultConflictError, match="with other attributes, created client") as raised:
        create_client(task, BAKKER, if_exists=if_exists)
    assert raised.value.ids == [alders["id"]]
    assert hook.clients.list() == [alders]
    # A person has seen it.
    task.clear()
    bakker = create_client(task, BAKKER, if_exists=if_exists)
    assert [client["id"] for client in hook.clients.list()] == [alders["id"], bakker]
    assert hook.clients.get(alders["id"]) == alders


def test_list_that_shows_a_record_twice_shows_one_record(
    serve: Serve, connect: Connect, task: TaskInstance
) -> None:
    alders = {"id": object_id(1), **ALDERS}
    server = serve({"body": [alders, alders]})
    connect(server.url)
    assert create_client(task, ALDERS, if_exists="reuse") == alders["id"]


# -- A record that existed before the create -----------------------------------------------------------------


@pytest.mark.parametrize("age", [1, 40, 3600])
@pytest.mark.parametrize("has_store", [True, False], ids=["store", "no store"])
def test_appointment_cancelled_before_a_lost_create_is_not_the_new_one(
    serve: Serve, connect: Connect, has_store: bool, age: float
) -> None:
    cancelled = {"id": object_id(1, age + 1), **CONSULT, "state": "cancelled"}
    server = serve({"status": 504}, {"body": [cancelled]})
    connect(server.url)
    with pytest.raises(WebcamconsultError, match=f"Appointment {cancelled['id']}"):
        book(TaskInstance(has_store))


def test_appointment_from_before_a_lost_create_is_not_the_new_one(
    serve: Serve, connect: Connect, task: TaskInstance
) -> None:
    earlier = {"id": object_id(1, MONTH), **CONSULT, "state": "idle"}
    own = {"id": object_id(2), **CONSULT, "state": "idle"}
    server = serve({"status": 504}, {"body": [earlier]}, {"body": [earlier, own]})
    connect(server.url)
    assert book(task) == own["id"]


def test_retry_that_finds_only_what_existed_before_names_it(
    serve: Serve, connect: Connect, task: TaskInstance
) -> None:
    earlier = {"id": object_id(1, MONTH), **CONSULT, "state": "idle"}
    server = serve({"status": 504}, {"body": [earlier]})
    connect(server.url)
    with pytest.raises(WebcamconsultUnknownOutcomeError, match=f"{earlier['id']} .* existed before"):
        book(task)
    task.retry()
    with pytest.raises(WebcamconsultConflictError, match="existed before the create was sent") as raised:
        book(task)
    assert raised.value.ids == [earlier["id"]]
    assert methods(server).count("POST") == 1


def test_record_of_the_first_of_several_lost_creates_is_its_own(
    serve: Serve, connect: Connect, task: TaskInstance
) -> None:
    # The service carries out the create of the first try only after the second has sent another.
    first = {"id": object_id(1, age=600), **CONSULT, "state": "idle"}
    server = serve({"body": [first]})
    connect(server.url)
    now = time.time()
    task.store.set(
        "webcamconsult_create", {"sent_at": now - 10, "fingerprint": "unknown", "first_sent_at": now - 900}
    )
    task.retry()
    assert book(task) == first["id"]


# -- An earlier try that is still running --------------------------------------------------------------------


def test_floor_counts_from_the_last_create_of_an_earlier_try_that_still_runs(
    service: Service, connect: Connect, monkeypatch: pytest.MonkeyPatch, task: TaskInstance
) -> None:
    monkeypatch.setattr(idempotent_create, "CREATE_FLOOR_SECONDS", 2.0)
    first_is_sent = threading.Event()

    class BusyThenSlow(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST" and self.count("POST") == 1:
                request.respond(make_response(429, headers={"Retry-After": "1"}))
                first_is_sent.set()
                return
            if request.method == "POST":
                time.sleep(1.5)
            super().handle(request)

    with BusyThenSlow(service.url) as proxy, ThreadPoolExecutor(1) as pool:
        hook = connect(proxy.url, service.token)
        # Airflow 2 runs no operator in a thread.
        checkpoint = TaskCheckpoint(task.context)
        first = pool.submit(hook.appointments.create, CONSULT, checkpoint=checkpoint)
        assert first_is_sent.wait(10)
        second = book(TaskInstance(has_store=True, try_number=2, store=task.store))
        assert first.result(10)["id"] == second
        assert proxy.count("POST") == 2
    assert [record["id"] for record in service.records("appointments")] == [second]


def test_record_without_a_natural_key_that_an_earlier_try_creates_meanwhile_is_used(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, task: TaskInstance
) -> None:
    monkeypatch.setattr(idempotent_create, "CREATE_FLOOR_SECONDS", 0.5)
    jan = {"id": object_id(1), **JAN}
    server = serve({"body": {"client": jan}})
    connect(server.url)
    task.store.set("webcamconsult_create", {"sent_at": time.time(), "reported": True})
    task.clear()
    task.store.age(-task.task.retry_delay)
    created: Any = {"id": jan["id"], "outcome": "created", "verified": True}
    threading.Timer(0.1, task.store.set, ["webcamconsult_create", created]).start()
    assert create_client(task, JAN) == jan["id"]
    assert methods(server) == ["GET"]


class RetryingTask(Task):
    """A task whose pause between tries is not its retry_delay."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(retry_delay=datetime.timedelta(minutes=10))
        vars(self).update(attributes)


@pytest.mark.parametrize(
    ("attributes", "pause"),
    [
        ({}, 600),
        ({"retry_exponential_backoff": True}, 600),
        ({"max_retry_delay": datetime.timedelta(seconds=20)}, 20),
        ({"max_retry_delay": datetime.timedelta(hours=1)}, 600),
        ({"retry_exponential_backoff": 0}, 600),
        ({"retry_exponential_backoff": 2.0}, 600),
        ({"retry_exponential_backoff": 0.1}, 0),
    ],
)
def test_without_a_store_the_floor_counts_from_the_shortest_possible_pause(
    attributes: Any, pause: float
) -> None:
    task = TaskInstance(has_store=False, task=RetryingTask(**attributes))
    task.retry()
    sent_at = TaskCheckpoint(task.context).read()["sent_at"]
    assert time.time() - sent_at == pytest.approx(pause, abs=10)


class LostAndOthersCreate(Proxy):
    """Loses the first create without processing it, while somebody else creates a record."""

    def __init__(self, url: str, hook: WebcamconsultHook, kind: str, attributes: Any) -> None:
        super().__init__(url)
        self.create = getattr(hook, kind).create
        self.attributes = attributes
        self.created: list[str] = []

    def handle(self, request: ProxiedRequest) -> None:
        if request.method == "POST" and not self.created:
            request.read()
            self.created.append(self.create(self.attributes)["id"])
            request.disconnect()
        else:
            super().handle(request)


@each_if_exists
def test_lost_create_does_not_take_another_member_of_the_family_that_is_as_new(
    service: Service, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    hook = connect(service.url, service.token)
    family: Any = {"email": "family@example.com"}
    with LostAndOthersCreate(service.url, hook, "clients", {**family, **JAN}) as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultConflictError, match="differs in first_name") as raised:
            create_client(task, {**family, **PIET}, if_exists=if_exists)
    assert raised.value.ids == proxy.created
    assert [record["first_name"] for record in service.records("clients")] == ["Jan"]


@pytest.mark.parametrize("if_exists", ["create", "reuse", "update", "fail"])
def test_appointment_that_no_response_has_shown_is_not_deleted_because_of_an_overlap(
    service: Service, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    hook = connect(service.url, service.token)

    class OthersBook(LostAndOthersCreate):
        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST" and not self.created:
                other: Any = {**CONSULT, "client_id": "c2"}
                hook.appointments.create(other)
            super().handle(request)

    with OthersBook(service.url, hook, "appointments", CONSULT) as proxy:
        connect(proxy.url, service.token)
        with pytest.raises(WebcamconsultConflictError, match="Move or delete one of them"):
            book(task, if_exists=if_exists, if_overlaps="fail")
    assert len(service.records("appointments")) == 2


@each_next_try
@pytest.mark.parametrize("if_exists", ["reuse", "update", "fail"])
def test_next_try_of_one_that_has_sent_nothing_does_not_count_an_existing_client_as_its_own(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str, next_try: str
) -> None:
    existing = hook.clients.create(ALDERS)["id"]
    for _ in range(2):
        if if_exists == "fail":
            with pytest.raises(WebcamconsultConflictError, match="already exists") as raised:
                create_client(task, ALDERS, if_exists=if_exists)
            assert raised.value.ids == [existing]
        else:
            assert create_client(task, ALDERS, if_exists=if_exists) == existing
            assert task.xcoms["outcome"] in ("reused", "unchanged")
        getattr(task, next_try)()
    assert len(service.records("clients")) == 1


def test_only_a_clear_lets_a_client_without_a_natural_key_be_created_again(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    # Airflow may not get to know that the task failed without a retry, and then retries it.
    class LostPost(Proxy):
        def handle(self, request: ProxiedRequest) -> None:
            if request.method == "POST":
                request.forward()
            else:
                super().handle(request)

    with LostPost(service.url) as proxy:
        connect(proxy.url, service.token)
        for _ in range(3):
            with pytest.raises(WebcamconsultUnknownOutcomeError, match="clear this task"):
                create_client(task, JAN)
            task.retry()
    connect(service.url, service.token)
    task.clear()
    created = create_client(task, JAN)
    assert [record["id"] for record in service.records("clients")][1:] == [created]


def test_cleared_task_whose_first_request_fails_is_still_cleared_in_its_retry(
    service: Service, connect: Connect, task: TaskInstance
) -> None:
    connect(service.url, service.token)
    alders = create_client(task, ALDERS)
    task.clear()
    connect("http://127.0.0.1:9", service.token, retries=0)
    with pytest.raises(WebcamconsultError):
        create_client(task, BAKKER)
    connect(service.url, service.token)
    task.retry()
    bakker = create_client(task, BAKKER)
    assert [record["id"] for record in service.records("clients")] == [alders, bakker]
    # The clear counts once.
    task.retry()
    with pytest.raises(WebcamconsultConflictError, match="with other attributes"):
        create_client(task, ALDERS)


def test_clear_counts_once_if_nothing_has_changed(hook: WebcamconsultHook, task: TaskInstance) -> None:
    created = create_client(task, ALDERS)
    task.clear()
    assert create_client(task, ALDERS) == created
    task.retry()
    with pytest.raises(WebcamconsultConflictError, match="with other attributes"):
        create_client(task, BAKKER)
