"""What may be sent for each kind of attribute, and as what."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pendulum
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_webcamconsult.api.missing import is_no_key, is_no_value
from airflow_provider_webcamconsult.api.payload import (
    JSON_MAX_LEVELS,
    check_attributes,
    check_fields,
    check_id,
    serialize_attributes,
)
from airflow_provider_webcamconsult.api.resources import APPOINTMENT, CLIENT, USER, Resource
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError

AMSTERDAM = pendulum.timezone("Europe/Amsterdam")
HELSINKI = pendulum.timezone("Europe/Helsinki")
RESOURCES: tuple[Resource[Any, Any], ...] = (USER, CLIENT, APPOINTMENT)


def serialize(resource: Resource[Any, Any], name: str, value: Any, zone: Any = AMSTERDAM) -> Any:
    return serialize_attributes(resource, {name: value}, zone=zone)[name]


def warnings(resource: Resource[Any, Any], attributes: Any, record_id: str | None = "an-id") -> list[str]:
    return check_attributes(resource, attributes, record_id=record_id)


NO_VALUES = [
    "None",
    "none",
    " NONE ",
    "nan",
    "NaN",
    "-nan",
    "NaT",
    "<NA>",
    "#N/A",
    "#N/A N/A",
    "-1.#IND",
    "1.#QNAN",
    "null",
    "nil",
    "undefined",
    "n/a",
    "-",
    "--",
    "?",
    "...",
    "0",
    "000",
    "0.0",
    "0000-00-00",
    "onbekend",
    "n.v.t.",
    "nvt",
    "Geen",
    "\N{FULLWIDTH LATIN SMALL LETTER N}ull",
    "'None'",
]
VALUES = ["Alders", "a@example.com", "10", "0031", "DL-0", "Geenen", "Nanda", "Noneman", "x", "医師"]


@pytest.mark.parametrize("text", ["", "  ", *NO_VALUES])
def test_text_without_a_value_is_recognized(text: str) -> None:
    assert is_no_value(text)


@pytest.mark.parametrize("text", VALUES)
def test_ordinary_text_has_a_value(text: str) -> None:
    assert not is_no_value(text)


def test_attribute_under_two_names_with_different_values_is_an_error() -> None:
    attributes = {"email": "a@example.com", "emails": "b@example.com"}
    with pytest.raises(WebcamconsultInputError, match="'email' twice"):
        check_attributes(USER, attributes)


NO_KEYS = [
    *("#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#N/A", "1.23457E+09", "1,2E+11", "1E+12"),
    *("DL-None", "None-None", "None, None", "DL_nan", "undefined/undefined", "nan.0"),
    *("[object Object]", "{{ code }}", "DL-{{ params.code }}", "{% if code %}", "True", "FALSE", "NotSet"),
    *("(blank)", "leeg", "Niets", "not available", "niet van toepassing", "\u3164", "\u115f ", "\u200b"),
]
KEYS = [
    *VALUES,
    *(
        "DL-1042",
        "1E5",
        "12E+A",
        "#42",
        "NANNE-1",
        "Nonesuch",
        "null7",
        "nan.goldin@example.com",
        "A{1}",
        "Ware",
    ),
]


@pytest.mark.parametrize("text", ["", " ", *NO_VALUES, *NO_KEYS])
def test_text_that_identifies_nothing_is_recognized(text: str) -> None:
    assert is_no_key(text)


@pytest.mark.parametrize("text", KEYS)
def test_ordinary_text_can_be_a_key(text: str) -> None:
    assert not is_no_key(text)


@pytest.mark.parametrize("text", ["", " ", *NO_VALUES])
@pytest.mark.parametrize(
    ("resource", "name"),
    [
        (USER, "email"),
        (USER, "emails"),
        (CLIENT, "email"),
        (CLIENT, "reference_code"),
        (APPOINTMENT, "user_id"),
        (APPOINTMENT, "client_id"),
        (APPOINTMENT, "division_id"),
        (APPOINTMENT, "date"),
        (CLIENT, "date_of_birth"),
    ],
)
def test_a_key_or_an_id_without_a_value_is_rejected(resource: Any, name: str, text: str) -> None:
    with pytest.raises(WebcamconsultInputError, match=f"^Attribute '{name.rstrip('s')}' is "):
        serialize(resource, name, text)


@pytest.mark.parametrize(("resource", "name"), [(USER, "email"), (CLIENT, "reference_code")])
def test_none_means_that_there_is_no_key(resource: Any, name: str) -> None:
    assert serialize(resource, name, None) is None


@pytest.mark.parametrize("text", NO_VALUES)
def test_other_text_without_a_value_is_sent_with_a_warning(text: str) -> None:
    assert serialize(CLIENT, "last_name", text) == text
    (warning,) = warnings(CLIENT, {"last_name": text, "initials": "T"})
    assert "missing value: last_name." in warning


def test_blank_text_is_sent_without_a_warning() -> None:
    assert warnings(CLIENT, {"surname_prefix": "", "titles": " "}) == []


@pytest.mark.parametrize("text", NO_VALUES)
def test_an_id_of_a_record_without_a_value_is_rejected(text: str) -> None:
    with pytest.raises(WebcamconsultInputError, match=r"^client_id is "):
        check_id(CLIENT, text)


class NoTruth:
    """As pandas' NA and numpy's arrays: a comparison has no truth, and there is no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> Any:
        return self

    def __ne__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    def __repr__(self) -> str:
        return "NoTruth()"


