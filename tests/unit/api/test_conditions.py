"""Which records `where` selects."""

from __future__ import annotations

import datetime
from typing import Any

import pendulum
import pytest

from airflow_provider_webcamconsult.api.conditions import matches, parse_conditions
from airflow_provider_webcamconsult.api.resources import APPOINTMENT, CLIENT, USER, Resource
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError

AMSTERDAM = pendulum.timezone("Europe/Amsterdam")
CONSULT = {
    "id": "a1",
    "user_id": "u1",
    "client_id": "c1",
    "date": "2030-03-01T09:30:00.000+01:00",
    "duration": 30,
    "state": "idle",
    "division_id": None,
    "external_participant_ids": [],
    "inloop_json": {"email": "t.de.ester@example.com"},
}
PATIENT = {
    "id": "c1",
    "reference_code": "12",
    "email": "T.de.Ester@example.com",
    "date_of_birth": "1984-12-18T00:00:00.000+01:00",
    "division_ids": ["d1", "d2"],
    "external": True,
}


def is_selected(resource: Resource[Any, Any], where: Any, record: dict[str, Any]) -> bool:
    return matches(resource, parse_conditions(resource, where, zone=AMSTERDAM), record)


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"state": "idle"},
        {"state": ["idle", "started"]},
        {"state": {"idle"}, "user_id": "u1"},
        {"duration": 30},
        {"duration": "30"},
        {"date": "2030-03-01T09:30"},
        {"date": "2030-03-01T08:30Z"},
        {"date": datetime.datetime(2030, 3, 1, 8, 30, tzinfo=datetime.timezone.utc)},
        {"division_id": None},
        {"division_id": [None, "d1"]},
        {"created_by_user_id": None},
        {"external_participant_ids": None},
    ],
    ids=str,
)
def test_appointment_with_all_values_is_selected(where: dict[str, Any]) -> None:
    assert is_selected(APPOINTMENT, where, CONSULT)


@pytest.mark.parametrize(
    "where",
    [
        {"state": "finished"},
        {"state": []},
        {"state": "idle", "user_id": "u2"},
        {"state": None},
        {"duration": 300},
        {"date": "2030-03-01T10:30"},
        {"division_id": "d1"},
        {"inloop_json": "t.de.ester@example.com"},
        {"inloop_json": None},
    ],
    ids=str,
)
def test_appointment_without_one_of_the_values_is_left_out(where: dict[str, Any]) -> None:
    assert not is_selected(APPOINTMENT, where, CONSULT)


@pytest.mark.parametrize(
    ("where", "selected"),
    [
        ({"reference_code": 12}, True),
        ({"email": "t.de.ester@EXAMPLE.com"}, True),
        ({"date_of_birth": "1984-12-18"}, True),
        ({"date_of_birth": datetime.date(1984, 12, 18)}, True),
        ({"date_of_birth": "1984-12-19"}, False),
        ({"external": True}, True),
        ({"external": False}, False),
        ({"division_ids": "d2"}, True),
        ({"division_ids": ["d3", "d1"]}, True),
        ({"division_ids": "d3"}, False),
        ({"division_ids": None}, False),
    ],
    ids=str,
)
def test_values_compare_as_the_service_stores_them(where: dict[str, Any], selected: bool) -> None:
    assert is_selected(CLIENT, where, PATIENT) is selected


@pytest.mark.parametrize(
    ("resource", "where", "problem"),
    [
        (CLIENT, {"lastname": "de Ester"}, r"'lastname', which is not an .* Did you mean 'last_name'\?"),
        (USER, {"xyz": 1}, r"'xyz', which is not an attribute of a user\. Use one of: titles, "),
        (APPOINTMENT, {"token": "s3cret"}, r"'token', which is not an attribute of an appointment"),
        (APPOINTMENT, {"client_id": "None"}, r"for 'client_id' that stands for a missing value"),
        (APPOINTMENT, {"client_id": ["c1", ""]}, r"for 'client_id' that stands for a missing value"),
        (APPOINTMENT, {"date": "soon"}, r"date"),
        (APPOINTMENT, {"date": "2030-03-01"}, r"has to be equal .* compare their dates in .*task\."),
        (APPOINTMENT, {"date": datetime.date(2030, 3, 1)}, r"a day without a time for 'date'"),
        (APPOINTMENT, {"created_at": datetime.datetime(2030, 1, 1)}, r"Use its text as the service returns"),
        (CLIENT, {"external": {"a": "s3cret"}}, r"a value of type dict for 'external', which cannot be"),
        (CLIENT, "s3cret", r"where must be a dict of attribute names and values, not str\."),
        (CLIENT, None, r"where must be a dict"),
    ],
    ids=str,
)
def test_invalid_condition_is_an_error_that_shows_no_value(
    resource: Resource[Any, Any], where: Any, problem: str
) -> None:
    with pytest.raises(WebcamconsultInputError, match=problem) as raised:
        parse_conditions(resource, where, zone=AMSTERDAM)
    assert "s3cret" not in str(raised.value)
