"""
The public API as a user writes it, with mistakes that a type checker has to find.

Never run: ``make check`` has it checked by mypy and by pyright. Each mistake is marked as one to ignore,
and a mark where they find nothing is an error itself.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.exceptions import WebcamconsultConflictError, WebcamconsultValidationError
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.appointments import (
    WebcamconsultCreateAppointmentOperator,
    WebcamconsultDeleteAppointmentOperator,
    WebcamconsultListAppointmentsOperator,
)
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultUpdateClientOperator,
)
from airflow_provider_webcamconsult.operators.users import WebcamconsultGetUserOperator
from airflow_provider_webcamconsult.sandbox import Sandbox
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.api.resources import ClientAttributes


def one_client(context: Any) -> ClientAttributes:
    return {"last_name": "de Vries", "date_of_birth": datetime.date(1984, 12, 18)}


# What is right


def operators() -> None:
    client = WebcamconsultCreateClientOperator(
        task_id="client", attributes=one_client, if_exists="reuse", retries=3, pool="webcamconsult"
    )
    book = WebcamconsultCreateAppointmentOperator(
        task_id="book",
        attributes={
            "user_id": "{{ params.user_id }}",
            "client_id": client.output,
            "date": datetime.datetime(2030, 3, 1, 9, 30),
            "duration": 30,
        },
    )
    WebcamconsultUpdateClientOperator(
        task_id="update", client_id=client.output, attributes={"email": None}, strict=True
    )
    WebcamconsultListAppointmentsOperator(task_id="list", fields=["id", "state"])
    WebcamconsultDeleteAppointmentOperator.partial(task_id="delete").expand(appointment_id=["a", "b"])
    WebcamconsultAppointmentStateSensor(
        task_id="wait",
        appointment_id=book.output,
        target_states=["finished"],
        failed_states={"cancelled"},
        deferrable=True,
        poke_interval=60,
    )


def hook() -> None:
    webcamconsult = WebcamconsultHook("webcamconsult_default")
    for client in webcamconsult.clients.list():
        webcamconsult.clients.update(client["id"], {"reference_code": f"DL-{client['id']}"})
    try:
        booked = webcamconsult.appointments.create({"date": "2030-03-01T09:30", "duration": 30})
    except WebcamconsultConflictError as error:
        ids: list[str] = error.ids
        print(ids)
    except WebcamconsultValidationError as error:
        print(error.errors, error.status_code, error.reason)
    else:
        appointment_id: str = booked["id"]
        print(appointment_id, booked.get("state"))


def sandbox() -> None:
    with Sandbox(states="idle:1s,finished") as local:
        print(local.url, local.token, local.records("appointments"), local.requests[0].path)


# What is wrong


def a_misspelt_attribute() -> None:
    WebcamconsultCreateClientOperator(
        task_id="client",
        attributes={"lastname": "de Vries"},  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )
    WebcamconsultHook().clients.create(
        {"lastname": "de Vries"}  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def an_attribute_of_another_kind_of_record() -> None:
    WebcamconsultHook().users.update(
        "an-id",
        {"duration": 30},  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def an_attribute_of_the_wrong_type() -> None:
    WebcamconsultCreateAppointmentOperator(
        task_id="book",
        attributes={"duration": "an hour"},  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )
    WebcamconsultHook().appointments.update(
        "an-id",
        {"duration": "an hour"},  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]
    )


def what_the_service_makes_itself() -> None:
    WebcamconsultHook().users.create(
        {"full_name": 7}  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def a_callable_that_returns_something_else() -> None:
    def nothing(context: Any) -> str:
        return "de Vries"

    WebcamconsultCreateClientOperator(
        task_id="client",
        attributes=nothing,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def a_misspelt_choice() -> None:
    WebcamconsultCreateClientOperator(
        task_id="client",
        attributes=one_client,
        if_exists="adapt",  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def a_missing_id() -> None:
    WebcamconsultGetUserOperator(task_id="get")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def a_number_for_an_id() -> None:
    WebcamconsultGetUserOperator(
        task_id="get",
        user_id=12,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def a_number_for_states() -> None:
    WebcamconsultAppointmentStateSensor(
        task_id="wait",
        appointment_id="an-id",
        target_states=5,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def a_misspelt_name_in_an_answer() -> None:
    appointment = WebcamconsultHook().appointments.get("an-id")
    print(appointment["stat"])  # type: ignore[typeddict-item]  # pyright: ignore[reportGeneralTypeIssues]


def a_method_that_is_not_there() -> None:
    clients = WebcamconsultHook().clients
    clients.remove("an-id")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
