"""What identifies a record: strong and weak natural keys, responses, states and the time of creation."""

from __future__ import annotations

import contextlib
import datetime
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_webcamconsult import idempotent_create
from airflow_provider_webcamconsult.api.matching import (
    existed_before,
    natural_key,
    normalize,
    was_created_before,
    was_created_between,
    was_created_since,
)
from airflow_provider_webcamconsult.api.resources import APPOINTMENT, CLIENT
from airflow_provider_webcamconsult.create_result import IF_EXISTS
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConflictError,
    WebcamconsultError,
    WebcamconsultMismatchError,
)
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import WebcamconsultCreateClientOperator
from airflow_provider_webcamconsult.version_compat import AirflowFailException
from tests.unit.idempotent_create.airflow_task import TaskInstance

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Serve, Service, Step

CONSULT: Any = {"user_id": "u1", "client_id": "c1", "date": "2030-03-01T09:30:00.000+01:00", "duration": 30}
PERSON: Any = {
    "email": "family@example.com",
    "first_name": "Anna",
    "initials": "A.",
    "last_name": "Alders",
    "gender": "female",
    "date_of_birth": "1984-12-18",
}
EMAIL_ONLY: Any = {"email": "family@example.com"}

reuse_or_update = pytest.mark.parametrize("if_exists", ["reuse", "update"])


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotent_create, "LOOKUP_DELAYS_SECONDS", (0.0, 0.001))
    monkeypatch.setattr(idempotent_create, "LOOKUP_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(idempotent_create, "CREATE_FLOOR_SECONDS", 0.05)


@pytest.fixture
def task() -> TaskInstance:
    return TaskInstance(has_store=True)


def book(task: TaskInstance, **arguments: Any) -> str:
    operator = WebcamconsultCreateAppointmentOperator(task_id="book", attributes=CONSULT, **arguments)
    record_id: str = operator.execute(task.context)
    return record_id


# -- A shared e-mail address ---------------------------------------------------------------------------------


@reuse_or_update
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("last_name", "Bakker"),
        ("first_name", "Bram"),
        ("initials", "B."),
        ("gender", "male"),
        ("date_of_birth", "2014-12-18"),
        ("surname_prefix", "van"),
    ],
)
def test_shared_email_does_not_merge_people_who_differ(
    hook: WebcamconsultHook, service: Service, if_exists: Any, name: str, value: str
) -> None:
    first: Any = {**PERSON, "surname_prefix": "de"}
    second: Any = {**first, name: value}
    hook.clients.create(first)
    before = service.records("clients")
    with pytest.raises(WebcamconsultConflictError, match=f"differs in {name}") as raised:
        hook.clients.create(second, if_exists=if_exists)
    assert isinstance(raised.value, AirflowFailException)
    assert raised.value.ids == [before[0]["id"]]
    assert value not in str(raised.value)
    assert service.records("clients") == before


@reuse_or_update
@pytest.mark.parametrize(
    "attributes",
    [
        EMAIL_ONLY,
        {**EMAIL_ONLY, "last_name": "Alders", "initials": "A."},
        {**EMAIL_ONLY, "gender": "female", "titles": "Dr."},
    ],
    ids=["alone", "and a name that a family can share", "and a gender"],
)
def test_shared_email_alone_does_not_identify_a_client(
    hook: WebcamconsultHook, service: Service, if_exists: Any, attributes: Any
) -> None:
    hook.clients.create(PERSON)
    before = service.records("clients")
    with pytest.raises(WebcamconsultConflictError, match="no other attribute confirms"):
        hook.clients.create(attributes, if_exists=if_exists)
    assert service.records("clients") == before


@pytest.mark.parametrize(
    "attributes",
    [
        PERSON,
        {**EMAIL_ONLY, "initials": "a", "first_name": "ANNA "},
        {"email": "Family@Example.com ", "date_of_birth": "1984-12-18"},
    ],
)
def test_shared_email_identifies_a_client_that_another_attribute_confirms(
    hook: WebcamconsultHook, service: Service, attributes: Any
) -> None:
    created = hook.clients.create(PERSON)
    assert hook.clients.create(attributes, if_exists="reuse")["id"] == created["id"]
    assert len(service.records("clients")) == 1


@reuse_or_update
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("first_name", "nan"),
        ("first_name", "None"),
        ("first_name", "-"),
        ("first_name", "onbekend"),
        ("date_of_birth", "1900-01-01"),
        ("date_of_birth", "1970-01-01"),
    ],
)
def test_value_that_stands_for_an_unknown_one_confirms_nobody(
    hook: WebcamconsultHook, service: Service, if_exists: Any, name: str, value: str
) -> None:
    first: Any = {**EMAIL_ONLY, name: value, "mobile_number": "0611111111"}
    second: Any = {**first, "mobile_number": "0622222222"}
    hook.clients.create(first)
    before = service.records("clients")
    with pytest.raises(WebcamconsultConflictError, match="no other attribute confirms"):
        hook.clients.create(second, if_exists=if_exists)
    assert service.records("clients") == before


