"""
Run each call with each fault over real sockets, and compare the result with the tables below.

The tables are the specification: they state what the documentation promises, not what the code does.
The run writes the observed results as Markdown to the file that FAULT_TABLE names.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import urllib3
from urllib3 import Timeout

from airflow_provider_webcamconsult import idempotent_create, transport
from airflow_provider_webcamconsult.api import matching
from airflow_provider_webcamconsult.exceptions import WebcamconsultConflictError, WebcamconsultError
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator
from airflow_provider_webcamconsult.operators.clients import WebcamconsultCreateClientOperator
from airflow_provider_webcamconsult.sandbox import Sandbox
from airflow_provider_webcamconsult.version_compat import AirflowFailException
from devtools import ROOT
from devtools.fault_proxy import FAULTS, Fault, FaultProxy
from tests.unit.idempotent_create.airflow_task import Task, TaskInstance

if TYPE_CHECKING:
    from collections.abc import Iterator

# Users differ from clients in nothing that matters here.
KINDS = ("client", "appointment")
CALLS = {"list": "GET", "get": "GET", "update": "PUT", "delete": "DELETE"}
IF_EXISTS = ("create", "reuse", "update", "fail")
CREATE: dict[str, Any] = {
    "client": WebcamconsultCreateClientOperator,
    "appointment": WebcamconsultCreateAppointmentOperator,
}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "client": {"last_name": "Ester", "reference_code": "DL-1", "date_of_birth": "1984-12-18"},
    "appointment": {"user_id": "u1", "client_id": "c1", "date": "2030-03-01T09:30", "duration": 30},
}
CHANGE: dict[str, dict[str, Any]] = {
    "client": {"last_name": "Ester-Bakker"},
    "appointment": {"duration": 45},
}

TIMEOUT_SECONDS = 20.0
"""The connection's timeout: not reached, even on a slow machine."""
SHORT_TIMEOUT_SECONDS = 0.2
"""When to give up on the one request that a silent fault hits."""
SILENT = ("hold", "delay", "delay until healed", "drip")


# -- Specification -------------------------------------------------------------------------------------------


class Expected(NamedTuple):
    """
    The expected result of a list, get, update or delete.

    :param result: ``done``, or the name of the error without the common prefix.
    :param requests: how many requests reach the proxy.
    :param delete_result: the result of a delete, if different.
    :param delete_requests: the number of requests of a delete, if different.
    """

    result: str
    requests: int
    delete_result: str | None = None
    delete_requests: int | None = None


ONCE = Expected("done", 1)
AGAIN = Expected("done", 2)
# The second delete finds nothing, and the list has to confirm it.
AGAIN_AND_LIST_AFTER_DELETE = Expected("done", 2, delete_requests=3)
# The request reached something other than the API, so a retry cannot help.
WRONG_HOST = Expected("ConfigurationError", 1)

