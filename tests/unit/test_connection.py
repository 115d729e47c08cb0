"""The settings that are read from an Airflow connection."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Protocol

import pendulum
import pytest

from airflow_provider_webcamconsult.connection import Settings
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
)
from airflow_provider_webcamconsult.get_provider_info import CONNECTION_FIELDS
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook

if TYPE_CHECKING:
    from tests.unit.conftest import ErrorText, Log

TOKEN = "38826f79010b41b5aaeb4710debb09db"
DEFAULTS = Settings(
    conn_id="webcamconsult_default",
    base_url="https://eapi.webcamconsult.com",
    token=TOKEN,
    timezone=pendulum.timezone("Europe/Amsterdam"),
    timeout=30,
    retries=3,
    auth_as_parameter=False,
    plural_paths=False,
    insecure=False,
)
# Each extra with a value other than its default, and the resulting settings.
EXTRAS = {
    "timezone": "America/New_York",
    "timeout": 2.5,
    "retries": 1,
    "auth_as_parameter": True,
    "plural_paths": True,
    "insecure": True,
}
EXTRAS_SETTINGS = dataclasses.replace(
    DEFAULTS,
    timezone=pendulum.timezone("America/New_York"),
    timeout=2.5,
    retries=1,
    auth_as_parameter=True,
    plural_paths=True,
    insecure=True,
)


class Read(Protocol):
    """Read the settings of a connection with these fields."""

    def __call__(self, **fields: Any) -> Settings: ...


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    def read(**fields: Any) -> Settings:
        entry = {"conn_type": "webcamconsult", "password": TOKEN, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT", json.dumps(entry))
        return WebcamconsultHook().settings

    return read


@pytest.mark.parametrize(
    "extra",
    [
        EXTRAS,
        json.dumps(EXTRAS),
        {name: str(value) for name, value in EXTRAS.items()},
        {name: f"  {value} " for name, value in EXTRAS.items()},
        # From the form and the Test button of Airflow 2, where browsers send "y" for a checked box.
        {f"extra__webcamconsult__{name}": value for name, value in EXTRAS.items()},
        {name: "y" if value is True else str(value) for name, value in EXTRAS.items()},
        {
            **dict.fromkeys(EXTRAS, ""),
            **{f"extra__webcamconsult__{name}": str(EXTRAS[name]) for name in EXTRAS},
        },
        {**dict.fromkeys(EXTRAS, None), **{f"extra__webcamconsult__{name}": EXTRAS[name] for name in EXTRAS}},
    ],
    ids=[
        "dict",
        "JSON",
        "strings",
        "whitespace",
        "prefixed names",
        "booleans as y",
        "blank and prefixed",
        "null and prefixed",
    ],
)
def test_extras_are_read_from_every_format(extra: object, read: Read) -> None:
    assert read(extra=extra) == EXTRAS_SETTINGS


def test_connection_uri_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT",
        f"webcamconsult://:{TOKEN}@https%3A%2F%2Fexample.com%2Fapi:8443/?timezone=America%2FNew_York&timeout=2.5"
        "&retries=1&auth_as_parameter=true&plural_paths=true&insecure=true",
    )
    expected = dataclasses.replace(EXTRAS_SETTINGS, base_url="https://example.com:8443/api")
    assert WebcamconsultHook().settings == expected


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_blank_fields_use_defaults(blank: str | None, read: Read) -> None:
    extra = {f"{prefix}{name}": blank for name in EXTRAS for prefix in ("", "extra__webcamconsult__")}
    assert read(host=blank, port=None, extra=extra) == DEFAULTS


def test_only_token_is_required(read: Read) -> None:
    assert read() == DEFAULTS


@pytest.mark.parametrize("field", CONNECTION_FIELDS)
def test_each_form_field_changes_exactly_one_setting(field: str, read: Read) -> None:
    settings = read(extra={field: EXTRAS[field]})
    changed = [
        setting.name
        for setting in dataclasses.fields(Settings)
        if getattr(settings, setting.name) != getattr(DEFAULTS, setting.name)
    ]
    assert changed == [field]


def test_each_setting_has_a_form_field() -> None:
    standard_fields = {"conn_id", "base_url", "token"}
    settings = {setting.name for setting in dataclasses.fields(Settings)} - standard_fields
    assert {*CONNECTION_FIELDS} == settings


@pytest.mark.parametrize("entered", [True, "True", "TRUE", "t", "yes", "Y", "on", "1", 1])
def test_boolean_extra_accepts_true_values(entered: object, read: Read) -> None:
    assert read(extra={"insecure": entered}).insecure is True


@pytest.mark.parametrize("entered", [False, "False", "FALSE", "f", "no", "N", "off", "0", 0, None, ""])
def test_boolean_extra_accepts_false_values(entered: object, read: Read) -> None:
    assert read(extra={"insecure": entered}).insecure is False


@pytest.mark.parametrize(
    ("host", "port", "base_url"),
    [
        ("eapi.webcamconsult.com", None, "https://eapi.webcamconsult.com"),
        ("https://eapi.webcamconsult.com/", None, "https://eapi.webcamconsult.com"),
        ("  HTTPS://EAPI.Webcamconsult.com  ", None, "https://eapi.webcamconsult.com"),
        ("http://127.0.0.1:8080", None, "http://127.0.0.1:8080"),
        ("127.0.0.1:8080", None, "https://127.0.0.1:8080"),
        ("example.com", 8443, "https://example.com:8443"),
        ("https://example.com/api", 8443, "https://example.com:8443/api"),
        ("https://example.com:8443", 8443, "https://example.com:8443"),
        ("https://example.com", 0, "https://example.com"),
        ("https://example.com//api//v1/", None, "https://example.com/api/v1"),
        ("[::1]:8080", None, "https://[::1]:8080"),
        ("http://[::1]/api", 8080, "http://[::1]:8080/api"),
        (None, 8443, "https://eapi.webcamconsult.com:8443"),
    ],
)
def test_base_url_is_built_from_host_and_port(
    host: str | None, port: int | None, base_url: str, read: Read
) -> None:
    assert read(host=host, port=port).base_url == base_url


@pytest.mark.parametrize(
    "host",
    [
        "https://",
        "ftp://example.com",
        "two words",
        "https://example.com:port",
        "https://example.com:99999",
        "https://[::1",
        "https://s3cret@example.com",
        "https://:s3cret@example.com",
        "https://example.com/?authentication_token=s3cret",
        "https://example.com/#s3cret",
    ],
)
def test_invalid_host_is_rejected(host: str, read: Read, error_text: ErrorText) -> None:
    with pytest.raises(
        WebcamconsultConfigurationError, match=r"has an invalid Host.* Enter an address such as https://eapi"
    ) as raised:
        read(host=host)
    assert "s3cret" not in error_text(raised.value)


@pytest.mark.parametrize("port", [-1, 65536])
def test_invalid_port_is_rejected(port: int, read: Read) -> None:
    with pytest.raises(WebcamconsultConfigurationError, match="Port"):
        read(host="https://example.com", port=port)


BOOLEAN = ("true or false", ["maybe", 2, [], {}])
INVALID: dict[str, tuple[str, list[object]]] = {
    # The last value exceeds the range of the system clock.
    "timeout": (
        "a number from 0.1 to 3600",
        ["soon", "30 s", 0, "0", -1, True, "nan", "inf", [30], {}, 1e10],
    ),
    "retries": ("a whole number from 0 to 100", ["many", -1, 1.5, "2.5", True, [], "inf"]),
    "timezone": (
        "an IANA time zone such as Europe/Amsterdam",
        ["Europe/Atlantis", "Amsterdam", "Europe", "../etc/passwd", "+02:00", 1, True, []],
    ),
    "auth_as_parameter": BOOLEAN,
    "plural_paths": BOOLEAN,
    "insecure": BOOLEAN,
}


@pytest.mark.parametrize(
    ("extra", "value", "problem"),
    [(extra, value, problem) for extra, (problem, values) in INVALID.items() for value in values],
)
def test_invalid_extra_is_named_with_expected_value(
    extra: str, value: object, problem: str, read: Read
) -> None:
    with pytest.raises(WebcamconsultConfigurationError) as raised:
        read(extra={extra: value})
    expected = f"Connection 'webcamconsult_default' has an invalid extra '{extra}'. Enter {problem}."
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    "extra", ["timezone=UTC", '{"timezone": "UTC",}', ["UTC"], '"UTC"', "3"], ids=json.dumps
)
def test_extra_that_is_not_a_json_object_is_rejected(extra: object, read: Read) -> None:
    # Otherwise, a typing error would book consults in the wrong time zone. Airflow 3.0 and 3.1 cannot
    # read such a connection at all.
    with pytest.raises(
        (WebcamconsultConfigurationError, WebcamconsultConnectionError), match=r"Extra|environment variable"
    ):
        read(extra=extra)


@pytest.mark.parametrize("name", ["time_zone", "Timezone", "extra__webcamconsult__time_zone"])
def test_misspelt_extra_is_rejected_with_suggestion(name: str, read: Read) -> None:
    # If it were ignored, dates would be sent in the wrong time zone.
    with pytest.raises(
        WebcamconsultConfigurationError, match=r"has an unknown extra .*\. Did you mean 'timezone'"
    ):
        read(extra={name: "Europe/London"})


@pytest.mark.parametrize("password", [None, "", "  "])
def test_missing_token_is_rejected(password: str | None, read: Read) -> None:
    with pytest.raises(WebcamconsultConfigurationError, match=r"has no API token\. Enter .* as the password"):
        read(password=password)


@pytest.mark.parametrize(
    "password", ["Token token=s3cret", "s3cret\r\nX-Header: 1", "s3crét", '{"token":\t"s3cret"}']
)
def test_token_invalid_in_a_header_is_rejected_without_showing_it(
    password: str, read: Read, error_text: ErrorText
) -> None:
    with pytest.raises(WebcamconsultConfigurationError, match="Enter only the token") as raised:
        read(password=password)
    assert "s3cr" not in error_text(raised.value)


def test_whitespace_around_token_is_removed(read: Read) -> None:
    assert read(password=f" {TOKEN}\n") == DEFAULTS


def test_settings_do_not_show_token(read: Read) -> None:
    assert TOKEN not in f"{read()!r} {read()}"


def test_missing_connection_raises_clear_error(error_text: ErrorText) -> None:
    with pytest.raises(WebcamconsultConnectionError, match=r"no connection 'nowhere'\. Create it") as error:
        WebcamconsultHook("nowhere").users.list()
    # Airflow's own exceptions are long and do not help.
    assert error.value.__cause__ is error.value.__context__ is None


@pytest.mark.parametrize(
    "host", ["http://example.com", "http://10.0.0.1:8080", "http://localhost.example.com"]
)
def test_plain_http_to_remote_host_warns_once(
    host: str, read: Read, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    read(host=host)
    hook = WebcamconsultHook()
    log.clear()
    hook.get_conn()
    assert [warning.partition(":")[0] for warning in log.warnings] == [
        "Connection 'webcamconsult_default' uses plain http"
    ]


@pytest.mark.parametrize(
    "host",
    [
        "https://example.com",
        "http://localhost:8080",
        "http://127.0.0.1:8080",
        "http://127.1.2.3",
        "http://[::1]:8080",
    ],
)
def test_https_and_loopback_do_not_warn(host: str, read: Read, log: Log) -> None:
    read(host=host)
    WebcamconsultHook().get_conn()
    assert log.warnings == []
