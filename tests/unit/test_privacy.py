"""Patients' data and tokens stay where they belong: in the request, the service and the user's code."""

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
    from tests.unit.conftest import Connect, Log, Serve, Service, Tell

TOKEN = "s3cret+token"
#: As it is, as a part of a URL, and as JSON escapes it in a repr.
TOKENS = ("s3cret+token", "s3cret%2Btoken")

TOKEN_AS = pytest.mark.parametrize("auth_as_parameter", [False, True], ids=["header", "parameter"])


def shows_token(*things: Any) -> bool:
    return any(token in str(thing) for thing in things for token in TOKENS)


# The organisation's token


@TOKEN_AS
@pytest.mark.parametrize(
    "step", [{"body": []}, {"status": 404}, {"cut": "after the request"}], ids=["answer", "error", "cut"]
)
def test_the_token_is_on_the_wire_and_in_nothing_that_requests_shows(
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
        logging.getLogger("webcamconsult").warning("It failed.", exc_info=error)
        shown += [error, repr(error.args), error.request and vars(error.request)]
    assert shows_token(f"{server.requests[0].target} {server.requests[0].headers}")
    assert not shows_token(*shown, log.text)


@TOKEN_AS
def test_the_token_is_in_no_log_of_a_session_that_repeats(
    auth_as_parameter: bool, connect: Connect, serve: Serve, log: Log
) -> None:
    # urllib3 warns of each repetition with the URL.
    server = serve({"cut": "after the request"}, {"status": 503}, {"body": []})
    session = connect(server.url, TOKEN, auth_as_parameter=auth_as_parameter).get_conn()
    from urllib3.util import Retry

    session.adapters[f"{server.url}/"].max_retries = Retry(3, status_forcelist=[503], backoff_factor=0)  # type: ignore[attr-defined]
    session.get(f"{server.url}/users.json")
    assert "users.json" in log.text
    assert [shows_token(f"{request.target} {request.headers}") for request in server.requests] == [True] * 3
    assert not shows_token(log.text)


@TOKEN_AS
def test_the_token_reaches_the_service_through_a_proxy(
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
def test_a_redirect_to_another_host_does_not_take_the_token_along(
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
def test_the_token_is_in_no_repr(auth_as_parameter: bool, connect: Connect, serve: Serve) -> None:
    hook = connect(serve({}).url, TOKEN, auth_as_parameter=auth_as_parameter)
    session = hook.get_conn()
    assert not shows_token(hook, vars(hook), hook.settings, session, vars(session), session.adapters)


# A record in a user's own code


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
def test_a_record_shows_its_id_alone(show: Any, record: Any) -> None:
    assert show(record).strip("[]") == f"<Record {PATIENT['id']}>"


def test_the_records_of_a_list_show_their_ids_alone(connect: Connect, serve: Serve) -> None:
    records = connect(serve({"body": [PATIENT]}).url).clients.list()
    assert repr(records) == f"[<Record {PATIENT['id']}>]"


def test_a_record_is_a_dict_to_compute_with(record: Any) -> None:
    assert record == PATIENT
    assert dict(record) == PATIENT
    assert json.loads(json.dumps(record)) == PATIENT
    assert {**record, "last_name": "x"}["email"] == PATIENT["email"]
    assert repr(pickle.loads(pickle.dumps(record))) == repr(record)  # noqa: S301


def test_a_record_goes_into_an_xcom_whole_where_the_user_returns_it(record: Any) -> None:
    try:
        from airflow.sdk.serde import serialize
    except ImportError:  # Airflow 2
        from airflow.serialization.serde import serialize  # type: ignore[no-redef,import-not-found]
    assert serialize(record) == PATIENT


@pytest.mark.parametrize("kind", ["users", "clients", "appointments"])
@pytest.mark.parametrize("name", ["token", "authentication_token"])
def test_a_credential_is_dropped_at_any_depth(kind: str, name: str, connect: Connect, serve: Serve) -> None:
    deep = [{"deeper": [[{name: TOKEN, "more": {name: {"even": TOKEN}}}]]}]
    item = {"id": PATIENT["id"], name: TOKEN, "inloop_json": {name: TOKEN, "deep": deep}}
    (record,) = getattr(connect(serve({"body": [item]}).url), kind).list()
    assert TOKEN not in json.dumps(record)


# What the service says of what was sent


def refused(
    connect: Connect, serve: Serve, errors: Any, attributes: dict[str, Any], **extra: Any
) -> WebcamconsultValidationError:
    hook = connect(serve({"status": 422, "body": {"errors": errors}}).url, TOKEN, **extra)
    with pytest.raises(WebcamconsultValidationError) as caught:
        hook.clients.create(attributes)  # type: ignore[arg-type]
    return caught.value


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
def test_a_message_of_the_service_is_told_without_the_values_that_were_sent(
    attributes: dict[str, Any], message: str, connect: Connect, serve: Serve, told: Tell
) -> None:
    error = refused(connect, serve, {"email": [message]}, attributes)
    assert error.errors == {}
    assert message not in told(error)
    assert "1 message is withheld because it may contain personal data." in str(error)


def test_values_are_masked_wherever_the_service_repeats_them(
    connect: Connect, serve: Serve, told: Tell
) -> None:
    errors = {"Ester": ["x"], "base": {"Ester": "Ester"}, "last_name": "Ester", "email": None}
    error = refused(connect, serve, errors, {"last_name": "Ester"})
    assert error.errors == {}
    assert "4 messages are withheld because they may contain personal data." in str(error)
    assert "Ester" not in told(error)


def test_a_name_of_an_attribute_stays_though_a_value_is_the_same(connect: Connect, serve: Serve) -> None:
    errors = {"email": ["is ongeldig"]}
    assert refused(connect, serve, errors, {"last_name": "email"}).errors == errors


@TOKEN_AS
def test_a_token_that_the_service_repeats_is_masked(
    auth_as_parameter: bool, connect: Connect, serve: Serve, told: Tell
) -> None:
    errors = {"base": [f"authentication_token={TOKEN} kan niet"]}
    error = refused(connect, serve, errors, {"last_name": "x"}, auth_as_parameter=auth_as_parameter)
    assert error.errors == {}
    assert not shows_token(told(error))


# What Airflow stores of the attributes


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
def test_of_rendered_attributes_the_names_are_stored_and_the_values_sent(service: Service) -> None:
    operator = create({"last_name": "{{ name }}", "division_ids": ["{{ division }}"]})
    operator.render_template_fields({"name": "Ester", "division": "d1"})
    assert all(shown in stored(operator) for shown in ("last_name", "***", "division_ids", "d1"))
    assert "Ester" not in f"{stored(operator)} {operator.attributes} {operator.attributes!r}"
    operator.execute({})
    (client,) = service.records("clients")
    assert (client["last_name"], client["division_ids"]) == ("Ester", ["d1"])


def test_of_an_appointment_the_ids_and_the_date_are_stored_and_what_it_is_about_is_not() -> None:
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
def test_attributes_of_any_type_are_stored_masked(rendered: Any) -> None:
    assert "Ester" not in stored(create(rendered))


def test_a_dag_is_serialized_without_the_values() -> None:
    with DAG("serialized", schedule=None) as dag:
        create({"last_name": "Ester", "email": "{{ params.email }}"})
    assert "last_name" in serialized(dag)
    assert "Ester" not in serialized(dag)
    # Airflow 2 renders what is serialized, for whoever looks at a task before it runs.
    assert "params.email" not in serialized(dag)


def test_a_dag_is_serialized_the_same_each_time() -> None:
    def parsed() -> str:
        with DAG("serialized", schedule=None) as dag:
            create(lambda context: {"last_name": "Ester"})
        return serialized(dag)

    assert parsed() == parsed()


def test_attributes_that_cannot_be_rendered_are_logged_without_the_values(log: Log) -> None:
    operator = create({"last_name": "Ester", "email": "{{ nothing.there }}"})
    with pytest.raises(Exception, match="nothing"):
        operator.render_template_fields({})
    assert "attributes" in log.text
    assert "Ester" not in log.text


def test_each_run_of_a_task_is_rendered_anew() -> None:
    with DAG("anew", schedule=None):
        operator = create({"last_name": "{{ name }}"})
    for name in ("Ester", "Akkermans"):
        run = operator.prepare_for_execution()
        run.render_template_fields({"name": name})
        assert run.attributes == {"last_name": name}


def test_what_was_read_from_an_xcom_is_not_rendered_again() -> None:
    # As Airflow renders a mapped task: what came from an XCom is told by its identity.
    row = {"last_name": "{{ name }}"}
    operator = create(row)
    rendered = operator.render_template(operator.attributes, {"name": "Ester"}, None, {id(row)})
    assert rendered == row


def test_attributes_can_be_given_anew_and_read_by_who_extends_an_operator() -> None:
    operator = create({"last_name": "Ester"})
    operator.attributes = {**operator.attributes.value, "initials": "T"}
    assert operator.attributes == {"last_name": "Ester", "initials": "T"}
    assert operator.attributes == create({"last_name": "Ester", "initials": "T"}).attributes
    assert operator.attributes != {"last_name": "Ester"}


def test_the_tasks_whose_xcoms_are_in_the_attributes_come_before() -> None:
    with DAG("order", schedule=None):
        first = create({"last_name": "x"}, task_id="first")
        second = create({"last_name": "y"}, task_id="second").output
        nested = create({"division_ids": [first.output]}, task_id="nested")
        whole = create(second, task_id="whole")
    assert nested.upstream_task_ids == {"first"}
    assert whole.upstream_task_ids == {"second"}
