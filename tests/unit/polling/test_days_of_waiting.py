"""Days of waiting for the time of appointments, in virtual time: the real trigger and the real poller."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.api.response import Response
from airflow_provider_webcamconsult.exceptions import WebcamconsultServerError
from airflow_provider_webcamconsult.polling import poller
from airflow_provider_webcamconsult.polling.service import Service
from airflow_provider_webcamconsult.triggers.appointments import WebcamconsultAppointmentTimeTrigger
from tests.unit.polling.virtual_time import run, use_clock, use_virtual_clock

if TYPE_CHECKING:
    from collections.abc import Collection

ID = "1234567890abcdef12345678"
#: Clocks go forward on 31 March 2030.
START = datetime.fromisoformat("2030-03-28T12:00:00+01:00")
OFFSET = timedelta(minutes=-15)
DAY = 86400.0
HOUR = 3600.0


@dataclass
class Calendar(Service):
    """A service with appointments, and times in seconds from the start at which it does not answer."""

    webcamconsult_conn_id: str = "simulated"
    resource = APPOINTMENT
    appointments: dict[str, dict[str, Any]] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)

    async def read_connection(self) -> bool:
        return False

    async def get(self, appointment_id: str, timeout: float) -> Any:
        await self._answer(0.05)
        return {**self.appointments[appointment_id]}

    async def list(
        self, only: Collection[str] | None, fields: Collection[str], etag: str | None, positions: Any
    ) -> Response:
        await self._answer(0.2)
        return Response([{**each} for each in self.appointments.values()], None, 100)

    async def _answer(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        self.requests.append(now)
        await asyncio.sleep(seconds)
        if any(start <= now < end for start, end in self.outages):
            raise WebcamconsultServerError("Down.", status_code=503)

    def book(self, appointment_id: str, date: datetime) -> None:
        self.appointments[appointment_id] = {"id": appointment_id, "date": date.isoformat(), "state": "idle"}


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    use_virtual_clock(monkeypatch, START.timestamp())
    random.seed(1)
    calendar = Calendar()
    monkeypatch.setattr(poller, "Service", lambda conn_id, resource: calendar)
    return calendar


def make_trigger(calendar: Calendar, appointment_id: str = ID, **arguments: Any) -> Any:
    return WebcamconsultAppointmentTimeTrigger(
        **{
            "appointment_id": appointment_id,
            "offset": OFFSET.total_seconds(),
            "cancelled_states": ["cancelled"],
            "max_lateness": 900.0,
            "webcamconsult_conn_id": "simulated",
            "poke_interval": 60.0,
            "deadline": START.timestamp() + 366 * DAY,
            "last_date": calendar.appointments[appointment_id]["date"],
            **arguments,
        }
    )


async def fire(trigger: Any) -> tuple[datetime, Any]:
    """Run a trigger, and return when it fired its event, and the event."""
    event = await anext(event.payload async for event in trigger.run())
    now = START + timedelta(seconds=asyncio.get_running_loop().time())
    return now, event


def later(seconds: float, function: Any, *arguments: Any) -> None:
    asyncio.get_running_loop().call_later(seconds, function, *arguments)


def assert_on_time(fired: datetime, date: datetime) -> None:
    assert timedelta() <= fired - (date + OFFSET) < timedelta(seconds=2)


@pytest.mark.parametrize(
    "moves",
    [
        [],
        [(1 * DAY, "2030-04-03T09:00:00+02:00")],
        [(2 * DAY, "2030-03-31T10:00:00+02:00")],
        [(1 * DAY, "2030-04-03T09:00:00+02:00"), (3 * DAY, "2030-03-31T16:00:00+02:00")],
        [(3 * DAY, "2030-03-31T14:30:00+02:00")],
    ],
    ids=["not moved", "later", "earlier", "later and earlier", "to soon"],
)
def test_wait_of_days_ends_on_time_although_the_clocks_change(
    moves: list[tuple[float, str]], calendar: Calendar
) -> None:
    date = datetime.fromisoformat("2030-04-02T09:00:00+02:00")
    calendar.book(ID, date)

    async def scenario() -> tuple[datetime, Any]:
        for seconds, moved in moves:
            later(seconds, calendar.book, ID, datetime.fromisoformat(moved))
        return await fire(make_trigger(calendar))

    fired, event = run(scenario())
    last = datetime.fromisoformat(moves[-1][1]) if moves else date
    assert_on_time(fired, last)
    assert datetime.fromisoformat(event["values"][ID]["date"]) == last
    # Once an hour, and more often in the last ten hours before each date.
    hours = (fired - START) / timedelta(hours=1)
    assert len(calendar.requests) <= hours / 0.9 + 45 * (1 + len(moves))


def test_last_hours_have_ever_shorter_intervals(calendar: Calendar) -> None:
    calendar.book(ID, START + timedelta(days=2))
    fired, _ = run(fire(make_trigger(calendar)))
    end = (fired - START).total_seconds()
    for earlier, request in zip(calendar.requests[:-2], calendar.requests[1:-1], strict=True):
        left = end - earlier
        assert request - earlier == pytest.approx(min(max(left / 10, 60), HOUR), abs=2)


def test_cancelled_appointment_ends_the_wait_within_an_hour(calendar: Calendar) -> None:
    calendar.book(ID, START + timedelta(days=5))

    async def scenario() -> tuple[datetime, Any]:
        later(2 * DAY, calendar.appointments[ID].update, {"state": "cancelled"})
        return await fire(make_trigger(calendar))

    fired, event = run(scenario())
    assert timedelta(days=2) <= fired - START <= timedelta(days=2, hours=1, seconds=2)
    assert event["values"][ID]["state"] == "cancelled"


def test_outage_at_the_end_delays_the_event_until_the_service_answers(calendar: Calendar) -> None:
    calendar.book(ID, START + timedelta(days=1) - OFFSET)
    calendar.outages = [(DAY - 300, DAY + 600)]
    fired, event = run(fire(make_trigger(calendar)))
    assert timedelta(seconds=600) <= fired - START - timedelta(days=1) <= timedelta(seconds=670)
    assert event.keys() == {"values", "at"}


def test_restarted_trigger_notices_what_it_has_missed(calendar: Calendar) -> None:
    calendar.book(ID, START + timedelta(days=2))
    trigger = make_trigger(calendar)
    moved = START + timedelta(days=2, hours=5)

    async def scenario() -> tuple[datetime, Any]:
        await asyncio.sleep(DAY * 2 + 60)  # the date that is stored has passed
        calendar.book(ID, moved)
        return await fire(trigger)

    fired, event = run(scenario())
    assert_on_time(fired, moved)
    assert datetime.fromisoformat(event["values"][ID]["date"]) == moved


def test_wait_does_not_end_early_although_the_clock_was_set_back(
    calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    calendar.book(ID, START + timedelta(hours=1))

    def now() -> float:
        seconds = asyncio.get_running_loop().time()
        return START.timestamp() + seconds - (5 if seconds > 600 else 0)

    use_clock(monkeypatch, now)
    fired, _ = run(fire(make_trigger(calendar)))
    assert_on_time(fired - timedelta(seconds=5), START + timedelta(hours=1))


def test_error_that_arrives_as_the_time_comes_delays_the_event_by_one_poll(calendar: Calendar) -> None:
    calendar.book(ID, START + timedelta(hours=1))
    trigger = make_trigger(calendar, deadline=START.timestamp() + DAY)

    async def scenario() -> tuple[datetime, Any]:
        loop: Any = asyncio.get_running_loop()

        def fail() -> None:
            error = WebcamconsultServerError("Down.", status_code=503)
            trigger._wait._by_id[ID].report_error(error, is_final=False)
            loop._clock.now += 0.6  # another trigger blocks the loop meanwhile

        later((timedelta(hours=1) + OFFSET).total_seconds() - 0.3, fail)
        return await fire(trigger)

    fired, _ = run(scenario())
    assert timedelta() <= fired - START - timedelta(hours=1) - OFFSET < timedelta(seconds=62)


def test_clock_that_is_set_back_during_the_last_poll_delays_the_event_by_one_poll(
    calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    calendar.book(ID, START + timedelta(hours=1))
    due = (timedelta(hours=1) + OFFSET).total_seconds()

    def now() -> float:
        seconds = asyncio.get_running_loop().time()
        return START.timestamp() + seconds - (3 if seconds > due + 0.02 else 0)

    use_clock(monkeypatch, now)
    fired, _ = run(fire(make_trigger(calendar, deadline=START.timestamp() + DAY)))
    assert timedelta() <= fired - START - timedelta(seconds=due + 3) < timedelta(seconds=62)


def test_many_reminders_share_few_requests(calendar: Calendar) -> None:
    # benchmarks/README.md has the figures of a thousand reminders.
    count = int(os.environ.get("REMINDERS", "20"))
    chance = random.Random(1)  # noqa: S311
    ids = [f"{number:024x}" for number in range(count)]
    last = 7 * DAY if count > 20 else 1.5 * DAY
    for id in ids:
        calendar.book(id, START + timedelta(seconds=round(chance.uniform(DAY, last))))

    async def scenario() -> list[tuple[datetime, Any]]:
        return await asyncio.gather(*(fire(make_trigger(calendar, id)) for id in ids))

    for id, (fired, _) in zip(ids, run(scenario()), strict=True):
        assert_on_time(fired, datetime.fromisoformat(calendar.appointments[id]["date"]))
    per_hour = Counter(int(each // HOUR) for each in calendar.requests)
    print({day: sum(per_hour[day * 24 + hour] for hour in range(24)) / 24 for day in range(8)})
    assert all(per_hour[hour] <= 2 for hour in range(12))
