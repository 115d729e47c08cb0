"""Personal data and tokens stay in the request, the service and the user's code."""

from __future__ import annotations

import json
import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import requests
from airflow.providers.common.compat.sdk import DAG
from airflow.serialization.helpers import serialize_template_field

from airflow_provider_webcamconsult.exceptions import WebcamconsultValidationError
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import WebcamconsultCreateClientOperator

if TYPE_CHECKING:
    from tests.unit.conftest import Connect, ErrorText, Log, Serve, Service

TOKEN = "s3cret+token"
#: Plain and URL-encoded.
TOKENS = ("s3cret+token", "s3cret%2Btoken")

TOKEN_AS = pytest.mark.parametrize("auth_as_parameter", [False, True], ids=["header", "parameter"])


def shows_token(*values: Any) -> bool:
    return any(token in str(value) for value in values for token in TOKENS)


# API token


@TOKEN_AS
@pytest.mark.parametrize(
    "step",
    [{"body": []}, {"status": 404}, {"cut": "after the request"}],
    ids=["success", "error", "connection lost"],
)
def test_token_is_sent_but_not_shown_by_requests(
    step: Any, auth_as_parameter: bool, connect: Connect, serve: Serve, log: Log
) -> None:
    server = serve(step)
    session = connect(server.url, TOKEN, auth_as_parameter=auth_as_parameter).get_conn()
    shown: list[Any] = []
    try:
        response = session.get(f"{server.url}/users.json")
        shown += [response.url, response.request.url, response.request.headers, vars(response.request)]
        response.raise_for_status()
    except requests.RequestException as error:
        logging.getLogger("webcamconsult").warning("Request failed.", exc_info=error)
        shown += [error, repr(error.args), error.request and vars(error.request)]
    assert shows_token(f"{server.requests[0].target} {server.requests[0].headers}")
    assert not shows_token(*shown, log.text)


@TOKEN_AS
def test_session_with_retries_does_not_log_token(
    auth_as_parameter: bool, connect: Connect, serve: Serve, log: Log
) -> None:
    # urllib3 logs a warning with the URL for each retry.
    server = serve({"cut": "after the request"}, {"status": 503}, {"body": []})
    session = connect(server.url, TOKEN, auth_as_parameter=auth_as_parameter).get_conn()
    from urllib3.util import Retry

    session.adapters[f"{server.url}/"].max_retries = Retry(3, status_forcelist=[503], backoff_factor=0)  # type: ignore[attr-defined]
    session.get(f"{server.url}/users.json")
    assert "users.json" in log.text
    assert [shows_token(f"{request.target} {request.headers}") for request in server.requests] == [True] * 3
    assert not shows_token(log.text)


