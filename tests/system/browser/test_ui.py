"""The UI as users see it: the connection form, and a run of the example DAG."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_webcamconsult.get_provider_info import CONNECTION_FIELDS, UI_FIELD_BEHAVIOUR
from tests.system.connection_readings import read_connections

if TYPE_CHECKING:
    from tests.system.browser.conftest import Screenshot, Ui
    from tests.system.browser.pages import Page2, Page3

LABELS = UI_FIELD_BEHAVIOUR["relabeling"]
EXTRA_LABELS = [field["label"] for field in CONNECTION_FIELDS.values()]


def test_connection_form_has_exactly_the_declared_fields(page: Page2 | Page3, screenshot: Screenshot) -> None:
    page.open_new_connection("webcamconsult_default")

    assert page.field(LABELS["host"]).get_attribute("placeholder") == "https://eapi.webcamconsult.com"
    assert page.field(LABELS["password"]).get_attribute("type") == "password"
    assert page.field(LABELS["password"]).get_attribute("placeholder") == "the organisation's API token"
    standard = page.labels()
    page.field(LABELS["password"]).fill("38826f79010b41b5aaeb4710debb09db")
    page.field(LABELS["port"]).fill("443")
    screenshot("connection-form", of="[role=dialog]")
    page.open_extras()
    assert sorted({*standard, *page.labels()}) == sorted([*LABELS.values(), *EXTRA_LABELS])
    screenshot("connection-extras", of="[role=dialog]", height=1200)
    for name, field in CONNECTION_FIELDS.items():
        shown = page.field(field["label"])
        default = field["schema"]["default"]
        assert page.help_of(field["label"]) == field["description"], name
        assert (shown.is_checked() if default is False else shown.input_value()) == (default and str(default))


def test_connection_can_be_created_tested_and_edited(
    page: Page2 | Page3, ui: Ui, screenshot: Screenshot
) -> None:
    token, host = ui.sandbox.connection["password"], urlsplit(ui.sandbox.connection["host"])
    page.open_new_connection("from_the_form")
    page.field(LABELS["host"]).fill(f"{host.scheme}://{host.hostname}")
    page.field(LABELS["port"]).fill(str(host.port))
    page.field(LABELS["password"]).fill(token)
    page.save()

    tested = page.test("from_the_form", token)
    assert tested.works
    assert tested.message.startswith(
        f"Connected to Webcamconsult at {host.geturl()}: the token's organisation"
    )
    screenshot("connection-tested", height=420)
    created = {
        "base_url": host.geturl(),
        "token": token,
        "timezone": "Europe/Amsterdam",
        "timeout": 30,
        "retries": 3,
        "auth_as_parameter": False,
        "plural_paths": False,
        "insecure": False,
    }
    assert read_connections(ui.airflow, "from_the_form") == [created]

    page.open_connection("from_the_form")
    page.open_extras()
    page.field("Time zone").fill("Europe/London")
    page.field("Retries").fill("5")
    page.switch("Plural paths")
    page.save()
    edited = {**created, "timezone": "Europe/London", "retries": 5, "plural_paths": True}
    assert read_connections(ui.airflow, "from_the_form") == [edited]

    # Saving a change of only the time zone keeps all other fields.
    page.open_connection("from_the_form")
    page.open_extras()
    page.field("Time zone").fill("")
    page.save()
    assert read_connections(ui.airflow, "from_the_form") == [{**edited, "timezone": "Europe/Amsterdam"}]
    assert page.test("from_the_form", token).works


def test_editing_a_connection_with_some_extras_keeps_their_values(page: Page2 | Page3, ui: Ui) -> None:
    connection = {
        "conn_type": "webcamconsult",
        "host": "https://example.com",
        "password": "a-token",
        "extra": {"retries": 1, "insecure": True},
    }
    ui.airflow.command("connections", "add", "with_some", "--conn-json", json.dumps(connection))

    page.open_connection("with_some")
    page.field(LABELS["host"]).fill("https://example.org")
    page.save()

    assert read_connections(ui.airflow, "with_some") == [
        {
            "base_url": "https://example.org",
            "token": "a-token",
            "timezone": "Europe/Amsterdam",
            "timeout": 30,
            "retries": 1,
            "auth_as_parameter": False,
            "plural_paths": False,
            "insecure": True,
        }
    ]


def test_connection_test_explains_a_wrong_token(page: Page2 | Page3, ui: Ui) -> None:
    url = urlsplit(ui.sandbox.connection["host"])
    connection = {
        "conn_type": "webcamconsult",
        "host": f"{url.scheme}://{url.hostname}",
        "port": url.port,
        "password": "not-the-token",
    }
    ui.airflow.command("connections", "add", "with_wrong_token", "--conn-json", json.dumps(connection))

    assert page.test("with_wrong_token", "not-the-token") == (
        False,
        "GET /users.json returned 401. Webcamconsult rejected the API token. "
        "Enter the organisation's API token as the connection's password.",
    )


def test_providers_page_shows_the_provider_with_its_link(page: Page2 | Page3) -> None:
    provider = page.provider()
    assert "for video consults" in provider.inner_text()
    assert provider.get_by_role("link").last.get_attribute("href") == "https://www.webcamconsult.com/"


def test_booking_dag_can_be_triggered_and_succeeds(
    page: Page2 | Page3, ui: Ui, screenshot: Screenshot
) -> None:
    ui.airflow.wait_for_dag("booking")
    page.trigger("booking")
    page.wait_for_success()

    (appointment,) = ui.sandbox.records("appointments")
    assert appointment["state"] == "finished"
    screenshot("booking-grid", width=1280, height=720)
