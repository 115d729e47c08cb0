"""The states of an appointment in messages."""

from __future__ import annotations

import pytest

from airflow_provider_webcamconsult.api.states import describe_state


@pytest.mark.parametrize("state", ["idle", "in_progress", "no-show", "Phase2", "a" * 40])
def test_state_that_is_a_plain_name_is_shown(state: str) -> None:
    assert describe_state(state) == f"state '{state}'"


@pytest.mark.parametrize(
    "state", ["", "a" * 41, "Jan Jansen", "idle\n", "\x1b[31m", "café", "13.08.1979", None, 7, ["idle"]]
)
def test_other_text_is_not_shown(state: object) -> None:
    assert describe_state(state) == "an unknown state"
