"""A synchronization against the sandbox: what is written, and what failures and kills leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.create_checkpoint import NoCheckpoint
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultInputError,
    WebcamconsultSyncError,
    WebcamconsultSyncRejectedError,
)
from airflow_provider_webcamconsult.sync import report, run, workers
from devtools import ROOT
from devtools.fault_proxy import FAULTS, FaultProxy, Proxy, make_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from airflow_provider_webcamconsult.sync.report import SyncResult
    from devtools.fault_proxy import ProxiedRequest
    from tests.unit.conftest import Connect, ErrorText, Log, Serve, Service

FLOOR_SECONDS = 0.3


@pytest.fixture(autouse=True)
def _short_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CREATE_FLOOR_SECONDS", FLOOR_SECONDS)
    monkeypatch.setattr(workers, "CHECK_SECONDS", 0.02)


def client(number: int, **attributes: Any) -> Any:
    return {"reference_code": f"DL-{number}", "last_name": f"Ester{number}", **attributes}


def sync(hook: WebcamconsultHook, rows: Iterable[Any], **parameters: Any) -> SyncResult:
    return hook.clients.sync(rows, **{"key": "reference_code", **parameters})


def codes(service: Service) -> list[str]:
    return sorted(record["reference_code"] for record in service.records("clients"))


def writes(service: Service) -> Counter[str]:
    return Counter(request.method for request in service.requests)


class Checkpoint(NoCheckpoint):
    """A checkpoint in memory."""

    persistent = True

    def __init__(self, **value: Any) -> None:
        self.value: Mapping[str, Any] = value
        self.history: list[Mapping[str, Any]] = []

    def read(self) -> Mapping[str, Any]:
        return self.value

    def write(self, value: Mapping[str, Any]) -> None:
        self.value = value
        self.history.append(value)


class Rule(Proxy):
    """Handles each request as a function says. If the function returns False, the request is forwarded."""

    def __init__(self, url: str, rule: Callable[[ProxiedRequest], bool]) -> None:
        super().__init__(url)
        self.rule = rule
        self.lock = threading.Lock()

    def handle(self, request: ProxiedRequest) -> None:
        if not self.rule(request):
            super().handle(request)


def loses(count: int) -> Callable[[ProxiedRequest], bool]:
    """Return a rule that loses the responses to the first creates."""
    remaining = iter(range(count))

    def rule(request: ProxiedRequest) -> bool:
        if request.method == "POST" and next(remaining, None) is not None:
            request.forward()
            return True
        return False

    return rule


def rejects(method: str, response: bytes, count: int = 1000) -> Callable[[ProxiedRequest], bool]:
    """Return a rule that rejects the first requests with a method without processing them."""
    remaining = iter(range(count))

    def rule(request: ProxiedRequest) -> bool:
        if request.method == method and next(remaining, None) is not None:
            request.read()
            request.respond(response)
            return True
        return False

    return rule


@pytest.fixture
def three(hook: WebcamconsultHook) -> list[str]:
    """Create the clients DL-0, DL-1 and DL-2, and return their ids."""
    return [hook.clients.create(client(number))["id"] for number in range(3)]


class TestModes:
    rows = (client(1), client(2, gender="male"), client(3))

    @pytest.mark.usefixtures("three")
    @pytest.mark.parametrize(
        ("mode", "counts", "codes_after"),
        [
            ("insert", {"created": 1, "unchanged": 2}, ["DL-0", "DL-1", "DL-2", "DL-3"]),
            ("update", {"updated": 1, "unchanged": 2}, ["DL-0", "DL-1", "DL-2"]),
            ("upsert", {"created": 1, "updated": 1, "unchanged": 1}, ["DL-0", "DL-1", "DL-2", "DL-3"]),
            (
                "mirror",
                {"created": 1, "updated": 1, "unchanged": 1, "deleted": 1},
                ["DL-1", "DL-2", "DL-3"],
            ),
        ],
    )
    def test_writes_what_the_mode_says(
        self,
        hook: WebcamconsultHook,
        service: Service,
        mode: str,
        counts: dict[str, int],
        codes_after: list[str],
    ) -> None:
        result = sync(hook, self.rows, mode=mode, key_prefix="DL-", max_deletes=1)
        none = dict.fromkeys(("rows", "created", "updated", "unchanged", "deleted", "failed"), 0)
        assert result.counts() == {**none, "rows": 3, **counts}
        assert codes(service) == codes_after

    @pytest.mark.usefixtures("three")
    def test_sends_one_list_and_the_writes(self, hook: WebcamconsultHook, service: Service) -> None:
        before = writes(service)
        sync(hook, self.rows, mode="mirror", key_prefix="DL-", max_deletes=1)
        assert writes(service) - before == {"GET": 1, "POST": 1, "PUT": 1, "DELETE": 1}

    def test_plan_writes_nothing(self, hook: WebcamconsultHook, service: Service, three: list[str]) -> None:
        before = writes(service)
        result = sync(hook, self.rows, mode="mirror", key_prefix="DL-", max_deletes=1, plan_only=True)
        assert (result.created, result.updated, result.deleted) == (1, 1, 1)
        assert writes(service) - before == {"GET": 1}

    def test_users_are_synchronized_by_email(self, hook: WebcamconsultHook, service: Service) -> None:
        for city in ("Ergens", "Elders"):
            hook.users.sync([{"email": "a@example.com", "last_name": "A", "city": city}], key="email")
        assert [user["city"] for user in service.records("users")] == ["Elders"]

    def test_ids_of_all_rows_are_returned_on_request(
        self, hook: WebcamconsultHook, service: Service, three: list[str]
    ) -> None:
        ids = sync(hook, self.rows, with_ids=True).ids
        assert ids == {
            record["reference_code"]: record["id"]
            for record in service.records("clients")
            if record["id"] != three[0]
        }

    def test_many_rows_are_created_once_by_several_threads(
        self, hook: WebcamconsultHook, service: Service
    ) -> None:
        rows = [client(number) for number in range(100)]
        assert sync(hook, iter(rows), workers=10).created == 100
        assert sync(hook, iter(rows), workers=10).unchanged == 100
        assert len(codes(service)) == 100

    @pytest.mark.parametrize("parameters", [{"workers": 0}, {"workers": 11}, {"max_failures": -1}])
    def test_invalid_parameter_is_refused(self, hook: WebcamconsultHook, parameters: dict[str, Any]) -> None:
        with pytest.raises(WebcamconsultInputError):
            sync(hook, [], **parameters)


class TestLog:
    def test_shows_the_progress_and_the_counts(
        self, connect: Connect, service: Service, log: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(report, "PROGRESS_SECONDS", 0.05)

        def slowly(request: ProxiedRequest) -> bool:
            time.sleep(0.02)
            return False

        with Rule(service.url, slowly) as proxy:
            sync(connect(proxy.url, service.token), [client(number) for number in range(40)])
        *_, done = messages = log.messages("info")
        assert any("of 40 writes sent" in message and "s left" in message for message in messages)
        assert done == "Done, clients: 40 rows, 40 created, 0 updated, 0 unchanged, 0 deleted, 0 failed."

    def test_shows_a_warning_of_many_rows_once(self, hook: WebcamconsultHook, log: Log) -> None:
        rows = [client(number, client_full_name="read-only") for number in range(20)]
        sync(hook, rows)
        (warning,) = log.warnings
        assert warning.endswith("(20 of 20 rows)")


class TestDeletes:
    @pytest.mark.usefixtures("three")
    def test_too_many_deletes_refuse_the_whole_run(self, hook: WebcamconsultHook, service: Service) -> None:
        with pytest.raises(WebcamconsultSyncRejectedError, match=r"3 of 3 clients .* max_deletes \(2\)"):
            sync(hook, [client(9)], mode="mirror", key_prefix="DL-", max_deletes=2)
        assert codes(service) == ["DL-0", "DL-1", "DL-2"]

    @pytest.mark.usefixtures("three")
    def test_no_rows_fail_instead_of_deleting_everybody(
        self, hook: WebcamconsultHook, service: Service
    ) -> None:
        with pytest.raises(WebcamconsultSyncError, match=r"no rows, .* all 3 clients .* Nothing was written"):
            sync(hook, [], mode="mirror", key_prefix="", max_deletes=1.0)
        assert len(codes(service)) == 3

    @pytest.mark.usefixtures("three")
    @pytest.mark.parametrize("parameters", [{"mode": "upsert"}, {"mode": "mirror", "key_prefix": "AB-"}])
    def test_no_rows_pass_if_they_would_delete_nobody(
        self, hook: WebcamconsultHook, parameters: dict[str, Any]
    ) -> None:
        assert sync(hook, [], **parameters).rows == 0

    @pytest.mark.usefixtures("three")
    def test_plan_without_rows_says_that_a_run_would_fail(self, hook: WebcamconsultHook, log: Log) -> None:
        assert sync(hook, [], mode="mirror", key_prefix="", plan_only=True).deleted == 0
        assert "A run would fail" in log.warnings[0]

    @pytest.mark.usefixtures("three")
    @pytest.mark.parametrize(
        ("rows", "reason"),
        [
            # DL-2 is in a row that failed, so only DL-0 is missing.
            (
                [client(1), client(2, date_of_birth="31-12-1984")],
                "Nothing was deleted, because rows failed; clients in no row: 1.",
            ),
            (
                [client(1), client(2, colour="unknown attributes are refused")],
                "Nothing was deleted, because rows failed; clients in no row: 1.",
            ),
            ([client(0), client(1), client(2, date_of_birth="31-12-1984")], "affected.\nrow 3"),
        ],
    )
    def test_failed_row_keeps_everybody_and_the_error_says_it(
        self, hook: WebcamconsultHook, service: Service, rows: list[Any], reason: str
    ) -> None:
        with pytest.raises(WebcamconsultSyncRejectedError) as raised:
            sync(hook, rows, mode="mirror", key_prefix="DL-", max_deletes=1.0)
        assert reason in str(raised.value)
        assert len(codes(service)) == 3

    @pytest.mark.usefixtures("three")
    def test_plan_with_a_failed_row_says_that_nothing_would_be_deleted(
        self, hook: WebcamconsultHook, log: Log
    ) -> None:
        rows = [client(1), client(2, date_of_birth="31-12-1984")]
        assert sync(hook, rows, mode="mirror", key_prefix="DL-", plan_only=True).deleted == 0
        (warning,) = log.warnings
        assert "Nothing would be deleted, because rows failed; clients in no row: 1." in warning

    def test_record_that_others_deleted_counts_as_deleted(
        self, hook: WebcamconsultHook, connect: Connect, service: Service, three: list[str]
    ) -> None:
        def rule(request: ProxiedRequest) -> bool:
            if request.method == "DELETE":
                request.forward()
            return False

        with Rule(service.url, rule) as proxy:
            hook = connect(proxy.url, service.token)
            rows = [client(1), client(2)]
            assert sync(hook, rows, mode="mirror", key_prefix="DL-", max_deletes=1).deleted == 1

    def test_wrong_paths_are_no_proof_of_a_delete(
        self, connect: Connect, service: Service, three: list[str]
    ) -> None:
        hook = connect(service.url, service.token, plural_paths=True)
        with pytest.raises(WebcamconsultSyncRejectedError, match="plural_paths"):
            sync(hook, [client(1), client(2)], mode="mirror", key_prefix="DL-", max_deletes=1)


class TestFailures:
    def test_refused_rows_cost_only_those_rows(self, hook: WebcamconsultHook, service: Service) -> None:
        rows = [client(1), client(2, colour="red"), client(3, date_of_birth="31-12-1984"), client(4)]
        with pytest.raises(WebcamconsultSyncRejectedError) as raised:
            sync(hook, rows)
        assert codes(service) == ["DL-1", "DL-4"]
        found = [(failure.row, failure.attributes) for failure in raised.value.result.failures]
        assert found == [(2, ()), (3, ("date_of_birth",))]

    @pytest.mark.parametrize(
        ("row", "name"),
        [
            ({"Reference_Code": "DL-1", "last_name": "Ester"}, "reference_code"),
            (client(1, lastname="Ester"), "last_name"),
        ],
    )
    def test_error_of_a_row_suggests_the_name_that_was_meant(
        self, hook: WebcamconsultHook, row: dict[str, Any], name: str
    ) -> None:
        with pytest.raises(WebcamconsultSyncRejectedError, match=rf"row 1.* Did you mean '{name}'\?"):
            sync(hook, [row])

    def test_error_of_a_row_suggests_no_name_that_resembles_by_chance(self, hook: WebcamconsultHook) -> None:
        with pytest.raises(WebcamconsultSyncRejectedError) as raised:
            sync(hook, [{"Klantnummer": "1"}])
        assert "Did you mean" not in str(raised.value)

    def test_failures_up_to_the_maximum_pass(self, hook: WebcamconsultHook, log: Log) -> None:
        assert sync(hook, [client(1), client(2, colour="red")], max_failures=1).failed == 1
        assert any("row 2" in warning for warning in log.warnings)

    def test_error_names_the_first_twenty_failures(self, hook: WebcamconsultHook) -> None:
        with pytest.raises(WebcamconsultSyncError, match="and 5 more") as raised:
            sync(hook, [{"last_name": "without key"}] * 25)
        assert "row 20 " in str(raised.value)
        assert "row 21 " not in str(raised.value)

    def test_no_value_of_a_row_is_shown(
        self, hook: WebcamconsultHook, log: Log, error_text: ErrorText
    ) -> None:
        secret = client(77, colour="Purple", email="secret@example.com", date_of_birth="1984-12-18")
        with pytest.raises(WebcamconsultSyncError) as raised:
            sync(hook, [secret, {**client(78), "date_of_birth": "19841218"}, secret])
        shown = error_text(raised.value) + log.text
        for text in ("DL-7", "Ester7", "Purple", "secret@", "1984"):
            assert text not in shown

    def test_rejected_token_stops_the_run(self, connect: Connect, service: Service) -> None:
        with Rule(service.url, rejects("POST", make_response(401, b"Access denied."))) as proxy:
            hook = connect(proxy.url, service.token)
            with pytest.raises(WebcamconsultSyncRejectedError, match="API token") as raised:
                sync(hook, [client(number) for number in range(50)], workers=2)
            assert proxy.count("POST") <= 4
        assert raised.value.result.failed == 50

    def test_unknown_token_is_an_error_of_the_list(self, connect: Connect, service: Service) -> None:
        with pytest.raises(WebcamconsultAuthenticationError):
            sync(connect(service.url, "wrong"), [client(1)])

    def test_failing_service_stops_the_run_and_is_retried(self, connect: Connect, service: Service) -> None:
        hook = connect(service.url, service.token)
        for number in range(30):
            hook.clients.create(client(number))
        with Rule(service.url, rejects("PUT", make_response(503))) as proxy:
            hook = connect(proxy.url, service.token, retries=0)
            with pytest.raises(WebcamconsultSyncError) as raised:
                sync(hook, [client(number, gender="male") for number in range(30)])
            assert proxy.count("PUT") < 30
        assert not isinstance(raised.value, WebcamconsultSyncRejectedError)
        assert raised.value.result.failed == 30

    def test_error_in_the_rows_writes_nothing(self, hook: WebcamconsultHook, service: Service) -> None:
        def rows() -> Iterator[dict[str, Any]]:
            yield client(1)
            raise RuntimeError("The source failed.")

        with pytest.raises(RuntimeError):
            sync(hook, rows())
        assert codes(service) == []

    def test_malformed_record_writes_nothing(self, connect: Connect, serve: Any) -> None:
        server = serve({"body": [{"id": "a"}, "not a record"]})
        with pytest.raises(Exception, match="record 2"):
            sync(connect(server.url), [client(1)])
        assert [request.method for request in server.requests if request.method != "GET"] == []

    def test_record_deleted_during_the_run_is_retried(
        self, hook: WebcamconsultHook, connect: Connect, service: Service, three: list[str]
    ) -> None:
        def rule(request: ProxiedRequest) -> bool:
            if request.method == "PUT":
                hook.clients.delete(three[1])
            return False

        gone = pytest.raises(WebcamconsultSyncError, match="was deleted during the run")
        with Rule(service.url, rule) as proxy, gone as raised:
            sync(connect(proxy.url, service.token), [client(1, gender="male")])
        assert not isinstance(raised.value, WebcamconsultSyncRejectedError)


class TestEmptyList:
    @pytest.mark.parametrize("mode", ["insert", "upsert"])
    def test_creates_nobody_again_if_it_is_empty_only_once(
        self, hook: WebcamconsultHook, three: list[str], connect: Connect, service: Service, mode: str
    ) -> None:
        empty = make_response(200, b"[]", {"Content-Type": "application/json"})
        rows = [client(number) for number in range(4)]
        with Rule(service.url, rejects("GET", empty, 1)) as proxy:
            result = sync(connect(proxy.url, service.token), rows, mode=mode)
        assert (result.unchanged, result.created) == (3, 1)
        assert codes(service) == ["DL-0", "DL-1", "DL-2", "DL-3"]

    @pytest.mark.parametrize(
        ("status", "error"), [(503, WebcamconsultSyncError), (401, WebcamconsultSyncRejectedError)]
    )
    def test_creates_nobody_and_says_so_if_the_second_list_fails(
        self, status: int, error: type[Exception], connect: Connect, service: Service
    ) -> None:
        rejected = rejects("GET", make_response(status), 1)

        def rule(request: ProxiedRequest) -> bool:
            return bool(service.requests) and rejected(request)

        with Rule(service.url, rule) as proxy, pytest.raises(WebcamconsultSyncError) as raised:
            sync(connect(proxy.url, service.token, retries=0), [client(1)])
        assert type(raised.value) is error
        (failure,) = raised.value.result.failures
        assert failure.reasons[0].startswith("Not sent, because of an earlier error: GET /clients.json ")
        assert writes(service) == {"GET": 1}

    def test_creates_of_an_earlier_try_may_exist_if_the_list_fails_after_it(
        self, connect: Connect, service: Service
    ) -> None:
        rejected = rejects("GET", make_response(503), 9)

        def rule(request: ProxiedRequest) -> bool:
            return bool(service.requests) and rejected(request)

        checkpoint = Checkpoint(sent_at=time.time())
        with Rule(service.url, rule) as proxy, pytest.raises(WebcamconsultSyncError, match="may have been"):
            sync(connect(proxy.url, service.token, retries=0), [client(1)], checkpoint=checkpoint)


class TestRateLimit:
    def test_pauses_all_workers(self, connect: Connect, service: Service, log: Log) -> None:
        times: list[float] = []
        limit = rejects("POST", make_response(429, headers={"Retry-After": "1"}), 1)

        def rule(request: ProxiedRequest) -> bool:
            if request.method == "POST":
                times.append(time.monotonic())
            return limit(request)

        with Rule(service.url, rule) as proxy:
            sync(connect(proxy.url, service.token), [client(number) for number in range(40)])
        assert len(codes(service)) == 40
        paused = [each for each in times if times[0] + 0.3 < each < times[0] + 0.95]
        assert paused == []
        assert times[-1] - times[0] >= 1

    def test_is_logged_once(self, connect: Connect, service: Service, log: Log) -> None:
        with Rule(service.url, rejects("POST", make_response(429), 3)) as proxy:
            sync(connect(proxy.url, service.token), [client(number) for number in range(20)])
        assert sum("too many requests" in warning for warning in log.warnings) == 1


class TestLostResponses:
    def test_lost_creates_are_found_and_counted(self, connect: Connect, service: Service) -> None:
        with Rule(service.url, loses(3)) as proxy:
            result = sync(connect(proxy.url, service.token), [client(number) for number in range(20)])
        assert (result.created, result.failed) == (20, 0)
        assert len(codes(service)) == len({*codes(service)}) == 20

    def test_creates_that_were_not_processed_are_sent_again_after_the_floor(
        self, connect: Connect, service: Service
    ) -> None:
        began = time.monotonic()
        with Rule(service.url, rejects("POST", make_response(503), 2)) as proxy:
            result = sync(connect(proxy.url, service.token), [client(number) for number in range(20)])
        assert time.monotonic() - began >= FLOOR_SECONDS
        assert (result.created, len({*codes(service)}), len(codes(service))) == (20, 20, 20)

    def test_create_that_is_processed_late_makes_one_record(
        self, connect: Connect, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late = threading.Event()

        def rule(request: ProxiedRequest) -> bool:
            if request.method == "POST" and not late.is_set():
                late.set()
                request.read()
                request.disconnect()
                time.sleep(FLOOR_SECONDS / 2)
                request.forward()
                return True
            return False

        with Rule(service.url, rule) as proxy:
            result = sync(connect(proxy.url, service.token), [client(1)])
        assert (result.created, codes(service)) == (1, ["DL-1"])

    def test_response_about_another_record_is_not_believed(self, connect: Connect, service: Service) -> None:
        with FaultProxy(service.url, FAULTS["response about another record"], "POST") as proxy:
            result = sync(connect(proxy.url, service.token), [client(1)], with_ids=True)
        (record,) = service.records("clients")
        assert result.ids == {"DL-1": record["id"]}

    def test_record_stored_with_another_key_is_not_created_again(
        self, connect: Connect, service: Service
    ) -> None:
        def rule(request: ProxiedRequest) -> bool:
            if request.method == "POST":
                request.replace(b"DL-1", b"DX-1")
            return False

        with (
            Rule(service.url, rule) as proxy,
            pytest.raises(WebcamconsultSyncRejectedError, match="different"),
        ):
            sync(connect(proxy.url, service.token), [client(1)])
        assert codes(service) == ["DX-1"]

    def test_response_that_shows_only_an_id_is_completed(self, connect: Connect, service: Service) -> None:
        def rule(request: ProxiedRequest) -> bool:
            if request.method == "POST":
                shown = json.loads(request.forward().partition(b"\r\n\r\n")[2])["client"]["id"]
                request.respond(make_response(200, json.dumps({"client": {"id": shown}}).encode()))
                return True
            return False

        with Rule(service.url, rule) as proxy:
            result = sync(connect(proxy.url, service.token), [client(1)], with_ids=True)
        (record,) = service.records("clients")
        assert result.ids == {"DL-1": record["id"]}

    def test_response_about_another_member_of_the_family_is_not_believed(
        self, connect: Connect, serve: Serve
    ) -> None:
        family: Any = {"email": "family@example.com", "last_name": "Alders"}
        jan = {"id": "a" * 24, **family, "first_name": "Jan"}
        server = serve({"body": []}, {"body": []}, {"body": {"client": jan}}, {"body": [jan]})
        rows: list[Any] = [{**family, "first_name": "Piet"}]
        with pytest.raises(
            WebcamconsultSyncRejectedError, match=f"Client {'a' * 24} .* differs in first_name"
        ):
            sync(connect(server.url), rows, key="email", with_ids=True)
        assert [request.method for request in server.requests].count("POST") == 1

    def test_response_about_a_record_that_was_in_the_list_is_not_believed(
        self, connect: Connect, serve: Serve
    ) -> None:
        earlier = {"id": "a" * 24, "last_name": "Alders"}
        server = serve(
            {"body": [earlier]}, {"body": {"client": {**earlier, **client(1)}}}, {"body": [earlier]}
        )
        with pytest.raises(WebcamconsultSyncRejectedError, match="which existed before"):
            sync(connect(server.url), [client(1)])
        assert [request.method for request in server.requests].count("POST") == 1

    def test_unavailable_service_after_a_lost_create_leaves_it_to_the_retry(
        self, connect: Connect, service: Service
    ) -> None:
        lists = iter(range(2))  # an empty one is asked for twice

        def rule(request: ProxiedRequest) -> bool:
            request.read()
            if request.method == "POST":
                request.forward()
                return True
            if next(lists, None) is None:
                request.respond(make_response(503))
                return True
            return False

        checkpoint = Checkpoint()
        unknown = pytest.raises(WebcamconsultSyncError, match="may have been created")
        with Rule(service.url, rule) as proxy, unknown as raised:
            sync(connect(proxy.url, service.token, retries=0), [client(1)], checkpoint=checkpoint)
        assert not isinstance(raised.value, WebcamconsultSyncRejectedError)
        assert "sent_at" in checkpoint.value
        result = sync(connect(service.url, service.token), [client(1)], checkpoint=checkpoint)
        assert (result.unchanged, codes(service)) == (1, ["DL-1"])


class TestCheckpoint:
    def test_holds_times_only(self, hook: WebcamconsultHook) -> None:
        checkpoint = Checkpoint()
        sync(hook, [client(1)], checkpoint=checkpoint)
        assert all(set(value) <= {"began_at", "sent_at"} for value in checkpoint.history)
        assert "sent_at" in checkpoint.history[0]
        assert checkpoint.value == {}

    def test_is_not_written_without_creates(self, hook: WebcamconsultHook, three: list[str]) -> None:
        checkpoint = Checkpoint()
        sync(hook, [client(1, gender="male")], checkpoint=checkpoint)
        assert checkpoint.history == []

    def test_creates_wait_for_those_of_an_earlier_try(
        self, hook: WebcamconsultHook, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        floor = 1.5  # long enough for the late create on a busy machine
        monkeypatch.setattr(run, "CREATE_FLOOR_SECONDS", floor)
        began = time.time()
        late = threading.Timer(FLOOR_SECONDS, hook.clients.create, [client(1)])
        late.start()
        result = sync(hook, [client(1), client(2)], checkpoint=Checkpoint(sent_at=began))
        assert time.time() - began >= floor
        assert (result.unchanged, result.created) == (1, 1)
        assert codes(service) == ["DL-1", "DL-2"]

    def test_creates_of_an_earlier_try_are_looked_up_again_if_reading_the_rows_took_longer_than_they_can(
        self, hook: WebcamconsultHook, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        floor = 1.0
        monkeypatch.setattr(run, "CREATE_FLOOR_SECONDS", floor)
        began = time.time()

        def rows() -> Iterator[Any]:
            hook.clients.create(client(1))  # the service processes it after the list
            time.sleep(max(0.0, began + floor - time.time()))
            yield client(1)

        result = sync(hook, rows(), checkpoint=Checkpoint(sent_at=began))
        assert (result.unchanged, result.created) == (1, 0)
        assert codes(service) == ["DL-1"]

    def test_nothing_waits_if_nothing_is_to_be_created(
        self, hook: WebcamconsultHook, three: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run, "CREATE_FLOOR_SECONDS", 300.0)
        assert sync(hook, [client(1)], checkpoint=Checkpoint(sent_at=time.time())).unchanged == 1


class TestInterruption:
    def test_interrupted_run_sends_nothing_more(self, connect: Connect, service: Service) -> None:
        class Interrupting(Checkpoint):
            """Interrupts the run as Airflow does: by an exception in the main thread."""

            def write(self, value: Mapping[str, Any]) -> None:
                super().write(value)
                if len(self.history) > 1:
                    raise KeyboardInterrupt

        def rule(request: ProxiedRequest) -> bool:
            time.sleep(0.05)
            return False

        with pytest.MonkeyPatch.context() as patch, Rule(service.url, rule) as proxy:
            patch.setattr(run, "LEASE_SECONDS", 0.2)
            with pytest.raises(KeyboardInterrupt):
                sync(
                    connect(proxy.url, service.token),
                    [client(number) for number in range(200)],
                    checkpoint=Interrupting(),
                )
            created = len(codes(service))
            time.sleep(0.2)
            assert 0 < created == len(codes(service)) < 200

    def test_killed_runs_leave_no_double_and_lose_nothing(self, service: Service, tmp_path: Path) -> None:
        arguments = [service.url, service.token, str(tmp_path), "60", "6"]
        done = subprocess.run(
            [sys.executable, "-m", "tests.unit.sync.killed_sync", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        counts = json.loads(done.stdout.splitlines()[-1])
        assert counts["failed"] == 0
        assert counts["unchanged"] > 0  # killed runs had created some
        assert counts["created"] + counts["unchanged"] == 60
        assert len(codes(service)) == len({*codes(service)}) == 60
