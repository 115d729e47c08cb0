"""Explain why a request got no response: which part of the network failed, and what to do about it."""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_webcamconsult.exceptions import WebcamconsultError


class Failure(NamedTuple):
    """
    Why no response arrived.

    :param cause: what happened.
    :param remedy: what to do next, as a full sentence.
    :param error_class: class of the error to raise.
    :param status_code: HTTP status of the proxy, if it refused the request.
    """

    cause: str
    remedy: str
    error_class: type[WebcamconsultError] = WebcamconsultConnectionError
    status_code: int | None = None


#: Statuses of a proxy that a later attempt may not get, besides 5xx.
_TEMPORARY_STATUSES = {408, 425, 429}
_TUNNEL_FAILURE = re.compile(r"Tunnel connection failed: (\d{3})")
_PROXY_REMEDY = "Check the environment variables http_proxy, https_proxy, all_proxy and no_proxy."


def explain(
    error: Exception,
    *,
    seconds: float,
    is_too_late: bool,
    max_bytes: float,
    proxy: str | None,
    ca_bundle: str | None,
) -> Failure:
    """
    Return why a request got no response, as text.

    The library's own messages are not used, because they contain the URL.

    :param error: what the library raised.
    :param seconds: the time limit that applied.
    :param is_too_late: whether that is the limit of the complete response.
    :param max_bytes: the size limit of the response.
    :param proxy: URL of the proxy for the request, if any.
    :param ca_bundle: the environment's file or folder with CA certificates, if any.
    """
    import http.client
    import ssl

    import requests.exceptions
    from urllib3.exceptions import LocationValueError, ReadTimeoutError

    from airflow_provider_webcamconsult.session import ResponseTooLargeError

    chain = list(_chain(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if has(ResponseTooLargeError):
        return Failure(
            f"the response is larger than {max_bytes / 2**20:g} MiB",
            "The host may not be the Webcamconsult API. Check the connection's Host.",
            # The response to a retry would be as large.
            WebcamconsultConfigurationError,
        )
    invalid_url = requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, http.client.InvalidURL
    if has(*invalid_url, LocationValueError):
        return _explain_invalid_url(proxy)
    if ca_bundle and (problem := _problem_of_ca_bundle(error, ca_bundle)):
        return Failure(
            f"the CA certificates in {ca_bundle} could not be loaded ({problem})",
            "Check the environment variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.",
            WebcamconsultConfigurationError,
        )
    tunnel_status = next((match for link in chain if (match := _TUNNEL_FAILURE.search(str(link)))), None)
    if proxy and tunnel_status:
        return explain_proxy_status(proxy, int(tunnel_status[1]))
    reason = next((link.strerror for link in chain if isinstance(link, OSError) and link.strerror), None)
    if proxy and has(requests.exceptions.ProxyError):
        return Failure(
            f"{_name(proxy)} could not be reached ({reason or 'no connection was established'})",
            _PROXY_REMEDY,
        )
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            return Failure(
                f"the server's certificate could not be verified ({link.verify_message})",
                "Check the connection's Host, and that this machine trusts the certificate authority.",
            )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Failure(
            f"no connection was established within {seconds:g} s",
            "Check the connection's Host and Port, and the network.",
        )
    if is_too_late:
        return Failure(f"the response was not complete within {seconds:g} s", "Try again later.")
    if has(requests.exceptions.Timeout, ReadTimeoutError):
        return Failure(
            f"no response was received within {seconds:g} s",
            "Try again later, or increase 'timeout' in the connection.",
        )
    if any(type(link).__name__ in ("NameResolutionError", "gaierror") for link in chain):
        return Failure("the host name could not be resolved", "Check the connection's Host.")
    if isinstance(error, requests.exceptions.SSLError):
        tls_reason = next((link.reason for link in chain if isinstance(link, ssl.SSLError)), None)
        if tls_reason == "WRONG_VERSION_NUMBER":  # what OpenSSL reports for anything but TLS
            return Failure(
                "the host does not speak TLS on this port",
                "Check the connection's Host and Port; for plain http, begin the Host with http://.",
                WebcamconsultConfigurationError,
            )
        return Failure(
            f"no TLS connection was established ({tls_reason or 'the host closed it'})",
            "Try again later; if the error persists, check the connection's Host and Port.",
        )
    if has(http.client.UnknownProtocol):
        return Failure(
            "the host responded in a protocol other than HTTP/1.1", "Check the connection's Host and Port."
        )
    if reason:
        return Failure(f"connection error ({reason})", "Check the connection's Host and Port.")
    return Failure(
        "the connection was lost before the response was complete",
        "Try again; if the error persists, check the connection's Host.",
    )


def _explain_invalid_url(proxy: str | None) -> Failure:
    if proxy is None:
        cause, remedy = "the host name is invalid", "Check the connection's Host."
    elif proxy.lower().startswith("socks"):
        cause = f"{_name(proxy)} speaks SOCKS, which needs the library PySocks"
        remedy = "Install PySocks, or use an HTTP proxy."
    else:
        cause = f"the URL of {_name(proxy)} is invalid"
        remedy = f"Enter an address such as http://proxy.example.com:3128. {_PROXY_REMEDY}"
    return Failure(cause, remedy, WebcamconsultConfigurationError)


def explain_proxy_status(proxy: str, status_code: int) -> Failure:
    """
    Return why a proxy refused a request.

    :param proxy: URL of the proxy.
    :param status_code: HTTP status of the proxy's response.
    """
    if status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return Failure(
            f"{_name(proxy)} requires a user name and a password, or rejected them (407)",
            f"Enter them in the proxy's URL. {_PROXY_REMEDY}",
            WebcamconsultConfigurationError,
            status_code,
        )
    is_temporary = status_code >= 500 or status_code in _TEMPORARY_STATUSES
    return Failure(
        f"{_name(proxy)} did not connect to the host ({status_code})",
        f"Check the connection's Host and Port, and the proxy's rules. {_PROXY_REMEDY}",
        WebcamconsultConnectionError if is_temporary else WebcamconsultConfigurationError,
        status_code,
    )


def _name(proxy: str) -> str:
    """Name a proxy by host and port, unless these could be part of its credentials."""
    try:
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        address = f"{url.hostname}:{url.port}" if url.port else url.hostname
    except ValueError:
        return "the proxy"
    # A password with an unencoded "/" or "@" ends up in other parts of the URL.
    is_clear = proxy.count("@") == url.netloc.count("@") <= 1
    return f"the proxy {address}" if address and is_clear else "the proxy"


def _problem_of_ca_bundle(error: Exception, path: str) -> str | None:
    """Return why a file or folder with CA certificates cannot be loaded, if that can cause the error."""
    import ssl

    import requests.exceptions

    if isinstance(error, requests.RequestException) and not isinstance(error, requests.exceptions.SSLError):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})
    except ssl.SSLError:
        return "the file contains no valid certificates"
    except OSError as problem:
        return problem.strerror
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and all exceptions that it wraps; the libraries wrap them in different ways."""
    if error is not None:
        yield error
        for inner in {id(link): link for link in (error.__cause__, error.__context__, *error.args)}.values():
            if isinstance(inner, BaseException):
                yield from _chain(inner)
