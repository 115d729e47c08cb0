"""The trigger that starts DAGs when records change, in an event loop against a real server."""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import aclosing
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.api.baseline import DIGEST_KEY
from airflow_provider_webcamconsult.api.changes import Marker, list_digest
from airflow_provider_webcamconsult.api.resources import APPOINTMENT, CLIENT
from airflow_provider_webcamconsult.api.response import Response
from airflow_provider_webcamconsult.exceptions import WebcamconsultConfigurationError, WebcamconsultInputError
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.polling import policy, poller
from airflow_provider_webcamconsult.polling.poller import LIST, Poller
from airflow_provider_webcamconsult.triggers import changes
from airflow_provider_webcamconsult.triggers.changes import WebcamconsultChangesTrigger, webcamconsult_changes
from airflow_provider_webcamconsult.version_compat import AIRFLOW_VERSION
from tests.unit.polling import virtual_time
from tests.unit.polling.virtual_time import add

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.conftest import Connect, Log, Serve, Service

HAS_STATE = AIRFLOW_VERSION >= (3, 3)
LIMIT_SECONDS = 20


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)
    monkeypatch.setattr(policy, "FAILURE_DELAY_MAX_SECONDS", 0.01)
    monkeypatch.setattr(changes, "PAUSE_SECONDS", 0.01)


class State:
    """The state of the asset, as a task has stored it."""

    def __init__(self) -> None:
        self.digest: str | None = None
        self.error: Exception | None = None

    async def aget(self, key: str) -> str | None:
        assert key == DIGEST_KEY
        if self.error:
            error, self.error = self.error, None
            raise error
        return self.digest


def make_trigger(state: State | None, **arguments: Any) -> WebcamconsultChangesTrigger:
    trigger = WebcamconsultChangesTrigger(
        **{
            "resource": "appointments",
            "asset_name": "an-asset",
            "webcamconsult_conn_id": "webcamconsult_default",
            "poke_interval": 0.02,
            **arguments,
        }
    )
    trigger.asset_state_store = state  # type: ignore[assignment]
    return trigger


def follow(trigger: WebcamconsultChangesTrigger, *steps: Callable[[str], object]) -> list[Any]:
    """Run the trigger, take a step after each event with its digest, and return the payloads."""

    async def run() -> list[Any]:
        payloads = []
        async with aclosing(trigger.run()) as events:  # type: ignore[type-var]
            for step in steps:
                event = await asyncio.wait_for(anext(events), LIMIT_SECONDS)
                payloads.append(event.payload)
                step(event.payload["digest"])
        assert not poller._POLLERS.get(asyncio.get_running_loop())
        return payloads

    return asyncio.run(run())


def nothing(digest: str) -> None:
    """Take no step."""


@pytest.mark.parametrize(("kind", "resource"), [("appointments", APPOINTMENT), ("clients", CLIENT)])
def test_payload_is_the_resource_and_the_digest_that_the_task_stores(
    hook: WebcamconsultHook, service: Service, kind: str, resource: Any
) -> None:
    hook.appointments.create({"date": "2030-03-01T09:30", "inloop_json": {"complaint": "a"}})
    hook.clients.create({"last_name": "Ester", "email": "ester@example.com"})
    marker = Marker(resource, service.token)
    expected = list_digest(marker.marks(getattr(hook, kind).iterate()))
    (payload,) = follow(make_trigger(State(), resource=kind), nothing)
    assert json.loads(json.dumps(payload)) == {"resource": kind, "digest": expected}


def test_fires_until_the_list_is_taken_in_and_again_at_the_next_change(
    hook: WebcamconsultHook, service: Service
) -> None:
    record_id = hook.appointments.create({"date": "2030-03-01T09:30"})["id"]
    state = State()

    def take_in(digest: str) -> None:
        state.digest = digest
        service.set_state(record_id, "finished")

    digests = [event["digest"] for event in follow(make_trigger(state), nothing, nothing, take_in, nothing)]
    assert digests[0] == digests[1] == digests[2] != digests[3]


def test_pauses_begin_again_with_another_list(
    hook: WebcamconsultHook, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_id = hook.appointments.create({"date": "2030-03-01T09:30"})["id"]
    counts: list[int] = []

    def pause(events: int) -> float:
        counts.append(events)
        return 0.05

    monkeypatch.setattr(changes, "_pause_seconds", pause)

    def change(digest: str) -> None:
        service.set_state(record_id, "finished")

    digests = [
        event["digest"] for event in follow(make_trigger(State()), nothing, nothing, change, *[nothing] * 4)
    ]
    first_of_new = digests.index(digests[-1])
    assert counts[:3] == [0, 1, 2]
    assert counts[first_of_new] == 0


def test_fires_when_the_baseline_is_reset(hook: WebcamconsultHook, monkeypatch: pytest.MonkeyPatch) -> None:
    hook.appointments.create({"date": "2030-03-01T09:30"})
    monkeypatch.setattr(changes, "RECHECK_SECONDS", 0.01)
    state = State()

    def take_in_and_reset(digest: str) -> None:
        state.digest = digest
        asyncio.get_running_loop().call_later(0.1, setattr, state, "digest", None)

    assert len(follow(make_trigger(state), take_in_and_reset, nothing)) == 2


def test_pauses_grow_to_a_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pauses = [changes._pause_seconds(events) for events in (0, 1, 2, 10, 10_000)]
    assert pauses == [30, 60, 120, changes.PAUSE_MAX_SECONDS, changes.PAUSE_MAX_SECONDS]


def test_errors_are_logged_and_do_not_end_the_trigger(serve: Serve, connect: Connect, log: Log) -> None:
    failing: Any = [{"status": 401}, {"status": 401}, {"status": 500}, {"body": "<html>"}]
    server = serve(*failing, {"body": [{"id": "a1", "state": "idle", "inloop_json": "ZqComplaint"}]})
    connect(server.url)
    state = State()
    state.error = RuntimeError("ZqComplaint")
    (payload,) = follow(make_trigger(state), nothing)
    assert payload["resource"] == "appointments"
    assert "401" in log.text
    assert "RuntimeError" in log.text
    assert "ZqComplaint" not in log.text


def assert_goes_on_after(text: str, trigger: WebcamconsultChangesTrigger, log: Log) -> None:
    """Run a trigger until it has logged a text, and assert that it has not ended."""

    async def run() -> None:
        async with aclosing(trigger.run()) as events:  # type: ignore[type-var]
            waiting = asyncio.ensure_future(anext(events))
            while text not in log.text:
                await asyncio.sleep(0.01)
            assert not waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), LIMIT_SECONDS))


