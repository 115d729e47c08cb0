"""When a record counts as missing: after the API's own 404, and for a delete, after the list as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultNotFoundError,
    WebcamconsultResponseError,
    WebcamconsultUnknownOutcomeError,
)
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultDeleteAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultDeleteClientOperator,
    WebcamconsultGetClientOperator,
)
from airflow_provider_webcamconsult.version_compat import AirflowSkipException
from tests.unit.idempotent_create.airflow_task import TaskInstance

if TYPE_CHECKING:
    from tests.unit.conftest import Connect, Log, Serve, Service, Step

ID = "1234567890abcdef12345678"
OTHER_ID = "abcdef123456789012345678"
GONE: Step = {"status": 404}
LISTED: Step = {"body": [{"id": OTHER_ID}, {"id": ID}]}
NOT_LISTED: Step = {"body": [{"id": OTHER_ID}]}
# A retry of the task, or a try after it was cleared.
SECOND_TRY: Any = TaskInstance(has_store=False, try_number=2, max_tries=1).context
FIRST_TRY: Any = TaskInstance(has_store=False, try_number=1, max_tries=0).context


def delete(record_id: str, **arguments: Any) -> WebcamconsultDeleteClientOperator:
    return WebcamconsultDeleteClientOperator(task_id="delete", client_id=record_id, **arguments)


# Wrong paths


@pytest.mark.parametrize("ignore_if_missing", [False, True])
@pytest.mark.parametrize("context", [FIRST_TRY, SECOND_TRY], ids=["first try", "second try"])
def test_delete_fails_while_the_record_exists(
    ignore_if_missing: bool, context: Any, connect: Connect, serve: Serve
) -> None:
    server = serve(GONE, LISTED)
    connect(server.url)
    with pytest.raises(WebcamconsultConfigurationError) as error:
        delete(ID, ignore_if_missing=ignore_if_missing).execute(context)
    assert str(error.value) == (
        f"DELETE /client/{ID}.json returned 404. The list shows that client {ID} still exists. "
        "Change the extra 'plural_paths' of connection 'webcamconsult_default', which is probably wrong."
    )
    assert (error.value.method, error.value.path) == ("DELETE", f"/client/{ID}.json")
    assert (error.value.status_code, error.value.reason) == (404, "Not Found")
    assert [request.path for request in server.requests] == [f"/client/{ID}.json", "/clients.json"]


def test_delete_of_a_real_record_with_the_wrong_path_fails(connect: Connect, service: Service) -> None:
    hook = connect(service.url, service.token)
    client_id = hook.clients.create({"last_name": "Alders"})["id"]
    connect(f"{service.url}/wrong-path", service.token)
    with pytest.raises(WebcamconsultConfigurationError, match="The list of clients returned 404 too"):
        delete(client_id, ignore_if_missing=True).execute(SECOND_TRY)
    assert [client["id"] for client in service.records("clients")] == [client_id]


def test_users_have_no_other_path(connect: Connect, serve: Serve) -> None:
    with pytest.raises(WebcamconsultConfigurationError) as error:
        connect(serve(GONE, LISTED).url).users.delete(ID)
    assert str(error.value).endswith(
        f"user {ID} still exists. Check the Host of connection 'webcamconsult_default'."
    )


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 500}, {"cut": "after the request"}, {"delay": 1}], ids=str
)
def test_a_repeated_delete_fails_while_the_record_exists(fault: Step, connect: Connect, serve: Serve) -> None:
    hook = connect(serve(fault, GONE, LISTED).url, timeout=0.25)
    with pytest.raises(WebcamconsultConfigurationError, match="still exists"):
        hook.appointments.delete(ID)


# Records that are gone


def test_a_missing_record_is_an_error_that_the_list_confirms(connect: Connect, serve: Serve) -> None:
    server = serve(GONE, NOT_LISTED)
    with pytest.raises(WebcamconsultNotFoundError) as error:
        connect(server.url).clients.delete(ID)
    assert str(error.value) == (
        f"Client {ID} does not exist for this API token: it was deleted, or the id is wrong. "
        f"DELETE /client/{ID}.json returned 404. The list confirms this."
    )
    assert len(server.requests) == 2


def test_a_missing_record_can_be_ignored(connect: Connect, service: Service, log: Log) -> None:
    connect(service.url, service.token)
    delete(ID, ignore_if_missing=True).execute(FIRST_TRY)
    delete(ID).execute(SECOND_TRY)
    assert log.text.count(f"Client {ID} does not exist; nothing to delete.") == 2


def test_an_id_is_compared_exactly(connect: Connect, serve: Serve) -> None:
    with pytest.raises(WebcamconsultNotFoundError):
        connect(serve(GONE, {"body": [{"id": ID.upper()}]}).url).clients.delete(ID)


@pytest.mark.parametrize("malformed", [None, {}, {"id": None}, {"id": f"{ID} "}], ids=str)
def test_a_malformed_record_may_be_the_missing_one(malformed: Any, connect: Connect, serve: Serve) -> None:
    server = serve(GONE, {"body": [{"id": OTHER_ID}, malformed]})
    connect(server.url)
    with pytest.raises(WebcamconsultResponseError, match="record 2 of the list"):
        delete(ID, ignore_if_missing=True).execute(SECOND_TRY)


def test_a_malformed_record_with_another_id_is_not_the_missing_one(connect: Connect, serve: Serve) -> None:
    body = f'[{{"id": "{OTHER_ID}", "last_name": 1e400}}]'
    connect(serve(GONE, {"body": body}).url)
    delete(ID).execute(SECOND_TRY)


def test_a_delete_that_succeeds_needs_no_list(connect: Connect, service: Service) -> None:
    hook = connect(service.url, service.token)
    client_id = hook.clients.create({"last_name": "Alders"})["id"]
    hook.clients.delete(client_id)
    assert [request.method for request in service.requests] == ["POST", "DELETE"]


# Lists that confirm nothing


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (GONE, WebcamconsultConfigurationError),
        ({"status": 404, "body": "<h1>Not Found</h1>"}, WebcamconsultResponseError),
        ({"body": "<h1>Welcome</h1>"}, WebcamconsultConfigurationError),
        ({"body": [{"last_name": "Alders"}]}, WebcamconsultResponseError),
        ({"cut": "after the request"}, WebcamconsultConnectionError),
    ],
    ids=str,
)
def test_delete_fails_if_the_list_does(
    answer: Step, expected: type[WebcamconsultError], connect: Connect, serve: Serve
) -> None:
    connect(serve(GONE, answer).url, retries=1)
    with pytest.raises(WebcamconsultError) as error:
        delete(ID, ignore_if_missing=True).execute(SECOND_TRY)
    assert type(error.value) is expected


# A 404 of something else


FOREIGN: list[Step] = [
    {"status": 404, "body": body}
    for body in ("", "<h1>Not Found</h1>", "404 page not found", "[]", '"x"', "{")
]
foreign = pytest.mark.parametrize("answer", FOREIGN, ids=lambda step: repr(step["body"]))


@foreign
@pytest.mark.parametrize("call", ["get", "update"])
def test_a_404_of_a_gateway_does_not_show_that_the_record_is_gone(
    answer: Step, call: str, connect: Connect, serve: Serve
) -> None:
    clients = connect(serve(answer).url, retries=0).clients
    with pytest.raises(WebcamconsultResponseError) as error:
        clients.get(ID) if call == "get" else clients.update(ID, {"last_name": "Alders"})
    assert str(error.value) == (
        f"{'GET' if call == 'get' else 'PUT'} /client/{ID}.json with connection 'webcamconsult_default' "
        "returned 404, but the response did not come from the Webcamconsult API, so the client may exist. "
        "Try again; if the error persists, check the connection's Host."
    )
    assert error.value.status_code == 404


@foreign
def test_a_404_of_a_gateway_is_retried(answer: Step, connect: Connect, serve: Serve) -> None:
    hook = connect(serve(answer, {"body": {"client": {"id": ID}}}).url)
    assert hook.clients.get(ID)["id"] == ID


@foreign
def test_a_create_that_a_gateway_answers_with_404_is_not_sent_again(
    answer: Step, connect: Connect, serve: Serve
) -> None:
    server = serve(answer)
    with pytest.raises(WebcamconsultUnknownOutcomeError, match="The connection's Host may be wrong"):
        connect(server.url, retries=3).clients.create({"last_name": "Alders"})
    assert [request.method for request in server.requests] == ["POST"]


@foreign
def test_a_404_of_a_gateway_is_no_proof_for_a_delete(answer: Step, connect: Connect, serve: Serve) -> None:
    connect(serve(answer).url, retries=1)
    with pytest.raises(WebcamconsultResponseError):
        delete(ID, ignore_if_missing=True).execute(SECOND_TRY)
    connect(serve(answer, LISTED).url, retries=0)
    with pytest.raises(WebcamconsultConfigurationError, match="still exists"):
        delete(ID, ignore_if_missing=True).execute(SECOND_TRY)


def test_plural_paths_delete_and_singular_paths_do_not_hide_it(connect: Connect, service: Service) -> None:
    hook = connect(service.url, service.token, plural_paths=True)
    appointment_id = hook.appointments.create({"date": "2030-03-01T09:30"})["id"]
    operator = WebcamconsultDeleteAppointmentOperator(
        task_id="delete", appointment_id=appointment_id, ignore_if_missing=True
    )
    with pytest.raises(WebcamconsultConfigurationError, match=r"'plural_paths' of .* is probably wrong"):
        operator.execute(FIRST_TRY)
    connect(service.url, service.token)
    del operator.hook
    operator.execute(FIRST_TRY)
    assert service.records("appointments") == []


def get(record_id: str, **arguments: Any) -> WebcamconsultGetClientOperator:
    return WebcamconsultGetClientOperator(task_id="get", client_id=record_id, **arguments)


def test_getting_a_missing_record_is_an_error_that_says_first_that_it_is_gone(
    connect: Connect, serve: Serve
) -> None:
    connect(serve(GONE).url)
    with pytest.raises(WebcamconsultNotFoundError, match=rf"^Client {ID} does not exist for this API token"):
        get(ID).execute({})


def test_getting_a_missing_record_can_skip_the_task(connect: Connect, serve: Serve) -> None:
    connect(serve(GONE, NOT_LISTED).url)
    with pytest.raises(AirflowSkipException, match=rf"Client {ID} does not exist"):
        get(ID, ignore_if_missing=True).execute({})


def test_a_wrong_path_does_not_skip_the_task(connect: Connect, serve: Serve) -> None:
    connect(serve(GONE, LISTED).url)
    with pytest.raises(WebcamconsultConfigurationError, match="still exists"):
        get(ID, ignore_if_missing=True).execute({})