@reuse_or_update
@pytest.mark.parametrize(
    ("one", "other"), [("राम", "रमा"), ("रीता", "राता"), ("தேவி", "தேவா"), ("สมชัย", "สมชาย"), ("José", "Josè")]
)
def test_names_that_differ_in_a_mark_are_different(
    hook: WebcamconsultHook, service: Service, if_exists: Any, one: str, other: str
) -> None:
    people: list[Any] = [{**EMAIL_ONLY, "first_name": name} for name in (one, other)]
    hook.clients.create(people[0])
    with pytest.raises(WebcamconsultConflictError, match="differs in first_name"):
        hook.clients.create(people[1], if_exists=if_exists)


@pytest.mark.parametrize(
    ("one", "other"), [("strauß@example.com", "strauss@example.com"), ("ﬁn@example.com", "fin@example.com")]
)
def test_addresses_that_differ_in_more_than_case_are_different(
    hook: WebcamconsultHook, service: Service, one: str, other: str
) -> None:
    first = hook.users.create({"email": one, "last_name": "Alders"})
    second = hook.users.create({"email": other, "last_name": "Alders"}, if_exists="reuse")
    assert first["id"] != second["id"]


@reuse_or_update
def test_email_of_a_user_does_not_merge_users_who_differ(hook: WebcamconsultHook, if_exists: Any) -> None:
    hook.users.create({"email": "practice@example.com", "last_name": "Akkermans"})
    with pytest.raises(WebcamconsultConflictError, match="update it by its user_id"):
        hook.users.create({"email": "practice@example.com", "last_name": "Bakker"}, if_exists=if_exists)


def test_reference_code_identifies_a_client_whatever_else_differs(hook: WebcamconsultHook) -> None:
    created = hook.clients.create({"reference_code": "DL-1", "last_name": "Alders"})
    renamed = hook.clients.create({"reference_code": "DL-1", "last_name": "Bakker"}, if_exists="update")
    assert (renamed["id"], renamed["last_name"]) == (created["id"], "Bakker")


_CODES = st.sampled_from(
    [
        None,
        "",
        " ",
        "None",
        "null",
        "nan",
        "DL-1",
        "dl-1",
        " DL-1 ",
        "DL-1\u00a0",
        "Ångström",
        "Ångström",
        1,
        "1",
    ]
)
_EMAILS = st.sampled_from([None, "", "None", "a@example.com", "A@Example.com ", "b@example.com", "NaN"])
_NAMES = st.sampled_from([None, "", "Alders", "alders", "Bakker", "None", 7, True])
_PEOPLE = st.fixed_dictionaries(
    {},
    optional={
        "reference_code": _CODES,
        "email": _EMAILS,
        "last_name": _NAMES,
        "initials": st.sampled_from([None, "A.", "a", "B."]),
        "date_of_birth": st.sampled_from([None, "1984-12-18", "2014-12-18"]),
    },
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_PEOPLE, _PEOPLE, st.sampled_from(["reuse", "update", "fail"]))
def test_create_with_a_look_up_never_returns_or_changes_another_person(
    hook: WebcamconsultHook, service: Service, first: Any, second: Any, if_exists: Any
) -> None:
    for client in service.records("clients"):
        hook.clients.delete(client["id"])
    with contextlib.suppress(WebcamconsultError):
        hook.clients.create(first)
    before = {record["id"]: record for record in service.records("clients")}
    try:
        returned = hook.clients.create(second, if_exists=if_exists)
    except WebcamconsultError:
        assert {record["id"]: record for record in service.records("clients")} == before
        return
    key = natural_key(CLIENT, second)
    assert key is not None
    assert natural_key(CLIENT, returned, like=key) == key
    for record_id, record in before.items():
        after = next(each for each in service.records("clients") if each["id"] == record_id)
        if after != record:
            assert record_id == returned["id"]
            assert natural_key(CLIENT, record, like=key) == key
        if record_id == returned["id"] and key[0][0] == "email":
            for name in ("last_name", "initials", "date_of_birth"):
                sent, stored = (
                    str(values.get(name) or "").lower().strip(". ")[:10] for values in (second, record)
                )
                assert not sent or not stored or sent == stored