LIST_GET_UPDATE_DELETE: dict[str, Expected] = {
    "connection refused": Expected("ConnectionError", 0),
    "closed before reading": AGAIN,
    "closed without processing": AGAIN,
    "reset without processing": AGAIN,
    "429 without processing": AGAIN,
    "429 (Retry-After in seconds) without processing": AGAIN,
    "429 (Retry-After as a date) without processing": AGAIN,
    "500 without processing": AGAIN,
    "502 without processing": AGAIN,
    "503 without processing": AGAIN,
    "504 without processing": AGAIN,
    "web page with 404 without processing": AGAIN,
    "gzip bomb without processing": WRONG_HOST,
    "login page with 200 without processing": WRONG_HOST,
    "empty 200 without processing": AGAIN,
    "other JSON with 200 without processing": AGAIN,
    "redirect 301 without processing": WRONG_HOST,
    "redirect 302 without processing": WRONG_HOST,
    "redirect 307 without processing": WRONG_HOST,
    "redirect 308 without processing": WRONG_HOST,
    "processed as soon as the client gave up": AGAIN_AND_LIST_AFTER_DELETE,
    "closed before the response": AGAIN_AND_LIST_AFTER_DELETE,
    "closed within the response headers": AGAIN_AND_LIST_AFTER_DELETE,
    "closed within the response body": AGAIN_AND_LIST_AFTER_DELETE,
    "reset before the response": AGAIN_AND_LIST_AFTER_DELETE,
    "reset within the response body": AGAIN_AND_LIST_AFTER_DELETE,
    "no response in time": AGAIN_AND_LIST_AFTER_DELETE,
    "500 after processing": AGAIN_AND_LIST_AFTER_DELETE,
    "502 after processing": AGAIN_AND_LIST_AFTER_DELETE,
    "503 after processing": AGAIN_AND_LIST_AFTER_DELETE,
    "504 after processing": AGAIN_AND_LIST_AFTER_DELETE,
    "103 before the response": ONCE,
    "response byte by byte": AGAIN_AND_LIST_AFTER_DELETE,
    "response about another record": AGAIN_AND_LIST_AFTER_DELETE,
    "web page with 404 after processing": AGAIN_AND_LIST_AFTER_DELETE,
    "gzip bomb after processing": WRONG_HOST,
    "login page with 200 after processing": WRONG_HOST,
    "empty 200 after processing": AGAIN_AND_LIST_AFTER_DELETE,
    "other JSON with 200 after processing": AGAIN_AND_LIST_AFTER_DELETE,
    "redirect 301 after processing": WRONG_HOST,
    "redirect 302 after processing": WRONG_HOST,
    "redirect 307 after processing": WRONG_HOST,
    "redirect 308 after processing": WRONG_HOST,
}


class ExpectedCreate(NamedTuple):
    """
    The expected result of the first try of a create and of the next one, after which one record exists.

    :param first: ``created``, or the name of the error of the first try.
    :param posts: how often a create is sent in both tries together.
    :param next: what starts the next try: an automatic retry, or clearing the task.
    """

    first: str
    posts: int
    next: str


CREATED = ExpectedCreate("created", 1, "cleared")
CREATED_AFTER_RESEND = ExpectedCreate("created", 2, "cleared")
# The first try looks the record up at once, without a match. The retry looks it up again.
LOST_AND_CREATED_BY_RETRY = ExpectedCreate("UnknownOutcomeError", 2, "retried")
LOST_AND_FOUND_BY_RETRY = ExpectedCreate("UnknownOutcomeError", 1, "retried")
NOT_SENT = ExpectedCreate("ConnectionError", 1, "retried")
FAILED_AND_CREATED = ExpectedCreate("ConfigurationError", 2, "cleared")
FAILED_AND_FOUND = ExpectedCreate("ConfigurationError", 1, "cleared")

