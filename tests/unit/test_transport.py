"""Faults in requests, in the service and in responses, and which of them are retried."""

from __future__ import annotations

import datetime
import socket
import socketserver
import sys
import threading
import time
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from airflow_provider_webcamconsult import transport
from airflow_provider_webcamconsult.api.request import create_request, update_request
from airflow_provider_webcamconsult.api.resources import CLIENT
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultNotFoundError,
    WebcamconsultRateLimitError,
    WebcamconsultRequestError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
    WebcamconsultUnknownOutcomeError,
    WebcamconsultValidationError,
)
from airflow_provider_webcamconsult.version_compat import AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, ErrorText, Log, Serve, Step

CONN_ID = "webcamconsult_default"
TOKEN = "s3cret-token"
ID = "1234567890abcdef12345678"
# With two retries, a fault that is retried only once differs from one that is retried up to the limit.
RETRIES = 2
CALLS: dict[str, Callable[[WebcamconsultHook], object]] = {
    "GET": lambda hook: hook.clients.get(ID),
    "PUT": lambda hook: hook.transport.send(update_request(CLIENT, ID, {"last_name": "s3cret-name"})),
    "DELETE": lambda hook: hook.clients.delete(ID),
    "POST": lambda hook: hook.transport.send(create_request(CLIENT, {"last_name": "s3cret-name"})),
}
# The status confirms a delete.
GOOD: Step = {"body": {"client": {"id": ID}, "status": "ok"}}
NO_RETRY = (
    WebcamconsultAuthenticationError,
    WebcamconsultConfigurationError,
    WebcamconsultNotFoundError,
    WebcamconsultRequestError,
    WebcamconsultValidationError,
)


class Fault(NamedTuple):
    """
    How the server handles a request, and the expected result.

    :param step: the step of the server, for every request.
    :param error: the class of the error of a request that is safe to retry.
    :param times: how often such a request reaches the server.
    :param remedy: what the message tells the user to do; alternatives are separated by a vertical bar.
    :param create_error: the class of the error of a create if it is different; the create is then sent once.
    :param delete_succeeds: whether a delete succeeds with this response.
    :param delete_error: the class of the error of a delete if it is different; the list is then requested.
    """

    step: Step
    error: type[WebcamconsultError]
    times: int
    remedy: str
    create_error: type[WebcamconsultError] | None = None
    delete_succeeds: bool = False
    delete_error: type[WebcamconsultError] | None = None


UNKNOWN = WebcamconsultUnknownOutcomeError
NOT_RETRIED = "may have been created, so the request was not retried"
ALWAYS = 1 + RETRIES


def _server_error(status: int) -> Fault:
    step: Step = {"status": status, "body": "s3cret-body"}
    return Fault(step, WebcamconsultServerError, ALWAYS, "A later attempt may succeed", UNKNOWN)


def _redirect(status: int, create_error: type[WebcamconsultError] | None = None) -> Fault:
    address = "https://elsewhere.example.com:8443"
    step: Step = {"status": status, "headers": {"Location": f"{address}/users.json?token=s3cret-query"}}
    return Fault(
        step,
        WebcamconsultConfigurationError,
        1,
        f"redirects to {address}, so the request was not processed. Enter the correct address"
        f"|redirects to {address}, perhaps after it has processed the request",
        create_error,
    )


def _rejected(
    status: int, error: type[WebcamconsultError], remedy: str, body: object = "s3cret-body"
) -> Fault:
    return Fault({"status": status, "body": body}, error, 1, remedy)


def _unreadable(body: object) -> Fault:
    remedy = "Try again; if the error persists, check the connection's Host"
    confirms_delete = body == {"status": "ok"}
    return Fault(
        {"body": body}, WebcamconsultResponseError, ALWAYS, remedy, UNKNOWN, delete_succeeds=confirms_delete
    )


def _lost(step: Step, remedy: str = "Try again|Check the connection's Host and Port") -> Fault:
    return Fault(step, WebcamconsultConnectionError, ALWAYS, remedy, UNKNOWN)


