"""One appointment whose JSON is nested too deeply does not end the other waits of its connection."""

from __future__ import annotations

import asyncio
import http.server
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.triggers.appointments import WebcamconsultAppointmentStateTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.conftest import Connect

DEEP_ID = "d" * 24
IDS = [f"{number:024x}" for number in range(1, 16)]


class DeepService(http.server.ThreadingHTTPServer):
    """A service whose first appointment is nested deeply, alone and in the list."""

    daemon_threads = True
    depth = 0
    state = "idle"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths: list[str] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: DeepService

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        deep = "[" * self.server.depth + "]" * self.server.depth
        records = {DEEP_ID: f'{{"id": "{DEEP_ID}", "state": {deep}}}'}
        records |= {id: f'{{"id": "{id}", "state": "{self.server.state}"}}' for id in IDS}
        if self.path == "/appointments.json":
            body = f"[{','.join(records.values())}]"
        else:
            body = f'{{"appointment": {records[self.path.split("/")[2].removesuffix(".json")]}}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def deep_service(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeepService]:
    monkeypatch.setattr(policy, "POKE_INTERVAL_MIN_SECONDS", 0)
    with DeepService() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        connect(f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


@pytest.mark.parametrize("depth", [101, 600, 100_000])
def test_the_other_waits_end_as_ever(depth: int, deep_service: DeepService) -> None:
    deep_service.depth = depth

    async def wait(appointment_id: str, seconds: float) -> Any:
        trigger = WebcamconsultAppointmentStateTrigger(
            appointment_id=appointment_id,
            target_states=["finished"],
            failed_states=[],
            webcamconsult_conn_id="webcamconsult_default",
            poke_interval=0.2,
            deadline=time.time() + seconds,
        )
        return [event.payload async for event in trigger.run()]

    async def scenario() -> list[Any]:
        waits = [asyncio.create_task(wait(id, 60)) for id in IDS]
        deep = asyncio.create_task(wait(DEEP_ID, 3))
        await asyncio.sleep(1)
        deep_service.state = "finished"
        values = [event["values"] for (event,) in await asyncio.gather(*waits)]
        assert values == [{id: "finished"} for id in IDS]
        return list(await deep)

    (event,) = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert (event["values"], event["timed_out"]) == ({}, "timeout")
