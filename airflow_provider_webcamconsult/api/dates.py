"""
Validate, serialize and parse dates.

The service accepts any date and stores an invalid one as 1970. No error contains the date itself, because a
date of birth is personal data.
"""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING

from airflow_provider_webcamconsult.api.missing import is_no_value
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError

if TYPE_CHECKING:
    from pendulum import Timezone

#: Time zone in which the service keeps all dates. A date of birth is a day in this zone, whatever the
#: connection's time zone is.
SERVICE_TIME_ZONE = "Europe/Amsterdam"

# A fraction needs seconds: in ISO 8601, 09:30.5 is half a minute past 09:30.
_ISO_8601 = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<time>\d{2}:\d{2}(?::\d{2}(?:[.,](?P<fraction>\d+))?)?)"
    r"(?P<offset>Z|[+-]\d{2}(?::?\d{2})?)?)?",
    re.ASCII,
)

_MIDNIGHT = datetime.time()
_MINUTE = datetime.timedelta(minutes=1)
_DAY = datetime.timedelta(days=1)

#: UTC offsets of Amsterdam until July 1937, in winter and in summer. The service returns them truncated to
#: minutes. Without this correction, each update would move a date of birth by 32 seconds.
_AMSTERDAM_TRUNCATED_OFFSETS = {
    datetime.timedelta(minutes=19): datetime.timedelta(minutes=19, seconds=32),
    datetime.timedelta(minutes=79): datetime.timedelta(minutes=79, seconds=32),
}
_AMSTERDAM_WINTER_TIME = datetime.timezone(datetime.timedelta(minutes=19, seconds=32))
_AMSTERDAM_AS_BRUSSELS = datetime.datetime(1940, 5, 17)
_IN_1930 = datetime.datetime(1930, 1, 1)
_AMSTERDAM_MAX_OFFSET_BEFORE_1940 = datetime.timedelta(minutes=80)
_AMSTERDAM_TIME_END = datetime.datetime(1937, 7, 1)


def serialize_datetime(value: object, *, name: str, zone: Timezone, day_only: bool = False) -> str:
    """
    Serialize a date as ISO 8601 with milliseconds and a UTC offset, which is the service's format.

    :param value: ``datetime``, pendulum or ISO 8601 text. With ``day_only``, also a ``date``.
    :param name: name of the attribute, for the error message.
    :param zone: time zone of a date without a UTC offset.
    :param day_only: whether the attribute is a date without a time, sent as midnight in
        :data:`SERVICE_TIME_ZONE`.
    :return: the date as text.
    :raises WebcamconsultInputError: if the value is not a date, or its time is missing, nonexistent or
        ambiguous in the time zone.
    """
    if isinstance(value, str):
        value = _parse(value, name, day_only)
    if not isinstance(value, datetime.date) or value != value:  # pandas' NaT is not equal to itself
        raise WebcamconsultInputError(
            f"Attribute '{name}' is of type {type(value).__name__}. "
            f"Pass a {'date' if day_only else 'datetime'} or ISO 8601 text."
        )
    if day_only:
        import pendulum

        zone = pendulum.timezone(SERVICE_TIME_ZONE)
    try:
        aware = _to_aware(value, name, zone, day_only)
        if day_only:
            _check_day(aware, name, zone)
        return _format(aware)
    except OverflowError:
        raise WebcamconsultInputError(
            f"Attribute '{name}' is outside the years 1 to 9999. Pass a date within these years."
        ) from None


def parse_datetime(text: object) -> datetime.datetime | None:
    """
    Parse a date of the service, so that equal instants compare equal.

    :param text: a date from the service or from :func:`serialize_datetime`.
    :return: the date with millisecond precision, or None if the text is not a date with a UTC offset.
    """
    match = _ISO_8601.fullmatch(text) if isinstance(text, str) else None
    parsed = _build(match) if match else None
    if not isinstance(parsed, datetime.datetime) or parsed.tzinfo is None:
        return None
    return _to_iso_precision(parsed)


def has_form_of_date(text: object) -> bool:
    """
    Return whether a value is text in ISO 8601, without building the date.

    :param text: a date from the service.
    """
    return isinstance(text, str) and _ISO_8601.fullmatch(text) is not None


def _parse(text: str, name: str, day_only: bool) -> datetime.datetime | datetime.date:
    if not text.strip():
        raise WebcamconsultInputError(
            f"Attribute '{name}' is an empty text. If there is no date, omit the attribute or pass None. "
            "If a template or an XCom gives it, check the run's params and the upstream task."
        )
    if is_no_value(text):
        raise WebcamconsultInputError(
            f"Attribute '{name}' is a text that stands for a missing value. If there is no date, omit the "
            "attribute or pass None. If a template or an XCom gives it, check the run's params and the "
            "upstream task."
        )
    match = _ISO_8601.fullmatch(text.strip())
    # _build catches its ValueError: chained to the error below, it would show the date.
    result = _build(match) if match else None
    if result is None:
        raise WebcamconsultInputError(
            f"Attribute '{name}' is not a valid ISO 8601 date. Use a format such as "
            f"{'1950-01-31' if day_only else '2030-03-01T09:30:00.000+01:00'}."
        )
    return result


