"""
The session that puts the token into a request as it leaves, and nowhere before.

What gets into logs, reprs and errors (requests' and urllib3's objects, with URLs and headers) never holds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter

from airflow_provider_webcamconsult.resources import TOKEN_PARAMETER

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.connection import Settings


def open_session(settings: Settings) -> requests.Session:
    """
    Return a session that gives the token to the connection's address, and to no other.

    :param settings: of the connection.
    """
    session = requests.Session()
    session.headers["Accept"] = "application/json"
    # Without any, requests takes what the netrc of who runs Airflow has for the host.
    session.auth = lambda request: request
    # As requests writes it: it puts "~" for "%7E", and takes "/../" away.
    address = str(requests.Request("GET", f"{settings.base_url}/").prepare().url)
    session.mount(address, _TokenAdapter(settings))
    target_of = session.get_redirect_target
    # A host that sends a request on repeats its query, and with it the token.
    session.get_redirect_target = lambda resp: _without_token(target_of(resp))  # type: ignore[method-assign]
    if settings.insecure:
        merge = session.merge_environment_settings
        # The session's own "verify" would be outvoted by REQUESTS_CA_BUNDLE; that of a request is not.
        session.merge_environment_settings = lambda url, proxies, stream, verify, cert: merge(  # type: ignore[method-assign]
            url, proxies, stream, False if verify is None else verify, cert
        )
    return session


def _without_token(address: str | None) -> str | None:
    if not address or TOKEN_PARAMETER not in address:
        return address
    parts = urlsplit(address)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != TOKEN_PARAMETER]
    return parts._replace(query=urlencode(query)).geturl()


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
        self._teach(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        is_new = proxy not in self.proxy_manager
        manager: Any = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            self._teach(manager)
        return manager

    def _teach(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), {"ConnectionCls": self._taught(pool.ConnectionCls)})
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def _taught(self, connection: type) -> type:
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
