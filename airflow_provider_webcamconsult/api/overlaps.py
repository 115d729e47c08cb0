"""Decide whether two appointments of the same professional or the same patient overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.dates import parse_datetime

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Minutes that an appointment without a duration takes.
DEFAULT_DURATION_MINUTES = 30
#: A longer duration counts as this one.
MAX_DURATION_MINUTES = 7 * 24 * 60
#: States in which an appointment takes no time.
FREE_STATES = ("cancelled",)
#: Appointments that have one of these attributes in common may not overlap.
PARTICIPANTS = ("user_id", "client_id")
#: The attributes that decide whether appointments overlap.
OVERLAP_ATTRIBUTES = (*PARTICIPANTS, "date", "duration")


def overlaps(
    appointment: Mapping[str, Any], other: Mapping[str, Any], *, free_states: Collection[str] = FREE_STATES
) -> bool:
    """
    Return whether another appointment overlaps with an appointment in ``[date, date + duration)``.

    An appointment without a readable date overlaps with none, and none overlaps with itself.

    :param appointment: the appointment, or its serialized attributes.
    :param other: the other appointment.
    :param free_states: states in which the other appointment takes no time.
    """
    if other["id"] == appointment.get("id") or other.get("state") in free_states:
        return False
    if not _shared(appointment, other):
        return False
    period, other_period = _period(appointment), _period(other)
    return (
        period is not None
        and other_period is not None
        and period[0] < other_period[1]
        and other_period[0] < period[1]
    )


def describe_overlap(appointment: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """
    Return which appointment overlaps, when it is, and whose it is, as text without personal data.

    :param appointment: the appointment, or its serialized attributes.
    :param other: the other appointment, which overlaps with it.
    """
    start, end = _period(other) or (0.0, 0.0)
    people = " and ".join(name.removesuffix("_id") for name in _shared(appointment, other))
    # Parsed before, so that the text can be nothing but a date.
    return f"{other['id']} (same {people}, {other['date']}, {(end - start) / 60:g} minutes)"


def _shared(appointment: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [name for name in PARTICIPANTS if appointment.get(name) and appointment[name] == other.get(name)]


def _period(appointment: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return when an appointment starts and ends, in seconds since the epoch."""
    start = parse_datetime(appointment.get("date"))
    if start is None:
        return None
    minutes = appointment.get("duration")
    if not isinstance(minutes, (int, float)) or isinstance(minutes, bool) or not minutes > 0:
        minutes = DEFAULT_DURATION_MINUTES
    seconds = start.timestamp()
    return seconds, seconds + min(minutes, MAX_DURATION_MINUTES) * 60
