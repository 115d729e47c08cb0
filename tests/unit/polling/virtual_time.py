"""
An event loop whose clock jumps to the next timer instead of waiting, and helpers for a poller in it.

While a request of the poller is under way in its thread, the clock runs as usual.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_webcamconsult.api.states import state_of
from airflow_provider_webcamconsult.polling import poller
from airflow_provider_webcamconsult.triggers import appointments as triggers
from airflow_provider_webcamconsult.triggers import base as trigger_base

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    import pytest

    from airflow_provider_webcamconsult.polling.poller import Poller, Subscription
    from airflow_provider_webcamconsult.polling.target import Update

T = TypeVar("T")


#: Steps of the loop without a pause until it counts as busy.
STEPS_WITHOUT_PAUSE_MAX = 10_000
#: Seconds between checks of whether a thread is still running.
THREAD_CHECK_SECONDS = 0.002


class _Executor(ThreadPoolExecutor):
    """Counts the calls under way."""

    calls = 0

    def submit(self, *arguments: Any, **keywords: Any) -> Any:
        self.calls += 1
        future = super().submit(*arguments, **keywords)
        future.add_done_callback(self._end)
        return future

    def _end(self, future: object) -> None:
        self.calls -= 1


class _Selector(selectors.DefaultSelector):
    """Counts the time that the loop would have waited."""

    now = 0.0
    steps_without_pause = 0

    def __init__(self) -> None:
        super().__init__()
        self.executor = _Executor()

    @property
    def threads_work(self) -> bool:
        return self.executor.calls > 0 or bool(poll_threads())

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout != 0 and self.threads_work:
            began = time.monotonic()
            events = super().select(min(timeout or THREAD_CHECK_SECONDS, THREAD_CHECK_SECONDS))
            self.now += time.monotonic() - began
            return events
        if timeout is None:
            raise RuntimeError("All tasks wait for each other.")
        self.steps_without_pause = 0 if timeout > 0 else self.steps_without_pause + 1
        if self.steps_without_pause > STEPS_WITHOUT_PAUSE_MAX:
            raise RuntimeError("A task runs without a pause.")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)
        self.set_default_executor(self._clock.executor)

    def time(self) -> float:
        return self._clock.now


_loops: list[VirtualTimeLoop] = []


def now() -> float:
    """Return the time of the loop that runs, in any thread."""
    return _loops[-1].time() if _loops else 0.0  # a request can outlive its loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time, then cancel what it left behind."""
    with closing(VirtualTimeLoop()) as loop:
        _loops.append(loop)
        try:
            return loop.run_until_complete(main)
        finally:
            _loops.remove(loop)
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))


def poll_threads() -> list[threading.Thread]:
    """Return the threads of the requests that are under way."""
    return [thread for thread in threading.enumerate() if thread.name == "webcamconsult-poll"]


def use_virtual_clock(monkeypatch: pytest.MonkeyPatch, start: float = 0.0) -> None:
    """Let deadlines, which are times of the wall clock, follow the loop's clock. It starts at some time."""
    use_clock(monkeypatch, lambda: start + now())


def use_clock(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    """Replace the wall clock."""
    for module in (poller, triggers, trigger_base):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=clock))


def add(
    shared: Poller,
    appointment_id: str,
    interval: float = 5.0,
    *,
    read: Callable[[Any], Any] = state_of,
    fields: Collection[str] = ("state",),
) -> Subscription[Any]:
    """Add a subscription to a poller."""
    return shared.subscribe(
        [appointment_id], read, fields=fields, interval_after=lambda polls, value: interval
    )


async def next_update(subscription: Subscription[T], deadline: float) -> Update[T] | None:
    """Return the next update of a subscription to one appointment, or to the list."""
    return next(iter((await subscription.next_updates(deadline)).values()), None)
