"""The operators as Airflow uses them: created, rendered, mapped and executed."""

from __future__ import annotations

import datetime
import inspect
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConnectionError,
    WebcamconsultInputError,
    WebcamconsultNotFoundError,
)
from airflow_provider_webcamconsult.operators.appointments import (
    WebcamconsultCreateAppointmentOperator,
    WebcamconsultDeleteAppointmentOperator,
    WebcamconsultGetAppointmentOperator,
    WebcamconsultListAppointmentsOperator,
    WebcamconsultUpdateAppointmentOperator,
)
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultDeleteClientOperator,
    WebcamconsultGetClientOperator,
    WebcamconsultListClientsOperator,
    WebcamconsultUpdateClientOperator,
)
from airflow_provider_webcamconsult.operators.users import (
    WebcamconsultCreateUserOperator,
    WebcamconsultDeleteUserOperator,
    WebcamconsultGetUserOperator,
    WebcamconsultListUsersOperator,
    WebcamconsultUpdateUserOperator,
)

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Log, Service

KINDS = ("user", "client", "appointment")
CREATE: dict[str, Any] = {
    "user": WebcamconsultCreateUserOperator,
    "client": WebcamconsultCreateClientOperator,
    "appointment": WebcamconsultCreateAppointmentOperator,
}
UPDATE: dict[str, Any] = {
    "user": WebcamconsultUpdateUserOperator,
    "client": WebcamconsultUpdateClientOperator,
    "appointment": WebcamconsultUpdateAppointmentOperator,
}
DELETE: dict[str, Any] = {
    "user": WebcamconsultDeleteUserOperator,
    "client": WebcamconsultDeleteClientOperator,
    "appointment": WebcamconsultDeleteAppointmentOperator,
}
GET: dict[str, Any] = {
    "user": WebcamconsultGetUserOperator,
    "client": WebcamconsultGetClientOperator,
    "appointment": WebcamconsultGetAppointmentOperator,
}
LIST: dict[str, Any] = {
    "user": WebcamconsultListUsersOperator,
    "client": WebcamconsultListClientsOperator,
    "appointment": WebcamconsultListAppointmentsOperator,
}
ALL = [operator for action in (CREATE, UPDATE, DELETE, GET, LIST) for operator in action.values()]
WRITES = [*CREATE.values(), *UPDATE.values()]
ONE_RECORD = [*UPDATE.values(), *DELETE.values(), *GET.values()]

# Personal and non-personal attributes.
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "user": {"last_name": "Akkermans", "email": "jakkermans@example.com", "city": "Ergens"},
    "client": {
        "last_name": "Ester",
        "date_of_birth": "1984-12-18",
        "division_ids": ["d1"],
        "mobile_number": "06",
    },
    "appointment": {
        "user_id": "u1",
        "client_id": "c1",
        "date": "2030-03-01T09:30",
        "duration": 30,
        "inloop_json": {"email": "t.de.ester@example.com"},
    },
}


def make_operator(operator: Any, **arguments: Any) -> Any:
    """Create an operator with the required arguments of its class."""
    resource, parameters = operator.resource, inspect.signature(operator.__init__).parameters
    if f"{resource.name}_id" in parameters:
        arguments.setdefault(f"{resource.name}_id", "an-id")
    if "attributes" in parameters:
        arguments.setdefault("attributes", ATTRIBUTES[resource.name])
    return operator(task_id="task", **arguments)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def record(kind: str, hook: WebcamconsultHook) -> dict[str, Any]:
    """Create a record of the kind; the operators use the same connection as the hook."""
    created: dict[str, Any] = getattr(hook, f"{kind}s").create(ATTRIBUTES[kind])
    return created


# Effects and return values


def test_each_documented_action_has_an_operator() -> None:
    assert len(set(ALL)) == 15


@pytest.mark.usefixtures("hook")
def test_create_returns_only_the_id(kind: str, service: Service) -> None:
    returned = make_operator(CREATE[kind]).execute({})
    (stored,) = service.records(f"{kind}s")
    assert returned == stored["id"]
    assert stored["user_id" if kind == "appointment" else "last_name"] in ATTRIBUTES[kind].values()


