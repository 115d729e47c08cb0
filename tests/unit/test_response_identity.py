"""A response belongs to its request: one record that was asked for by id has that id."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.exceptions import WebcamconsultError, WebcamconsultResponseError
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor
from airflow_provider_webcamconsult.triggers.appointments import WebcamconsultAppointmentStateTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Log, Serve, Step

ID = "1234567890abcdef12345678"
OTHER_IDS = ["abcdef123456789012345678", ID.upper(), ID[:-1], ID + "0"]

CALLS: dict[str, Callable[[WebcamconsultHook], Any]] = {
    "get": lambda hook: hook.appointments.get(ID),
    "update": lambda hook: hook.appointments.update(ID, {"duration": 30}),
}


def answer(record_id: Any, key: str = "id", **attributes: Any) -> Step:
    return {"body": {"appointment": {key: record_id, "state": "idle", "duration": 30, **attributes}}}


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("key", ["id", "_id"])
@pytest.mark.parametrize("other_id", OTHER_IDS)
def test_another_record_is_an_error(
    call: str, key: str, other_id: str, connect: Connect, serve: Serve
) -> None:
    server = serve(answer(other_id, key))
    with pytest.raises(WebcamconsultResponseError) as error:
        CALLS[call](connect(server.url, retries=2))
    assert "returned 200 with another appointment than the requested one." in str(error.value)
    assert other_id not in str(error.value).replace(ID, "")
    assert len(server.requests) == 3


@pytest.mark.parametrize("call", CALLS)
def test_the_record_itself_is_returned_after_a_retry(call: str, connect: Connect, serve: Serve) -> None:
    record = CALLS[call](connect(serve(answer(OTHER_IDS[0]), answer(ID, "_id")).url))
    assert record["id"] == ID


def test_sensor_ignores_the_state_of_another_appointment(connect: Connect, serve: Serve, log: Log) -> None:
    connect(
        serve(
            answer(OTHER_IDS[0], state="finished"), answer(ID, state="idle"), answer(ID, state="finished")
        ).url
    )
    sensor = WebcamconsultAppointmentStateSensor(
        task_id="wait", appointment_id=ID, target_states=["finished"], poke_interval=0.05, timeout=60
    )
    assert [bool(sensor.poke({})) for _ in range(3)] == [False, False, True]
    assert "another appointment than the requested one" in log.text


def test_trigger_ignores_the_state_of_another_appointment(connect: Connect, serve: Serve) -> None:
    server = serve(
        answer(OTHER_IDS[0], state="cancelled"),
        answer(ID.upper(), state="finished"),
        answer(ID, state="done"),
    )
    connect(server.url)
    trigger = WebcamconsultAppointmentStateTrigger(
        appointment_id=ID,
        target_states=["finished", "done"],
        failed_states=["cancelled"],
        webcamconsult_conn_id="webcamconsult_default",
        poke_interval=0.05,
        deadline=time.time() + 60,
    )

    async def payloads() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    (payload,) = asyncio.run(payloads())
    assert payload["values"] == {ID: "done"}
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "record_id",
    ["", "Jan Alders", f"{ID}\n", "\x1b[31mred", "a" * 65, "../users", 12, None, ["a"], {"a": 1}],
    ids=repr,
)
@pytest.mark.parametrize("call", [*CALLS, "create"])
def test_what_cannot_be_an_id_is_no_record(record_id: Any, call: str, connect: Connect, serve: Serve) -> None:
    # It would end up in logs, and could not be requested.
    hook = connect(serve(answer(record_id)).url, retries=0)
    with pytest.raises(WebcamconsultError, match="not the documented JSON") as error:
        CALLS[call](hook) if call in CALLS else hook.appointments.create({"duration": 30})
    assert not isinstance(record_id, str) or not record_id or record_id not in str(error.value)


def test_what_cannot_be_an_id_is_no_record_of_a_list(connect: Connect, serve: Serve) -> None:
    with pytest.raises(WebcamconsultResponseError, match="not the documented JSON"):
        connect(serve({"body": [{"id": "Jan Alders"}]}).url, retries=0).appointments.list()