@TOKEN_AS
def test_token_is_sent_through_proxy(
    auth_as_parameter: bool, connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve({"body": []})
    monkeypatch.setenv("http_proxy", proxy.url)
    hook = connect("http://webcamconsult.invalid", TOKEN, auth_as_parameter=auth_as_parameter)
    for _ in range(2):
        hook.users.list()
    for request in proxy.requests:
        assert request.target.startswith("http://webcamconsult.invalid/users.json")
        assert sum(f"{request.target} {request.headers}".count(token) for token in TOKENS) == 1


@TOKEN_AS
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_to_another_host_does_not_forward_token(
    status: int, auth_as_parameter: bool, connect: Connect, serve: Serve, log: Log
) -> None:
    other = serve({})
    location = f"{other.url}/users.json?page=2&authentication_token=s3cret%2Btoken&sort="
    server = serve({"status": status, "headers": {"Location": location}})
    session = connect(server.url, TOKEN, auth_as_parameter=auth_as_parameter).get_conn()
    session.get(f"{server.url}/users.json")
    assert [request.target for request in other.requests] == ["/users.json?page=2&sort="]
    assert not shows_token(other.requests, log.text)


@TOKEN_AS
def test_repr_does_not_contain_token(auth_as_parameter: bool, connect: Connect, serve: Serve) -> None:
    hook = connect(serve({}).url, TOKEN, auth_as_parameter=auth_as_parameter)
    session = hook.get_conn()
    assert not shows_token(hook, vars(hook), hook.settings, session, vars(session), session.adapters)


# Records in the user's code


PATIENT = {
    "id": "5492ba6da19ea682ea000001",
    "last_name": "Ester",
    "email": "t.de.ester@example.com",
    "date_of_birth": "1984-12-18T00:00:00.000+01:00",
}


@pytest.fixture
def record(connect: Connect, serve: Serve) -> Any:
    return connect(serve({"body": {"client": PATIENT}}).url).clients.get(PATIENT["id"])


@pytest.mark.parametrize("show", [str, repr, "{}".format, lambda record: str([record])])
def test_record_shows_only_its_id(show: Any, record: Any) -> None:
    assert show(record).strip("[]") == f"<Record {PATIENT['id']}>"


def test_list_shows_only_ids_of_records(connect: Connect, serve: Serve) -> None:
    records = connect(serve({"body": [PATIENT]}).url).clients.list()
    assert repr(records) == f"[<Record {PATIENT['id']}>]"


def test_record_behaves_as_dict(record: Any) -> None:
    assert record == PATIENT
    assert dict(record) == PATIENT
    assert json.loads(json.dumps(record)) == PATIENT
    assert {**record, "last_name": "x"}["email"] == PATIENT["email"]
    assert repr(pickle.loads(pickle.dumps(record))) == repr(record)  # noqa: S301


def test_record_returned_by_user_is_stored_complete_in_xcom(record: Any) -> None:
    try:
        from airflow.sdk.serde import serialize
    except ImportError:  # Airflow 2
        from airflow.serialization.serde import serialize  # type: ignore[no-redef,import-not-found]
    assert serialize(record) == PATIENT


@pytest.mark.parametrize("kind", ["users", "clients", "appointments"])
@pytest.mark.parametrize("name", ["token", "authentication_token"])
def test_credential_is_removed_at_any_depth(kind: str, name: str, connect: Connect, serve: Serve) -> None:
    deep = [{"deeper": [[{name: TOKEN, "more": {name: {"even": TOKEN}}}]]}]
    item = {"id": PATIENT["id"], name: TOKEN, "inloop_json": {name: TOKEN, "deep": deep}}
    (record,) = getattr(connect(serve({"body": [item]}).url), kind).list()
    assert TOKEN not in json.dumps(record)


# Validation messages of the service


def validation_error(
    connect: Connect, serve: Serve, errors: Any, attributes: dict[str, Any], **extra: Any
) -> WebcamconsultValidationError:
    hook = connect(serve({"status": 422, "body": {"errors": errors}}).url, TOKEN, **extra)
    with pytest.raises(WebcamconsultValidationError) as raised:
        hook.clients.create(attributes)
    return raised.value


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"email": "T.Ester@example.com"}, "t.ester@example.com is taken"),
        ({"last_name": "Ester"}, "'Ester' is van een ander"),
        ({"last_name": "Ester"}, "klant Esters bestaat"),
        ({"last_name": "Ester", "initials": "Est"}, "Est. Ester"),
        ({"initials": "T"}, "niet toegestaan: T"),
        ({"date_of_birth": "1984-12-18"}, "1984-12-18 is te oud"),
        ({"date_of_birth": "1984-12-18"}, "1984-12-18T00:00:00.000+01:00 is te oud"),
        ({"external": {"deep": ["secret"]}}, "secret kan niet"),
        ({"external": 123456}, "123456 kan niet"),
        ({"last_name": "E.*r"}, "E.*r of Ester"),
        ({"last_name": "Ester", "external": True, "initials": " "}, "is true te lang"),
    ],
)
def test_validation_messages_that_may_be_personal_are_withheld(
    attributes: dict[str, Any], message: str, connect: Connect, serve: Serve, error_text: ErrorText
) -> None:
    error = validation_error(connect, serve, {"email": [message]}, attributes)
    assert error.errors == {}
    assert message not in error_text(error)
    assert "1 message is withheld because it may contain personal data." in str(error)


def test_sent_values_are_masked_everywhere_in_validation_errors(
    connect: Connect, serve: Serve, error_text: ErrorText
) -> None:
    errors = {"Ester": ["x"], "base": {"Ester": "Ester"}, "last_name": "Ester", "email": None}
    error = validation_error(connect, serve, errors, {"last_name": "Ester"})
    assert error.errors == {}
    assert "4 messages are withheld because they may contain personal data." in str(error)
    assert "Ester" not in error_text(error)


def test_attribute_name_equal_to_a_sent_value_is_shown(connect: Connect, serve: Serve) -> None:
    errors = {"email": ["is ongeldig"]}
    assert validation_error(connect, serve, errors, {"last_name": "email"}).errors == errors


@TOKEN_AS
def test_token_is_masked_in_validation_errors(
    auth_as_parameter: bool, connect: Connect, serve: Serve, error_text: ErrorText
) -> None:
    errors = {"base": [f"authentication_token={TOKEN} kan niet"]}
    error = validation_error(connect, serve, errors, {"last_name": "x"}, auth_as_parameter=auth_as_parameter)
    assert error.errors == {}
    assert not shows_token(error_text(error))


