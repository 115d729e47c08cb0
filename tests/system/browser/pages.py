"""Steps that users take in the UI. The classes for Airflow 2 and 3 have the same methods."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

RUN_TIMEOUT = 180.0
"""Timeout in seconds for a run of the example DAG, whose consult takes ten."""


class ConnectionTest(NamedTuple):
    """The result that the Test button shows."""

    works: bool
    message: str


class Page3:
    """
    Airflow 3.

    :param tab: tab of the browser.
    :param url: URL of the UI.
    """

    def __init__(self, tab: Page, url: str) -> None:
        self.tab = tab
        self.url = url

    def _row(self, name: str) -> Locator:
        return self.tab.get_by_role("row", name=name)

    @property
    def form(self) -> Locator:
        return self.tab.get_by_role("dialog")

    def open_new_connection(self, conn_id: str) -> None:
        self.tab.goto(f"{self.url}/connections")
        self.tab.get_by_role("button", name="Add Connection").click()
        self.form.get_by_label("Connection ID").fill(conn_id)
        self.form.get_by_role("combobox", name="Connection Type").fill("Webcamconsult")
        self.tab.keyboard.press("Enter")
        self.field("API token").wait_for()

    def open_connection(self, conn_id: str) -> None:
        self.tab.goto(f"{self.url}/connections")
        self._row(conn_id).get_by_role("button", name="Edit Connection").click()
        self.field("API token").wait_for()

    def open_extras(self) -> None:
        section = self.form.get_by_role("button", name="Extra Fields", exact=True)
        if section.get_attribute("aria-expanded") != "true":
            section.click()
        # Wait for the end of the animation.
        self.form.locator("[data-part=item-content][data-state=open] [role=group]").last.wait_for()

    def labels(self) -> list[str]:
        """Return the labels of the visible fields, without those that every connection has."""
        labels = self.form.locator("label:visible").all_inner_texts()
        common = {"Connection ID", "Connection Type", "Description", ""}
        return [label for text in labels if (label := text.removesuffix("*").strip()) not in common]

    def field(self, label: str) -> Locator:
        group = self.form.get_by_role("group").filter(has=self.tab.get_by_text(label, exact=True))
        return group.locator("input, textarea").first

    def help_of(self, label: str) -> str:
        group = self.form.get_by_role("group").filter(has=self.tab.get_by_text(label, exact=True))
        return group.locator("[data-part=helper-text]").inner_text()

    def switch(self, label: str) -> None:
        group = self.form.get_by_role("group").filter(has=self.tab.get_by_text(label, exact=True))
        group.locator("[data-part=control]").click()

    def save(self) -> None:
        self.form.get_by_role("button", name="Save").click()
        self.form.wait_for(state="hidden")

    def test(self, conn_id: str, token: str) -> ConnectionTest:
        """Press Test. Airflow 3 has the button in the list of saved connections."""
        self.tab.goto(f"{self.url}/connections")
        self._row(conn_id).get_by_role("button", name="Test Connection").click()
        notification = self.tab.get_by_role("status").filter(has_text="Test Connection")
        notification.wait_for()
        title, message = notification.inner_text().split("\n", 1)
        return ConnectionTest(title == "Test Connection Successful", message.strip())

    def trigger(self, dag_id: str) -> None:
        self.tab.goto(f"{self.url}/dags/{dag_id}")
        self.tab.get_by_role("button", name="Trigger").first.click()
        self.tab.get_by_role("dialog").get_by_role("button", name="Trigger").last.click()
        self.tab.wait_for_url(re.compile("/runs/"))

    def wait_for_success(self) -> None:
        """Wait until the page shows that the run has ended, and check that it succeeded."""
        heading = self.tab.get_by_role("heading", name=re.compile("^manual__"))
        state = heading.locator("xpath=..").get_by_text(re.compile(r"^(Success|Failed)$"))
        state.wait_for(timeout=RUN_TIMEOUT * 1000)
        assert state.inner_text() == "Success"
        # The page would refresh its parts later, one after the other.
        self.tab.reload()
        self.tab.get_by_role("row").filter(has_text="Success").nth(4).wait_for()

    def provider(self) -> Locator:
        self.tab.goto(f"{self.url}/providers")
        row = self._row("airflow-provider-webcamconsult")
        row.scroll_into_view_if_needed()
        return row


class Page2:
    """
    Airflow 2.

    :param tab: tab of the browser.
    :param url: URL of the UI.
    """

    def __init__(self, tab: Page, url: str) -> None:
        self.tab = tab
        self.url = url

    def _row(self, name: str) -> Locator:
        return self.tab.get_by_role("row", name=name)

    @property
    def form(self) -> Locator:
        return self.tab.locator("#model_form")

    def open_new_connection(self, conn_id: str) -> None:
        self.tab.goto(f"{self.url}/connection/add")
        self.tab.locator("#conn_id").fill(conn_id)
        self.tab.locator("#conn_type").select_option(label="Webcamconsult")
        self.field("API token").wait_for()

    def open_connection(self, conn_id: str) -> None:
        self.tab.goto(f"{self.url}/connection/list/")
        self._row(conn_id).get_by_role("link", name="Edit").click()
        self.field("API token").wait_for()

    def open_extras(self) -> None:
        """Do nothing: Airflow 2 shows all fields in one list."""

    def labels(self) -> list[str]:
        """Return the labels of the visible fields, without those that every connection has."""
        labels = self.form.locator("tr:visible > td:first-child").all_inner_texts()
        common = {"Connection Id", "Connection Type", "Description", "Extra"}
        return [label for text in labels if (label := text.removesuffix("*").strip()) not in common]

    def field(self, label: str) -> Locator:
        return self.form.get_by_label(label, exact=True)

    def help_of(self, label: str) -> str:
        row = self.form.get_by_role("row").filter(has=self.tab.get_by_label(label, exact=True))
        return row.locator(".help-block").inner_text()

    def switch(self, label: str) -> None:
        self.field(label).click()

    def save(self) -> None:
        self.form.get_by_role("button", name="Save").click()
        self.tab.get_by_text(re.compile("Added Row|Changed Row")).wait_for()

    def test(self, conn_id: str, token: str) -> ConnectionTest:
        """Press Test. Airflow 2 has the button in the form, and does not send the saved token."""
        self.open_connection(conn_id)
        self.field("API token").fill(token)
        with self.tab.expect_response("**/connections/test") as response:
            self.form.get_by_role("button", name="Test").click()
        # The page shows every result in the colour of a success.
        alert = self.tab.locator(".alert:visible")
        alert.wait_for()
        return ConnectionTest(response.value.json()["status"], alert.inner_text().strip())

    def trigger(self, dag_id: str) -> None:
        self.tab.goto(f"{self.url}/dags/{dag_id}/grid")
        self.tab.get_by_role("link", name="Trigger DAG").click()
        self.tab.wait_for_url(re.compile("dag_run_id="))

    def wait_for_success(self) -> None:
        """Wait until the page shows that the run has ended, and check that it succeeded."""
        status = self.tab.get_by_role("row", name=re.compile(r"^Status (success|failed)$"))
        status.wait_for(timeout=RUN_TIMEOUT * 1000)
        assert status.inner_text().endswith("success")

    def provider(self) -> Locator:
        self.tab.goto(f"{self.url}/provider")
        return self._row("airflow-provider-webcamconsult")