def test_update_changes_only_given_attributes_and_returns_the_id(
    kind: str, record: dict[str, Any], service: Service
) -> None:
    change = {"duration": 45} if kind == "appointment" else {"last_name": "Bakkermans"}
    returned = make_operator(UPDATE[kind], attributes=change, **{f"{kind}_id": record["id"]}).execute({})
    (stored,) = service.records(f"{kind}s")
    assert returned == record["id"]
    assert {name for name in record if stored[name] != record[name]} <= {
        *change,
        "full_name",
        "client_full_name",
    }
    assert stored.items() >= change.items()


def test_delete_removes_record_and_returns_none(kind: str, record: dict[str, Any], service: Service) -> None:
    assert make_operator(DELETE[kind], **{f"{kind}_id": record["id"]}).execute({}) is None
    assert service.records(f"{kind}s") == []


def test_delete_of_missing_record_raises(kind: str, hook: WebcamconsultHook) -> None:
    operator = make_operator(DELETE[kind], **{f"{kind}_id": "5492ba6da19ea682ea000001"})
    with pytest.raises(WebcamconsultNotFoundError):
        operator.execute({})


NON_PERSONAL = {
    "user": {"id", "roles"},
    "client": {"id", "division_ids"},
    "appointment": {
        "id", "user_id", "client_id", "created_by_user_id", "date", "division_id", "duration",
        "external_participant_ids", "state",
    },
}  # fmt: skip


@pytest.mark.parametrize("action", ["get", "list"])
def test_get_and_list_return_only_non_personal_attributes_by_default(
    action: str, kind: str, record: dict[str, Any]
) -> None:
    if action == "get":
        read = make_operator(GET[kind], **{f"{kind}_id": record["id"]}).execute({})
    else:
        (read,) = make_operator(LIST[kind]).execute({})
    assert read == {name: record[name] for name in NON_PERSONAL[kind]}


@pytest.mark.parametrize("action", ["get", "list"])
def test_get_and_list_return_requested_fields_and_none_for_missing_ones(
    action: str, kind: str, record: dict[str, Any]
) -> None:
    name = {"user": "email", "client": "last_name", "appointment": "inloop_json"}[kind]
    arguments = {"fields": [name, "no_such_attribute"]}
    if action == "get":
        read = make_operator(GET[kind], **{f"{kind}_id": record["id"]}, **arguments).execute({})
    else:
        (read,) = make_operator(LIST[kind], **arguments).execute({})
    assert read == {name: ATTRIBUTES[kind][name], "no_such_attribute": None}


def test_unknown_field_warns(log: Log, hook: WebcamconsultHook) -> None:
    make_operator(LIST["client"], fields=["phone_number"]).execute({})
    assert any("'phone_number'" in warning for warning in log.warnings)


@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        (
            "user",
            ["id", "authentication_token"],
            "contains credentials, which are never returned: authentication_token",
        ),
        (
            "client",
            ["id", "authentication_token"],
            "contains credentials, which are never returned: authentication_token",
        ),
        ("appointment", ["token"], "contains credentials, which are never returned: token"),
        (
            "appointment",
            ["authentication_token"],
            "contains credentials, which are never returned: authentication_token",
        ),
        ("client", ["lastname"], "'lastname' of a client is not in the API document.*'last_name'"),
        ("appointment", ["stat"], "'stat' of an appointment is not in the API document.*'state'"),
        ("client", "id", "must be a list of attribute names"),
        ("client", "['id']", "must be a list of attribute names"),
        ("client", 3, "must be a list of attribute names"),
        ("client", {"id": True}, "must be a list of attribute names"),
    ],
)
@pytest.mark.parametrize("action", [GET, LIST], ids=["get", "list"])
def test_invalid_fields_are_rejected_before_any_request(
    action: dict[str, Any], kind: str, fields: Any, problem: str, hook: WebcamconsultHook, service: Service
) -> None:
    with pytest.raises(WebcamconsultInputError, match=problem):
        make_operator(action[kind], fields=fields).execute({})
    assert service.requests == []


