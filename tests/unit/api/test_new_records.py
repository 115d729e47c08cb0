"""Values of a new record that can be sent, but are probably a mistake."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from airflow_provider_webcamconsult.api.payload import check_new
from airflow_provider_webcamconsult.api.resources import APPOINTMENT, CLIENT

NOW = datetime.datetime(2026, 3, 1, 9, 30, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("payload", "warnings"),
    [
        (
            {"date": "2026-03-01T10:20:00.000+01:00"},
            ["The date of the new appointment is in the past. Check it."],
        ),
        ({"date": "2026-03-01T10:26:00.000+01:00"}, []),
        ({"date": "2026-03-01T10:31:00.000+01:00", "duration": 30}, []),
        ({"duration": 0}, ["The duration of the new appointment is 0. Check it."]),
        ({"date": None, "duration": None}, []),
    ],
)
def test_past_date_and_duration_of_zero_warn(payload: dict[str, Any], warnings: list[str]) -> None:
    assert check_new(APPOINTMENT, payload, now=NOW) == warnings


def test_date_of_birth_in_the_past_is_no_mistake() -> None:
    assert check_new(CLIENT, {"date_of_birth": "1984-12-18T00:00:00.000+01:00"}, now=NOW) == []
