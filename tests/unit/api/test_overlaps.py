"""Which appointments overlap."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_webcamconsult.api import overlaps as rules

OWN = {"date": "2030-03-01T09:00:00.000+01:00", "duration": 60, "user_id": "u1", "client_id": "c1"}


def overlaps(own: dict[str, Any], **other: Any) -> bool:
    """Return whether an appointment overlaps with another one of the same professional."""
    record = {
        "id": "a1",
        "state": "idle",
        "date": "2030-03-01T09:30:00.000+01:00",
        "duration": 60,
        "user_id": "u1",
        "client_id": "c2",
        **other,
    }
    return rules.overlaps({**OWN, **own}, record)


@pytest.mark.parametrize(
    ("date", "duration", "expected"),
    [
        ("2030-03-01T09:30:00.000+01:00", 60, True),
        ("2030-03-01T09:15:00.000+01:00", 15, True),
        ("2030-03-01T08:00:00.000+01:00", 180, True),
        ("2030-03-01T10:00:00.000+01:00", 60, False),
        ("2030-03-01T09:59:59.999+01:00", 60, True),
        ("2030-03-01T08:00:00.000+01:00", 60, False),
        ("2030-03-01T08:00:00.000+01:00", 60.1, True),
        ("2030-03-01T08:30:00.000Z", 60, True),
        ("2030-03-01T09:30:00.000Z", 60, False),
        ("2030-02-28T09:30:00.000+01:00", 60, False),
        ("2030-02-01T09:30:00.000+01:00", 10**400, False),
        ("2030-02-23T09:30:00.000+01:00", 10**400, True),
    ],
)
def test_appointments_overlap_from_the_date_to_before_its_end(
    date: str, duration: float, expected: bool
) -> None:
    assert overlaps({}, date=date, duration=duration) is expected


@pytest.mark.parametrize("duration", [None, 0, -60, float("nan"), "60", True])
def test_appointment_without_a_duration_takes_half_an_hour(duration: Any) -> None:
    assert overlaps({}, date="2030-03-01T08:31:00.000+01:00", duration=duration)
    assert not overlaps({}, date="2030-03-01T08:30:00.000+01:00", duration=duration)
    assert overlaps({"duration": duration}, date="2030-03-01T09:29:00.000+01:00")
    assert not overlaps({"duration": duration}, date="2030-03-01T09:30:00.000+01:00")


@pytest.mark.parametrize(
    ("user_id", "client_id", "expected"),
    [("u1", "c2", True), ("u2", "c1", True), ("u1", "c1", True), ("u2", "c2", False), (None, None, False)],
)
def test_only_appointments_of_the_same_professional_or_patient_overlap(
    user_id: str | None, client_id: str | None, expected: bool
) -> None:
    assert overlaps({}, user_id=user_id, client_id=client_id) is expected


def test_unknown_participants_are_not_the_same() -> None:
    assert not overlaps({"user_id": None, "client_id": ""}, user_id=None, client_id="")


def test_cancelled_appointment_takes_no_time() -> None:
    assert not overlaps({}, state="cancelled")
    assert rules.overlaps(OWN, {**OWN, "id": "a1", "state": "cancelled"}, free_states=())


def test_appointment_does_not_overlap_with_itself() -> None:
    assert not overlaps({"id": "a1"})


@pytest.mark.parametrize("date", [None, "", "soon", "2030-03-01T09:30:00", 7])
def test_appointment_without_a_readable_date_overlaps_with_none(date: Any) -> None:
    assert not overlaps({}, date=date)
    assert not overlaps({"date": date})


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"client_id": "c2"}, "a1 (same user, 2030-03-01T09:00:00.000+01:00, 60 minutes)"),
        ({"user_id": "u2", "duration": 45}, "a1 (same client, 2030-03-01T09:00:00.000+01:00, 45 minutes)"),
        ({"duration": None}, "a1 (same user and client, 2030-03-01T09:00:00.000+01:00, 30 minutes)"),
    ],
)
def test_description_says_who_is_the_same_and_when(other: dict[str, Any], expected: str) -> None:
    assert rules.describe_overlap(OWN, {**OWN, "id": "a1", **other}) == expected
