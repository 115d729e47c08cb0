"""What a create or a delete reports that it did: to the next tasks, in the log and from the hook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult import idempotent_create
from airflow_provider_webcamconsult.create_result import IF_EXISTS
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultDeleteClientOperator,
)
from devtools.fault_proxy import FAULTS, FaultProxy
from tests.unit.idempotent_create.airflow_task import TaskInstance

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Log, Service

CLIENT: Any = {"last_name": "Ester", "reference_code": "DL-1"}
OTHER_NAME: Any = {"last_name": "Ester", "reference_code": "DL-1", "initials": "T."}


@pytest.fixture(params=[True, False], ids=["store", "no store"])
def task(request: pytest.FixtureRequest) -> TaskInstance:
    """Return a task on Airflow 3.3, which has a task state store, and on an older version, which has none."""
    return TaskInstance(request.param)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotent_create, "LOOKUP_DELAYS_SECONDS", (0.0, 0.001, 0.002))
    monkeypatch.setattr(idempotent_create, "CREATE_FLOOR_SECONDS", 0.05)


def run(task: TaskInstance, attributes: Any = CLIENT, **arguments: Any) -> Any:
    """Run one try of a create, and return the outcome that it pushed."""
    operator = WebcamconsultCreateClientOperator(task_id="create", attributes=attributes, **arguments)
    operator.execute(task.context)
    return task.xcoms.get("outcome")


EXISTING = [
    pytest.param("create", CLIENT, "created", "Created client {}.", id="create"),
    pytest.param("reuse", OTHER_NAME, "reused", "Reusing existing client {}.", id="reuse"),
    pytest.param(
        "update", OTHER_NAME, "updated", "Updated initials of existing client {}.", id="update that differs"
    ),
    pytest.param(
        "update",
        CLIENT,
        "unchanged",
        "Existing client {} already has the given attributes. Nothing was written.",
        id="update that is equal",
    ),
]


@pytest.mark.parametrize(("if_exists", "attributes", "outcome", "message"), EXISTING)
def test_create_reports_what_it_did_to_an_existing_record(
    hook: WebcamconsultHook, log: Log, if_exists: str, attributes: Any, outcome: str, message: str
) -> None:
    existing = hook.clients.create(CLIENT)["id"]
    log.clear()
    task = TaskInstance(has_store=True)
    operator = WebcamconsultCreateClientOperator(
        task_id="create",
        attributes=attributes,
        if_exists=if_exists,  # type: ignore[arg-type]
    )
    record_id = operator.execute(task.context)
    assert task.xcoms == {"outcome": outcome}
    assert (record_id == existing) is (outcome != "created")
    assert message.format(record_id) in log.messages("info")


@pytest.mark.usefixtures("hook")
@pytest.mark.parametrize("if_exists", IF_EXISTS)
def test_new_record_is_created_whatever_if_exists_says(task: TaskInstance, if_exists: str) -> None:
    assert run(task, if_exists=if_exists) == "created"


@pytest.mark.parametrize("if_exists", ["reuse", "update"])
def test_hook_returns_record_with_outcome(hook: WebcamconsultHook, if_exists: Any) -> None:
    first = hook.clients.create_with_outcome(CLIENT, if_exists=if_exists)
    second = hook.clients.create_with_outcome(CLIENT, if_exists=if_exists)
    assert (first.outcome, second.outcome) == (
        "created",
        {"reuse": "reused", "update": "unchanged"}[if_exists],
    )
    assert first.record == second.record == hook.clients.create(CLIENT, if_exists=if_exists)


def test_result_of_the_hook_shows_no_personal_data(hook: WebcamconsultHook) -> None:
    assert "Ester" not in repr(hook.clients.create_with_outcome(CLIENT))


@pytest.mark.parametrize("if_exists", IF_EXISTS)
def test_record_whose_response_was_lost_is_created(
    service: Service, connect: Connect, task: TaskInstance, if_exists: str
) -> None:
    with FaultProxy(service.url, FAULTS["closed before the response"], "POST") as proxy:
        connect(proxy.url, service.token)
        assert run(task, if_exists=if_exists) == "created"


@pytest.mark.usefixtures("hook")
@pytest.mark.parametrize("if_exists", ["create", "reuse", "update"])
def test_retry_reports_that_an_earlier_try_created_the_record(task: TaskInstance, if_exists: str) -> None:
    run(task, if_exists=if_exists)
    task.retry()
    assert run(task, if_exists=if_exists) == "created"


def test_retry_that_updates_what_an_earlier_try_created_still_reports_created(
    hook: WebcamconsultHook,
) -> None:
    task = TaskInstance(has_store=True)
    run(task, if_exists="update")
    task.retry()
    assert run(task, OTHER_NAME, if_exists="update") == "created"
    assert hook.clients.list()[0]["initials"] == "T."


def test_record_that_was_deleted_in_between_is_created_again(hook: WebcamconsultHook) -> None:
    existing = hook.clients.create(CLIENT)["id"]
    task = TaskInstance(has_store=True)
    assert run(task, if_exists="reuse") == "reused"
    hook.clients.delete(existing)
    task.clear()
    assert run(task, if_exists="reuse") == "created"


@pytest.mark.usefixtures("hook")
def test_outcome_is_not_pushed_without_do_xcom_push(task: TaskInstance) -> None:
    assert run(task, do_xcom_push=False) is None


@pytest.mark.parametrize(("exists", "outcome"), [(True, "deleted"), (False, "missing")])
def test_delete_reports_whether_there_was_a_record(
    hook: WebcamconsultHook, task: TaskInstance, exists: bool, outcome: str
) -> None:
    client_id = hook.clients.create(CLIENT)["id"] if exists else "5492ba6da19ea682ea000001"
    operator = WebcamconsultDeleteClientOperator(
        task_id="delete", client_id=client_id, ignore_if_missing=True
    )
    operator.execute(task.context)
    assert task.xcoms == {"outcome": outcome}
