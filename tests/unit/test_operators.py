"""The operators, as Airflow uses them: made, rendered, mapped, executed."""

from __future__ import annotations

import datetime
import inspect
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
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

# Every attribute that is a person's, and some that are not.
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


def make(operator: Any, **arguments: Any) -> Any:
    """Make an operator with what its class wants at the least."""
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
    """Make a record of the kind; the connection of the operators is the hook's."""
    made: dict[str, Any] = getattr(hook, f"{kind}s").create(ATTRIBUTES[kind])
    return made


# What each does and returns


def test_there_is_an_operator_for_each_action_of_the_document() -> None:
    assert len(set(ALL)) == 15


@pytest.mark.usefixtures("hook")
def test_create_returns_the_id_alone(kind: str, service: Service) -> None:
    returned = make(CREATE[kind]).execute({})
    (stored,) = service.records(f"{kind}s")
    assert returned == stored["id"]
    assert stored["user_id" if kind == "appointment" else "last_name"] in ATTRIBUTES[kind].values()


def test_update_changes_what_is_given_and_returns_the_id(
    kind: str, record: dict[str, Any], service: Service
) -> None:
    change = {"duration": 45} if kind == "appointment" else {"last_name": "Bakkermans"}
    returned = make(UPDATE[kind], attributes=change, **{f"{kind}_id": record["id"]}).execute({})
    (stored,) = service.records(f"{kind}s")
    assert returned == record["id"]
    assert {name for name in record if stored[name] != record[name]} <= {
        *change,
        "full_name",
        "client_full_name",
    }
    assert stored.items() >= change.items()


def test_delete_ends_the_record_and_returns_nothing(
    kind: str, record: dict[str, Any], service: Service
) -> None:
    assert make(DELETE[kind], **{f"{kind}_id": record["id"]}).execute({}) is None
    assert service.records(f"{kind}s") == []


def test_a_record_that_is_not_there_cannot_be_deleted(kind: str, hook: WebcamconsultHook) -> None:
    operator = make(DELETE[kind], **{f"{kind}_id": "5492ba6da19ea682ea000001"})
    with pytest.raises(WebcamconsultNotFoundError):
        operator.execute({})


NOT_PERSONAL = {
    "user": {"id", "roles"},
    "client": {"id", "division_ids"},
    "appointment": {
        "id", "user_id", "client_id", "created_by_user_id", "date", "division_id", "duration",
        "external_participant_ids", "state",
    },
}  # fmt: skip


@pytest.mark.parametrize("action", ["get", "list"])
def test_reading_returns_by_default_what_is_not_personal(
    action: str, kind: str, record: dict[str, Any]
) -> None:
    if action == "get":
        read = make(GET[kind], **{f"{kind}_id": record["id"]}).execute({})
    else:
        (read,) = make(LIST[kind]).execute({})
    assert read == {name: record[name] for name in NOT_PERSONAL[kind]}


@pytest.mark.parametrize("action", ["get", "list"])
def test_reading_returns_the_named_attributes_and_none_for_what_is_not_there(
    action: str, kind: str, record: dict[str, Any]
) -> None:
    name = {"user": "email", "client": "last_name", "appointment": "inloop_json"}[kind]
    arguments = {"fields": [name, "no_such_thing"]}
    if action == "get":
        read = make(GET[kind], **{f"{kind}_id": record["id"]}, **arguments).execute({})
    else:
        (read,) = make(LIST[kind], **arguments).execute({})
    assert read == {name: ATTRIBUTES[kind][name], "no_such_thing": None}


def test_an_unknown_field_is_warned_of(log: Log, hook: WebcamconsultHook) -> None:
    make(LIST["client"], fields=["lastname"]).execute({})
    assert any("'lastname'" in warning and "'last_name'?" in warning for warning in log.warnings)


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
        ("client", "id", "must be a list of attribute names"),
        ("client", "['id']", "must be a list of attribute names"),
        ("client", 3, "must be a list of attribute names"),
        ("client", {"id": True}, "must be a list of attribute names"),
    ],
)
@pytest.mark.parametrize("action", [GET, LIST], ids=["get", "list"])
def test_fields_that_cannot_be_returned_are_refused_before_anything_is_read(
    action: dict[str, Any], kind: str, fields: Any, problem: str, hook: WebcamconsultHook, service: Service
) -> None:
    with pytest.raises(WebcamconsultInputError, match=problem):
        make(action[kind], fields=fields).execute({})
    assert service.requests == []


@pytest.mark.usefixtures("hook")
def test_no_personal_data_is_logged(kind: str, service: Service, log: Log) -> None:
    record_id = make(CREATE[kind]).execute({})
    make(UPDATE[kind], **{f"{kind}_id": record_id}).execute({})
    make(LIST[kind], fields=["last_name"]).execute({})
    assert record_id in log.text
    for value in ("Akkermans", "Ester", "example.com", "1984"):
        assert value not in log.text


@pytest.mark.filterwarnings("ignore:Setting email")
def test_the_mail_address_for_failures_is_not_the_persons(hook: WebcamconsultHook, service: Service) -> None:
    WebcamconsultCreateUserOperator(
        task_id="task", email="operations@example.com", attributes={"last_name": "Akkermans"}
    ).execute({})
    assert service.records("users")[0]["email"] is None


# What is refused


