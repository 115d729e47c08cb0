"""The shared poll: what it asks the service, and what it tells the waits."""

from __future__ import annotations

import asyncio
import contextvars
import http.server
import json
import logging
import threading
import time
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultConfigurationError,
    WebcamconsultError,
    WebcamconsultNotFoundError,
    WebcamconsultRateLimitError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
)
from airflow_provider_webcamconsult.polling import policy, poller
from airflow_provider_webcamconsult.polling.policy import next_delay_seconds
from airflow_provider_webcamconsult.polling.poller import Poller, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from tests.unit.conftest import Connect

CONN_ID = "webcamconsult_default"
TOKEN = "token-of-the-world"
LIST = "/appointments.json"
# Seconds: an interval that some requests fit into on a busy machine, and the limit of any wait here.
INTERVAL = 0.2
LIMIT = 20


class World(http.server.ThreadingHTTPServer):
    """A service whose every answer a test can change."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.states: dict[str, Any] = {}
        self.hidden: set[str] = set()
        """Ids that the list does not show."""
        self.failures: dict[str, tuple[int, dict[str, str]]] = {}
        """Status and headers for a path, or for all paths: ``*``."""
        self.delays: dict[str, float] = {}
        self.has_etags = False
        self.token = TOKEN
        self.requests: list[tuple[float, str, int]] = []
        self.connections = 0
        self.at_once = 0
        self.at_once_max = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def answer(self, path: str, headers: Any) -> tuple[int, dict[str, str], Any]:
        if headers["Authorization"] != f"Token token={self.token}":
            return 401, {}, None
        for key in (path, "*"):
            if key in self.failures:
                return *self.failures[key], None
        if path == LIST:
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
    server: World
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        world, began = self.server, time.monotonic()
        world.at_once += 1
        world.at_once_max = max(world.at_once_max, world.at_once)
        time.sleep(world.delays.get(self.path, 0))
        status, headers, body = world.answer(self.path, self.headers)
        if status == 404:
            body = {"status": 404, "error": "Not Found"}
        content = b"" if status == 304 or body is None else json.dumps(body).encode()
        world.requests.append((began, self.path, status))
        world.at_once -= 1
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running(world: World) -> Iterator[World]:
    thread = threading.Thread(target=world.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield world
    finally:
        world.shutdown()
        world.server_close()


@pytest.fixture
def world(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)
    with running(World()) as world:
        connect(world.url, TOKEN)
        yield world


def ids(count: int) -> list[str]:
    return [f"{number:024x}" for number in range(1, count + 1)]


def subscribe(appointment_id: str, interval: float = INTERVAL) -> Subscription:
    return Poller.subscribe(CONN_ID, appointment_id, interval)


def run(scenario: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(scenario(), LIMIT)

    return asyncio.run(limited())


async def news(wait: Subscription) -> Any:
    return await wait.next_update(time.time() + LIMIT)


async def settle(intervals: float) -> None:
    await asyncio.sleep(intervals * INTERVAL)


async def states(waits: list[Subscription]) -> list[Any]:
    return await asyncio.gather(*map(news, waits))


# What is asked


def test_a_few_waits_are_polled_one_by_one_over_one_connection(world: World) -> None:
    world.states = dict.fromkeys(ids(3), "idle")

    async def scenario() -> None:
        waits = [subscribe(id) for id in ids(3)]
        assert await states(waits) == ["idle"] * 3
        await settle(3)
        for wait in waits:
            wait.unsubscribe()

    run(scenario)
    assert set(world.paths) == {f"/appointment/{id}.json" for id in ids(3)}
    assert world.connections == 1


def test_many_waits_are_polled_in_one_list(world: World) -> None:
    world.states = dict.fromkeys(ids(200), "idle")

    async def scenario() -> None:
        waits = [subscribe(id) for id in ids(200)]
        assert await states(waits) == ["idle"] * 200
        world.requests.clear()
        await settle(5)
        world.states |= dict.fromkeys(ids(200), "finished")
        assert await states(waits) == ["finished"] * 200

    run(scenario)
    assert set(world.paths) == {LIST}
    assert len(world.paths) <= 7
    assert world.connections == 1


def test_a_list_is_never_fetched_for_one_wait_alone(world: World) -> None:
    world.states = dict.fromkeys(ids(1), "idle")
    world.delays[f"/appointment/{ids(1)[0]}.json"] = INTERVAL  # a list would be cheaper

    async def scenario() -> None:
        (wait,) = [subscribe(id) for id in ids(1)]
        await news(wait)
        await settle(5)

    run(scenario)
    assert LIST not in world.paths


def test_a_list_that_costs_more_than_it_saves_is_fetched_once(world: World) -> None:
    world.states = dict.fromkeys(ids(30), "idle")
    world.delays[LIST] = 2.0

    async def scenario() -> None:
        waits = [subscribe(id) for id in ids(30)]
        await states(waits)
        await asyncio.sleep(2.5)

    run(scenario)
    assert Counter(world.paths)[LIST] == 1
    assert len(world.paths) > 30


def test_a_list_is_taken_again_where_it_costs_less_than_single_looks(world: World) -> None:
    world.states = dict.fromkeys(ids(40), "idle")
    for id in ids(40):
        world.delays[f"/appointment/{id}.json"] = 0.1

    async def scenario() -> None:
        await states([subscribe(id) for id in ids(40)])
        world.requests.clear()
        await settle(5)

    run(scenario)
    assert set(world.paths) == {LIST}


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 11, 30])
def test_there_are_never_more_requests_than_waits(count: int, world: World) -> None:
    world.states = dict.fromkeys(ids(count), "idle")
    world.hidden = set(ids(count)[::2])

    async def scenario() -> float:
        waits = [subscribe(id) for id in ids(count)]
        await states(waits)
        world.requests.clear()
        began = time.monotonic()
        await settle(5)
        return (time.monotonic() - began) / INTERVAL

    intervals = run(scenario)
    assert len(world.requests) <= count * (intervals + 1)


def test_waits_for_the_same_appointment_share_its_look(world: World) -> None:
    world.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> None:
        waits = [subscribe(ids(1)[0]) for _ in range(20)]
        assert await states(waits) == ["idle"] * 20
        world.requests.clear()
        await settle(3)

    run(scenario)
    assert 1 <= len(world.requests) <= 5


def test_each_wait_is_polled_in_its_own_interval(world: World) -> None:
    fast, slow = ids(2)
    world.states = {fast: "idle", slow: "idle"}

    async def scenario() -> None:
        waits = [subscribe(fast, 0.1), subscribe(slow, 1.0)]
        await states(waits)
        world.requests.clear()
        await asyncio.sleep(2.0)

    run(scenario)
    looks = Counter(world.paths)
    assert 10 <= looks[f"/appointment/{fast}.json"] <= 21
    assert 1 <= looks[f"/appointment/{slow}.json"] <= 3


def test_looks_never_overlap(world: World) -> None:
    world.states = dict.fromkeys(ids(30), "idle")
    world.delays = {LIST: 0.3, **{f"/appointment/{id}.json": 0.05 for id in ids(30)}}

    async def scenario() -> None:
        waits = [subscribe(id, 0.05) for id in ids(30)]
        await asyncio.sleep(1.0)
        for wait in waits[:15]:
            wait.unsubscribe()
        await asyncio.sleep(0.5)
        [subscribe(id, 0.05) for id in ids(15)]
        await asyncio.sleep(0.5)

    run(scenario)
    assert world.at_once_max == 1


@pytest.mark.parametrize("count", [1, 50])
def test_what_has_not_changed_is_not_sent_again(count: int, world: World) -> None:
    world.has_etags = True
    world.states = dict.fromkeys(ids(count), "idle")

    async def scenario() -> None:
        waits = [subscribe(id) for id in ids(count)]
        await states(waits)
        world.requests.clear()
        await settle(3)
        assert {status for _, _, status in world.requests} == {304}
        world.states |= dict.fromkeys(ids(count), "started")
        assert await states(waits) == ["started"] * count

    run(scenario)


def test_who_joins_is_told_the_state_though_the_list_has_not_changed(world: World) -> None:
    world.has_etags = True
    world.states = dict.fromkeys(ids(60), "idle")

    async def scenario() -> None:
        await states([subscribe(id) for id in ids(50)])
        assert await states([subscribe(id) for id in ids(60)[45:]]) == ["idle"] * 15

    run(scenario)


def test_the_first_looks_of_two_triggerers_are_apart(world: World) -> None:
    world.states = dict.fromkeys(ids(1), "idle")

    async def first_due() -> float:
        return subscribe(ids(1)[0], 100).seconds_to_next_poll

    dues = [run(first_due) for _ in range(10)]
    assert all(49.9 <= due <= 100 for due in dues)
    assert max(dues) - min(dues) > 5


# What goes wrong


@pytest.mark.parametrize(
    ("status", "error_class"), [(503, WebcamconsultServerError), (429, WebcamconsultRateLimitError)]
)
@pytest.mark.parametrize("count", [1, 50])
def test_failures_in_a_row_come_at_growing_distances(
    count: int, status: int, error_class: type[Exception], world: World
) -> None:
    world.states = dict.fromkeys(ids(count), "idle")

    async def scenario() -> None:
        waits = [subscribe(id, 0.1) for id in ids(count)]
        assert await states(waits) == ["idle"] * count
        world.failures["*"] = (status, {})
        world.requests.clear()
        assert type(await news(waits[0])) is error_class
        await asyncio.sleep(1.5)
        world.failures.clear()
        assert len(world.requests) <= 5
        world.states |= dict.fromkeys(ids(count), "finished")
        while (seen := await news(waits[0])) != "finished":
            assert type(seen) is error_class

    run(scenario)
    failed = [began for began, _, answered in world.requests if answered == status]
    gaps = [after - before for before, after in pairwise(failed)]
    assert len(gaps) >= 2
    assert gaps == sorted(gaps)
    assert gaps[0] >= 0.19


def test_nobody_is_asked_before_retry_after_is_over(world: World) -> None:
    world.states = dict.fromkeys(ids(3), "idle")

    async def scenario() -> None:
        waits = [subscribe(id, 0.1) for id in ids(3)]
        await states(waits)
        world.failures["*"] = (429, {"Retry-After": "1"})
        await asyncio.wait(
            [asyncio.ensure_future(news(wait)) for wait in waits], return_when="FIRST_COMPLETED"
        )
        world.failures.clear()
        world.requests.clear()
        told = time.monotonic()
        while not world.requests:
            await asyncio.sleep(0.01)
        assert world.requests[0][0] - told > 0.8

    run(scenario)


@pytest.mark.parametrize("count", [3, 50])
def test_an_appointment_that_is_gone_ends_its_own_wait_alone(count: int, world: World) -> None:
    world.states = dict.fromkeys(ids(count), "idle")

    async def scenario() -> None:
        waits = [subscribe(id) for id in ids(count)]
        await states(waits)
        del world.states[ids(count)[1]]
        assert type(await news(waits[1])) is WebcamconsultNotFoundError
        waits[1].unsubscribe()
        world.states |= dict.fromkeys(world.states, "finished")
        others = [wait for wait in waits if wait is not waits[1]]
        assert await states(others) == ["finished"] * (count - 1)

    run(scenario)


def test_an_appointment_that_the_list_does_not_show_is_polled_alone(world: World) -> None:
    world.states = dict.fromkeys(ids(50), "idle")
    world.hidden = {ids(50)[7]}

    async def scenario() -> None:
        waits = [subscribe(id) for id in ids(50)]
        assert await states(waits) == ["idle"] * 50
        world.requests.clear()
        await settle(5)
        assert len(world.requests) <= 14  # of each kind one in an interval, and what was under way
        world.states[ids(50)[7]] = "finished"
        assert await news(waits[7]) == "finished"

    run(scenario)


@pytest.mark.parametrize("count", [2, 50])
def test_a_refused_token_is_told_to_every_wait_at_once(count: int, world: World) -> None:
    world.states = dict.fromkeys(ids(count), "idle")

    async def scenario() -> None:
        waits = [subscribe(id) for id in ids(count)]
        await states(waits)
        world.token = "another"
        world.requests.clear()
        assert {type(error) for error in await states(waits)} == {WebcamconsultAuthenticationError}
        assert len(world.requests) == 1

    run(scenario)


@pytest.mark.parametrize("count", [2, 50])
def test_a_token_that_was_replaced_in_the_connection_is_used_and_nobody_told(
    count: int, world: World, connect: Connect
) -> None:
    world.states = dict.fromkeys(ids(count), "idle")

    async def scenario() -> None:
        waits = [subscribe(id) for id in ids(count)]
        await states(waits)
        world.token = "another"
        connect(world.url, "another")
        await settle(3)
        world.states |= dict.fromkeys(ids(count), "finished")
        assert await states(waits) == ["finished"] * count

    run(scenario)


def test_a_list_that_fails_where_single_looks_succeed_is_left_alone(world: World) -> None:
    world.states = dict.fromkeys(ids(20), "idle")
    world.failures[LIST] = (503, {})

    async def scenario() -> None:
        waits = [subscribe(id, 0.1) for id in ids(20)]
        for wait in waits:
            while isinstance(seen := await news(wait), WebcamconsultError):
                pass
            assert seen == "idle"
        await asyncio.sleep(1.0)

    run(scenario)
    assert Counter(world.paths)[LIST] == 2


@pytest.mark.parametrize("status", [403, 404])
def test_a_list_that_is_refused_is_told_to_nobody(status: int, world: World) -> None:
    world.states = dict.fromkeys(ids(20), "idle")
    world.failures[LIST] = (status, {})

    async def scenario() -> None:
        waits = [subscribe(id) for id in ids(20)]
        assert await states(waits) == ["idle"] * 20
        await settle(3)

    run(scenario)
    assert Counter(world.paths)[LIST] == 1


def test_an_appointment_that_always_fails_does_not_hold_up_the_others(world: World) -> None:
    world.states = dict.fromkeys(ids(4), "idle")
    world.failures[f"/appointment/{ids(4)[0]}.json"] = (500, {})

    async def scenario() -> None:
        broken, *waits = [subscribe(id, 0.1) for id in ids(4)]
        assert type(await news(broken)) is WebcamconsultServerError
        assert await states(waits) == ["idle"] * 3
        for state in ("started", "finished"):
            await asyncio.sleep(0.5)
            changed = time.monotonic()
            world.states |= dict.fromkeys(ids(4), state)
            assert await states(waits) == [state] * 3
            assert time.monotonic() - changed < 2

    run(scenario)


@pytest.mark.parametrize("count", [2, 50])
def test_a_record_without_a_state_is_an_error_of_its_own_wait(count: int, world: World) -> None:
    world.states = {**dict.fromkeys(ids(count), "idle"), ids(count)[0]: None}

    async def scenario() -> None:
        broken, *waits = [subscribe(id) for id in ids(count)]
        assert await states(waits) == ["idle"] * (count - 1)
        assert type(await news(broken)) is WebcamconsultResponseError

    run(scenario)


def test_a_connection_that_is_not_there_is_told_to_every_wait(world: World) -> None:
    async def scenario() -> None:
        waits = [Poller.subscribe("nowhere", id, INTERVAL) for id in ids(3)]
        assert {type(error) for error in await states(waits)} == {WebcamconsultConfigurationError}

    run(scenario)


def test_a_connection_that_changes_is_picked_up(
    world: World, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "CONNECTION_SECONDS", 0.3)
    world.states = dict.fromkeys(ids(1), "idle")

    async def scenario(other: World) -> None:
        wait = subscribe(ids(1)[0])
        await news(wait)
        connect(other.url, TOKEN)
        assert await news(wait) == "finished"

    with running(World()) as other:
        other.states = dict.fromkeys(ids(1), "finished")
        run(lambda: scenario(other))


def test_a_connection_that_cannot_be_read_any_more_stays_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "CONNECTION_SECONDS", 0.1)
    world.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> None:
        wait = subscribe(ids(1)[0])
        await news(wait)
        monkeypatch.delenv(f"AIRFLOW_CONN_{CONN_ID.upper()}")
        await settle(3)
        world.states = dict.fromkeys(ids(1), "finished")
        assert await news(wait) == "finished"

    run(scenario)


def test_a_failure_of_the_poll_itself_reaches_every_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.states = dict.fromkeys(ids(50), "idle")

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(poller, "_states", broken)

    async def scenario() -> None:
        waits = [subscribe(id) for id in ids(50)]
        results = await asyncio.gather(*map(news, waits), return_exceptions=True)
        assert {type(result) for result in results} == {RuntimeError}
        assert {type(result.__cause__) for result in results} == {ZeroDivisionError}
        # Who comes later begins anew.
        monkeypatch.undo()

    run(scenario)


# How it lives and ends


def test_the_poll_ends_with_its_last_wait(world: World) -> None:
    world.states = dict.fromkeys(ids(2), "idle")

    async def scenario() -> None:
        waits = [subscribe(id) for id in ids(2)]
        await states(waits)
        poll = waits[0]._poller
        waits[0].unsubscribe()
        await settle(1)
        assert not poll._task.done()
        waits[1].unsubscribe()
        await asyncio.wait_for(poll._task, INTERVAL)
        world.requests.clear()
        await settle(3)

    run(scenario)
    assert world.requests == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("webcamconsult-poller")]


def test_a_cancellation_ends_the_poll_whatever_it_is_at(world: World) -> None:
    world.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> None:
        for moment in range(200):
            wait = subscribe(ids(1)[0], 0.001)
            await asyncio.sleep(moment % 20 / 1000)
            task = wait._poller._task
            task.cancel()
            await asyncio.wait([task], timeout=5)
            assert task.cancelled()

    run(scenario)


def test_to_leave_twice_is_to_leave(world: World) -> None:
    world.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> None:
        one, other = subscribe(ids(1)[0]), subscribe(ids(1)[0])
        one.unsubscribe()
        one.unsubscribe()
        assert await news(other) == "idle"

    run(scenario)


def test_who_joins_while_the_last_one_leaves_is_polled(world: World) -> None:
    world.states = dict.fromkeys(ids(2), "idle")
    world.delays[f"/appointment/{ids(2)[0]}.json"] = 0.5

    async def scenario() -> None:
        first = subscribe(ids(2)[0], 0.01)
        await asyncio.sleep(0.2)
        first.unsubscribe()  # its look is under way
        assert await news(subscribe(ids(2)[1])) == "idle"

    run(scenario)
    assert world.at_once_max == 1


def test_the_poll_logs_into_nobodys_task(world: World) -> None:
    task_of_log = contextvars.ContextVar("task_of_log", default="none")
    seen = set()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.add(task_of_log.get())

    world.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> None:
        task_of_log.set("of the first wait")
        wait = subscribe(ids(1)[0])
        await news(wait)
        poll = wait._poller
        wait.unsubscribe()
        await poll._task

    listener = Listener()
    poller.logger.addHandler(listener)
    old_level = poller.logger.level
    poller.logger.setLevel(logging.DEBUG)
    try:
        run(scenario)
    finally:
        poller.logger.removeHandler(listener)
        poller.logger.setLevel(old_level)
    assert seen == {"none"}


def test_another_event_loop_has_a_poll_of_its_own(world: World) -> None:
    world.states = dict.fromkeys(ids(1), "idle")

    async def scenario() -> Any:
        wait = subscribe(ids(1)[0])
        assert await news(wait) == "idle"
        return wait._poller

    assert run(scenario) is not run(scenario)


def test_a_look_that_never_ends_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "POLL_MAX_SECONDS", 0.3)
    world.states = dict.fromkeys(ids(1), "idle")
    path = f"/appointment/{ids(1)[0]}.json"
    world.delays[path] = 3

    async def scenario() -> None:
        wait = subscribe(ids(1)[0])
        assert "did not finish within 0.3 s" in str(await news(wait))
        world.delays.clear()
        assert await news(wait) == "idle"

    run(scenario)


# How long it waits


@pytest.mark.parametrize(
    ("interval", "failures", "shortest", "longest"),
    [(5, 0, 5, 5), (5, 1, 10, 11), (5, 2, 20, 22), (5, 9, 60, 66), (300, 9, 300, 330), (0, 0, 1, 1)],
)
def test_the_pause_grows_with_the_failures_up_to_a_limit(
    interval: float, failures: int, shortest: float, longest: float
) -> None:
    assert shortest <= next_delay_seconds(interval, failures, None) <= longest


@pytest.mark.parametrize(("retry_after", "pause"), [(45, 45), (3, 11), (3600, 120)])
def test_the_pause_is_as_long_as_the_service_asks_up_to_a_limit(retry_after: float, pause: float) -> None:
    error = WebcamconsultRateLimitError("Sentence.", retry_after=retry_after)
    assert next_delay_seconds(5, 1, error) <= pause
    assert next_delay_seconds(5, 1, error) >= min(pause, 10)
