"""The hook: an Airflow connection becomes a session, and requests are sent over it."""

from __future__ import annotations

import io
from datetime import datetime, timezone
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult import api
from airflow_provider_webcamconsult.connection import Settings
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultNotFoundError,
    WebcamconsultRateLimitError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
)
from airflow_provider_webcamconsult.records import Records
from airflow_provider_webcamconsult.resources import (
    APPOINTMENT,
    CLIENT,
    TOKEN_PARAMETER,
    USER,
    Appointment,
    AppointmentAttributes,
    Client,
    ClientAttributes,
    User,
    UserAttributes,
)
from airflow_provider_webcamconsult.version_compat import AirflowNotFoundException, BaseHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests
    from tenacity import RetryCallState

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


class WebcamconsultHook(BaseHook):
    """
    Talk to Webcamconsult with the token of an Airflow connection.

    The whole API document is behind :attr:`users`, :attr:`clients` and :attr:`appointments`.

    :param webcamconsult_conn_id: the connection, of type ``webcamconsult``.
    """

    conn_name_attr = "webcamconsult_conn_id"
    default_conn_name = "webcamconsult_default"
    conn_type = "webcamconsult"
    hook_name = "Webcamconsult"

    def __init__(self, webcamconsult_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.webcamconsult_conn_id = webcamconsult_conn_id

    @cached_property
    def users(self) -> Records[UserAttributes, User]:
        """The users, professionals (API document, "User Collection" and "User")."""
        return Records(self, USER)

    @cached_property
    def clients(self) -> Records[ClientAttributes, Client]:
        """The clients, patients (API document, "Client Collection" and "Client")."""
        return Records(self, CLIENT)

    @cached_property
    def appointments(self) -> Records[AppointmentAttributes, Appointment]:
        """The appointments (API document, "Appointment Collection" and "Appointment")."""
        return Records(self, APPOINTMENT)

    @cached_property
    def settings(self) -> Settings:
        """
        The connection's settings, read at the first use.

        :raises WebcamconsultConfigurationError: if there is no such connection, or it is not usable.
        """
        connection = self._find_connection()
        if connection is None:
            raise WebcamconsultConfigurationError(
                f"There is no connection '{self.webcamconsult_conn_id}'. Create it in Airflow under Admin, "
                "Connections, of type Webcamconsult, or name one that exists in webcamconsult_conn_id. (One "
                "that is in the environment, but cannot be read, is reported as missing too.)"
            )
        return Settings.from_connection(connection)

    def _find_connection(self) -> Any:
        try:
            return self.get_connection(self.webcamconsult_conn_id)
        except AirflowNotFoundException:
            return None

    @cached_property
    def _session(self) -> requests.Session:
        session = self.get_conn()
        # A redirect is never followed; requests would look where to, and stumble over what is no address.
        session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]
        return session

    def get_conn(self) -> requests.Session:
        """
        Return a plain session that gives the token to the connection's address, and to no other.

        For what the rest of the hook does not do. Its answers are not cleared of credentials.

        :raises WebcamconsultConfigurationError: if the connection is not usable.
        """
        from airflow_provider_webcamconsult.session import open_session

        if self.settings.is_unencrypted:
            self.log.warning(
                "Connection '%s' uses plain http: token and patients' data cross the network unencrypted.",
                self.webcamconsult_conn_id,
            )
        return open_session(self.settings)

    def test_connection(self) -> tuple[bool, str]:
        """
        Look whether the service takes the token; for the Test button and ``airflow connections test``.

        :return: whether it does, and a sentence to show.
        """
        try:
            # Once: a person waits, and Airflow 2 ends a page that takes two minutes.
            users = self.request_once(api.list_request(USER)).value
        except WebcamconsultError as error:
            # The form's connection is tested under an id that Airflow makes up.
            return False, str(error).replace(f"Connection '{self.webcamconsult_conn_id}'", "The connection")
        count = "1 user" if len(users) == 1 else f"{len(users)} users"
        base_url = self.settings.base_url
        return True, f"Connected to Webcamconsult at {base_url}: the token's organisation has {count}."

    def send(self, request: api.Request, *, before_attempt: Callable[[], None] | None = None) -> Any:
        """
        Send a request, again where that is safe, and read the answer.

        :param request: from :mod:`~airflow_provider_webcamconsult.api`.
        :param before_attempt: is called each time before it is sent.
        :return: a record, a list of records, or None for a delete.
        :raises WebcamconsultError: if it did not succeed.
        """
        from tenacity import Retrying, stop_after_attempt, stop_before_delay

        attempt = _Attempt(request, before_attempt)
        retrying = Retrying(
            retry=_should_retry,
            stop=stop_after_attempt(1 + self.settings.retries) | stop_before_delay(RETRY_TOTAL_SECONDS),
            wait=_retry_delay,
            before_sleep=self._log_retry,
            reraise=True,
        )
        return retrying(self._attempt, attempt)

    def request_once(
        self, request: api.Request, *, etag: str | None = None, timeout: float | None = None
    ) -> api.Response:
        """
        Send a read once: for who looks again anyway, after an error too.

        :param request: a read, from :mod:`~airflow_provider_webcamconsult.api`.
        :param etag: of an earlier answer; the service then tells whether anything changed since.
        :param timeout: seconds, where they are fewer than the connection's.
        :return: the answer.
        :raises WebcamconsultError: if it did not succeed.
        """
        response = self._send(_Attempt(request), etag=etag, timeout=timeout)
        is_unchanged = etag is not None and response.status_code == HTTPStatus.NOT_MODIFIED
        return api.Response(
            value=None if is_unchanged else self._read(request, response),
            etag=etag if is_unchanged else response.headers.get("ETag"),
            size=len(response.content),
        )

    def _log_retry(self, state: RetryCallState) -> None:
        self.log.warning("%s Trying again in %.1f s.", state.outcome.exception(), state.upcoming_sleep)  # type: ignore[union-attr]

    def _attempt(self, attempt: _Attempt) -> Any:
        """Send once and read the answer, in the light of the attempts before."""
        if attempt.before_attempt:
            attempt.before_attempt()
        response = self._send(attempt)
        try:
            return self._read(attempt.request, response)
        except WebcamconsultNotFoundError:
            # Gone: an earlier attempt deleted it, though its answer was lost.
            if attempt.request.method == "DELETE" and attempt.may_be_done:
                return None
            raise
        except WebcamconsultServerError:
            attempt.may_be_done = True
            raise

    def _send(
        self, attempt: _Attempt, *, etag: str | None = None, timeout: float | None = None
    ) -> requests.Response:
        """Send once."""
        import requests
        from urllib3.exceptions import HTTPError

        request, settings = attempt.request, self.settings
        timeout = settings.timeout if timeout is None else min(timeout, settings.timeout)
        body = attempt.new_body(settings)
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
            attempt.may_be_done = attempt.may_be_done or attempt.was_sent
            is_no_url = isinstance(error, requests.exceptions.InvalidURL)
        # Raised outside of the except: the library's errors hold the URL, and so perhaps the token.
        if response is None:
            cause = f"{request.method} {request.path}: {cause}"
            if is_no_url:
                raise WebcamconsultConfigurationError(f"{cause}; {remedy}.")
            if request.is_create and attempt.was_sent:
                api.unknown_outcome(request, f"{cause}.")
            raise WebcamconsultConnectionError(
                f"{cause}; {remedy}.", method=request.method, path=request.path
            )
        return response

    def _read(self, request: api.Request, response: requests.Response) -> Any:
        return api.read(
            request,
            response.status_code,
            response.headers,
            response.content,
            now=datetime.now(timezone.utc),
            token=self.settings.token,
        )

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Say how Airflow 2's form shows the standard fields; Airflow 3 reads the provider's info."""
        from airflow_provider_webcamconsult.get_provider_info import UI_FIELD_BEHAVIOUR

        return {key.replace("-", "_"): value for key, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of Airflow 2's connection form; Airflow 3 reads the provider's info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import BooleanField, IntegerField, StringField
        from wtforms.validators import Optional

        from airflow_provider_webcamconsult.get_provider_info import CONNECTION_FIELDS

        widgets = {}
        for name, described in CONNECTION_FIELDS.items():
            schema = described["schema"]
            keywords = {"label": described["label"], "description": described["description"]}
            if "boolean" in schema["type"]:
                widgets[name] = BooleanField(**keywords, default=schema["default"])
            else:
                kind = IntegerField if "integer" in schema["type"] else StringField
                widgets[name] = kind(
                    **keywords,
                    default=schema["default"],
                    validators=[Optional()],
                    widget=BS3TextFieldWidget(),
                )
        return widgets


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


class _Attempt:
    """
    What is known of a request over its attempts.

    :param request: the request.
    :param before_attempt: is called each time before it is sent.
    """

    def __init__(self, request: api.Request, before_attempt: Callable[[], None] | None = None) -> None:
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
        self._body = _Body(api.encode({**self.request.body, **token}), has_token=bool(token))
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
