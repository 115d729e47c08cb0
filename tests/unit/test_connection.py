"""The Airflow connection, however it was entered."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Protocol

import pendulum
import pytest

from airflow_provider_webcamconsult.connection import Settings
from airflow_provider_webcamconsult.exceptions import WebcamconsultConfigurationError
from airflow_provider_webcamconsult.get_provider_info import CONNECTION_FIELDS
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook

if TYPE_CHECKING:
    from tests.unit.conftest import Log, Tell

TOKEN = "38826f79010b41b5aaeb4710debb09db"
DEFAULTS = Settings(
    base_url="https://eapi.webcamconsult.com",
    token=TOKEN,
    timezone=pendulum.timezone("Europe/Amsterdam"),
    timeout=30,
    retries=3,
    auth_as_parameter=False,
    plural_paths=False,
    insecure=False,
)
# Each extra with another value than its default, and the setting that it becomes.
OTHER = {
    "timezone": "America/New_York",
    "timeout": 2.5,
    "retries": 1,
    "auth_as_parameter": True,
    "plural_paths": True,
    "insecure": True,
}
OTHER_SETTINGS = dataclasses.replace(
    DEFAULTS,
    timezone=pendulum.timezone("America/New_York"),
    timeout=2.5,
    retries=1,
    auth_as_parameter=True,
    plural_paths=True,
    insecure=True,
)


class Read(Protocol):
    """Reads the settings of the connection with these fields."""

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
        OTHER,
        json.dumps(OTHER),
        {name: str(value) for name, value in OTHER.items()},
        {name: f"  {value} " for name, value in OTHER.items()},
        # Airflow 2's form, its Test button, and a browser's own words for a switch that is on.
        {f"extra__webcamconsult__{name}": value for name, value in OTHER.items()},
        {name: "y" if value is True else str(value) for name, value in OTHER.items()},
        {**dict.fromkeys(OTHER, ""), **{f"extra__webcamconsult__{name}": str(OTHER[name]) for name in OTHER}},
        {**dict.fromkeys(OTHER, None), **{f"extra__webcamconsult__{name}": OTHER[name] for name in OTHER}},
    ],
    ids=[
        "json",
        "json in text",
        "text",
        "blanks",
        "long names",
        "switches as y",
        "blank and long",
        "null and long",
    ],
)
def test_extras_read_the_same_however_they_were_entered(extra: object, read: Read) -> None:
    assert read(extra=extra) == OTHER_SETTINGS


def test_a_uri_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT",
        f"webcamconsult://:{TOKEN}@https%3A%2F%2Fexample.com%2Fapi:8443/?timezone=America%2FNew_York&timeout=2.5"
        "&retries=1&auth_as_parameter=true&plural_paths=true&insecure=true",
    )
    expected = dataclasses.replace(OTHER_SETTINGS, base_url="https://example.com:8443/api")
    assert WebcamconsultHook().settings == expected


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_what_is_left_blank_has_its_default(blank: str | None, read: Read) -> None:
    extra = {f"{prefix}{name}": blank for name in OTHER for prefix in ("", "extra__webcamconsult__")}
    assert read(host=blank, port=None, extra=extra) == DEFAULTS


def test_nothing_but_a_token_is_needed(read: Read) -> None:
    assert read() == DEFAULTS


@pytest.mark.parametrize("field", CONNECTION_FIELDS)
def test_each_field_of_the_form_is_one_setting_and_no_other(field: str, read: Read) -> None:
    settings = read(extra={field: OTHER[field]})
    changed = [
        setting.name
        for setting in dataclasses.fields(Settings)
        if getattr(settings, setting.name) != getattr(DEFAULTS, setting.name)
    ]
    assert changed == [field]


def test_each_setting_is_a_field_of_the_form() -> None:
    standard_fields = {"base_url", "token"}
    settings = {setting.name for setting in dataclasses.fields(Settings)} - standard_fields
    assert {*CONNECTION_FIELDS} == settings


@pytest.mark.parametrize("entered", [True, "True", "TRUE", "t", "yes", "Y", "on", "1", 1])
def test_a_switch_that_is_on(entered: object, read: Read) -> None:
    assert read(extra={"insecure": entered}).insecure is True


@pytest.mark.parametrize("entered", [False, "False", "FALSE", "f", "no", "N", "off", "0", 0, None, ""])
def test_a_switch_that_is_off(entered: object, read: Read) -> None:
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
def test_a_host_with_or_without_scheme_path_slash_and_port(
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
def test_a_host_that_is_no_address_is_refused(host: str, read: Read, told: Tell) -> None:
    with pytest.raises(
        WebcamconsultConfigurationError, match=r"has an invalid Host.* Enter an address such as https://eapi"
    ) as refused:
        read(host=host)
    assert "s3cret" not in told(refused.value)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(port: int, read: Read) -> None:
    with pytest.raises(WebcamconsultConfigurationError, match="Port"):
        read(host="https://example.com", port=port)


SWITCH = ("true or false", ["maybe", 2, [], {}])
WRONG: dict[str, tuple[str, list[object]]] = {
    # The last would not fit into the system's own clock.
    "timeout": (
        "a number from 0.1 to 3600",
        ["soon", "30 s", 0, "0", -1, True, "nan", "inf", [30], {}, 1e10],
    ),
    "retries": ("a whole number from 0 to 100", ["many", -1, 1.5, "2.5", True, [], "inf"]),
    "timezone": (
        "an IANA time zone such as Europe/Amsterdam",
        ["Europe/Atlantis", "Amsterdam", "Europe", "../etc/passwd", "+02:00", 1, True, []],
    ),
    "auth_as_parameter": SWITCH,
    "plural_paths": SWITCH,
    "insecure": SWITCH,
}


@pytest.mark.parametrize(
    ("extra", "value", "problem"),
    [(extra, value, problem) for extra, (problem, values) in WRONG.items() for value in values],
)
def test_a_wrong_extra_is_named_with_what_to_enter(
    extra: str, value: object, problem: str, read: Read
) -> None:
    with pytest.raises(WebcamconsultConfigurationError) as refused:
        read(extra={extra: value})
    expected = f"Connection 'webcamconsult_default' has an invalid extra '{extra}'. Enter {problem}."
    assert str(refused.value) == expected


@pytest.mark.parametrize(
    "extra", ["timezone=UTC", '{"timezone": "UTC",}', ["UTC"], '"UTC"', "3"], ids=json.dumps
)
def test_extras_that_are_no_json_object_are_not_taken_for_none(extra: object, read: Read) -> None:
    # Else a slip of the pen books consults in another time zone. (To Airflow 3.0 and 3.1 it is missing.)
    with pytest.raises(WebcamconsultConfigurationError, match=r"Extra|cannot be read"):
        read(extra=extra)


@pytest.mark.parametrize("name", ["time_zone", "Timezone", "extra__webcamconsult__time_zone"])
def test_a_misspelt_extra_is_refused_and_the_nearest_named(name: str, read: Read) -> None:
    # Passed over, the dates that are meant in this zone would be sent in another.
    with pytest.raises(
        WebcamconsultConfigurationError, match=r"has an unknown extra .*\. Did you mean 'timezone'"
    ):
        read(extra={name: "Europe/London"})


@pytest.mark.parametrize("password", [None, "", "  "])
def test_a_missing_token_is_said(password: str | None, read: Read) -> None:
    with pytest.raises(WebcamconsultConfigurationError, match=r"has no API token\. Enter .* as the password"):
        read(password=password)


@pytest.mark.parametrize(
    "password", ["Token token=s3cret", "s3cret\r\nX-Header: 1", "s3crét", '{"token":\t"s3cret"}']
)
def test_a_token_that_no_header_can_hold_is_refused_unseen(password: str, read: Read, told: Tell) -> None:
    with pytest.raises(WebcamconsultConfigurationError, match="Enter only the token") as refused:
        read(password=password)
    assert "s3cr" not in told(refused.value)


def test_a_token_may_have_been_pasted_with_blanks_around_it(read: Read) -> None:
    assert read(password=f" {TOKEN}\n") == DEFAULTS


def test_the_settings_do_not_show_the_token(read: Read) -> None:
    assert TOKEN not in f"{read()!r} {read()}"


def test_a_connection_that_does_not_exist_is_said(told: Tell) -> None:
    with pytest.raises(
        WebcamconsultConfigurationError, match=r"no connection 'nowhere'\. Create it"
    ) as error:
        WebcamconsultHook("nowhere").users.list()
    # What Airflow and its database say of it is of no use, and long.
    assert error.value.__cause__ is error.value.__context__ is None


@pytest.mark.parametrize(
    "host", ["http://example.com", "http://10.0.0.1:8080", "http://localhost.example.com"]
)
def test_plain_http_is_warned_of_once(
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
def test_nothing_is_warned_of_where_nobody_else_listens(host: str, read: Read, log: Log) -> None:
    read(host=host)
    WebcamconsultHook().get_conn()
    assert log.warnings == []