@pytest.mark.parametrize("value", [NoTruth(), [], {}, b"abc", 5, 1.5, True, object()], ids=type)
def test_an_id_of_another_type_is_rejected(value: Any) -> None:
    for check in (
        lambda: check_id(CLIENT, value),
        lambda: serialize(APPOINTMENT, "user_id", value),
        lambda: serialize(CLIENT, "division_ids", [value]),
        lambda: warnings(CLIENT, {"id": value, "last_name": "x"}),
    ):
        with pytest.raises(WebcamconsultInputError):
            check()


@pytest.mark.parametrize("fields", [[["id"]], [NoTruth()], NoTruth(), [None], [1], [{}]], ids=str)
def test_fields_of_another_type_are_rejected(fields: Any) -> None:
    with pytest.raises(WebcamconsultInputError, match=r"^fields must be a list of attribute names"):
        check_fields(CLIENT, fields)


@pytest.mark.parametrize(
    "name", ["user_id", "client_id", "created_by_user_id", "division_id", "questionnaire_id"]
)
@pytest.mark.parametrize("value", ["abc\n", "../users", "a/b", "a b", "null", "é"])
def test_an_id_in_the_attributes_is_checked_as_an_id(name: str, value: str) -> None:
    with pytest.raises(WebcamconsultInputError, match=f"^Attribute '{name}' "):
        serialize(APPOINTMENT, name, value)
    with pytest.raises(WebcamconsultInputError, match=r"^Item 2 of attribute 'division_ids' "):
        serialize(CLIENT, "division_ids", ["d1", value])


@pytest.mark.parametrize("value", ["d1", {"d1"}, {"d1": 1}, 5, b"d1"], ids=type)
def test_ids_are_a_list(value: Any) -> None:
    with pytest.raises(WebcamconsultInputError, match=r"division_ids' is of type \w+\. Pass a list of ids"):
        serialize(CLIENT, "division_ids", value)


@pytest.mark.parametrize("name", APPOINTMENT.expected_in_create)
def test_a_new_appointment_has_no_none_where_it_needs_a_value(name: str) -> None:
    attributes: Any = {"user_id": "u1", "client_id": "c1", "date": "2030-03-01T09:30", name: None}
    with pytest.raises(WebcamconsultInputError, match=f"None was given for {name}. An upstream task was"):
        warnings(APPOINTMENT, attributes, record_id=None)
    assert warnings(APPOINTMENT, attributes) == []


