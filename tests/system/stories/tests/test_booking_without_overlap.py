"""A booking without overlap, tested as a user would test it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.sandbox import Sandbox
    from airflow_provider_webcamconsult.sandbox.pytest_plugin import LoadDag

CONSULT = {"user_id": "u1", "client_id": "c1", "date": "2030-03-01T09:30"}


def test_an_overlapping_consult_is_not_booked(
    webcamconsult_sandbox: Sandbox, webcamconsult_dag: LoadDag
) -> None:
    dag = webcamconsult_dag("dags/booking_without_overlap.py")
    assert dag.test(run_conf=CONSULT).state == "success"
    later = {**CONSULT, "client_id": "c2", "date": "2030-03-01T09:45"}
    assert dag.test(run_conf=later).state == "failed"
    (appointment,) = webcamconsult_sandbox.records("appointments")
    assert appointment["client_id"] == "c1"
