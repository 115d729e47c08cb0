"""Fixtures: a real browser, and a real Airflow with its UI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest

from devtools import ROOT
from devtools.ui import open_ui
from tests.system.browser.pages import Page2, Page3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from devtools.local_airflow import LocalAirflow
    from devtools.local_sandbox import LocalSandbox

FLAGS = [
    "--no-sandbox",  # Chromium's sandbox does not work in a container or as root.
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

STEP_TIMEOUT = 60.0  # seconds; generous for a busy machine

SCREENSHOTS = "SCREENSHOTS"
"""The environment variable that makes the tests save screenshots. `make screenshots` sets it."""

IMAGES = ROOT / "docs" / "images"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests in this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium_command() -> str:
    """Return the path of the machine's Chromium. Skip early if there is none, before an Airflow starts."""
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        message = "Found no Chromium. Install it, for example with `make chromium` (apt-get as root)."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return executable


@pytest.fixture(scope="module")
def chromium(chromium_command: str) -> Iterator[Browser]:
    """A running Chromium. Not for the whole session: while it runs, no other event loop can."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_command, args=FLAGS)
        yield browser
        browser.close()


class Ui(NamedTuple):
    """The processes that `make ui` starts."""

    airflow: LocalAirflow
    sandbox: LocalSandbox


@pytest.fixture(scope="module")
def ui(chromium_command: str, airflow_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """A running Airflow with its UI, one for each version in turn."""
    home = tmp_path_factory.mktemp("ui")
    (home / "logs" / "components").mkdir(parents=True)
    with open_ui(home, airflow_python) as (airflow, sandbox):
        yield Ui(airflow, sandbox)


@pytest.fixture
def page(ui: Ui, chromium: Browser, tmp_path: Path) -> Iterator[Page2 | Page3]:
    """An empty tab, with the steps that users take in this version of the UI."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(STEP_TIMEOUT * 1000)
    tab = context.new_page()
    yield (Page3 if ui.airflow.is_airflow_3 else Page2)(tab, ui.airflow.url)
    # To debug failures.
    tab.screenshot(path=tmp_path / "last.png")
    context.close()


class Screenshot(Protocol):
    """Takes a screenshot for the README, if requested."""

    def __call__(self, name: str, *, of: str = "body", width: int = 1100, height: int = 800) -> None: ...


@pytest.fixture
def screenshot(page: Page2 | Page3) -> Screenshot:
    def take(name: str, *, of: str = "body", width: int = 1100, height: int = 800) -> None:
        if os.environ.get(SCREENSHOTS) and isinstance(page, Page3):
            page.tab.set_viewport_size({"width": width, "height": height})
            page.tab.locator(of).screenshot(path=IMAGES / f"{name}.png", animations="disabled")

    return take
