"""
An HTTP session that adds the API token only when the request leaves the process.

Logs, reprs and errors can show the URLs and headers of requests and urllib3 objects. These objects never
contain the token.
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
    A session that sends the token to the connection's address only.

    :param settings: settings of the connection.
    :param follow_redirects: whether requests may follow redirects. If not, the session ignores the address of
        a redirect, so an invalid one raises no error.
    """

    def __init__(self, settings: Settings, *, follow_redirects: bool = True) -> None:
        super().__init__()
        self._settings = settings
        self._follow_redirects = follow_redirects
        self.headers["Accept"] = "application/json"
        # Without an auth object, requests would send the credentials of a netrc file.
        self.auth = _no_auth
        # Adapters are matched by prefix, so normalize the URL as requests does: "%7E" to "~", no "/../".
        address = str(requests.Request("GET", f"{settings.base_url}/").prepare().url)
        self.mount(address, _TokenAdapter(settings))

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


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _TokenAdapter(HTTPAdapter):
    """
    Adapter whose connections add the token.

    :param settings: settings of the connection.
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
        return type(connection.__name__, (_TokenMixin, connection), {"settings": self._settings})


class _TokenMixin:
    """Mixin for urllib3's connection classes."""

    settings: ClassVar[Settings]

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **kwargs: Any) -> Any:
        if not self.settings.auth_as_parameter:
            headers = {**(headers or {}), "Authorization": f"Token token={self.settings.token}"}
        elif not getattr(body, "has_token", False):
            url += ("&" if "?" in url else "?") + urlencode({TOKEN_PARAMETER: self.settings.token})
        return super().request(method, url, body=body, headers=headers, **kwargs)  # type: ignore[misc]
