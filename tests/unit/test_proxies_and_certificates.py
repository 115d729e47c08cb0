"""Errors of the proxy and of the CA certificates that the environment sets."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultRequestError,
)
from airflow_provider_webcamconsult.version_compat import AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, ErrorText, Log, Serve

RETRIES = 2
HOSTS = {"http_proxy": "http://webcamconsult.invalid", "https_proxy": "https://webcamconsult.invalid"}
for_both_schemes = pytest.mark.parametrize("variable", HOSTS)


@pytest.fixture(params=["GET", "POST"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def dead_address() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def retries(log: Log) -> list[str]:
    return [warning for warning in log.warnings if "Retrying" in warning]


def fail(method: str, hook: WebcamconsultHook) -> WebcamconsultError:
    with pytest.raises(WebcamconsultError) as raised:
        hook.users.list() if method == "GET" else hook.clients.create({"last_name": "Alders"})
    return raised.value


@for_both_schemes
class TestProxy:
    def test_that_is_dead_is_named_and_retried(
        self,
        variable: str,
        method: str,
        dead_address: str,
        connect: Connect,
        monkeypatch: pytest.MonkeyPatch,
        log: Log,
        error_text: ErrorText,
    ) -> None:
        monkeypatch.setenv(variable, f"http://someone:s3cret@{dead_address}")
        error = fail(method, connect(HOSTS[variable], retries=RETRIES))
        assert type(error) is WebcamconsultConnectionError
        assert f"failed: the proxy {dead_address} could not be reached (Connection refused). " in str(error)
        assert "https_proxy" in str(error)
        assert "Host" not in str(error)
        assert len(retries(log)) == RETRIES
        assert "s3cret" not in error_text(error) + log.text
        assert "someone" not in error_text(error) + log.text

    def test_whose_name_is_unknown_is_named(
        self, variable: str, method: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(variable, "proxy.invalid:3128")
        error = fail(method, connect(HOSTS[variable], retries=0))
        assert type(error) is WebcamconsultConnectionError
        assert "the proxy proxy.invalid:3128 could not be reached" in str(error)

    @pytest.mark.parametrize(
        ("status", "cause", "is_retried"),
        [
            (407, "requires a user name and a password, or rejected them (407)", False),
            (403, "did not connect to the host (403)", False),
            (503, "did not connect to the host (503)", True),
            (429, "did not connect to the host (429)", True),
        ],
    )
    def test_that_refuses_is_named(
        self,
        variable: str,
        status: int,
        cause: str,
        is_retried: bool,
        method: str,
        connect: Connect,
        serve: Serve,
        monkeypatch: pytest.MonkeyPatch,
        log: Log,
    ) -> None:
        if variable == "http_proxy" and status != 407:
            pytest.skip("without a tunnel, only 407 is certainly the proxy's")
        proxy = serve({"status": status, "body": "<html>"})
        monkeypatch.setenv(variable, f"http://someone:s3cret@127.0.0.1:{proxy.port}")
        error = fail(method, connect(HOSTS[variable], retries=RETRIES))
        assert f"failed: the proxy 127.0.0.1:{proxy.port} {cause}. " in str(error)
        assert type(error) is (
            WebcamconsultConnectionError if is_retried else WebcamconsultConfigurationError
        )
        assert isinstance(error, AirflowFailException) is not is_retried
        assert len(proxy.requests) == (1 + RETRIES if is_retried else 1)
        assert error.status_code == status
        assert "s3cret" not in str(error) + log.text

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("http://", "the proxy"),
            ("http://someone:s3cret@", "the proxy"),
            ("http://127.0.0.1:port", "the proxy"),
            ("http://127.0.0.1:99999", "the proxy"),
            ("http://[::1", "the proxy"),
            ("ftp://someone:s3cret@127.0.0.1:21", "the proxy 127.0.0.1:21"),
            ("htp://127.0.0.1:3128", "the proxy 127.0.0.1:3128"),
            ("http://.invalid:1", "the proxy .invalid:1"),
            ("http://two words:1", "the proxy"),
            ("http://someone:s3c/ret@127.0.0.1:port", "the proxy"),
        ],
    )
    def test_with_an_invalid_url_is_not_retried(
        self,
        variable: str,
        url: str,
        name: str,
        method: str,
        connect: Connect,
        monkeypatch: pytest.MonkeyPatch,
        log: Log,
        error_text: ErrorText,
    ) -> None:
        monkeypatch.setenv(variable, url)
        error = fail(method, connect(HOSTS[variable], retries=RETRIES))
        assert type(error) is WebcamconsultConfigurationError
        assert f"failed: the URL of {name}" in str(error)
        assert " is invalid. Enter an address such as http://proxy.example.com:3128." in str(error)
        assert retries(log) == []
        assert "s3c" not in error_text(error)
        assert "someone" not in error_text(error)

    @pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4"])
    def test_that_speaks_socks_needs_a_library(
        self,
        variable: str,
        scheme: str,
        method: str,
        dead_address: str,
        connect: Connect,
        monkeypatch: pytest.MonkeyPatch,
        log: Log,
    ) -> None:
        monkeypatch.setitem(sys.modules, "socks", None)
        monkeypatch.delitem(sys.modules, "urllib3.contrib.socks", raising=False)
        monkeypatch.setenv(variable, f"{scheme}://someone:s3cret@{dead_address}")
        error = fail(method, connect(HOSTS[variable], retries=RETRIES))
        assert type(error) is WebcamconsultConfigurationError
        assert f"the proxy {dead_address} speaks SOCKS, which needs the library PySocks." in str(error)
        assert retries(log) == []


def test_a_407_without_a_proxy_is_the_hosts(connect: Connect, serve: Serve) -> None:
    assert type(fail("GET", connect(serve({"status": 407}).url))) is WebcamconsultRequestError


def test_an_invalid_host_is_blamed_although_there_is_a_proxy(
    connect: Connect, dead_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://{dead_address}")
    assert "the host name is invalid" in str(fail("GET", connect("https://.example.com")))


class TestCaBundle:
    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (None, "No such file or directory"),
            (b"no certificate", "the file contains no valid certificates"),
            (b"", "the file contains no valid certificates"),
        ],
        ids=["missing", "garbage", "empty"],
    )
    def test_that_cannot_be_loaded_is_named_and_not_retried(
        self,
        variable: str,
        content: bytes | None,
        problem: str,
        method: str,
        connect: Connect,
        serve: Serve,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        log: Log,
    ) -> None:
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_bytes(content)
        monkeypatch.setenv(variable, str(file))
        server = serve({"body": []}, tls=True)
        error = fail(method, connect(server.url, retries=RETRIES))
        assert type(error) is WebcamconsultConfigurationError
        assert f"failed: the CA certificates in {file} could not be loaded ({problem}). " in str(error)
        assert "REQUESTS_CA_BUNDLE" in str(error)
        assert retries(log) == []

    def test_that_can_be_loaded_is_not_blamed(
        self, connect: Connect, serve: Serve, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert connect(serve({"body": []}, tls=True).url).users.list() == []
        error = fail("GET", connect(serve({"cut": "after the request"}, tls=True).url, retries=0))
        assert "the connection was lost" in str(error) or "connection error" in str(error)

    def test_that_is_missing_does_not_matter_to_plain_http(
        self, connect: Connect, dead_address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/missing.pem")
        error = fail("GET", connect(f"http://{dead_address}", retries=0))
        assert "connection error (Connection refused)" in str(error)
