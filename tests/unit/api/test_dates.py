"""Serialization of dates, which the service never validates: it stores invalid dates as 1970."""

from __future__ import annotations

import datetime
import zoneinfo
from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pendulum
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_webcamconsult.api.dates import serialize_datetime
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import ErrorText, Service

AMSTERDAM = pendulum.timezone("Europe/Amsterdam")
NEW_YORK = pendulum.timezone("America/New_York")
UTC = timezone.utc
# Amsterdam's local time until 1937. The service truncates the seconds of these offsets.
TRUNCATED_OFFSETS = (timedelta(minutes=19), timedelta(minutes=79))


def serialize(value: object) -> str:
    return serialize_datetime(value, name="date", zone=AMSTERDAM)


def serialize_day(value: object) -> str:
    return serialize_datetime(value, name="date_of_birth", zone=AMSTERDAM, day_only=True)


def parse(serialized: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(serialized).astimezone(UTC)


@pytest.mark.parametrize(
    ("value", "serialized"),
    [
        ("2026-03-01T09:30", "2026-03-01T09:30:00.000+01:00"),
        ("2026-07-01 09:30:15", "2026-07-01T09:30:15.000+02:00"),
        ("  2026-03-01T09:30  ", "2026-03-01T09:30:00.000+01:00"),
        ("2026-03-01T09:30Z", "2026-03-01T09:30:00.000+00:00"),
        ("2026-03-01T09:30:00.5+0530", "2026-03-01T09:30:00.500+05:30"),
        ("2026-03-01T09:30:00,5-03", "2026-03-01T09:30:00.500-03:00"),
        ("2015-07-01T15:41:24.306+02:00", "2015-07-01T15:41:24.306+02:00"),
        (datetime.datetime(2026, 3, 1, 9, 30), "2026-03-01T09:30:00.000+01:00"),
        (datetime.datetime(2026, 3, 1, 9, 30, tzinfo=UTC), "2026-03-01T09:30:00.000+00:00"),
        (
            datetime.datetime(2026, 3, 1, 9, 30, tzinfo=ZoneInfo("Asia/Kolkata")),
            "2026-03-01T09:30:00.000+05:30",
        ),
        (pendulum.datetime(2026, 7, 1, 9, 30, tz="Europe/Amsterdam"), "2026-07-01T09:30:00.000+02:00"),
        (pendulum.naive(2026, 7, 1, 9, 30), "2026-07-01T09:30:00.000+02:00"),
    ],
)
def test_datetime_is_serialized_with_milliseconds_and_offset(value: object, serialized: str) -> None:
    assert serialize(value) == serialized


@pytest.mark.parametrize(
    ("value", "serialized"),
    [
        ("1984-12-18", "1984-12-18T00:00:00.000+01:00"),
        (datetime.date(1984, 7, 18), "1984-07-18T00:00:00.000+02:00"),
        (pendulum.date(1984, 7, 18), "1984-07-18T00:00:00.000+02:00"),
        ("2014-12-18T00:00:00.000+01:00", "2014-12-18T00:00:00.000+01:00"),
        ("1984-12-18T08:15", "1984-12-18T08:15:00.000+01:00"),
    ],
)
def test_date_is_serialized_as_midnight_unless_it_has_a_time(value: object, serialized: str) -> None:
    assert serialize_day(value) == serialized


def test_datetime_without_offset_uses_time_zone_of_connection() -> None:
    assert (
        serialize_datetime("2026-07-01T09:30", name="date", zone=NEW_YORK) == "2026-07-01T09:30:00.000-04:00"
    )


@pytest.mark.parametrize("fraction", ["123456", "1239", "123999999"])
def test_fraction_is_truncated_to_milliseconds(fraction: str) -> None:
    assert serialize(f"2026-03-01T23:59:59.{fraction}Z") == "2026-03-01T23:59:59.123+00:00"


def test_fold_selects_offset_of_ambiguous_hour() -> None:
    first = datetime.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Amsterdam"))
    assert serialize(first) == "2026-10-25T02:30:00.000+02:00"
    assert serialize(first.replace(fold=1)) == "2026-10-25T02:30:00.000+01:00"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("2026-03-29T02:30", "does not exist in Europe/Amsterdam"),
        (datetime.datetime(2026, 3, 29, 2, 30), "does not exist in Europe/Amsterdam"),
        (
            datetime.datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Amsterdam")),
            "does not exist in its own time zone",
        ),
        ("2026-10-25T02:30", "is ambiguous in Europe/Amsterdam"),
        (datetime.datetime(2026, 10, 25, 2, 30), "is ambiguous in Europe/Amsterdam"),
        # Without a time, the consult would be booked at midnight.
        ("2026-03-01", "a date without a time."),
        (datetime.date(2026, 3, 1), "a date without a time."),
        ("2015-02-30T10:00", "not a valid ISO 8601 date"),
        ("2026-03-01T24:30", "not a valid ISO 8601 date"),
        ("2026-03-01T10:00+25:00", "not a valid ISO 8601 date"),
        ("2026-03-01T10:00+01:60", "not a valid ISO 8601 date"),
        ("0000-03-01T10:00", "not a valid ISO 8601 date"),
        ("12-18-2014", "ISO 8601"),
        ("18/12/2014", "ISO 8601"),
        ("2026-03-01T09", "ISO 8601"),
        ("20260301T0930", "ISO 8601"),
        ("tomorrow", "ISO 8601"),
        ("0001-01-01T00:00+23:00", "outside the years 1 to 9999"),
        ("٢٠٢٦-03-01T09:30", "ISO 8601"),
        ("None", "stands for a missing value"),
        ("", "is an empty text. If there is no date, omit"),
        (True, "is of type bool"),
        (1767225600, "is of type int"),
        (datetime.time(9, 30), "is of type time"),
        ({"date": "2026-03-01"}, "is of type dict"),
    ],
)
def test_invalid_datetime_is_rejected_by_attribute_name(value: object, problem: str) -> None:
    with pytest.raises(WebcamconsultInputError, match=r"^Attribute 'date' is ") as raised:
        serialize(value)
    assert problem in str(raised.value)


