"""
DAGs as a newcomer writes them, in which pyright in standard mode must find no error.

This module is never run: ``make check`` checks it. Its functions have few annotations, as in many DAGs, so
mypy checks less of it.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, no-any-return, var-annotated"

from __future__ import annotations

import csv
import datetime
import json
from typing import Any

from airflow.sdk import Context, dag, task

from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.appointments import (
    WebcamconsultCreateAppointmentOperator,
    WebcamconsultGetAppointmentOperator,
    WebcamconsultListAppointmentsOperator,
    WebcamconsultUpdateAppointmentOperator,
)
from airflow_provider_webcamconsult.operators.changes import WebcamconsultListChangesOperator
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultUpdateClientOperator,
)
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor
from airflow_provider_webcamconsult.triggers.changes import webcamconsult_changes


@dag(schedule="@daily", catchup=False)
def import_of_patients():
    @task
    def read_file():
        with open("patients.csv") as file:
            return list(csv.DictReader(file))

    def attributes_of(row):
        def attributes(context):
            return {
                "reference_code": row["code"],
                "last_name": row["name"],
                "date_of_birth": datetime.date.fromisoformat(row["birth"]),
                "gender": "female",
            }

        return attributes

    WebcamconsultCreateClientOperator.partial(task_id="create", if_exists="update").expand(
        attributes=read_file().map(attributes_of)
    )

    @task
    def import_with_the_hook(path: str):
        hook = WebcamconsultHook()
        with open(path) as file:
            for row in csv.DictReader(file):
                hook.clients.create(
                    {
                        "reference_code": row["code"],
                        "last_name": row["name"].strip(),
                        "date_of_birth": row["birth"] or None,
                        "division_ids": [row["division"]],
                    },
                    if_exists="reuse",
                )

    import_with_the_hook("patients.csv")

    @task
    def import_of_json(path: str):
        hook = WebcamconsultHook()
        with open(path) as file:
            patients: list[dict[str, Any]] = json.load(file)
        for patient in patients:
            patient.pop("comment", None)
            client = hook.clients.create(patient)
            hook.clients.update(client["id"], patient)

    import_of_json("patients.json")


@dag(schedule="@monthly", catchup=False)
def invoices():
    @task
    def sum_of_minutes():
        hook = WebcamconsultHook()
        minutes = {}
        for appointment in hook.appointments.iterate():
            if appointment["state"] == "finished" and appointment["date"].startswith("2030-03"):
                minutes.setdefault(appointment["user_id"], 0)
                minutes[appointment["user_id"]] += appointment["duration"] or 0
        return minutes

    sum_of_minutes()

    WebcamconsultListAppointmentsOperator(
        task_id="export",
        where={"state": ["finished", "cancelled"], "user_id": "{{ params.user_id }}"},
        path="s3://invoices/{{ ds }}.csv",
        fields=["id", "user_id", "client_id", "date", "duration"],
    )


@dag(schedule="@hourly", catchup=False)
def reminders():
    @task
    def due():
        hook = WebcamconsultHook()
        now = datetime.datetime.now(datetime.timezone.utc)
        clients = {client["id"]: client for client in hook.clients.list()}
        for appointment in hook.appointments.list():
            starts_in = datetime.datetime.fromisoformat(appointment["date"]) - now
            client = clients.get(appointment["client_id"])
            if client and client["email"] and starts_in < datetime.timedelta(days=1):
                print(client["email"], client["client_full_name"], client.get("language"), starts_in)
                professional = hook.users.get(appointment["user_id"])
                print(professional["full_name"], professional["email"], professional["roles"][0])

    due()


@dag(schedule=None, params={"user_id": "u1", "minutes": 30})
def booking_with_templates():
    @task
    def find_client() -> str:
        hook = WebcamconsultHook()
        known = hook.clients.find({"reference_code": 12345})
        return known[0]["id"]

    @task
    def request() -> dict[str, Any]:
        return {"user_id": "u1", "date": "2030-03-01T09:30"}

    book = WebcamconsultCreateAppointmentOperator(
        task_id="book",
        attributes={
            "user_id": "{{ params.user_id }}",
            "client_id": find_client(),
            "date": "{{ data_interval_end + macros.timedelta(days=1) }}",
            "duration": "{{ params.minutes }}",
            "inloop_json": {"email": "{{ params.email }}"},
        },
        if_overlaps="fail",
    )
    WebcamconsultCreateAppointmentOperator(task_id="book_from_task", attributes=request())
    WebcamconsultCreateAppointmentOperator.partial(task_id="book_all").expand(
        attributes=[{"user_id": "u1", "duration": 30}, {"user_id": "u2", "duration": "{{ params.minutes }}"}]
    )
    wait = WebcamconsultAppointmentStateSensor(
        task_id="wait", appointment_id=book.output, target_states="finished", deferrable=True
    )
    get = WebcamconsultGetAppointmentOperator(
        task_id="get", appointment_id="{{ ti.xcom_pull(task_ids='book') }}", fields=["client_id"]
    )
    move = WebcamconsultUpdateAppointmentOperator(
        task_id="move",
        appointment_id=book.output,
        attributes={
            "date": datetime.datetime(2030, 3, 1, 10),
            "external_participant_ids": ["{{ params.other }}"],
        },
    )
    thank = WebcamconsultUpdateClientOperator(
        task_id="thank",
        client_id="{{ ti.xcom_pull(task_ids='get')['client_id'] }}",
        attributes={"language": "nl", "email": get.output},
    )
    wait >> get >> move >> thank


def from_the_run(context: dict[str, Any]) -> dict[str, Any]:
    return context["params"]["client"]


def from_the_interval(context: Context):
    return {"last_name": "de Vries", "reference_code": context.get("run_id")}


def the_same_for_any_context(context: Any) -> dict[str, str]:
    return {"last_name": "de Vries"}


@dag(schedule=None)
def callables():
    WebcamconsultCreateClientOperator(task_id="run", attributes=from_the_run)
    WebcamconsultCreateClientOperator(task_id="interval", attributes=from_the_interval)
    WebcamconsultCreateClientOperator(task_id="any", attributes=the_same_for_any_context)
    WebcamconsultCreateClientOperator(
        task_id="lambda", attributes=lambda context: context["params"]["client"]
    )
    WebcamconsultCreateClientOperator(
        task_id="literal", attributes=lambda context: {"last_name": context["params"]["name"]}
    )


@dag(schedule=None)
def copies_of_records():
    @task
    def move_to_another_professional(old: str, new: str):
        hook = WebcamconsultHook()
        for appointment in hook.appointments.list():
            if appointment["user_id"] == old and appointment["state"] == "idle":
                hook.appointments.create({**appointment, "user_id": new})
                hook.appointments.delete(appointment["id"])

    move_to_another_professional("u1", "u2")


import_of_patients()
invoices()
reminders()
booking_with_templates()
callables()
copies_of_records()


appointments_changed = webcamconsult_changes("appointments", poke_interval=30)


@dag(schedule=[appointments_changed])
def follow_up():
    finished = WebcamconsultListChangesOperator(
        task_id="list_finished",
        inlets=[appointments_changed],
        changes=["created", "state"],
        states=["finished"],
    )

    @task
    def invoice(change):
        print(change["id"], change["kinds"], change["new_state"])

    invoice.expand(change=finished.output)
