"""
The public API as users call it, with mistakes that a type checker must find.

This module is never run: ``make check`` checks it with mypy and pyright. Each mistake has an ignore comment,
and an unused ignore comment is an error.
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
    WebcamconsultSyncClientsOperator,
    WebcamconsultUpdateClientOperator,
)
from airflow_provider_webcamconsult.operators.users import (
    WebcamconsultGetUserOperator,
    WebcamconsultSyncUsersOperator,
)
from airflow_provider_webcamconsult.sandbox import Sandbox
from airflow_provider_webcamconsult.sensors.appointments import (
    WebcamconsultAppointmentStateSensor,
    WebcamconsultAppointmentTimeSensor,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_webcamconsult.api.resources import ClientAttributes


def one_client(context: Any) -> ClientAttributes:
    return {"last_name": "de Vries", "date_of_birth": datetime.date(1984, 12, 18)}


# Valid uses


def some_rows(context: Any) -> Iterator[dict[str, Any]]:
    yield {"email": "a@example.com"}


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
    WebcamconsultSyncClientsOperator(
        task_id="sync_file", rows="s3://exports/{{ ds }}.csv", key="reference_code", mode="update"
    )
    WebcamconsultSyncUsersOperator(task_id="sync_rows", rows=some_rows, max_deletes=20, workers=8)
    WebcamconsultAppointmentStateSensor(
        task_id="wait",
        appointment_id=book.output,
        target_states=["finished"],
        failed_states={"cancelled"},
        deferrable=True,
        poke_interval=60,
    )
    WebcamconsultAppointmentStateSensor(
        task_id="wait_for_many", appointment_ids=["a", "b"], wait_for="any", deferrable=True
    )
    WebcamconsultAppointmentTimeSensor(
        task_id="remind",
        appointment_id=book.output,
        offset=datetime.timedelta(hours=-1),
        cancelled_states=["cancelled"],
        if_cancelled="fail",
        max_lateness=None,
    )


def hook() -> None:
    webcamconsult = WebcamconsultHook("webcamconsult_default")
    result = webcamconsult.clients.sync([{"reference_code": "DL-1"}], key="reference_code", mode="mirror")
    print(result.created, [failure.row for failure in result.failures])
    for client in webcamconsult.clients.list():
        webcamconsult.clients.update(client["id"], {"reference_code": f"DL-{client['id']}"})
    durations = [appointment["duration"] or 0 for appointment in webcamconsult.appointments.iterate()]
    print(sum(durations))
    try:
        booked = webcamconsult.appointments.create({"date": "2030-03-01T09:30", "duration": 30})
    except WebcamconsultConflictError as error:
        ids: list[str] = error.ids
        print(ids)
    except WebcamconsultValidationError as error:
        print(error.errors, error.status_code, error.reason)
    else:
        appointment_id: str = booked["id"]
        print(appointment_id, booked["state"])


def sandbox() -> None:
    with Sandbox(states="idle:1s,finished") as local:
        print(local.url, local.token, local.records("appointments"), local.requests[0].path)


# Mistakes


def misspelt_attribute() -> None:
    WebcamconsultCreateClientOperator(
        task_id="client",
        attributes={"lastname": "de Vries"},  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    )
    WebcamconsultHook().clients.create(
        {"lastname": "de Vries"}  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    )


def misspelt_attribute_beside_values_of_unknown_type(row: dict[str, Any]) -> None:
    WebcamconsultHook().clients.create(
        {
            "reference_code": row["code"],
            "lastname": "de Vries",  # type: ignore[dict-item]
        }  # pyright: ignore[reportArgumentType]
    )


def attribute_of_another_resource() -> None:
    WebcamconsultHook().users.update(
        "an-id",
        {"duration": 30},  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    )


def attribute_of_wrong_type() -> None:
    WebcamconsultCreateAppointmentOperator(
        task_id="book",
        attributes={"duration": [30]},  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    )
    WebcamconsultHook().appointments.update(
        "an-id",
        {"duration": [30]},  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    )


def read_only_attribute() -> None:
    WebcamconsultHook().users.create(
        {"full_name": 7}  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    )


def callable_with_wrong_return_type() -> None:
    def last_name(context: Any) -> str:
        return "de Vries"

    WebcamconsultCreateClientOperator(
        task_id="client",
        attributes=last_name,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def misspelt_if_exists() -> None:
    WebcamconsultCreateClientOperator(
        task_id="client",
        attributes=one_client,
        if_exists="adapt",  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def missing_id() -> None:
    WebcamconsultGetUserOperator(task_id="get")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def number_as_id() -> None:
    WebcamconsultGetUserOperator(
        task_id="get",
        user_id=12,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def number_as_states() -> None:
    WebcamconsultAppointmentStateSensor(
        task_id="wait",
        appointment_id="an-id",
        target_states=5,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def misspelt_attribute_of_response() -> None:
    appointment = WebcamconsultHook().appointments.get("an-id")
    print(appointment["stat"])  # type: ignore[typeddict-item]  # pyright: ignore[reportGeneralTypeIssues]


def attribute_that_only_some_responses_have() -> None:
    appointment = WebcamconsultHook().appointments.get("an-id")
    print(appointment["started_at"])  # pyright: ignore[reportTypedDictNotRequiredAccess]


def missing_method() -> None:
    clients = WebcamconsultHook().clients
    clients.remove("an-id")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
