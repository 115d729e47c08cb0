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
import time
from contextvars import Context
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.exceptions import WebcamconsultError, WebcamconsultRequestError
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.polling.service import Service
from airflow_provider_webcamconsult.polling.target import Failures, Interest, Target, safe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.connection import Settings
    from airflow_provider_webcamconsult.polling.target import Update

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: In place of an id, this subscribes to the list of all appointments. No id has this form.
LIST = "*"
#: Seconds until the connection is read again, to use a new token or address.
CONNECTION_SECONDS = 60.0
#: Seconds after which the duration of a list counts as unknown, so that a slow list is tried again.
LIST_DURATION_MAX_AGE_SECONDS = 3600.0
#: Minimum seconds to wait for the clock to reach a deadline.
CLOCK_STEP_SECONDS = 0.001
#: Assumed duration of a single request in seconds, until one was measured.
SINGLE_POLL_SECONDS = 0.05


class Subscription(Generic[T]):
    """
    A subscription to appointments, or to the list of all; see :meth:`Poller.subscribe`.

    :param poller: the poller of the connection.
    :param interests: the interest in each appointment, by id.
    :param changed: set when one of them has an update.
    """

    def __init__(self, poller: Poller, interests: dict[str, Interest[T]], changed: asyncio.Event) -> None:
        self._poller = poller
        self._interests = interests
        self._changed = changed
        self._last_deadline: float | None = None

    @property
    def settings(self) -> Settings:
        """The settings of the connection. There are none before the first value."""
        return self._poller.settings

    @property
    def seconds_to_next_poll(self) -> float:
        """Seconds until the next poll, if no other subscription causes an earlier one."""
        due = min((self._poller.due(id, each) for id, each in self._interests.items()), default=math.inf)
        return max(0.0, due - self._poller.time())

    async def next_updates(self, deadline: float, *, with_unchanged: bool = False) -> dict[str, Update[T]]:
        """
        Wait for new values or errors.

        :param deadline: when to stop waiting, after a last poll of each, in seconds since the epoch.
        :param with_unchanged: whether the next poll of each is an update even if its value has not changed.
        :return: the updates by the id of the appointment; empty if the deadline has passed.
        """
        if with_unchanged:
            self._report_next()
        if self._has_update():  # and the call before was cancelled
            self._changed.set()
        await _wait(self._changed, deadline - time.time())
        # The clock may have been set back meanwhile.
        while not self._has_update() and (seconds := deadline - time.time()) > 0:
            await _wait(self._changed, max(seconds, CLOCK_STEP_SECONDS))
        if not self._has_update() and self._last_deadline != deadline:
            self._last_deadline = deadline
            self._report_next()
            last = self._poller.poll_now(self._interests)
            end = max(deadline, time.time()) + policy.LAST_POLL_SECONDS
            while not all(each.update for each in last) and (seconds := end - time.time()) > 0:
                await _wait(self._changed, seconds)
        updates = {id: each.update for id, each in self._interests.items() if each.update}
        for id in updates:
            self._interests[id].update = None
        return updates

    def _has_update(self) -> bool:
        return any(each.update for each in self._interests.values())

    def _report_next(self) -> None:
        for each in self._interests.values():
            each.reports_next = True

    def unsubscribe(self, *ids: str) -> None:
        """
        End the subscription. The poller stops with its last one.

        :param ids: ids of the appointments to leave. By default, all of them.
        """
        for id in ids or tuple(self._interests):
            self._poller.leave(id, self._interests.pop(id))


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
class _List:
    """What is known of the list."""

    etag: str | None = None
    only: frozenset[str] | None = frozenset()
    fields: frozenset[str] = frozenset()
    appointments: dict[str, Any] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    """The polled appointments that the list did not contain; they may still exist."""
    seconds: float | None = None
    requested_at: float = 0.0
    failures: int = 0
    do_single_polls_work: bool = False
    """Whether a poll of a single appointment has succeeded since the last list failed."""
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
        self.time = asyncio.get_running_loop().time
        self.failures = Failures()
        """The failures of the service as a whole."""
        self._service = service
        self._targets: dict[str, Target] = {}
        # A changed connection gets a new one. That also tells old responses apart.
        self._list = _List()
        self._single_seconds = SINGLE_POLL_SECONDS
        self._connection_expires_at = 0.0
        self._unreadable_since: float | None = None
        self._lanes = [_Lane(is_failing=False), _Lane(is_failing=True)]
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def of_connection(cls, webcamconsult_conn_id: str, resource: Resource[Any, Any] = APPOINTMENT) -> Poller:
        """
        Return the poller that all subscribers in this event loop share.

        :param webcamconsult_conn_id: id of the Airflow connection.
        :param resource: the kind of record. Each has a poller of its own.
        """
        pollers = _POLLERS.get(asyncio.get_running_loop(), {})
        shared = pollers.get((webcamconsult_conn_id, resource.plural))
        return shared or cls(Service(webcamconsult_conn_id, resource))

    def subscribe(
        self,
        ids: Iterable[str],
        read: Callable[[Any], T],
        *,
        fields: Collection[str],
        interval_after: Callable[[int, T | None], float],
    ) -> Subscription[T]:
        """
        Subscribe to appointments or to the list. The first subscription starts the poller.

        :param ids: ids of the appointments; ``[LIST]`` means the list of all.
        :param read: returns the value to report from an appointment, or from a dict of all appointments by
            id. For an appointment, it may raise a
            :class:`~airflow_provider_webcamconsult.exceptions.WebcamconsultError`.
        :param fields: attributes of an appointment that ``read`` needs, besides the id.
        :param interval_after: returns the seconds until the next poll after a number of polls, given the last
            value; see :mod:`~airflow_provider_webcamconsult.polling.policy`.
        :return: the subscription.
        """
        changed, now = asyncio.Event(), self.time()
        interests = {id: Interest(read, fields, interval_after, changed, now) for id in ids}
        if interests and not self._targets:
            self._start()
        for id, interest in interests.items():
            target = self._targets.setdefault(id, Target())
            target.interests[interest] = None
            # The delays after failures follow from the intervals, and this interval can be much shorter.
            for failures in (target.failures, self.failures):
                failures.shorten(interest.interval, now)
            self._wake_before(max(target.due, self.failures.not_before))
        return Subscription(self, interests, changed)

    def leave(self, appointment_id: str, interest: Interest[Any]) -> None:
        """
        End an interest.

        :param appointment_id: id of the appointment.
        :param interest: the interest.
        """
        target = self._targets[appointment_id]
        del target.interests[interest]
        if not target.interests:
            del self._targets[appointment_id]
        if not self._targets:
            self._stop()

    @property
    def _key(self) -> tuple[str, str]:
        return self._service.webcamconsult_conn_id, self._service.resource.plural

    def _start(self) -> None:
        _POLLERS.setdefault(asyncio.get_running_loop(), {})[self._key] = self
        self._tasks = [_apart(asyncio.ensure_future, self._run(lane)) for lane in self._lanes]
        _apart(logger.info, "Started polling for connection '%s'.", self._service.webcamconsult_conn_id)

    def _stop(self) -> None:
        _POLLERS.get(asyncio.get_running_loop(), {}).pop(self._key, None)
        for task in self._tasks:
            task.cancel()
        _apart(logger.info, "Stopped polling for connection '%s'.", self._service.webcamconsult_conn_id)

    def due(self, appointment_id: str, interest: Interest[Any]) -> float:
        """
        Return when the next poll for an interest is due, in seconds of the event loop's clock.

        :param appointment_id: id of the appointment.
        :param interest: the interest.
        """
        target = self._targets[appointment_id]
        return max(interest.due, target.failures.not_before, self.failures.not_before)

    def poll_now(self, interests: Mapping[str, Interest[T]]) -> list[Interest[T]]:
        """
        Poll appointments at once, except those whose last poll failed.

        :param interests: the interests by the id of the appointment.
        :return: the interests in those that are polled.
        """
        polled = [
            each
            for id, each in interests.items()
            if not (self._targets[id].failures.count or self.failures.count)
        ]
        for each in polled:
            each.due = self.time()
        if polled:
            self._wake_before(self.time())
        return polled

    @property
    def settings(self) -> Settings:
        """The settings of the connection, once it was read."""
        return self._service.settings

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
                self._fail(safe_error(error), self._targets)
            for other in self._lanes:  # an appointment can have moved there
                other.changed.set()
            await asyncio.sleep(0)  # lets the subscribers that got an update unsubscribe

    def _members(self, lane: _Lane) -> dict[str, Target]:
        # The list is polled with the appointments that do not fail, even if its subscribers cannot read it.
        return {
            id: each
            for id, each in self._targets.items()
            if bool(id != LIST and each.failures.count) is lane.is_failing
        }

    async def _poll(self, lane: _Lane) -> None:
        """Poll the due appointments of a lane once."""
        if not await self._read_connection():
            return
        now = self.time()
        members = self._members(lane)
        due = [id for id, each in members.items() if each.due <= now]
        due.sort(key=lambda id: members[id].failures.order)
        if not lane.is_failing and self._should_list(due, now):
            due = await self._poll_list(due)
        for appointment_id in due:
            if appointment_id != LIST and not await self._poll_one(appointment_id, lane):
                return
            # Select again after one that hangs, so that it delays few others.
            if lane.is_failing and self.time() >= now + policy.SLOW_POLL_SECONDS:
                return

    def _should_list(self, due: Collection[str], now: float) -> bool:
        if LIST in due:
            return True
        known = self._list
        if now < known.not_before or known.missing.issuperset(due) or len(self._targets) < 2:
            return False
        polls = sum(each.elapsed(now) for id, each in self._targets.items() if id not in known.missing)
        is_recent = now - known.requested_at < LIST_DURATION_MAX_AGE_SECONDS
        return policy.is_list_lighter(polls, known.seconds if is_recent else None, self._single_seconds)

    async def _poll_list(self, due: list[str]) -> list[str]:
        """Request the list, and return the due appointments that have to be polled one by one."""
        known, began = self._list, self.time()
        requested = frozenset(self._targets.keys() - {LIST})
        only = None if LIST in self._targets else requested
        fields = frozenset(
            name for each in self._targets.values() for one in each.interests for name in one.fields
        )
        covers = known.only is None or (only is not None and only <= known.only)
        etag = known.etag if covers and fields <= known.fields else None
        try:
            response = await self._service.list(only, fields, etag, known.positions)
        except Exception as error:
            return self._fail_list(safe_error(error), due, began) if known is self._list else []
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
            found = known.appointments if appointment_id == LIST else known.appointments.get(appointment_id)
            unreadable = None if found is None else target.report(found, began)
            if unreadable and (appointment_id == LIST or not target.failures.count):
                target.fail(unreadable, now)
        return [*known.missing.intersection(due)]

    def _fail_list(self, error: WebcamconsultError, due: list[str], began: float) -> list[str]:
        """Delay the next list, and return the due appointments that have to be polled one by one."""
        known, now = self._list, self.time()
        is_slow = now - began >= policy.SLOW_LIST_SECONDS
        known.failures = max(known.failures + 1, policy.LIST_FAILURES_MAX if is_slow else 0)
        is_unauthorized = error.status_code == HTTPStatus.UNAUTHORIZED
        is_rejected = isinstance(error, WebcamconsultRequestError) and not is_unauthorized
        only_list_fails = is_rejected or (known.failures > policy.LIST_FAILURES_MAX and not is_unauthorized)
        if not only_list_fails:
            self._fail(error, self._targets)
        if only_list_fails or known.failures == policy.LIST_FAILURES_MAX:
            # Later than the next poll of the appointments, which are then polled one by one.
            longest = max(self._shortest_interval, policy.FAILURE_DELAY_MAX_SECONDS)
            delay = policy.failure_delay_seconds(longest, 0, error)
            if known.do_single_polls_work:
                delay = max(delay, policy.list_delay_seconds(now - began))
            known.do_single_polls_work = False
            known.not_before = max(now, self.failures.not_before) + delay
        if subscribers := self._targets.get(LIST):
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
        is_slow = target.failures.slow_polls > 0
        timeout = policy.SLOW_POLL_MAX_SECONDS if is_slow else policy.SINGLE_POLL_MAX_SECONDS
        error: WebcamconsultError | None = None
        try:
            appointment = await self._service.get(appointment_id, timeout)
        except Exception as caught:
            error = safe_error(caught)
        if known is not self._list:  # the connection has changed meanwhile
            return True
        now = self.time()
        if error is None:
            error = target.report(appointment, began)
        if error is None:
            self._single_seconds, known.do_single_polls_work = now - began, True
            self.failures = Failures(not_before=self.failures.not_before)
            return True
        if target.interests:
            target.fail(error, now, seconds=now - began)
        if not policy.concerns_service(error, is_failing=lane.is_failing):
            return True
        self._fail(error, [])
        return False

    # -- The service as a whole ------------------------------------------------------------------------------

    @property
    def _shortest_interval(self) -> float:
        return min(each.interval for each in self._targets.values())

    def _fail(self, error: WebcamconsultError, concerned: Iterable[str], *, is_final: bool = False) -> None:
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


_POLLERS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], Poller]] = WeakKeyDictionary()
