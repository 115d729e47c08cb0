"""The example DAG, started in the UI and seen through to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.airflow_runs.browser.conftest import Screenshot, Ui
    from tests.airflow_runs.browser.pages import Page2, Page3


def test_booking_is_started_and_ends_well(page: Page2 | Page3, ui: Ui, screenshot: Screenshot) -> None:
    ui.airflow.wait_for_dag("booking")
    page.trigger("booking")
    page.wait_for_success()

    (appointment,) = ui.sandbox.records("appointments")
    assert appointment["state"] == "finished"
    screenshot("booking-grid", width=1280, height=720)
