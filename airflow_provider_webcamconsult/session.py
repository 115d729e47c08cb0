"""
An HTTP session that adds the API token only when the request leaves the process, and limits every response.

Logs, reprs and errors can show the URLs and headers of requests and urllib3 objects. These objects never
contain the token.
"""

from __future__ import annotations

import http.client
import io
import math
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import Timeout

from airflow_provider_webcamconsult.api.resources import TOKEN_PARAMETER

if TYPE_CHECKING:
    import socket

    from airflow_provider_webcamconsult.connection import Settings


class ResponseTooLargeError(ValueError):
    """A response is larger than the session's limit."""


@dataclass(frozen=True)
class Limits:
    """
    The limits of one response.

    :param seconds: maximum time from sending the request to the end of the response.
    :param size: maximum size in bytes, as received.
    """

    seconds: float = math.inf
    size: float = math.inf


@dataclass(frozen=True)
class _Exchange:
    """
    What a connection has to know about the request that it sends.

    :param deadline: when the response must be complete, on the monotonic clock.
    :param max_bytes: maximum size of the response, as received.
    :param is_create: whether the request must not be sent twice.
    """

    deadline: float = math.inf
    max_bytes: float = math.inf
    is_create: bool = False


# urllib3 has no parameters for these, so they do not come with the call. Each thread has its own value.
_exchange: ContextVar[_Exchange] = ContextVar("_exchange", default=_Exchange())  # noqa: B039


class WebcamconsultSession(requests.Session):
    """
    A session that sends the token to the connection's address only.

    :param settings: settings of the connection.
    :param limits: limits of each response. The ``total`` of a request's :class:`urllib3.Timeout` replaces the
        time limit.
    :param follow_redirects: whether requests may follow redirects. If not, the session ignores the address of
        a redirect, so an invalid one raises no error.
    """

    # What a copy keeps; connections are not copied.
    __attrs__ = (*requests.Session.__attrs__, "_settings", "_follow_redirects")

    def __init__(self, settings: Settings, *, limits: Limits, follow_redirects: bool = True) -> None:
        super().__init__()
        self._settings = settings
        self._follow_redirects = follow_redirects
        self.headers["Accept"] = "application/json"
        # Without an auth object, requests would send the credentials of a netrc file.
        self.auth = _no_auth
        # Adapters are matched by prefix, so normalize the URL as requests does: "%7E" to "~", no "/../".
        address = str(requests.Request("GET", f"{settings.base_url}/").prepare().url)
        self.mount(address, _TokenAdapter(settings, limits))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """
        Return the target of a redirect without the token, because a host can repeat the query it received.

        :param resp: the response.
        :return: the address, or None if there is no redirect to follow.
        """
        address = super().get_redirect_target(resp) if self._follow_redirects else None
        if not address or TOKEN_PARAMETER not in address:
            return address
        parts = urlsplit(address)
        query = [
            pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != TOKEN_PARAMETER
        ]
        return parts._replace(query=urlencode(query)).geturl()

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """
        Merge the environment into the settings of one request, but keep an insecure connection insecure.

        :param url: URL of the request.
        :param proxies: proxies of the request.
        :param stream: whether the request streams the response.
        :param verify: TLS verification of the request.
        :param cert: client certificate of the request.
        :return: the merged settings.
        """
        # REQUESTS_CA_BUNDLE overrides the session's "verify", but not the one of a request.
        if self._settings.insecure and verify is None:
            verify = False
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def proxy_and_ca_bundle(self, url: str) -> tuple[str | None, str | None]:
        """
        Return the URL of the proxy and the file or folder with CA certificates that apply to a request.

        :param url: URL of the request.
        :return: the two, each None if there is none besides the defaults.
        """
        merged = self.merge_environment_settings(url, {}, None, None, None)
        verify = merged["verify"]
        return select_proxy(url, merged["proxies"]), verify if isinstance(verify, str) else None


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _TokenAdapter(HTTPAdapter):
    """
    Adapter whose connections add the token and limit the responses.

    :param settings: settings of the connection.
    :param limits: limits of each response.
    """

    __attrs__ = (*HTTPAdapter.__attrs__, "_settings", "_limits")

    def __init__(self, settings: Settings, limits: Limits) -> None:
        self._settings = settings
        self._limits = limits
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        timeout = kwargs.get("timeout")
        total = timeout.total if isinstance(timeout, Timeout) else None
        seconds = total if isinstance(total, (int, float)) else self._limits.seconds
        exchange = _Exchange(
            time.monotonic() + seconds, self._limits.size, is_create=request.method == "POST"
        )
        outer = _exchange.set(exchange)
        try:
            return super().send(request, *args, **kwargs)
        except TypeError:
            # What requests raises for a proxy URL with credentials and without a host.
            if not select_proxy(str(request.url), kwargs.get("proxies")):
                raise
            raise requests.exceptions.InvalidProxyURL("The proxy URL has no host.") from None
        finally:
            _exchange.reset(outer)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._add_token(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        is_new = proxy not in self.proxy_manager
        manager: Any = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            self._add_token(manager)
        return manager

    def _add_token(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), {"ConnectionCls": self._with_token(pool.ConnectionCls)})
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def _with_token(self, connection: type) -> type:
        return type(connection.__name__, (_TokenMixin, connection), {"settings": self._settings})