# -- Values in another form ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("duration", 30, "30"),
        ("duration", 30.0, "30.0"),
        ("division_ids", ("d1", "d2"), ["d2", "d1"]),
        ("inloop_json", {"a": (1, 2), 3: None}, {"a": [1, 2], "3": None}),
        ("last_name", "Ångström", "Ångström"),
        ("email", " A@example.com", "a@EXAMPLE.com"),
        ("reference_code", 123, "123"),
    ],
)
def test_values_compare_in_the_form_that_the_service_stores(name: str, one: Any, other: Any) -> None:
    resource = APPOINTMENT if name in ("duration", "inloop_json") else CLIENT
    assert normalize(resource, name, one) == normalize(resource, name, other)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("reference_code", "007", "7"),
        ("reference_code", "DL-1", "dl-1"),
        ("reference_code", "1e3", "1000"),
        ("last_name", "30.0", "30"),
        ("duration", True, 1),
    ],
)
def test_values_that_the_service_stores_differently_compare_as_different(
    name: str, one: Any, other: Any
) -> None:
    resource = APPOINTMENT if name == "duration" else CLIENT
    assert normalize(resource, name, one) != normalize(resource, name, other)


@pytest.mark.parametrize("if_exists", IF_EXISTS)
@pytest.mark.parametrize(
    "stored", ["dl-1", "DL-", "DL-1-2026", None], ids=["lower case", "cut", "extended", "dropped"]
)
def test_service_that_changes_the_key_gets_no_second_create(
    serve: Serve, connect: Connect, task: TaskInstance, if_exists: Any, stored: str | None
) -> None:
    record = {"id": "r1", "reference_code": stored, "last_name": "Alders"}
    before: list[Step] = [] if if_exists == "create" else [{"body": []}]
    server = serve(*before, {"body": {"client": record}}, {"body": [record]})
    connect(server.url)
    operator = WebcamconsultCreateClientOperator(
        task_id="create",
        attributes={"reference_code": "DL-1", "last_name": "Alders"},
        if_exists=if_exists,
    )
    with pytest.raises(WebcamconsultMismatchError, match="reference_code on client r1"):
        operator.execute(task.context)
    for _ in range(2):
        task.clear()
        server.steps = [{"body": [record]}, {"body": [record]}, {"body": {"client": record}}]
        with pytest.raises(WebcamconsultMismatchError):
            operator.execute(task.context)
    assert [request.method for request in server.requests].count("POST") == 1


# -- A response that belongs to another request --------------------------------------------------------------


def test_create_finds_its_own_record_if_the_response_shows_another(
    serve: Serve, connect: Connect, task: TaskInstance
) -> None:
    own, others = ({"id": record_id, **CONSULT, "client_id": client} for record_id, client in ("ac", "bd"))
    own["client_id"] = CONSULT["client_id"]
    server = serve({"body": {"appointment": others}}, {"body": [others, own]})
    connect(server.url)
    assert book(task) == own["id"]
    assert task.store.get("webcamconsult_create")["id"] == own["id"]


