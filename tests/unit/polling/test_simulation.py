"""
The poller in virtual time, for hours, against services that fail at random.

The poller, its policy and its subscriptions are the real ones. Only the service is simulated: it answers
with the responses and errors of the real transport, after a random delay.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.api.response import Response
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultNotFoundError,
    WebcamconsultRateLimitError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
)
from airflow_provider_webcamconsult.polling.policy import (
    FAILURE_DELAY_MAX_SECONDS,
    LIST_FAILURES_MAX,
    SINGLE_POLL_MAX_SECONDS,
    SLOW_POLL_MAX_SECONDS,
)
from airflow_provider_webcamconsult.polling.poller import Poller
from airflow_provider_webcamconsult.polling.service import Service
from tests.unit.polling.virtual_time import add, next_update, run, use_virtual_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

HOURS = 2
SIMULATIONS = 12
SECONDS = HOURS * 3600
#: A wait that never times out within a simulation.
NO_DEADLINE = 1e12

UNREACHABLE, RATE_LIMIT, UNAVAILABLE = "unreachable", "rate limit", "unavailable"
LIST_FAILS, LIST_UNREADABLE, REJECTS_ONCE = "list fails", "list unreadable", "rejects once"
OUTAGES = (UNREACHABLE, RATE_LIMIT, UNAVAILABLE, LIST_FAILS, LIST_UNREADABLE, REJECTS_ONCE)


@dataclass
class Outage:
    """A time in which the service fails."""

    kind: str
    start: float
    end: float


@dataclass
class RandomService(Service):
    """A service with random outages, delays and appointments."""

    chance: random.Random
    webcamconsult_conn_id: str = "simulated"
    resource = APPOINTMENT
    states: dict[str, Any] = field(default_factory=dict)
    always_failing: dict[str, Callable[[], WebcamconsultError]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    outages: list[Outage] = field(default_factory=list)
    requests: list[tuple[float, str | None]] = field(default_factory=list)
    is_connection_readable: Callable[[float], bool] = lambda now: True
    has_been_read = False
    single_seconds = 0.05
    list_seconds = 0.1

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def outage(self, now: float) -> str | None:
        return next((each.kind for each in self.outages if each.start <= now < each.end), None)

    async def read_connection(self) -> bool:
        await asyncio.sleep(0.01)
        if not self.is_connection_readable(self.now):
            if self.has_been_read:
                return False
            raise WebcamconsultConnectionError("No connection.")
        is_first, self.has_been_read = not self.has_been_read, True
        return is_first

    async def get(self, appointment_id: str, timeout: float) -> Any:
        await self._answer(appointment_id, self.single_seconds)
        if self.outage(self.now) == REJECTS_ONCE and self.chance.random() < 0.5:
            for each in self.outages:
                each.end = min(each.end, self.now) if each.start <= self.now else each.end
            status, error_class = self.chance.choice(
                [
                    (401, WebcamconsultAuthenticationError),
                    (403, WebcamconsultAuthenticationError),
                    (404, WebcamconsultNotFoundError),
                ]
            )
            raise error_class("Once.", status_code=status)
        if make_error := self.always_failing.get(appointment_id):
            error = make_error()
            if isinstance(error, WebcamconsultConnectionError):
                await asyncio.sleep(timeout)
            raise error
        return {"id": appointment_id, "state": self.states[appointment_id]}

    async def list(
        self, only: Collection[str] | None, fields: Collection[str], etag: str | None, positions: Any
    ) -> Response:
        await self._answer(None, self.list_seconds)
        if self.outage(self.now) == LIST_FAILS:
            raise WebcamconsultServerError("Failed.", status_code=500)
        if self.outage(self.now) == LIST_UNREADABLE:
            raise WebcamconsultResponseError("Unreadable.", status_code=200)
        listed = self.states.keys() - self.hidden
        ids = [id for id in listed if only is None or id in only]
        return Response([{"id": id, "state": self.states[id]} for id in ids], None, 100 * len(listed))

    async def _answer(self, appointment_id: str | None, seconds: float) -> None:
        self.requests.append((self.now, appointment_id))
        await asyncio.sleep(seconds * self.chance.uniform(0.5, 2))
        outage = self.outage(self.now)
        if outage == UNREACHABLE:
            await asyncio.sleep(self.chance.choice([0, 45]))
            raise WebcamconsultConnectionError("Unreachable.")
        if outage == RATE_LIMIT:
            raise WebcamconsultRateLimitError(
                "Too many.", status_code=429, retry_after=self.chance.uniform(1, 30)
            )
        if outage == UNAVAILABLE:
            raise WebcamconsultServerError("Down.", status_code=self.chance.choice([502, 503, 504]))


FAILING_FOR_EVER: list[Callable[[], WebcamconsultError]] = [
    lambda: WebcamconsultServerError("Broken.", status_code=500),
    lambda: WebcamconsultResponseError("Malformed.", status_code=200),
    lambda: WebcamconsultConnectionError("Timed out."),
]


@dataclass
class Simulation:
    """One random run: its waits, its service, and when each wait ended with which value."""

    seed: int
    ended: dict[str, tuple[float, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chance = self.chance = random.Random(self.seed)  # noqa: S311
        self.interval = chance.choice([5.0, 30.0, 120.0])
        ids = [f"{number:024x}" for number in range(chance.choice([1, 3, 12, 40]))]
        self.joins = {id: chance.uniform(0, SECONDS / 4) for id in ids}
        self.changes = {id: chance.uniform(SECONDS / 4, SECONDS / 2) for id in ids}
        service = self.service = RandomService(chance)
        service.single_seconds = chance.choice([0.002, 0.05])
        service.list_seconds = chance.choice([0.005, 0.5, 20.0])
        service.states = dict.fromkeys(ids, "idle")
        broken = chance.sample(ids, min(len(ids) // 2, chance.choice([0, 1, 5])))
        service.always_failing = {id: chance.choice(FAILING_FOR_EVER) for id in broken}
        for id in broken:
            service.states[id] = None
        self.healthy = [id for id in ids if id not in broken]
        service.hidden = set(chance.sample(ids, chance.randrange(min(len(ids), 5))))
        start = 0.0
        while (start := start + chance.uniform(60, SECONDS / 4)) < SECONDS * 0.6:
            end = start + chance.choice([self.interval / 2, 10, 300, 1800])
            service.outages.append(Outage(chance.choice(OUTAGES), start, end))
            start = end

    async def run(self) -> None:
        shared = Poller(self.service)
        loop = asyncio.get_running_loop()

        async def wait(appointment_id: str) -> None:
            await asyncio.sleep(self.joins[appointment_id])
            subscription = add(shared, appointment_id, self.interval)
            try:
                while True:
                    update = await next_update(subscription, NO_DEADLINE)
                    assert update is not None
                    if update.is_final or update.value == "finished":
                        self.ended[appointment_id] = (loop.time(), update.error or update.value)
                        return
            finally:
                subscription.unsubscribe()

        async def change(appointment_id: str) -> None:
            await asyncio.sleep(self.changes[appointment_id])
            self.service.states[appointment_id] = "finished"

        # One wait stays to the end, so that the poller does too.
        self.joins["last"], self.service.states["last"] = 0.0, "idle"
        last = asyncio.create_task(wait("last"))
        waits = [asyncio.create_task(wait(id)) for id in (*self.healthy, *self.service.always_failing)]
        changes = [asyncio.create_task(change(id)) for id in self.healthy]
        await asyncio.sleep(SECONDS)
        for task in (last, *waits, *changes):
            task.cancel()
        await asyncio.gather(last, *waits, return_exceptions=True)
        await asyncio.sleep(0)
        self.tasks_left = [task for task in shared._tasks if not task.done()]
        self.polled_left = {**shared._targets}

    def latest_end(self, appointment_id: str) -> float:
        """Return when a healthy wait must have ended: an interval after the change, or after an outage."""
        change = self.changes[appointment_id]
        requests = self.service.list_seconds * 4 + len(self.joins) * self.service.single_seconds * 2
        hanging = SINGLE_POLL_MAX_SECONDS if self.service.always_failing else 0.0
        latest = change + self.interval + requests + hanging + 3
        recovery = (
            LIST_FAILURES_MAX * 1.1 * max(self.interval, FAILURE_DELAY_MAX_SECONDS) + 50 + self.interval
        )
        for outage in sorted(self.service.outages, key=lambda each: each.start):
            end = outage.end
            if outage.kind in (LIST_FAILS, LIST_UNREADABLE):
                # Single requests replace a list that keeps failing.
                end = min(end, max(outage.start, change) + recovery)
            if outage.start - self.interval <= latest and end + recovery >= change:
                latest = max(latest, end + recovery + requests + hanging)
        return latest


@pytest.fixture(scope="module", params=range(SIMULATIONS))
def simulation(request: pytest.FixtureRequest) -> Simulation:
    with pytest.MonkeyPatch.context() as patch:
        use_virtual_clock(patch)
        random.seed(request.param)
        simulation = Simulation(request.param)
        run(simulation.run())
        return simulation


def test_no_healthy_wait_ends_late_or_wrongly(simulation: Simulation) -> None:
    for appointment_id in simulation.healthy:
        ended, outcome = simulation.ended[appointment_id]
        assert outcome == "finished"
        assert simulation.changes[appointment_id] <= ended <= simulation.latest_end(appointment_id)


def test_no_wait_for_a_broken_appointment_ends(simulation: Simulation) -> None:
    assert simulation.ended.keys() == {*simulation.healthy}


def test_no_interval_has_more_requests_than_waits_and_one(simulation: Simulation) -> None:
    times = [time for time, _ in simulation.service.requests]
    first = 0
    for last, time in enumerate(times):
        while times[first] <= time - simulation.interval + 1e-6:  # to the rounding of floats
            first += 1
        joined = sum(
            joined <= time and simulation.ended.get(id, (SECONDS,))[0] >= times[first]
            for id, joined in simulation.joins.items()
        )
        assert last - first + 1 <= joined + 1


def test_everything_that_joined_leaves(simulation: Simulation) -> None:
    assert simulation.polled_left == {}
    assert simulation.tasks_left == []


# Single scenarios

IDS = [f"{number:024x}" for number in range(300)]


async def end_times(
    service: RandomService,
    ids: list[str],
    interval: float,
    seconds: float,
    *,
    joins: dict[str, float] | None = None,
) -> dict[str, float]:
    """Wait for "finished" for some time, from the start or later, and return when each wait ended."""
    shared, ended = Poller(service), {}

    async def wait(appointment_id: str) -> None:
        await asyncio.sleep((joins or {}).get(appointment_id, 0.0))
        subscription = add(shared, appointment_id, interval)
        while (update := await next_update(subscription, NO_DEADLINE)) and update.value != "finished":
            assert not update.is_final
        ended[appointment_id] = service.now
        subscription.unsubscribe()

    waits = [asyncio.create_task(wait(id)) for id in ids]
    await asyncio.sleep(seconds)
    for each in waits:
        each.cancel()
    return ended


@pytest.fixture
def _virtual_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    use_virtual_clock(monkeypatch)


@pytest.mark.usefixtures("_virtual_clock")
class TestScenario:
    def test_appointments_that_always_fail_hold_up_no_other_after_an_outage(self) -> None:
        broken, healthy = IDS[:5], IDS[5:7]
        service = RandomService(random.Random(1))  # noqa: S311
        service.states = {**dict.fromkeys(broken, None), **dict.fromkeys(healthy, "finished")}
        service.always_failing = dict.fromkeys(broken, FAILING_FOR_EVER[0])
        service.outages = [Outage(UNAVAILABLE, 0, 10)]
        ended = run(end_times(service, broken + healthy, 1.0, 120))
        assert ended.keys() == {*healthy}
        assert max(ended.values()) < 40

    def test_appointments_that_time_out_hold_up_no_other(self) -> None:
        hanging, healthy = IDS[:5], IDS[5:9]
        service = RandomService(random.Random(1))  # noqa: S311
        service.states = dict.fromkeys(hanging + healthy, "idle")
        service.always_failing = dict.fromkeys(hanging, FAILING_FOR_EVER[2])

        async def scenario() -> dict[str, float]:
            asyncio.get_running_loop().call_later(
                1000, service.states.update, dict.fromkeys(healthy, "finished")
            )
            return await end_times(service, hanging + healthy, 5.0, 1200)

        ended = run(scenario())
        assert ended.keys() == {*healthy}
        assert max(ended.values()) < 1000 + 5 + 1

    @pytest.mark.parametrize(
        ("kind", "hang"),
        [
            (UNAVAILABLE, SINGLE_POLL_MAX_SECONDS),
            (RATE_LIMIT, SINGLE_POLL_MAX_SECONDS),
            # Those that failed during such an outage have taken long, too.
            (UNREACHABLE, SLOW_POLL_MAX_SECONDS),
        ],
    )
    def test_newcomers_that_time_out_hold_up_none_that_failed_during_a_long_outage(
        self, kind: str, hang: float
    ) -> None:
        hanging, healthy = IDS[:4], IDS[4:6]
        service = RandomService(random.Random(1))  # noqa: S311
        service.states = {**dict.fromkeys(hanging, None), **dict.fromkeys(healthy, "finished")}
        service.always_failing = dict.fromkeys(hanging, FAILING_FOR_EVER[2])
        service.outages = [Outage(kind, 0, 7200)]
        joins = dict.fromkeys(hanging, 7100.0)
        ended = run(end_times(service, hanging + healthy, 5.0, 9000, joins=joins))
        assert ended.keys() == {*healthy}
        delay, in_progress = 1.1 * FAILURE_DELAY_MAX_SECONDS, SLOW_POLL_MAX_SECONDS
        assert max(ended.values()) < 7200 + delay + in_progress + len(hanging) * hang

    def test_list_that_hangs_holds_up_no_wait_for_long(self) -> None:
        service = RandomService(random.Random(1), states=dict.fromkeys(IDS[:20], "idle"))  # noqa: S311
        service.outages = [Outage(LIST_FAILS, 0, 3600)]
        service.list_seconds = 30.0
        run(end_times(service, IDS[:20], 10.0, 3600))
        polls = [time for time, id in service.requests if id == IDS[0]]
        gaps = [after - before for before, after in itertools.pairwise(polls)]
        assert polls[0] < 150
        assert len(polls) > 250
        assert sum(gap > 15 for gap in gaps) < 12

    def test_hiccup_of_the_list_bars_it_only_for_moments(self) -> None:
        service = RandomService(random.Random(1), states=dict.fromkeys(IDS, "idle"))  # noqa: S311
        service.outages = [Outage(UNAVAILABLE, 0, 10)]
        run(end_times(service, IDS, 5.0, 130))
        assert len(service.requests) <= 130 / 5 + 1

    def test_malformed_record_costs_itself_alone(self) -> None:
        service = RandomService(random.Random(1), states=dict.fromkeys(IDS, "idle"))  # noqa: S311
        service.states[IDS[0]] = None
        service.always_failing = {IDS[0]: FAILING_FOR_EVER[1]}
        run(end_times(service, IDS, 5.0, 80))
        # A list in each interval, and few attempts at the malformed record.
        assert len(service.requests) <= 80 / 5 + 1 + 5