def test_a_new_appointment_that_lacks_attributes_is_warned_of() -> None:
    (warning,) = warnings(APPOINTMENT, {"client_id": "c1"}, record_id=None)
    assert "has no user_id and date" in warning
    assert warnings(APPOINTMENT, {"client_id": "c1"}) == []
    assert warnings(CLIENT, {"last_name": "x"}, record_id=None) == []


def test_the_types_come_from_the_annotations() -> None:
    assert set(USER.texts) == set(USER.writable)
    assert set(CLIENT.texts) == set(CLIENT.writable) - {
        "external",
        "date_of_birth",
        "division_ids",
        "reference_code",
    }
    assert list(CLIENT.codes) == ["reference_code"]
    assert list(APPOINTMENT.numbers) == ["duration"]
    assert not [*APPOINTMENT.texts, *APPOINTMENT.codes]


@pytest.mark.parametrize(
    "value", [31612345678, 1.5, True, b"06", ["06"], {}, NoTruth(), float("inf")], ids=type
)
def test_only_text_is_sent_as_text(value: Any) -> None:
    with pytest.raises(WebcamconsultInputError, match=r"^Attribute 'mobile_number' is of type ") as error:
        serialize(CLIENT, "mobile_number", value)
    assert "render_template_as_native_obj=True" not in str(error.value)


@pytest.mark.parametrize(("value", "sent"), [(123, "123"), ("0123", "0123"), (-5, "-5"), (2**53, str(2**53))])
def test_a_reference_code_is_sent_as_text(value: Any, sent: str) -> None:
    assert serialize(CLIENT, "reference_code", value) == sent


@pytest.mark.parametrize(
    "value", [123.0, float("nan"), 1e20, True, False, 0, 10**20, 10**5000, Fraction(2), ["1"]], ids=type
)
def test_what_is_not_a_reference_code_is_rejected(value: Any) -> None:
    with pytest.raises(WebcamconsultInputError, match=r"^Attribute 'reference_code' is "):
        serialize(CLIENT, "reference_code", value)


@pytest.mark.parametrize("value", [30, 30.0, 60 / 2, "30", "30.0", " 30 ", "30.", Fraction(30)], ids=repr)
def test_a_duration_is_sent_as_a_whole_number(value: Any) -> None:
    sent = serialize(APPOINTMENT, "duration", value)
    assert (sent, type(sent)) == (30, int)


@pytest.mark.parametrize(
    "value",
    [
        "abc",
        30.5,
        "30.5",
        True,
        -30,
        "-30",
        "1e3",
        "inf",
        float("nan"),
        float("inf"),
        "",
        "None",
        "٣٠",
        [30],
        10**400,
        "9" * 5000,
        NoTruth(),
    ],
    ids=type,
)
def test_what_is_not_a_duration_is_rejected(value: Any) -> None:
    with pytest.raises(WebcamconsultInputError, match=r"^Attribute 'duration' is not a whole number"):
        serialize(APPOINTMENT, "duration", value)


