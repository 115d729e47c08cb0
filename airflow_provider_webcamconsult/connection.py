"""Read and validate an Airflow connection of type ``webcamconsult``."""

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

# Other characters are not possible in a header, and the HTTP library's error would show the token.
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Settings:
    """
    Validated settings of one connection.

    :param conn_id: id of the Airflow connection.
    :param base_url: scheme, host, port and path, without a trailing slash.
    :param token: the organisation's API token.
    :param timezone: time zone of dates without a UTC offset.
    :param timeout: maximum seconds to connect, and to wait for data from the service.
    :param retries: maximum number of retries of a request that is safe to repeat.
    :param auth_as_parameter: whether to send the token as a parameter instead of a header.
    :param plural_paths: whether the path of a single record starts with the plural of its kind.
    :param insecure: whether to skip the verification of TLS certificates.
    """

    conn_id: str
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
        """Whether the token and patient data cross a network unencrypted."""
        url = urlsplit(self.base_url)
        return url.scheme == "http" and not _is_loopback(url.hostname or "")

    @classmethod
    def from_connection(cls, connection: Any) -> Settings:
        """
        Return the settings of an Airflow connection.

        :param connection: the Airflow connection.
        :raises WebcamconsultConfigurationError: if a field or an extra is invalid.
        """
        where = f"Connection '{connection.conn_id}'"
        extras = _Extras(where, connection.extra)
        return cls(
            conn_id=connection.conn_id,
            base_url=_base_url(where, connection.host, connection.port, connection.schema),
            token=_token(where, connection.password, connection.login),
            timezone=extras.timezone("timezone"),
            timeout=extras.number("timeout"),
            retries=int(extras.number("retries")),
            auth_as_parameter=extras.boolean("auth_as_parameter"),
            plural_paths=extras.boolean("plural_paths"),
            insecure=extras.boolean("insecure"),
        )


def _token(where: str, password: str | None, login: str | None) -> str:
    token = (password or "").strip()
    if (login or "").strip():
        raise WebcamconsultConfigurationError(
            f"{where} has a Login, which Webcamconsult does not use. "
            "Enter the organisation's API token as the password, and remove the Login."
        )
    if not token:
        raise WebcamconsultConfigurationError(
            f"{where} has no API token. Enter the organisation's API token as the password."
        )
    if not _TOKEN.fullmatch(token):
        raise WebcamconsultConfigurationError(
            f"{where} has an invalid API token: it contains spaces, control or non-ASCII characters. "
            "Enter only the token as the password."
        )
    return token


def _base_url(where: str, host: str | None, port: int | None, schema: str | None) -> str:
    host = (host or "").strip() or urlsplit(DEFAULT_HOST).netloc
    scheme = (schema or "").strip().lower()
    if scheme not in ("", "http", "https"):
        raise WebcamconsultConfigurationError(
            f"{where} has an invalid Schema. Remove it, or set it to http or https. "
            "If it is a path, add it to the Host."
        )
    try:
        url = urlsplit(host if "://" in host else f"{scheme or 'https'}://{host}")
        host_port = url.port
    except ValueError:
        url, host_port = None, None
    if port is not None and not 0 <= port <= 65535:
        raise WebcamconsultConfigurationError(
            f"{where} has an invalid Port. Enter a number from 1 to 65535, or leave the field empty."
        )
    if not url or url.scheme not in ("http", "https") or not url.hostname or re.search(r"\s", host):
        raise WebcamconsultConfigurationError(
            f"{where} has an invalid Host. Enter an address such as {DEFAULT_HOST}."
        )
    if url.username is not None or url.query or url.fragment:
        raise WebcamconsultConfigurationError(
            f"{where} has an invalid Host: it contains more than an address. "
            f"Enter an address such as {DEFAULT_HOST}, and the API token as the password."
        )
    if scheme and scheme != url.scheme:
        raise WebcamconsultConfigurationError(
            f"{where} has the Schema {scheme}, but its Host starts with {url.scheme}://. Remove the Schema."
        )
    if port and host_port and port != host_port:
        raise WebcamconsultConfigurationError(
            f"{where} has the Port {port}, but its Host contains the port {host_port}. Remove one of them."
        )
    port = port or host_port
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


# Airflow 2's form can store extras with this prefix.
_LONG_PREFIX = "extra__webcamconsult__"


class _Extras:
    """
    Reads the extras of a connection.

    A value can be of a JSON type, a string, or the ``"y"`` of a browser's form.

    :param where: the connection, as the subject of an error message.
    :param extra: the Extra field.
    """

    def __init__(self, where: str, extra: str | None) -> None:
        self.where = where
        # Not extra_dejson: it ignores invalid JSON, and dates would be in the wrong time zone.
        try:
            self.extras = json.loads(extra) if extra and extra.strip() else {}
        except (ValueError, RecursionError):
            self.extras = None
        if not isinstance(self.extras, dict):
            raise WebcamconsultConfigurationError(
                f'{where} has an Extra that is not a JSON object. Enter one such as {{"timezone": "UTC"}}.'
            )

        for key in self.extras:
            name = key.removeprefix(_LONG_PREFIX)
            if name not in CONNECTION_FIELDS:
                nearest = difflib.get_close_matches(name.lower(), CONNECTION_FIELDS, n=1)
                hint = (
                    f"Did you mean '{nearest[0]}'?"
                    if nearest
                    else f"Remove it, or use one of: {', '.join(CONNECTION_FIELDS)}."
                )
                # If a misspelt time zone were ignored, consults would be booked at the wrong hour.
                raise WebcamconsultConfigurationError(f"{where} has an unknown extra '{name}'. {hint}")

    def _get(self, name: str) -> Any:
        for key in (name, _LONG_PREFIX + name):
            value = self.extras.get(key)
            value = value.strip() if isinstance(value, str) else value
            if value is not None and value != "":
                return value
        return CONNECTION_FIELDS[name]["schema"]["default"]

    def _invalid(self, name: str, expected: str) -> WebcamconsultConfigurationError:
        return WebcamconsultConfigurationError(
            f"{self.where} has an invalid extra '{name}'. Enter {expected}."
        )

    def boolean(self, name: str) -> bool:
        value = str(self._get(name)).lower()
        if value not in _TRUE | _FALSE:
            raise self._invalid(name, "true or false")
        return value in _TRUE

    def number(self, name: str) -> float:
        value, schema = self._get(name), CONNECTION_FIELDS[name]["schema"]
        try:
            number = float("nan" if isinstance(value, bool) else value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        is_valid_type = "integer" not in schema["type"] or number == number // 1
        if not (schema["minimum"] <= number <= schema["maximum"] and is_valid_type):
            kind = "a whole number" if "integer" in schema["type"] else "a number"
            raise self._invalid(name, f"{kind} from {schema['minimum']} to {schema['maximum']}")
        return number

    def timezone(self, name: str) -> Timezone:
        import pendulum

        value = str(self._get(name))
        try:
            zone = pendulum.timezone(value)
        except (ValueError, OSError):  # pendulum's InvalidTimezone is a ValueError
            zone = None
        if not isinstance(zone, pendulum.Timezone):
            raise self._invalid(name, "an IANA time zone such as Europe/Amsterdam")
        return zone
