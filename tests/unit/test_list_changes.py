"""The operator that lists changes: its report, its baseline, and what it refuses."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_webcamconsult.api import baseline as baselines
from airflow_provider_webcamconsult.api.baseline import BASELINE_KEY, DIGEST_KEY
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultInputError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
)
from airflow_provider_webcamconsult.operators.changes import WebcamconsultListChangesOperator
from airflow_provider_webcamconsult.version_compat import AIRFLOW_VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Log, Serve, Service

DATE, LATER = "2030-03-01T09:30:00.000+01:00", "2030-03-01T10:00:00.000+01:00"


def context(run: str = "run", try_number: int = 1, **more: Any) -> Any:
    return {"ti": SimpleNamespace(run_id=run, map_index=-1, try_number=try_number), **more}


class Task:
    """A task that stores its baseline in a file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "baseline.json"

    def run(self, run: str = "run", try_number: int = 1, **arguments: Any) -> list[Any]:
        operator = WebcamconsultListChangesOperator(
            **{"task_id": "changes", "baseline_path": str(self.file), **arguments}
        )
        return list(operator.execute(context(run, try_number)))

    def skips(self, run: str = "run", **arguments: Any) -> bool:
        try:
            self.run(run, **arguments)
        except AirflowSkipException:
            return True
        return False


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(tmp_path)


def create(hook: WebcamconsultHook) -> str:
    return hook.appointments.create({"date": DATE, "inloop_json": {"complaint": "ZqComplaint"}})["id"]


def test_first_run_reports_nothing_and_later_ones_what_changed(
    hook: WebcamconsultHook, service: Service, task: Task
) -> None:
    state, moved, other, deleted, _ = (create(hook) for _ in range(5))
    assert task.skips("first")
    assert task.skips("second")
    service.set_state(state, "finished")
    hook.appointments.update(moved, {"date": LATER})
    hook.appointments.update(other, {"duration": 45})
    hook.appointments.delete(deleted)
    created = create(hook)
    report = {change["id"]: change for change in task.run("third")}
    assert {id: change["kinds"] for id, change in report.items()} == {
        state: ["state"],
        moved: ["moved"],
        other: ["attributes"],
        deleted: ["deleted"],
        created: ["created"],
    }
    assert (report[state]["old_state"], report[state]["new_state"]) == ("idle", "finished")
    assert (report[moved]["old_date"], report[moved]["new_date"]) == (DATE, LATER)
    assert task.skips("fourth")


def test_first_run_reports_everything_if_asked(hook: WebcamconsultHook, task: Task) -> None:
    created = create(hook)
    assert [(change["id"], change["kinds"]) for change in task.run(initial="all")] == [(created, ["created"])]


def test_changes_and_states_select_what_is_reported_once(
    hook: WebcamconsultHook, service: Service, task: Task
) -> None:
    first, second = create(hook), create(hook)
    chosen: Any = {"changes": ["state"], "states": ["finished"]}
    assert task.skips("1", **chosen)
    service.set_state(first, "finished")
    service.set_state(second, "started")
    assert [change["id"] for change in task.run("2", **chosen)] == [first]
    service.set_state(second, "finished")
    assert [change["id"] for change in task.run("3", **chosen)] == [second]
    booked_and_finished = create(hook)
    service.set_state(booked_and_finished, "finished")
    assert [change["id"] for change in task.run("4", **chosen)] == [booked_and_finished]


@pytest.mark.parametrize("resource", ["clients", "users"])
def test_clients_and_users(hook: WebcamconsultHook, task: Task, resource: str) -> None:
    records = getattr(hook, resource)
    record_id = records.create({"last_name": "Ester", "email": "zq@example.com"})["id"]
    assert task.skips("1", resource=resource)
    records.update(record_id, {"last_name": "Jansen"})
    (change,) = task.run("2", resource=resource)
    assert (change["id"], change["kinds"]) == (record_id, ["attributes"])
    assert "Jansen" not in task.file.read_text()


