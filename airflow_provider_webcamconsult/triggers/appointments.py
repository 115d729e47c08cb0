"""The trigger that waits for an appointment's state without using a worker slot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_webcamconsult import exceptions
from airflow_provider_webcamconsult.api.states import (
    describe_state,
    format_target_states,
    is_reached,
    state_of,
)
from airflow_provider_webcamconsult.exceptions import WebcamconsultError
from airflow_provider_webcamconsult.polling.poller import Poller
from airflow_provider_webcamconsult.version_compat import task_success

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_webcamconsult.polling.poller import Subscription


class WebcamconsultAppointmentStateTrigger(BaseTrigger):
    """
    Wait until an appointment reaches a state.

    All triggers with the same connection in a triggerer share one poller; see
    :mod:`~airflow_provider_webcamconsult.polling.poller`. The trigger fires one event. Its payload is
    ``{"state": …}`` with the last known state. If an error ended the wait, the payload also has ``"error"``;
    if the deadline passed, ``"timed_out"`` with the name of the timeout. With ``end_from_trigger``, a success
    is Airflow's ``TaskSuccessEvent`` instead, if this Airflow has it.

    :param appointment_id: id of the appointment.
    :param target_states: states to wait for; None means any state except ``idle``.
    :param failed_states: states that end the wait as a failure.
    :param webcamconsult_conn_id: id of the Airflow connection.
    :param poke_interval: seconds between two polls.
    :param deadline: when the wait times out, in seconds since the epoch.
    :param exponential_backoff: whether the interval doubles with each poll, as with Airflow's sensors.
    :param max_wait: maximum of the growing interval in seconds.
    :param timeout_name: name of the sensor's timeout that sets the deadline.
    :param last_state: the last state that the sensor received, if any.
    :param end_from_trigger: whether to end a successful task in the triggerer, without a worker; see
        :class:`~airflow_provider_webcamconsult.sensors.appointments.WebcamconsultAppointmentStateSensor`.
    :param do_xcom_push: whether ``end_from_trigger`` also stores the state as the task's return value.
    """

    def __init__(
        self,
        appointment_id: str,
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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.appointment_id = appointment_id
        self.target_states = target_states
        self.failed_states = failed_states
        self.webcamconsult_conn_id = webcamconsult_conn_id
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.timeout_name = timeout_name
        self.last_state = last_state
        self.end_from_trigger = end_from_trigger
        self.do_xcom_push = do_xcom_push
        self._wait: Subscription[str] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which Airflow restores this trigger."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "appointment_id": self.appointment_id,
                "target_states": self.target_states,
                "failed_states": self.failed_states,
                "webcamconsult_conn_id": self.webcamconsult_conn_id,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
                "exponential_backoff": self.exponential_backoff,
                "max_wait": self.max_wait,
                "timeout_name": self.timeout_name,
                "last_state": self.last_state,
                "end_from_trigger": self.end_from_trigger,
                "do_xcom_push": self.do_xcom_push,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire one event at the end."""
        state = self.last_state
        self._wait = wait = Poller.subscribe(
            self.webcamconsult_conn_id,
            self.appointment_id,
            state_of,
            fields=("state",),
            poke_interval=self.poke_interval,
            exponential_backoff=self.exponential_backoff,
            max_wait=self.max_wait,
        )
        try:
            self.log.info(
                "Waiting for appointment %s to reach %s.%s",
                self.appointment_id,
                format_target_states(self.target_states),
                self._next_check(wait),
            )
            while (update := await wait.next_update(self.deadline)) is not None:
                if update.error:
                    if update.is_final:
                        yield _event(state, error=serialize_error(update.error))
                        return
                    self.log.warning("%s Still waiting.%s", update.error, self._next_check(wait))
                    continue
                old, state = state, update.value
                assert state is not None  # noqa: S101
                if state in self.failed_states:
                    yield _event(state)
                    return
                if is_reached(state, self.target_states):
                    yield await self._success(state)
                    return
                if state != old:
                    self.log.info(
                        "Appointment %s is in %s.%s",
                        self.appointment_id,
                        describe_state(state),
                        self._next_check(wait),
                    )
            yield _event(state, timed_out=self.timeout_name)
        finally:
            wait.unsubscribe()

    def _next_check(self, wait: Subscription[str]) -> str:
        remaining = self.deadline - time.time()  # the last poll is at the deadline
        return f" Next check in {min(wait.seconds_to_next_poll, remaining):.0f} s." if remaining > 0 else ""

    async def _success(self, state: str) -> TriggerEvent:
        # dag.test() sets no task instance, and nothing would end the task there.
        if not self.end_from_trigger or self.task_instance is None:
            return _event(state)
        # Log early: Airflow 3 drops the log lines that it has not read when the trigger ends.
        self.log.info("Appointment %s is in %s.", self.appointment_id, describe_state(state))
        try:
            return await task_success(self.task_instance, state, do_xcom_push=self.do_xcom_push)
        except Exception as error:
            self.log.warning(
                "Could not store the return value from the triggerer (%s). A worker will end the task.",
                type(error).__name__,
            )
            return _event(state)

    async def cleanup(self) -> None:
        """Unsubscribe from the poller, even if Airflow did not run :meth:`run` to its end."""
        if self._wait:
            self._wait.unsubscribe()


def _event(state: str | None, **details: Any) -> TriggerEvent:
    return TriggerEvent({"state": state, **details})  # type: ignore[no-untyped-call]


def serialize_error(error: WebcamconsultError) -> dict[str, Any]:
    """
    Serialize an error for the payload of a trigger event.

    :param error: the error.
    :return: a dictionary that can be stored as JSON.
    """
    return {
        "type": type(error).__name__,
        "message": str(error),
        "method": error.method,
        "path": error.path,
        "status_code": error.status_code,
        "reason": error.reason,
    }


def deserialize_error(serialized: dict[str, Any]) -> WebcamconsultError:
    """
    Restore an error that :func:`serialize_error` serialized.

    :param serialized: the result of :func:`serialize_error`.
    :return: the error, with its original class.
    :raises Exception: of any type, if ``serialized`` does not have this format.
    """
    error_class = getattr(exceptions, str(serialized["type"]))
    if not (isinstance(error_class, type) and issubclass(error_class, WebcamconsultError)):
        raise ValueError("The type is not an error of this provider.")
    names = ("method", "path", "status_code", "reason")
    return error_class(str(serialized["message"]), **{name: serialized.get(name) for name in names})
