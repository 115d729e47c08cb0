"""
One shared poller for all waits of a connection in a triggerer process.

A triggerer runs thousands of triggers in one event loop. Triggers with the same connection share a
:class:`Poller`. It requests appointments one by one or as one list, whichever takes the service less time.
Appointments whose last poll failed are polled apart from the others, to delay them as little as possible.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from contextvars import Context
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultError,
    WebcamconsultRequestError,
    WebcamconsultResponseError,
)
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.polling.policy import Failures
from airflow_provider_webcamconsult.polling.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.connection import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Minimum fraction of the interval before the first poll; a random fraction spreads the load of triggerers.
INITIAL_JITTER_MIN = 0.5
#: Seconds until the connection is read again, to use a new token or address.
CONNECTION_SECONDS = 60.0
#: Seconds after which the duration of a list counts as unknown, so that a slow list is tried again.
LIST_DURATION_MAX_AGE_SECONDS = 3600.0
#: Seconds after which the due failing appointments are selected again: a hanging one then delays few others.
FAILING_ROUND_SECONDS = 1.0
#: Minimum seconds to wait for the clock to reach a deadline.
CLOCK_STEP_SECONDS = 0.001
#: Assumed duration of a single request in seconds, until one was measured.
SINGLE_POLL_SECONDS = 0.05


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


class Subscription(Generic[T]):
    """
    A subscription to one appointment, or to the list of all appointments; see :meth:`Poller.subscribe`.

    :param poller: the poller of the connection.
    :param appointment_id: id of the appointment; None means the list.
    :param read: returns the value to report.
    :param fields: attributes of an appointment that ``read`` needs.
    :param interval_after: returns the interval in seconds after a number of polls, given the last value.
    """

    def __init__(
        self,
        poller: Poller,
        appointment_id: str | None,
        read: Callable[[Any], T],
        fields: Collection[str],
        interval_after: Callable[[int, T | None], float],
    ) -> None:
        self.appointment_id = appointment_id
        self.read = read
        self.fields = fields
        self.polled_at = poller.time()
        self.interval = interval_after(0, None)
        self.due = self.polled_at + self.interval * random.uniform(INITIAL_JITTER_MIN, 1)  # noqa: S311
        self._poller = poller
        self._interval_after = interval_after
        self._polls = 0
        self._value: T | None = None
        self._update: Update[T] | None = None
        self._has_update = asyncio.Event()
        self._last_deadline: float | None = None
        self._reports_next = False
        self._target = poller._add(self)

    @property
    def settings(self) -> Settings:
        """The settings of the connection. There are none before the first value."""
        return self._poller._service.settings

    @property
    def seconds_to_next_poll(self) -> float:
        """Seconds until the next poll, if no other subscription causes an earlier one."""
        due = max(self.due, self._target.failures.not_before, self._poller.failures.not_before)
        return max(0.0, due - self._poller.time())

    async def next_update(self, deadline: float) -> Update[T] | None:
        """
        Wait for a new value or an error.

        :param deadline: when to stop waiting, after a last poll, in seconds since the epoch.
        :return: the update; None if the deadline has passed.
        """
        return (await _next_updates([self], self._has_update, deadline)).get(self)

    def _poll_last(self, deadline: float) -> bool:
        """Report the next poll even if nothing has changed. Poll at once, unless the last poll failed."""
        if self._last_deadline == deadline:
            return False
        self._last_deadline, self._reports_next = deadline, True
        if self._target.failures.count or self._poller.failures.count:
            return False
        self.due = self._poller.time()
        self._poller._wake_before(self.due)
        return True

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
        if value != self._value or self._reports_next:
            self._notify(Update(value))
        self._value, self._reports_next = value, False

    def report_error(self, error: WebcamconsultError, *, is_final: bool) -> None:
        """
        Wake the subscriber with an error, unless it has yet to receive an update that matters more.

        :param error: the error.
        :param is_final: whether it ends the wait.
        """
        # A poll reports a value only once, but a final error again if it persists.
        if self._update is None or (is_final and self._update.error):
            self._notify(Update(error=error, is_final=is_final))

    def _notify(self, update: Update[T]) -> None:
        self._update = update
        self._has_update.set()

    def unsubscribe(self) -> None:
        """End the subscription. The poller stops with its last one."""
        self._poller._remove(self, self._target)


class Subscriptions(Generic[T]):
    """
    The subscriptions of one wait to many appointments, whose updates arrive together.

    :param subscriptions: a subscription to each of the appointments.
    """

    def __init__(self, subscriptions: Iterable[Subscription[T]]) -> None:
        self._has_update = asyncio.Event()
        self._by_id = {each.appointment_id or "": each for each in subscriptions}
        for each in self._by_id.values():
            each._has_update = self._has_update

    @property
    def seconds_to_next_poll(self) -> float:
        """Seconds until the next poll, if no other subscription causes an earlier one."""
        return min((each.seconds_to_next_poll for each in self._by_id.values()), default=math.inf)

    async def next_updates(self, deadline: float, *, with_unchanged: bool = False) -> dict[str, Update[T]]:
        """
        Wait for new values or errors.

        :param deadline: when to stop waiting, after a last poll of each, in seconds since the epoch.
        :param with_unchanged: whether the next poll of each is an update even if its value has not changed.
        :return: the updates by the id of the appointment; empty if the deadline has passed.
        """
        if with_unchanged:
            for each in self._by_id.values():
                each._reports_next = True
        updates = await _next_updates(self._by_id.values(), self._has_update, deadline)
        return {each.appointment_id or "": update for each, update in updates.items()}

    def unsubscribe(self, *ids: str) -> None:
        """
        End subscriptions.

        :param ids: ids of the appointments. By default, all of them.
        """
        for id in ids or tuple(self._by_id):
            self._by_id.pop(id).unsubscribe()


async def _next_updates(
    subscriptions: Collection[Subscription[T]], event: asyncio.Event, deadline: float
) -> dict[Subscription[T], Update[T]]:
    """Wait for updates of subscriptions that share an event."""
    if any(each._update for each in subscriptions):  # and the call before was cancelled
        event.set()
    await _wait(event, deadline - time.time())
    # The clock may have been set back meanwhile.
    while not any(each._update for each in subscriptions) and (seconds := deadline - time.time()) > 0:
        await _wait(event, max(seconds, CLOCK_STEP_SECONDS))
    if not any(each._update for each in subscriptions):
        last = [each for each in subscriptions if each._poll_last(deadline)]
        end = max(deadline, time.time()) + policy.LAST_POLL_SECONDS
        while not all(each._update for each in last) and (seconds := end - time.time()) > 0:
            await _wait(event, seconds)
    updates = {each: each._update for each in subscriptions if each._update}
    for each in updates:
        each._update = None
    return updates


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event is set or the time is over, and clear it."""
    # Not asyncio.wait_for: before Python 3.12 it can swallow a cancellation.
    timer = asyncio.get_running_loop().call_later(max(seconds, 0.0), event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
        event.clear()


@dataclass
class _Target:
    """An appointment that is polled, or the list if somebody subscribed to it."""

    subscriptions: dict[Subscription[Any], None] = field(default_factory=dict)
    failures: Failures = field(default_factory=Failures)

    @property
    def due(self) -> float:
        return max(min(each.due for each in self.subscriptions), self.failures.not_before)

    @property
    def interval(self) -> float:
        return min(each.interval for each in self.subscriptions)

    def elapsed(self, now: float) -> float:
        """Return how much of the interval has passed, as a fraction."""
        return max(min(1.0, (now - each.polled_at) / each.interval) for each in self.subscriptions)

    def report(self, response: Any, polled_at: float) -> WebcamconsultError | None:
        """Report a response to those who asked for it, or return the error that makes it unreadable."""
        # Somebody may have joined meanwhile, or received a newer value.
        asked = [each for each in self.subscriptions if each.polled_at <= polled_at]
        try:
            values = [(each, each.read(response)) for each in asked]
        except Exception as error:
            return _safe(error)
        self.failures = Failures()
        for each, value in values:
            each.report(value, polled_at)
        return None

    def fail(self, error: WebcamconsultError, now: float) -> None:
        """Report an error of this appointment, and delay its next poll."""
        self.report_error(error, is_final=self.failures.add(error, self.interval, now))

    def report_error(self, error: WebcamconsultError, *, is_final: bool) -> None:
        for each in self.subscriptions:
            each.report_error(error, is_final=is_final)


@dataclass
class _List:
    """What is known of the list."""

    etag: str | None = None
    only: frozenset[str] | None = frozenset()
    fields: frozenset[str] = frozenset()
    appointments: dict[str, Any] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    """The polled appointments that the list did not contain; they may still exist."""
    seconds: float | None = None
    requested_at: float = 0.0
    failures: int = 0
    not_before: float = 0.0


@dataclass(eq=False)
class _Lane:
    """A task that polls either the failing appointments or the others, one request at a time."""

    is_failing: bool
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    wakes_at: float = math.inf


class Poller:
    """
    Polls the appointments of all subscriptions of one connection.

    :param service: sends the requests.
    """

    def __init__(self, service: Service) -> None:
        loop = asyncio.get_running_loop()
        self.time = loop.time
        self.failures = Failures()
        """The failures of the service as a whole."""
        self._service = service
        self._targets: dict[str | None, _Target] = {}
        # A changed connection gets a new one. That also tells old responses apart.
        self._list = _List()
        self._single_seconds = SINGLE_POLL_SECONDS
        self._connection_expires_at = 0.0
        self._unreadable_since: float | None = None
        self._lanes = [_Lane(is_failing=False), _Lane(is_failing=True)]
        self._tasks = [_apart(loop.create_task, self._run(lane)) for lane in self._lanes]
        _apart(logger.info, "Started polling for connection '%s'.", service.webcamconsult_conn_id)

    @classmethod
    def subscribe(
        cls,
        webcamconsult_conn_id: str,
        appointment_id: str | None,
        read: Callable[[Any], T],
        *,
        fields: Collection[str],
        interval_after: Callable[[int, T | None], float],
        resource: Resource[Any, Any] = APPOINTMENT,
    ) -> Subscription[T]:
        """
        Subscribe to an appointment or to the list, and start the connection's poller if there is none.

        :param webcamconsult_conn_id: id of the Airflow connection.
        :param appointment_id: id of the appointment; None means the list of all appointments.
        :param read: returns the value to report from the appointment, or from a dict of all appointments by
            id. For an appointment, it may raise a
            :class:`~airflow_provider_webcamconsult.exceptions.WebcamconsultError`.
        :param fields: attributes of an appointment that ``read`` needs, besides the id.
        :param interval_after: returns the seconds until the next poll after a number of polls, given the last
            value; see :mod:`~airflow_provider_webcamconsult.polling.policy`.
        :param resource: the kind of record. Each has a poller of its own.
        :return: the subscription.
        """
        interval_after(0, None)  # raises if an argument is invalid, before a poller starts
        pollers = _POLLERS.setdefault(asyncio.get_running_loop(), {})
        key = (webcamconsult_conn_id, resource.plural)
        poller = pollers.get(key)
        if poller is None:
            poller = pollers[key] = cls(Service(webcamconsult_conn_id, resource))
        return Subscription(poller, appointment_id, read, fields, interval_after)

    def _add(self, subscription: Subscription[Any]) -> _Target:
        target = self._targets.setdefault(subscription.appointment_id, _Target())
        target.subscriptions[subscription] = None
        # The delays after failures follow from the intervals, and this interval can be much shorter.
        for failures in (target.failures, self.failures):
            failures.shorten(subscription.interval, self.time())
        self._wake_before(max(target.due, self.failures.not_before))
        return target

    def _remove(self, subscription: Subscription[Any], target: _Target) -> None:
        if subscription not in target.subscriptions:
            return
        del target.subscriptions[subscription]
        if not target.subscriptions:
            del self._targets[subscription.appointment_id]
        if not self._targets:
            pollers = _POLLERS.get(asyncio.get_running_loop(), {})
            for key in [key for key, poller in pollers.items() if poller is self]:
                del pollers[key]
            for task in self._tasks:
                task.cancel()
            conn_id = self._service.webcamconsult_conn_id
            _apart(logger.info, "Stopped polling for connection '%s'.", conn_id)

    # -- The two tasks ---------------------------------------------------------------------------------------

    def _wake_before(self, due: float) -> None:
        for lane in self._lanes:
            if due < lane.wakes_at:
                lane.changed.set()

    async def _run(self, lane: _Lane) -> None:
        while True:
            dues = (each.due for each in self._members(lane).values())
            lane.wakes_at = max(min(dues, default=math.inf), self.failures.not_before)
            if lane.wakes_at > self.time():
                await _wait(lane.changed, lane.wakes_at - self.time())
                continue
            try:
                await self._poll(lane)
            except Exception as error:
                self._fail(_safe(error), self._targets)
            for other in self._lanes:  # an appointment can have moved there
                other.changed.set()
            await asyncio.sleep(0)  # lets the subscribers that got an update unsubscribe

    def _members(self, lane: _Lane) -> dict[str | None, _Target]:
        # The list is polled with the appointments that do not fail, even if its subscribers cannot read it.
        return {
            id: each
            for id, each in self._targets.items()
            if bool(id and each.failures.count) is lane.is_failing
        }

    async def _poll(self, lane: _Lane) -> None:
        """Poll the due appointments of a lane once."""
        if not await self._read_connection():
            return
        now = self.time()
        members = self._members(lane)
        due = [id for id, each in members.items() if each.due <= now]
        due.sort(key=lambda id: members[id].failures.count)  # who failed least may have recovered
        if not lane.is_failing and self._should_list(due, now):
            due = await self._poll_list(due)
        for appointment_id in due:
            if appointment_id is not None and not await self._poll_one(appointment_id, lane):
                return
            if lane.is_failing and self.time() >= now + FAILING_ROUND_SECONDS:
                return

    def _should_list(self, due: Collection[str | None], now: float) -> bool:
        if None in due:
            return True
        known = self._list
        if now < known.not_before or known.missing.issuperset(due) or len(self._targets) < 2:
            return False
        polls = sum(each.elapsed(now) for id, each in self._targets.items() if id not in known.missing)
        is_recent = now - known.requested_at < LIST_DURATION_MAX_AGE_SECONDS
        return policy.is_list_lighter(polls, known.seconds if is_recent else None, self._single_seconds)

    async def _poll_list(self, due: list[str | None]) -> list[str | None]:
        """Request the list, and return the due appointments that have to be polled one by one."""
        known, began = self._list, self.time()
        requested = frozenset(filter(None, self._targets))
        only = None if None in self._targets else requested
        fields = frozenset(
            name for each in self._targets.values() for one in each.subscriptions for name in one.fields
        )
        covers = known.only is None or (only is not None and only <= known.only)
        etag = known.etag if covers and fields <= known.fields else None
        try:
            response = await self._service.list(only, fields, etag)
        except Exception as error:
            return self._fail_list(_safe(error), due) if known is self._list else []
        if known is not self._list:  # the connection has changed meanwhile
            return []
        if response.value is not None:
            known.etag, known.only, known.fields = response.etag, only, fields
            known.appointments = {appointment["id"]: appointment for appointment in response.value}
        now = self.time()
        known.seconds, known.requested_at, known.failures = now - began, began, 0
        known.missing = requested - known.appointments.keys()
        # Lists take at most half of the time, so that the service can handle other requests.
        self.failures = Failures(not_before=max(self.failures.not_before, now + known.seconds))
        for appointment_id, target in self._targets.items():
            found = known.appointments if appointment_id is None else known.appointments.get(appointment_id)
            unreadable = None if found is None else target.report(found, began)
            if unreadable and (appointment_id is None or not target.failures.count):
                target.fail(unreadable, now)
        return [*known.missing.intersection(due)]

    def _fail_list(self, error: WebcamconsultError, due: list[str | None]) -> list[str | None]:
        """Delay the next list, and return the due appointments that have to be polled one by one."""
        known, now = self._list, self.time()
        known.failures += 1
        is_unauthorized = error.status_code == HTTPStatus.UNAUTHORIZED
        is_rejected = isinstance(error, WebcamconsultRequestError) and not is_unauthorized
        only_list_fails = is_rejected or (known.failures > policy.LIST_FAILURES_MAX and not is_unauthorized)
        if not only_list_fails:
            self._fail(error, self._targets)
        if only_list_fails or known.failures == policy.LIST_FAILURES_MAX:
            # Later than the next poll of the appointments, which are then polled one by one.
            longest = max(self._shortest_interval, policy.FAILURE_DELAY_MAX_SECONDS)
            delay = policy.failure_delay_seconds(longest, 0, error)
            known.not_before = max(now, self.failures.not_before) + delay
        if subscribers := self._targets.get(None):
            if only_list_fails:
                subscribers.fail(error, now)
            subscribers.failures.not_before = known.not_before
        return due if only_list_fails else []

    async def _poll_one(self, appointment_id: str, lane: _Lane) -> bool:
        """Poll one appointment, and return whether the others of the lane can be polled too."""
        target = self._targets.get(appointment_id)
        if target is None:  # unsubscribed meanwhile
            return True
        known, began = self._list, self.time()
        timeout = policy.FAILING_POLL_MAX_SECONDS if lane.is_failing else policy.SINGLE_POLL_MAX_SECONDS
        error: WebcamconsultError | None = None
        try:
            appointment = await self._service.get(appointment_id, timeout)
        except Exception as caught:
            error = _safe(caught)
        if known is not self._list:  # the connection has changed meanwhile
            return True
        now = self.time()
        if error is None:
            error = target.report(appointment, began)
        if error is None:
            self._single_seconds = now - began
            self.failures = Failures(not_before=self.failures.not_before)
            return True
        if target.subscriptions:
            target.fail(error, now)
        if not policy.concerns_service(error, is_failing=lane.is_failing):
            return True
        self._fail(error, [])
        return False

    # -- The service as a whole ------------------------------------------------------------------------------

    @property
    def _shortest_interval(self) -> float:
        return min(each.interval for each in self._targets.values())

    def _fail(
        self, error: WebcamconsultError, concerned: Iterable[str | None], *, is_final: bool = False
    ) -> None:
        """Delay all requests after a failure of the service, and report it to those concerned."""
        if error.status_code == HTTPStatus.UNAUTHORIZED:
            self._connection_expires_at = 0.0  # it may have a new token
        is_final = self.failures.add(error, self._shortest_interval, self.time()) or is_final
        for appointment_id in self._targets if is_final else concerned:
            self._targets[appointment_id].report_error(error, is_final=is_final)

    async def _read_connection(self) -> bool:
        """Read the connection now and then, and return whether there is one to use."""
        now = self.time()
        if now < self._connection_expires_at:
            return True
        try:
            has_changed = await self._service.read_connection()
        except WebcamconsultError as error:
            self._unreadable_since = now if self._unreadable_since is None else self._unreadable_since
            is_final = now - self._unreadable_since >= policy.CONNECTION_GRACE_SECONDS
            self._fail(error, self._targets, is_final=is_final)
            return False
        self._connection_expires_at, self._unreadable_since = self.time() + CONNECTION_SECONDS, None
        if has_changed:
            self._list = _List()
            self.failures = Failures(not_before=self.failures.not_before)
            for target in self._targets.values():
                target.failures.error = None
        return True


def _apart(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in an empty context. Otherwise it would log to the task of the subscriber."""
    return Context().run(function, *arguments)


def _safe(error: Exception) -> WebcamconsultError:
    """Replace an unexpected exception, whose text may contain personal data."""
    if isinstance(error, WebcamconsultError):
        return error
    name = type(error).__name__
    logger.error("A poll failed unexpectedly (%s).", name)
    return WebcamconsultResponseError(f"The poll failed unexpectedly ({name}). Try again.")


_POLLERS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], Poller]] = WeakKeyDictionary()
