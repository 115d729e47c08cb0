"""How the operators and the sensor look in the graph."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from airflow_provider_webcamconsult.get_provider_info import get_provider_info
from airflow_provider_webcamconsult.operators.base import WebcamconsultBaseOperator
from airflow_provider_webcamconsult.version_compat import BaseOperator

LONGEST_NAME = 24
"""What the graph of Airflow 3 has room for in letters."""

READABLE = 7.0
"""Contrast of text that the Web Content Accessibility Guidelines want at their highest level."""


def classes() -> list[Any]:
    modules = [
        importlib.import_module(module)
        for kind in ("operators", "sensors")
        for entry in get_provider_info()[kind]
        for module in entry["python-modules"]
    ]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    names = {module.__name__ for module in modules}
    return [cls for cls in found if issubclass(cls, BaseOperator) and cls.__module__ in names]


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as the guidelines define it."""
    full = "#000000" if colour == "#000" else colour
    parts = [int(full[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("cls", classes())
class TestEach:
    def test_has_a_name_that_fits(self, cls: Any) -> None:
        assert len(cls.custom_operator_name) <= LONGEST_NAME
        assert cls.custom_operator_name in cls.__name__

    def test_has_a_colour_of_its_own_on_which_text_can_be_read(self, cls: Any) -> None:
        assert cls.ui_color != BaseOperator.ui_color
        light, dark = sorted((luminance(cls.ui_color), luminance(cls.ui_fgcolor)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= READABLE


def test_each_name_says_what_is_done_to_what() -> None:
    names = {cls.custom_operator_name for cls in classes()}
    assert len(names) == len(classes()) == 16
    assert {"CreateAppointment", "ListUsers", "DeleteClient", "AppointmentStateSensor"} <= names


def test_reads_changes_and_deletions_are_told_apart_by_colour() -> None:
    colours = {cls.custom_operator_name: cls.ui_color for cls in classes()}
    of_appointments = {
        colours[name]
        for name in (
            "CreateAppointment",
            "UpdateAppointment",
            "DeleteAppointment",
            "GetAppointment",
            "AppointmentStateSensor",
        )
    }
    assert len(of_appointments) == 5
    assert colours["GetUser"] == colours["ListAppointments"]


def test_an_operator_of_somebody_else_has_the_name_that_it_is_given() -> None:
    named = type("Booking", (WebcamconsultBaseOperator,), {"custom_operator_name": "a booking"})
    unnamed = type("Booking", (WebcamconsultBaseOperator,), {})
    assert (named.custom_operator_name, unnamed.custom_operator_name) == ("a booking", "Booking")  # type: ignore[attr-defined]
