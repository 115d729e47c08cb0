"""Threads that send the writes of a synchronization, and what they share."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultRateLimitError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
    WebcamconsultUnknownOutcomeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Seconds between two checks of the threads by the thread that started them.
CHECK_SECONDS = 0.5
#: Seconds to wait for requests in progress when a run is interrupted. Airflow may kill the process before.
STOP_SECONDS = 30.0
#: Number of errors of the service in a row, after which the remaining writes are not sent.
ERRORS_IN_A_ROW_MAX = 10

ItemT = TypeVar("ItemT")

_CONCERN_ALL = (WebcamconsultAuthenticationError, WebcamconsultConfigurationError)
_CONCERN_SERVICE = (
    WebcamconsultConnectionError,
    WebcamconsultRateLimitError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
    WebcamconsultUnknownOutcomeError,
)


class StoppedError(Exception):
    """The run was interrupted before a request was sent."""


class Brake:
    """
    Stops all threads at once, for as long as the service asks for.

    :param stop: set when the run is interrupted.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._until = 0.0
        #: How often the brake was applied while it was released.
        self.count = 0

    def apply(self, seconds: float) -> None:
        """
        Let all threads wait before their next request.

        :param seconds: how long.
        """
        with self._lock:
            now = time.monotonic()
            self.count += self._until <= now
            self._until = max(self._until, now + seconds)

    def wait(self) -> None:
        """
        Wait until the brake is released.

        :raises StoppedError: if the run is interrupted.
        """
        while (remaining := self._until - time.monotonic()) > 0:
            self._stop.wait(remaining)
            if self._stop.is_set():
                break
        if self._stop.is_set():
            raise StoppedError


class Workers(Generic[ItemT]):
    """
    Sends items in threads.

    :param count: number of threads.
    :param send: sends one item.
    :param on_error: called with an item and its error, by one thread at a time.
    :param stop: set when the run is interrupted.
    """

    def __init__(
        self,
        count: int,
        *,
        send: Callable[[ItemT], None],
        on_error: Callable[[ItemT, WebcamconsultError], None],
        stop: threading.Event,
    ) -> None:
        self._count = count
        self._send = send
        self._on_error = on_error
        self._stop = stop
        self._lock = threading.Lock()
        self._errors_in_a_row = 0
        #: The error after which nothing more is sent.
        self.fatal: WebcamconsultError | None = None
        self._crash: BaseException | None = None

    def run(self, items: Sequence[ItemT], *, check: Callable[[], None]) -> list[ItemT]:
        """
        Send the items, until all are sent or the service fails for good.

        :param items: the items.
        :param check: called by this thread while the others work.
        :return: the items that were not sent.
        """
        if self.fatal is not None or not items:
            return [*items]
        remaining = iter(items)
        threads = [
            threading.Thread(target=self._work, args=(remaining,), daemon=True)
            for _ in range(min(self._count, len(items)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(CHECK_SECONDS)
                    check()
        except BaseException:
            # Airflow, or on_kill of the operator, ends a task by an exception in this thread.
            self._stop.set()
            deadline = time.monotonic() + STOP_SECONDS
            for thread in threads:
                if thread.is_alive():
                    thread.join(max(0.0, deadline - time.monotonic()))
            raise
        if self._crash is not None:
            raise self._crash
        return [*remaining]

    def _work(self, remaining: Iterator[ItemT]) -> None:
        while self.fatal is None and not self._stop.is_set():
            with self._lock:
                try:
                    item = next(remaining)
                except StopIteration:
                    return
            try:
                self._send(item)
            except StoppedError:
                return
            except WebcamconsultError as error:
                with self._lock:
                    self._fail(item, error)
            except BaseException as error:  # raised by the thread that started this one
                self._crash = error
                self._stop.set()
                return
            else:
                self._errors_in_a_row = 0

    def _fail(self, item: ItemT, error: WebcamconsultError) -> None:
        if isinstance(error, _CONCERN_SERVICE):
            self._errors_in_a_row += 1
        if isinstance(error, _CONCERN_ALL) or self._errors_in_a_row >= ERRORS_IN_A_ROW_MAX:
            self.fatal = error
        self._on_error(item, error)
