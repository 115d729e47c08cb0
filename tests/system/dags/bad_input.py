"""A task for each mistake that users make. All tasks have two retries."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import Asset, dag, task

from airflow_provider_webcamconsult.operators.appointments import (
    WebcamconsultCreateAppointmentOperator,
    WebcamconsultGetAppointmentOperator,
)
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultUpdateClientOperator,
)
from airflow_provider_webcamconsult.operators.users import (
    WebcamconsultCreateUserOperator,
    WebcamconsultDeleteUserOperator,
    WebcamconsultGetUserOperator,
    WebcamconsultListUsersOperator,
)
from airflow_provider_webcamconsult.sensors.appointments import WebcamconsultAppointmentStateSensor


@dag(schedule=None, catchup=False, default_args={"retries": 2, "retry_delay": 0})
def bad_input() -> None:
    @task
    def nothing() -> None:
        return None

    @task
    def not_a_dict() -> Any:
        return ["not", "a", "dict"]

    WebcamconsultListUsersOperator(task_id="missing_token", webcamconsult_conn_id="without_token")
    WebcamconsultListUsersOperator(
        task_id="unknown_connection",
        webcamconsult_conn_id="nowhere_defined",
        retries=0,  # with retries, it would be retried: a secrets backend may have been down
    )
    WebcamconsultListUsersOperator(task_id="wrong_token", webcamconsult_conn_id="wrong_token")
    WebcamconsultListUsersOperator(task_id="html_host", webcamconsult_conn_id="html")
    WebcamconsultGetUserOperator(task_id="empty_id", user_id="")
    WebcamconsultGetUserOperator(task_id="none_id", user_id="{{ none }}")
    WebcamconsultGetUserOperator(task_id="none_output_id", user_id=nothing())
    WebcamconsultDeleteUserOperator(task_id="id_with_slash", user_id="../clients")
    WebcamconsultGetAppointmentOperator(task_id="id_with_question_mark", appointment_id="1?x=2")
    WebcamconsultCreateUserOperator(task_id="attributes_not_a_dict", attributes=not_a_dict())
    WebcamconsultCreateUserOperator(task_id="attributes_empty", attributes={})
    other_id: Any = {"id": "bbb", "gender": "male"}
    WebcamconsultUpdateClientOperator(task_id="other_id", client_id="aaa", attributes=other_id)
    misspelt: Any = {"refrence_code": "DL-1"}
    WebcamconsultCreateClientOperator(task_id="misspelt", attributes=misspelt)
    WebcamconsultCreateAppointmentOperator(
        task_id="impossible_date", attributes={"date": "2030-02-30T10:00", "duration": 30}
    )
    WebcamconsultAppointmentStateSensor(task_id="wait_for_nothing", appointment_id="", deferrable=True)
    WebcamconsultAppointmentStateSensor(
        task_id="wait_html_host", appointment_id="abc", webcamconsult_conn_id="html", deferrable=True
    )
    in_the_triggerer: Any = {"appointment_id": "abc", "deferrable": True, "end_from_trigger": True}
    WebcamconsultAppointmentStateSensor(
        task_id="wait_loses_outlets", outlets=[Asset("wait")], **in_the_triggerer
    )
    WebcamconsultAppointmentStateSensor(
        task_id="wait_loses_callback", on_success_callback=print, **in_the_triggerer
    )


bad_input()
