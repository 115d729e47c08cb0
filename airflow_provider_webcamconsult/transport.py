"""
Send requests over HTTP, with retries, and raise clear errors if the connection fails.

:mod:`~airflow_provider_webcamconsult.api` builds the requests and reads the responses.
"""

from __future__ import annotations

import io
from datetime import datetime, timezone
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_webcamconsult.api.request import encode
from airflow_provider_webcamconsult.api.resources import TOKEN_PARAMETER
from airflow_provider_webcamconsult.api.response import Response, raise_unknown_outcome, read_response
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultRateLimitError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests
    from tenacity import RetryCallState

    from airflow_provider_webcamconsult.api.request import Request
    from airflow_provider_webcamconsult.connection import Settings

#: Seconds before the first retry. The delay doubles with each further retry.
#: A random delay of up to this value is added.
BACKOFF_SECONDS = 0.5
#: Maximum delay between retries in seconds, without the random part.
BACKOFF_MAX_SECONDS = 30
#: Maximum ``Retry-After`` to honour, in seconds.
RETRY_AFTER_MAX_SECONDS = 120
#: No retry starts later than this many seconds after the first attempt.
RETRY_TOTAL_SECONDS = 300
#: Maximum number of retries after a 500 response.
RETRIES_AFTER_500 = 1


class Log(Protocol):
    """The logger of a hook, on Airflow 2 and 3."""

    def info(self, _message: Any, /, *_args: Any) -> Any:
        """Log a message at level INFO."""

    def warning(self, _message: Any, /, *_args: Any) -> Any:
        """Log a message at level WARNING."""


class Transport:
    """
    Sends requests with the settings of one connection.

    :param settings: the connection's settings.
    :param log: logger for retries and warnings.
    """

    def __init__(self, settings: Settings, log: Log) -> None:
        self.settings = settings
        self.log = log

    @cached_property
    def _session(self) -> requests.Session:
        # Imported late: parsing a DAG file must not load requests.
        from airflow_provider_webcamconsult.session import WebcamconsultSession

        return WebcamconsultSession(self.settings, follow_redirects=False)

    def send(self, request: Request, *, before_attempt: Callable[[], None] | None = None) -> Any:
        """
        Send a request, retry it if that is safe, and read the response.

        :param request: the request, from :mod:`~airflow_provider_webcamconsult.api.request`.
        :param before_attempt: called before each attempt.
        :return: a record, a list of records, or None for a delete.
        :raises WebcamconsultError: if the request did not succeed.
        """
        from tenacity import Retrying, stop_after_attempt, stop_before_delay

        pending = _PendingRequest(request, before_attempt)
        retrying = Retrying(
            retry=_should_retry,
            stop=stop_after_attempt(1 + self.settings.retries) | stop_before_delay(RETRY_TOTAL_SECONDS),
            wait=_retry_delay,
            before_sleep=self._log_retry,
            reraise=True,
        )
        return retrying(self._attempt, pending)

    def send_once(
        self, request: Request, *, etag: str | None = None, timeout: float | None = None
    ) -> Response:
        """
        Send a GET request without retries, for callers that poll again.

        :param request: the request, from :mod:`~airflow_provider_webcamconsult.api.request`.
        :param etag: ETag of an earlier response. If nothing has changed since, the new response has no value.
        :param timeout: timeout in seconds; the connection's timeout applies if that is shorter.
        :return: the response.
        :raises WebcamconsultError: if the request did not succeed.
        """
        response = self._send(_PendingRequest(request), etag=etag, timeout=timeout)
        is_unchanged = etag is not None and response.status_code == HTTPStatus.NOT_MODIFIED
        return Response(
            value=None if is_unchanged else self._read(request, response),
            etag=etag if is_unchanged else response.headers.get("ETag"),
            size=len(response.content),
        )

    def _log_retry(self, state: RetryCallState) -> None:
        self.log.warning("%s Retrying in %.1f s.", state.outcome.exception(), state.upcoming_sleep)  # type: ignore[union-attr]

    def _attempt(self, pending: _PendingRequest) -> Any:
        """Send the request once and read the response."""
        if pending.before_attempt:
            pending.before_attempt()
        response = self._send(pending)
        try:
            return self._read(pending.request, response)
        except WebcamconsultError as error:
            error.may_have_succeeded = pending.may_have_succeeded
            if isinstance(error, WebcamconsultServerError):
                pending.may_have_succeeded = True
            raise

    def _send(
        self, pending: _PendingRequest, *, etag: str | None = None, timeout: float | None = None
    ) -> requests.Response:
        """Send the request once, and return the response whatever its status."""
        import requests
        from urllib3.exceptions import HTTPError

        request, settings = pending.request, self.settings
        timeout = settings.timeout if timeout is None else min(timeout, settings.timeout)
        body = pending.new_body(settings)
        headers = {"Content-Type": "application/json"} if body else {}
        if etag is not None:
            headers["If-None-Match"] = etag
        try:
            response = self._session.request(
                request.method,
                settings.base_url + request.path,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            )
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            (cause, remedy), response = _explain(error, timeout), None
            pending.may_have_succeeded = pending.may_have_succeeded or pending.was_sent
            is_invalid_url = isinstance(error, requests.exceptions.InvalidURL)
        # Raised outside of the except block, so that the library's exception is not attached as the context:
        # its URL may contain the token.
        if response is None:
            message = f"{request.method} {request.path} failed: {cause}."
            if is_invalid_url:
                raise WebcamconsultConfigurationError(f"{message} {remedy}")
            if request.is_create and pending.was_sent:
                raise_unknown_outcome(request, message)
            raise WebcamconsultConnectionError(
                f"{message} {remedy}", method=request.method, path=request.path
            )
        return response

    def _read(self, request: Request, response: requests.Response) -> Any:
        return read_response(
            request,
            response.status_code,
            response.headers,
            response.content,
            now=datetime.now(timezone.utc),
        )


