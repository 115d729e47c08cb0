"""What proves that a record is the one that a create was to make, and what disputes it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_webcamconsult.api import resources
from airflow_provider_webcamconsult.api.evidence import Sent, Target
from airflow_provider_webcamconsult.exceptions import WebcamconsultConflictError

# Their types would ask for complete records.
CLIENT: Any = resources.CLIENT
APPOINTMENT: Any = resources.APPOINTMENT
NOW = 1_900_000_000.0
DAY = 86_400


def object_id(age: float = 0) -> str:
    return f"{int(NOW - age):08x}{0:016x}"


NEW, OLD = object_id(), object_id(2 * DAY)
JUST_SENT = Sent(NOW - 1, until=NOW)
FAMILY: Any = {"email": "family@example.com", "last_name": "Alders"}
JAN: Any = {**FAMILY, "first_name": "Jan"}
CODE: Any = {"reference_code": "DL-1", "last_name": "Alders"}
CONSULT: Any = {"user_id": "u1", "client_id": "c1", "date": "2030-03-01T09:30:00.000+01:00"}


@pytest.mark.parametrize(
    ("payload", "record", "sent", "problem"),
    [
        (CODE, {**CODE, "id": NEW}, JUST_SENT, None),
        (CODE, {"id": NEW}, JUST_SENT, "no reference_code on client"),
        (CODE, {**CODE, "id": NEW, "last_name": "Bakker"}, JUST_SENT, None),
        (CODE, {**CODE, "id": NEW, "reference_code": None}, JUST_SENT, "different reference_code"),
        (CODE, {**CODE, "id": NEW, "reference_code": "DL-2"}, JUST_SENT, "different reference_code"),
        (CODE, {**CODE, "id": OLD}, JUST_SENT, "unless the clock of this machine is wrong"),
        (CODE, {**CODE, "id": OLD}, Sent(NOW - 1, until=NOW, ids_before=()), None),
        (CODE, {**CODE, "id": OLD}, Sent(), None),
        (CODE, {**CODE, "id": NEW}, Sent(NOW - 1, until=NOW, ids_before={NEW}), "which existed before"),
        (JAN, {**JAN, "id": NEW, "first_name": "Piet"}, JUST_SENT, "different first_name"),
        (JAN, {**FAMILY, "id": NEW}, JUST_SENT, None),
        (JAN, {**JAN, "id": NEW, "first_name": None}, JUST_SENT, "different first_name"),
        ({**JAN, "initials": " "}, {**JAN, "id": NEW, "initials": None}, JUST_SENT, None),
        (JAN, {**JAN, "id": NEW, "reference_code": "DL-2"}, JUST_SENT, None),
        ({"last_name": "A"}, {"id": NEW, "last_name": "B"}, JUST_SENT, "different last_name"),
        ({"last_name": "A"}, {"id": NEW, "last_name": "a."}, JUST_SENT, None),
        (CONSULT, {**CONSULT, "id": NEW, "state": "finished"}, JUST_SENT, None),
        (CONSULT, {**CONSULT, "id": object_id(3600), "state": "finished"}, JUST_SENT, "in state 'finished'"),
        (CONSULT, {**CONSULT, "id": NEW, "date": "2030-03-01T08:30:00Z"}, JUST_SENT, None),
        (CONSULT, {**CONSULT, "id": NEW, "client_id": "c2"}, JUST_SENT, "different client_id"),
    ],
)
def test_response_is_disputed(payload: Any, record: Any, sent: Sent, problem: str | None) -> None:
    resource = APPOINTMENT if "user_id" in payload else CLIENT
    dispute = Target(resource, payload).find_dispute(record, sent)
    shown = dispute and dispute.problem
    assert (problem in shown) if problem and shown else shown == problem


@pytest.mark.parametrize(
    ("payload", "record", "sent", "problem"),
    [
        (CODE, {**CODE, "id": OLD, "last_name": "Bakker"}, Sent(), None),
        (JAN, {**JAN, "id": OLD}, Sent(), None),
        (JAN, {**JAN, "id": OLD, "first_name": "Piet"}, Sent(), "differs in first_name"),
        (JAN, {**FAMILY, "id": OLD}, Sent(), "no other attribute confirms"),
        (JAN, {**FAMILY, "id": NEW}, JUST_SENT, "no other attribute confirms"),
        (FAMILY, {**FAMILY, "id": NEW}, JUST_SENT, None),
        (JAN, {**JAN, "id": NEW, "first_name": "Piet"}, JUST_SENT, "differs in first_name"),
    ],
)
def test_person_is_confirmed(payload: Any, record: Any, sent: Sent, problem: str | None) -> None:
    found = Target(CLIENT, payload).find_person_problem(record, sent)
    assert (problem in found) if problem and found else found == problem


@pytest.mark.parametrize("stored", ["DL-2", "None"])
def test_reference_code_tells_people_with_the_same_email_apart(stored: str) -> None:
    target = Target(CLIENT, {**JAN, "reference_code": "DL-1"}, key_name="email")
    found = target.find_person_problem({**JAN, "id": OLD, "reference_code": stored}, Sent())
    assert found == (None if stored == "None" else "differs in reference_code. It may be a different person")


@pytest.mark.parametrize(
    ("record", "sent", "is_own"),
    [
        ({**CODE, "id": NEW}, JUST_SENT, True),
        ({"id": NEW}, JUST_SENT, False),
        ({**CODE, "id": "no-time"}, JUST_SENT, False),
        ({**CODE, "id": object_id(120)}, JUST_SENT, False),
        ({**CODE, "id": NEW}, Sent(), False),
        ({**CODE, "id": NEW}, Sent(NOW - 1, until=NOW, ids_before={NEW}), False),
    ],
)
def test_only_what_was_provably_created_is_own(record: Any, sent: Sent, is_own: bool) -> None:
    assert Target(CLIENT, CODE).is_own(record, sent) is is_own


@pytest.mark.parametrize("shown", [{**FAMILY}, {**JAN, "first_name": None}, {**JAN, "first_name": "Piet"}])
def test_shared_email_proves_nothing_without_what_tells_people_apart(shown: Any) -> None:
    assert Target(CLIENT, JAN).is_own({**JAN, "id": NEW}, JUST_SENT)
    assert not Target(CLIENT, JAN).is_own({**shown, "id": NEW}, JUST_SENT)


def test_rival_is_only_the_same_person() -> None:
    own, piet = {**JAN, "id": "b"}, {**JAN, "id": "c", "first_name": "Piet"}
    target = Target(CLIENT, JAN)
    assert target.select_rivals(own, [own, piet]) == []
    assert target.select_rivals(own, [own, piet, {**FAMILY, "id": "a"}]) == [{**FAMILY, "id": "a"}]
    with pytest.raises(WebcamconsultConflictError) as raised:
        target.select_rivals(own, [own, {**JAN, "id": "a"}, {**JAN, "id": "d"}])
    assert raised.value.ids == ["b", "a", "d"]