class _LimitedReader(io.RawIOBase):
    """
    Reads from a socket within the limits of the current response.

    :param sock: the socket; its timeout applies to each read.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self._timeout = sock.gettimeout() or math.inf
        self._stream: Any = sock.makefile("rb", buffering=0)
        self._exchange = _exchange.get()
        self._bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._exchange.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        timeout = min(self._timeout, remaining)
        self._sock.settimeout(None if timeout == math.inf else timeout)
        size: int | None = self._stream.readinto(buffer)
        self._bytes_read += size or 0
        if self._bytes_read > self._exchange.max_bytes:
            raise ResponseTooLargeError
        return size

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            super().close()


class _LimitedSocket:
    """
    What :class:`http.client.HTTPResponse` needs of a socket.

    :param sock: the socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_LimitedReader(self._sock))


class _Response(http.client.HTTPResponse):
    """
    A response that is read within limits and is never an informational one.

    :param sock: the socket.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_LimitedSocket(sock), *args, **kwargs)  # type: ignore[arg-type]

    def begin(self) -> None:
        # http.client skips only 100, and takes any other 1xx for the response. The response then arrives as
        # that of the connection's next request.
        super().begin()
        while 100 <= self.status < 200:
            if self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                raise http.client.UnknownProtocol("101")
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()
        # urllib3 logs invalid header lines and what follows them, such as cookies.
        self.msg.set_payload("")
        self.msg.defects = []


class _TokenMixin:
    """Mixin for urllib3's connection classes."""

    settings: ClassVar[Settings]
    response_class = _Response
    #: http.client prints requests if its class has another level.
    debuglevel = 0

    _is_token_in_url = False

    @property
    def is_connected(self) -> bool:
        # A server can close a kept connection at any time. A create that it never read would then have an
        # unknown outcome, so creates use a new connection.
        return not _exchange.get().is_create and super().is_connected  # type: ignore[misc]

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **kwargs: Any) -> Any:
        if not self.settings.auth_as_parameter:
            headers = {**(headers or {}), "Authorization": f"Token token={self.settings.token}"}
        self._is_token_in_url = self.settings.auth_as_parameter and not getattr(body, "has_token", False)
        return super().request(method, url, body=body, headers=headers, **kwargs)  # type: ignore[misc]

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        # Not in request(), because urllib3 logs the URL that is passed to it.
        if self._is_token_in_url:
            url += ("&" if "?" in url else "?") + urlencode({TOKEN_PARAMETER: self.settings.token})
        super().putrequest(method, url, *args, **kwargs)  # type: ignore[misc]