def test_retry_and_clear_report_the_same_and_what_is_new(
    hook: WebcamconsultHook, service: Service, task: Task
) -> None:
    first, second, third = (create(hook) for _ in range(3))
    assert task.skips("1")
    service.set_state(first, "finished")
    task.run("2")  # killed before Airflow stored the result
    service.set_state(second, "finished")
    assert [change["id"] for change in task.run("2")] == [first, second]
    service.set_state(third, "finished")
    assert [change["id"] for change in task.run("3")] == [third]
    assert [change["id"] for change in task.run("2")] == [first, second]  # cleared


def test_killed_or_failed_before_the_baseline_is_stored_changes_nothing(
    hook: WebcamconsultHook, service: Service, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_id = create(hook)
    assert task.skips("1")
    service.set_state(record_id, "finished")
    before = task.file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", lambda value, **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            task.run("2")
    assert task.file.read_bytes() == before
    assert [*task.file.parent.iterdir()] == [task.file]
    assert [change["id"] for change in task.run("2")] == [record_id]


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ({"status": 500}, WebcamconsultServerError),
        ({"body": [{"state": "idle"}]}, WebcamconsultResponseError),
        ({"body": {"appointments": []}}, WebcamconsultResponseError),
    ],
)
def test_failing_list_and_malformed_record_leave_the_baseline(
    serve: Serve, connect: Connect, task: Task, step: Any, error: type[Exception]
) -> None:
    appointment = {"id": "a1", "state": "idle"}
    connect(serve({"body": [appointment]}).url)
    assert task.skips()
    before = task.file.read_bytes()
    connect(serve(step).url, retries=0)
    with pytest.raises(error):
        task.run()
    assert task.file.read_bytes() == before


def test_new_token_is_logged(serve: Serve, connect: Connect, task: Task, log: Log) -> None:
    server = serve({"body": [{"id": "a1", "state": "idle"}]})
    connect(server.url)
    assert task.skips("1")
    connect(server.url, "another-token")
    assert task.skips("2")
    assert task.skips("3")
    assert log.text.count("cannot tell which attributes") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"resource": "invoices"},
        {"resource": None},
        {"changes": "state"},
        {"changes": ["states"]},
        {"changes": []},
        {"states": "finished"},
        {"states": []},
        {"states": ["finished", "no show"]},
        {"resource": "clients", "states": ["finished"]},
        {"resource": "users", "changes": ["state", "moved"]},
        {"initial": "some"},
        {"baseline_path": "baseline.json"},
        {"baseline_path": None},
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_sent(
    hook: WebcamconsultHook, service: Service, task: Task, arguments: dict[str, Any]
) -> None:
    with pytest.raises(WebcamconsultInputError):
        task.run(**arguments)
    assert service.requests == []
    assert not task.file.exists()


@pytest.mark.parametrize("arguments", [{"task_id": "other"}, {"resource": "clients"}])
def test_baseline_of_another_task_is_refused(
    hook: WebcamconsultHook, task: Task, arguments: dict[str, Any]
) -> None:
    assert task.skips()
    with pytest.raises(WebcamconsultConfigurationError, match="belongs to task"):
        task.run(**arguments)