class Lazy(Sequence[Any]):
    """As Airflow's LazyXComSequence: a sequence that is not a list."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"Lazy{self.items}"


class Colour(str, enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ((1, (2, "a")), [1, [2, "a"]]),
        (Lazy("a", Lazy("b")), ["a", ["b"]]),
        ({1: "a", "b": Lazy()}, {"1": "a", "b": []}),
        ({1.5: "a", None: "b", False: "c"}, {"1.5": "a", "null": "b", "false": "c"}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        ([Colour.RED], ["red"]),
    ],
    ids=str,
)
def test_a_value_is_sent_as_json_has_it(value: Any, sent: Any) -> None:
    assert serialize(APPOINTMENT, "inloop_json", value) == sent
    assert serialize(CLIENT, "division_ids", Lazy("d1", "d2")) == ["d1", "d2"]
    assert serialize(CLIENT, "division_ids", ("d1",)) == ["d1"]


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"a"},
        [{"a"}],
        b"a",
        object(),
        float("nan"),
        {"a": float("inf")},
        {(1, 2): "a"},
        {float("nan"): 1},
        {1: 2, "1": 3},
        10**5000,
        NoTruth(),
        nested(JSON_MAX_LEVELS - 1),
    ],
    ids=type,
)
def test_what_json_cannot_have_is_rejected(value: Any) -> None:
    with pytest.raises(WebcamconsultInputError, match="that JSON cannot represent"):
        serialize(CLIENT, "external", value)


def test_a_body_has_as_many_levels_as_rails_accepts() -> None:
    body = {"client": serialize_attributes(CLIENT, {"external": nested(JSON_MAX_LEVELS - 2)}, zone=AMSTERDAM)}
    text = json.dumps(body)
    assert text.count("[") + text.count("{") == JSON_MAX_LEVELS


# Dates


@pytest.mark.parametrize(
    "text",
    [
        "2030-03-01T09:30.5",
        "2030-03-01T09:30,5Z",
        "2030-03-01T09.5",
        "2030-03-01T09:30.5+01:00",
        "2030-060",
        "2030-W10-5T09:30",
        "+12030-03-01T09:30",
    ],
)
def test_iso_8601_that_would_be_misread_is_rejected(text: str) -> None:
    with pytest.raises(WebcamconsultInputError, match="not a valid ISO 8601 date"):
        serialize(APPOINTMENT, "date", text)


@pytest.mark.parametrize("zone", [HELSINKI, pendulum.timezone("America/New_York"), AMSTERDAM], ids=str)
def test_a_birth_date_is_a_day_in_the_zone_of_the_service(zone: Any) -> None:
    assert serialize(CLIENT, "date_of_birth", "1984-12-18", zone) == "1984-12-18T00:00:00.000+01:00"
    assert serialize(CLIENT, "date_of_birth", "1984-12-18T00:00", zone) == "1984-12-18T00:00:00.000+01:00"


@pytest.mark.parametrize(
    "value",
    [
        pendulum.datetime(1984, 12, 18, tz=HELSINKI),
        "1984-12-18T00:00+02:00",
        "1984-12-18T23:30Z",
        "1930-12-18T00:00+02:00",
    ],
    ids=str,
)
def test_a_birth_date_that_is_another_day_for_the_service_is_rejected(value: Any) -> None:
    with pytest.raises(WebcamconsultInputError, match=r"is a different day in Europe/Amsterdam") as error:
        serialize(CLIENT, "date_of_birth", value)
    assert "18" not in str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        "1984-12-17T23:00Z",
        "1984-12-18T00:00-05:00",
        "1936-07-01T00:00:00.000+01:19",
        "1900-01-01T00:00:00.000+00:19",
        "1938-01-01T00:00+00:20",
    ],
)
def test_a_birth_date_that_is_the_same_day_for_the_service_is_sent(value: str) -> None:
    assert serialize(CLIENT, "date_of_birth", value)


# Any value of any attribute

JSON_LIKE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(max_size=3),
        st.sampled_from(["None", "30", "a-1", "2030-03-01T09:30", "2030-03-01"]),
        st.dates(),
        st.datetimes(),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=3),
        st.tuples(children),
        st.builds(Lazy, children),
        st.sets(st.integers(), max_size=2),
        st.dictionaries(
            st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()), children, max_size=3
        ),
    ),
    max_leaves=8,
)
ATTRIBUTE = st.sampled_from(
    [
        (resource, name)
        for resource in RESOURCES
        for name in [*resource.writable, "unknown", "some_id", "some_ids"]
    ]
)


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(ATTRIBUTE, JSON_LIKE)
def test_any_value_is_rejected_or_sent_as_stable_json(attribute: tuple[Any, str], value: Any) -> None:
    resource, name = attribute
    try:
        payload = serialize_attributes(resource, {name: value}, zone=AMSTERDAM)
    except WebcamconsultInputError:
        return
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload
    assert serialize_attributes(resource, payload, zone=AMSTERDAM) == payload
    if name in resource.texts or name in resource.codes:
        assert payload[name] is None or type(payload[name]) is str
    if name in resource.numbers:
        assert payload[name] is None or type(payload[name]) is int
    assert not isinstance(payload[name], tuple)
    assert not isinstance(payload[name], Mapping) or type(payload[name]) is dict
