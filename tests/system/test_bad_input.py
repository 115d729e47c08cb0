"""Users' mistakes fail with one clear error that names cause and remedy, and are not retried."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devtools.local_airflow import LocalAirflow

MISTAKES = {
    "missing_token": "Connection 'without_token' has no API token. "
    "Enter the organisation's API token as the password",
    "unknown_connection": "There is no connection 'nowhere_defined'. Create it in Airflow under Admin",
    "wrong_token": "GET /users.json with connection 'wrong_token' returned 401. Webcamconsult rejected the "
    "API token",
    "html_host": "returned 200 with a web page instead of JSON. Check the connection's Host",
    "empty_id": "user_id is '', but it must be an id. If a row has no id there, correct or skip the row",
    "none_id": "user_id is 'None'. A template or an XCom probably had no value. Check the run's params",
    "none_output_id": "user_id is None. A template or an XCom probably had no value. Check the run's params",
    "id_with_slash": "user_id contains characters other than letters, digits",
    "id_with_question_mark": "appointment_id contains characters other than letters, digits",
    "attributes_not_a_dict": "The attributes of a user must be a dict, not list",
    "attributes_empty": "The attributes of a user contain nothing that can be written. Set at least one of",
    "other_id": "The 'id' in the attributes differs from client_id. Remove 'id' from the attributes",
    "misspelt": "Attribute 'refrence_code' of a client is not in the API document. "
    "Did you mean 'reference_code'?",
    "impossible_date": "Attribute 'date' is not a valid ISO 8601 date",
    "wait_for_nothing": "appointment_id is ''",
    "wait_html_host": "with a web page instead of JSON",
    "wait_loses_outlets": "end_from_trigger would skip outlets, which only a worker processes",
    "wait_loses_callback": "end_from_trigger would skip on_success_callback, which only a worker processes",
}


def test_bad_input_fails_with_a_clear_error_and_no_retry(local_airflow: LocalAirflow) -> None:
    run_id = local_airflow.trigger("bad_input")
    assert local_airflow.wait("bad_input", run_id) == "failed"

    ends = {
        state.task_id: (state.state, state.try_number)
        for state in local_airflow.task_states("bad_input", run_id)
    }
    logged = {
        task_id: message in local_airflow.task_log("bad_input", run_id, task_id)
        for task_id, message in MISTAKES.items()
    }
    assert {task_id: ends[task_id] for task_id in MISTAKES} == dict.fromkeys(MISTAKES, ("failed", 1))
    assert [task_id for task_id in MISTAKES if not logged[task_id]] == []
