"""What the triggers of appointments have in common: a wait in the shared poll, and its event."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_webcamconsult import exceptions
from airflow_provider_webcamconsult.exceptions import WebcamconsultError, WebcamconsultNotFoundError
from airflow_provider_webcamconsult.polling.poller import Poller
from airflow_provider_webcamconsult.version_compat import task_success

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from airflow_provider_webcamconsult.api.waits import Goal, Verdict
    from airflow_provider_webcamconsult.polling.poller import Subscription


class AppointmentTrigger(BaseTrigger):
    """
    Wait for one or many appointments, and fire one event.

    All triggers with the same connection in a triggerer share one poller; see
    :mod:`~airflow_provider_webcamconsult.polling.poller`. The payload of the event has ``"values"`` with the
    last known values by id, and ``"at"`` with the time in seconds since the epoch. ``"missing"`` has the
    errors of appointments that do not exist, by id. If another error ended the wait, the payload has
    ``"error"``; if the deadline passed, ``"timed_out"`` with the name of the timeout. With
    ``end_from_trigger``, a success is Airflow's ``TaskSuccessEvent`` instead, if this Airflow has it.

    :param webcamconsult_conn_id: id of the Airflow connection.
    :param poke_interval: seconds between two polls.
    :param deadline: when the wait times out, in seconds since the epoch.
    :param max_wait: maximum of the growing interval in seconds.
    :param timeout_name: name of the sensor's timeout that sets the deadline.
    :param end_from_trigger: whether to end a successful task in the triggerer, without a worker; see
        :class:`~airflow_provider_webcamconsult.sensors.appointments.WebcamconsultAppointmentStateSensor`.
    :param do_xcom_push: whether ``end_from_trigger`` also stores the task's return value.
    """

    def __init__(
        self,
        *,
        webcamconsult_conn_id: str,
        poke_interval: float,
        deadline: float,
        max_wait: float | None,
        timeout_name: str,
        end_from_trigger: bool,
        do_xcom_push: bool,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.webcamconsult_conn_id = webcamconsult_conn_id
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.max_wait = max_wait
        self.timeout_name = timeout_name
        self.end_from_trigger = end_from_trigger
        self.do_xcom_push = do_xcom_push
        self._wait: Subscription[Any] | None = None

    def _goal(self) -> Goal:
        raise NotImplementedError

    def _known_values(self) -> dict[str, Any]:
        """Return what the sensor has seen."""
        raise NotImplementedError

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which Airflow restores this trigger."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "webcamconsult_conn_id": self.webcamconsult_conn_id,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
                "max_wait": self.max_wait,
                "timeout_name": self.timeout_name,
                "end_from_trigger": self.end_from_trigger,
                "do_xcom_push": self.do_xcom_push,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire one event at the end."""
        goal, values, missing = self._goal(), self._known_values(), dict[str, WebcamconsultError]()
        self._wait = wait = Poller.of_connection(self.webcamconsult_conn_id).subscribe(
            goal.ids,
            goal.read,
            fields=goal.fields,
            interval_after=self._interval_after(goal, values),
        )
        try:
            self.log.info("Waiting for %s.%s", goal.purpose(values), self._next_check(goal, values))
            summary, polled_due = goal.summary(values), None
            while True:
                due = goal.due(values)
                # A last poll at the due time confirms it. If that fails, the next one that succeeds does.
                end = self.deadline if due is None or due == polled_due else min(due, self.deadline)
                is_due = due is not None and time.time() >= due
                updates = await wait.next_updates(end, with_unchanged=is_due)
                now = time.time()
                if now >= end:
                    polled_due = due
                if not updates and now >= self.deadline:
                    yield self._event(values, missing, timed_out=self.timeout_name)
                    return
                for id, update in updates.items():
                    if update.error is None:
                        values[id] = update.value
                    elif update.is_final and isinstance(update.error, WebcamconsultNotFoundError):
                        missing[id] = update.error
                        values.pop(id, None)
                        wait.unsubscribe(id)
                    elif update.is_final:
                        yield self._event(values, missing, error=serialize_error(update.error))
                        return
                passing = {str(each.error) for each in updates.values() if each.error and not each.is_final}
                if passing:
                    more = f" (And {len(passing) - 1} more errors.)" if len(passing) > 1 else ""
                    check = self._next_check(goal, values)
                    self.log.warning("%s%s Still waiting.%s", min(passing), more, check)
                is_confirmed = any(each.error is None or each.is_final for each in updates.values())
                verdict = goal.verdict(values, missing, now) if is_confirmed else "waiting"
                if verdict != "waiting":
                    yield await self._end(goal, values, missing, verdict)
                    return
                if summary != (summary := goal.summary(values)):
                    self.log.info("%s%s", summary, self._next_check(goal, values))
        finally:
            wait.unsubscribe()

    def _interval_after(self, goal: Goal, values: dict[str, Any]) -> Callable[[int, Any], float]:
        """Return how to compute the interval from the number of polls and the last value."""
        raise NotImplementedError

    def _next_check(self, goal: Goal, values: dict[str, Any]) -> str:
        # The last poll is at the due time, and at the deadline.
        ends = (self.deadline, goal.due(values) or self.deadline)
        remaining = min([end - time.time() for end in ends if end > time.time()], default=0.0)
        if remaining <= 0 or self._wait is None:
            return ""
        return f" Next check in {min(self._wait.seconds_to_next_poll, remaining):.0f} s."

    async def _end(
        self, goal: Goal, values: dict[str, Any], missing: dict[str, WebcamconsultError], verdict: Verdict
    ) -> TriggerEvent:
        # dag.test() sets no task instance, and nothing would end the task there.
        if verdict != "reached" or not self.end_from_trigger or self.task_instance is None:
            return self._event(values, missing)
        # Log early: Airflow 3 drops the log lines that it has not read when the trigger ends.
        self.log.info("%s", goal.summary(values))
        try:
            return await task_success(self.task_instance, goal.result(values), do_xcom_push=self.do_xcom_push)
        except Exception as error:
            self.log.warning(
                "Could not store the return value from the triggerer (%s). A worker will end the task.",
                type(error).__name__,
            )
            return self._event(values, missing)

    def _event(
        self, values: dict[str, Any], missing: dict[str, WebcamconsultError], **details: Any
    ) -> TriggerEvent:
        if missing:
            details["missing"] = {id: serialize_error(error) for id, error in missing.items()}
        return TriggerEvent({"values": values, "at": time.time(), **details})  # type: ignore[no-untyped-call]

    async def cleanup(self) -> None:
        """Unsubscribe from the poller, even if Airflow did not run :meth:`run` to its end."""
        if self._wait:
            self._wait.unsubscribe()


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
