"""The sensors that wait for appointments: for their state, or for their time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_webcamconsult.api.payload import check_id
from airflow_provider_webcamconsult.api.resources import APPOINTMENT, INITIAL_STATE
from airflow_provider_webcamconsult.api.states import describe_state, format_target_states
from airflow_provider_webcamconsult.api.waits import StateGoal, TimeGoal, WaitFor
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.sensors.base import AppointmentSensor, check_states
from airflow_provider_webcamconsult.triggers.appointments import (
    WebcamconsultAppointmentStateTrigger,
    WebcamconsultAppointmentTimeTrigger,
)
from airflow_provider_webcamconsult.version_compat import AirflowFailException, AirflowSkipException, conf

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from airflow_provider_webcamconsult.api.waits import Goal, Verdict

IfCancelled = Literal["skip", "fail"]

#: Default of the time sensor's ``timeout`` in seconds: its wait ends by itself, and a consult can be booked
#: more than Airflow's 7 days ahead.
TIME_SENSOR_TIMEOUT_SECONDS = 366 * 86400.0


class WebcamconsultAppointmentStateSensor(AppointmentSensor):
    """
    Wait until an appointment reaches a state (API document, "View an Appointment detail").

    The task returns the state that ended the wait. It fails without a retry if the appointment reaches a
    failed state, or if the API answers twice in a row that the token is rejected or that the appointment does
    not exist, and the list does not show it either. After any other error it keeps polling until ``timeout``.
    The outcome is the same with ``mode="poke"``, ``mode="reschedule"`` and ``deferrable=True``.

    With ``appointment_ids``, one task waits for many appointments and returns a dict of the states that have
    ended the wait, by id. Only the states at the time of a poll count, so choose target states that an
    appointment does not leave.

    ``poke_interval``, ``timeout`` (both in seconds), ``exponential_backoff``, ``max_wait``, ``soft_fail``,
    ``never_fail``, ``silent_fail`` and ``mode`` are Airflow's own parameters and hold in every mode.
    The minimum ``poke_interval`` is 1 second, and 5 seconds in reschedule mode. ``execution_timeout`` also
    ends the wait in every mode, counted from the start of the try. Airflow may then retry the task, and
    ``soft_fail`` does not turn this failure into a skip.

    :param appointment_id: id of the appointment (templated).
    :param target_states: states to wait for (templated). By default, any state except ``idle``, the only
        state that the API document names.
    :param failed_states: states that end the wait as a failure (templated).
    :param appointment_ids: ids of many appointments, in place of ``appointment_id`` (templated).
    :param wait_for: with ``appointment_ids``, whether ``"all"`` of them have to reach a target state, or
        ``"any"``. The wait fails as soon as it cannot succeed any more: with ``"all"``, if one of them is in
        a failed state or does not exist; with ``"any"``, if that is so for each of them.
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
        "appointment_ids",
        "webcamconsult_conn_id",
    )
    ui_color = "#f3ecd6"
    custom_operator_name = "AppointmentStateSensor"

    def __init__(
        self,
        *,
        appointment_id: str | XComArg | None = None,
        target_states: Collection[str] | None = None,
        failed_states: Collection[str] | None = (),
        appointment_ids: Collection[str] | XComArg | None = None,
        wait_for: WaitFor = "all",
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            webcamconsult_conn_id=webcamconsult_conn_id,
            deferrable=deferrable,
            end_from_trigger=end_from_trigger,
            **kwargs,
        )
        self.appointment_id = appointment_id
        self.target_states = target_states
        self.failed_states = failed_states
        self.appointment_ids = appointment_ids
        self.wait_for = wait_for

    @cached_property
    def _many_ids(self) -> list[Any]:
        # The output of a mapped task requests its values from Airflow each time.
        ids: Any = self.appointment_ids
        return [*ids]

    @property
    def _goal(self) -> Goal:
        is_single = self.appointment_ids is None
        return StateGoal(
            [str(self.appointment_id)] if is_single else [*dict.fromkeys(self._many_ids)],
            self.target_states,
            self.failed_states or (),
            self.wait_for,
            is_single=is_single,
        )

    def _validate(self) -> None:
        self._validate_ids()
        super()._validate()
        for name, states in (("target_states", self.target_states), ("failed_states", self.failed_states)):
            if states is not None:
                check_states(name, states)
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

    def _validate_ids(self) -> None:
        ids: Any = self.appointment_ids
        if self.wait_for not in get_args(WaitFor):
            raise WebcamconsultInputError(f"wait_for must be one of {', '.join(get_args(WaitFor))}.")
        if ids is None:
            check_id(APPOINTMENT, self.appointment_id)
            return
        if self.appointment_id is not None:
            raise WebcamconsultInputError(
                "Both appointment_id and appointment_ids were given. Pass one of them."
            )
        if isinstance(ids, str) or not isinstance(ids, Collection):
            raise WebcamconsultInputError(
                "appointment_ids must be a list of ids. If a template gives it, set "
                "render_template_as_native_obj=True on the DAG, or pass the output of the task."
            )
        for id in self._many_ids:
            check_id(APPOINTMENT, id)
        if not self._many_ids and self.wait_for == "any":
            raise WebcamconsultInputError(
                "appointment_ids is empty, so a wait for any of them would never end. "
                "Skip the task if there are no appointments."
            )

    def _trigger(self, **arguments: Any) -> WebcamconsultAppointmentStateTrigger:
        is_single = self.appointment_ids is None
        return WebcamconsultAppointmentStateTrigger(
            appointment_id=str(self.appointment_id) if is_single else None,
            target_states=None if self.target_states is None else list(self.target_states),
            failed_states=list(self.failed_states or ()),
            exponential_backoff=self.exponential_backoff,
            last_state=self._values.get(str(self.appointment_id)) if is_single else None,
            appointment_ids=None if is_single else [*self._goal.ids],
            wait_for=self.wait_for,
            **arguments,
        )

    def _fail(self, verdict: Verdict) -> BaseException:
        goal = self._goal
        if self.appointment_ids is not None:
            return AirflowFailException(
                f"Waiting for {goal.purpose(self._values)} can no longer succeed; "
                f"{goal.last_known(self._values, self._missing)}. Check them in Webcamconsult."
            )
        for error in self._missing.values():
            return error
        return AirflowFailException(
            f"Appointment {self.appointment_id} is in state '{self._values[str(self.appointment_id)]}', "
            f"which is one of failed_states; expected {format_target_states(self.target_states)}. "
            "Check the appointment in Webcamconsult."
        )


