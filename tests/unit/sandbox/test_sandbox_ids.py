"""What the sandbox generates for a new record: an id as MongoDB's, and the times of an appointment."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_provider_webcamconsult.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.sandbox.conftest import Api


@pytest.mark.parametrize("kind", ["user", "client", "appointment"])
def test_an_id_has_the_time_of_its_creation_then_five_bytes_of_the_process_and_a_counter(
    api: Api, kind: str
) -> None:
    before = int(time.time())
    ids = [api.create(kind)["id"] for _ in range(3)]
    after = time.time()
    assert all(re.fullmatch("[0-9a-f]{24}", record_id) for record_id in ids)
    assert all(before <= int(record_id[:8], 16) <= after for record_id in ids)
    assert len({record_id[8:18] for record_id in ids}) == 1
    counters = [int(record_id[18:], 16) for record_id in ids]
    assert counters == [*range(counters[0], counters[0] + 3)]


def test_a_later_record_has_a_greater_id_whatever_its_kind(api: Api) -> None:
    ids = [api.create(kind)["id"] for _ in range(20) for kind in ("client", "appointment", "user")]
    assert ids == sorted({*ids})


def test_a_later_record_has_a_greater_id_after_a_restart(access: type[Api], tmp_path: Path) -> None:
    ids = []
    for pause in (1, 0):
        with Sandbox(data=tmp_path / "data.json") as sandbox:
            ids.append(access(sandbox).create("client")["id"])
        time.sleep(pause)
    assert ids == sorted(ids)


def test_two_sandboxes_give_no_id_twice(access: type[Api]) -> None:
    ids = []
    for _ in range(2):
        with Sandbox() as sandbox:
            ids.append(access(sandbox).create("client")["id"])
    assert ids[0][8:18] != ids[1][8:18]


def test_a_new_appointment_has_its_time_of_creation_and_its_first_date_in_records_alone(api: Api) -> None:
    before = datetime.now().astimezone()
    created = api.create("appointment", date="2030-03-01T09:30:00+01:00")
    after = datetime.now().astimezone()
    (record,) = api.sandbox.records("appointments", api.token)
    # The service's times have milliseconds.
    assert before - timedelta(milliseconds=1) <= datetime.fromisoformat(record["created_at"]) <= after
    assert record["orig_date"] == record["date"] == "2030-03-01T09:30:00.000+01:00"
    assert not {"created_at", "orig_date"} & created.keys()
    changed = api(
        "PUT",
        f"/appointment/{created['id']}.json",
        json={"appointment": {"date": None, "created_at": "2001-01-01", "orig_date": "2001-01-01"}},
    )
    assert changed.status_code == 200
    assert not {"created_at", "orig_date"} & changed.json()["appointment"].keys()
    (updated,) = api.sandbox.records("appointments", api.token)
    assert (updated["created_at"], updated["orig_date"]) == (record["created_at"], record["orig_date"])


def test_an_appointment_without_a_date_has_no_first_date(api: Api) -> None:
    api.create("appointment")
    (record,) = api.sandbox.records("appointments", api.token)
    assert record["orig_date"] is None
    assert record["created_at"]
