"""The triggers that wait for appointments without using a worker slot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.waits import StateGoal, TimeGoal
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.triggers.base import AppointmentTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_webcamconsult.api.waits import Goal, WaitFor


class WebcamconsultAppointmentStateTrigger(AppointmentTrigger):
    """
    Wait until one or many appointments reach a state.

    The values of the event are states.

    :param appointment_id: id of the appointment; None if there are ``appointment_ids``.
    :param target_states: states to wait for; None means any state except ``idle``.
    :param failed_states: states that end the wait as a failure.
    :param webcamconsult_conn_id: id of the Airflow connection.
    :param poke_interval: seconds between two polls.
    :param deadline: when the wait times out, in seconds since the epoch.
    :param exponential_backoff: whether the interval doubles with each poll, as with Airflow's sensors.
    :param max_wait: maximum of the growing interval in seconds.
    :param timeout_name: name of the sensor's timeout that sets the deadline.
    :param last_state: the last state that the sensor received, if any; only with ``appointment_id``.
    :param end_from_trigger: whether to end a successful task in the triggerer, without a worker; see
        :class:`~airflow_provider_webcamconsult.sensors.appointments.WebcamconsultAppointmentStateSensor`.
    :param do_xcom_push: whether ``end_from_trigger`` also stores the task's return value.
    :param appointment_ids: ids of many appointments.
    :param wait_for: whether ``"all"`` of them have to reach a target state, or ``"any"``.
    """

    def __init__(
        self,
        appointment_id: str | None,
        target_states: list[str] | None,
        failed_states: list[str],
        webcamconsult_conn_id: str,
        poke_interval: float,
        deadline: float,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        timeout_name: str = "timeout",
        last_state: str | None = None,
        end_from_trigger: bool = False,
        do_xcom_push: bool = True,
        appointment_ids: list[str] | None = None,
        wait_for: WaitFor = "all",
    ) -> None:
        super().__init__(
            webcamconsult_conn_id=webcamconsult_conn_id,
            poke_interval=poke_interval,
            deadline=deadline,
            max_wait=max_wait,
            timeout_name=timeout_name,
            end_from_trigger=end_from_trigger,
            do_xcom_push=do_xcom_push,
        )
        self.appointment_id = appointment_id
        self.target_states = target_states
        self.failed_states = failed_states
        self.exponential_backoff = exponential_backoff
        self.last_state = last_state
        self.appointment_ids = appointment_ids
        self.wait_for = wait_for

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which Airflow restores this trigger."""
        path, arguments = super().serialize()
        return path, {
            **arguments,
            "appointment_id": self.appointment_id,
            "target_states": self.target_states,
            "failed_states": self.failed_states,
            "exponential_backoff": self.exponential_backoff,
            "last_state": self.last_state,
            "appointment_ids": self.appointment_ids,
            "wait_for": self.wait_for,
        }

    def _goal(self) -> Goal:
        ids = self.appointment_ids
        return StateGoal(
            [str(self.appointment_id)] if ids is None else ids,
            self.target_states,
            self.failed_states,
            self.wait_for,
            is_single=ids is None,
        )

    def _interval_after(self, goal: Goal, values: dict[str, Any]) -> Callable[[int, Any], float]:
        return lambda polls, value: policy.next_interval_seconds(
            self.poke_interval, polls, exponential_backoff=self.exponential_backoff, max_wait=self.max_wait
        )

    def _known_values(self) -> dict[str, str]:
        return {str(self.appointment_id): self.last_state} if self.last_state else {}


class WebcamconsultAppointmentTimeTrigger(AppointmentTrigger):
    """
    Wait until the date of an appointment plus an offset, even if the appointment is moved.

    The value of the event is ``{"date": …, "state": …}``.

    :param appointment_id: id of the appointment.
    :param offset: seconds from the date to the end of the wait; negative for a time before the date.
    :param cancelled_states: states in which the appointment does not take place.
    :param max_lateness: seconds after which the time has passed too long ago; None means never.
    :param webcamconsult_conn_id: id of the Airflow connection.
    :param poke_interval: minimum seconds between two polls.
    :param deadline: when the wait times out, in seconds since the epoch.
    :param max_wait: maximum seconds between two polls.
    :param timeout_name: name of the sensor's timeout that sets the deadline.
    :param last_date: the last date that the sensor received, if any.
    :param last_state: the last state that the sensor received, if any.
    :param end_from_trigger: whether to end a successful task in the triggerer, without a worker; see
        :class:`~airflow_provider_webcamconsult.sensors.appointments.WebcamconsultAppointmentStateSensor`.
    :param do_xcom_push: whether ``end_from_trigger`` also stores the date as the task's return value.
    """

    def __init__(
        self,
        appointment_id: str,
        offset: float,
        cancelled_states: list[str],
        max_lateness: float | None,
        webcamconsult_conn_id: str,
        poke_interval: float,
        deadline: float,
        max_wait: float | None = None,
        timeout_name: str = "timeout",
        last_date: str | None = None,
        last_state: str | None = None,
        end_from_trigger: bool = False,
        do_xcom_push: bool = True,
    ) -> None:
        super().__init__(
            webcamconsult_conn_id=webcamconsult_conn_id,
            poke_interval=poke_interval,
            deadline=deadline,
            max_wait=max_wait,
            timeout_name=timeout_name,
            end_from_trigger=end_from_trigger,
            do_xcom_push=do_xcom_push,
        )
        self.appointment_id = appointment_id
        self.offset = offset
        self.cancelled_states = cancelled_states
        self.max_lateness = max_lateness
        self.last_date = last_date
        self.last_state = last_state

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which Airflow restores this trigger."""
        path, arguments = super().serialize()
        return path, {
            **arguments,
            "appointment_id": self.appointment_id,
            "offset": self.offset,
            "cancelled_states": self.cancelled_states,
            "max_lateness": self.max_lateness,
            "last_date": self.last_date,
            "last_state": self.last_state,
        }

    def _goal(self) -> Goal:
        return TimeGoal(self.appointment_id, self.offset, self.cancelled_states, self.max_lateness)

    def _known_values(self) -> dict[str, Any]:
        if self.last_date is None:
            return {}
        return {self.appointment_id: {"date": self.last_date, "state": self.last_state}}

    def _interval_after(self, goal: Goal, values: dict[str, Any]) -> Callable[[int, Any], float]:
        def interval_after(polls: int, value: Any) -> float:
            due = goal.due({self.appointment_id: value} if value else values)
            seconds_left = 0.0 if due is None else due - time.time()
            return policy.interval_until_date_seconds(
                seconds_left, self.poke_interval, max_wait=self.max_wait
            )

        return interval_after
