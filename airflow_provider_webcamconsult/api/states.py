"""The states of an appointment, as waits use them. The API document names only "idle"."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.resources import INITIAL_STATE
from airflow_provider_webcamconsult.exceptions import WebcamconsultResponseError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


def state_of(appointment: Mapping[str, Any]) -> str:
    """
    Return an appointment's state.

    :param appointment: the appointment.
    :return: the name of the state.
    :raises WebcamconsultResponseError: if the state is missing or is not a string.
    """
    state = appointment.get("state")
    if not isinstance(state, str) or not state:
        raise WebcamconsultResponseError(
            f"Webcamconsult returned appointment {appointment['id']} without a valid state. Try again."
        )
    return state


def is_state_name(state: object) -> bool:
    """
    Return whether a value can be the name of a state. Another text may be anything, even personal data.

    :param state: the state as the service returned it.
    """
    return isinstance(state, str) and _NAME.fullmatch(state) is not None


def describe_state(state: object) -> str:
    """
    Describe a state for a message. A text that is no plain name may be anything, and is not shown.

    :param state: the state as the service returned it.
    :return: text such as ``state 'started'``, or ``an unknown state``.
    """
    return f"state '{state}'" if is_state_name(state) else "an unknown state"


def is_reached(state: str, target_states: Collection[str] | None) -> bool:
    """
    Return whether a state ends a wait successfully.

    :param state: the appointment's state.
    :param target_states: the states to wait for; None means any state except "idle".
    """
    return state != INITIAL_STATE if target_states is None else state in target_states


def format_target_states(target_states: Collection[str] | None) -> str:
    """
    Describe the target states for a message.

    :param target_states: the states to wait for; None means any state except "idle".
    :return: text such as ``'started' or 'finished'``.
    """
    if target_states is None:
        return f"any state except '{INITIAL_STATE}'"
    return " or ".join(f"'{state}'" for state in target_states)
