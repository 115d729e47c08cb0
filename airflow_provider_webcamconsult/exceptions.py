"""
Exceptions of this provider. All of them derive from :class:`WebcamconsultError`.

An error that a retry cannot fix is also an ``AirflowFailException``: the task fails without a retry, in an
operator and in a ``@task`` function. No error contains a token, a body or personal data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.version_compat import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class WebcamconsultError(AirflowException):
    """
    Base class of this provider's errors.

    :param message: what happened and what to do next.
    :param method: HTTP method of the request, if there was one.
    :param path: path of the request, without host and query.
    :param status_code: HTTP status of the response, if there was one.
    :param reason: the standard phrase for this status, such as "Not Found".
    :param retry_after: seconds to wait before the next request, if the server sent ``Retry-After``.
    """

    status_code: int | None  # type: ignore[assignment]  # Airflow's is the status that its own API returns
    #: Whether an earlier attempt of the same request may have succeeded.
    may_have_succeeded = False

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


class WebcamconsultRecordError(WebcamconsultError, AirflowFailException):
    """
    Base class of the errors in which one record, or what was to be written to it, is at fault.

    A retry would fail in the same way, but the other records can be processed.
    """


class WebcamconsultServiceError(WebcamconsultError):
    """
    Base class of the errors in which the service, or the way to it, is at fault.

    Requests for other records will probably fail too, until a later attempt succeeds.
    """


class WebcamconsultInputError(WebcamconsultRecordError, ValueError):
    """The caller passed an invalid value. No request was sent."""


class WebcamconsultConfigurationError(WebcamconsultError, AirflowFailException):
    """The Airflow connection is invalid, or its host is not the Webcamconsult API."""


class WebcamconsultRequestError(WebcamconsultError, AirflowFailException):
    """The service rejected the request (4xx except 429). A retry would be rejected too."""


class WebcamconsultAuthenticationError(WebcamconsultRequestError):
    """The service rejected the API token (401), or the token lacks a permission (403)."""


class WebcamconsultNotFoundError(WebcamconsultRequestError, WebcamconsultRecordError):
    """The API responded that the record or the path does not exist (404)."""


class WebcamconsultValidationError(WebcamconsultRequestError, WebcamconsultRecordError):
    """
    The service rejected the attributes (422).

    :param errors: the service's messages by attribute, in the format of the API document. Only known messages
        are included, because others may contain personal data.
    """

    def __init__(self, message: str, *, errors: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.errors: dict[str, Any] = dict(errors or {})


class WebcamconsultRateLimitError(WebcamconsultServiceError):
    """The service received too many requests (429)."""


class WebcamconsultServerError(WebcamconsultServiceError):
    """The service failed to process the request (5xx)."""


class WebcamconsultConnectionError(WebcamconsultServiceError):
    """
    No response arrived, or Airflow did not find the connection.

    A retry is safe: the request was never sent, or is not a create.
    """


class WebcamconsultResponseError(WebcamconsultServiceError):
    """The response cannot be read, or did not come from the service. A retry is safe."""


class WebcamconsultUnknownOutcomeError(WebcamconsultServiceError):
    """
    A create request may have succeeded, but the record has not been found.

    The request was not repeated. A retried create operator looks up the record before it creates one, and so
    does the hook unless ``if_exists`` is ``"create"``. If a retry would not look up the record,
    :class:`WebcamconsultNonRetryableError` is raised instead, because a second create is a double booking.
    """


class WebcamconsultNonRetryableError(WebcamconsultUnknownOutcomeError, AirflowFailException):
    """A create request may have succeeded, and a retry could create a second record."""


class WebcamconsultConflictError(WebcamconsultRecordError):
    """
    Records with the same natural key exist, and the provider cannot decide how to continue.

    :param ids: ids of the records that were found.
    """

    def __init__(self, message: str, *, ids: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.ids = list(ids)


class WebcamconsultMismatchError(WebcamconsultRecordError):
    """
    The service accepted the request but stored different values.

    :param record_id: id of the record.
    :param attributes: names of the attributes that differ.
    """

    def __init__(
        self, message: str, *, record_id: str | None = None, attributes: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(message, **kwargs)
        self.record_id = record_id
        self.attributes = list(attributes)


class WebcamconsultSyncError(WebcamconsultError):
    """
    Rows were not synchronized, and a retry may synchronize them. The other rows were.

    Or there were no rows, and ``mode="mirror"`` would delete records. Then nothing was written.

    :param result: the counts and the failures of the run, as
        :class:`~airflow_provider_webcamconsult.sync.report.SyncResult` has them.
    """

    def __init__(self, message: str, *, result: Any = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.result = result


class WebcamconsultSyncRejectedError(WebcamconsultSyncError, AirflowFailException):
    """Rows were not synchronized, or nothing was, and a retry would not help."""
