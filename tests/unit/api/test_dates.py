"""Dates on their way to the service, which refuses none and stores garbage as 1970."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
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
    from tests.unit.conftest import Service, Tell

AMSTERDAM = pendulum.timezone("Europe/Amsterdam")
NEW_YORK = pendulum.timezone("America/New_York")
UTC = timezone.utc
# Told by none: Amsterdam's own time until 1937, whose seconds the service cuts off.
CUT_OFFSETS = (timedelta(minutes=19), timedelta(minutes=79))


def moment(value: object) -> str:
    return serialize_datetime(value, name="date", zone=AMSTERDAM)


def birthday(value: object) -> str:
    return serialize_datetime(value, name="date_of_birth", zone=AMSTERDAM, day_only=True)


def instant(wire: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(wire).astimezone(UTC)


@pytest.mark.parametrize(
    ("given", "wire"),
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
def test_a_moment_is_sent_with_milliseconds_and_offset(given: object, wire: str) -> None:
    assert moment(given) == wire


@pytest.mark.parametrize(
    ("given", "wire"),
    [
        ("1984-12-18", "1984-12-18T00:00:00.000+01:00"),
        (datetime.date(1984, 7, 18), "1984-07-18T00:00:00.000+02:00"),
        (pendulum.date(1984, 7, 18), "1984-07-18T00:00:00.000+02:00"),
        ("2014-12-18T00:00:00.000+01:00", "2014-12-18T00:00:00.000+01:00"),
        ("1984-12-18T08:15", "1984-12-18T08:15:00.000+01:00"),
    ],
)
def test_a_birthday_is_its_midnight_unless_it_has_a_time(given: object, wire: str) -> None:
    assert birthday(given) == wire


def test_a_date_without_offset_is_in_the_zone_of_the_connection() -> None:
    assert (
        serialize_datetime("2026-07-01T09:30", name="date", zone=NEW_YORK) == "2026-07-01T09:30:00.000-04:00"
    )


@pytest.mark.parametrize("fraction", ["123456", "1239", "123999999"])
def test_what_is_finer_than_milliseconds_is_cut_not_rounded(fraction: str) -> None:
    assert moment(f"2026-03-01T23:59:59.{fraction}Z") == "2026-03-01T23:59:59.123+00:00"


def test_the_second_of_an_hour_that_exists_twice_is_told_by_the_offset() -> None:
    first = datetime.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Amsterdam"))
    assert moment(first) == "2026-10-25T02:30:00.000+02:00"
    assert moment(first.replace(fold=1)) == "2026-10-25T02:30:00.000+01:00"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("2026-03-29T02:30", "does not exist in Europe/Amsterdam"),
        (datetime.datetime(2026, 3, 29, 2, 30), "does not exist in Europe/Amsterdam"),
        (
            datetime.datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Amsterdam")),
            "does not exist in its own time zone",
        ),
        ("2026-10-25T02:30", "is ambiguous in Europe/Amsterdam"),
        (datetime.datetime(2026, 10, 25, 2, 30), "is ambiguous in Europe/Amsterdam"),
        # Without the time of day a consult is booked at midnight.
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
        ("None", "is empty"),
        ("", "is empty"),
        (True, "is of type bool"),
        (1767225600, "is of type int"),
        (datetime.time(9, 30), "is of type time"),
        ({"date": "2026-03-01"}, "is of type dict"),
    ],
)
def test_what_is_no_moment_is_refused_by_its_name(given: object, problem: str) -> None:
    with pytest.raises(WebcamconsultInputError, match=r"^Attribute 'date' is ") as refused:
        moment(given)
    assert problem in str(refused.value)


class NotATime(datetime.datetime):
    """As pandas' NaT: a datetime that is not even itself."""

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = datetime.datetime.__hash__


def test_a_missing_value_of_a_table_is_refused() -> None:
    with pytest.raises(WebcamconsultInputError, match="NotATime"):
        birthday(NotATime(1984, 12, 18))


@pytest.mark.parametrize("given", ["1984-02-30", "18-12-1984", "1985-03-31T02:30", "1984-12-18T10:00+99:00"])
def test_a_birth_date_is_never_shown_in_an_error(given: str, told: Tell) -> None:
    with pytest.raises(WebcamconsultInputError, match="date_of_birth") as refused:
        birthday(given)
    assert "198" not in told(refused.value)


