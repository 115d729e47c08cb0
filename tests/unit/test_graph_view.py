"""The names and colours of operators and the sensor in Airflow's graph view."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from airflow_provider_webcamconsult.get_provider_info import get_provider_info
from airflow_provider_webcamconsult.operators.base import WebcamconsultBaseOperator
from airflow_provider_webcamconsult.version_compat import BaseOperator

LONGEST_NAME = 24
"""The number of characters that fit in the graph of Airflow 3."""

MIN_CONTRAST = 7.0
"""The text contrast that the Web Content Accessibility Guidelines require at level AAA."""


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
class TestEachClass:
    def test_name_fits_in_the_graph(self, cls: Any) -> None:
        assert len(cls.custom_operator_name) <= LONGEST_NAME
        assert cls.custom_operator_name in cls.__name__

    def test_has_a_custom_colour_with_readable_text(self, cls: Any) -> None:
        assert cls.ui_color != BaseOperator.ui_color
        light, dark = sorted((luminance(cls.ui_color), luminance(cls.ui_fgcolor)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= MIN_CONTRAST


def test_each_name_states_action_and_resource() -> None:
    names = {cls.custom_operator_name for cls in classes()}
    assert len(names) == len(classes())
    assert {"CreateAppointment", "ListUsers", "DeleteClient", "AppointmentStateSensor"} <= names


def test_actions_differ_in_colour() -> None:
    colours = {cls.custom_operator_name: cls.ui_color for cls in classes()}
    of_appointments = {
        colours[name]
        for name in (
            "CreateAppointment",
            "UpdateAppointment",
            "DeleteAppointment",
            "GetAppointment",
            "AppointmentStateSensor",
            "AppointmentTimeSensor",
        )
    }
    assert len(of_appointments) == 6
    assert colours["GetUser"] == colours["ListAppointments"]


def test_user_defined_operator_has_its_own_name() -> None:
    named = type("Booking", (WebcamconsultBaseOperator,), {"custom_operator_name": "a booking"})
    unnamed = type("Booking", (WebcamconsultBaseOperator,), {})
    assert (named.custom_operator_name, unnamed.custom_operator_name) == ("a booking", "Booking")  # type: ignore[attr-defined]
