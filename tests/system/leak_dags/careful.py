"""Passes personal data to the provider in every possible way, without errors."""

from __future__ import annotations

import logging
from typing import Any

import people
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultListClientsOperator,
)
from airflow_provider_webcamconsult.operators.users import WebcamconsultCreateUserOperator


@dag(
    schedule=None,
    catchup=False,
    user_defined_macros={"read": people.read},
    render_template_as_native_obj=True,
    default_args={"webcamconsult_conn_id": "as_header"},
)
def careful() -> None:
    whole: Any = "{{ read('native') }}"
    WebcamconsultCreateUserOperator(task_id="rendered_user", attributes=whole)
    partial = WebcamconsultCreateClientOperator.partial(
        task_id="partial_client",
        attributes={
            "last_name": "{{ read('rendered').last_name }}",
            "email": "{{ read('rendered').email }}",
            "date_of_birth": "{{ read('rendered').date_of_birth }}",
        },
    ).expand(if_exists=["reuse"])
    WebcamconsultCreateAppointmentOperator(
        task_id="appointment",
        attributes={
            "division_id": "a-division",
            "date": "2030-03-01T09:30",
            "inloop_json": {"complaint": "{{ read('complaint') }}"},
        },
    )

    @task
    def own_code() -> list[str]:
        for conn_id in ("webcamconsult_default", "as_header"):
            hook = WebcamconsultHook(conn_id)
            client = hook.clients.create(people.read("own"))
            found = hook.clients.find(people.read("own"))
            print(conn_id, hook, hook.settings, vars(hook), client, found, hook.clients.get(client["id"]))
            logging.getLogger(__name__).info(f"{client} of {hook.clients.list()}")
            hook.clients.update(client["id"], client)
            hook.get_conn().get(f"{hook.settings.base_url}/clients.json").raise_for_status()
        return ["mapped"]

    mapped = WebcamconsultCreateClientOperator.partial(task_id="mapped_client").expand(
        attributes=own_code().map(people.read)
    )
    [mapped, partial] >> WebcamconsultListClientsOperator(task_id="list_clients")


careful()
