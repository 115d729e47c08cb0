"""What a poller polls: an appointment or the list, those who are interested in it, and its failures."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_provider_webcamconsult.exceptions import WebcamconsultError, WebcamconsultResponseError
from airflow_provider_webcamconsult.polling import policy

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Minimum fraction of the interval before the first poll; a random fraction spreads the load of triggerers.
INITIAL_JITTER_MIN = 0.5


@dataclass(frozen=True)
class Update(Generic[T]):
    """
    What a poll has found.

    :param value: the new value; None after an error.
    :param error: the error of a failed poll.
    :param is_final: whether the error ends the wait.
    """

    value: T | None = None
    error: WebcamconsultError | None = None
    is_final: bool = False


@dataclass
class Failures:
    """
    The consecutive failures of an appointment or of the service, and the delay that they cause.

    :param count: number of consecutive failures.
    :param error: the last error.
    :param not_before: when to poll again at the earliest, in seconds of the event loop's clock.
    :param slow_polls: number of those failures that took long.
    :param failed_at: the time of the last failure.
    """

    count: int = 0
    error: WebcamconsultError | None = None
    not_before: float = 0.0
    slow_polls: int = 0
    failed_at: float = 0.0

    def add(self, error: WebcamconsultError, interval: float, now: float, *, seconds: float = 0.0) -> bool:
        """
        Count a failure, and return whether it ends the wait.

        :param error: the error.
        :param interval: seconds between two successful polls.
        :param now: the time of the failure.
        :param seconds: duration of the poll.
        """
        is_final = policy.ends_wait(error, self.error)
        self.count, self.error = self.count + 1, error
        self.slow_polls, self.failed_at = self.slow_polls + (seconds >= policy.SLOW_POLL_SECONDS), now
        delay = policy.failure_delay_seconds(interval, self.count, error)
        self.not_before = max(self.not_before, now + delay)
        return is_final

    @property
    def order(self) -> tuple[int, float]:
        """The place among those that failed and are due, as a value to sort by."""
        return policy.failing_order(self.slow_polls, self.failed_at)

    def shorten(self, interval: float, now: float) -> None:
        """
        Shorten the delay to what a new interval allows, which can be much less.

        :param interval: seconds between two successful polls of a new subscription.
        :param now: the time at which it starts.
        """
        if self.count:
            delay = policy.failure_delay_seconds(interval, self.count, self.error)
            self.not_before = min(self.not_before, now + delay)


class Interest(Generic[T]):
    """
    The interest of one subscription in one appointment, or in the list.

    :param read: returns the value to report.
    :param fields: attributes of an appointment that ``read`` needs.
    :param interval_after: returns the interval in seconds after a number of polls, given the last value.
    :param changed: set when there is an update.
    :param now: the current time of the event loop's clock.
    """

    def __init__(
        self,
        read: Callable[[Any], T],
        fields: Collection[str],
        interval_after: Callable[[int, T | None], float],
        changed: asyncio.Event,
        now: float,
    ) -> None:
        self.read = read
        self.fields = fields
        self.polled_at = now
        self.interval = interval_after(0, None)
        self.due = now + self.interval * random.uniform(INITIAL_JITTER_MIN, 1)  # noqa: S311
        self.update: Update[T] | None = None
        self.reports_next = False
        """Whether the next poll is an update even if the value has not changed."""
        self._interval_after = interval_after
        self._changed = changed
        self._polls = 0
        self._value: T | None = None

    def report(self, value: T, polled_at: float) -> None:
        """
        Record the result of a poll, and wake the subscriber if it is new.

        :param value: the value.
        :param polled_at: when the poll started, in seconds of the event loop's clock.
        """
        if polled_at >= self.due:
            self._polls += 1
        self.polled_at, self.interval = polled_at, self._interval_after(self._polls, value)
        self.due = polled_at + self.interval
        if value != self._value or self.reports_next:
            self._notify(Update(value))
        self._value, self.reports_next = value, False

    def report_unreadable(self, error: WebcamconsultError, polled_at: float) -> None:
        """
        Wake the subscriber with the error of a response that others can read, and wait for the next interval.

        :param error: the error.
        :param polled_at: when the poll started.
        """
        if polled_at >= self.due:
            self.report_error(error, is_final=False)
            self.polled_at, self.due = polled_at, polled_at + self.interval

    def report_error(self, error: WebcamconsultError, *, is_final: bool) -> None:
        """
        Wake the subscriber with an error, unless it has yet to receive an update that matters more.

        :param error: the error.
        :param is_final: whether it ends the wait.
        """
        # A poll reports a value only once, but a final error again if it persists.
        if self.update is None or (is_final and self.update.error):
            self._notify(Update(error=error, is_final=is_final))

    def _notify(self, update: Update[T]) -> None:
        self.update = update
        self._changed.set()


@dataclass
class Target:
    """
    An appointment that is polled, or the list if somebody is interested in it.

    :param interests: the interests, at least one.
    :param failures: the failures of this appointment alone.
    """

    interests: dict[Interest[Any], None] = field(default_factory=dict)
    failures: Failures = field(default_factory=Failures)

    @property
    def due(self) -> float:
        """When to poll, in seconds of the event loop's clock."""
        return max(min(each.due for each in self.interests), self.failures.not_before)

    @property
    def interval(self) -> float:
        """The shortest interval in seconds."""
        return min(each.interval for each in self.interests)

    def elapsed(self, now: float) -> float:
        """
        Return how much of the interval has passed, as a fraction.

        :param now: the current time.
        """
        return max(min(1.0, (now - each.polled_at) / each.interval) for each in self.interests)

    def report(self, response: Any, polled_at: float) -> WebcamconsultError | None:
        """
        Report a response to those who asked for it.

        :param response: the appointment, or all appointments by id.
        :param polled_at: when the poll started.
        :return: the error that makes the response unreadable for all of them, which is not reported.
        """
        values, unreadable = [], []
        for each in self.interests:
            if each.polled_at > polled_at:  # it has joined meanwhile, or received a newer value
                continue
            try:
                values.append((each, each.read(response)))
            except Exception as error:
                unreadable.append((each, safe_error(error)))
        if unreadable and not values:
            return unreadable[0][1]
        self.failures = Failures()
        for each, value in values:
            each.report(value, polled_at)
        for each, why in unreadable:
            each.report_unreadable(why, polled_at)
        return None

    def fail(self, error: WebcamconsultError, now: float, *, seconds: float = 0.0) -> None:
        """
        Report an error of this appointment, and delay its next poll.

        :param error: the error.
        :param now: the time of the failure.
        :param seconds: duration of the poll.
        """
        is_final = self.failures.add(error, self.interval, now, seconds=seconds)
        self.report_error(error, is_final=is_final)

    def report_error(self, error: WebcamconsultError, *, is_final: bool) -> None:
        """
        Report an error.

        :param error: the error.
        :param is_final: whether it ends the waits.
        """
        for each in self.interests:
            each.report_error(error, is_final=is_final)


def safe_error(error: Exception) -> WebcamconsultError:
    """
    Replace an unexpected exception, whose text may contain personal data.

    :param error: any exception.
    :return: the error of this provider.
    """
    if isinstance(error, WebcamconsultError):
        return error
    name = type(error).__name__
    logger.error("A poll failed unexpectedly (%s).", name)
    return WebcamconsultResponseError(f"The poll failed unexpectedly ({name}). Try again.")
