"""Users' mistakes fail with one clear error that names cause and remedy, and are not retried."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devtools.local_airflow import LocalAirflow

MISTAKES = {
    "missing_token": "Connection 'without_token' has no API token; enter the organisation's as its password",
    "unknown_connection": "There is no connection 'nowhere_defined'. Create it in Airflow under Admin",
    "wrong_token": "GET /users.json: 401 Unauthorized, the service refused the API token",
    "html_host": "the host answered with a web page, not as the API; check the connection's Host",
    "empty_id": "user_id is '': a template or an XCom gave no value. Check the run's params",
    "none_id": "user_id is 'None': a template or an XCom gave no value. Check the run's params",
    "none_output_id": "user_id is None: a template or an XCom gave no value. Check the run's params",
    "id_with_slash": "user_id has characters that no id has",
    "id_with_question_mark": "appointment_id has characters that no id has",
    "attributes_not_a_dict": "attributes of a user must be a dict, not list",
    "attributes_empty": "attributes of a user has nothing that can be written. Give at least one of",
    "other_id": "attributes has another 'id' than the client_id that is addressed. Leave it out",
    "misspelt": "has no attribute 'refrence_code' in the API document. Did you mean 'reference_code'?",
    "impossible_date": "Attribute 'date' is not a date that exists",
    "wait_for_nothing": "appointment_id is ''",
    "wait_html_host": "the host answered with a web page",
    "wait_loses_outlets": "end_from_trigger would lose outlets, done by a worker at the end",
    "wait_loses_callback": "end_from_trigger would lose on_success_callback, done by a worker at the end",
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
