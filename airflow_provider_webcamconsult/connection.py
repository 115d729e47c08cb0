"""What an Airflow connection of type ``webcamconsult`` says, however it was entered."""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_webcamconsult.exceptions import WebcamconsultConfigurationError
from airflow_provider_webcamconsult.get_provider_info import CONNECTION_FIELDS

if TYPE_CHECKING:
    from pendulum import Timezone

DEFAULT_HOST = "https://eapi.webcamconsult.com"

_TRUE = {"true", "t", "yes", "y", "on", "1"}
_FALSE = {"false", "f", "no", "n", "off", "0"}

# A header field cannot hold anything else, and an HTTP library's own error would show the token.
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Settings:
    """
    The settings of one connection.

    :param base_url: scheme, host, port and path, without a slash at the end.
    :param token: the organisation's API token.
    :param timezone: time zone of dates without offset.
    :param timeout: seconds for connecting, and for each wait for an answer.
    :param retries: how often a request that is safe to repeat is tried again.
    :param auth_as_parameter: whether the token goes as a parameter, not as a header.
    :param plural_paths: whether all detail paths start with the plural.
    :param insecure: whether TLS certificates are not verified.
    """

    base_url: str
    token: str = field(repr=False)
    timezone: Timezone
    timeout: float
    retries: int
    auth_as_parameter: bool
    plural_paths: bool
    insecure: bool

    @property
    def is_unencrypted(self) -> bool:
        """Whether the token and patients' data cross a network unencrypted."""
        url = urlsplit(self.base_url)
        return url.scheme == "http" and not _is_loopback(url.hostname or "")

    @classmethod
    def from_connection(cls, connection: Any) -> Settings:
        """
        Read an Airflow connection.

        :param connection: the connection.
        :raises WebcamconsultConfigurationError: if it is not usable; the message says what to enter where.
        """
        where = f"Connection '{connection.conn_id}'"
        extras = _Extras(where, connection.extra)
        return cls(
            base_url=_base_url(where, connection.host, connection.port),
            token=_token(where, connection.password),
            timezone=extras.timezone("timezone"),
            timeout=extras.number("timeout"),
            retries=int(extras.number("retries")),
            auth_as_parameter=extras.switch("auth_as_parameter"),
            plural_paths=extras.switch("plural_paths"),
            insecure=extras.switch("insecure"),
        )


def _token(where: str, password: str | None) -> str:
    token = (password or "").strip()
    if not token:
        raise WebcamconsultConfigurationError(
            f"{where} has no API token; enter the organisation's as its password."
        )
    if not _TOKEN.fullmatch(token):
        raise WebcamconsultConfigurationError(
            f"{where} has a password with characters that no API token has; enter the token alone."
        )
    return token


def _base_url(where: str, host: str | None, port: int | None) -> str:
    host = (host or "").strip() or DEFAULT_HOST
    wrong = f"{where} has a Host that is no address; enter it as in {DEFAULT_HOST}."
    try:
        url = urlsplit(host if "://" in host else f"https://{host}")
        port = port or url.port
    except ValueError:
        url = None
    if port is not None and not 0 <= port <= 65535:
        raise WebcamconsultConfigurationError(
            f"{where} has a Port that is none; enter one from 1 to 65535, or leave it empty."
        )
    if not url or url.scheme not in ("http", "https") or not url.hostname or re.search(r"\s", host):
        raise WebcamconsultConfigurationError(wrong)
    if url.username is not None or url.query or url.fragment:
        raise WebcamconsultConfigurationError(
            f"{where} has a Host with more than an address; enter it as in {DEFAULT_HOST}, "
            "and the API token as the password."
        )
    name = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    path = "".join(f"/{part}" for part in url.path.split("/") if part)
    return f"{url.scheme}://{name}{f':{port}' if port else ''}{path}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# In front of an extra's name where Airflow 2's form wrote it.
_LONG_PREFIX = "extra__webcamconsult__"


class _Extras:
    """Reads extras that are JSON types, text, a browser's ``"y"``, or have Airflow 2's long names."""

    def __init__(self, where: str, extra: str | None) -> None:
        self.where = where
        # Not extra_dejson: it takes what it cannot read for nothing, and dates get another time zone.
        try:
            self.extras = json.loads(extra) if extra and extra.strip() else {}
        except ValueError:
            self.extras = None
        if not isinstance(self.extras, dict):
            raise WebcamconsultConfigurationError(
                f'{where} has an Extra that is no JSON object; enter it as in {{"timezone": "UTC"}}.'
            )

        for key in self.extras:
            name = key.removeprefix(_LONG_PREFIX)
            if name not in CONNECTION_FIELDS:
                nearest = difflib.get_close_matches(name.lower(), CONNECTION_FIELDS, n=1)
                hint = (
                    f"did you mean '{nearest[0]}'?"
                    if nearest
                    else f"there are {', '.join(CONNECTION_FIELDS)}."
                )
                # Passed over in silence, a misspelt time zone books at another hour.
                raise WebcamconsultConfigurationError(
                    f"{where} has an extra '{name}' that is not known; {hint}"
                )

    def _get(self, name: str) -> Any:
        for key in (name, _LONG_PREFIX + name):
            value = self.extras.get(key)
            value = value.strip() if isinstance(value, str) else value
            if value is not None and value != "":
                return value
        return CONNECTION_FIELDS[name]["schema"]["default"]

    def _wrong(self, name: str, remedy: str) -> WebcamconsultConfigurationError:
        return WebcamconsultConfigurationError(f"{self.where} has an extra '{name}' that is {remedy}.")

    def switch(self, name: str) -> bool:
        value = str(self._get(name)).lower()
        if value not in _TRUE | _FALSE:
            raise self._wrong(name, "neither true nor false; enter one of the two")
        return value in _TRUE

    def number(self, name: str) -> float:
        value, schema = self._get(name), CONNECTION_FIELDS[name]["schema"]
        try:
            number = float("nan" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            number = float("nan")
        whole = "integer" not in schema["type"] or number == number // 1
        if not (schema["minimum"] <= number <= schema["maximum"] and whole):
            kind = "a whole number" if "integer" in schema["type"] else "a number"
            limits = f"from {schema['minimum']} to {schema['maximum']}"
            raise self._wrong(name, f"not {kind} {limits}; enter one")
        return number

    def timezone(self, name: str) -> Timezone:
        import pendulum

        value = str(self._get(name))
        try:
            zone = pendulum.timezone(value)
        except (ValueError, OSError):  # pendulum's InvalidTimezone is a ValueError
            zone = None
        if not isinstance(zone, pendulum.Timezone):
            raise self._wrong(name, "no time zone; enter an IANA name such as Europe/Amsterdam")
        return zone
