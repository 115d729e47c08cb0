"""
Send requests over HTTP, with retries, and raise clear errors if the connection fails.

:mod:`~airflow_provider_webcamconsult.api` builds the requests and reads the responses.
"""

from __future__ import annotations

import io
import time
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from airflow_provider_webcamconsult.api.request import encode
from airflow_provider_webcamconsult.api.resources import TOKEN_PARAMETER
from airflow_provider_webcamconsult.api.response import Response, raise_unknown_outcome, read_response
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultRateLimitError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
)
from airflow_provider_webcamconsult.network_failures import Failure, explain, explain_proxy_status

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests
    from tenacity import RetryCallState

    from airflow_provider_webcamconsult.api.request import Request
    from airflow_provider_webcamconsult.connection import Settings
    from airflow_provider_webcamconsult.session import WebcamconsultSession

#: A response must be complete this many seconds after the request was sent. A longer 'timeout' of the
#: connection replaces this value.
RESPONSE_DEADLINE_SECONDS = 300
#: Maximum size of a response in bytes, as received and after decompression.
RESPONSE_MAX_BYTES = 256 * 2**20
#: Bytes to read and decompress at once.
RESPONSE_CHUNK_BYTES = 2**18
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

    def __getstate__(self) -> dict[str, Any]:
        # A copy shares no network connection.
        return {name: value for name, value in vars(self).items() if name != "_session"}

    @cached_property
    def _session(self) -> WebcamconsultSession:
        return self.new_session(follow_redirects=False)

    def new_session(self, *, follow_redirects: bool = True) -> WebcamconsultSession:
        """
        Return a session that sends the token and limits the responses.

        :param follow_redirects: whether requests may follow redirects.
        """
        # Imported late: parsing a DAG file must not load requests.
        from airflow_provider_webcamconsult.session import Limits, WebcamconsultSession

        limits = Limits(self._deadline_seconds, RESPONSE_MAX_BYTES)
        return WebcamconsultSession(self.settings, limits=limits, follow_redirects=follow_redirects)

    @property
    def _deadline_seconds(self) -> float:
        return max(RESPONSE_DEADLINE_SECONDS, self.settings.timeout)

    def send(
        self,
        request: Request,
        *,
        before_attempt: Callable[[], None] | None = None,
        before_retry: Callable[[WebcamconsultError, float], None] | None = None,
    ) -> Any:
        """
        Send a request, retry it if that is safe, and read the response.

        :param request: the request, from :mod:`~airflow_provider_webcamconsult.api.request`.
        :param before_attempt: called before each attempt.
        :param before_retry: called with the error and the delay in seconds before each retry. By default,
            they are logged as a warning.
        :return: a record, an iterator over the records of a list, or None for a delete. The iterator raises a
            WebcamconsultResponseError when it reaches what is not a record, unless the request skips that;
            this is not retried.
        :raises WebcamconsultError: if the request did not succeed.
        """
        from tenacity import Retrying, stop_after_attempt, stop_before_delay

        def report(state: RetryCallState) -> None:
            (before_retry or self._log_retry)(state.outcome.exception(), state.upcoming_sleep)  # type: ignore[union-attr,arg-type]

        pending = self._pending(request, before_attempt)
        retrying = Retrying(
            retry=_should_retry,
            stop=stop_after_attempt(1 + self.settings.retries) | stop_before_delay(RETRY_TOTAL_SECONDS),
            wait=_retry_delay,
            before_sleep=report,
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
        :param timeout: maximum seconds until the response is complete. The connection's timeout applies to
            each step if that is shorter.
        :return: the response.
        :raises WebcamconsultError: if the request did not succeed.
        """
        pending = self._pending(request)
        response = self._send(pending, etag=etag, timeout=timeout)
        is_unchanged = etag is not None and response.status_code == HTTPStatus.NOT_MODIFIED
        value: Any = None
        if not is_unchanged:
            value = self._read(pending.request, response)
            if request.is_list:
                value = [*value]
        return Response(
            value=value,
            etag=etag if is_unchanged else response.headers.get("ETag"),
            size=len(response.content),
        )

    def _pending(self, request: Request, before_attempt: Callable[[], None] | None = None) -> _PendingRequest:
        return _PendingRequest(replace(request, conn_id=self.settings.conn_id), before_attempt)

    def _log_retry(self, error: WebcamconsultError, delay: float) -> None:
        self.log.warning("%s Retrying in %.1f s.", error, delay)

    def _attempt(self, pending: _PendingRequest) -> Any:
        """Send the request once and read the response."""
        if pending.before_attempt:
            pending.before_attempt()
        response = self._send(pending)
        try:
            return self._read(pending.request, response)
        except WebcamconsultError as error:
            error.may_have_succeeded = pending.may_have_succeeded
            if isinstance(error, (WebcamconsultResponseError, WebcamconsultServerError)):
                pending.may_have_succeeded = True
            raise

    def _send(
        self, pending: _PendingRequest, *, etag: str | None = None, timeout: float | None = None
    ) -> _Received:
        """Send the request once, and return the response whatever its status."""
        import requests
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        request, settings = pending.request, self.settings
        total = self._deadline_seconds if timeout is None else timeout
        timeout = min(total, settings.timeout)
        body = pending.new_body(settings)
        headers = {"Content-Type": "application/json"} if body else {}
        if etag is not None:
            headers["If-None-Match"] = etag
        url = settings.base_url + request.path
        began = time.monotonic()
        received, failure = None, None
        try:
            response = self._session.request(
                request.method,
                url,
                data=body,
                headers=headers,
                timeout=Timeout(connect=timeout, read=timeout, total=total),  # type: ignore[arg-type]
                allow_redirects=False,
                stream=True,
            )
            with response:
                received = _receive(response)
            if received.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
                proxy, _ = self._session.proxy_and_ca_bundle(url)
                failure = explain_proxy_status(proxy, received.status_code) if proxy else None
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            # A deadline that is shorter than the timeout is the timeout of each step too.
            is_too_late = total > timeout and time.monotonic() - began >= total
            failure = self._explain(error, url, total if is_too_late else timeout, is_too_late=is_too_late)
            pending.may_have_succeeded = pending.may_have_succeeded or pending.was_sent
        # Raised outside of the except block, so that the library's exception is not attached as the context:
        # its URL may contain the token.
        if failure:
            message = f"{request} failed: {failure.cause}."
            if request.is_create and pending.was_sent and failure.status_code is None:
                raise_unknown_outcome(request, message)
            raise failure.error_class(
                f"{message} {failure.remedy}",
                method=request.method,
                path=request.path,
                status_code=failure.status_code,
            )
        assert received is not None  # noqa: S101
        return received

    def _explain(self, error: Exception, url: str, seconds: float, *, is_too_late: bool) -> Failure:
        import requests

        try:
            proxy, ca_bundle = self._session.proxy_and_ca_bundle(url)
        except (requests.RequestException, ValueError):  # the Host is invalid
            proxy, ca_bundle = None, None
        return explain(
            error,
            seconds=seconds,
            is_too_late=is_too_late,
            max_bytes=RESPONSE_MAX_BYTES,
            proxy=proxy,
            ca_bundle=ca_bundle,
        )

    def _read(self, request: Request, response: _Received) -> Any:
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


class _Received(NamedTuple):
    """A complete response."""

    status_code: int
    headers: Any
    content: bytes

    def __repr__(self) -> str:
        # Without the headers and the body, which can hold personal data.
        return f"{type(self).__name__}(status_code={self.status_code}, size={len(self.content)})"


def _receive(response: requests.Response) -> _Received:
    """Read the body of a response, but not more than the limit."""
    from airflow_provider_webcamconsult.session import ResponseTooLargeError

    if (getattr(response.raw, "length_remaining", None) or 0) > RESPONSE_MAX_BYTES:
        raise ResponseTooLargeError
    # The chunks of response.content would exist twice when they are joined.
    content = io.BytesIO()
    for chunk in response.iter_content(RESPONSE_CHUNK_BYTES):
        if content.write(chunk) and content.tell() > RESPONSE_MAX_BYTES:
            raise ResponseTooLargeError
    return _Received(response.status_code, response.headers, content.getvalue())
