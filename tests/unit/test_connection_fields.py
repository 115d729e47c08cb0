"""Fields of a connection that contradict each other or make no sense."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.exceptions import WebcamconsultConfigurationError
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_webcamconsult.connection import Settings

    Read = Callable[..., Settings]

LIVE = "eapi.webcamconsult.com"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    def read(**fields: Any) -> Settings:
        entry = {"conn_type": "webcamconsult", "password": "s3cret", **fields}
        monkeypatch.setenv("AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT", json.dumps(entry))
        return WebcamconsultHook().settings

    return read


class TestSchema:
    @pytest.mark.parametrize(
        ("schema", "host", "base_url"),
        [
            ("http", "example.com", "http://example.com"),
            (" HTTP ", "127.0.0.1:8080/api", "http://127.0.0.1:8080/api"),
            ("https", "example.com", "https://example.com"),
            ("http", None, f"http://{LIVE}"),
            ("https", None, f"https://{LIVE}"),
            ("http", "http://example.com", "http://example.com"),
            ("https", "HTTPS://example.com", "https://example.com"),
            ("", "example.com", "https://example.com"),
            (None, "http://example.com", "http://example.com"),
        ],
    )
    def test_is_the_scheme_of_a_host_without_one(
        self, schema: str | None, host: str | None, base_url: str, read: Read
    ) -> None:
        assert read(schema=schema, host=host).base_url == base_url

    @pytest.mark.parametrize("schema", ["api", "ftp", "https://", "/https", "public", "s3cret"])
    def test_of_another_kind_is_refused(self, schema: str, read: Read) -> None:
        with pytest.raises(
            WebcamconsultConfigurationError, match=r"invalid Schema\. Remove it, or set it to http or https\."
        ) as refused:
            read(schema=schema, host="example.com")
        assert "s3cret" not in str(refused.value)

    @pytest.mark.parametrize(("schema", "other"), [("http", "https"), ("https", "http")])
    def test_that_contradicts_the_host_is_refused(self, schema: str, other: str, read: Read) -> None:
        with pytest.raises(
            WebcamconsultConfigurationError,
            match=rf"has the Schema {schema}, but its Host starts with {other}://\. Remove the Schema\.",
        ):
            read(schema=schema, host=f"{other}://example.com")

    def test_can_be_in_a_uri(self, monkeypatch: pytest.MonkeyPatch) -> None:
        variable = "AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT"
        monkeypatch.setenv(variable, "webcamconsult://:s3cret@example.com/http")
        assert WebcamconsultHook().settings.base_url == "http://example.com"
        monkeypatch.setenv(variable, "webcamconsult://:s3cret@example.com/api/v1")
        with pytest.raises(WebcamconsultConfigurationError, match="If it is a path, add it to the Host"):
            _ = WebcamconsultHook().settings


class TestLogin:
    @pytest.mark.parametrize("password", [None, "", "another-s3cret"])
    def test_is_refused(self, password: str | None, read: Read) -> None:
        with pytest.raises(
            WebcamconsultConfigurationError, match=r"has a Login, .* API token as the password, and remove"
        ) as refused:
            read(login="s3cret", password=password)
        assert "s3cret" not in str(refused.value)

    @pytest.mark.parametrize("login", [None, "", " "])
    def test_may_be_blank(self, login: str | None, read: Read) -> None:
        assert read(login=login).token == "s3cret"


class TestPort:
    @pytest.mark.parametrize(("port", "in_host"), [(8443, 80), (443, 8080), (80, 443)])
    @pytest.mark.parametrize("host", ["https://example.com:{}/api", "example.com:{}", "http://[::1]:{}"])
    def test_that_contradicts_the_host_is_refused(
        self, port: int, in_host: int, host: str, read: Read
    ) -> None:
        with pytest.raises(
            WebcamconsultConfigurationError,
            match=rf"has the Port {port}, but its Host contains the port {in_host}\. Remove one of them\.",
        ):
            read(host=host.format(in_host), port=port)

    @pytest.mark.parametrize("port", [None, 0, 8443])
    def test_may_be_the_same_or_blank(self, port: int | None, read: Read) -> None:
        assert read(host="example.com:8443", port=port).base_url == "https://example.com:8443"


ABSURD = [
    10**400,
    -(10**400),
    "9" * 400,
    "1e999",
    "-1e999",
    "nan",
    float("nan"),
    float("inf"),
    "0x1e",
    "1\0",
    "x" * 10_000,
    [30],
    [[]],
    {"a": 1},
    {},
]


@pytest.mark.parametrize(
    "name", ["timeout", "retries", "timezone", "auth_as_parameter", "plural_paths", "insecure"]
)
@pytest.mark.parametrize("prefix", ["", "extra__webcamconsult__"])
@pytest.mark.parametrize("value", ABSURD, ids=range(len(ABSURD)))
def test_an_absurd_extra_is_refused(name: str, prefix: str, value: object, read: Read) -> None:
    with pytest.raises(WebcamconsultConfigurationError, match=f"has an invalid extra '{name}'"):
        read(extra={prefix + name: value})


@pytest.mark.parametrize("value", ["1_0", " 10 ", 10.0])
def test_a_number_in_pythons_spelling_is_read(value: object, read: Read) -> None:
    assert read(extra={"timeout": value}).timeout == 10


@pytest.mark.parametrize("extra", ["[" * 100_000, '{"a":' * 100_000, '{"timeout": ' + "9" * 5000 + "}"])
def test_an_extra_that_json_cannot_read_is_refused(extra: str) -> None:
    from airflow_provider_webcamconsult.connection import Settings

    class Stored:
        conn_id, host, port, schema, login, password = "x", None, None, None, None, "s3cret"

    Stored.extra = extra  # type: ignore[attr-defined]
    with pytest.raises(
        WebcamconsultConfigurationError, match=r"Extra that is not a JSON object|invalid extra"
    ):
        Settings.from_connection(Stored)
