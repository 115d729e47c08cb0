"""The sensor that waits until an appointment reaches a state."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.missing import is_no_value
from airflow_provider_webcamconsult.api.payload import check_id, check_switch
from airflow_provider_webcamconsult.api.request import get_request
from airflow_provider_webcamconsult.api.resources import APPOINTMENT, INITIAL_STATE
from airflow_provider_webcamconsult.api.states import (
    describe_state,
    format_target_states,
    is_reached,
    state_of,
)
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultInputError,
)
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.polling.policy import (
    FINAL_ERRORS,
    LAST_POLL_SECONDS,
    failure_delay_seconds,
    next_interval_seconds,
)
from airflow_provider_webcamconsult.triggers.appointments import (
    WebcamconsultAppointmentStateTrigger,
    deserialize_error,
)
from airflow_provider_webcamconsult.version_compat import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
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

#: Seconds after the deadline until Airflow itself ends a deferred wait, for example if no triggerer runs.
DEFERRAL_GRACE_SECONDS = 60
#: A longer timeout counts as this one, because Airflow stores the end of a deferred wait as a date.
TIMEOUT_MAX_SECONDS = 100 * 365 * 86400.0
#: A rescheduled wait stays on its worker for these last seconds before the deadline: rescheduling is slow.
LAST_LEG_SECONDS = 15
#: Seconds until an error that ends the wait is confirmed by a second request.
CONFIRMATION_SECONDS = 5
#: Minimum seconds between two processes of a rescheduled wait. If a task comes back within a second or two,
#: Airflow 3 can mistake it for a killed task and count a try.
RESCHEDULE_MIN_SECONDS = 5


class WebcamconsultAppointmentStateSensor(BaseSensorOperator):
    """
    Wait until an appointment reaches a state (API document, "View an Appointment detail").

    The task returns the state that ended the wait. It fails without a retry if the appointment reaches a
    failed state, or if the API answers twice in a row that it does not exist or that the token is rejected.
    After any other error it keeps polling until ``timeout``. The outcome is the same with ``mode="poke"``,
    ``mode="reschedule"`` and ``deferrable=True``.

    ``poke_interval``, ``timeout`` (both in seconds), ``exponential_backoff``, ``max_wait``, ``soft_fail``,
    ``never_fail``, ``silent_fail`` and ``mode`` are Airflow's own parameters and hold in every mode.
    The minimum ``poke_interval`` is 1 second, and 5 seconds in reschedule mode. ``execution_timeout`` also
    ends the wait in every mode, counted from the start of the try. Airflow may then retry the task, and
    ``soft_fail`` does not turn this failure into a skip.

    :param appointment_id: id of the appointment (templated).
    :param target_states: states to wait for (templated). By default, any state except ``idle``, the only
        state that the API document names.
    :param failed_states: states that end the wait as a failure (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    :param deferrable: whether to wait in the triggerer, without using a worker slot. By default, Airflow's
        ``[operators] default_deferrable``.
    :param end_from_trigger: whether a deferred wait that succeeds also ends in the triggerer, without using
        a worker slot again. Airflow then skips ``post_execute`` and listeners. The task fails at its start
        if it has ``outlets`` or ``on_success_callback``, which would be skipped too. On Airflow 3.0 to 3.2 a
        worker always ends the task, because triggers cannot return a value there.
    """

    template_fields: Sequence[str] = (
        "appointment_id",
        "target_states",
        "failed_states",
        "webcamconsult_conn_id",
    )
    ui_color = "#f3ecd6"
    custom_operator_name = "AppointmentStateSensor"

    _started_at: float | None = None
    _last_state: str | None = None
    _last_error: WebcamconsultError | None = None
    _failures = 0

    def __init__(
        self,
        *,
        appointment_id: str | XComArg,
        target_states: Collection[str] | None = None,
        failed_states: Collection[str] | None = (),
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
        Check the state once. In deferrable mode, defer to the trigger if the wait is not over.

        :param context: the task's context.
        :return: whether the wait is over, and the state that ended it.
        :raises AirflowFailException: if the wait cannot succeed.
        :raises AirflowSensorTimeout: if ``timeout`` is over.
        :raises AirflowTaskTimeout: if ``execution_timeout`` is over.
        """
        try:
            return self._poke(context)
        except AirflowTaskTimeout:
            # Airflow applies soft_fail to this error only if poke() raises it. It must always be a failure.
            self.soft_fail = False
            raise

    def _poke(self, context: Context) -> PokeReturnValue:
        self._validate()
        if self._started_at is None:
            self._started_at = try_started_at(context, reschedule=self.reschedule)
        past_first_poke = self.reschedule and was_rescheduled(context)
        while True:
            last_state = self._last_state
            state = self._fetch_state(past_first_poke=past_first_poke)
            if state is not None and self._is_over(state):
                return PokeReturnValue(is_done=True, xcom_value=state)
            remaining = self._deadline - time.time()
            if remaining <= 0:
                raise self._timed_out(self._last_state)
            if self.deferrable:
                self._defer()
            if state is not None and state != last_state:
                self.log.info(
                    "Waiting for %s. Next check in %.0f s.",
                    format_target_states(self.target_states),
                    self._delay,
                )
            if not self.reschedule or remaining > RESCHEDULE_MIN_SECONDS + LAST_LEG_SECONDS:
                return PokeReturnValue(is_done=False)
            time.sleep(min(self._delay, remaining))

    def _get_next_poke_interval(
        self, started_at: Any, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Return Airflow's interval, longer after failures and shorter close to the deadline."""
        delay = next_interval_seconds(super()._get_next_poke_interval(started_at, run_duration, poke_count))
        if self._failures:
            delay = max(delay, self._delay)
        remaining = self._deadline - time.time()
        if self.reschedule:
            return max(min(delay, remaining - LAST_LEG_SECONDS), RESCHEDULE_MIN_SECONDS)
        return max(min(delay, remaining), 0.0)

    @property
    def _delay(self) -> float:
        interval: float = next_interval_seconds(self.poke_interval)
        if not self._failures:
            return interval
        return failure_delay_seconds(interval, self._failures, self._last_error)

    @property
    def _timeout_name(self) -> str:
        """Name of the shorter timeout. Airflow itself ignores ``execution_timeout`` of deferred tasks."""
        if self.execution_timeout is not None and self.execution_timeout.total_seconds() < self.timeout:
            return "execution_timeout"
        return "timeout"

    @property
    def _deadline(self) -> float:
        seconds = min(self._seconds(self._timeout_name), TIMEOUT_MAX_SECONDS)
        return (self._started_at or time.time()) + seconds

    def _seconds(self, timeout_name: str) -> float:
        value: Any = getattr(self, timeout_name, None)
        return value.total_seconds() if isinstance(value, timedelta) else value or 0.0

    def _validate(self) -> None:
        check_id(APPOINTMENT, self.appointment_id)
        check_switch("deferrable", self.deferrable)
        check_switch("end_from_trigger", self.end_from_trigger)
        for name, states in (("target_states", self.target_states), ("failed_states", self.failed_states)):
            if states is None:
                continue
            if (
                isinstance(states, str)
                or not isinstance(states, Collection)
                or not all(isinstance(state, str) and state for state in states)
            ):
                raise WebcamconsultInputError(f"{name} must be a list of state names.")
            if missing := [state for state in states if is_no_value(state)]:
                raise WebcamconsultInputError(
                    f"{name} contains '{missing[0]}', which stands for a missing value. Check its template."
                )
        if self.target_states is not None and not self.target_states:
            raise WebcamconsultInputError(
                "target_states is empty, so the wait would never end. "
                f"Omit it to wait for any state except '{INITIAL_STATE}'."
            )
        if both := set(self.target_states or ()) & set(self.failed_states or ()):
            raise WebcamconsultInputError(
                f"States in both target_states and failed_states: {', '.join(sorted(both))}. "
                "Remove each of them from one of the lists."
            )
        if self.deferrable and self.end_from_trigger:
            self._check_end_from_trigger()

    def _check_end_from_trigger(self) -> None:
        skipped = [name for name in ("outlets", "on_success_callback") if getattr(self, name)]
        if skipped:
            names = " and ".join(skipped)
            raise WebcamconsultInputError(
                f"end_from_trigger would skip {names}, which only a worker processes. "
                f"Remove {names}, or set end_from_trigger=False."
            )

    def _fetch_state(self, *, past_first_poke: bool) -> str | None:
        """Return the state, or None after a temporary error."""
        try:
            state = self._request_state()
        except WebcamconsultError as error:
            past_first_poke = past_first_poke or self._last_state is not None
            is_wrong = isinstance(error, (WebcamconsultInputError, *FINAL_ERRORS))
            if is_wrong or (not past_first_poke and _concerns_connection(error)):
                raise
            self._failures, self._last_error = self._failures + 1, error
            self.log.warning("%s Still waiting. Next check in %.0f s.", error, self._delay)
            return None
        self._failures, self._last_error = 0, None
        if state != self._last_state:
            self.log.info("Appointment %s is in %s.", self.appointment_id, describe_state(state))
            self._last_state = state
        return state

    def _request_state(self) -> str:
        """Request the state. Confirm an error that would end the wait, because it may be a hiccup."""
        # No retries, because the next poke is the retry. The request must not run far past the deadline.
        request = get_request(
            APPOINTMENT, str(self.appointment_id), plural_paths=self.hook.settings.plural_paths
        )
        send = self.hook.transport.send_once
        try:
            return state_of(send(request, timeout=self._remaining).value)
        except (WebcamconsultConfigurationError, *FINAL_ERRORS):
            time.sleep(min(CONFIRMATION_SECONDS, self._remaining))
        return state_of(send(request, timeout=self._remaining).value)

    @property
    def _remaining(self) -> float:
        return max(self._deadline - time.time(), LAST_POLL_SECONDS)

    def _is_over(self, state: str) -> bool:
        if state in (self.failed_states or ()):
            raise AirflowFailException(
                f"Appointment {self.appointment_id} is in state '{state}', which is one of failed_states; "
                f"expected {format_target_states(self.target_states)}. "
                "Check the appointment in Webcamconsult."
            )
        return is_reached(state, self.target_states)

    def _defer(self) -> None:
        deadline = self._deadline
        seconds = max(deadline - time.time(), 0)
        self.log.info(
            "Deferring to the triggerer to wait for %s. The wait times out at %s.",
            format_target_states(self.target_states),
            f"{datetime.fromtimestamp(deadline, timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
        )
        self.defer(
            trigger=WebcamconsultAppointmentStateTrigger(
                appointment_id=str(self.appointment_id),
                target_states=None if self.target_states is None else list(self.target_states),
                failed_states=list(self.failed_states or ()),
                webcamconsult_conn_id=self.webcamconsult_conn_id,
                poke_interval=self.poke_interval,
                deadline=deadline,
                exponential_backoff=self.exponential_backoff,
                max_wait=None if self.max_wait is None else self.max_wait.total_seconds(),
                timeout_name=self._timeout_name,
                last_state=self._last_state,
                end_from_trigger=self.end_from_trigger and can_end_from_trigger(),
                do_xcom_push=self.do_xcom_push,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=seconds + DEFERRAL_GRACE_SECONDS),
        )

    def _timed_out(self, state: str | None, timeout_name: str | None = None) -> BaseException:
        timeout_name = timeout_name or self._timeout_name
        error_class = AirflowTaskTimeout if timeout_name == "execution_timeout" else AirflowSensorTimeout
        last = f"last seen in {describe_state(state)}" if state else "its state was never received"
        return error_class(
            f"Timed out after {self._seconds(timeout_name):.15g} s waiting for appointment "
            f"{self.appointment_id} to reach {format_target_states(self.target_states)}; {last}. "
            f"Check the appointment in Webcamconsult, or increase {timeout_name}."
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """
        End a deferred wait with the outcome that the trigger reported.

        :param context: the task's context.
        :param event: payload of the trigger's event.
        :return: the state that ended the wait.
        :raises WebcamconsultError: if the trigger reported an error.
        :raises AirflowFailException: if the appointment is in a failed state or the event is unexpected.
        :raises AirflowSensorTimeout: if ``timeout`` is over.
        :raises AirflowTaskTimeout: if ``execution_timeout`` is over.
        """
        try:
            return self._outcome(event)
        except (AirflowException, AirflowTaskTimeout) as error:
            # Airflow 2 applies never_fail to pokes only.
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            raise

    def _outcome(self, event: dict[str, Any]) -> str:
        if not isinstance(event, dict):
            raise _unexpected_event()
        if event.get("error"):
            try:
                error: Exception = deserialize_error(event["error"])
            except Exception:
                error = _unexpected_event()
            raise error
        state = event.get("state")
        if event.get("timed_out"):
            raise self._timed_out(state, event["timed_out"])
        if not isinstance(state, str) or not self._is_over(state):
            raise _unexpected_event()
        self.log.info("Appointment %s is in %s.", self.appointment_id, describe_state(state))
        return state


def _concerns_connection(error: WebcamconsultError) -> bool:
    """Return whether the Airflow connection cannot be read, or has a Host that is not the API."""
    is_unreadable = isinstance(error, WebcamconsultConnectionError) and error.method is None
    return is_unreadable or isinstance(error, WebcamconsultConfigurationError)


def _unexpected_event() -> AirflowFailException:
    return AirflowFailException(
        "Unexpected trigger event; failing the task. "
        "Check that worker and triggerer run the same provider version."
    )
