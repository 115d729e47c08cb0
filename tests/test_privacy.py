"""Patients' data and tokens stay where they belong: in the request, the service and the user's code."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from tests.conftest import Connect, Log, Serve

TOKEN = "s3cret+token"
#: As it is, as a part of a URL, and as JSON escapes it in a repr.
TOKENS = ("s3cret+token", "s3cret%2Btoken")

TOKEN_AS = pytest.mark.parametrize("auth_as_parameter", [False, True], ids=["header", "parameter"])


def shows_token(*things: Any) -> bool:
    return any(token in str(thing) for thing in things for token in TOKENS)


# The organisation's token


@TOKEN_AS
@pytest.mark.parametrize(
    "step", [{"body": []}, {"status": 404}, {"cut": "after the request"}], ids=["answer", "error", "cut"]
)
def test_the_token_is_on_the_wire_and_in_nothing_that_requests_shows(
    step: Any, auth_as_parameter: bool, connect: Connect, serve: Serve, log: Log
) -> None:
    server = serve(step)
    session = connect(server.url, TOKEN, auth_as_parameter=auth_as_parameter).get_conn()
    shown: list[Any] = []
    try:
        response = session.get(f"{server.url}/users.json")
        shown += [response.url, response.request.url, response.request.headers, vars(response.request)]
        response.raise_for_status()
    except requests.RequestException as error:
        logging.getLogger("webcamconsult").warning("It failed.", exc_info=error)
        shown += [error, repr(error.args), error.request and vars(error.request)]
    assert shows_token(f"{server.requests[0].target} {server.requests[0].headers}")
    assert not shows_token(*shown, log.text)


@TOKEN_AS
def test_the_token_is_in_no_log_of_a_session_that_repeats(
    auth_as_parameter: bool, connect: Connect, serve: Serve, log: Log
) -> None:
    # urllib3 warns of each repetition with the URL.
    server = serve({"cut": "after the request"}, {"status": 503}, {"body": []})
    session = connect(server.url, TOKEN, auth_as_parameter=auth_as_parameter).get_conn()
    from urllib3.util import Retry

    session.adapters[f"{server.url}/"].max_retries = Retry(3, status_forcelist=[503], backoff_factor=0)  # type: ignore[attr-defined]
    session.get(f"{server.url}/users.json")
    assert "users.json" in log.text
    assert [shows_token(f"{request.target} {request.headers}") for request in server.requests] == [True] * 3
    assert not shows_token(log.text)


@TOKEN_AS
def test_the_token_reaches_the_service_through_a_proxy(
    auth_as_parameter: bool, connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve({"body": []})
    monkeypatch.setenv("http_proxy", proxy.url)
    hook = connect("http://webcamconsult.invalid", TOKEN, auth_as_parameter=auth_as_parameter)
    for _ in range(2):
        hook.users.list()
    for request in proxy.requests:
        assert request.target.startswith("http://webcamconsult.invalid/users.json")
        assert sum(f"{request.target} {request.headers}".count(token) for token in TOKENS) == 1


@TOKEN_AS
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_does_not_take_the_token_along(
    status: int, auth_as_parameter: bool, connect: Connect, serve: Serve
) -> None:
    other = serve({})
    server = serve({"status": status, "headers": {"Location": f"{other.url}/users.json"}})
    session = connect(server.url, TOKEN, auth_as_parameter=auth_as_parameter).get_conn()
    session.get(f"{server.url}/users.json")
    assert len(other.requests) == 1
    assert not shows_token(other.requests)


@TOKEN_AS
def test_the_token_is_in_no_repr(auth_as_parameter: bool, connect: Connect, serve: Serve) -> None:
    hook = connect(serve({}).url, TOKEN, auth_as_parameter=auth_as_parameter)
    session = hook.get_conn()
    assert not shows_token(hook, vars(hook), hook.settings, session, vars(session), session.adapters)
