"""The sensor that waits for an appointment's state."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.attributes import check_id
from airflow_provider_webcamconsult.api.request import get_request
from airflow_provider_webcamconsult.api.resources import APPOINTMENT, INITIAL_STATE
from airflow_provider_webcamconsult.exceptions import WebcamconsultError, WebcamconsultInputError
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.polling.policy import (
    LAST_POLL_SECONDS,
    format_target_states,
    is_reached,
    is_terminal,
    next_delay_seconds,
    state_of,
)
from airflow_provider_webcamconsult.triggers.appointments import WebcamconsultAppointmentStateTrigger, restore
from airflow_provider_webcamconsult.version_compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    can_end_from_trigger,
    conf,
    try_started_at,
    was_rescheduled,
)

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from airflow_provider_webcamconsult.version_compat import Context

#: Seconds after the deadline at which Airflow ends a deferred wait whose trigger did not (no triggerer runs).
DEFERRAL_GRACE_SECONDS = 60
#: Seconds before the deadline from which a rescheduled wait stays on its worker: to come back takes a while.
LAST_LEG_SECONDS = 15
#: Seconds between two processes of a rescheduled wait at the least. Airflow 3 can take a task that comes back
#: within a second or two for one that was killed, and counts a try.
RESCHEDULE_MIN_SECONDS = 5


class WebcamconsultAppointmentStateSensor(BaseSensorOperator):
    """
    Wait until an appointment reaches a state (API document, "View an Appointment detail").

    The task returns the state that ended the wait. It fails at once, without a retry, in a failed state,
    when the appointment is gone, or when the service refuses the token; it survives everything else until
    ``timeout``. The outcome is the same with ``mode="poke"``, ``mode="reschedule"`` and ``deferrable=True``.
    ``poke_interval``, ``timeout`` (both in seconds), ``soft_fail`` and ``mode`` are Airflow's own; a
    ``poke_interval`` below a second is a second, and below five in reschedule mode, five. In each mode
    ``execution_timeout`` too ends the wait in time, counted from the start of the try; that is a failure
    which Airflow may retry, and which ``soft_fail`` does not turn into a skip.

    :param appointment_id: id of the appointment (templated).
    :param target_states: states that are awaited; by default any but ``idle``, the only one that the API
        document names (templated).
    :param failed_states: states that end the wait as a failure (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    :param deferrable: whether to wait in the triggerer, without a worker slot; by default Airflow's
        ``[operators] default_deferrable``.
    :param end_from_trigger: whether a deferred wait that ends well ends in the triggerer, without a worker
        slot for its end. What a worker does at the end of a task is not done then: it is refused where that
        would lose ``outlets`` or ``on_success_callback``; ``post_execute`` and listeners do not hear of it.
        On Airflow 3.0 to 3.2, whose triggers cannot return a value, a worker ends it all the same.
    """

    template_fields: Sequence[str] = (
        "appointment_id",
        "target_states",
        "failed_states",
        "webcamconsult_conn_id",
    )
    ui_color = "#f3ecd6"
    custom_operator_name = "AppointmentStateSensor"

    _began: float | None = None
    _last_state: str | None = None
    _last_error: WebcamconsultError | None = None
    _failures = 0

    def __init__(
        self,
        *,
        appointment_id: str | XComArg,
        target_states: Collection[str] | None = None,
        failed_states: Collection[str] = (),
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.appointment_id = appointment_id
        self.target_states = target_states
        self.failed_states = failed_states
        self.webcamconsult_conn_id = webcamconsult_conn_id
        self.deferrable = deferrable
        self.end_from_trigger = end_from_trigger

    @cached_property
    def hook(self) -> WebcamconsultHook:
        """The hook for this sensor's connection."""
        return WebcamconsultHook(self.webcamconsult_conn_id)

    def poke(self, context: Context) -> PokeReturnValue:
        """
        Look once; in deferrable mode, hand the wait to the trigger if it is not over.

        :param context: the task's context.
        """
        try:
            return self._poke(context)
        except AirflowTaskTimeout:
            # Airflow softens it where it strikes in a look, and nowhere else.
            self.soft_fail = False
            raise

    def _poke(self, context: Context) -> PokeReturnValue:
        self._check()
        if self._began is None:
            self._began = try_started_at(context, reschedule=self.reschedule)
        began_well = self.reschedule and was_rescheduled(context)
        while True:
            last_state = self._last_state
            state = self._look(began_well=began_well)
            if state is not None and self._is_over(state):
                return PokeReturnValue(is_done=True, xcom_value=state)
            remaining = self._deadline - time.time()
            if remaining <= 0:
                raise self._timed_out(self._last_state)
            if self.deferrable:
                self._defer()
            if state is not None and state != last_state:
                self.log.info(
                    "Waiting for %s. It looks again in %.0f s.",
                    format_target_states(self.target_states),
                    self._pause,
                )
            if not self.reschedule or remaining > RESCHEDULE_MIN_SECONDS + LAST_LEG_SECONDS:
                return PokeReturnValue(is_done=False)
            time.sleep(min(self._pause, remaining))

    def _get_next_poke_interval(
        self, started_at: Any, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Keep the pause after a failure, and Airflow's to the deadline."""
        pause = max(super()._get_next_poke_interval(started_at, run_duration, poke_count), self._pause)
        remaining = self._deadline - time.time()
        if self.reschedule:
            return max(min(pause, remaining - LAST_LEG_SECONDS), RESCHEDULE_MIN_SECONDS)
        return max(min(pause, remaining), 0.0)

    @property
    def _pause(self) -> float:
        return next_delay_seconds(self.poke_interval, self._failures, self._last_error)

    @property
    def _timeout_name(self) -> str:
        """Name of the limit that comes first; Airflow ignores ``execution_timeout`` of deferred tasks."""
        if self.execution_timeout is not None and self.execution_timeout.total_seconds() < self.timeout:
            return "execution_timeout"
        return "timeout"

    @property
    def _deadline(self) -> float:
        return (self._began or time.time()) + self._seconds(self._timeout_name)

    def _seconds(self, limit: str) -> float:
        value: Any = getattr(self, limit, None)
        return value.total_seconds() if isinstance(value, timedelta) else value or 0.0

    def _check(self) -> None:
        check_id(APPOINTMENT, self.appointment_id)
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
        if self.deferrable and self.end_from_trigger:
            self._check_end_from_trigger()

    def _check_end_from_trigger(self) -> None:
        lost = [name for name in ("outlets", "on_success_callback") if getattr(self, name)]
        if lost:
            raise WebcamconsultInputError(
                f"end_from_trigger would lose {' and '.join(lost)}, done by a worker at the end of the task. "
                "Leave out one or the other."
            )

    def _look(self, *, began_well: bool) -> str | None:
        """Return the state; None where it could not be had this time."""
        check_id(APPOINTMENT, self.appointment_id)
        try:
            request = get_request(
                APPOINTMENT, str(self.appointment_id), plural_paths=self.hook.settings.plural_paths
            )
            # Once: the next look is the repetition. And not far beyond the deadline.
            remaining = max(self._deadline - time.time(), LAST_POLL_SECONDS)
            state = state_of(self.hook.transport.send_once(request, timeout=remaining).value)
        except WebcamconsultError as error:
            began_well = began_well or self._last_state is not None
            if is_terminal(error) or (isinstance(error, AirflowFailException) and not began_well):
                raise
            self._failures, self._last_error = self._failures + 1, error
            self.log.warning("%s Still waiting. It looks again in %.0f s.", error, self._pause)
            return None
        self._failures, self._last_error = 0, None
        if state != self._last_state:
            self.log.info("Appointment %s is '%s'.", self.appointment_id, state)
            self._last_state = state
        return state

    def _is_over(self, state: str) -> bool:
        if state in self.failed_states:
            raise AirflowFailException(
                f"Appointment {self.appointment_id} is '{state}', one of failed_states; "
                f"waited for {format_target_states(self.target_states)}."
            )
        return is_reached(state, self.target_states)

    def _defer(self) -> None:
        deadline = self._deadline
        seconds = max(deadline - time.time(), 0)
        self.log.info(
            "Waiting in the triggerer for %s, until %s at the latest.",
            format_target_states(self.target_states),
            f"{datetime.fromtimestamp(deadline, timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
        )
        self.defer(
            trigger=WebcamconsultAppointmentStateTrigger(
                appointment_id=str(self.appointment_id),
                target_states=None if self.target_states is None else list(self.target_states),
                failed_states=list(self.failed_states),
                webcamconsult_conn_id=self.webcamconsult_conn_id,
                poke_interval=self.poke_interval,
                deadline=deadline,
                timeout_name=self._timeout_name,
                last_state=self._last_state,
                end_from_trigger=self.end_from_trigger and can_end_from_trigger(),
                do_xcom_push=self.do_xcom_push,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=seconds + DEFERRAL_GRACE_SECONDS),
        )

    def _timed_out(self, state: str | None, limit: str | None = None) -> BaseException:
        limit = limit or self._timeout_name
        seconds = self._seconds(limit)
        error_class = AirflowTaskTimeout if limit == "execution_timeout" else AirflowSensorTimeout
        seen = f"last seen '{state}'" if state else "never seen"
        return error_class(
            f"The {limit} of {seconds:.15g} s is over. Appointment {self.appointment_id} was {seen}; "
            f"waited for {format_target_states(self.target_states)}. Look at it there, or raise the limit."
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
            raise self._timed_out(state, event["timed_out"])
        if not isinstance(state, str) or not self._is_over(state):
            raise _not_understood()
        self.log.info("Appointment %s is '%s'.", self.appointment_id, state)
        return state


def _not_understood() -> AirflowFailException:
    return AirflowFailException("The trigger's event was not understood, so it does not count as success.")