# Attributes that Airflow stores


def stored(operator: Any) -> str:
    return json.dumps(serialize_template_field(operator.attributes, "attributes"))


def serialized(dag: DAG) -> str:
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    except ImportError:  # Airflow 2
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization  # type: ignore
    return json.dumps(Serialization.to_dict(dag))


def create(attributes: Any, **arguments: Any) -> Any:
    arguments.setdefault("task_id", "task")
    return WebcamconsultCreateClientOperator(attributes=attributes, **arguments)


@pytest.mark.usefixtures("hook")
def test_rendered_personal_values_are_sent_but_masked_when_stored(service: Service) -> None:
    operator = create({"last_name": "{{ name }}", "division_ids": ["{{ division }}"]})
    operator.render_template_fields({"name": "Ester", "division": "d1"})
    assert all(value in stored(operator) for value in ("last_name", "***", "division_ids", "d1"))
    assert "Ester" not in f"{stored(operator)} {operator.attributes} {operator.attributes!r}"
    operator.execute({})
    (client,) = service.records("clients")
    assert (client["last_name"], client["division_ids"]) == ("Ester", ["d1"])


def test_only_non_personal_values_of_appointment_are_stored() -> None:
    attributes: Any = {
        "client_id": "c1",
        "date": "2030-03-01T09:30",
        "duration": 30,
        "inloop_json": {"complaint": "cough"},
        "misspelt": "headache",
    }
    shown = stored(WebcamconsultCreateAppointmentOperator(task_id="task", attributes=attributes))
    assert all(value in shown for value in ("c1", "2030-03-01T09:30", "30", "inloop_json", "misspelt"))
    assert not any(value in shown for value in ("complaint", "cough", "headache"))


@pytest.mark.parametrize(
    "rendered", ["{'last_name': 'Ester'}", [{"last_name": "Ester"}], {"last_name": {"deep": ["Ester"]}}]
)
def test_attributes_of_any_type_are_masked_when_stored(rendered: Any) -> None:
    assert "Ester" not in stored(create(rendered))


def test_serialized_dag_contains_no_personal_values() -> None:
    with DAG("serialized", schedule=None) as dag:
        create({"last_name": "Ester", "email": "{{ params.email }}"})
    assert "last_name" in serialized(dag)
    assert "Ester" not in serialized(dag)
    # Airflow 2 renders the serialized attributes to show a task before it runs.
    assert "params.email" not in serialized(dag)


def test_dag_serialization_is_deterministic() -> None:
    def parsed() -> str:
        with DAG("serialized", schedule=None) as dag:
            create(lambda context: {"last_name": "Ester"})
        return serialized(dag)

    assert parsed() == parsed()


def test_rendering_error_is_logged_without_personal_values(log: Log) -> None:
    operator = create({"last_name": "Ester", "email": "{{ nothing.there }}"})
    with pytest.raises(Exception, match="nothing"):
        operator.render_template_fields({})
    assert "attributes" in log.text
    assert "Ester" not in log.text


def test_each_task_run_is_rendered_separately() -> None:
    with DAG("rendered", schedule=None):
        operator = create({"last_name": "{{ name }}"})
    for name in ("Ester", "Akkermans"):
        run = operator.prepare_for_execution()
        run.render_template_fields({"name": name})
        assert run.attributes == {"last_name": name}


def test_value_from_xcom_is_not_rendered_again() -> None:
    # Airflow renders a mapped task like this: it recognises values from XComs by identity.
    row = {"last_name": "{{ name }}"}
    operator = create(row)
    rendered = operator.render_template(operator.attributes, {"name": "Ester"}, None, {id(row)})
    assert rendered == row


def test_attributes_can_be_read_and_replaced_by_subclasses() -> None:
    operator = create({"last_name": "Ester"})
    operator.attributes = {**operator.attributes.value, "initials": "T"}
    assert operator.attributes == {"last_name": "Ester", "initials": "T"}
    assert operator.attributes == create({"last_name": "Ester", "initials": "T"}).attributes
    assert operator.attributes != {"last_name": "Ester"}


def test_xcoms_in_attributes_make_their_tasks_upstream() -> None:
    with DAG("order", schedule=None):
        first = create({"last_name": "x"}, task_id="first")
        second = create({"last_name": "y"}, task_id="second").output
        nested = create({"division_ids": [first.output]}, task_id="nested")
        whole = create(second, task_id="whole")
    assert nested.upstream_task_ids == {"first"}
    assert whole.upstream_task_ids == {"second"}