def _build(match: re.Match[str]) -> datetime.datetime | datetime.date | None:
    day, time, fraction, offset = match.group("day", "time", "fraction", "offset")
    try:
        if time is None:
            return datetime.date.fromisoformat(day)
        parsed = datetime.datetime.fromisoformat(f"{day}T{re.split('[.,]', time)[0]}")
        parsed = parsed.replace(microsecond=int((fraction or "0")[:6].ljust(6, "0")))
        if offset is None:
            return parsed
        return parsed.replace(tzinfo=_offset(offset))
    except ValueError:
        return None


def _offset(text: str) -> datetime.timezone:
    if text == "Z":
        return datetime.timezone.utc
    digits = text[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if minutes >= 60:
        raise ValueError("invalid offset")
    delta = datetime.timedelta(hours=hours, minutes=minutes)
    return datetime.timezone(-delta if text[0] == "-" else delta)


def _to_aware(value: datetime.date, name: str, zone: Timezone, day_only: bool) -> datetime.datetime:
    """Return a date as a datetime with a UTC offset."""
    if not isinstance(value, datetime.datetime):
        if not day_only:
            raise WebcamconsultInputError(
                f"Attribute '{name}' is a date without a time. Add the time, as in 2026-03-01T09:30."
            )
        value = datetime.datetime.combine(value, _MIDNIGHT)
    if value.utcoffset() is not None:
        return _check_exists(value, name)
    local = datetime.datetime.combine(value.date(), value.time())
    if day_only and local.time() == _MIDNIGHT:
        # Keep midnight even if it does not exist, as in Amsterdam on 16 May 1940.
        return local.replace(tzinfo=_midnight_zone(local, zone))
    return _localize(local, name, zone)


def _midnight_zone(local: datetime.datetime, zone: Timezone) -> datetime.tzinfo:
    # Some builds of the time zone database use Brussels time for Amsterdam before 1940, which would move a
    # date of birth to the previous day. Amsterdam's winter time keeps the day, in summer too.
    offset = zone.utcoffset(_IN_1930) or datetime.timedelta()
    is_merged = zone.name == "Europe/Amsterdam" and not offset % _MINUTE
    return _AMSTERDAM_WINTER_TIME if is_merged and local < _AMSTERDAM_AS_BRUSSELS else zone


def _check_day(value: datetime.datetime, name: str, zone: Timezone) -> None:
    """Check that the service stores the day that was written."""
    local = value.replace(tzinfo=None)
    if local < _AMSTERDAM_AS_BRUSSELS and value.utcoffset() <= _AMSTERDAM_MAX_OFFSET_BEFORE_1940:  # type: ignore[operator]
        return  # Amsterdam's own time, which some builds of the time zone database do not know
    stored = value.astimezone(zone)
    if stored.date() != local.date() and stored.time() != _MIDNIGHT:
        raise WebcamconsultInputError(
            f"Attribute '{name}' is a different day in {SERVICE_TIME_ZONE}, the service's time zone. "
            "Pass the day without a time."
        )


def _check_exists(value: datetime.datetime, name: str) -> datetime.datetime:
    round_trip = value.astimezone(datetime.timezone.utc).astimezone(value.tzinfo)
    if round_trip.replace(tzinfo=None) != value.replace(tzinfo=None):
        raise WebcamconsultInputError(
            f"Attribute '{name}' is a time that does not exist in its own time zone (clocks go forward). "
            "Pass a time that exists."
        )
    return value


def _localize(local: datetime.datetime, name: str, zone: Timezone) -> datetime.datetime:
    from pendulum.tz.exceptions import AmbiguousTime, NonExistingTime

    try:
        return zone.convert(local, raise_on_unknown_times=True)
    except NonExistingTime:
        problem = f"a time that does not exist in {zone.name} (clocks go forward)"
        remedy = "Pass a time that exists, or add a UTC offset."
    except AmbiguousTime:
        problem = f"ambiguous in {zone.name} (clocks go back)"
        remedy = "Add a UTC offset."
    raise WebcamconsultInputError(f"Attribute '{name}' is {problem}. {remedy}")


def _format(value: datetime.datetime) -> str:
    return _to_iso_precision(value).isoformat(timespec="milliseconds")


def _to_iso_precision(value: datetime.datetime) -> datetime.datetime:
    """Truncate to milliseconds, and use a UTC offset in whole minutes, because ISO 8601 has no finer one."""
    offset = value.utcoffset() or datetime.timedelta()
    local = value.replace(tzinfo=None, microsecond=value.microsecond // 1000 * 1000)
    if local < _AMSTERDAM_TIME_END:
        offset = _AMSTERDAM_TRUNCATED_OFFSETS.get(offset, offset)
    to_whole_minute = -offset % _MINUTE
    if offset + to_whole_minute >= _DAY:
        to_whole_minute -= _MINUTE
    local, offset = local + to_whole_minute, offset + to_whole_minute
    return local.replace(tzinfo=datetime.timezone(offset))