CREATES: dict[str, ExpectedCreate] = {
    "connection refused": NOT_SENT,
    "closed before reading": LOST_AND_CREATED_BY_RETRY,
    "closed without processing": LOST_AND_CREATED_BY_RETRY,
    "reset without processing": LOST_AND_CREATED_BY_RETRY,
    "429 without processing": CREATED_AFTER_RESEND,
    "429 (Retry-After in seconds) without processing": CREATED_AFTER_RESEND,
    "429 (Retry-After as a date) without processing": CREATED_AFTER_RESEND,
    "500 without processing": LOST_AND_CREATED_BY_RETRY,
    "502 without processing": LOST_AND_CREATED_BY_RETRY,
    "503 without processing": LOST_AND_CREATED_BY_RETRY,
    "504 without processing": LOST_AND_CREATED_BY_RETRY,
    "web page with 404 without processing": LOST_AND_CREATED_BY_RETRY,
    "gzip bomb without processing": LOST_AND_CREATED_BY_RETRY,
    "login page with 200 without processing": LOST_AND_CREATED_BY_RETRY,
    "empty 200 without processing": LOST_AND_CREATED_BY_RETRY,
    "other JSON with 200 without processing": LOST_AND_CREATED_BY_RETRY,
    "redirect 301 without processing": FAILED_AND_CREATED,
    "redirect 302 without processing": LOST_AND_CREATED_BY_RETRY,
    "redirect 307 without processing": FAILED_AND_CREATED,
    "redirect 308 without processing": FAILED_AND_CREATED,
    "processed as soon as the client gave up": CREATED,
    "processed long after the client gave up": LOST_AND_FOUND_BY_RETRY,
    "closed before the response": CREATED,
    "closed within the response headers": CREATED,
    "closed within the response body": CREATED,
    "reset before the response": CREATED,
    "reset within the response body": CREATED,
    "no response in time": CREATED,
    "500 after processing": CREATED,
    "502 after processing": CREATED,
    "503 after processing": CREATED,
    "504 after processing": CREATED,
    "103 before the response": CREATED,
    "response byte by byte": CREATED,
    "response about another record": CREATED,
    "web page with 404 after processing": CREATED,
    "gzip bomb after processing": CREATED,
    "login page with 200 after processing": CREATED,
    "empty 200 after processing": CREATED,
    "other JSON with 200 after processing": CREATED,
    "redirect 301 after processing": FAILED_AND_FOUND,
    "redirect 302 after processing": CREATED,
    "redirect 307 after processing": FAILED_AND_FOUND,
    "redirect 308 after processing": FAILED_AND_FOUND,
}


# -- Fixtures and helpers ------------------------------------------------------------------------------------


@dataclass
class Table:
    """The observed results as a readable table, with one column for each call."""

    title: str
    cells: dict[str, dict[str, dict[str, set[str]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(set)))
    )

    def add(self, column: str, fault: Fault, kind: str, observed: str) -> None:
        self.cells[column][fault.name][observed].add(kind)

    def lines(self) -> Iterator[str]:
        yield f"## {self.title}"
        yield ""
        yield "| fault | " + " | ".join(self.cells) + " |"
        yield "| --- " * (1 + len(self.cells)) + "|"
        for fault in FAULTS:
            cells = [self._cell(column.get(fault, {})) for column in self.cells.values()]
            if any(cells):
                yield f"| {fault} | " + " | ".join(cells) + " |"
        yield ""

    def _cell(self, observed: dict[str, set[str]]) -> str:
        if len(observed) == 1:
            return next(iter(observed))
        return "; ".join(f"{what} ({', '.join(sorted(kinds))})" for what, kinds in observed.items())


