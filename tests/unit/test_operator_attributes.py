"""The attributes of an operator: templates and XComs without a value, what is shown, and switches."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
from typing import TYPE_CHECKING, Any

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.serialization.helpers import serialize_template_field

from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError
from airflow_provider_webcamconsult.operators.appointments import (
    WebcamconsultCreateAppointmentOperator,
    WebcamconsultDeleteAppointmentOperator,
    WebcamconsultUpdateAppointmentOperator,
)
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultUpdateClientOperator,
)
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor
from airflow_provider_webcamconsult.version_compat import ResolveMixin
from tests.unit.idempotent_create.airflow_task import TaskInstance

if TYPE_CHECKING:
    from tests.unit.conftest import Log, Service

CONSULT: dict[str, Any] = {"user_id": "u1", "client_id": "c1", "date": "2030-03-01T09:30"}


class Output(ResolveMixin):
    """An XCom, whose upstream task returned a value."""

    def __init__(self, value: Any) -> None:
        self.returned = value

    def iter_references(self) -> Any:
        return iter(())

    def resolve(self, context: Any, **_options: Any) -> Any:
        return self.returned

    def __repr__(self) -> str:
        return f"Output({self.returned})"


def client(attributes: Any, **arguments: Any) -> Any:
    return WebcamconsultCreateClientOperator(task_id="task", attributes=attributes, **arguments)


def consult(**attributes: Any) -> Any:
    given: Any = {**CONSULT, **attributes}
    return WebcamconsultCreateAppointmentOperator(task_id="task", attributes=given)


def rendered(operator: Any, **context: Any) -> Any:
    operator.render_template_fields(context)
    return operator


# What had no value when it was rendered


@pytest.mark.usefixtures("hook")
class TestWithoutValue:
    @pytest.mark.parametrize(
        ("attributes", "name"),
        [
            ({"client_id": Output(None)}, "client_id"),
            ({"duration": Output(None)}, "duration"),
            ({"inloop_json": {"deep": [1, Output(None)]}}, "inloop_json"),
            ({"external_participant_ids": ["p1", Output(None)]}, "external_participant_ids"),
            ({"inloop_json": (Output(None),)}, "inloop_json"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("action", ["create", "update"])
    def test_is_an_error(self, action: str, attributes: Any, name: str, service: Service) -> None:
        made = (
            consult(**attributes)
            if action == "create"
            else WebcamconsultUpdateAppointmentOperator(
                task_id="task", appointment_id="a1", attributes=attributes
            )
        )
        with pytest.raises(WebcamconsultInputError, match=f"template or XCom for {name} had no value"):
            rendered(made).execute({})
        assert service.requests == []

    def test_is_an_error_with_native_rendering(self, service: Service) -> None:
        with DAG("native", schedule=None, render_template_as_native_obj=True):
            made = client({"last_name": "Alders", "mobile_number": "{{ number }}"})
        with pytest.raises(WebcamconsultInputError, match="template or XCom for mobile_number had no value"):
            rendered(made.prepare_for_execution(), number=None).execute({})
        with pytest.raises(WebcamconsultInputError, match="'mobile_number' is of type int"):
            rendered(made.prepare_for_execution(), number="+31612345678").execute({})
        assert service.requests == []

    def test_is_an_error_in_a_mapped_task(self, service: Service) -> None:
        with DAG("mapped", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
            mapped: Any = WebcamconsultUpdateClientOperator.partial(
                task_id="task", attributes={"gender": Output(None)}
            ).expand(client_id=["c1"])
        made = mapped.unmap({"client_id": "c1"})
        with pytest.raises(WebcamconsultInputError, match="template or XCom for gender had no value"):
            rendered(made).execute({})
        assert service.requests == []

    def test_text_that_says_so_is_an_error_in_a_key(self, service: Service) -> None:
        with pytest.raises(WebcamconsultInputError, match=r"^Attribute 'email' is 'None'"):
            rendered(client({"last_name": "Alders", "email": "{{ email }}"}), email=None).execute({})
        assert service.requests == []

    @pytest.mark.parametrize(
        "attributes",
        [
            {"last_name": "x", "gender": None},
            lambda context: {"last_name": "x", "gender": None},
        ],
        ids=["written", "callable"],
    )
    def test_none_that_was_written_is_sent(self, attributes: Any, hook: Any, service: Service) -> None:
        stored = hook.clients.create({"last_name": "y", "gender": "female"})
        made = WebcamconsultUpdateClientOperator(
            task_id="task", client_id=stored["id"], attributes=attributes
        )
        rendered(made).execute({})
        (after,) = service.records("clients")
        assert (after["last_name"], after["gender"]) == ("x", None)

    @pytest.mark.parametrize("nothing", [None, "", " "])
    def test_in_an_xcom_of_all_attributes_clears_nothing(
        self, hook: Any, service: Service, nothing: str | None
    ) -> None:
        stored = hook.clients.create({"reference_code": "DL-1", "gender": "female"})
        row: Any = Output({"reference_code": "DL-1", "last_name": "x", "gender": nothing})
        for made in (
            WebcamconsultUpdateClientOperator(task_id="task", client_id=stored["id"], attributes=row),
            client(row, if_exists="update"),
        ):
            with pytest.raises(WebcamconsultInputError, match="has no value for gender, which would clear"):
                rendered(made).execute({})
        assert service.records("clients")[0]["gender"] == "female"
        rendered(client(Output({"last_name": "y", "gender": None}))).execute({})
        assert len(service.records("clients")) == 2

    def test_in_a_mapped_argument_clears_nothing(self, hook: Any, service: Service) -> None:
        stored = hook.clients.create({"last_name": "y", "gender": "female"})
        row: Any = {"client_id": stored["id"], "attributes": {"last_name": "x", "gender": None}}
        for attributes in (row["attributes"], lambda context: row["attributes"]):
            with DAG("mapped", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
                mapped: Any = WebcamconsultUpdateClientOperator.partial(task_id="task").expand_kwargs([row])
            made = rendered(mapped.unmap({**row, "attributes": attributes}))
            if callable(attributes):
                made.execute({})
            else:
                with pytest.raises(
                    WebcamconsultInputError, match="has no value for gender, which would clear"
                ):
                    made.execute({})
        assert [request.method for request in service.requests] == ["POST", "PUT"]

    def test_attributes_given_anew_are_sent(self, service: Service) -> None:
        made = rendered(client({"last_name": Output(None)}))
        made.attributes = {"last_name": "x"}
        made.execute({})
        assert len(service.records("clients")) == 1


@pytest.mark.parametrize("name", ["user_id", "client_id", "date"])
def test_a_consult_is_not_booked_with_none(name: str, hook: Any, service: Service) -> None:
    with pytest.raises(WebcamconsultInputError, match=f"None was given for {name}"):
        rendered(consult(**{name: None})).execute({})
    assert service.requests == []


# What is shown


def values_of(thing: Any) -> str:
    """Return what a listener gets that sends vars() as JSON, as OpenLineage does with the full task info."""

    def default(value: Any) -> Any:
        return getattr(value, "__dict__", None) or str(value)

    excluded = ("_dag", "_log", "task_group", "params", "_lock_for_execution")
    shown = {name: value for name, value in vars(thing).items() if name not in excluded}
    return f"{shown} {json.dumps(shown, default=default, skipkeys=True)}"


COPIES = {
    "itself": lambda made: made,
    "copy": copy.copy,
    "deep copy": copy.deepcopy,
    "pickle": lambda made: pickle.loads(pickle.dumps(made)),  # noqa: S301
    "prepared": lambda made: made.prepare_for_execution(),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_the_values_are_not_in_the_vars_of_a_task(copied: Any, hook: Any, service: Service) -> None:
    attributes = {"last_name": "{{ name }}", "division_ids": ["d1"]}
    made = rendered(copied(client(attributes)), name="Ester")
    assert "Ester" not in values_of(made)
    assert "last_name" in str(made.attributes)
    again = copied(made)
    assert "Ester" not in values_of(again)
    again.execute({})
    assert service.records("clients")[0]["last_name"] == "Ester"


class Plain:
    """As a DagParam: its text is a memory address."""


@pytest.mark.parametrize(
    "value",
    [Plain(), [Plain()], {"a": Plain()}, {"b": {"x", "y"}}, (Plain, Plain()), print],
    ids=["object", "in a list", "in a dict", "set in a dict", "class and object", "function"],
)
def test_what_is_stored_has_no_memory_address(value: Any) -> None:
    shown = json.dumps(serialize_template_field(consult(client_id=value).attributes, "attributes"))
    assert "0x" not in shown
    assert " at " not in shown


def test_a_parameter_of_the_dag_is_stored_the_same_each_time() -> None:
    def parsed() -> str:
        with DAG("parameter", schedule=None, params={"user_id": "x"}) as dag:
            made = consult(user_id=dag.param("user_id"), client_id=Plain())
        return str(serialize_template_field(made.attributes, "attributes"))

    assert parsed() == parsed()
    assert "<DagParam>" in parsed()


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{ task.attributes['date'] }}", "2030-03-01T09:30"),
        ("{{ task.attributes.date }}", "2030-03-01T09:30"),
        ("{{ task.attributes.get('client_id') }}", "c1"),
        ("{{ task.attributes['inloop_json'] }}", "***"),
        ("{{ task.attributes.inloop_json }}", "***"),
        ("{{ task.attributes.get('inloop_json') }}", "***"),
        ("{{ task.attributes.inloop_json | string | upper }}", "***"),
    ],
)
def test_a_template_shows_what_is_not_personal(template: str, shown: str) -> None:
    made = consult(inloop_json={"complaint": "cough"})
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    assert environment.from_string(template).render(task=made) == shown


def test_a_template_shows_nothing_of_a_callable() -> None:
    made = client(lambda context: {"last_name": "Ester"})
    assert jinja2.Template("{{ task.attributes['id'] }}").render(task=made) == "***"


@pytest.mark.usefixtures("hook")
def test_a_masked_value_is_never_sent(service: Service) -> None:
    class Extended(WebcamconsultCreateClientOperator):
        def execute(self, context: Any) -> str:
            self.attributes = {**self.attributes, "gender": "female"}
            return super().execute(context)

    for attributes in ({"last_name": "Ester"}, {"external": ["Ester"]}, lambda context: {"last_name": "x"}):
        with pytest.raises(WebcamconsultInputError, match=r"MaskedValue|'attributes\.value'"):
            Extended(task_id="task", attributes=attributes).execute({})  # type: ignore[arg-type]
    assert service.requests == []


# Switches


@pytest.mark.parametrize("value", ["False", "True", 1, 0, None, "{{ params.x }}"], ids=repr)
@pytest.mark.usefixtures("hook")
def test_a_switch_is_true_or_false(value: Any, service: Service) -> None:
    deletes = WebcamconsultDeleteAppointmentOperator(
        task_id="delete", appointment_id="a1", ignore_if_missing=value
    )
    updates = WebcamconsultUpdateClientOperator(
        task_id="update", client_id="c1", attributes={"gender": "x"}, strict=value
    )
    for name, made in (
        ("ignore_if_missing", deletes),
        ("strict", updates),
        ("strict", client({"last_name": "x"}, strict=value)),
    ):
        with pytest.raises(WebcamconsultInputError, match=f"^{name} is of type"):
            made.execute({})
    for name in ("deferrable", "end_from_trigger"):
        switches: Any = {"deferrable": False, name: value}
        sensor = WebcamconsultAppointmentStateSensor(task_id="wait", appointment_id="a1", **switches)
        with pytest.raises(WebcamconsultInputError, match=f"^{name} is of type"):
            sensor.poke({})
    assert service.requests == []


# A retry that cannot know what an earlier try sent


@pytest.mark.parametrize(("has_store", "retried"), [(False, True), (True, True), (False, False)])
@pytest.mark.usefixtures("hook")
def test_a_retry_without_a_store_warns(has_store: bool, retried: bool, log: Log) -> None:
    instance = TaskInstance(has_store=has_store)
    instance.task.retry_delay = datetime.timedelta(hours=1)
    if retried:
        instance.retry()
    client({"reference_code": "DL-1"}).execute(instance.context)
    found = [warning for warning in log.warnings if "does not store what an earlier try sent" in warning]
    assert bool(found) is (retried and not has_store)
    assert not found or "A client of an earlier try is found only" in found[0]
    assert not found or "(reference_code or email)" in found[0]