class NotATime(datetime.datetime):
    """A datetime that is not equal to itself, like pandas' NaT."""

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = datetime.datetime.__hash__


def test_not_a_time_value_is_rejected() -> None:
    with pytest.raises(WebcamconsultInputError, match="NotATime"):
        serialize_day(NotATime(1984, 12, 18))


@pytest.mark.parametrize("value", ["1984-02-30", "18-12-1984", "1985-03-31T02:30", "1984-12-18T10:00+99:00"])
def test_error_never_contains_date_of_birth(value: str, error_text: ErrorText) -> None:
    with pytest.raises(WebcamconsultInputError, match="date_of_birth") as raised:
        serialize_day(value)
    assert "198" not in error_text(raised.value)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("1936-01-01T00:00:00.000+00:19", "1935-12-31T23:40:28.000Z"),
        ("1936-07-01T00:00:00.000+01:19", "1936-06-30T22:40:28.000Z"),
        # From July 1937 until May 1940 the offset had no seconds.
        ("1938-01-01T00:00:00.000+00:20", "1937-12-31T23:40:00.000Z"),
    ],
)
def test_historic_amsterdam_offset_is_resolved_with_its_seconds(stored: str, expected: str) -> None:
    assert parse(serialize_day(stored)) == datetime.datetime.fromisoformat(expected.replace("Z", "+00:00"))