FAULTS = {
    "cut before the body was read": _lost({"cut": "before the body"}),
    "cut after the request was read": _lost({"cut": "after the request"}),
    "incomplete response": _lost({**GOOD, "cut": "in the response"}),
    "no response in time": _lost({"delay": 1}, "increase 'timeout' in the connection"),
    "damaged in transfer": _lost({"headers": {"Content-Encoding": "gzip"}, "body": "s3cret-body"}),
    "429": Fault(
        {"status": 429},
        WebcamconsultRateLimitError,
        ALWAYS,
        "Limit the number of parallel tasks with an Airflow pool",
    ),
    "429 with seconds": Fault(
        {"status": 429, "headers": {"Retry-After": "7"}},
        WebcamconsultRateLimitError,
        ALWAYS,
        "with an Airflow pool",
    ),
    "429 with a date": Fault(
        {"status": 429, "headers": {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}},
        WebcamconsultRateLimitError,
        ALWAYS,
        "with an Airflow pool",
    ),
    "500": _server_error(500)._replace(times=2),
    "502": _server_error(502),
    "503": _server_error(503),
    "504": _server_error(504),
    # What gateways send if a request takes too long.
    "408": _server_error(408),
    "425": _server_error(425),
    "499": _server_error(499),
    "301": _redirect(301),
    # Perhaps after the request was processed, as web applications answer a form.
    "302": _redirect(302, UNKNOWN),
    "303": _redirect(303, UNKNOWN),
    "307": _redirect(307),
    "308": _redirect(308),
    "302 to nowhere": Fault(
        {"status": 302, "headers": {"Location": "http://[s3cret-address"}},
        WebcamconsultConfigurationError,
        1,
        "the request was not processed. Enter the correct address|perhaps after it has processed the request",
        UNKNOWN,
    ),
    "400": _rejected(400, WebcamconsultRequestError, "rejected the request and would reject a retry"),
    "401": _rejected(
        401,
        WebcamconsultAuthenticationError,
        "Enter the organisation's API token as the connection's password",
    ),
    "403": _rejected(403, WebcamconsultAuthenticationError, "ask Webcamconsult for the permission"),
    "404": _rejected(
        404,
        WebcamconsultNotFoundError,
        "it was deleted, or the id is wrong|The host does not have this path",
        {"status": 404, "error": "s3cret-body"},
    )._replace(delete_error=WebcamconsultConfigurationError),
    "415": _rejected(415, WebcamconsultRequestError, "rejected the request and would reject a retry"),
    # Perhaps a gateway's, after the request was forwarded.
    **{
        str(status): _rejected(
            status, WebcamconsultRequestError, "rejected the request and would reject a retry"
        )._replace(create_error=UNKNOWN)
        for status in (409, 418)
    },
    "422": _rejected(
        422,
        WebcamconsultValidationError,
        "email: is al in gebruik",
        {"errors": {"email": ["is al in gebruik"]}},
    ),
    "web page": Fault(
        {"body": "\n<!DOCTYPE html><p>s3cret-body"},
        WebcamconsultConfigurationError,
        1,
        "Check the connection's Host",
        UNKNOWN,
    ),
    "empty response": _unreadable(""),
    "not JSON": _unreadable("s3cret-body"),
    "not text": _unreadable(b"\xff\xfe\xff"),
    "unclosed JSON": _unreadable("[" * 200_000),
    "other JSON": _unreadable({"status": "ok"}),
    "list": _unreadable([{"id": ID}]),
    "record in wrong envelope": _unreadable({"user": {"id": ID, "last_name": "s3cret-name"}}),
    "record without id": _unreadable({"client": {"last_name": "s3cret-name"}}),
    "record with number as id": _unreadable({"client": {"id": 12}}),
}


def _cases(faults: dict[str, Fault], methods: Iterable[str] = CALLS) -> pytest.MarkDecorator:
    cases = {f"{method}, {name}": (method, fault) for name, fault in faults.items() for method in methods}
    return pytest.mark.parametrize(("method", "fault"), cases.values(), ids=cases.keys())


