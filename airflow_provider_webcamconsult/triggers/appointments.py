"""The trigger that waits for an appointment's state without a worker slot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_webcamconsult import exceptions
from airflow_provider_webcamconsult.exceptions import WebcamconsultError
from airflow_provider_webcamconsult.polling.policy import format_target_states, is_reached, is_terminal
from airflow_provider_webcamconsult.polling.poller import Poller
from airflow_provider_webcamconsult.version_compat import task_success

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_webcamconsult.polling.poller import Subscription


class WebcamconsultAppointmentStateTrigger(BaseTrigger):
    """
    Fire when an appointment reaches a state, or cannot any more.

    All triggers of a connection in a triggerer share one poll; see
    :mod:`~airflow_provider_webcamconsult.polling.poller`. The payload of its only event says how the wait
    ended: ``{"state": …}``, with ``"error"`` or ``"timed_out"`` if not well.

    :param appointment_id: id of the appointment.
    :param target_states: states that are awaited; None: any but ``idle``.
    :param failed_states: states that end the wait as a failure.
    :param webcamconsult_conn_id: id of the Airflow connection.
    :param poke_interval: seconds between two looks.
    :param deadline: when the wait times out, in seconds since the epoch.
    :param timeout_name: name of the sensor's limit that the deadline stands for.
    :param last_state: the state that was seen last, if any.
    :param end_from_trigger: whether to end the task with success here, without a worker; see the sensor.
    :param do_xcom_push: whether the state is then kept as what the task returns.
    """

    def __init__(
        self,
        appointment_id: str,
        target_states: list[str] | None,
        failed_states: list[str],
        webcamconsult_conn_id: str,
        poke_interval: float,
        deadline: float,
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
        self.timeout_name = timeout_name
        self.last_state = last_state
        self.end_from_trigger = end_from_trigger
        self.do_xcom_push = do_xcom_push
        self._wait: Subscription | None = None

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
                "timeout_name": self.timeout_name,
                "last_state": self.last_state,
                "end_from_trigger": self.end_from_trigger,
                "do_xcom_push": self.do_xcom_push,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until it is over; the only event says how it ended."""
        state = self.last_state
        self._wait = wait = Poller.subscribe(
            self.webcamconsult_conn_id, self.appointment_id, self.poke_interval
        )
        try:
            self.log.info(
                "Waiting for appointment %s to be %s.%s",
                self.appointment_id,
                format_target_states(self.target_states),
                self._when_next(wait),
            )
            while (update := await wait.next_update(self.deadline)) is not None:
                if isinstance(update, WebcamconsultError):
                    if is_terminal(update):
                        yield _event(state, error=describe(update))
                        return
                    self.log.warning("%s Still waiting.%s", update, self._when_next(wait))
                    continue
                old, state = state, update
                if state in self.failed_states:
                    yield _event(state)
                    return
                if is_reached(state, self.target_states):
                    yield await self._success(state)
                    return
                if state != old:
                    self.log.info(
                        "Appointment %s is '%s'.%s", self.appointment_id, state, self._when_next(wait)
                    )
            yield _event(state, timed_out=self.timeout_name)
        finally:
            wait.unsubscribe()

    def _when_next(self, wait: Subscription) -> str:
        remaining = self.deadline - time.time()  # a last look comes then
        return (
            f" It looks again in {min(wait.seconds_to_next_poll, remaining):.0f} s." if remaining > 0 else ""
        )

    async def _success(self, state: str) -> TriggerEvent:
        # Without a task instance, as in dag.test(), nobody would end the task.
        if not self.end_from_trigger or self.task_instance is None:
            return _event(state)
        # First: Airflow 3 drops what it has not read of a log when the trigger is over.
        self.log.info("Appointment %s is '%s'.", self.appointment_id, state)
        try:
            return await task_success(self.task_instance, state, do_xcom_push=self.do_xcom_push)
        except Exception as error:
            self.log.warning(
                "A worker ends the task: the trigger could not keep its value (%s).", type(error).__name__
            )
            return _event(state)

    async def cleanup(self) -> None:
        """Leave the poll, even where Airflow never came to the end of :meth:`run`."""
        if self._wait:
            self._wait.unsubscribe()


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
