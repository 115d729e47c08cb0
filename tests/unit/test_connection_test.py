"""The one-line result of the Test button of the connection form and of `airflow connections test`."""

from __future__ import annotations

import json
import re
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.version_compat import AirflowNotFoundException

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.conftest import Connect, Log, Serve, Service

TOKEN = "s3cret-token"


def failure_message(hook: WebcamconsultHook, log: Log) -> str:
    """Test the connection, and return the message of the failure."""
    works, message = hook.test_connection()
    assert works is False
    assert "s3cret" not in f"{message} {log.text}"
    assert "Traceback" not in message
    assert re.fullmatch(r"[^\n]{1,200}[^.\n][.?]", message)
    assert message.count(". ") <= 2, "more than what happened, what that means and what to do"
    return message


@pytest.mark.parametrize(("users", "count"), [(0, "0 users"), (1, "1 user"), (2, "2 users")])
def test_success_message_has_url_and_user_count(
    users: int, count: str, hook: WebcamconsultHook, service: Service
) -> None:
    for number in range(users):
        hook.users.create({"last_name": f"Akkermans {number}"})
    assert hook.test_connection() == (
        True,
        f"Connected to Webcamconsult at {service.url}: the token's organisation has {count}.",
    )


def test_connection_test_sends_one_read_request(hook: WebcamconsultHook, service: Service) -> None:
    hook.test_connection()
    assert [(request.method, request.path) for request in service.requests] == [("GET", "/users.json")]


# With retries, the page would wait for minutes, and Airflow 2 ends a request after two.
@pytest.mark.parametrize("step", [{"status": 503}, {"status": 429}, {"cut": "after the request"}], ids=str)
def test_failed_request_is_not_retried(step: Any, connect: Connect, serve: Serve) -> None:
    server = serve(step)
    hook = connect(server.url, retries=3)
    assert hook.test_connection()[0] is False
    assert server.connections == 1
    assert hook.settings.retries == 3


def test_wrong_token_is_reported(connect: Connect, service: Service, log: Log) -> None:
    assert failure_message(connect(service.url, TOKEN), log) == (
        "GET /users.json returned 401. Webcamconsult rejected the API token. "
        "Enter the organisation's API token as the connection's password."
    )


def test_unknown_host_is_reported(connect: Connect, log: Log) -> None:
    assert failure_message(connect("https://no-such-host.invalid", TOKEN), log) == (
        "GET /users.json failed: the host name could not be resolved. Check the connection's Host."
    )


def test_closed_port_is_reported(connect: Connect, log: Log) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        message = failure_message(connect(f"http://127.0.0.1:{unused.getsockname()[1]}", TOKEN), log)
    assert message == (
        "GET /users.json failed: connection error (Connection refused). Check the connection's Host and Port."
    )


def test_host_without_tls_is_reported(connect: Connect, serve: Serve, log: Log) -> None:
    server = serve({"body": []})
    assert failure_message(connect(f"https://127.0.0.1:{server.port}", TOKEN), log) == (
        "GET /users.json failed: the host does not speak TLS on this port. "
        "Check the connection's Host and Port; for plain http, begin the Host with http://."
    )
    assert server.requests == []


def test_plain_http_to_tls_host_is_reported(connect: Connect, serve: Serve, log: Log) -> None:
    server = serve({"body": []}, tls=True)
    message = failure_message(connect(f"http://127.0.0.1:{server.port}", TOKEN), log)
    assert message.endswith("check the connection's Host.")


def test_untrusted_certificate_is_reported(connect: Connect, serve: Serve, log: Log) -> None:
    message = failure_message(connect(serve({"body": []}, tls=True).url, TOKEN), log)
    assert re.fullmatch(
        r"GET /users\.json failed: the server's certificate could not be verified "
        r"\(self-signed certificate\)\. "
        r"Check the connection's Host, and that this machine trusts the certificate authority\.",
        message,
    )


def test_response_timeout_is_reported(connect: Connect, serve: Serve, log: Log) -> None:
    server = serve({"delay": 2, "body": []})
    assert failure_message(connect(server.url, TOKEN, timeout=0.2), log) == (
        "GET /users.json failed: no response was received within 0.2 s. "
        "Try again later, or increase 'timeout' in the connection."
    )