def test_stored_interval_that_is_none_is_logged_and_does_not_end_the_trigger(
    hook: WebcamconsultHook, log: Log
) -> None:
    assert_goes_on_after("poke_interval must be", make_trigger(State(), poke_interval=math.inf), log)


def test_malformed_record_leaves_the_digest_that_the_task_stores(serve: Serve, connect: Connect) -> None:
    readable = [{"id": "a1", "state": "idle"}, {"id": "a2", "state": "started"}]
    server = serve({"body": [{"id": "a0"}, *readable, {"id": "a3", "state": "Jan Jansen has phoned"}, 7]})
    connect(server.url)
    marker = Marker(APPOINTMENT, WebcamconsultHook().settings.token)
    (payload,) = follow(make_trigger(State()), nothing)
    assert payload["digest"] == list_digest(marker.marks(readable))


def test_missing_connection_does_not_end_the_trigger(log: Log) -> None:
    trigger = make_trigger(State(), webcamconsult_conn_id="missing")
    assert_goes_on_after("There is no connection 'missing'", trigger, log)


def test_trigger_that_a_release_has_stored_can_be_recreated() -> None:
    # The path and the arguments of the first release: later ones must still read them after an upgrade.
    path = "airflow_provider_webcamconsult.triggers.changes.WebcamconsultChangesTrigger"
    stored = {
        "resource": "appointments",
        "asset_name": "an-asset",
        "webcamconsult_conn_id": "webcamconsult_default",
        "poke_interval": 7.5,
    }
    module, _, name = path.rpartition(".")
    recreated = getattr(import_module(module), name)(**stored)
    assert vars(recreated).items() >= stored.items()
    assert json.loads(json.dumps(recreated.serialize())) == [path, stored]


@pytest.mark.skipif(HAS_STATE, reason="this Airflow keeps the state of assets")
def test_older_airflow_is_told_to_use_a_timer() -> None:
    with pytest.raises(WebcamconsultConfigurationError, match="Start the DAG by a timer"):
        webcamconsult_changes()


@pytest.mark.skipif(not HAS_STATE, reason="this Airflow keeps no state of assets")
def test_assets_with_different_names_have_different_triggers() -> None:
    def trigger_of(asset: Any) -> Any:
        return asset.watchers[0].trigger.serialize()

    assert trigger_of(webcamconsult_changes()) == trigger_of(webcamconsult_changes("appointments"))
    others = [
        webcamconsult_changes(),
        webcamconsult_changes("clients"),
        webcamconsult_changes(webcamconsult_conn_id="other"),
        webcamconsult_changes(name="other"),
    ]
    assert len({str(trigger_of(each)) for each in others}) == len({each.name for each in others}) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"resource": "invoices"},
        *({"poke_interval": each} for each in (0, timedelta(minutes=1), True, math.inf, math.nan)),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused_when_the_dag_is_parsed(arguments: dict[str, Any]) -> None:
    with pytest.raises(WebcamconsultInputError):
        webcamconsult_changes(**arguments)


class CountingService:
    """A service that counts requests, without a connection and a network."""

    webcamconsult_conn_id = "counting"
    resource = APPOINTMENT

    def __init__(self, number: int) -> None:
        self.records = [{"id": f"a{each}", "state": "idle"} for each in range(number)]
        self.requests: list[str] = []

    async def read_connection(self) -> bool:
        return False

    async def get(self, appointment_id: str, etag: str | None, timeout: float) -> Response:
        self.requests.append(appointment_id)
        return Response({"id": appointment_id, "state": "idle"}, None, 100)

    async def list(self, only: Any, fields: Any, etag: str | None, positions: Any) -> Response:
        self.requests.append("list")
        await asyncio.sleep(0.1)
        return Response([dict(each) for each in self.records], None, 100)


def test_a_thousand_waits_and_a_watched_list_make_one_request_per_interval() -> None:
    service: Any = CountingService(1000)

    async def scenario() -> None:
        shared = Poller(service)
        add(shared, LIST, read=len, fields=APPOINTMENT.known)
        for record in service.records:
            add(shared, record["id"])
        await asyncio.sleep(100 * 5)

    virtual_time.run(scenario())
    assert {*service.requests} == {"list"}
    assert len(service.requests) <= 100 + 2
