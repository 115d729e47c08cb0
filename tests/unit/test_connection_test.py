"""What the Test button of the connection's form says, and `airflow connections test`: one short line."""

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


def refused(hook: WebcamconsultHook, log: Log) -> str:
    """Press the button, and return what it says instead of success."""
    works, message = hook.test_connection()
    assert works is False
    assert "s3cret" not in f"{message} {log.text}"
    assert "Traceback" not in message
    assert re.fullmatch(r"[^\n]{1,200}[^.\n][.?]", message)
    assert message.count(". ") <= 2, "more than what happened, what that means and what to do"
    return message


@pytest.mark.parametrize(("users", "count"), [(0, "0 users"), (1, "1 user"), (2, "2 users")])
def test_it_names_what_it_reached_and_counts_the_users(
    users: int, count: str, hook: WebcamconsultHook, service: Service
) -> None:
    for number in range(users):
        hook.users.create({"last_name": f"Akkermans {number}"})
    assert hook.test_connection() == (
        True,
        f"Connected to Webcamconsult at {service.url}: the token's organisation has {count}.",
    )


def test_it_is_one_request_that_changes_nothing(hook: WebcamconsultHook, service: Service) -> None:
    hook.test_connection()
    assert [(request.method, request.path) for request in service.requests] == [("GET", "/users.json")]


# Else the page would wait for minutes, and Airflow 2 ends a request after two.
@pytest.mark.parametrize("step", [{"status": 503}, {"status": 429}, {"cut": "after the request"}], ids=str)
def test_it_tries_once_whatever_the_retries(step: Any, connect: Connect, serve: Serve) -> None:
    server = serve(step)
    hook = connect(server.url, retries=3)
    assert hook.test_connection()[0] is False
    assert server.connections == 1
    assert hook.settings.retries == 3


def test_a_wrong_token(connect: Connect, service: Service, log: Log) -> None:
    assert refused(connect(service.url, TOKEN), log) == (
        "GET /users.json returned 401. Webcamconsult rejected the API token. "
        "Enter the organisation's API token as the connection's password."
    )


def test_a_wrong_host(connect: Connect, log: Log) -> None:
    assert refused(connect("https://no-such-host.invalid", TOKEN), log) == (
        "GET /users.json failed: the host name could not be resolved. Check the connection's Host."
    )


def test_a_port_where_nobody_listens(connect: Connect, log: Log) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        message = refused(connect(f"http://127.0.0.1:{unused.getsockname()[1]}", TOKEN), log)
    assert message == (
        "GET /users.json failed: connection error (Connection refused). Check the connection's Host and Port."
    )


def test_a_host_that_does_not_speak_tls(connect: Connect, serve: Serve, log: Log) -> None:
    server = serve({"body": []})
    assert refused(connect(f"https://127.0.0.1:{server.port}", TOKEN), log) == (
        "GET /users.json failed: the host does not speak TLS on this port. "
        "Check the connection's Host and Port."
    )
    assert server.requests == []


def test_plain_http_where_the_host_speaks_tls(connect: Connect, serve: Serve, log: Log) -> None:
    server = serve({"body": []}, tls=True)
    message = refused(connect(f"http://127.0.0.1:{server.port}", TOKEN), log)
    assert message.endswith("check the connection's Host.")


def test_a_certificate_that_is_not_trusted(connect: Connect, serve: Serve, log: Log) -> None:
    message = refused(connect(serve({"body": []}, tls=True).url, TOKEN), log)
    assert re.fullmatch(
        r"GET /users\.json failed: the server's certificate could not be verified "
        r"\(self-signed certificate\)\. "
        r"Check the connection's Host, and that this machine trusts the certificate authority\.",
        message,
    )


def test_a_host_that_does_not_answer_in_time(connect: Connect, serve: Serve, log: Log) -> None:
    server = serve({"delay": 2, "body": []})
    assert refused(connect(server.url, TOKEN, timeout=0.2), log) == (
        "GET /users.json failed: no response was received within 0.2 s. "
        "Try again later, or increase 'timeout' in the connection."
    )


@pytest.fixture
def full_port() -> Iterator[int]:
    """Give a port that takes no more connections: its queue is full."""
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


def test_a_host_that_cannot_be_connected_to_in_time(full_port: int, connect: Connect, log: Log) -> None:
    assert refused(connect(f"http://127.0.0.1:{full_port}", TOKEN, timeout=0.2), log) == (
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
            "GET /users.json returned 200, but the response is not the documented JSON or is incomplete. "
            "Try again; if the error persists, check the connection's Host.",
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
    ids=["a web page", "another API", "another API's list", "no such path", "a redirect"],
)
def test_a_host_that_is_not_webcamconsult(
    step: Any, message: str, connect: Connect, serve: Serve, log: Log
) -> None:
    assert refused(connect(serve(step).url, TOKEN), log) == message


def test_a_host_that_does_not_speak_http(connect: Connect, log: Log) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=greet, daemon=True).start()
        message = refused(connect(f"http://127.0.0.1:{server.getsockname()[1]}", TOKEN), log)
    assert message == (
        "GET /users.json failed: the connection was lost before the response was complete. "
        "Try again; if the error persists, check the connection's Host."
    )


# The extras as a form, or a file, may have them. Airflow tests under a made-up id, which says nothing.
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
def test_bad_extras(
    extra: object, message: str, service: Service, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    connection = {"conn_type": "webcamconsult", "host": service.url, "password": TOKEN, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_XKCDQWERTZ", json.dumps(connection))
    try:
        WebcamconsultHook.get_connection("xkcdqwertz")
    except AirflowNotFoundException:
        pytest.skip("before 3.2, Airflow itself reads no such connection from the environment")
    assert refused(WebcamconsultHook("xkcdqwertz"), log).startswith(message)
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
def test_bad_fields(host: str, password: str, message: str, connect: Connect, log: Log) -> None:
    assert refused(connect(host, password), log) == message