@pytest.fixture(autouse=True)
def _no_long_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "RETRY_AFTER_MAX_SECONDS", 0)


def call(method: str, hook: WebcamconsultHook) -> WebcamconsultError | None:
    """Make the call, and return the error that it raised, if any."""
    try:
        CALLS[method](hook)
    except WebcamconsultError as error:
        return error
    return None


@_cases(FAULTS)
def test_fault_determines_error_and_number_of_attempts(
    method: str, fault: Fault, connect: Connect, serve: Serve
) -> None:
    server = serve(fault.step)
    error = call(method, connect(server.url, TOKEN, retries=RETRIES, timeout=0.25))
    expected, times = fault.error, fault.times
    if method == "POST" and fault.create_error:
        expected, times = fault.create_error, 1
    if method == "DELETE" and fault.delete_error:
        expected, times = fault.delete_error, fault.times + 1
    if method == "DELETE" and fault.delete_succeeds:
        assert (error, len(server.requests)) == (None, 1)
        return
    assert (type(error), len(server.requests)) == (expected, times)
    assert isinstance(error, AirflowFailException) is (expected in NO_RETRY)


@pytest.mark.parametrize("auth_as_parameter", [False, True], ids=["header", "parameter"])
@_cases({name: fault for name, fault in FAULTS.items() if "delay" not in fault.step}, ["DELETE", "POST"])
def test_error_names_request_connection_and_remedy_but_no_secret(
    method: str,
    fault: Fault,
    auth_as_parameter: bool,
    connect: Connect,
    serve: Serve,
    error_text: ErrorText,
    log: Log,
) -> None:
    url = serve(fault.step).url
    error = call(method, connect(url, TOKEN, retries=1, auth_as_parameter=auth_as_parameter))
    if error is None:
        assert fault.delete_succeeds
        return
    path = "/clients.json" if method == "POST" else f"/client/{ID}.json"
    # An error about a missing record says first that it is gone.
    assert str(error).startswith((f"{method} {path} ", f"Client {ID} does not exist "))
    assert f"{method} {path} " in str(error)
    assert f"connection '{CONN_ID}'" in str(error)
    assert (error.method, error.path) == (method, path)
    remedy = NOT_RETRIED if method == "POST" and fault.create_error else fault.remedy
    assert any(alternative in str(error) for alternative in remedy.split("|"))
    assert "s3cret" not in error_text(error) + log.text


# Requests that were never sent


@pytest.fixture
def refused_url() -> Iterator[str]:
    """Return an address whose port is reserved but closed."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


@pytest.fixture
def full_queue_url() -> Iterator[str]:
    """Return an address whose connection queue is full, so that connecting times out."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for client in waiting:
            client.close()


class _TlsAlert(socketserver.BaseRequestHandler):
    """Refuses each handshake, as a proxy does whose service is away."""

    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(bytes.fromhex("15 0303 0002 02 50"))  # fatal: internal_error