class WebcamconsultAppointmentTimeSensor(AppointmentSensor):
    """
    Wait until the date of an appointment plus an offset (API document, "View an Appointment detail").

    The task returns the date, as text with a UTC offset. If the appointment is moved, the wait follows: the
    date is polled after a tenth of the time that is left, but at least ``poke_interval`` and at most an hour
    (or ``max_wait``) later, and once more when the time has come. The task succeeds only if that poll does,
    so a service that cannot be reached delays it. The outcome is the same with ``mode="poke"``,
    ``mode="reschedule"`` and ``deferrable=True``.

    ``timeout`` in seconds is 366 days by default. It fails the task, as with every sensor, so it must be
    longer than the time to the appointment. ``poke_interval``, ``max_wait``, ``soft_fail``, ``never_fail``
    and ``execution_timeout`` have the same effect as in
    :class:`~airflow_provider_webcamconsult.sensors.appointments.WebcamconsultAppointmentStateSensor`.
    ``exponential_backoff`` has none, because the time that is left determines the interval.

    :param appointment_id: id of the appointment (templated).
    :param offset: time from the date to the end of the wait; negative for a time before the date. It is
        elapsed time: a day is 24 hours, even if the clocks change.
    :param cancelled_states: states in which the appointment does not take place (templated).
    :param if_cancelled: what to do if the appointment is in one of them or does not exist any more:
        ``"skip"`` or ``"fail"``, without a retry.
    :param max_lateness: maximum time by which the end of the wait may be past when the task notices it, for
        example because the appointment was booked or moved too late. Beyond it, the task is skipped. None
        means that there is no maximum.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    :param deferrable: whether to wait in the triggerer, without using a worker slot. By default, Airflow's
        ``[operators] default_deferrable``.
    :param end_from_trigger: whether a deferred wait that succeeds also ends in the triggerer; see
        :class:`~airflow_provider_webcamconsult.sensors.appointments.WebcamconsultAppointmentStateSensor`.
    :param timeout: maximum seconds to wait, or a timedelta.
    """

    template_fields: Sequence[str] = ("appointment_id", "cancelled_states", "webcamconsult_conn_id")
    ui_color = "#e3f0d8"
    custom_operator_name = "AppointmentTimeSensor"

    def __init__(
        self,
        *,
        appointment_id: str | XComArg,
        offset: timedelta = timedelta(minutes=-15),
        cancelled_states: Collection[str] = (),
        if_cancelled: IfCancelled = "skip",
        max_lateness: timedelta | None = timedelta(minutes=15),
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        end_from_trigger: bool = False,
        timeout: float | timedelta = TIME_SENSOR_TIMEOUT_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            webcamconsult_conn_id=webcamconsult_conn_id,
            deferrable=deferrable,
            end_from_trigger=end_from_trigger,
            timeout=timeout,
            **kwargs,
        )
        self.appointment_id = appointment_id
        self.offset = offset
        self.cancelled_states = cancelled_states
        self.if_cancelled = if_cancelled
        self.max_lateness = max_lateness

    @property
    def _goal(self) -> Goal:
        return TimeGoal(
            str(self.appointment_id),
            self.offset.total_seconds(),
            self.cancelled_states,
            self._max_seconds_late,
        )

    @property
    def _max_seconds_late(self) -> float | None:
        return None if self.max_lateness is None else self.max_lateness.total_seconds()

    def _validate(self) -> None:
        check_id(APPOINTMENT, self.appointment_id)
        super()._validate()
        check_states("cancelled_states", self.cancelled_states)
        offset, max_lateness, choices = self.offset, self.max_lateness, get_args(IfCancelled)
        if not isinstance(offset, timedelta):
            raise WebcamconsultInputError(f"offset is of type {type(offset).__name__}. Pass a timedelta.")
        if max_lateness is not None and (
            not isinstance(max_lateness, timedelta) or max_lateness < timedelta()
        ):
            raise WebcamconsultInputError("max_lateness must be a timedelta that is not negative, or None.")
        if self.if_cancelled not in choices:
            raise WebcamconsultInputError(f"if_cancelled must be one of {', '.join(choices)}.")

    def _trigger(self, **arguments: Any) -> WebcamconsultAppointmentTimeTrigger:
        known = self._values.get(str(self.appointment_id), {})
        return WebcamconsultAppointmentTimeTrigger(
            appointment_id=str(self.appointment_id),
            offset=self.offset.total_seconds(),
            cancelled_states=list(self.cancelled_states),
            max_lateness=self._max_seconds_late,
            last_date=known.get("date"),
            last_state=known.get("state"),
            **arguments,
        )

    def _fail(self, verdict: Verdict) -> BaseException:
        who = f"Appointment {self.appointment_id}"
        if verdict == "late":
            return AirflowSkipException(
                f"{self._goal.summary(self._values)} The wait should have ended more than "
                f"{self.max_lateness} (max_lateness) ago, so the task is skipped."
            )
        error = self._missing.get(str(self.appointment_id))
        state = None if error else self._values[str(self.appointment_id)]["state"]
        if self.if_cancelled == "skip":
            reason = "does not exist any more" if error else f"is in {describe_state(state)}"
            return AirflowSkipException(f"{who} {reason}, so the task is skipped.")
        return error or AirflowFailException(
            f"{who} is in state '{state}', which is one of cancelled_states. "
            "Check the appointment in Webcamconsult."
        )
