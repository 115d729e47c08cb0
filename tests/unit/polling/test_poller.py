"""The shared poller: the requests it sends, and the updates it publishes to subscriptions."""

from __future__ import annotations

import asyncio
import contextvars
import http.server
import json
import logging
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.api.states import state_of
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultError,
    WebcamconsultNotFoundError,
    WebcamconsultRateLimitError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
)
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.polling import policy, poller, service
from airflow_provider_webcamconsult.polling.poller import LIST, Poller, Subscription
from tests.unit.polling import virtual_time
from tests.unit.polling.virtual_time import now, poll_threads, use_virtual_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from airflow_provider_webcamconsult.polling.target import Update
    from tests.unit.conftest import Connect

CONN_ID = "webcamconsult_default"
TOKEN = "token-of-the-fake-service"
LIST_PATH = "/appointments.json"
# Seconds: an interval with room for some requests on a busy machine, and the time limit of a scenario.
INTERVAL = 0.2
TIME_LIMIT = 20


class FakeService(http.server.ThreadingHTTPServer):
    """A service whose responses a test controls."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.states: dict[str, Any] = {}
        self.hidden: set[str] = set()
        """Ids that are missing from the list."""
        self.failures: dict[str, tuple[int, dict[str, str]]] = {}
        """Status and headers for a path; ``*`` applies to all paths."""
        self.delays: dict[str, float] = {}
        self.has_etags = False
        self.token = TOKEN
        self.requests: list[tuple[float, str, int]] = []
        self.connections = 0
        self.concurrent = 0
        self.concurrent_max = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def respond(self, path: str, headers: Any) -> tuple[int, dict[str, str], Any]:
        if headers["Authorization"] != f"Token token={self.token}":
            return 401, {}, None
        for key in (path, "*"):
            if key in self.failures:
                return *self.failures[key], None
        if path == LIST_PATH:
            body: Any = [{"id": id, "state": s} for id, s in self.states.items() if id not in self.hidden]
        else:
            id = path.removeprefix("/appointment/").removesuffix(".json")
            if id not in self.states:
                return 404, {}, None
            body = {"appointment": {"id": id, "state": self.states[id]}}
        etag = f'W/"{hash(json.dumps(body))}"'
        if not self.has_etags:
            return 200, {}, body
        return (304 if headers["If-None-Match"] == etag else 200), {"ETag": etag}, body


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeService
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        fake_service, started = self.server, now()
        fake_service.concurrent += 1
        fake_service.concurrent_max = max(fake_service.concurrent_max, fake_service.concurrent)
        time.sleep(fake_service.delays.get(self.path, 0))
        status, headers, body = fake_service.respond(self.path, self.headers)
        if status == 404:
            body = {"status": 404, "error": "Not Found"}
        content = b"" if status == 304 or body is None else json.dumps(body).encode()
        fake_service.requests.append((started, self.path, status))
        fake_service.concurrent -= 1
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running(fake_service: FakeService) -> Iterator[FakeService]:
    thread = threading.Thread(target=fake_service.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake_service
    finally:
        fake_service.shutdown()
        fake_service.server_close()


@pytest.fixture
def fake_service(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)
    use_virtual_clock(monkeypatch)
    with running(FakeService()) as fake_service:
        connect(fake_service.url, TOKEN)
        yield fake_service


def ids(count: int) -> list[str]:
    return [f"{number:024x}" for number in range(1, count + 1)]


def subscribe(
    appointment_id: str, interval: float = INTERVAL, *, conn_id: str = CONN_ID
) -> Subscription[str]:
    return Poller.of_connection(conn_id).subscribe(
        [appointment_id], state_of, fields=["state"], interval_after=lambda polls, value: interval
    )


def run(scenario: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(scenario(), TIME_LIMIT)

    return virtual_time.run(limited())


async def next_update(subscription: Subscription[Any]) -> Any:
    """Return the next value or error."""
    update: Update[Any] | None = await virtual_time.next_update(subscription, now() + TIME_LIMIT)
    assert update is not None
    return update.error or update.value


async def final_error(subscription: Subscription[Any]) -> WebcamconsultError:
    """Return the error that ends a wait."""
    while True:
        update = await virtual_time.next_update(subscription, now() + TIME_LIMIT)
        assert update is not None
        if update.is_final:
            assert update.error is not None
            return update.error


async def sleep_intervals(intervals: float) -> None:
    await asyncio.sleep(intervals * INTERVAL)


async def next_updates(subscriptions: list[Subscription[Any]]) -> list[Any]:
    return await asyncio.gather(*map(next_update, subscriptions))


# Requests


def test_few_subscriptions_are_polled_individually_over_one_connection(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(3), "idle")

    async def scenario() -> None:
        subscriptions = [subscribe(id) for id in ids(3)]
        assert await next_updates(subscriptions) == ["idle"] * 3
        await sleep_intervals(3)
        for subscription in subscriptions:
            subscription.unsubscribe()

    run(scenario)
    assert set(fake_service.paths) == {f"/appointment/{id}.json" for id in ids(3)}
    assert fake_service.connections == 1


def test_many_subscriptions_are_polled_with_one_list_request(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(200), "idle")

    async def scenario() -> None:
        subscriptions = [subscribe(id) for id in ids(200)]
        assert await next_updates(subscriptions) == ["idle"] * 200
        fake_service.requests.clear()
        await sleep_intervals(5)
        fake_service.states |= dict.fromkeys(ids(200), "finished")
        assert await next_updates(subscriptions) == ["finished"] * 200

    run(scenario)
    assert len(fake_service.paths) <= 7
    assert fake_service.connections == 1


def test_list_is_never_requested_for_one_subscription(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(1), "idle")
    fake_service.delays[f"/appointment/{ids(1)[0]}.json"] = INTERVAL  # a list request would be cheaper

    async def scenario() -> None:
        (subscription,) = [subscribe(id) for id in ids(1)]
        await next_update(subscription)
        await sleep_intervals(5)

    run(scenario)
    assert LIST_PATH not in fake_service.paths


def test_slow_list_is_requested_only_once(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(30), "idle")
    fake_service.delays[LIST_PATH] = 2.0

    async def scenario() -> None:
        subscriptions = [subscribe(id) for id in ids(30)]
        await next_updates(subscriptions)
        while len(fake_service.paths) <= 30:
            await asyncio.sleep(0.1)

    run(scenario)
    assert Counter(fake_service.paths)[LIST_PATH] == 1


def test_list_is_preferred_when_faster_than_single_requests(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(40), "idle")
    for id in ids(40):
        fake_service.delays[f"/appointment/{id}.json"] = 0.1

    async def scenario() -> None:
        await next_updates([subscribe(id) for id in ids(40)])
        fake_service.requests.clear()
        await sleep_intervals(5)

    run(scenario)


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 11, 30])
def test_requests_never_outnumber_subscriptions(count: int, fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(count), "idle")
    fake_service.hidden = set(ids(count)[::2])

    async def scenario() -> float:
        subscriptions = [subscribe(id) for id in ids(count)]
        await next_updates(subscriptions)
        fake_service.requests.clear()
        started = now()
        await sleep_intervals(5)
        return (now() - started) / INTERVAL

    intervals = run(scenario)
    assert len(fake_service.requests) <= count * (intervals + 1)


def test_subscriptions_to_the_same_appointment_share_one_request(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> None:
        subscriptions = [subscribe(ids(1)[0]) for _ in range(20)]
        assert await next_updates(subscriptions) == ["idle"] * 20
        fake_service.requests.clear()
        await sleep_intervals(3)

    run(scenario)
    assert 1 <= len(fake_service.requests) <= 5


def test_each_subscription_is_polled_at_its_own_interval(fake_service: FakeService) -> None:
    fast, slow = ids(2)
    fake_service.states = {fast: "idle", slow: "idle"}

    async def scenario() -> None:
        subscriptions = [subscribe(fast, 0.1), subscribe(slow, 1.0)]
        await next_updates(subscriptions)
        fake_service.requests.clear()
        await asyncio.sleep(2.0)

    run(scenario)
    requests = Counter(fake_service.paths)
    assert 10 <= requests[f"/appointment/{fast}.json"] <= 21
    assert 1 <= requests[f"/appointment/{slow}.json"] <= 3


def test_requests_never_overlap(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(30), "idle")
    fake_service.delays = {LIST_PATH: 0.3, **{f"/appointment/{id}.json": 0.05 for id in ids(30)}}

    async def scenario() -> None:
        subscriptions = [subscribe(id, 0.05) for id in ids(30)]
        await next_updates(subscriptions)
        await asyncio.sleep(1.0)
        for subscription in subscriptions[:15]:
            subscription.unsubscribe()
        await asyncio.sleep(0.5)
        [subscribe(id, 0.05) for id in ids(15)]
        await asyncio.sleep(0.5)

    run(scenario)
    assert fake_service.concurrent_max == 1


def test_unchanged_list_is_not_transferred_again(fake_service: FakeService) -> None:
    count = 50
    fake_service.has_etags = True
    fake_service.states = dict.fromkeys(ids(count), "idle")

    async def scenario() -> None:
        subscriptions = [subscribe(id) for id in ids(count)]
        await next_updates(subscriptions)
        fake_service.requests.clear()
        await sleep_intervals(3)
        assert {status for _, _, status in fake_service.requests} == {304}
        fake_service.states |= dict.fromkeys(ids(count), "started")
        assert await next_updates(subscriptions) == ["started"] * count

    run(scenario)


def test_new_subscription_receives_state_from_unchanged_list(fake_service: FakeService) -> None:
    fake_service.has_etags = True
    fake_service.states = dict.fromkeys(ids(60), "idle")

    async def scenario() -> None:
        await next_updates([subscribe(id) for id in ids(50)])
        assert await next_updates([subscribe(id) for id in ids(60)[45:]]) == ["idle"] * 15

    run(scenario)


def test_first_poll_is_delayed_by_random_jitter(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(1), "idle")

    async def first_delay() -> float:
        return subscribe(ids(1)[0], 100).seconds_to_next_poll

    delays = [run(first_delay) for _ in range(10)]
    assert all(49.9 <= delay <= 100 for delay in delays)
    assert max(delays) - min(delays) > 5


# Failures


@pytest.mark.parametrize(
    ("status", "error_class"), [(503, WebcamconsultServerError), (429, WebcamconsultRateLimitError)]
)
@pytest.mark.parametrize("count", [1, 50])
def test_consecutive_failures_increase_delay_between_polls(
    count: int, status: int, error_class: type[Exception], fake_service: FakeService
) -> None:
    fake_service.states = dict.fromkeys(ids(count), "idle")

    async def scenario() -> None:
        subscriptions = [subscribe(id, 0.1) for id in ids(count)]
        assert await next_updates(subscriptions) == ["idle"] * count
        fake_service.failures["*"] = (status, {})
        fake_service.requests.clear()
        assert type(await next_update(subscriptions[0])) is error_class
        await asyncio.sleep(1.5)
        fake_service.failures.clear()
        assert len(fake_service.requests) <= 5
        fake_service.states |= dict.fromkeys(ids(count), "finished")
        while (update := await next_update(subscriptions[0])) != "finished":
            assert type(update) is error_class

    run(scenario)
    failed = [started for started, _, returned in fake_service.requests if returned == status]
    gaps = [after - before for before, after in pairwise(failed)]
    assert len(gaps) >= 2
    assert gaps == sorted(gaps)
    assert gaps[0] >= 0.19


def test_no_request_is_sent_before_retry_after_has_passed(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(3), "idle")

    async def scenario() -> None:
        subscriptions = [subscribe(id, 0.1) for id in ids(3)]
        await next_updates(subscriptions)
        fake_service.failures["*"] = (429, {"Retry-After": "1"})
        await asyncio.wait(
            [asyncio.ensure_future(next_update(subscription)) for subscription in subscriptions],
            return_when="FIRST_COMPLETED",
        )
        fake_service.failures.clear()
        fake_service.requests.clear()
        notified = now()
        while not fake_service.requests:
            await asyncio.sleep(0.01)
        assert fake_service.requests[0][0] - notified > 0.8

    run(scenario)


@pytest.mark.parametrize("count", [3, 50])
def test_missing_appointment_is_reported_only_to_its_subscription(
    count: int, fake_service: FakeService
) -> None:
    fake_service.states = dict.fromkeys(ids(count), "idle")

    async def scenario() -> None:
        subscriptions = [subscribe(id) for id in ids(count)]
        await next_updates(subscriptions)
        del fake_service.states[ids(count)[1]]
        assert type(await next_update(subscriptions[1])) is WebcamconsultNotFoundError
        subscriptions[1].unsubscribe()
        fake_service.states |= dict.fromkeys(fake_service.states, "finished")
        others = [subscription for subscription in subscriptions if subscription is not subscriptions[1]]
        assert await next_updates(others) == ["finished"] * (count - 1)

    run(scenario)


def test_appointment_missing_from_list_is_polled_individually(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(50), "idle")
    fake_service.hidden = {ids(50)[7]}
    fake_service.delays = {f"/appointment/{id}.json": 0.03 for id in ids(50)}  # the list is cheaper

    async def scenario() -> None:
        subscriptions = [subscribe(id) for id in ids(50)]
        assert await next_updates(subscriptions) == ["idle"] * 50
        fake_service.requests.clear()
        await sleep_intervals(5)
        # In each interval, one list request and one single request, and those in flight.
        assert len(fake_service.requests) <= 14
        fake_service.states[ids(50)[7]] = "finished"
        assert await next_update(subscriptions[7]) == "finished"

    run(scenario)


@pytest.mark.parametrize("count", [2, 50])
def test_token_rejected_twice_ends_every_wait(count: int, fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(count), "idle")

    async def scenario() -> None:
        subscriptions = [subscribe(id) for id in ids(count)]
        await next_updates(subscriptions)
        fake_service.token = "another"
        fake_service.requests.clear()
        errors = await asyncio.gather(*map(final_error, subscriptions))
        assert {type(error) for error in errors} == {WebcamconsultAuthenticationError}
        # The appointment that failed and another one may be requested at the same time.
        assert 2 <= len(fake_service.requests) <= 3

    run(scenario)


@pytest.mark.parametrize("count", [2, 50])
def test_token_replaced_in_connection_is_used_before_a_wait_ends(
    count: int, fake_service: FakeService, connect: Connect
) -> None:
    fake_service.states = dict.fromkeys(ids(count), "idle")

    async def scenario() -> None:
        subscriptions = [subscribe(id) for id in ids(count)]
        await next_updates(subscriptions)
        fake_service.token = "another"
        connect(fake_service.url, "another")
        await sleep_intervals(6)
        fake_service.states |= dict.fromkeys(ids(count), "finished")
        for subscription in subscriptions:
            while (update := await next_update(subscription)) != "finished":
                assert isinstance(update, WebcamconsultAuthenticationError)

    run(scenario)
    assert [status for _, _, status in fake_service.requests].count(401) == 1


def test_failing_list_is_avoided_when_single_requests_succeed(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(20), "idle")
    fake_service.failures[LIST_PATH] = (503, {})

    async def scenario() -> None:
        subscriptions = [subscribe(id, 0.1) for id in ids(20)]
        for subscription in subscriptions:
            while isinstance(update := await next_update(subscription), WebcamconsultError):
                pass
            assert update == "idle"
        await asyncio.sleep(1.0)

    run(scenario)
    assert Counter(fake_service.paths)[LIST_PATH] == policy.LIST_FAILURES_MAX


@pytest.mark.parametrize("status", [403, 404])
def test_rejected_list_request_is_not_reported(status: int, fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(20), "idle")
    fake_service.failures[LIST_PATH] = (status, {})

    async def scenario() -> None:
        subscriptions = [subscribe(id) for id in ids(20)]
        assert await next_updates(subscriptions) == ["idle"] * 20
        await sleep_intervals(3)

    run(scenario)
    assert Counter(fake_service.paths)[LIST_PATH] == 1


def test_failing_appointment_does_not_delay_others(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(4), "idle")
    fake_service.failures[f"/appointment/{ids(4)[0]}.json"] = (500, {})

    async def scenario() -> None:
        broken, *subscriptions = [subscribe(id, 0.1) for id in ids(4)]
        assert type(await next_update(broken)) is WebcamconsultServerError
        assert await next_updates(subscriptions) == ["idle"] * 3
        for state in ("started", "finished"):
            await asyncio.sleep(0.5)
            changed = now()
            fake_service.states |= dict.fromkeys(ids(4), state)
            assert await next_updates(subscriptions) == [state] * 3
            assert now() - changed < 2

    run(scenario)


@pytest.mark.parametrize("count", [2, 50])
def test_record_without_state_is_reported_only_to_its_subscription(
    count: int, fake_service: FakeService
) -> None:
    fake_service.states = {**dict.fromkeys(ids(count), "idle"), ids(count)[0]: None}

    async def scenario() -> None:
        broken, *subscriptions = [subscribe(id) for id in ids(count)]
        assert await next_updates(subscriptions) == ["idle"] * (count - 1)
        assert type(await next_update(broken)) is WebcamconsultResponseError

    run(scenario)


def test_connection_that_cannot_be_read_for_a_while_ends_no_wait(
    fake_service: FakeService, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_service.states = dict.fromkeys(ids(3), "idle")
    monkeypatch.delenv(f"AIRFLOW_CONN_{CONN_ID.upper()}")

    async def scenario() -> None:
        subscriptions = [subscribe(id) for id in ids(3)]
        for error in await next_updates(subscriptions):
            assert isinstance(error, WebcamconsultError)
        connect(fake_service.url, TOKEN)
        for subscription in subscriptions:
            while (update := await next_update(subscription)) != "idle":
                assert isinstance(update, WebcamconsultError)

    run(scenario)


def test_connection_that_stays_unreadable_ends_every_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    use_virtual_clock(monkeypatch)
    monkeypatch.setattr(policy, "CONNECTION_GRACE_SECONDS", 1)
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)

    async def scenario() -> float:
        subscriptions = [subscribe(id, conn_id="nowhere") for id in ids(3)]
        began = now()
        await asyncio.gather(*map(final_error, subscriptions))
        return now() - began

    assert run(scenario) >= 1


def test_changed_connection_is_used(
    fake_service: FakeService, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "CONNECTION_SECONDS", 0.3)
    fake_service.states = dict.fromkeys(ids(1), "idle")

    async def scenario(other: FakeService) -> None:
        subscription = subscribe(ids(1)[0])
        await next_update(subscription)
        connect(other.url, TOKEN)
        assert await next_update(subscription) == "finished"

    with running(FakeService()) as other:
        other.states = dict.fromkeys(ids(1), "finished")
        run(lambda: scenario(other))


def test_last_known_connection_is_used_when_it_can_no_longer_be_read(
    fake_service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "CONNECTION_SECONDS", 0.1)
    fake_service.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> None:
        subscription = subscribe(ids(1)[0])
        await next_update(subscription)
        monkeypatch.delenv(f"AIRFLOW_CONN_{CONN_ID.upper()}")
        await sleep_intervals(3)
        fake_service.states = dict.fromkeys(ids(1), "finished")
        assert await next_update(subscription) == "finished"

    run(scenario)


def test_secrets_backend_that_hangs_delays_no_poll_for_long(
    fake_service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "CONNECTION_SECONDS", 0.1)
    monkeypatch.setattr(service, "CONNECTION_READ_MAX_SECONDS", 0.2)
    fake_service.states = dict.fromkeys(ids(1), "idle")
    answers, calls = threading.Event(), []

    def hang(*arguments: Any) -> Any:
        calls.append(arguments)
        answers.wait(TIME_LIMIT)
        raise ConnectionError

    async def scenario() -> None:
        subscription = subscribe(ids(1)[0])
        await next_update(subscription)
        monkeypatch.setattr(WebcamconsultHook, "get_connection", hang)
        await sleep_intervals(5)
        fake_service.states = dict.fromkeys(ids(1), "finished")
        assert await next_update(subscription) == "finished"
        answers.set()

    run(scenario)
    assert len(calls) == 1


@pytest.mark.parametrize("count", [2, 50])
def test_defect_of_one_subscription_ends_no_other_wait(
    count: int, fake_service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    fake_service.states = dict.fromkeys(ids(count), "idle")

    def broken(appointment: Any) -> str:
        raise ZeroDivisionError("Jansen")

    async def scenario() -> None:
        one = Poller.of_connection(CONN_ID).subscribe(
            [ids(count)[0]], broken, fields=["state"], interval_after=lambda polls, value: INTERVAL
        )
        others = [subscribe(id) for id in ids(count)[1:]]
        assert await next_updates(others) == ["idle"] * (count - 1)
        assert str(await next_update(one)) == "The poll failed unexpectedly (ZeroDivisionError). Try again."

    run(scenario)
    assert "Jansen" not in caplog.text


# Life cycle


def test_poller_stops_with_its_last_subscription(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(2), "idle")

    async def scenario() -> None:
        subscriptions = [subscribe(id) for id in ids(2)]
        await next_updates(subscriptions)
        tasks = subscriptions[0]._poller._tasks
        subscriptions[0].unsubscribe()
        await sleep_intervals(1)
        assert not any(task.done() for task in tasks)
        subscriptions[1].unsubscribe()
        await asyncio.wait(tasks, timeout=INTERVAL)
        assert all(task.cancelled() for task in tasks)
        while poll_threads():  # the request in flight
            await asyncio.sleep(0.01)
        fake_service.requests.clear()
        await sleep_intervals(3)

    run(scenario)
    assert fake_service.requests == []


def test_poller_can_be_stopped_at_any_moment(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> None:
        for attempt in range(100):
            subscription = subscribe(ids(1)[0], 0.001)
            await asyncio.sleep(attempt % 20 / 1000)
            subscription.unsubscribe()
            await asyncio.wait(subscription._poller._tasks, timeout=5)
            assert all(task.cancelled() for task in subscription._poller._tasks)

    run(scenario)


def test_unsubscribe_is_idempotent(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> None:
        one, other = subscribe(ids(1)[0]), subscribe(ids(1)[0])
        one.unsubscribe()
        one.unsubscribe()
        assert await next_update(other) == "idle"

    run(scenario)


def test_subscription_made_while_the_last_one_ends_is_polled(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(2), "idle")
    fake_service.delays[f"/appointment/{ids(2)[0]}.json"] = 0.5

    async def scenario() -> None:
        first = subscribe(ids(2)[0], 0.01)
        await asyncio.sleep(0.2)
        first.unsubscribe()  # while its request is in flight
        assert await next_update(subscribe(ids(2)[1])) == "idle"

    run(scenario)


def test_poller_does_not_log_to_a_task(fake_service: FakeService) -> None:
    task_of_log = contextvars.ContextVar("task_of_log", default="none")
    tasks = set()

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tasks.add(task_of_log.get())

    fake_service.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> None:
        task_of_log.set("task of the first subscription")
        subscription = subscribe(ids(1)[0])
        await next_update(subscription)
        subscription.unsubscribe()

    recorder = Recorder()
    poller.logger.addHandler(recorder)
    old_level = poller.logger.level
    poller.logger.setLevel(logging.DEBUG)
    try:
        run(scenario)
    finally:
        poller.logger.removeHandler(recorder)
        poller.logger.setLevel(old_level)
    assert tasks == {"none"}


def test_each_event_loop_has_its_own_poller(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> Any:
        subscription = subscribe(ids(1)[0])
        assert await next_update(subscription) == "idle"
        return subscription._poller

    assert run(scenario) is not run(scenario)


def test_hanging_poll_is_abandoned(fake_service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "SINGLE_POLL_MAX_SECONDS", 0.3)
    fake_service.states = dict.fromkeys(ids(1), "idle")
    path = f"/appointment/{ids(1)[0]}.json"
    fake_service.delays[path] = 3

    async def scenario() -> None:
        subscription = subscribe(ids(1)[0])
        assert "0.3 s" in str(await next_update(subscription))
        fake_service.delays.clear()
        assert await next_update(subscription) == "idle"

    run(scenario)


def test_hanging_poll_does_not_delay_the_exit_of_the_process(fake_service: FakeService) -> None:
    fake_service.delays[f"/appointment/{ids(1)[0]}.json"] = 300
    script = f"""
