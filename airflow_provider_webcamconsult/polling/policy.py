"""The rules of a wait: when it is over, which errors end it, and when to poll next."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from airflow_provider_webcamconsult.api.resources import INITIAL_STATE
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultError,
    WebcamconsultResponseError,
)
from airflow_provider_webcamconsult.transport import RETRY_AFTER_MAX_SECONDS
from airflow_provider_webcamconsult.version_compat import AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_webcamconsult.api.resources import Appointment

#: Minimum seconds between two polls, even if ``poke_interval`` is shorter.
POKE_INTERVAL_MIN_SECONDS = 1.0
#: Maximum delay in seconds after failures, unless the interval itself is longer.
FAILURE_DELAY_MAX_SECONDS = 60.0
#: Seconds that the last poll of a wait may run past the deadline.
LAST_POLL_SECONDS = 1.0


def state_of(appointment: Appointment) -> str:
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


def is_terminal(error: WebcamconsultError) -> bool:
    """
    Return whether an error ends a wait that has polled successfully before.

    :param error: the error that the poll raised.
    """
    # The host was right before, so a web page instead of JSON means that the service is down.
    is_outage = isinstance(error, WebcamconsultConfigurationError) and error.status_code is not None
    return isinstance(error, AirflowFailException) and not is_outage


def next_delay_seconds(poke_interval: float, failures: int, error: WebcamconsultError | None) -> float:
    """
    Return the delay before the next poll: the interval, with exponential backoff after failures.

    :param poke_interval: seconds between two successful polls.
    :param failures: number of consecutive failed polls.
    :param error: the error of the last poll, if it failed.
    :return: the delay in seconds.
    """
    poke_interval = max(poke_interval, POKE_INTERVAL_MIN_SECONDS)
    longest = max(poke_interval, FAILURE_DELAY_MAX_SECONDS)
    delay: float = min(poke_interval * 2.0 ** min(failures, 32), longest)
    if failures:
        delay *= random.uniform(1, 1.1)  # noqa: S311
    retry_after = min(error.retry_after or 0.0, RETRY_AFTER_MAX_SECONDS) if error else 0.0
    return max(delay, retry_after)


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