@pytest.fixture
def full_port() -> Iterator[int]:
    """Return a port that accepts no more connections because its queue is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(("127.0.0.1", port))
        yield port
        for each in waiting:
            each.close()


def test_connect_timeout_is_reported(full_port: int, connect: Connect, log: Log) -> None:
    assert failure_message(connect(f"http://127.0.0.1:{full_port}", TOKEN, timeout=0.2), log) == (
        "GET /users.json failed: no connection was established within 0.2 s. "
        "Check the connection's Host and Port, and the network."
    )


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            {"body": "<!doctype html><title>Welcome</title>"},
            "GET /users.json returned 200 with a web page instead of JSON. Check the connection's Host.",
        ),
        (
            {"body": {"hello": "world"}},
            "GET /users.json returned 200, but the response is not the documented JSON or is incomplete. "
            "Try again; if the error persists, check the connection's Host.",
        ),
        (
            {"body": [{"hello": "world"}]},
            "GET /users.json returned 200, but record 1 of the list is not the documented JSON or is "
            "incomplete. Try again; if the error persists, check the connection's Host.",
        ),
        (
            {"status": 404, "body": "<h1>Not Found</h1>"},
            "GET /users.json returned 404, but the response did not come from the Webcamconsult API. Try "
            "again; if the error persists, check the connection's Host.",
        ),
        (
            {"status": 301, "headers": {"Location": "https://www.example.com/login?token=s3cret"}},
            "GET /users.json returned 301. The host redirects to https://www.example.com, so the request was "
            "not processed. Enter the correct address as the connection's Host.",
        ),
    ],
    ids=["web page", "other API", "list of other API", "unknown path", "redirect"],
)
def test_host_other_than_webcamconsult_is_reported(
    step: Any, message: str, connect: Connect, serve: Serve, log: Log
) -> None:
    assert failure_message(connect(serve(step).url, TOKEN), log) == message


def test_host_without_http_is_reported(connect: Connect, log: Log) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=greet, daemon=True).start()
        message = failure_message(connect(f"http://127.0.0.1:{server.getsockname()[1]}", TOKEN), log)
    assert message == (
        "GET /users.json failed: the connection was lost before the response was complete. "
        "Try again; if the error persists, check the connection's Host."
    )


# Airflow tests a connection under a random id, so the message does not contain it.
@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            {"timezone": "Amsterdam"},
            "The connection has an invalid extra 'timezone'. Enter an IANA time zone such as ",
        ),
        (
            {"timeout": "soon"},
            "The connection has an invalid extra 'timeout'. Enter a number from 0.1 to 3600.",
        ),
        (
            {"retries": 1.5},
            "The connection has an invalid extra 'retries'. Enter a whole number from 0 to 100.",
        ),
        ({"insecure": "maybe"}, "The connection has an invalid extra 'insecure'. Enter true or false."),
        ({"time_zone": "UTC"}, "The connection has an unknown extra 'time_zone'. Did you mean"),
        (
            {"colour": "red"},
            "The connection has an unknown extra 'colour'. Remove it, or use one of: timezone, ",
        ),
        ("timezone=UTC", "The connection has an Extra that is not a JSON object. Enter one such as "),
    ],
    ids=str,
)
def test_invalid_extra_is_reported_without_a_request(
    extra: object, message: str, service: Service, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    connection = {"conn_type": "webcamconsult", "host": service.url, "password": TOKEN, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_XKCDQWERTZ", json.dumps(connection))
    try:
        WebcamconsultHook.get_connection("xkcdqwertz")
    except AirflowNotFoundException:
        pytest.skip("before 3.2, Airflow itself reads no such connection from the environment")
    assert failure_message(WebcamconsultHook("xkcdqwertz"), log).startswith(message)
    assert service.requests == []


@pytest.mark.parametrize(
    ("host", "password", "message"),
    [
        (
            "https://example.com",
            "",
            "The connection has no API token. Enter the organisation's API token as the password.",
        ),
        (
            "https://example.com",
            "Token s3cret",
            "The connection has an invalid API token: it contains spaces, control or non-ASCII characters. "
            "Enter only the token as the password.",
        ),
        (
            "two words",
            TOKEN,
            "The connection has an invalid Host. Enter an address such as https://eapi.webcamconsult.com.",
        ),
        (
            "https://s3cret@example.com",
            TOKEN,
            "The connection has an invalid Host: it contains more than an address. Enter an address such as "
            "https://eapi.webcamconsult.com, and the API token as the password.",
        ),
    ],
)
def test_invalid_host_or_token_is_reported(
    host: str, password: str, message: str, connect: Connect, log: Log
) -> None:
    assert failure_message(connect(host, password), log) == message