@pytest.mark.parametrize(
    "day", ["1900-06-15", "1921-08-01", "1936-01-01", "1937-06-30", "1937-07-01", "1940-05-16", "1984-12-18"]
)
def test_date_of_birth_does_not_change_in_round_trips(
    day: str, hook: WebcamconsultHook, service: Service
) -> None:
    # Two round trips: an error of 32 seconds would add up. 16 May 1940 started at 01:40.
    client = hook.clients.create({"date_of_birth": day})
    stored = service.records("clients")[0]["date_of_birth"]
    for _ in range(2):
        client = hook.clients.update(client["id"], client)
    assert stored.startswith(day)
    assert service.records("clients")[0]["date_of_birth"] == stored


# A slow machine must not fail the test.
AT_ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Whole seconds: before standard time, the offsets of places had seconds.
OFFSETS = st.builds(timedelta, seconds=st.integers(min_value=-86_399, max_value=86_399)).filter(
    lambda offset: offset not in TRUNCATED_OFFSETS
)
ZONES = st.one_of(
    st.builds(timezone, OFFSETS),
    st.timezones(),
    st.sampled_from([AMSTERDAM, NEW_YORK, ZoneInfo("Europe/Amsterdam")]),
)
AWARE = st.datetimes(timezones=ZONES, allow_imaginary=False)


@AT_ANY_SPEED
@given(AWARE)
def test_aware_datetime_is_preserved_to_the_millisecond(value: datetime.datetime) -> None:
    try:
        serialized = serialize(value)
    except WebcamconsultInputError:
        # Only at the ends of the calendar, where the offset leads outside the years 1 to 9999.
        assert value.year in (1, 9999)
        return
    difference = value - datetime.datetime.fromisoformat(serialized)
    assert timedelta() <= difference < timedelta(milliseconds=1)


@AT_ANY_SPEED
@given(AWARE)
def test_serialized_datetime_is_unchanged_when_serialized_again(value: datetime.datetime) -> None:
    try:
        serialized = serialize(value)
    except WebcamconsultInputError:
        return
    again = serialize(serialized)
    # An offset of +00:19 before July 1937 is Amsterdam's local time with truncated seconds.
    assert again == serialized or serialized.endswith(("+00:19", "+01:19"))


@AT_ANY_SPEED
@given(
    st.one_of(
        st.datetimes(timezones=st.one_of(st.none(), ZONES)),
        st.datetimes(max_value=datetime.datetime(1, 1, 3), timezones=st.one_of(st.none(), ZONES)),
        st.datetimes(min_value=datetime.datetime(9999, 12, 30), timezones=st.one_of(st.none(), ZONES)),
        st.dates(),
        st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9](T[0-2][0-9]:[0-9]{2}([+-][0-2][0-9]:[0-9]{2})?)?"),
        st.text(),
        st.integers(),
        st.none(),
    ),
    st.sampled_from([AMSTERDAM, NEW_YORK, pendulum.timezone("Pacific/Apia")]),
    st.booleans(),
)
def test_any_value_is_serialized_or_raises_input_error(value: Any, zone: Any, day_only: bool) -> None:
    try:
        serialized = serialize_datetime(value, name="date", zone=zone, day_only=day_only)
    except WebcamconsultInputError:
        return
    assert datetime.datetime.fromisoformat(serialized).utcoffset() is not None


def test_date_of_birth_does_not_shift_when_tzdata_links_amsterdam_to_brussels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Without the system's data, the tzdata package is used, which links Amsterdam to Brussels.
    zoneinfo.reset_tzpath(to=[])
    try:
        zone = pendulum.Timezone.no_cache("Europe/Amsterdam")
    finally:
        zoneinfo.reset_tzpath()
    monkeypatch.setattr(pendulum, "timezone", {"Europe/Amsterdam": zone}.__getitem__)
    # In May 1930, Brussels had summer time and Amsterdam did not. At midnight in Brussels, it was still the
    # previous day in Amsterdam.
    assert zone.utcoffset(datetime.datetime(1930, 5, 1)) == timedelta(hours=1)
    assert serialize_day("1930-05-01") == "1930-05-01T00:00:28.000+00:20"
