"""
One shared poller for all waits of a connection in a triggerer process.

A triggerer runs thousands of triggers in one event loop. Triggers with the same connection share a
:class:`Poller`. It requests appointments one by one or as one list, whichever costs less.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

from airflow_provider_webcamconsult.api.request import get_request, list_request
from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultRequestError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
)
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.polling.policy import is_terminal, next_delay_seconds, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_webcamconsult.api.request import Request
    from airflow_provider_webcamconsult.api.resources import Appointment
    from airflow_provider_webcamconsult.api.response import Response

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Minimum fraction of the interval before the first poll; a random fraction spreads the load of triggerers.
INITIAL_JITTER_MIN = 0.5
#: Seconds until the connection is reloaded, to use a new token or address.
CONNECTION_SECONDS = 60.0
#: Seconds after which a request that neither finishes nor times out is abandoned.
POLL_MAX_SECONDS = 300.0
#: Minimum number of due polls for the first list request, while the cost of a list is unknown.
LIST_TRIAL_POLLS = 10
#: Number of consecutive bad responses (500, unreadable) after which the remaining polls are delayed.
BAD_RESPONSES_MAX = 2
#: Seconds for which no list is requested after a list failed while single requests succeeded.
LIST_COOLDOWN_SECONDS = 600.0
#: Half-life in seconds of the measured cost of a list, so that an expensive list is tried again later.
LIST_HALF_LIFE_SECONDS = 3600.0
#: Number of bytes that cost as much as one second, to combine size and duration of a request.
BYTES_PER_SECOND = 10e6
#: Assumed cost of a single request in seconds, until one was measured.
SINGLE_POLL_COST_SECONDS = 0.05


class _Event:
    """
    An event that one task can wait for with a timeout.

    ``asyncio.wait_for`` is not used: before Python 3.12 it can swallow a cancellation, and each call
    creates a task.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._is_set = True
        self._wake()

    def clear(self) -> None:
        self._is_set = False

    def _wake(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self, seconds: float) -> bool:
        """Wait until the event is set or the time is over, and return whether it is set."""
        if not self._is_set and seconds > 0:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            timer = loop.call_later(seconds, self._wake)
            try:
                await self._waiting
            finally:
                timer.cancel()
        return self._is_set


class Subscription:
    """
    The subscription of one trigger to the state of an appointment.

    :param poller: the poller of the trigger's connection.
    :param appointment_id: id of the appointment.
    :param poke_interval: seconds between two polls.
    """

    def __init__(self, poller: Poller, appointment_id: str, poke_interval: float) -> None:
        self.appointment_id = appointment_id
        self.poke_interval = max(poke_interval, policy.POKE_INTERVAL_MIN_SECONDS)
        self.polled_at = poller.time()
        self.due = self.polled_at + self.poke_interval * random.uniform(INITIAL_JITTER_MIN, 1)  # noqa: S311
        self.failures = 0
        self._poller = poller
        self._state: str | None = None
        self._update: str | WebcamconsultError | None = None
        self._failure: RuntimeError | None = None
        self._has_update = _Event()
        self._is_last_poll = False

    @property
    def seconds_to_next_poll(self) -> float:
        """Seconds until the appointment is polled again, if no other subscription polls it earlier."""
        return max(0.0, self.due - self._poller.time())

    async def next_update(self, deadline: float) -> str | WebcamconsultError | None:
        """
        Wait for a new state or an error.

        :param deadline: when to stop waiting, after a last poll, in seconds since the epoch.
        :return: the state or the error; None if the deadline has passed.
        :raises RuntimeError: if the poller stopped.
        """
        if not await self._has_update.wait(deadline - time.time()):
            if self._is_last_poll or self.failures:
                return None
            self._is_last_poll = True
            self._poller.poll_now(self)
            await self._has_update.wait(max(deadline - time.time(), 0) + policy.LAST_POLL_SECONDS)
        if self._failure:
            raise self._failure
        update, self._update = self._update, None
        self._has_update.clear()
        return update

    def fail(self, cause: Exception | None) -> None:
        """
        End the wait because the poller stopped.

        :param cause: the exception that stopped the poller, if any.
        """
        self._failure = RuntimeError(
            "The poller of this connection stopped, so the wait cannot continue. See the triggerer's log."
        )
        self._failure.__cause__ = cause
        self._has_update.set()

    def publish(self, update: str | WebcamconsultError, polled_at: float) -> None:
        """
        Record the result of a poll, and wake the trigger if the result is new.

        :param update: the state, or an error.
        :param polled_at: when the poll started, in seconds of the event loop's clock.
        """
        error = update if isinstance(update, WebcamconsultError) else None
        self.failures = self.failures + 1 if error else 0
        self.polled_at = polled_at
        # After an error the delay counts from the end of the poll, so that slow failures are delayed too.
        begin = self._poller.time() if error else polled_at
        self.due = begin + next_delay_seconds(self.poke_interval, self.failures, error)
        if update != self._state or self._is_last_poll:
            self._update = update
            self._has_update.set()
        if isinstance(update, str):
            self._state = update

    def unsubscribe(self) -> None:
        """End the wait. The poller stops when no subscription is left."""
        self._poller.remove(self)