@pytest.fixture(scope="module")
def tables() -> Iterator[dict[str, Table]]:
    from airflow import __version__

    tables = {
        "calls": Table("List, get, update, delete: result, requests sent, records left of one"),
        "creates": Table("Create, by `if_exists`: first try, records; next try, creates sent, records left"),
        "cancelled": Table(
            "Create of an appointment that was cancelled before: each try, records left of one"
        ),
    }
    yield tables
    default = ROOT / ".airflow" / f"fault-table-airflow-{__version__}.md"
    file = Path(os.environ.get("FAULT_TABLE") or default)
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [line for table in tables.values() if table.cells for line in table.lines()]
    file.write_text(
        "\n".join([f"# Results of each call with each fault (Airflow {__version__})", "", *lines])
    )


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    logger = logging.getLogger("airflow_provider_webcamconsult.sandbox")
    logger.setLevel(logging.WARNING)  # do not log thousands of requests
    with Sandbox(tokens=[f"organisation-{number}" for number in range(2000)]) as sandbox:
        yield sandbox
    logger.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delays, without changing the number of retries."""
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(transport, "RESPONSE_MAX_BYTES", 1 << 20)
    monkeypatch.setattr(transport, "RETRY_AFTER_MAX_SECONDS", 0.01)
    monkeypatch.setattr(idempotent_create, "LOOKUP_DELAYS_SECONDS", (0.0, 0.001, 0.002))
    monkeypatch.setattr(idempotent_create, "CREATE_FLOOR_SECONDS", 0.05)


class Service:
    """
    The service behind the proxy, with an organisation for each case.

    :param sandbox: the sandbox that acts as the service.
    :param token: the organisation's API token.
    :param monkeypatch: sets the connection.
    """

    def __init__(self, sandbox: Sandbox, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = sandbox.url
        self._sandbox = sandbox
        self._token = token
        self._monkeypatch = monkeypatch

    def records(self, kind: str) -> list[dict[str, Any]]:
        return self._sandbox.records(f"{kind}s", self._token)

    def connect(self, url: str) -> WebcamconsultHook:
        connection = {
            "conn_type": "webcamconsult",
            "host": url,
            "password": self._token,
            "extra": {"timeout": TIMEOUT_SECONDS},
        }
        self._monkeypatch.setenv("AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT", json.dumps(connection))
        return WebcamconsultHook()

    def give_up_early(self, proxy: FaultProxy, preceding: int = 0) -> None:
        """Shorten the timeouts of the request that a silent fault hits, after ``preceding`` others."""
        if proxy.fault is None or proxy.fault.kind not in SILENT:
            return

        def timeout(**seconds: float) -> Timeout:
            if len(proxy.requests) == preceding:
                seconds = dict.fromkeys(seconds, SHORT_TIMEOUT_SECONDS)
            return Timeout(**seconds)

        self._monkeypatch.setattr(urllib3, "Timeout", timeout)


@pytest.fixture(scope="module")
def _unused_tokens(sandbox: Sandbox) -> Iterator[str]:
    return iter(sandbox.tokens)


@pytest.fixture
def service(sandbox: Sandbox, _unused_tokens: Iterator[str], monkeypatch: pytest.MonkeyPatch) -> Service:
    return Service(sandbox, next(_unused_tokens), monkeypatch)


def _name(error: WebcamconsultError) -> str:
    return type(error).__name__.removeprefix("Webcamconsult")


# -- Tests ---------------------------------------------------------------------------------------------------


def test_table_covers_every_fault() -> None:
    # The provider cannot control an update or delete that is processed after a later one.
    assert LIST_GET_UPDATE_DELETE.keys() == FAULTS.keys() - {"processed long after the client gave up"}
    assert CREATES.keys() == FAULTS.keys()


@pytest.mark.parametrize(
    "fault", [FAULTS[name] for name in LIST_GET_UPDATE_DELETE], ids=lambda fault: fault.name
)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_list_get_update_and_delete_match_table(
    service: Service, tables: dict[str, Table], kind: str, call: str, fault: Fault
) -> None:
    if call == "list" and fault.kind == "mix up":
        pytest.skip("nothing in a list shows which request it belongs to")
    expected = LIST_GET_UPDATE_DELETE[fault.name]
    result, requests = expected.result, expected.requests
    if call == "delete":
        result = expected.delete_result or result
        requests = requests if expected.delete_requests is None else expected.delete_requests
    created = getattr(service.connect(service.url), f"{kind}s").create(ATTRIBUTES[kind])

    with FaultProxy(service.url, fault, CALLS[call]) as proxy:
        service.give_up_early(proxy)
        records = getattr(service.connect(proxy.url), f"{kind}s")
        try:
            if call == "list":
                assert [record["id"] for record in records.list()] == [created["id"]]
            elif call == "get":
                assert records.get(created["id"])["id"] == created["id"]
            elif call == "update":
                assert records.update(created["id"], CHANGE[kind])["id"] == created["id"]
            else:
                records.delete(created["id"])
        except WebcamconsultError as error:
            observed = _name(error)
        else:
            observed = "done"
    left = service.records(kind)

    tables["calls"].add(call, fault, kind, f"{observed}, {len(proxy.requests)}, {len(left)}")
    assert (observed, len(proxy.requests)) == (result, requests)
    is_done = observed == "done" or fault.processed
    if call == "delete":
        assert bool(left) == (not is_done)
    else:
        assert [record["id"] for record in left] == [created["id"]]
    if call == "update":
        ((name, changed),) = CHANGE[kind].items()
        assert (left[0][name] == changed) == is_done


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name)
@pytest.mark.parametrize("if_exists", IF_EXISTS)
@pytest.mark.parametrize(
    ("kind", "has_store"),
    # The kinds differ only in their natural key.
    [("client", True), ("appointment", False)],
    ids=["client, store", "appointment, no store"],
)
def test_create_matches_table(
    service: Service, tables: dict[str, Table], kind: str, has_store: bool, if_exists: str, fault: Fault
) -> None:
    expected = CREATES[fault.name]
    task = TaskInstance(has_store)
    preceding = 0 if if_exists == "create" else 1  # the lookup

    def run() -> str:
        service.connect(proxy.url)
        operator = CREATE[kind](task_id="create", attributes=ATTRIBUTES[kind], if_exists=if_exists)
        record_id: str = operator.execute(task.context)
        return record_id

    with FaultProxy(service.url, fault, "POST", preceding=preceding) as proxy:
        service.give_up_early(proxy, preceding)
        first_id = None
        fails_at_once = False
        try:
            first_id = run()
        except WebcamconsultError as error:
            first = _name(error)
            fails_at_once = isinstance(error, AirflowFailException)
        else:
            first = "created"
        after_first = len(service.records(kind))
        proxy.heal()
        if first == "created" or fails_at_once:
            task.clear()
        else:
            task.retry()
        if has_store and if_exists == "fail" and expected is FAILED_AND_FOUND:
            # The redirect said that nothing was processed, so the record may be anybody's.
            with pytest.raises(WebcamconsultConflictError, match="already exists"):
                run()
            assert len(service.records(kind)) == 1
            return
        second_id = run()
    left = [record["id"] for record in service.records(kind)]

    next_try = "cleared" if first_id or fails_at_once else "retried"
    observed = f"{first}, {after_first}; {next_try}, {proxy.count('POST')}, {len(left)}"
    tables["creates"].add(if_exists, fault, kind, observed)
    assert (first, next_try, proxy.count("POST")) == (expected.first, expected.next, expected.posts)
    assert left == [second_id]
    assert first_id in (None, second_id)


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS.values() if not fault.processed], ids=lambda fault: fault.name
)
@pytest.mark.parametrize("has_store", [True, False], ids=["store", "no store"])
def test_create_that_was_not_processed_never_returns_the_same_appointment_that_was_cancelled_before(
    service: Service,
    sandbox: Sandbox,
    tables: dict[str, Table],
    monkeypatch: pytest.MonkeyPatch,
    has_store: bool,
    fault: Fault,
) -> None:
    # The appointment was cancelled just before, which only equal clocks and immediate retries can tell.
    monkeypatch.setattr(matching, "CLOCK_SKEW_SECONDS", 0.0)
    task = TaskInstance(has_store, Task(retry_delay=datetime.timedelta()))
    attributes: Any = ATTRIBUTES["appointment"]
    cancelled = service.connect(service.url).appointments.create(attributes)["id"]
    sandbox.set_state(cancelled, "cancelled")

    tries = []
    with FaultProxy(service.url, fault, "POST") as proxy:
        service.connect(proxy.url)
        for start_next in (task.retry, task.clear, task.clear):
            operator = CREATE["appointment"](task_id="create", attributes=attributes)
            try:
                assert operator.execute(task.context) != cancelled
                tries.append("created")
            except WebcamconsultError as error:
                tries.append(_name(error))
            proxy.heal()
            start_next()
    left = len(service.records("appointment"))

    column = "store" if has_store else "no store"
    tables["cancelled"].add(column, fault, "appointment", f"{', '.join(tries)}, {left}")
    assert left == 1 + ("created" in tries)
