"""
What a date means on its way to the service, which refuses none: garbage it stores as 1970.

No error here shows the date itself: a birth date is a patient's.
"""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING

from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError

if TYPE_CHECKING:
    from pendulum import Timezone

_ISO_8601 = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<time>\d{2}:\d{2}(?::\d{2})?)(?:[.,](?P<fraction>\d+))?"
    r"(?P<offset>Z|[+-]\d{2}(?::?\d{2})?)?)?",
    re.ASCII,
)

_MIDNIGHT = datetime.time()
_MINUTE = datetime.timedelta(minutes=1)
_DAY = datetime.timedelta(days=1)

#: Amsterdam's own time until July 1937, with and without summer time. The service answers the offset cut
#: to the minute; sent back like that, a birth date moves by 32 seconds each time.
_AMSTERDAM_TIME_CUT_TO_MINUTES = {
    datetime.timedelta(minutes=19): datetime.timedelta(minutes=19, seconds=32),
    datetime.timedelta(minutes=79): datetime.timedelta(minutes=79, seconds=32),
}
_AMSTERDAM_WINTER_TIME = datetime.timezone(datetime.timedelta(minutes=19, seconds=32))
_AMSTERDAM_AS_BRUSSELS = datetime.datetime(1940, 5, 17)
_LONG_AGO = datetime.datetime(1930, 1, 1)
_AMSTERDAM_TIME_END = datetime.datetime(1937, 7, 1)


def serialize_datetime(value: object, *, name: str, zone: Timezone, day_only: bool = False) -> str:
    """
    Write a date as the service wants it: ISO 8601 with milliseconds and offset.

    :param value: ``datetime``, pendulum, or ISO 8601 text; with ``day_only`` a ``date`` as well.
    :param name: name of the attribute, for the error.
    :param zone: the time zone of a date without offset.
    :param day_only: whether the attribute is a day; a day without time of day is its midnight.
    :raises WebcamconsultInputError: if it is no date, or no time that exists, once, in the zone.
    """
    if isinstance(value, str):
        value = _parse(value, name)
    if not isinstance(value, datetime.date) or value != value:  # pandas' NaT is a date, but not itself
        raise WebcamconsultInputError(
            f"Attribute '{name}' is of type {type(value).__name__}. Give a datetime, or text in ISO 8601."
        )
    try:
        return _format(_moment(value, name, zone, day_only))
    except OverflowError:
        raise WebcamconsultInputError(f"Attribute '{name}' is a date outside the years 1 to 9999.") from None


def parse_datetime(text: object) -> datetime.datetime | None:
    """
    Read a date of the service as an instant, to the millisecond; None if it is none.

    :param text: the date, as the service or :func:`serialize_datetime` wrote it.
    """
    match = _ISO_8601.fullmatch(text) if isinstance(text, str) else None
    moment = _build(match) if match else None
    if not isinstance(moment, datetime.datetime) or moment.tzinfo is None:
        return None
    return _exact(moment)


def _parse(text: str, name: str) -> datetime.datetime | datetime.date:
    if text.strip() in ("", "None"):
        raise WebcamconsultInputError(f"Attribute '{name}' is empty: a template or an XCom gave no value.")
    match = _ISO_8601.fullmatch(text.strip())
    # Built outside of this function's raise, or the exception's chain would show the text.
    result = _build(match) if match else None
    if result is None:
        raise WebcamconsultInputError(
            f"Attribute '{name}' is not a date that exists, in ISO 8601 as in 2026-03-01T09:30:00.000+01:00."
        )
    return result


def _build(match: re.Match[str]) -> datetime.datetime | datetime.date | None:
    day, time, fraction, offset = match.group("day", "time", "fraction", "offset")
    try:
        if time is None:
            return datetime.date.fromisoformat(day)
        moment = datetime.datetime.fromisoformat(f"{day}T{time}")
        moment = moment.replace(microsecond=int((fraction or "0")[:6].ljust(6, "0")))
        if offset is None:
            return moment
        return moment.replace(tzinfo=_offset(offset))
    except ValueError:
        return None


def _offset(text: str) -> datetime.timezone:
    if text == "Z":
        return datetime.timezone.utc
    digits = text[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if minutes >= 60:
        raise ValueError("no such offset")
    delta = datetime.timedelta(hours=hours, minutes=minutes)
    return datetime.timezone(-delta if text[0] == "-" else delta)


def _moment(value: datetime.date, name: str, zone: Timezone, day_only: bool) -> datetime.datetime:
    """Give a date its time and offset."""
    if not isinstance(value, datetime.datetime):
        if not day_only:
            raise WebcamconsultInputError(
                f"Attribute '{name}' is a day without a time of day. Give both, as in 2026-03-01T09:30."
            )
        value = datetime.datetime.combine(value, _MIDNIGHT)
    if value.utcoffset() is not None:
        return _refuse_skipped(value, name)
    local = datetime.datetime.combine(value.date(), value.time())
    if day_only and local.time() == _MIDNIGHT:
        # A day has a midnight even where the clock skips it, as in Amsterdam on 16 May 1940.
        return local.replace(tzinfo=_own_zone(local, zone))
    return _located(local, name, zone)


def _own_zone(local: datetime.datetime, zone: Timezone) -> datetime.tzinfo:
    # Some builds of the time zone data give Amsterdam the time of Brussels before 1940, by which a birthday
    # moves to the day before. With Amsterdam's winter time it stays on its day, in summer too.
    long_ago = zone.utcoffset(_LONG_AGO) or datetime.timedelta()
    is_merged = zone.name == "Europe/Amsterdam" and not long_ago % _MINUTE
    return _AMSTERDAM_WINTER_TIME if is_merged and local < _AMSTERDAM_AS_BRUSSELS else zone


def _refuse_skipped(value: datetime.datetime, name: str) -> datetime.datetime:
    there_and_back = value.astimezone(datetime.timezone.utc).astimezone(value.tzinfo)
    if there_and_back.replace(tzinfo=None) != value.replace(tzinfo=None):
        raise WebcamconsultInputError(
            f"Attribute '{name}' is a time that does not exist that day in its own time zone "
            "(the clock is put forward over it). Give a time that exists."
        )
    return value


def _located(local: datetime.datetime, name: str, zone: Timezone) -> datetime.datetime:
    from pendulum.tz.exceptions import AmbiguousTime, NonExistingTime

    try:
        return zone.convert(local, raise_on_unknown_times=True)
    except NonExistingTime:
        problem = "does not exist that day", "forward"
    except AmbiguousTime:
        problem = "exists twice that day", "back"
    raise WebcamconsultInputError(
        f"Attribute '{name}' is a local time that {problem[0]} in {zone.name} "
        f"(the clock is put {problem[1]} over it). Give it with its offset."
    )


def _format(value: datetime.datetime) -> str:
    return _exact(value).isoformat(timespec="milliseconds")


def _exact(value: datetime.datetime) -> datetime.datetime:
    """Tell the same instant with an offset of whole minutes, which is all that ISO 8601 has."""
    offset = value.utcoffset() or datetime.timedelta()
    wall = value.replace(tzinfo=None, microsecond=value.microsecond // 1000 * 1000)
    if wall < _AMSTERDAM_TIME_END:
        offset = _AMSTERDAM_TIME_CUT_TO_MINUTES.get(offset, offset)
    to_whole_minute = -offset % _MINUTE
    if offset + to_whole_minute >= _DAY:
        to_whole_minute -= _MINUTE
    wall, offset = wall + to_whole_minute, offset + to_whole_minute
    return wall.replace(tzinfo=datetime.timezone(offset))
