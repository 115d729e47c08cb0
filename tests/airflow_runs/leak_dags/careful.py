"""People's data in all ways in which the provider takes it, and no errors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import people
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultListClientsOperator,
)
from airflow_provider_webcamconsult.operators.users import WebcamconsultCreateUserOperator
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.resources import ClientAttributes

CLIENT: ClientAttributes = {
    "last_name": "{{ read('rendered_client').last_name }}",
    "email": "{{ read('rendered_client').email }}",
    "date_of_birth": "{{ read('rendered_client').date_of_birth }}",
}


@dag(schedule=None, catchup=False, user_defined_macros={"read": people.read})
def careful() -> None:
    user = WebcamconsultCreateUserOperator(
        task_id="rendered_user",
        attributes={
            "last_name": "{{ read('rendered_user').last_name }}",
            "email": "{{ read('rendered_user').email }}",
            "address": "{{ read('rendered_user').address }}",
        },
        webcamconsult_conn_id="as_parameter",
    )
    client = WebcamconsultCreateClientOperator(
        task_id="rendered_client", attributes=CLIENT, webcamconsult_conn_id="as_parameter"
    )
    appointment = WebcamconsultCreateAppointmentOperator(
        task_id="appointment",
        attributes={
            "user_id": user.output,
            "client_id": client.output,
            "date": "2030-03-01T09:30",
            "division_id": "a-division",
            "inloop_json": {"complaint": "{{ read('complaint') }}"},
        },
        webcamconsult_conn_id="as_parameter",
    )
    wait = WebcamconsultAppointmentStateSensor(
        task_id="wait",
        appointment_id=appointment.output,
        target_states=["finished"],
        deferrable=True,
        poke_interval=1,
        webcamconsult_conn_id="as_parameter",
    )

    @task
    def keys() -> list[str]:
        return ["mapped"]

    mapped = WebcamconsultCreateClientOperator.partial(task_id="mapped_client").expand(
        attributes=keys().map(people.read)
    )
    partial = WebcamconsultCreateClientOperator.partial(task_id="partial_client", attributes=CLIENT).expand(
        if_exists=["adopt"]
    )
    [mapped, partial] >> WebcamconsultListClientsOperator(task_id="list_clients")

    @task
    def own_code() -> None:
        for conn_id in ("webcamconsult_default", "as_parameter"):
            hook = WebcamconsultHook(conn_id)
            client = hook.clients.create(people.read("own"))
            found = hook.clients.find(people.read("own"))
            print(conn_id, hook, hook.settings, vars(hook), client, found, hook.clients.get(client["id"]))
            logging.getLogger(__name__).info(f"{client} of {hook.clients.list()}")
            hook.clients.update(client["id"], client)
            hook.get_conn().get(f"{hook.settings.base_url}/clients.json").raise_for_status()

    wait >> own_code()


@dag(
    schedule=None,
    catchup=False,
    user_defined_macros={"read": people.read},
    render_template_as_native_obj=True,
)
def careful_native() -> None:
    attributes: Any = "{{ read('native') }}"
    WebcamconsultCreateClientOperator(task_id="native_client", attributes=attributes)


careful()
careful_native()