@pytest.mark.parametrize(
    ("answered", "meant"),
    [
        ("1936-01-01T00:00:00.000+00:19", "1935-12-31T23:40:28.000Z"),
        ("1936-07-01T00:00:00.000+01:19", "1936-06-30T22:40:28.000Z"),
        # From July 1937 until May 1940 the offset had no seconds.
        ("1938-01-01T00:00:00.000+00:20", "1937-12-31T23:40:00.000Z"),
    ],
)
def test_amsterdams_own_time_means_what_the_service_meant(answered: str, meant: str) -> None:
    assert instant(birthday(answered)) == datetime.datetime.fromisoformat(meant.replace("Z", "+00:00"))


@pytest.mark.parametrize(
    "day", ["1900-06-15", "1921-08-01", "1936-01-01", "1937-06-30", "1937-07-01", "1940-05-16", "1984-12-18"]
)
def test_a_birth_date_that_is_read_and_written_back_does_not_move(
    day: str, hook: WebcamconsultHook, service: Service
) -> None:
    # Twice, since 32 seconds are lost each time or never; 16 May 1940 began at 01:40.
    client = hook.clients.create({"date_of_birth": day})
    stored = service.records("clients")[0]["date_of_birth"]
    for _ in range(2):
        client = hook.clients.update(client["id"], client)
    assert stored.startswith(day)
    assert service.records("clients")[0]["date_of_birth"] == stored


# A slow machine is no wrong date.
AT_ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Whole seconds, as the offsets of places were before there were time zones.
OFFSETS = st.builds(timedelta, seconds=st.integers(min_value=-86_399, max_value=86_399)).filter(
    lambda offset: offset not in CUT_OFFSETS
)
ZONES = st.one_of(
    st.builds(timezone, OFFSETS),
    st.timezones(),
    st.sampled_from([AMSTERDAM, NEW_YORK, ZoneInfo("Europe/Amsterdam")]),
)
AWARE = st.datetimes(timezones=ZONES, allow_imaginary=False)


@AT_ANY_SPEED
@given(AWARE)
def test_the_instant_of_an_aware_datetime_survives_to_the_millisecond(value: datetime.datetime) -> None:
    try:
        wire = moment(value)
    except WebcamconsultInputError:
        # At the calendar's ends alone, where the offset leaves no year to write.
        assert value.year in (1, 9999)
        return
    lost = value - datetime.datetime.fromisoformat(wire)
    assert timedelta() <= lost < timedelta(milliseconds=1)


@AT_ANY_SPEED
@given(AWARE)
def test_what_is_written_is_accepted_again_and_stays_as_it_is(value: datetime.datetime) -> None:
    try:
        wire = moment(value)
    except WebcamconsultInputError:
        return
    again = moment(wire)
    # An offset of +00:19 before July 1937 is Amsterdam's own time, with its seconds cut.
    assert again == wire or wire.endswith(("+00:19", "+01:19"))


@settings(AT_ANY_SPEED, max_examples=300)
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
def test_nothing_but_an_input_error_refuses_a_date(value: Any, zone: Any, day_only: bool) -> None:
    try:
        wire = serialize_datetime(value, name="date", zone=zone, day_only=day_only)
    except WebcamconsultInputError:
        return
    assert datetime.datetime.fromisoformat(wire).utcoffset() is not None


def test_a_birthday_stays_on_its_day_where_the_time_zone_data_takes_amsterdam_for_brussels() -> None:
    # In April 1930 Brussels had summer time and Amsterdam not: its midnight was Amsterdam's evening before.
    code = (
        "import pendulum; from airflow_provider_webcamconsult.api.dates import serialize_datetime;"
        "zone = pendulum.timezone('Europe/Amsterdam');"
        "print(zone.utcoffset(__import__('datetime').datetime(1930, 5, 1)));"
        "print(serialize_datetime('1930-05-01', name='date_of_birth', zone=zone, day_only=True))"
    )
    # Without the system's data, that of the package tzdata is used, which is such a build.
    environment = {**os.environ, "PYTHONTZPATH": ""}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    offset, written = result.stdout.split()[-2:]
    assert offset == "1:00:00"
    assert written == "1930-05-01T00:00:28.000+00:20"
