"""The trigger that waits for an appointment's state without a worker slot."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_webcamconsult import exceptions
from airflow_provider_webcamconsult._compat import AirflowFailException
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultError,
    WebcamconsultResponseError,
)
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.resources import INITIAL_STATE, Appointment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

#: Seconds beyond the deadline that the last look may take.
LAST_LOOK_SECONDS = 1.0


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


def is_reached(state: str, target_states: Collection[str] | None) -> bool:
    """
    Tell whether a wait is over.

    :param state: the appointment's state.
    :param target_states: the states that are awaited; None: any but the initial one.
    """
    return state != INITIAL_STATE if target_states is None else state in target_states


def ends_wait(error: WebcamconsultError) -> bool:
    """
    Tell whether an error ends a wait that has begun well.

    :param error: what a look at the appointment raised.
    """
    # A web page in place of an answer is then a pause of the service, not a wrong Host.
    passing = isinstance(error, WebcamconsultConfigurationError) and error.status_code is not None
    return isinstance(error, AirflowFailException) and not passing


class WebcamconsultAppointmentStateTrigger(BaseTrigger):
    """
    Fire when an appointment reaches a state, or cannot any more.

    :param appointment_id: id of the appointment.
    :param target_states: states that are awaited; None: any but ``idle``.
    :param failed_states: states that end the wait as a failure.
    :param webcamconsult_conn_id: id of the Airflow connection.
    :param poke_interval: seconds between two looks.
    :param deadline: when the wait times out, in seconds since the epoch.
    """

    def __init__(
        self,
        appointment_id: str,
        target_states: list[str] | None,
        failed_states: list[str],
        webcamconsult_conn_id: str,
        poke_interval: float,
        deadline: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.appointment_id = appointment_id
        self.target_states = target_states
        self.failed_states = failed_states
        self.webcamconsult_conn_id = webcamconsult_conn_id
        self.poke_interval = poke_interval
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "appointment_id": self.appointment_id,
                "target_states": self.target_states,
                "failed_states": self.failed_states,
                "webcamconsult_conn_id": self.webcamconsult_conn_id,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look once an interval until the wait is over; the only event says how it ended."""
        hook = WebcamconsultHook(self.webcamconsult_conn_id)
        state = None
        remaining = self.deadline - time.time()
        is_last = False
        while not is_last:
            await asyncio.sleep(min(self.poke_interval, max(remaining, 0)))
            remaining = self.deadline - time.time()
            is_last = remaining <= 0  # a last look, however long the triggerer was away
            try:
                # In a thread: one transport serves the whole provider, and the event loop is never held up.
                look = asyncio.to_thread(hook.appointments.get, self.appointment_id)
                appointment = await asyncio.wait_for(look, timeout=max(remaining, 0) + LAST_LOOK_SECONDS)
                new_state = state_of(appointment)
            except asyncio.TimeoutError:
                break
            except WebcamconsultError as error:
                if ends_wait(error):
                    yield _event(state, error=describe(error))
                    return
                self.log.warning("%s Still waiting.", error)
                continue
            if new_state != state:
                self.log.info("Appointment %s is '%s'.", self.appointment_id, new_state)
                state = new_state
            if state in self.failed_states or is_reached(state, self.target_states):
                yield _event(state)
                return
        yield _event(state, timed_out=True)


def _event(state: str | None, **how: Any) -> TriggerEvent:
    return TriggerEvent({"state": state, **how})  # type: ignore[no-untyped-call]


def describe(error: WebcamconsultError) -> dict[str, Any]:
    """
    Write an error as JSON, for a trigger's event.

    :param error: the error.
    """
    return {
        "type": type(error).__name__,
        "message": str(error),
        "method": error.method,
        "path": error.path,
        "status_code": error.status_code,
        "reason": error.reason,
    }


def restore(description: dict[str, Any]) -> WebcamconsultError:
    """
    Make the error again that :func:`describe` wrote.

    :param description: from :func:`describe`.
    :raises Exception: of any kind, if it is not.
    """
    error_class = getattr(exceptions, str(description["type"]))
    if not (isinstance(error_class, type) and issubclass(error_class, WebcamconsultError)):
        raise ValueError("no error of this provider")
    names = ("method", "path", "status_code", "reason")
    return error_class(str(description["message"]), **{name: description.get(name) for name in names})