@pytest.mark.usefixtures("hook")
def test_no_personal_data_is_logged(kind: str, service: Service, log: Log) -> None:
    record_id = make_operator(CREATE[kind]).execute({})
    make_operator(UPDATE[kind], **{f"{kind}_id": record_id}).execute({})
    make_operator(LIST[kind], fields=["last_name"]).execute({})
    assert record_id in log.text
    for value in ("Akkermans", "Ester", "example.com", "1984"):
        assert value not in log.text


@pytest.mark.filterwarnings("ignore:Setting email")
def test_email_argument_of_task_is_not_sent_as_email_of_user(
    hook: WebcamconsultHook, service: Service
) -> None:
    WebcamconsultCreateUserOperator(
        task_id="task", email="operations@example.com", attributes={"last_name": "Akkermans"}
    ).execute({})
    assert service.records("users")[0]["email"] is None


# Rejected arguments


@pytest.mark.parametrize("operator", ONE_RECORD)
@pytest.mark.parametrize("record_id", [None, "", "None", "a/b", "a?b"], ids=repr)
def test_invalid_id_is_rejected_by_parameter_name(
    operator: Any, record_id: Any, hook: WebcamconsultHook, service: Service
) -> None:
    name = f"{operator.resource.name}_id"
    with pytest.raises(WebcamconsultInputError, match=f"^{name} "):
        make_operator(operator, **{name: record_id}).execute({})
    assert service.requests == []


@pytest.mark.parametrize("operator", WRITES)
@pytest.mark.parametrize("attributes", [None, "", "{'last_name': 'x'}", [], {}, {"id": "an-id"}], ids=repr)
@pytest.mark.parametrize("as_callable", [False, True])
def test_attributes_without_writable_content_are_rejected(
    operator: Any, attributes: Any, as_callable: bool, hook: WebcamconsultHook, service: Service
) -> None:
    given = (lambda context: attributes) if as_callable else attributes
    with pytest.raises(WebcamconsultInputError, match=f"^The attributes of an? {operator.resource.name} "):
        make_operator(operator, attributes=given).execute({})
    assert service.requests == []


@pytest.mark.parametrize("name", ["user_id", "client_id", "created_by_user_id", "division_id"])
@pytest.mark.parametrize("value", ["", "None"])
def test_appointment_with_empty_reference_is_rejected(
    name: str, value: str, hook: WebcamconsultHook, service: Service
) -> None:
    operator = make_operator(CREATE["appointment"], attributes={name: value, "date": "2030-03-01T09:30"})
    with pytest.raises(WebcamconsultInputError, match=rf"Attribute '{name}' is {value!r}.* template"):
        operator.execute({})
    assert service.requests == []


@pytest.mark.parametrize("operator", UPDATE.values())
def test_attributes_of_another_record_are_rejected(
    operator: Any, hook: WebcamconsultHook, service: Service
) -> None:
    with pytest.raises(WebcamconsultInputError, match="'id' in the attributes differs from"):
        make_operator(operator, attributes={"id": "an-other", "last_name": "x"}).execute({})
    assert service.requests == []


@pytest.mark.parametrize("operator", CREATE.values())
def test_unknown_if_exists_is_rejected_when_the_dag_is_parsed(operator: Any) -> None:
    with pytest.raises(WebcamconsultInputError, match="if_exists must be one of create, reuse, update, fail"):
        make_operator(operator, if_exists="upsert")


# Creation, rendering and mapping


@pytest.mark.parametrize("operator", ALL)
def test_operator_can_be_created_without_its_connection(operator: Any) -> None:
    created = make_operator(operator, webcamconsult_conn_id="nowhere")
    with pytest.raises(WebcamconsultConnectionError, match="no connection 'nowhere'"):
        created.execute({})


@pytest.mark.parametrize("operator", ALL)
def test_all_parameters_are_templated(operator: Any) -> None:
    parameters = inspect.signature(operator.__init__).parameters.keys() - {
        "self",
        "kwargs",
        "strict",
        "ignore_if_missing",
    }
    assert set(operator.template_fields) == parameters


