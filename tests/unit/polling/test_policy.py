"""The rules of polling, as tables."""

from __future__ import annotations

import math

import pytest

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultError,
    WebcamconsultInputError,
    WebcamconsultNotFoundError,
    WebcamconsultRateLimitError,
    WebcamconsultRequestError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
    WebcamconsultValidationError,
)
from airflow_provider_webcamconsult.polling.policy import (
    concerns_service,
    ends_wait,
    failing_order,
    failure_delay_seconds,
    interval_until_date_seconds,
    is_list_lighter,
    list_delay_seconds,
    next_interval_seconds,
)

UNAUTHORIZED = WebcamconsultAuthenticationError("", status_code=401)
FORBIDDEN = WebcamconsultAuthenticationError("", status_code=403)
NOT_FOUND = WebcamconsultNotFoundError("", status_code=404)
INVALID_ID = WebcamconsultInputError("")
PASSING: list[WebcamconsultError] = [
    WebcamconsultConnectionError(""),
    WebcamconsultRateLimitError("", status_code=429),
    WebcamconsultResponseError("", status_code=200),
    WebcamconsultResponseError("", status_code=404),
    WebcamconsultConfigurationError(""),
    WebcamconsultConfigurationError("", status_code=302),
    WebcamconsultValidationError("", status_code=422),
    *(WebcamconsultServerError("", status_code=status) for status in (500, 502, 503, 504)),
    *(
        WebcamconsultRequestError("", status_code=status)
        for status in (400, 405, 406, 408, 409, 410, 418, 421, 423, 425, 426, 431, 451, 499)
    ),
]


def name(error: object) -> str:
    return f"{type(error).__name__} {getattr(error, 'status_code', None)}"


@pytest.mark.parametrize("error", [UNAUTHORIZED, FORBIDDEN, NOT_FOUND], ids=name)
def test_rejection_by_the_api_ends_a_wait_when_it_is_repeated(error: WebcamconsultError) -> None:
    assert not ends_wait(error, None)
    assert ends_wait(error, error)
    for other in PASSING:
        assert not ends_wait(error, other)


@pytest.mark.parametrize("error", PASSING, ids=name)
def test_any_other_error_never_ends_a_wait(error: WebcamconsultError) -> None:
    assert not ends_wait(error, error)


def test_invalid_id_ends_a_wait_at_once() -> None:
    assert ends_wait(INVALID_ID, None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UNAUTHORIZED, True),
        (FORBIDDEN, False),
        (NOT_FOUND, False),
        (INVALID_ID, False),
        *((error, error.status_code in (None, 302, 429, 502, 503, 504)) for error in PASSING),
    ],
    ids=name,
)
def test_only_an_error_that_others_would_meet_too_concerns_the_service(
    error: WebcamconsultError, expected: bool
) -> None:
    assert concerns_service(error) is expected


@pytest.mark.parametrize(
    ("poke_interval", "seconds"), [(5, 5), (0, 1), (0.5, 1), (-3, 1), (math.nan, 1), (math.inf, math.inf)]
)
def test_interval_is_the_poke_interval_but_not_below_the_minimum(
    poke_interval: float, seconds: float
) -> None:
    assert next_interval_seconds(poke_interval, 7) == seconds


@pytest.mark.parametrize(
    ("polls", "max_wait", "shortest", "longest"),
    [
        (0, None, 5, 10),
        (1, None, 10, 20),
        (4, None, 80, 160),
        (4, 60, 60, 60),
        (4, 0.1, 1, 1),
        (10_000, 3600, 3600, 3600),
    ],
)
def test_exponential_backoff_doubles_the_interval_up_to_max_wait(
    polls: int, max_wait: float | None, shortest: float, longest: float
) -> None:
    for _ in range(100):
        seconds = next_interval_seconds(10, polls, exponential_backoff=True, max_wait=max_wait)
        assert shortest <= seconds <= longest


@pytest.mark.parametrize(
    ("interval", "failures", "shortest", "longest"),
    [(5, 1, 10, 11), (5, 2, 20, 22), (5, 9, 60, 66), (300, 9, 300, 330), (5, 10_000, 60, 66)],
)
def test_delay_grows_with_failures_up_to_a_limit(
    interval: float, failures: int, shortest: float, longest: float
) -> None:
    assert shortest <= failure_delay_seconds(interval, failures, NOT_FOUND) <= longest


@pytest.mark.parametrize(
    ("retry_after", "shortest", "longest"), [(45, 45, 45), (3, 10, 11), (3600, 120, 120)]
)
def test_delay_follows_retry_after_up_to_a_limit(retry_after: float, shortest: float, longest: float) -> None:
    error = WebcamconsultRateLimitError("", status_code=429, retry_after=retry_after)
    assert shortest <= failure_delay_seconds(5, 1, error) <= longest


@pytest.mark.parametrize(
    ("polls", "list_seconds", "single_seconds", "expected"),
    [
        (9.9, None, 0.05, False),  # never tried: not worth it for a few
        (10, None, 0.05, True),
        (2, 0.1, 0.05, True),
        (2, 0.11, 0.05, False),
        (1000, 50.0, 0.05, True),
        (1000, 51.0, 0.05, False),
        (0.5, 0.001, 0.05, True),
    ],
)
def test_list_is_chosen_when_it_takes_no_longer_than_the_requests_it_replaces(
    polls: float, list_seconds: float | None, single_seconds: float, expected: bool
) -> None:
    assert is_list_lighter(polls, list_seconds, single_seconds) is expected


@pytest.mark.parametrize("error", [UNAUTHORIZED, FORBIDDEN, NOT_FOUND, INVALID_ID, *PASSING], ids=name)
def test_only_an_error_about_the_token_concerns_the_service_if_the_appointment_fails_anyway(
    error: WebcamconsultError,
) -> None:
    assert concerns_service(error, is_failing=True) is (error.status_code in (401, 429))


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, 0.0), (30.0, 300.0), (300.0, 600.0)])
def test_list_that_took_long_to_fail_is_tried_again_much_later(seconds: float, expected: float) -> None:
    assert list_delay_seconds(seconds) == expected


def test_failing_appointments_are_polled_by_how_often_they_took_long_and_how_long_they_have_waited() -> None:
    places = [(2, 20.0), (9, 10.0), (1, 60.0), (50, 30.0), (0, 900.0), (1, 50.0), (0, 100.0)]
    assert sorted(places, key=lambda place: failing_order(*place)) == [
        (0, 100.0),
        (0, 900.0),
        (1, 50.0),
        (1, 60.0),
        (9, 10.0),
        (2, 20.0),
        (50, 30.0),
    ]


@pytest.mark.parametrize(
    ("seconds_left", "poke_interval", "max_wait", "expected"),
    [
        (7 * 86400, 60, None, 3600),
        (36_000, 60, None, 3600),
        (7200, 60, None, 720),
        (600, 60, None, 60),
        (30, 60, None, 60),
        (-5, 60, None, 60),
        (7 * 86400, 60, 600, 600),
        (7200, 60, 600, 600),
        # The sensor's interval is the minimum, whatever the maximum is.
        (7 * 86400, 7200, None, 7200),
        (7 * 86400, 7200, 600, 7200),
        (7200, 0, None, 720),
        (0, 0, None, 1),
    ],
)
def test_interval_until_a_date_is_a_tenth_of_the_time_left(
    seconds_left: float, poke_interval: float, max_wait: float | None, expected: float
) -> None:
    assert interval_until_date_seconds(seconds_left, poke_interval, max_wait=max_wait) == expected
