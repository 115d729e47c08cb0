"""Which errors concern one record, and which the service."""

from __future__ import annotations

import inspect

import pytest

from airflow_provider_webcamconsult import exceptions
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultError,
    WebcamconsultRecordError,
    WebcamconsultServiceError,
)
from airflow_provider_webcamconsult.version_compat import AirflowFailException

ERRORS = [
    value
    for value in vars(exceptions).values()
    if inspect.isclass(value) and issubclass(value, WebcamconsultError)
]
#: Neither one record nor the service is at fault, but the connection, the token or rows, or it is not known.
OTHERS = {"ConfigurationError", "RequestError", "AuthenticationError", "SyncError", "SyncRejectedError"}


@pytest.mark.parametrize("error", ERRORS)
def test_each_error_is_at_most_one_kind(error: type[WebcamconsultError]) -> None:
    kinds = [
        base for base in (WebcamconsultRecordError, WebcamconsultServiceError) if issubclass(error, base)
    ]
    is_other = error.__name__.removeprefix("Webcamconsult") in OTHERS or error is WebcamconsultError
    assert len(kinds) == (0 if is_other else 1)


@pytest.mark.parametrize("error", [error for error in ERRORS if issubclass(error, WebcamconsultRecordError)])
def test_no_retry_repeats_an_error_of_a_record(error: type[WebcamconsultError]) -> None:
    assert issubclass(error, AirflowFailException)
