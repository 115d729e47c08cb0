"""The rules of polling, as pure functions: what an error means, when to poll next, and a list or not."""

from __future__ import annotations

import random
from http import HTTPStatus

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultError,
    WebcamconsultInputError,
    WebcamconsultNotFoundError,
    WebcamconsultRequestError,
    WebcamconsultResponseError,
    WebcamconsultServerError,
)
from airflow_provider_webcamconsult.transport import RETRY_AFTER_MAX_SECONDS

#: Minimum seconds between two polls, even if ``poke_interval`` is shorter.
POKE_INTERVAL_MIN_SECONDS = 1.0
#: Maximum delay in seconds after failures, unless the interval itself is longer.
FAILURE_DELAY_MAX_SECONDS = 60.0
#: Seconds that the last poll of a wait may run past the deadline.
LAST_POLL_SECONDS = 1.0
#: Seconds for which a connection that cannot be read does not end a wait.
CONNECTION_GRACE_SECONDS = 300.0
#: Maximum seconds until the response to the poll of a single appointment is complete.
SINGLE_POLL_MAX_SECONDS = 10.0
#: The same for a failing appointment of which a poll was slow, which delays only others like it.
SLOW_POLL_MAX_SECONDS = 60.0
#: Seconds after which a failed poll counts as slow.
SLOW_POLL_SECONDS = 1.0
#: Part of the time that is left until a known date to wait for the next poll, in case the date is moved.
TIME_LEFT_FRACTION = 0.1
#: Maximum seconds between two polls until a known date, unless ``max_wait`` is set.
MOVE_NOTICED_MAX_SECONDS = 3600.0
#: Number of due polls that are worth a list while its duration is unknown.
LIST_TRIAL_POLLS = 10
#: Number of failed lists in a row after which appointments are polled one by one until a list succeeds.
LIST_FAILURES_MAX = 3
#: Seconds after which a single failed list has the same effect, because all polls wait for a list.
SLOW_LIST_SECONDS = 10.0
#: If only lists fail, the delay until the next list is at least this many times the duration of the last one.
LIST_DELAY_FACTOR = 10.0
#: Maximum of that delay in seconds.
LIST_DELAY_MAX_SECONDS = 600.0

#: The errors that end a wait if they come twice in a row: the API itself rejects the token or the id.
FINAL_ERRORS = (WebcamconsultAuthenticationError, WebcamconsultNotFoundError)


def ends_wait(error: WebcamconsultError, previous: WebcamconsultError | None) -> bool:
    """
    Return whether an error ends a wait.

    :param error: the error of a poll.
    :param previous: the error of the poll before, if it failed too.
    """
    if isinstance(error, WebcamconsultInputError):  # nothing was sent
        return True
    is_repeated = isinstance(previous, FINAL_ERRORS) and previous.status_code == error.status_code
    return is_repeated and isinstance(error, FINAL_ERRORS)


def concerns_service(error: WebcamconsultError, *, is_failing: bool = False) -> bool:
    """
    Return whether the poll of any other appointment would fail in the same way.

    :param error: the error of a poll.
    :param is_failing: whether the previous poll of the appointment failed too. Then only a rejected token
        and a rate limit concern the service.
    """
    if is_failing and error.status_code not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS):
        return False
    if isinstance(error, WebcamconsultServerError):
        return error.status_code != HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, WebcamconsultRequestError):
        return error.status_code == HTTPStatus.UNAUTHORIZED
    return not isinstance(error, (WebcamconsultInputError, WebcamconsultResponseError))


def next_interval_seconds(
    poke_interval: float, polls: int = 0, *, exponential_backoff: bool = False, max_wait: float | None = None
) -> float:
    """
    Return the seconds between two successful polls.

    :param poke_interval: the sensor's interval in seconds.
    :param polls: number of polls so far.
    :param exponential_backoff: whether the interval doubles with each poll, as Airflow's sensors do it.
    :param max_wait: maximum of the growing interval in seconds.
    """
    # Written so that NaN becomes the minimum.
    seconds = poke_interval if poke_interval >= POKE_INTERVAL_MIN_SECONDS else POKE_INTERVAL_MIN_SECONDS
    if not exponential_backoff:
        return seconds
    seconds *= 2.0 ** min(polls, 32) * random.uniform(0.5, 1)  # noqa: S311
    return max(POKE_INTERVAL_MIN_SECONDS, min(seconds, max_wait) if max_wait else seconds)


def interval_until_date_seconds(
    seconds_left: float, poke_interval: float, *, max_wait: float | None = None
) -> float:
    """
    Return the seconds between two successful polls of an appointment whose date ends the wait.

    That is a tenth of the time that is left, but at least ``poke_interval`` and at most an hour. A moved
    appointment is noticed at the next poll.

    :param seconds_left: seconds until the wait ends.
    :param poke_interval: the sensor's interval in seconds, which is the minimum.
    :param max_wait: maximum of the interval in seconds, in place of the hour.
    """
    longest = max_wait or MOVE_NOTICED_MAX_SECONDS
    return max(next_interval_seconds(poke_interval), min(seconds_left * TIME_LEFT_FRACTION, longest))


def failure_delay_seconds(interval: float, failures: int, error: WebcamconsultError | None) -> float:
    """
    Return the seconds from a failed poll to the next one: the interval, doubled with each failure.

    :param interval: seconds between two successful polls.
    :param failures: number of consecutive failed polls.
    :param error: the error of the last poll.
    """
    longest = max(interval, FAILURE_DELAY_MAX_SECONDS)
    delay = min(interval * 2.0 ** min(failures, 32), longest) * random.uniform(1, 1.1)  # noqa: S311
    return max(delay, min((error and error.retry_after) or 0.0, RETRY_AFTER_MAX_SECONDS))


def list_delay_seconds(seconds: float) -> float:
    """
    Return the minimum delay after a failed list if single requests succeed: all of them had to wait for it.

    :param seconds: duration of the list.
    """
    return min(seconds * LIST_DELAY_FACTOR, LIST_DELAY_MAX_SECONDS)


def failing_order(slow_polls: int, failed_at: float) -> tuple[int, float]:
    """
    Return the place of a failing appointment among those that are due, as a value to sort by.

    First come those whose polls take little time, then those of which only one took long, which may have
    recovered. Among equals, the one that has waited longest is the first, so none waits for ever.

    :param slow_polls: number of its consecutive failed polls that were slow.
    :param failed_at: time of its last failed poll.
    """
    return min(slow_polls, 2), failed_at


def is_list_lighter(polls: float, list_seconds: float | None, single_seconds: float) -> bool:
    """
    Return whether one list takes the service no longer than the single requests that it replaces.

    :param polls: number of single requests that the list replaces. A poll that is not due yet counts as the
        elapsed fraction of its interval.
    :param list_seconds: duration of the last list; None if there was none, or not lately.
    :param single_seconds: duration of the last single request.
    """
    return polls >= LIST_TRIAL_POLLS if list_seconds is None else polls * single_seconds >= list_seconds