class _Body(io.BytesIO):
    """
    A request body that records whether any of it was sent.

    :param content: the encoded body.
    :param has_token: whether the body contains the token.
    """

    was_read = False

    def __init__(self, content: bytes, *, has_token: bool) -> None:
        super().__init__(content)
        self.has_token = has_token

    def read(self, size: int | None = -1, /) -> bytes:
        self.was_read = True
        return super().read(size)


class _PendingRequest:
    """
    A request and the state of its attempts.

    :param request: the request.
    :param before_attempt: called before each attempt.
    """

    def __init__(self, request: Request, before_attempt: Callable[[], None] | None = None) -> None:
        self.request = request
        self.before_attempt = before_attempt
        self.may_have_succeeded = False
        self._body: _Body | None = None

    def new_body(self, settings: Settings) -> _Body | None:
        """Return a new body for the next attempt."""
        if self.request.body is None:
            return None
        # The token goes into the body rather than the URL, because servers and proxies log URLs.
        token = {TOKEN_PARAMETER: settings.token} if settings.auth_as_parameter else {}
        self._body = _Body(encode({**self.request.body, **token}), has_token=bool(token))
        return self._body

    @property
    def was_sent(self) -> bool:
        """Whether the service may have received the request: it has not if the body was never read."""
        return self._body is not None and self._body.was_read


def _should_retry(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, WebcamconsultServerError) and error.status_code == 500:
        return state.attempt_number <= RETRIES_AFTER_500
    return isinstance(
        error,
        (
            WebcamconsultConnectionError,
            WebcamconsultRateLimitError,
            WebcamconsultResponseError,
            WebcamconsultServerError,
        ),
    )


def _retry_delay(state: RetryCallState) -> float:
    from tenacity import wait_exponential, wait_random

    error = state.outcome.exception() if state.outcome else None
    retry_after = error.retry_after or 0.0 if isinstance(error, WebcamconsultError) else 0.0
    # wait_exponential_jitter would be shorter, but newer releases of tenacity rename its parameters.
    backoff = wait_exponential(BACKOFF_SECONDS, BACKOFF_MAX_SECONDS) + wait_random(0, BACKOFF_SECONDS)
    return max(backoff(state), min(retry_after, RETRY_AFTER_MAX_SECONDS))


def _explain(error: BaseException, timeout: float) -> tuple[str, str]:
    """
    Return the cause of a failed connection and its remedy, as text.

    The library's own messages are not used, because they contain the URL.
    """
    import ssl

    import requests

    if isinstance(error, requests.exceptions.InvalidURL):
        return "the host name is invalid", "Check the connection's Host."
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            return (
                f"the server's certificate could not be verified ({link.verify_message})",
                "Check the connection's Host, and that this machine trusts the certificate authority.",
            )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return (
            f"no connection was established within {timeout:g} s",
            "Check the connection's Host and Port, and the network.",
        )
    if isinstance(error, requests.Timeout):
        return (
            f"no response was received within {timeout:g} s",
            "Try again later, or increase 'timeout' in the connection.",
        )
    if any(type(link).__name__ in ("NameResolutionError", "gaierror") for link in chain):
        return "the host name could not be resolved", "Check the connection's Host."
    if isinstance(error, requests.exceptions.SSLError):
        return "the host does not speak TLS on this port", "Check the connection's Host and Port."
    reason = next((link.strerror for link in chain if isinstance(link, OSError) and link.strerror), None)
    if reason:
        return f"connection error ({reason})", "Check the connection's Host and Port."
    return (
        "the connection was lost before the response was complete",
        "Try again; if the error persists, check the connection's Host.",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and all exceptions that it wraps; the libraries wrap them in different ways."""
    if error is not None:
        yield error
        for inner in {id(link): link for link in (error.__cause__, error.__context__, *error.args)}.values():
            if isinstance(inner, BaseException):
                yield from _chain(inner)