@pytest.fixture
def tls_alert_url() -> Iterator[str]:
    with socketserver.TCPServer(("127.0.0.1", 0), _TlsAlert) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("refused_url", "connection error (Connection refused). Check the connection's Host and Port."),
        (
            "https://webcamconsult.invalid",
            "the host name could not be resolved. Check the connection's Host.",
        ),
        (
            "tls_alert_url",
            "no TLS connection was established (TLSV1_ALERT_INTERNAL_ERROR). "
            "Try again later; if the error persists, check the connection's Host and Port.",
        ),
        pytest.param(
            "full_queue_url",
            "no connection was established within 0.25 s. "
            "Check the connection's Host and Port, and the network.",
            marks=pytest.mark.skipif(
                sys.platform != "linux", reason="other systems refuse the connection immediately"
            ),
        ),
    ],
    ids=["connection refused", "unknown host", "TLS alert", "no connection in time"],
)
def test_unsent_request_is_retried_for_every_method(
    method: str, address: str, cause: str, connect: Connect, log: Log, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(address) if address.endswith("_url") else address
    # Enough for a handshake on a busy machine; one case waits until it is over.
    timeout = 5 if address == "tls_alert_url" else 0.25
    error = call(method, connect(url, TOKEN, retries=RETRIES, timeout=timeout))
    assert type(error) is WebcamconsultConnectionError
    assert not isinstance(error, AirflowFailException)
    assert str(error).endswith(f".json with connection '{CONN_ID}' failed: {cause}")
    assert len(log.warnings) == RETRIES


@pytest.mark.parametrize("method", CALLS)
def test_host_without_tls_is_not_retried(method: str, connect: Connect, serve: Serve, log: Log) -> None:
    server = serve({})
    error = call(method, connect(f"https://127.0.0.1:{server.port}", TOKEN, retries=RETRIES))
    assert type(error) is WebcamconsultConfigurationError
    assert str(error).endswith(
        " failed: the host does not speak TLS on this port. Check the connection's Host and Port; for "
        "plain http, begin the Host with http://."
    )
    assert (log.warnings, server.requests) == ([], [])


@pytest.mark.parametrize("method", CALLS)
def test_invalid_host_name_is_not_retried(method: str, connect: Connect, log: Log) -> None:
    error = call(method, connect("https://.example.com"))
    assert type(error) is WebcamconsultConfigurationError
    assert str(error).endswith(" failed: the host name is invalid. Check the connection's Host.")
    assert log.warnings == []


@pytest.mark.parametrize("address", ["connection refused", "unknown host"])
@pytest.mark.parametrize("method", CALLS)
def test_error_of_unsent_request_does_not_show_token(
    method: str, address: str, connect: Connect, refused_url: str, error_text: ErrorText, log: Log
) -> None:
    url = refused_url if address == "connection refused" else "http://webcamconsult.invalid"
    error = call(method, connect(url, TOKEN, retries=0, auth_as_parameter=True))
    assert error is not None
    assert "s3cret" not in error_text(error) + log.text


@pytest.mark.parametrize("method", CALLS)
def test_service_that_starts_during_retries_receives_request_once(
    method: str, connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.1)
    server = serve(GOOD, listening_after=0.05)
    assert call(method, connect(server.url, retries=5)) is None
    assert len(server.requests) == 1


# Retries


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "fault",
    [{"status": status} for status in (429, 500, 502, 503, 504)]
    + [{"cut": "after the request"}, {"cut": "before the body"}, {**GOOD, "cut": "in the response"}],
    ids=str,
)
def test_transient_fault_is_retried_and_logged(
    method: str, fault: Step, connect: Connect, serve: Serve, log: Log
) -> None:
    server = serve(fault, GOOD)
    assert call(method, connect(server.url)) is None
    first, second = server.requests
    assert (second.method, second.target) == (first.method, first.target)
    (warning,) = log.warnings
    assert warning.endswith("Retrying in 0.0 s.")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_retry_sends_the_complete_body(method: str, connect: Connect, serve: Serve) -> None:
    server = serve({"status": 429}, {"status": 429}, GOOD)
    assert call(method, connect(server.url)) is None
    assert len(server.requests) == 3
    assert len({request.body for request in server.requests} - {b""}) == 1


def test_create_is_not_lost_on_a_connection_closed_while_idle(connect: Connect, serve: Serve) -> None:
    server = serve({**GOOD, "cut": "after the response"}, GOOD)
    hook = connect(server.url)
    hook.clients.get(ID)
    assert server.connection_ended.wait(10)
    hook.clients.create({"last_name": "Ester"})
    assert [request.method for request in server.requests] == ["GET", "POST"]


