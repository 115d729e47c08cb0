"""The sensor that waits for an appointment's state."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult import api
from airflow_provider_webcamconsult._compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
    was_rescheduled,
)
from airflow_provider_webcamconsult.exceptions import WebcamconsultError, WebcamconsultInputError
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.resources import APPOINTMENT, INITIAL_STATE
from airflow_provider_webcamconsult.triggers.appointments import (
    WebcamconsultAppointmentStateTrigger,
    ends_wait,
    is_reached,
    restore,
    state_of,
)

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from airflow_provider_webcamconsult._compat import Context

#: Seconds after the deadline at which Airflow ends a deferred wait whose trigger did not (no triggerer runs).
DEFERRAL_GRACE_SECONDS = 60


class WebcamconsultAppointmentStateSensor(BaseSensorOperator):
    """
    Wait until an appointment reaches a state (API document, "View an Appointment detail").

    The task returns the state that ended the wait. It fails at once, without a retry, in a failed state,
    when the appointment is gone, or when the service refuses the token; it survives everything else until
    ``timeout``. The outcome is the same with ``mode="poke"``, ``mode="reschedule"`` and ``deferrable=True``.
    ``poke_interval``, ``timeout`` (both in seconds), ``soft_fail`` and ``mode`` are Airflow's own.

    :param appointment_id: id of the appointment (templated).
    :param target_states: states that are awaited; by default any but ``idle``, the only one that the API
        document names (templated).
    :param failed_states: states that end the wait as a failure (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    :param deferrable: whether to wait in the triggerer, without a worker slot.
    """

    template_fields: Sequence[str] = (
        "appointment_id",
        "target_states",
        "failed_states",
        "webcamconsult_conn_id",
    )
    ui_color = "#f3ecd6"
    custom_operator_name = "AppointmentStateSensor"

    _last_state: str | None = None

    def __init__(
        self,
        *,
        appointment_id: str | XComArg,
        target_states: Collection[str] | None = None,
        failed_states: Collection[str] = (),
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.appointment_id = appointment_id
        self.target_states = target_states
        self.failed_states = failed_states
        self.webcamconsult_conn_id = webcamconsult_conn_id
        self.deferrable = deferrable

    @cached_property
    def hook(self) -> WebcamconsultHook:
        """The hook for this sensor's connection."""
        return WebcamconsultHook(self.webcamconsult_conn_id)

    def poke(self, context: Context) -> PokeReturnValue:
        """
        Look once; in deferrable mode, hand the wait to the trigger if it is not over.

        :param context: the task's context.
        """
        self._check()
        state = self._look(context)
        if state is not None and self._is_over(state):
            return PokeReturnValue(is_done=True, xcom_value=state)
        if self.deferrable:
            self._defer()
        return PokeReturnValue(is_done=False)

    def _check(self) -> None:
        api.check_id(APPOINTMENT, self.appointment_id)
        for name, states in (("target_states", self.target_states), ("failed_states", self.failed_states)):
            if states is None and name == "target_states":
                continue
            if (
                isinstance(states, str)
                or not isinstance(states, Collection)
                or not all(isinstance(state, str) and state for state in states)
            ):
                raise WebcamconsultInputError(f"{name} must be a list of names of states.")
        if self.target_states is not None and not self.target_states:
            raise WebcamconsultInputError(
                "target_states is empty: the wait would never end. "
                f"Leave it out to wait for any but '{INITIAL_STATE}'."
            )
        if both := set(self.target_states or ()) & set(self.failed_states):
            raise WebcamconsultInputError(
                f"{', '.join(sorted(both))} is in target_states and in failed_states. Decide for one."
            )

    def _look(self, context: Context) -> str | None:
        """Return the state; None where it could not be had this time."""
        began_well = self._last_state is not None or (self.reschedule and was_rescheduled(context))
        try:
            state = state_of(self.hook.appointments.get(str(self.appointment_id)))
        except WebcamconsultError as error:
            if ends_wait(error) or (isinstance(error, AirflowFailException) and not began_well):
                raise
            self.log.warning("%s Still waiting.", error)
            return None
        if state != self._last_state:
            self.log.info("Appointment %s is '%s'.", self.appointment_id, state)
            self._last_state = state
        return state

    def _is_over(self, state: str) -> bool:
        if state in self.failed_states:
            raise AirflowFailException(
                f"Appointment {self.appointment_id} is '{state}', one of failed_states; "
                f"waited for {self._awaited}."
            )
        return is_reached(state, self.target_states)

    @property
    def _awaited(self) -> str:
        if self.target_states is None:
            return f"any state but '{INITIAL_STATE}'"
        return " or ".join(f"'{state}'" for state in self.target_states)

    def _defer(self) -> None:
        limits = [self.timeout]
        if self.execution_timeout is not None:  # Airflow 3 ignores it while a task is deferred
            limits.append(self.execution_timeout.total_seconds())
        seconds = min(limits)
        self.log.info(
            "Waiting in the triggerer for %s; looking every %g s, for %g s at the most.",
            self._awaited,
            self.poke_interval,
            seconds,
        )
        self.defer(
            trigger=WebcamconsultAppointmentStateTrigger(
                appointment_id=str(self.appointment_id),
                target_states=None if self.target_states is None else list(self.target_states),
                failed_states=list(self.failed_states),
                webcamconsult_conn_id=self.webcamconsult_conn_id,
                poke_interval=self.poke_interval,
                deadline=time.time() + seconds,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=seconds + DEFERRAL_GRACE_SECONDS),
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """
        End the wait as the trigger's event says.

        :param context: the task's context.
        :param event: from the trigger.
        :return: the state that ended the wait.
        """
        if not isinstance(event, dict):
            raise _not_understood()
        if event.get("error"):
            try:
                error: Exception = restore(event["error"])
            except Exception:
                error = _not_understood()
            raise error
        state = event.get("state")
        if event.get("timed_out"):
            raise AirflowSensorTimeout(
                f"The time is over. Appointment {self.appointment_id} was last seen '{state}'; "
                f"waited for {self._awaited}."
            )
        if not isinstance(state, str) or not self._is_over(state):
            raise AirflowFailException(
                "The trigger's event was not understood, so it does not count as success."
            )
        self.log.info("Appointment %s is '%s'.", self.appointment_id, state)
        return state


def _not_understood() -> AirflowFailException:
    return AirflowFailException("The trigger's event was not understood, so it does not count as success.")
