"""The poller in virtual time, when errors, responses and subscriptions meet at awkward moments."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.api.response import Response
from airflow_provider_webcamconsult.api.states import state_of
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultError,
    WebcamconsultNotFoundError,
    WebcamconsultRateLimitError,
    WebcamconsultRequestError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
)
from airflow_provider_webcamconsult.polling import policy, poller
from airflow_provider_webcamconsult.polling.poller import LIST, Poller, Subscription
from airflow_provider_webcamconsult.polling.service import Service, _in_daemon_thread
from airflow_provider_webcamconsult.polling.target import Update
from tests.unit.polling.virtual_time import add, next_update, run, use_virtual_clock

if TYPE_CHECKING:
    from collections.abc import Collection

IDS = [f"{number:024x}" for number in range(1, 31)]
ONE, OTHER = IDS[:2]
NO_DEADLINE = 1e12
REQUEST_SECONDS = 0.05


@dataclass
class ScriptedService(Service):
    """A service that answers each request with what a test sets."""

    webcamconsult_conn_id: str = "scripted"
    resource = APPOINTMENT
    records: dict[str, Any] = field(default_factory=lambda: {id: {"id": id, "state": "idle"} for id in IDS})
    errors: dict[str | None, WebcamconsultError] = field(default_factory=dict)
    """By id; None is the list."""
    seconds: dict[str | None, float] = field(default_factory=dict)
    requests: list[tuple[float, str | None]] = field(default_factory=list)
    reads: int = 0
    has_changed: bool = True

    def times(self, appointment_id: str | None) -> list[float]:
        return [time for time, id in self.requests if id == appointment_id]

    async def read_connection(self) -> bool:
        self.reads += 1
        has_changed, self.has_changed = self.has_changed, False
        return has_changed

    async def get(self, appointment_id: str, timeout: float) -> Any:
        record, error = self.records.get(appointment_id), self.errors.get(appointment_id)
        await self._answer(appointment_id)
        if error:
            raise error
        return record

    async def list(
        self, only: Collection[str] | None, fields: Collection[str], etag: str | None, positions: Any
    ) -> Response:
        records = [
            {name: value for name, value in each.items() if name in {"id", *fields}}
            for id, each in self.records.items()
            if only is None or id in only
        ]
        await self._answer(None)
        if error := self.errors.get(None):
            raise error
        return Response(records, None, 100)

    async def _answer(self, appointment_id: str | None) -> None:
        self.requests.append((asyncio.get_running_loop().time(), appointment_id))
        await asyncio.sleep(self.seconds.get(appointment_id, REQUEST_SECONDS))


@pytest.fixture(autouse=True)
def _virtual_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    use_virtual_clock(monkeypatch)
    random.seed(1)


async def updates_of(subscription: Subscription[Any], seconds: float) -> list[Update[Any]]:
    """Return the updates within some time."""
    updates: list[Update[Any]] = []

    async def follow() -> None:
        while update := await next_update(subscription, NO_DEADLINE):
            updates.append(update)

    task = asyncio.create_task(follow())
    await asyncio.sleep(seconds)
    task.cancel()
    return updates


def server_error(status: int = 500) -> WebcamconsultServerError:
    return WebcamconsultServerError("Failed.", status_code=status)


# Pauses


def test_list_subscriber_that_cannot_read_the_list_is_polled_with_pauses() -> None:
    service = ScriptedService()

    def broken(appointments: Any) -> Any:
        raise ZeroDivisionError

    async def scenario() -> list[Update[Any]]:
        return await updates_of(add(Poller(service), LIST, read=broken), 300)

    updates = run(scenario())
    assert updates
    assert len(service.requests) <= 300 / 5


@pytest.mark.parametrize("status", [403, 404])
def test_list_subscriber_is_told_of_a_rejected_list(status: int) -> None:
    service = ScriptedService()
    service.errors[None] = WebcamconsultRequestError("No list.", status_code=status)

    async def scenario() -> list[Update[Any]]:
        return await updates_of(add(Poller(service), LIST, read=len), 30)

    assert run(scenario())


def test_rate_limit_in_the_failing_lane_holds_for_every_request() -> None:
    service = ScriptedService()
    service.errors = dict.fromkeys(IDS[:5], server_error())

    async def scenario() -> None:
        shared = Poller(service)
        for id in IDS[:5]:
            add(shared, id)
        await asyncio.sleep(8)  # now all fail
        service.requests.clear()
        service.errors = dict.fromkeys(
            IDS[:5], WebcamconsultRateLimitError("Slow down.", status_code=429, retry_after=100.0)
        )
        await asyncio.sleep(90)

    run(scenario())
    assert len(service.requests) == 1


def test_failed_list_is_not_repeated_before_retry_after() -> None:
    service = ScriptedService()
    service.errors[None] = WebcamconsultServerError("Down.", status_code=503, retry_after=110.0)

    async def scenario() -> None:
        shared = Poller(service)
        for id in IDS[:20]:
            add(shared, id)
        await asyncio.sleep(3600)

    run(scenario())
    times = service.times(None)
    assert len(times) > policy.LIST_FAILURES_MAX + 2
    assert all(later - earlier > 110 for earlier, later in pairwise(times))


def test_appointment_that_failed_once_does_not_wait_for_all_that_hang() -> None:
    service = ScriptedService()
    service.errors = dict.fromkeys(IDS[1:21], server_error())
    service.errors[None] = WebcamconsultNotFoundError("No list.", status_code=404)
    service.seconds = dict.fromkeys(IDS[1:21], 60.0)

    async def scenario() -> float:
        shared = Poller(service)
        for id in IDS[1:21]:
            add(shared, id)
        await asyncio.sleep(3600)  # now all of these fail
        subscription = add(shared, ONE)
        service.errors[ONE] = server_error()
        await next_update(subscription, NO_DEADLINE)
        del service.errors[ONE]
        began = asyncio.get_running_loop().time()
        assert await next_update(subscription, NO_DEADLINE) == Update("idle")
        return asyncio.get_running_loop().time() - began

    assert run(scenario()) < 60 + 5 * 2 * 1.1 + 1


# Newcomers


@pytest.mark.parametrize(
    ("status", "newcomer"),
    [(503, OTHER), (500, ONE)],
    ids=["failure of the service", "failure of the appointment"],
)
def test_newcomer_does_not_wait_for_the_long_interval_of_others_after_a_failure(
    status: int, newcomer: str
) -> None:
    service = ScriptedService()
    service.errors[ONE] = server_error(status)

    async def scenario() -> list[Update[Any]]:
        shared = Poller(service)
        add(shared, ONE, 86400.0)
        await asyncio.sleep(86401)
        assert service.requests
        service.errors.clear()
        return await updates_of(add(shared, newcomer), 100)

    assert [update.value for update in run(scenario())] == ["idle"]


def test_those_who_join_during_a_list_are_polled_with_the_next_list() -> None:
    service = ScriptedService()
    service.seconds[None] = 2.0

    async def scenario() -> None:
        shared = Poller(service)
        for id in IDS[:15]:
            add(shared, id, 10.0)
        while not service.times(None):
            await asyncio.sleep(0.1)
        for id in IDS[15:]:
            add(shared, id, 2.0)
        await asyncio.sleep(4.5)

    service.seconds |= dict.fromkeys(IDS, 1.0)
    run(scenario())
    requested = [id for _, id in service.requests]
    assert requested[requested.index(None) :] == [None, None]


def test_list_subscriber_that_joins_during_a_list_of_few_gets_all() -> None:
    service = ScriptedService()
    service.seconds[None] = 2.0

    async def scenario() -> list[Update[Any]]:
        shared = Poller(service)
        for id in IDS[:15]:
            add(shared, id)
        while not service.times(None):
            await asyncio.sleep(0.1)
        return await updates_of(add(shared, LIST, read=len), 30)

    assert [update.value for update in run(scenario())] == [len(IDS)]


def test_attributes_that_a_list_did_not_request_are_no_failure() -> None:
    service = ScriptedService()
    service.seconds[None] = 2.0
    for each in service.records.values():
        each["begin"] = "09:00"

    async def scenario() -> list[Update[Any]]:
        shared = Poller(service)
        for id in IDS[:15]:
            add(shared, id)
        while not service.times(None):
            await asyncio.sleep(0.1)
        newcomer = add(shared, IDS[0], read=lambda record: record["begin"], fields=["begin"])
        return await updates_of(newcomer, 30)

    assert run(scenario()) == [Update("09:00")]


def date_of(record: Any) -> str:
    if record["date"] is None:
        raise WebcamconsultResponseError("No date.")
    return str(record["date"])


@pytest.mark.parametrize("others", [0, 15], ids=["single requests", "list"])
def test_attribute_that_a_subscription_cannot_read_costs_no_other_its_updates(others: int) -> None:
    service = ScriptedService()
    record = service.records[IDS[0]]
    record["date"] = None

    async def scenario() -> tuple[list[Update[Any]], ...]:
        shared = Poller(service)
        for id in IDS[1 : others + 1]:
            add(shared, id)
        state = add(shared, IDS[0])
        date = add(shared, IDS[0], interval=20.0, read=date_of, fields=["date"])
        asyncio.get_running_loop().call_later(50, record.update, {"state": "finished"})
        asyncio.get_running_loop().call_later(100, record.update, {"date": "2030-03-01"})
        return tuple(await asyncio.gather(updates_of(state, 150), updates_of(date, 150)))

    state, date = run(scenario())
    assert state == [Update("idle"), Update("finished")]
    *errors, last = date
    assert last == Update("2030-03-01")
    assert {(type(each.error), each.is_final) for each in errors} == {(WebcamconsultResponseError, False)}
    assert 3 <= len(errors) <= 6  # at its own interval


# Updates


def test_error_does_not_replace_a_value_that_was_not_received_yet() -> None:
    async def scenario() -> Update[Any] | None:
        subscription = add(Poller(ScriptedService()), ONE)
        subscription._interests[ONE].report("finished", 0.0)
        subscription._interests[ONE].report_error(server_error(), is_final=False)
        return await next_update(subscription, NO_DEADLINE)

    assert run(scenario()) == Update("finished")


def test_error_that_ends_the_wait_is_not_replaced_by_another() -> None:
    final = WebcamconsultNotFoundError("Gone.", status_code=404)

    async def scenario() -> Update[Any] | None:
        subscription = add(Poller(ScriptedService()), ONE)
        subscription._interests[ONE].report_error(server_error(), is_final=False)
        subscription._interests[ONE].report_error(final, is_final=True)
        subscription._interests[ONE].report_error(server_error(), is_final=False)
        return await next_update(subscription, NO_DEADLINE)

    assert run(scenario()) == Update(error=final, is_final=True)


def test_update_survives_a_cancelled_call() -> None:
    async def scenario() -> Update[Any] | None:
        subscription = add(Poller(ScriptedService()), ONE)
        call = asyncio.create_task(next_update(subscription, NO_DEADLINE))
        await asyncio.sleep(0)
        subscription._interests[ONE].report("finished", 0.0)
        call.cancel()
        await asyncio.wait([call])
        began = asyncio.get_running_loop().time()
        update = await next_update(subscription, NO_DEADLINE)
        assert asyncio.get_running_loop().time() - began < 1
        assert subscription._last_deadline is None
        return update

    assert run(scenario()) == Update("finished")


def test_update_that_was_there_before_the_call_brings_no_last_poll_forward() -> None:
    service = ScriptedService()

    async def scenario() -> None:
        subscription = add(Poller(service), ONE, 1000.0)
        subscription._interests[ONE].report("started", 0.0)
        await next_update(subscription, 2000.0)
        assert not await next_update(subscription, 100.0) or service.times(ONE)[0] >= 100

    run(scenario())


# The connection


def test_failing_wait_reads_the_connection_before_a_second_401_ends_it() -> None:
    service = ScriptedService()
    service.errors[ONE] = server_error()

    async def scenario() -> None:
        shared = Poller(service)
        subscription = add(shared, ONE)
        await next_update(subscription, NO_DEADLINE)
        service.errors[ONE] = WebcamconsultAuthenticationError("Old token.", status_code=401)
        await next_update(subscription, NO_DEADLINE)
        service.reads = 0
        await next_update(subscription, NO_DEADLINE)
        assert service.reads == 1

    run(scenario())


@pytest.mark.parametrize("has_list", [False, True])
def test_response_of_the_old_host_is_ignored(has_list: bool) -> None:
    service = ScriptedService()
    service.errors[OTHER] = server_error()
    ids = [ONE, *(IDS[2:14] if has_list else ())]

    async def scenario() -> list[Update[Any]]:
        shared = Poller(service)
        add(shared, OTHER)  # the failing lane reads the changed connection
        subscriptions = [add(shared, id, 40.0) for id in ids]
        await next_update(subscriptions[0], NO_DEADLINE)
        service.records[ONE] = {"id": ONE, "state": "state on the old host"}
        service.seconds = {None: 100.0, ONE: 100.0}
        service.requests.clear()
        while not service.times(None if has_list else ONE):
            await asyncio.sleep(1)
        service.records[ONE] = {"id": ONE, "state": "state on the new host"}
        service.has_changed = True
        service.seconds.clear()
        return await updates_of(subscriptions[0], 300)

    assert [update.value for update in run(scenario())] == ["state on the new host"]


def test_404s_of_two_hosts_do_not_end_a_wait() -> None:
    service = ScriptedService()
    service.errors[ONE] = WebcamconsultNotFoundError("Gone.", status_code=404)

    async def scenario() -> list[Update[Any]]:
        shared = Poller(service)
        subscription = add(shared, ONE, 70.0)
        await next_update(subscription, NO_DEADLINE)
        service.has_changed = True
        return await updates_of(subscription, 200)

    updates = run(scenario())
    assert [update.is_final for update in updates[:1]] == [False]


# Threads, and what is left behind


@pytest.mark.parametrize("raised", [StopIteration, SystemExit, asyncio.CancelledError, MemoryError])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_every_exception_in_a_thread_ends_the_poll_with_an_error(raised: type[BaseException]) -> None:
    def fail() -> None:
        raise raised

    async def scenario() -> None:
        poll = asyncio.create_task(_in_daemon_thread(fail))
        await asyncio.wait([poll], timeout=5)
        assert poll.done()
        assert isinstance(poll.exception(), Exception)

    asyncio.run(scenario())


def test_invalid_subscription_leaves_no_poller_behind() -> None:
    async def scenario() -> None:
        with pytest.raises(TypeError):
            Poller.of_connection("scripted").subscribe(
                [ONE],
                state_of,
                fields=["state"],
                interval_after=lambda polls, value: policy.next_interval_seconds(None),  # type: ignore[arg-type]
            )
        assert not poller._POLLERS.get(asyncio.get_running_loop())
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_subscription_to_nothing_starts_no_poll() -> None:
    async def scenario() -> None:
        Poller.of_connection("scripted").subscribe(
            [], state_of, fields=["state"], interval_after=lambda polls, value: 5.0
        )
        assert not poller._POLLERS.get(asyncio.get_running_loop())
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())