@pytest.mark.parametrize("operator", ONE_RECORD)
@pytest.mark.parametrize("record_id", [None, "", "None", "a/b", "a?b"], ids=repr)
def test_an_id_that_cannot_be_one_is_refused_by_its_name(
    operator: Any, record_id: Any, hook: WebcamconsultHook, service: Service
) -> None:
    name = f"{operator.resource.name}_id"
    with pytest.raises(WebcamconsultInputError, match=f"^{name} "):
        make(operator, **{name: record_id}).execute({})
    assert service.requests == []


@pytest.mark.parametrize("operator", WRITES)
@pytest.mark.parametrize("attributes", [None, "", "{'last_name': 'x'}", [], {}, {"id": "an-id"}], ids=repr)
@pytest.mark.parametrize("as_callable", [False, True])
def test_attributes_that_are_nothing_to_write_are_refused(
    operator: Any, attributes: Any, as_callable: bool, hook: WebcamconsultHook, service: Service
) -> None:
    given = (lambda context: attributes) if as_callable else attributes
    with pytest.raises(WebcamconsultInputError, match=f"^The attributes of an? {operator.resource.name} "):
        make(operator, attributes=given).execute({})
    assert service.requests == []


@pytest.mark.parametrize("name", ["user_id", "client_id", "created_by_user_id", "division_id"])
@pytest.mark.parametrize("value", ["", "None"])
def test_a_consult_for_nobody_is_refused(
    name: str, value: str, hook: WebcamconsultHook, service: Service
) -> None:
    operator = make(CREATE["appointment"], attributes={name: value, "date": "2030-03-01T09:30"})
    with pytest.raises(WebcamconsultInputError, match=rf"Attribute '{name}' is {value!r}\. A template"):
        operator.execute({})
    assert service.requests == []


@pytest.mark.parametrize("operator", UPDATE.values())
def test_the_attributes_of_another_record_are_refused(
    operator: Any, hook: WebcamconsultHook, service: Service
) -> None:
    with pytest.raises(WebcamconsultInputError, match="a different 'id' than"):
        make(operator, attributes={"id": "an-other", "last_name": "x"}).execute({})
    assert service.requests == []


# Made, rendered, mapped


@pytest.mark.parametrize("operator", ALL)
def test_an_operator_can_be_made_without_its_connection(operator: Any) -> None:
    made = make(operator, webcamconsult_conn_id="nowhere")
    with pytest.raises(WebcamconsultConfigurationError, match="no connection 'nowhere'"):
        made.execute({})


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
def test_what_is_rendered_is_what_is_used(operator: Any, hook: WebcamconsultHook, service: Service) -> None:
    made = make(
        operator,
        **{
            name: {
                "attributes": {"email": "{{ value }}", "list": ["{{ value }}"]},
                "fields": ["{{ value }}"],
            }.get(name, "{{ value }}")
            for name in operator.template_fields
        },
    )
    made.render_template_fields({"value": "rendered"})
    for name in operator.template_fields:
        expected = {"attributes": {"email": "rendered", "list": ["rendered"]}, "fields": ["rendered"]}
        assert getattr(made, name) == expected.get(name, "rendered")
    assert made.hook.webcamconsult_conn_id == "rendered"


def test_a_date_survives_rendering(hook: WebcamconsultHook, service: Service) -> None:
    moment = datetime.datetime(2030, 3, 1, 9, 30, tzinfo=datetime.timezone.utc)
    made = make(CREATE["appointment"], attributes={"user_id": "{{ user }}", "date": moment})
    made.render_template_fields({"user": "u1"})
    made.execute({})
    (stored,) = service.records("appointments")
    assert (stored["user_id"], stored["date"]) == ("u1", "2030-03-01T10:30:00.000+01:00")


@pytest.mark.parametrize("operator", WRITES)
def test_a_callable_is_called_in_the_task_alone_with_its_context(
    operator: Any, hook: WebcamconsultHook, service: Service
) -> None:
    contexts = []

    def attributes(context: Any) -> Any:
        contexts.append(context)
        return ATTRIBUTES[operator.resource.name]

    name = operator.resource.name
    made = make(operator, attributes=attributes)
    if operator in UPDATE.values():
        setattr(made, f"{name}_id", getattr(hook, f"{name}s").create(ATTRIBUTES[name])["id"])
    made.render_template_fields({"value": "rendered"})
    assert contexts == []
    context = {"task": "this"}
    made.execute(context)
    assert contexts == [context]


@pytest.mark.parametrize("operator", WRITES)
def test_what_a_callable_returns_is_neither_rendered_nor_kept(operator: Any, hook: WebcamconsultHook) -> None:
    def patient(context: Any) -> Any:
        return {"last_name": "{{ value }}"}

    made = make(operator, attributes=patient)
    made.render_template_fields({"value": "rendered"})
    assert made._attributes_now({}) == {"last_name": "{{ value }}"}
    # What Airflow stores and shows of a template field is this.
    assert repr(made.attributes).startswith("<attributes from ")
    assert "patient" in repr(made.attributes)


@pytest.mark.parametrize("operator", ALL)
def test_an_operator_can_be_mapped(operator: Any) -> None:
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
            made = task.unmap({name: mapped[name][1]})
            assert getattr(made, name) == mapped[name][1]
            assert dag.has_task(name)


def test_one_id_flows_into_the_next_task() -> None:
    with DAG("flow", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
        user = make(CREATE["user"])
        book = WebcamconsultCreateAppointmentOperator(
            task_id="book", attributes={"user_id": user.output, "date": "2030-03-01T09:30"}
        )
        delete = WebcamconsultDeleteAppointmentOperator(task_id="delete", appointment_id=book.output)
    assert book.upstream_task_ids == {"task"}
    assert delete.upstream_task_ids == {"book"}