def test_baseline_of_another_connection_is_refused(
    hook: WebcamconsultHook, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert task.skips()
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", os.environ["AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT"])
    with pytest.raises(WebcamconsultConfigurationError, match="belongs to task"):
        task.run(webcamconsult_conn_id="other")


LISTED: list[dict[str, Any]] = [{"id": id, "state": "idle", "date": DATE} for id in "abc"]


@pytest.mark.parametrize("lacking", [[], LISTED[:2]], ids=["empty", "half"])
def test_list_that_lacks_records_for_a_moment_changes_nothing(
    connect: Connect, serve: Serve, task: Task, lacking: list[Any]
) -> None:
    connect(serve({"body": LISTED}, {"body": lacking}, {"body": LISTED}).url)
    assert task.skips("first")
    assert task.skips("second")


def test_list_that_contradicts_itself_is_an_error(connect: Connect, serve: Serve, task: Task) -> None:
    contradicting = [{**LISTED[1], "state": "finished"}, *LISTED]
    connect(serve({"body": LISTED}, {"body": contradicting}, {"body": LISTED}).url)
    assert task.skips("first")
    with pytest.raises(WebcamconsultResponseError, match="nothing was compared"):
        task.run("second")
    assert task.skips("third")


@pytest.mark.parametrize(
    "record",
    [{**LISTED[0], "state": "ZqName has phoned"}, {"id": "a"}, {"state": "ZqName"}, "ZqName", None],
    ids=str,
)
def test_malformed_record_counts_as_unchanged_until_it_can_be_read(
    connect: Connect, serve: Serve, task: Task, log: Log, record: Any
) -> None:
    new, changed = {**LISTED[0], "id": "d"}, {**LISTED[0], "state": "finished"}
    later: Any = {"body": [changed, LISTED[1], LISTED[2], new]}
    malformed: Any = {"body": [new, record, LISTED[1], LISTED[2]]}
    connect(serve({"body": LISTED}, malformed, malformed, later).url)
    assert task.skips("first")
    assert [(change["id"], change["kinds"]) for change in task.run("second")] == [("d", ["created"])]
    assert task.skips("third")
    assert "1 of 4 appointments in the list could not be read: number 2." in log.text
    assert [(change["id"], change["kinds"]) for change in task.run("fourth")] == [("a", ["state"])]
    assert "ZqName" not in log.text + task.file.read_text()


def test_deletion_is_reported_when_the_malformed_record_that_may_be_the_missing_one_can_be_read(
    connect: Connect, serve: Serve, task: Task
) -> None:
    malformed: Any = {"body": [{"state": "idle"}, LISTED[1]]}
    connect(serve({"body": LISTED}, malformed, {"body": LISTED[:2]}).url)
    assert task.skips("first")
    assert task.skips("second")
    assert [(change["id"], change["kinds"]) for change in task.run("third")] == [("c", ["deleted"])]


def test_clear_of_a_run_whose_report_is_no_longer_stored_is_logged(
    hook: WebcamconsultHook, service: Service, task: Task, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "REPORTS_MAX", 2)
    record_id = create(hook)
    assert task.skips("0")
    for run in ("1", "2", "3"):
        service.set_state(record_id, f"state-{run}")
        task.run(run)
    task.run("2", try_number=2)
    assert "no longer stored" not in log.text
    assert task.skips("1", try_number=2)
    assert "no longer stored" in log.text


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"format": 1}'])
def test_damaged_baseline_is_not_replaced(hook: WebcamconsultHook, task: Task, content: bytes) -> None:
    task.file.write_bytes(content)
    with pytest.raises(WebcamconsultConfigurationError, match="cannot be read"):
        task.run()
    assert task.file.read_bytes() == content


def test_report_and_baseline_contain_nothing_personal(
    hook: WebcamconsultHook, service: Service, task: Task, log: Log
) -> None:
    create(hook)
    report = task.run(initial="all")
    shown = f"{report} {task.file.read_text()} {log.text}"
    assert "ZqComplaint" not in shown
    assert not any(record["token"] in shown for record in service.records("appointments"))
    assert set(report[0]) == {"id", "kinds", "old_state", "new_state", "old_date", "new_date"}


@pytest.mark.skipif(AIRFLOW_VERSION < (3, 3), reason="this Airflow keeps no state of assets")
class TestStateOfAnAsset:
    class State(dict[str, Any]):
        """The state of an asset in memory, as JSON."""

        def set(self, key: str, value: Any) -> None:
            self[key] = json.loads(json.dumps(value))

    @pytest.fixture
    def state(self) -> State:
        return self.State()

    def run(self, state: State, run: str) -> list[Any]:
        from airflow.sdk import Asset

        asset = Asset("changes")
        operator = WebcamconsultListChangesOperator(task_id="changes", inlets=[asset])
        return list(operator.execute(context(run, asset_state_store={asset: state})))

    def test_has_the_baseline_and_the_digest_of_the_list(
        self, hook: WebcamconsultHook, service: Service, state: State
    ) -> None:
        record_id = create(hook)
        digests = []
        for number in range(2):
            with pytest.raises(AirflowSkipException):
                self.run(state, f"first {number}")
            digests.append(state[DIGEST_KEY])
        service.set_state(record_id, "finished")
        assert [change["id"] for change in self.run(state, "second")] == [record_id]
        assert digests[0] == digests[1] != state[DIGEST_KEY]
        assert {*state} == {BASELINE_KEY, DIGEST_KEY}