@pytest.mark.parametrize("operator", ALL)
def test_rendered_values_are_used(operator: Any, hook: WebcamconsultHook, service: Service) -> None:
    created = make_operator(
        operator,
        **{
            name: {
                "attributes": {"email": "{{ value }}", "list": ["{{ value }}"]},
                "fields": ["{{ value }}"],
            }.get(name, "{{ value }}")
            for name in operator.template_fields
        },
    )
    created.render_template_fields({"value": "rendered"})
    for name in operator.template_fields:
        expected = {"attributes": {"email": "rendered", "list": ["rendered"]}, "fields": ["rendered"]}
        assert getattr(created, name) == expected.get(name, "rendered")
    assert created.hook.webcamconsult_conn_id == "rendered"


def test_datetime_survives_rendering(hook: WebcamconsultHook, service: Service) -> None:
    moment = datetime.datetime(2030, 3, 1, 9, 30, tzinfo=datetime.timezone.utc)
    created = make_operator(CREATE["appointment"], attributes={"user_id": "{{ user }}", "date": moment})
    created.render_template_fields({"user": "u1"})
    created.execute({})
    (stored,) = service.records("appointments")
    assert (stored["user_id"], stored["date"]) == ("u1", "2030-03-01T10:30:00.000+01:00")


@pytest.mark.parametrize("operator", WRITES)
def test_callable_is_called_only_on_execute_with_the_context(
    operator: Any, hook: WebcamconsultHook, service: Service
) -> None:
    contexts = []

    def attributes(context: Any) -> Any:
        contexts.append(context)
        return ATTRIBUTES[operator.resource.name]

    name = operator.resource.name
    created = make_operator(operator, attributes=attributes)
    if operator in UPDATE.values():
        setattr(created, f"{name}_id", getattr(hook, f"{name}s").create(ATTRIBUTES[name])["id"])
    created.render_template_fields({"value": "rendered"})
    assert contexts == []
    context = {"task": "this"}
    created.execute(context)
    assert contexts == [context]


@pytest.mark.parametrize("operator", WRITES)
def test_result_of_callable_is_neither_rendered_nor_stored(operator: Any, hook: WebcamconsultHook) -> None:
    def patient(context: Any) -> Any:
        return {"last_name": "{{ value }}"}

    created = make_operator(operator, attributes=patient)
    created.render_template_fields({"value": "rendered"})
    assert created._attributes_now({}) == {"last_name": "{{ value }}"}
    # Airflow stores and shows a template field as this text.
    assert repr(created.attributes).startswith("<attributes from ")
    assert "patient" in repr(created.attributes)


@pytest.mark.parametrize("operator", ALL)
def test_operator_can_be_mapped(operator: Any) -> None:
    mapped: dict[str, Any] = {
        "attributes": [{"last_name": "Akkermans"}, {"last_name": "Ester"}],
        "fields": [["id"], ["last_name"]],
        f"{operator.resource.name}_id": ["an-id", "an-other"],
    }
    with DAG("mapped", schedule=None, start_date=datetime.datetime(2026, 1, 1)) as dag:
        for name in mapped.keys() & set(operator.template_fields):
            others = {
                other: mapped[other][0] for other in mapped.keys() & set(operator.template_fields) - {name}
            }
            task = operator.partial(task_id=name, **others).expand(**{name: mapped[name]})
            created = task.unmap({name: mapped[name][1]})
            assert getattr(created, name) == mapped[name][1]
            assert dag.has_task(name)


def test_returned_id_can_be_passed_to_the_next_task() -> None:
    with DAG("flow", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
        user = make_operator(CREATE["user"])
        book = WebcamconsultCreateAppointmentOperator(
            task_id="book", attributes={"user_id": user.output, "date": "2030-03-01T09:30"}
        )
        delete = WebcamconsultDeleteAppointmentOperator(task_id="delete", appointment_id=book.output)
    assert book.upstream_task_ids == {"task"}
    assert delete.upstream_task_ids == {"book"}