import asyncio
from airflow_provider_webcamconsult.api.states import state_of
from airflow_provider_webcamconsult.polling.poller import Poller

def interval_after(polls, value):
    return 0.01

async def main():
    poller = Poller.of_connection("{CONN_ID}")
    poller.subscribe(["{ids(1)[0]}"], state_of, fields=["state"], interval_after=interval_after)
    await asyncio.sleep(1)

asyncio.run(main())
print("done", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with process:
        output, _ = process.communicate(timeout=60)
    assert output.endswith("done\n")
    assert process.returncode == 0


# The list of all appointments


def test_subscriber_of_the_list_is_told_of_each_change(fake_service: FakeService) -> None:
    fake_service.states = dict.fromkeys(ids(2), "idle")
    fake_service.has_etags = True

    async def scenario() -> None:
        everything = Poller.of_connection(CONN_ID).subscribe(
            [LIST],
            lambda appointments: {id: each["state"] for id, each in appointments.items()},
            fields=["state"],
            interval_after=lambda polls, value: INTERVAL,
        )
        one = subscribe(ids(2)[0])
        assert await next_update(everything) == dict.fromkeys(ids(2), "idle")
        assert await next_update(one) == "idle"
        fake_service.states[ids(3)[2]] = "idle"
        assert await next_update(everything) == dict.fromkeys(ids(3), "idle")
        fake_service.states[ids(2)[0]] = "finished"
        assert await next_update(one) == "finished"

    run(scenario)
