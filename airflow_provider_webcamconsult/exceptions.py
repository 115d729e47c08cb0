"""
The errors of this provider, a small tree below :class:`WebcamconsultError`.

What cannot succeed on a retry is an ``AirflowFailException`` too: the task fails at once, whether the
error arises in an operator or in a user's own ``@task``. No error holds a token, a body or a person's data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.version_compat import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class WebcamconsultError(AirflowException):
    """
    Anything that went wrong with Webcamconsult.

    :param message: the cause and the remedy.
    :param method: HTTP method of the request, where there was one.
    :param path: path of the request, without host and query.
    :param status_code: HTTP status of the answer, where there was one.
    :param reason: the server's reason, as a phrase.
    :param retry_after: seconds to wait before the next request that the server asked for, where it did.
    """

    status_code: int | None  # type: ignore[assignment]  # Airflow's is the status of its own API's answer

    def __init__(
        self,
        message: str,
        *,
        method: str | None = None,
        path: str | None = None,
        status_code: int | None = None,
        reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.method = method
        self.path = path
        self.status_code = status_code
        self.reason = reason
        self.retry_after = retry_after


class WebcamconsultInputError(WebcamconsultError, AirflowFailException, ValueError):
    """What the caller gave cannot be sent; nothing was sent."""


class WebcamconsultConfigurationError(WebcamconsultError, AirflowFailException):
    """The Airflow connection is missing or wrong, or its host is not the Webcamconsult API."""


class WebcamconsultRequestError(WebcamconsultError, AirflowFailException):
    """The service refused the request as it is (any 4xx but 429); repeating it does not help."""


class WebcamconsultAuthenticationError(WebcamconsultRequestError):
    """The service refused the token (401, 403)."""


class WebcamconsultNotFoundError(WebcamconsultRequestError):
    """The service has no such record or path (404)."""


class WebcamconsultValidationError(WebcamconsultRequestError):
    """
    The service refused the attributes (422).

    :param errors: the server's messages for each attribute, as the API document shows them.
    """

    def __init__(self, message: str, *, errors: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.errors: dict[str, Any] = dict(errors or {})


class WebcamconsultRateLimitError(WebcamconsultError):
    """The service asks for fewer requests (429)."""


class WebcamconsultServerError(WebcamconsultError):
    """The service failed (5xx)."""


class WebcamconsultConnectionError(WebcamconsultError):
    """No answer came, and trying again is safe: never sent, or a read, an update or a delete."""


class WebcamconsultResponseError(WebcamconsultError):
    """An answer came that cannot be read, and trying again is safe."""


class WebcamconsultUnknownOutcomeError(WebcamconsultError):
    """
    A create that the service may have carried out, and that could not be found there (yet).

    It was not sent again. A retry of a create operator looks for the record before it creates; so does the
    hook with ``if_exists`` other than ``"create"``. Where a retry would not look, this is an
    ``AirflowFailException`` too: a second create is a double booking.
    """


class WebcamconsultNonRetryableError(WebcamconsultUnknownOutcomeError, AirflowFailException):
    """An unknown outcome where a retry would create blindly, so that the task must not retry."""


class WebcamconsultConflictError(WebcamconsultError, AirflowFailException):
    """
    A record to create exists, and which to take, or what to do with it, is not for this provider to guess.

    :param ids: the ids of the records that were found.
    """

    def __init__(self, message: str, *, ids: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.ids = list(ids)


class WebcamconsultMismatchError(WebcamconsultError, AirflowFailException):
    """
    The service answered success, but keeps something else than was sent.

    :param record_id: the record.
    :param attributes: names of the attributes that it did not keep.
    """

    def __init__(
        self, message: str, *, record_id: str | None = None, attributes: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(message, **kwargs)
        self.record_id = record_id
        self.attributes = list(attributes)