@pytest.mark.parametrize(
    "fault",
    [{"status": status} for status in (500, 502, 503, 504)]
    + [
        {"cut": "after the request"},
        {"cut": "before the body"},
        {"body": "ok", "cut": "in the response"},
        {"delay": 1},
    ],
    ids=str,
)
def test_retried_delete_succeeds_when_record_is_missing(fault: Step, connect: Connect, serve: Serve) -> None:
    server = serve(fault, {"status": 404}, {"body": []})
    assert call("DELETE", connect(server.url, timeout=0.25)) is None
    assert [request.method for request in server.requests] == ["DELETE", "DELETE", "GET"]


@pytest.mark.parametrize("steps", [[{"status": 404}], [{"status": 429}, {"status": 404}]], ids=str)
def test_delete_fails_on_404_when_no_earlier_attempt_can_have_deleted(
    steps: list[Step], connect: Connect, serve: Serve
) -> None:
    server = serve(*steps, {"body": []})
    assert type(call("DELETE", connect(server.url))) is WebcamconsultNotFoundError


def test_retried_update_fails_on_404(connect: Connect, serve: Serve) -> None:
    error = call("PUT", connect(serve({"status": 503}, {"status": 404}).url))
    assert type(error) is WebcamconsultNotFoundError


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_retries_setting_limits_number_of_attempts(retries: int, connect: Connect, serve: Serve) -> None:
    server = serve({"status": 503})
    call("GET", connect(server.url, retries=retries))
    assert len(server.requests) == 1 + retries


def test_total_retry_time_is_limited(connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "RETRY_TOTAL_SECONDS", 0)
    server = serve({"status": 503})
    call("GET", connect(server.url, retries=100))
    assert len(server.requests) == 1


def test_retry_delay_grows_up_to_a_limit(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.1)
    monkeypatch.setattr(transport, "BACKOFF_MAX_SECONDS", 0.2)
    call("GET", connect(serve({"status": 503}).url, retries=3))
    delays = [float(warning.rpartition(" in ")[2].removesuffix(" s.")) for warning in log.warnings]
    assert 0.1 <= delays[0] <= 0.2 <= delays[1] <= 0.3
    assert delays[2] <= 0.3


# Retry-After


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_respected(
    method: str, as_date: bool, connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "RETRY_AFTER_MAX_SECONDS", 120)
    # An HTTP date has no fractions, so this is one to two seconds from now.
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    retry_after = format_datetime(moment.replace(microsecond=0), usegmt=True) if as_date else "1"
    server = serve({"status": 429, "headers": {"Retry-After": retry_after}}, GOOD)
    hook, started = connect(server.url), time.monotonic()
    assert call(method, hook) is None
    assert 0.8 <= time.monotonic() - started < 10


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "shortest", "longest"),
    [
        ("7", 7, 7),
        (" 7 ", 7, 7),
        ("0", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 1e9, 1e10),
    ],
)
def test_error_has_retry_after_of_response(
    status: int, header: str, shortest: float, longest: float, connect: Connect, serve: Serve
) -> None:
    error = call("GET", connect(serve({"status": status, "headers": {"Retry-After": header}}).url, retries=0))
    assert error is not None
    assert error.retry_after is not None
    assert shortest <= error.retry_after <= longest


@pytest.mark.parametrize(
    "header",
    ["", "soon", "-5", "1.5", "\N{ARABIC-INDIC DIGIT SEVEN}", "Wed, 21 Oct 2099 07:28:00", "Wed, 99 Oct"],
)
def test_invalid_retry_after_is_none(header: str, connect: Connect, serve: Serve) -> None:
    step: Step = {"status": 429, "headers": {"Retry-After": header}}
    error = call("GET", connect(serve(step).url, retries=0))
    assert error is not None
    assert error.retry_after is None


def test_retry_after_is_limited(connect: Connect, serve: Serve) -> None:
    # The limit is 0 in this module.
    server = serve({"status": 429, "headers": {"Retry-After": "3600"}}, GOOD)
    assert call("GET", connect(server.url)) is None


# Responses


def test_redirect_is_not_followed(connect: Connect, serve: Serve) -> None:
    other = serve(GOOD)
    error = call("POST", connect(serve({"status": 307, "headers": {"Location": other.url}}).url))
    assert f"redirects to {other.url}," in str(error)
    assert other.requests == []