class _Cost:
    """Moving average of the measured cost of a request in seconds. The last measurement counts for half."""

    seconds: float | None = None

    def add(self, seconds: float, size: int) -> None:
        cost = seconds + size / BYTES_PER_SECOND
        self.seconds = cost if self.seconds is None else (self.seconds + cost) / 2


@dataclass
class _Seen:
    """What is known from earlier responses; discarded when the connection changes."""

    singles: dict[str, tuple[str, str]] = field(default_factory=dict)
    """ETag and state of each appointment that was requested individually."""
    single_cost: _Cost = field(default_factory=_Cost)
    listed: dict[str, str | WebcamconsultError] = field(default_factory=dict)
    """State or error of each requested appointment that the last list contained."""
    list_wanted: frozenset[str] = frozenset()
    """The appointments that the last list was requested for, including those that it did not contain."""
    list_etag: str | None = None
    list_cost: _Cost = field(default_factory=_Cost)
    list_polled_at: float = 0.0
    list_cooldown_until: float = 0.0
    has_list_failed: bool = False


class Poller:
    """
    Polls the appointments of all waits of one connection, one request at a time.

    :param webcamconsult_conn_id: id of the Airflow connection.
    """

    def __init__(self, webcamconsult_conn_id: str) -> None:
        self.webcamconsult_conn_id = webcamconsult_conn_id
        loop = asyncio.get_running_loop()
        self.time = loop.time
        self._waits: dict[str, dict[Subscription, None]] = {}
        self._changed = _Event()
        # One thread per connection: a hanging service blocks neither the event loop nor other connections.
        self._thread = ThreadPoolExecutor(1, "webcamconsult-poller")
        self._hook: WebcamconsultHook | None = None
        self._hook_until = 0.0
        self._not_before = 0.0
        self._failures = 0
        self._plural_paths = False
        self._seen = _Seen()
        # In an empty context. Otherwise the poller would log to the task of the first subscription.
        self._task = Context().run(loop.create_task, self._run())

    @classmethod
    def subscribe(cls, webcamconsult_conn_id: str, appointment_id: str, poke_interval: float) -> Subscription:
        """
        Subscribe to an appointment, and start the connection's poller if there is none.

        :param webcamconsult_conn_id: id of the Airflow connection.
        :param appointment_id: id of the appointment.
        :param poke_interval: seconds between two polls.
        :return: the subscription.
        """
        pollers = _POLLERS.setdefault(asyncio.get_running_loop(), {})
        poller = pollers.get(webcamconsult_conn_id)
        if poller is None:
            poller = pollers[webcamconsult_conn_id] = cls(webcamconsult_conn_id)
        wait = Subscription(poller, appointment_id, poke_interval)
        poller._waits.setdefault(appointment_id, {})[wait] = None
        poller._changed.set()
        return wait

    def remove(self, wait: Subscription) -> None:
        """
        Remove a subscription.

        :param wait: the subscription.
        """
        waits = self._waits.get(wait.appointment_id, {})
        waits.pop(wait, None)
        if not waits:
            self._waits.pop(wait.appointment_id, None)
            self._seen.singles.pop(wait.appointment_id, None)
        if not self._waits:
            self._changed.set()

    def poll_now(self, wait: Subscription) -> None:
        """
        Make the appointment of a subscription due now.

        :param wait: the subscription.
        """
        wait.due = self.time()
        self._changed.set()

    def _all_waits(self) -> list[Subscription]:
        return [wait for waits in self._waits.values() for wait in waits]

    # -- The task --------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        logger.info("Started polling for connection '%s'.", self.webcamconsult_conn_id)
        failure: Exception | None = None
        try:
            while self._waits:
                self._changed.clear()
                next_due = max(min(wait.due for wait in self._all_waits()), self._not_before)
                pause = next_due - self.time()
                if pause <= 0:
                    await self._poll()
                    await asyncio.sleep(0)  # lets notified subscribers unsubscribe before the next poll
                    continue
                await self._changed.wait(pause)
        except Exception as error:
            failure = error
            logger.exception(
                "Polling for connection '%s' failed, so its triggers fail too.", self.webcamconsult_conn_id
            )
        finally:
            # No await may come between the loop's last check and this: later subscribers need a new poller.
            _POLLERS[asyncio.get_running_loop()].pop(self.webcamconsult_conn_id, None)
            for wait in self._all_waits():
                wait.fail(failure)
            self._thread.shutdown(wait=False)
            logger.info("Stopped polling for connection '%s'.", self.webcamconsult_conn_id)

    async def _poll(self) -> None:
        """Poll all due appointments once."""
        now = self.time()
        due = [
            appointment_id
            for appointment_id, waits in self._waits.items()
            if any(wait.due <= now for wait in waits)
        ]
        try:
            try:
                await self._read_connection()
            except WebcamconsultError as error:
                raise self._fail(error, due) from None
            if self._seen.has_list_failed:
                # A single request shows whether the service or only the list fails.
                await self._poll_one(due.pop(0))
            if self._is_list_worth_it(due, now):
                due = await self._poll_list(due)
            odd_in_a_row = 0
            while due:
                appointment_id = due.pop(0)
                if appointment_id not in self._waits:
                    continue  # unsubscribed meanwhile
                odd = await self._poll_one(appointment_id)
                odd_in_a_row = odd_in_a_row + 1 if odd else 0
                if odd and odd_in_a_row == BAD_RESPONSES_MAX:
                    raise self._fail(odd, [])
        except _ServiceFailure as failure:
            cause = failure.error
            if cause.status_code == HTTPStatus.UNAUTHORIZED and await self._has_new_connection():
                self._failures, self._not_before = 0, 0.0
                return
            for appointment_id in [*self._waits] if is_terminal(cause) else failure.concerned:
                self._publish(appointment_id, cause, now)

    async def _poll_one(self, appointment_id: str) -> WebcamconsultError | None:
        """Poll one appointment; return the error if the response was bad."""
        request = get_request(APPOINTMENT, appointment_id, plural_paths=self._plural_paths)
        etag, state = self._seen.singles.get(appointment_id, (None, ""))
        began = self.time()
        try:
            answer = await self._send(request, etag)
            if answer.value is not None:
                state = state_of(answer.value)
        except WebcamconsultError as error:
            if _is_of_the_service(error):
                raise self._fail(error, [appointment_id]) from None
            self._publish(appointment_id, error, began)
            return None if isinstance(error, WebcamconsultRequestError) else error
        self._failures = 0
        self._seen.single_cost.add(self.time() - began, answer.size)
        if answer.etag and appointment_id in self._waits:
            self._seen.singles[appointment_id] = (answer.etag, state)
        self._publish(appointment_id, state, began)
        return None

    async def _poll_list(self, due: list[str]) -> list[str]:
        """Poll the list; return the due appointments that the list omits (they may still exist)."""
        wanted = frozenset(self._waits)
        began = self.time()
        try:
            answer = await self._send(
                list_request(APPOINTMENT, only=wanted, fields=["state"]),
                self._seen.list_etag if wanted <= self._seen.list_wanted else None,
            )
        except WebcamconsultError as error:
            if error.status_code == HTTPStatus.UNAUTHORIZED:
                raise self._fail(error, wanted) from None
            if self._seen.has_list_failed or isinstance(error, WebcamconsultRequestError):
                self._seen.list_cooldown_until = self.time() + LIST_COOLDOWN_SECONDS
                self._seen.has_list_failed = False
                return due
            self._seen.has_list_failed = True
            raise self._fail(error, wanted) from None
        if answer.value is not None:
            self._seen.list_etag, self._seen.list_wanted = answer.etag, wanted
            self._seen.listed = _states(answer.value)
        ended = self.time()
        self._seen.has_list_failed = False
        self._failures = 0
        self._seen.list_cost.add(ended - began, answer.size)
        self._seen.list_polled_at = began
        # Lists take at most half of the time, so that the service can handle other requests.
        self._not_before = ended + (ended - began)
        for appointment_id in wanted & self._seen.listed.keys():
            self._publish(appointment_id, self._seen.listed[appointment_id], began)
        # Leave at least one out: with the list there must not be more requests than without it.
        return [appointment_id for appointment_id in due if appointment_id not in self._seen.listed][
            : len(due) - 1
        ]

    def _is_list_worth_it(self, due: list[str], now: float) -> bool:
        """Return whether a list costs no more than the single requests that it saves."""
        unlisted = self._seen.list_wanted - self._seen.listed.keys()
        if len(self._waits) < 2 or unlisted.issuperset(due) or now < self._seen.list_cooldown_until:
            return False
        saved = sum(
            max(min(1.0, (now - wait.polled_at) / wait.poke_interval) for wait in waits)
            for appointment_id, waits in self._waits.items()
            if appointment_id not in unlisted
        )
        if self._seen.list_cost.seconds is None:
            return saved >= LIST_TRIAL_POLLS
        kept: float = 0.5 ** ((now - self._seen.list_polled_at) / LIST_HALF_LIFE_SECONDS)
        single = self._seen.single_cost.seconds or SINGLE_POLL_COST_SECONDS
        return saved * single >= self._seen.list_cost.seconds * kept

    def _fail(self, error: WebcamconsultError, concerned: Iterable[str]) -> _ServiceFailure:
        """Delay all polls after a failure of the service."""
        self._failures += 1
        shortest = min((wait.poke_interval for wait in self._all_waits()), default=0.0)
        self._not_before = self.time() + next_delay_seconds(shortest, self._failures, error)
        for appointment_id in concerned:
            # Move failed appointments to the end, so that they do not block the others.
            if appointment_id in self._waits:
                self._waits[appointment_id] = self._waits.pop(appointment_id)
        return _ServiceFailure(error, concerned)

    def _publish(self, appointment_id: str, update: str | WebcamconsultError, polled_at: float) -> None:
        for wait in self._waits.get(appointment_id, ()):
            wait.publish(update, polled_at)

    # -- The connection and its thread -----------------------------------------------------------------------

    async def _read_connection(self) -> None:
        """Load the connection, or reload it after a while; if a reload fails, keep the last settings."""
        if self._hook and self.time() < self._hook_until:
            return
        hook = WebcamconsultHook(self.webcamconsult_conn_id)
        try:
            # A plain thread does not work: on Airflow 3.0 and 3.1 the lookup there ends the triggerer.
            settings = await sync_to_async(lambda: hook.settings, thread_sensitive=False)()
        except Exception as error:
            if self._hook is None:
                if isinstance(error, WebcamconsultError):
                    raise
                raise WebcamconsultConnectionError(
                    f"Could not load connection '{self.webcamconsult_conn_id}' from Airflow "
                    f"({type(error).__name__}). Try again."
                ) from None
            logger.warning(
                "Could not reload connection '%s' (%s). The last known settings stay in use.",
                self.webcamconsult_conn_id,
                type(error).__name__,
            )
        else:
            if self._hook is None or settings != self._hook.settings:
                self._hook = hook
                self._plural_paths = settings.plural_paths
                self._seen = _Seen()
        self._hook_until = self.time() + CONNECTION_SECONDS

    async def _has_new_connection(self) -> bool:
        """Reload the connection, and return whether it has changed."""
        old, self._hook_until = self._hook, 0.0
        await self._read_connection()
        return self._hook is not old

    async def _send(self, request: Request, etag: str | None) -> Response:
        hook = self._hook
        assert hook is not None  # noqa: S101
        return await self._in_thread(lambda: hook.transport.send_once(request, etag=etag))

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        await asyncio.wait([future], timeout=POLL_MAX_SECONDS)
        if future.done():
            return future.result()
        # Abandon the hanging thread.
        self._thread.shutdown(wait=False)
        self._thread = ThreadPoolExecutor(1, "webcamconsult-poller")
        raise WebcamconsultConnectionError(
            f"A poll did not finish within {POLL_MAX_SECONDS:g} s, so it was abandoned. Try again."
        )


_POLLERS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]] = WeakKeyDictionary()


def _states(appointments: Iterable[Appointment]) -> dict[str, str | WebcamconsultError]:
    states: dict[str, str | WebcamconsultError] = {}
    for appointment in appointments:
        try:
            states[appointment["id"]] = state_of(appointment)
        except WebcamconsultResponseError as error:
            states[appointment["id"]] = error
    return states


class _ServiceFailure(Exception):
    """A failure of the service, not of a single appointment."""

    def __init__(self, error: WebcamconsultError, concerned: Iterable[str]) -> None:
        super().__init__(error)
        self.error = error
        self.concerned = concerned


def _is_of_the_service(error: WebcamconsultError) -> bool:
    if isinstance(error, WebcamconsultResponseError):
        return False
    if isinstance(error, WebcamconsultServerError):
        return error.status_code != HTTPStatus.INTERNAL_SERVER_ERROR
    return not isinstance(error, WebcamconsultRequestError) or error.status_code == HTTPStatus.UNAUTHORIZED
