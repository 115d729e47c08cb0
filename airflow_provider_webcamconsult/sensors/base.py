"""What the sensors of appointments have in common: how they poke, defer, time out and end."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.missing import is_no_value
from airflow_provider_webcamconsult.api.payload import check_switch
from airflow_provider_webcamconsult.api.request import get_request, list_request
from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultInputError,
    WebcamconsultNotFoundError,
    WebcamconsultRequestError,
)
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.polling.policy import (
    FINAL_ERRORS,
    LAST_POLL_SECONDS,
    LIST_TRIAL_POLLS,
    concerns_service,
    failure_delay_seconds,
    interval_until_date_seconds,
    next_interval_seconds,
)
from airflow_provider_webcamconsult.record_requests import RecordRequests
from airflow_provider_webcamconsult.triggers.base import deserialize_error
from airflow_provider_webcamconsult.version_compat import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    can_end_from_trigger,
    is_mapped,
    try_started_at,
    was_rescheduled,
)

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.api.request import Request
    from airflow_provider_webcamconsult.api.waits import Goal, Verdict
    from airflow_provider_webcamconsult.triggers.base import AppointmentTrigger
    from airflow_provider_webcamconsult.version_compat import Context

#: Seconds after the deadline until Airflow itself ends a deferred wait, for example if no triggerer runs.
DEFERRAL_GRACE_SECONDS = 60
#: A longer timeout counts as this one, because Airflow stores the end of a deferred wait as a date.
TIMEOUT_MAX_SECONDS = 100 * 365 * 86400.0
#: A rescheduled wait stays on its worker for these last seconds before the deadline: rescheduling is slow.
LAST_LEG_SECONDS = 15
#: Seconds until an error that ends the wait is confirmed by a second request.
CONFIRMATION_SECONDS = 5
#: Minimum time limit of a request in seconds, when a poll has no more time.
REQUEST_MIN_SECONDS = 0.1
#: Minimum seconds between two processes of a rescheduled wait. If a task comes back within a second or two,
#: Airflow 3 can mistake it for a killed task and count a try.
RESCHEDULE_MIN_SECONDS = 5


class AppointmentSensor(BaseSensorOperator):
    """
    Wait for one or many appointments. The outcome is the same in each mode.

    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    :param deferrable: whether to wait in the triggerer, without using a worker slot.
    :param end_from_trigger: whether a deferred wait that succeeds also ends in the triggerer.
    """

    _started_at: float | None = None
    _last_summary: str | None = None
    _last_error: WebcamconsultError | None = None
    _failures = 0
    _poll_end = 0.0

    def __init__(
        self, *, webcamconsult_conn_id: str, deferrable: bool, end_from_trigger: bool, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.webcamconsult_conn_id = webcamconsult_conn_id
        self.deferrable = deferrable
        self.end_from_trigger = end_from_trigger
        self._values: dict[str, Any] = {}
        self._missing: dict[str, WebcamconsultError] = {}

    # -- What the sensors differ in --------------------------------------------------------------------------

    @property
    def _goal(self) -> Goal:
        raise NotImplementedError

    def _trigger(self, **arguments: Any) -> AppointmentTrigger:
        """Return the trigger of a deferred wait, given the arguments that all triggers have."""
        raise NotImplementedError

    def _fail(self, verdict: Verdict) -> BaseException:
        """Return the exception that ends a wait which cannot succeed."""
        raise NotImplementedError

    # -- On the worker ---------------------------------------------------------------------------------------

    @cached_property
    def hook(self) -> WebcamconsultHook:
        """The hook for this sensor's connection."""
        return WebcamconsultHook(self.webcamconsult_conn_id)

    def poke(self, context: Context) -> PokeReturnValue:
        """
        Check once whether the wait is over. In deferrable mode, defer to the trigger if it is not.

        :param context: the task's context.
        :return: whether the wait is over, and the task's return value.
        :raises AirflowFailException: if the wait cannot succeed.
        :raises AirflowSkipException: if the task is to be skipped.
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
            last_summary = self._last_summary
            is_known = self._fetch(past_first_poke=past_first_poke)
            if is_known and self._is_over(time.time()):
                return PokeReturnValue(is_done=True, xcom_value=self._goal.result(self._values))
            remaining = self._deadline - time.time()
            if remaining <= 0:
                raise self._timed_out()
            if self.deferrable:
                self._defer()
            if is_known and self._last_summary != last_summary:
                self.log.info(
                    "Waiting for %s. Next check in %.0f s.", self._goal.purpose(self._values), self._delay
                )
            if not self.reschedule or remaining > RESCHEDULE_MIN_SECONDS + LAST_LEG_SECONDS:
                return PokeReturnValue(is_done=False)
            time.sleep(min(self._delay, remaining))

    def _get_next_poke_interval(
        self, started_at: Any, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Return Airflow's interval, longer after failures and shorter close to the deadline."""
        delay = self._delay
        if self._seconds_left is None:
            by_airflow = super()._get_next_poke_interval(started_at, run_duration, poke_count)
            delay = max(next_interval_seconds(by_airflow), delay if self._failures else 0.0)
        remaining = self._deadline - time.time()
        if self.reschedule:
            return max(min(delay, remaining - LAST_LEG_SECONDS), RESCHEDULE_MIN_SECONDS)
        return max(min(delay, remaining), 0.0)

    @property
    def _seconds_left(self) -> float | None:
        """Seconds until time itself ends the wait; None if it does not."""
        due = self._goal.due(self._values)
        return None if due is None else due - time.time()

    @property
    def _delay(self) -> float:
        """Seconds until the next poke, without Airflow's own back-off."""
        left = self._seconds_left
        if left is None:
            interval: float = next_interval_seconds(self.poke_interval)
        else:
            interval = interval_until_date_seconds(left, self.poke_interval, max_wait=self._max_wait)
        if self._failures:
            interval = failure_delay_seconds(interval, self._failures, self._last_error)
        return min(interval, left) if left is not None and left > 0 else interval

    @property
    def _max_wait(self) -> float | None:
        return None if self.max_wait is None else self.max_wait.total_seconds()

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
        check_switch("deferrable", self.deferrable)
        check_switch("end_from_trigger", self.end_from_trigger)
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

    # -- Requests --------------------------------------------------------------------------------------------

    def _fetch(self, *, past_first_poke: bool) -> bool:
        """Request the values, and return whether any are known. A temporary error is logged."""
        try:
            error = self._request_values()
        except WebcamconsultError as caught:
            past_first_poke = past_first_poke or bool(self._values)
            is_wrong = isinstance(caught, (WebcamconsultInputError, *FINAL_ERRORS))
            if is_wrong or (not past_first_poke and _concerns_connection(caught)):
                raise
            self._count_failure(caught)
            return False
        if error:
            self._count_failure(error)
        else:
            self._failures, self._last_error = 0, None
        summary = self._goal.summary(self._values)
        if summary and summary != self._last_summary:
            self.log.info("%s", summary)
            self._last_summary = summary
        return True

    def _count_failure(self, error: WebcamconsultError) -> None:
        self._failures, self._last_error = self._failures + 1, error
        self.log.warning("%s Still waiting. Next check in %.0f s.", error, self._delay)

    def _request_values(self) -> WebcamconsultError | None:
        """Request the values of all appointments. Return the error of one that could not be read."""
        goal, unreadable = self._goal, None
        self._poll_end = max(self._deadline, time.time()) + LAST_POLL_SECONDS
        ids = [id for id in goal.ids if id not in self._missing]
        listed = self._request_list(ids) if len(ids) >= LIST_TRIAL_POLLS else None
        # An appointment that is missing has to be so twice: in the list and at its own path, or twice there.
        for is_last in (listed is not None, True):
            not_found: dict[str, WebcamconsultError] = {}
            for id in ids:
                if time.time() >= self._poll_end:
                    break
                try:
                    self._values[id] = goal.read(listed[id] if listed and id in listed else self._get(id))
                except WebcamconsultNotFoundError as error:
                    not_found[id] = error
                except WebcamconsultError as error:
                    if len(goal.ids) == 1 or isinstance(error, FINAL_ERRORS) or concerns_service(error):
                        raise
                    unreadable = error
            if is_last or not not_found:
                break
            ids = [*not_found]
            self._wait_for_confirmation()
        self._missing.update(not_found)
        for id in not_found:
            self._values.pop(id, None)
        return unreadable

    def _request_list(self, ids: Collection[str]) -> dict[str, Any] | None:
        """Request all appointments; None if the service rejects lists."""
        request = list_request(APPOINTMENT, only=frozenset(ids), fields=self._goal.fields, malformed="skip")
        try:
            return {each["id"]: each for each in self._send(request)}
        except WebcamconsultRequestError as error:
            if isinstance(error, WebcamconsultAuthenticationError):
                raise
            return None

    def _get(self, appointment_id: str) -> Any:
        return self._send(
            get_request(APPOINTMENT, appointment_id, plural_paths=self.hook.settings.plural_paths)
        )

    def _send(self, request: Request) -> Any:
        """Send a request. Confirm an error that would end the wait, because it may be a hiccup."""
        try:
            return self._send_once(request)
        except (WebcamconsultConfigurationError, WebcamconsultAuthenticationError):
            self._wait_for_confirmation()
        return self._send_once(request)

    def _send_once(self, request: Request) -> Any:
        # No retries, because the next poke is the retry.
        return self.hook.transport.send_once(request, timeout=self._remaining).value

    def _wait_for_confirmation(self) -> None:
        time.sleep(min(CONFIRMATION_SECONDS, self._remaining / 2))

    @property
    def _remaining(self) -> float:
        """Seconds that this poll may take."""
        return max(self._poll_end - time.time(), REQUEST_MIN_SECONDS)

    # -- The end ---------------------------------------------------------------------------------------------

    def _is_over(self, now: float) -> bool:
        """Return whether the wait has succeeded. Raise if it cannot succeed any more."""
        verdict = self._goal.verdict(self._values, self._missing, now)
        if verdict == "lost" and self._missing:
            self._confirm_missing()
        if verdict not in ("waiting", "reached"):
            raise self._fail(verdict)
        return verdict == "reached"

    def _confirm_missing(self) -> None:
        """Raise an error if the list shows what is missing: a wrong path returns 404 too."""
        try:
            RecordRequests(self.hook.transport, APPOINTMENT).confirm_missing(self._missing)
        except WebcamconsultConfigurationError:
            raise
        except WebcamconsultError as failure:
            self.log.warning("%s", failure)  # two responses have said that it is missing

    def _defer(self) -> None:
        deadline = self._deadline
        seconds = max(deadline - time.time(), 0)
        self.log.info(
            "Deferring to the triggerer to wait for %s. The wait times out at %s.",
            self._goal.purpose(self._values),
            f"{datetime.fromtimestamp(deadline, timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
        )
        self.defer(
            trigger=self._trigger(
                webcamconsult_conn_id=self.webcamconsult_conn_id,
                poke_interval=self.poke_interval,
                deadline=deadline,
                max_wait=self._max_wait,
                timeout_name=self._timeout_name,
                end_from_trigger=self.end_from_trigger and can_end_from_trigger() and not self._needs_worker,
                do_xcom_push=self.do_xcom_push,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=seconds + DEFERRAL_GRACE_SECONDS),
        )

    @property
    def _needs_worker(self) -> bool:
        """Whether Airflow needs more than the return value, which only a worker stores."""
        if self.multiple_outputs:
            return True
        # Tasks that are mapped over it need its length, unless this task is mapped itself.
        has_dag: bool = self.has_dag()  # type: ignore[no-untyped-call]
        return has_dag and not is_mapped(self) and any(self.iter_mapped_dependants())

    def _timed_out(self, timeout_name: str | None = None) -> BaseException:
        timeout_name = timeout_name or self._timeout_name
        error_class = AirflowTaskTimeout if timeout_name == "execution_timeout" else AirflowSensorTimeout
        return error_class(
            f"Timed out after {self._seconds(timeout_name):.15g} s waiting for "
            f"{self._goal.purpose(self._values)}; {self._goal.last_known(self._values, self._missing)}. "
            f"Check the appointment in Webcamconsult, or increase {timeout_name}."
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """
        End a deferred wait with the outcome that the trigger reported.

        :param context: the task's context.
        :param event: payload of the trigger's event.
        :return: the task's return value.
        :raises WebcamconsultError: if the trigger reported an error.
        :raises AirflowFailException: if the wait cannot succeed or the event is unexpected.
        :raises AirflowSkipException: if the task is to be skipped.
        :raises AirflowSensorTimeout: if ``timeout`` is over.
        :raises AirflowTaskTimeout: if ``execution_timeout`` is over.
        """
        try:
            return self._outcome(event)
        except AirflowSkipException:
            raise
        except (AirflowException, AirflowTaskTimeout) as error:
            # Airflow 2 applies never_fail to pokes only.
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            raise

    def _outcome(self, event: Any) -> Any:
        try:
            error = deserialize_error(event["error"]) if event.get("error") else None
            values, self._missing = (
                {**event["values"]},
                {id: deserialize_error(each) for id, each in event.get("missing", {}).items()},
            )
            at = float(event["at"])
        except Exception:
            raise _unexpected_event() from None
        goal = self._goal
        if not values.keys() <= {*goal.ids} or not all(map(goal.is_value, values.values())):
            raise _unexpected_event()
        self._values = values
        if error:
            raise error
        if event.get("timed_out"):
            raise self._timed_out(event["timed_out"])
        # The clock of this worker may be behind that of the triggerer.
        if not self._is_over(max(at, time.time())):
            raise _unexpected_event()
        self.log.info("%s", goal.summary(values))
        return goal.result(values)


def check_states(name: str, states: object) -> None:
    """
    Check a parameter with the names of states.

    :param name: name of the parameter.
    :param states: value of the parameter.
    :raises WebcamconsultInputError: if it is not a list of names, or one stands for a missing value.
    """
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


def _concerns_connection(error: WebcamconsultError) -> bool:
    """Return whether the Airflow connection cannot be read, or has a Host that is not the API."""
    is_unreadable = isinstance(error, WebcamconsultConnectionError) and error.method is None
    return is_unreadable or isinstance(error, WebcamconsultConfigurationError)


def _unexpected_event() -> AirflowFailException:
    return AirflowFailException(
        "Unexpected trigger event; failing the task. "
        "Check that worker and triggerer run the same provider version."
    )
