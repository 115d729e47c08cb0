"""
The HTTP session that puts the token into a request as it leaves, and nowhere before.

Logs, reprs and errors show the objects of requests and urllib3, with their URLs and headers. These never hold
the token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter

from airflow_provider_webcamconsult.api.resources import TOKEN_PARAMETER

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.connection import Settings


class WebcamconsultSession(requests.Session):
    """
    A session that gives the token to the connection's address, and to no other.

    :param settings: of the connection.
    :param follow_redirects: whether a request may follow a redirect; otherwise the session does not even read
        its address, which need not be valid.
    """

    def __init__(self, settings: Settings, *, follow_redirects: bool = True) -> None:
        super().__init__()
        self._settings = settings
        self._follow_redirects = follow_redirects
        self.headers["Accept"] = "application/json"
        # Without any, requests takes what the netrc of the user that runs Airflow has for the host.
        self.auth = _no_auth
        # As requests writes it: it puts "~" for "%7E", and takes "/../" away.
        address = str(requests.Request("GET", f"{settings.base_url}/").prepare().url)
        self.mount(address, _TokenAdapter(settings))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """
        Return where a response redirects to, without the token: a host may repeat the query that it got.

        :param resp: the response.
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
        Return the settings of one request; an insecure connection stays one whatever the environment says.

        :param url: of the request.
        :param proxies: of the request.
        :param stream: of the request.
        :param verify: of the request.
        :param cert: of the request.
        """
        # The session's own "verify" would be outvoted by REQUESTS_CA_BUNDLE; that of a request is not.
        if self._settings.insecure and verify is None:
            verify = False
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _TokenAdapter(HTTPAdapter):
    """
    Makes urllib3 use connections that add the token.

    :param settings: of the connection.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

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
        return type(connection.__name__, (_AddsToken, connection), {"settings": self._settings})


class _AddsToken:
    """Goes before a class of urllib3's connections."""

    settings: ClassVar[Settings]

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **kwargs: Any) -> Any:
        if not self.settings.auth_as_parameter:
            headers = {**(headers or {}), "Authorization": f"Token token={self.settings.token}"}
        elif not getattr(body, "has_token", False):
            url += ("&" if "?" in url else "?") + urlencode({TOKEN_PARAMETER: self.settings.token})
        return super().request(method, url, body=body, headers=headers, **kwargs)  # type: ignore[misc]