@pytest.mark.parametrize("if_exists", IF_EXISTS)
def test_create_never_touches_the_record_of_another_response(
    serve: Serve, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    others = {"id": "b", **CONSULT, "client_id": "somebody-else"}
    before: list[Step] = [] if if_exists == "create" else [{"body": []}]
    server = serve(*before, {"body": {"appointment": others}}, {"body": [others]})
    connect(server.url)
    with pytest.raises(WebcamconsultMismatchError, match="belongs to another request") as raised:
        book(task, if_exists=if_exists)
    assert raised.value.attributes == ["client_id"]
    assert isinstance(raised.value, AirflowFailException)
    task.clear()
    server.steps = [{"body": [others]}, {"body": [others]}, {"body": {"appointment": others}}]
    with pytest.raises(WebcamconsultMismatchError):
        book(task, if_exists=if_exists)
    methods = [request.method for request in server.requests]
    assert (methods.count("POST"), methods.count("PUT"), methods.count("DELETE")) == (1, 0, 0)


def test_create_is_sent_again_once_a_person_has_deleted_the_record_of_a_wrong_response(
    serve: Serve, connect: Connect, task: TaskInstance
) -> None:
    others = {"id": "b", **CONSULT, "client_id": "somebody-else"}
    server = serve({"body": {"appointment": others}}, {"body": []})
    connect(server.url)
    with pytest.raises(WebcamconsultMismatchError):
        book(task)
    task.clear()
    not_found: Step = {"status": 404, "body": {"status": 404, "error": "Not Found"}}
    created: Step = {"body": {"appointment": {"id": "a", **CONSULT}}}
    # Looked up before and after the floor; then the wrong record is gone, also from the list.
    server.steps = [{"body": []}, {"body": []}, not_found, {"body": []}, created, {"body": []}]
    assert book(task) == "a"


# -- An appointment that is not in its initial state ---------------------------------------------------------


@pytest.mark.parametrize("if_exists", ["create", "reuse", "update"])
@pytest.mark.parametrize("state", ["cancelled", "finished"])
def test_appointment_that_is_over_does_not_count_as_the_one_just_booked(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str, state: str
) -> None:
    created = hook.appointments.create(CONSULT)["id"]
    service.set_state(created, state)
    # The lost create was sent an hour after that record was created.
    sent_at = time.time() + 3600
    task.store.set("webcamconsult_create", {"sent_at": sent_at, "fingerprint": "unknown"})
    task.retry(after=datetime.timedelta())
    with pytest.raises(WebcamconsultConflictError, match=f"is in state '{state}'") as raised:
        book(task, if_exists=if_exists)
    assert raised.value.ids == [created]


@pytest.mark.parametrize("if_exists", ["create", "reuse", "update"])
def test_appointment_that_was_created_after_the_create_was_sent_counts_whatever_its_state(
    serve: Serve, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    sent_at = time.time() - 30
    record = {"id": f"{int(sent_at) + 2:x}a19ea682ea000001", **CONSULT, "state": "started"}
    server = serve({"body": [record]})
    connect(server.url)
    task.store.set("webcamconsult_create", {"sent_at": sent_at, "fingerprint": "unknown"})
    task.retry(after=datetime.timedelta())
    assert book(task, if_exists=if_exists) == record["id"]
    assert [request.method for request in server.requests] == ["GET"]


@reuse_or_update
def test_existing_appointment_that_was_cancelled_is_not_used_for_a_new_booking(
    hook: WebcamconsultHook, service: Service, task: TaskInstance, if_exists: str
) -> None:
    created = hook.appointments.create(CONSULT)
    service.set_state(created["id"], "cancelled")
    before = service.records("appointments")
    with pytest.raises(WebcamconsultConflictError, match="is in state 'cancelled'"):
        book(task, if_exists=if_exists)
    assert service.records("appointments") == before


@pytest.mark.parametrize(
    ("record", "start", "end", "expected"),
    [
        ({"created_at": "2030-03-01T09:30:00.000+01:00"}, 1898584100.0, 1898584300.0, True),
        ({"created_at": "2030-03-01T09:30:00.000+01:00"}, 1898584300.0, 1898584400.0, False),
        ({"id": f"{1898584200:x}a19ea682ea000001"}, 1898584190.0, 1898584290.0, True),
        ({"id": f"{1898584200:x}a19ea682ea000001"}, 1898584261.0, 1898584290.0, False),
        ({"id": f"{1898584200:x}a19ea682ea000001"}, 1898580000.0, 1898580100.0, False),
        ({"id": f"{1898584200:x}a19ea682ea000001"}, None, 1898584290.0, False),
        ({"id": "u1"}, 0.0, 1898584290.0, False),
        ({"id": "1234567890abcdef12345678"}, 0.0, 1898584290.0, False),  # in 1979, before MongoDB
        ({"id": f"{1898584200:X}A19EA682EA000001"[:-1]}, 0.0, 1898584290.0, False),
        ({"created_at": "garbage", "id": 3}, 0.0, 1898584290.0, False),
    ],
)
def test_creation_time_comes_from_created_at_or_from_the_id(
    record: Any, start: float | None, end: float, expected: bool
) -> None:
    assert was_created_between(record, start, end) is expected


ID_OF_SECOND_1000 = f"{1898584000 + 1000:x}a19ea682ea000001"
CREATED_AT_SECOND_1000 = "2030-03-01T08:43:20.000Z"


@pytest.mark.parametrize(
    "record", [{"id": ID_OF_SECOND_1000}, {"id": "a", "created_at": CREATED_AT_SECOND_1000}]
)
@pytest.mark.parametrize(
    ("second", "existed", "maybe", "certainly"),
    [
        (900.0, False, True, True),
        (1000.0, False, True, True),
        (1040.0, False, False, False),  # within the clocks' difference, nothing is certain
        (1061.5, True, False, False),
        (None, False, False, False),
    ],
)
def test_record_from_just_before_is_neither_older_nor_new(
    record: Any, second: float | None, existed: bool, maybe: bool, certainly: bool
) -> None:
    start = None if second is None else 1898584000 + second
    assert existed_before(record, start) is existed
    assert was_created_since(record, start, 1898586000.0) is maybe
    assert was_created_since(record, start, 1898586000.0, certainly=True) is certainly


def test_id_from_the_same_second_is_not_certainly_new() -> None:
    record = {"id": ID_OF_SECOND_1000}
    assert was_created_since(record, 1898585000.5, 1898586000.0)
    assert not was_created_since(record, 1898585000.5, 1898586000.0, certainly=True)


def test_order_of_creation_is_total() -> None:
    early = {"id": "b", "created_at": "2030-03-01T09:30:00.000+01:00"}
    late = {"id": "a", "created_at": "2030-03-01T08:30:00.001Z"}
    assert was_created_before(early, late)
    assert not was_created_before(late, early)
    assert was_created_before({"id": "a"}, {"id": "b"})
    assert not was_created_before({"id": "b"}, {"id": "a"})
