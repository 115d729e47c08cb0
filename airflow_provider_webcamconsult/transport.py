"""
Send requests to the service: the session, retries, and errors below HTTP.

What a request is about, and what its answer means, is the business of
:mod:`~airflow_provider_webcamconsult.api`.
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
    WebcamconsultNotFoundError,
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

#: Seconds before the first repetition; doubled each time, with up to as much again at random.
BACKOFF_SECONDS = 0.5
#: Seconds that the back-off grows to at the most.
BACKOFF_MAX_SECONDS = 30
#: Seconds of a ``Retry-After`` that are honoured at the most.
RETRY_AFTER_MAX_SECONDS = 120
#: Seconds after which one call is not tried again.
RETRY_TOTAL_SECONDS = 300
#: How often a request that failed with 500 is tried again.
RETRIES_AFTER_500 = 1


class Log(Protocol):
    """Where messages go: a logger of Airflow 2 or 3."""

    def info(self, _message: Any, /, *_args: Any) -> Any:
        """Log what happened."""

    def warning(self, _message: Any, /, *_args: Any) -> Any:
        """Log what may need a look."""


class Transport:
    """
    Sends requests with the settings of one connection.

    :param settings: of the connection.
    :param log: where retries and warnings are logged.
    """

    def __init__(self, settings: Settings, log: Log) -> None:
        self.settings = settings
        self.log = log

    @cached_property
    def _session(self) -> requests.Session:
        # Not at import: a DAG file that is parsed sends nothing.
        from airflow_provider_webcamconsult.session import WebcamconsultSession

        return WebcamconsultSession(self.settings, follow_redirects=False)

    def send(self, request: Request, *, before_attempt: Callable[[], None] | None = None) -> Any:
        """
        Send a request, again where that is safe, and read the answer.

        :param request: from :mod:`~airflow_provider_webcamconsult.api.request`.
        :param before_attempt: is called each time before it is sent.
        :return: a record, a list of records, or None for a delete.
        :raises WebcamconsultError: if it did not succeed.
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
        Send a read once: for who looks again anyway, after an error too.

        :param request: a read, from :mod:`~airflow_provider_webcamconsult.api.request`.
        :param etag: of an earlier answer; the service then tells whether anything changed since.
        :param timeout: seconds, where they are fewer than the connection's.
        :return: the answer.
        :raises WebcamconsultError: if it did not succeed.
        """
        response = self._send(_PendingRequest(request), etag=etag, timeout=timeout)
        is_unchanged = etag is not None and response.status_code == HTTPStatus.NOT_MODIFIED
        return Response(
            value=None if is_unchanged else self._read(request, response),
            etag=etag if is_unchanged else response.headers.get("ETag"),
            size=len(response.content),
        )

    def _log_retry(self, state: RetryCallState) -> None:
        self.log.warning("%s Trying again in %.1f s.", state.outcome.exception(), state.upcoming_sleep)  # type: ignore[union-attr]

    def _attempt(self, pending: _PendingRequest) -> Any:
        """Send once and read the answer, in the light of the attempts before."""
        if pending.before_attempt:
            pending.before_attempt()
        response = self._send(pending)
        try:
            return self._read(pending.request, response)
        except WebcamconsultNotFoundError:
            # Gone: an earlier attempt deleted it, and its response was lost.
            if pending.request.method == "DELETE" and pending.may_be_done:
                return None
            raise
        except WebcamconsultServerError:
            pending.may_be_done = True
            raise

    def _send(
        self, pending: _PendingRequest, *, etag: str | None = None, timeout: float | None = None
    ) -> requests.Response:
        """Send once."""
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
            (cause, remedy), response = _cause(error, timeout), None
            pending.may_be_done = pending.may_be_done or pending.was_sent
            is_no_url = isinstance(error, requests.exceptions.InvalidURL)
        # Raised outside of the except: the library's errors hold the URL, and so perhaps the token.
        if response is None:
            cause = f"{request.method} {request.path}: {cause}"
            if is_no_url:
                raise WebcamconsultConfigurationError(f"{cause}; {remedy}.")
            if request.is_create and pending.was_sent:
                raise_unknown_outcome(request, f"{cause}.")
            raise WebcamconsultConnectionError(
                f"{cause}; {remedy}.", method=request.method, path=request.path
            )
        return response

    def _read(self, request: Request, response: requests.Response) -> Any:
        return read_response(
            request,
            response.status_code,
            response.headers,
            response.content,
            now=datetime.now(timezone.utc),
            token=self.settings.token,
        )


class _Body(io.BytesIO):
    """
    A request's body that knows whether its sending has begun.

    :param content: the body.
    :param has_token: whether the token is in it.
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
    What is known of a request over its attempts.

    :param request: the request.
    :param before_attempt: is called each time before it is sent.
    """

    def __init__(self, request: Request, before_attempt: Callable[[], None] | None = None) -> None:
        self.request = request
        self.before_attempt = before_attempt
        self.may_be_done = False
        self._body: _Body | None = None

    def new_body(self, settings: Settings) -> _Body | None:
        """Return the body for one more attempt."""
        if self.request.body is None:
            return None
        # In the body where there is one: what stands in a URL gets into the logs on the way.
        token = {TOKEN_PARAMETER: settings.token} if settings.auth_as_parameter else {}
        self._body = _Body(encode({**self.request.body, **token}), has_token=bool(token))
        return self._body

    @property
    def was_sent(self) -> bool:
        """Whether the service may have the whole request: a body that was never read never left."""
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
    asked = error.retry_after or 0.0 if isinstance(error, WebcamconsultError) else 0.0
    # Not wait_exponential_jitter: its parameters have other names in newer releases.
    backoff = wait_exponential(BACKOFF_SECONDS, BACKOFF_MAX_SECONDS) + wait_random(0, BACKOFF_SECONDS)
    return max(backoff(state), min(asked, RETRY_AFTER_MAX_SECONDS))


def _cause(error: BaseException, timeout: float) -> tuple[str, str]:
    """Say what went wrong below HTTP and what to do, without the library's words: they hold the URL."""
    import ssl

    import requests

    if isinstance(error, requests.exceptions.InvalidURL):
        return "the host's name cannot be one", "check the connection's Host"
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            return (
                f"the server's certificate was not accepted ({link.verify_message})",
                "check the connection's Host, and that this machine knows the certificate's authority",
            )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return (
            f"no connection within {timeout:g} s",
            "check the connection's Host and Port, and the way there",
        )
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout:g} s", "try again later, or raise 'timeout' in the connection"
    if any(type(link).__name__ in ("NameResolutionError", "gaierror") for link in chain):
        return "the host's name is not known", "check the connection's Host"
    if isinstance(error, requests.exceptions.SSLError):
        return "the host does not speak TLS there", "check the connection's Host and Port"
    reason = next((link.strerror for link in chain if isinstance(link, OSError) and link.strerror), None)
    if reason:
        return f"the connection failed ({reason})", "check the connection's Host and Port"
    return (
        "the connection was lost before the answer was complete",
        "try again, and if it stays, check the connection's Host",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Walk an error and all that it wraps: the libraries put it into causes, contexts and arguments."""
    if error is not None:
        yield error
        for inner in {id(link): link for link in (error.__cause__, error.__context__, *error.args)}.values():
            if isinstance(inner, BaseException):
                yield from _chain(inner)