@pytest.mark.parametrize("location", ["/users/sign_in", "", "sign_in"])
def test_redirect_on_same_host_is_reported_as_other_path(
    location: str, connect: Connect, serve: Serve
) -> None:
    error = call("GET", connect(serve({"status": 302, "headers": {"Location": location}}).url))
    assert "redirects to another path" in str(error)


def test_validation_error_has_reasons_for_each_attribute(connect: Connect, serve: Serve) -> None:
    errors = {"email": ["is al in gebruik", "is ongeldig"], "base": "is invalid"}
    error = call("POST", connect(serve({"status": 422, "body": {"errors": errors}}).url))
    assert isinstance(error, WebcamconsultValidationError)
    assert error.errors == {"email": ["is al in gebruik", "is ongeldig"], "base": ["is invalid"]}
    assert "email: is al in gebruik, is ongeldig; base: is invalid." in str(error)


@pytest.mark.parametrize(
    "body", ["", "no JSON", [], {}, {"errors": {}}, {"errors": ["x"]}, {"errors": None}], ids=repr
)
def test_validation_error_without_reasons_reports_their_absence(
    body: Any, connect: Connect, serve: Serve
) -> None:
    error = call("PUT", connect(serve({"status": 422, "body": body}).url))
    assert isinstance(error, WebcamconsultValidationError)
    assert error.errors == {}
    assert "The response contains no reason" in str(error)


@pytest.mark.parametrize(
    "host",
    ["38826f79a1b2c3d4e5f60718293a4b5c.example", "jan-jansen-13-08-1979.example", "x." * 200 + "example"],
)
def test_redirect_to_a_host_that_may_contain_a_secret_does_not_show_it(
    host: str, connect: Connect, serve: Serve
) -> None:
    server = serve({"status": 302, "headers": {"Location": f"https://{host}/clients.json"}})
    assert host.partition(".example")[0] not in str(call("GET", connect(server.url)))


@pytest.mark.parametrize(
    "body",
    [{"client": {"id": "null"}}, {"client": {"id": "None"}}, {"client": {"id": ID}, "errors": {"x": ["y"]}}],
)
def test_response_that_contradicts_itself_proves_nothing_about_a_create(
    body: Any, connect: Connect, serve: Serve
) -> None:
    assert type(call("POST", connect(serve({"body": body}).url))) is UNKNOWN


@pytest.mark.parametrize("body", ["", "no JSON", "<html>Unprocessable</html>"], ids=repr)
def test_422_that_is_not_the_api_s_proves_nothing_about_a_create(
    body: Any, connect: Connect, serve: Serve
) -> None:
    assert type(call("POST", connect(serve({"status": 422, "body": body}).url))) is UNKNOWN


@pytest.mark.parametrize(
    "body", [{"users": []}, [None], ["x"], [{"last_name": "x"}], [{"id": ""}], {"id": ID}, "null"], ids=repr
)
def test_invalid_list_response_raises(body: Any, connect: Connect, serve: Serve) -> None:
    what = "record 1 of the list" if isinstance(body, list) else "the response"
    with pytest.raises(
        WebcamconsultResponseError, match=rf"^GET /users\.json with \S+ \S+ returned 200, but {what} is not"
    ):
        connect(serve({"body": body}).url, retries=0).users.list()


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "Not Found"), (503, "Service Unavailable"), (299, None)]
)
def test_error_has_status_code_and_reason(
    status: int, reason: str | None, connect: Connect, serve: Serve
) -> None:
    error = call("GET", connect(serve({"status": status}).url, retries=0))
    assert error is not None
    assert (error.status_code, error.reason) == (status, reason)


def test_the_repr_of_a_response_has_neither_its_headers_nor_its_body() -> None:
    from airflow_provider_webcamconsult.transport import _Received

    received = _Received(200, {"Set-Cookie": "secret"}, b'{"last_name": "Jansen"}')

    assert repr(received) == "_Received(status_code=200, size=23)"
