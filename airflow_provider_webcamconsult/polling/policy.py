"""What decides in a wait: when it is over, which errors end it, and when the next poll comes."""

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

#: Seconds between two looks at the least, whatever ``poke_interval`` says.
POKE_INTERVAL_MIN_SECONDS = 1.0
#: Seconds that the pause after failures grows to at the most, where the interval is not longer.
FAILURE_PAUSE_MAX_SECONDS = 60.0
#: Seconds beyond its deadline for which a wait's last look may take.
LAST_POLL_SECONDS = 1.0


def state_of(appointment: Appointment) -> str:
    """
    Return an appointment's state.

    :param appointment: the appointment.
    :raises WebcamconsultResponseError: if it has none; what is not understood never counts as success.
    """
    state = appointment.get("state")
    if not isinstance(state, str) or not state:
        raise WebcamconsultResponseError(f"Appointment {appointment['id']} came without a state. Try again.")
    return state


def is_terminal(error: WebcamconsultError) -> bool:
    """
    Tell whether an error ends a wait that has begun well.

    :param error: what a look at the appointment raised.
    """
    # A web page in place of an answer is then a pause of the service, not a wrong Host.
    passing = isinstance(error, WebcamconsultConfigurationError) and error.status_code is not None
    return isinstance(error, AirflowFailException) and not passing


def next_delay_seconds(poke_interval: float, failures: int, error: WebcamconsultError | None) -> float:
    """
    Return the seconds to the next look: the interval, longer after failures in a row.

    :param poke_interval: seconds between two looks that succeed.
    :param failures: how many looks in a row have failed.
    :param error: the last failure.
    """
    poke_interval = max(poke_interval, POKE_INTERVAL_MIN_SECONDS)
    longest = max(poke_interval, FAILURE_PAUSE_MAX_SECONDS)
    pause: float = min(poke_interval * 2.0 ** min(failures, 32), longest)
    if failures:
        pause *= random.uniform(1, 1.1)  # noqa: S311
    asked = min(error.retry_after or 0.0, RETRY_AFTER_MAX_SECONDS) if error else 0.0
    return max(pause, asked)


def is_reached(state: str, target_states: Collection[str] | None) -> bool:
    """
    Tell whether a wait is over.

    :param state: the appointment's state.
    :param target_states: the states that are awaited; None: any but the initial one.
    """
    return state != INITIAL_STATE if target_states is None else state in target_states


def format_target_states(target_states: Collection[str] | None) -> str:
    """
    Say what is awaited.

    :param target_states: the states that are awaited; None: any but the initial one.
    """
    if target_states is None:
        return f"anything but '{INITIAL_STATE}'"
    return " or ".join(f"'{state}'" for state in target_states)
