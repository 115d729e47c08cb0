"""When waits are over, and how messages describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.api import waits
from airflow_provider_webcamconsult.api.dates import parse_datetime
from airflow_provider_webcamconsult.api.waits import StateGoal, TimeGoal
from airflow_provider_webcamconsult.exceptions import WebcamconsultResponseError

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.api.waits import WaitFor

MINUTE = 60.0
DATE = "2030-03-01T09:30:00.000+01:00"


def at(text: str) -> float:
    date = parse_datetime(text)
    assert date is not None
    return date.timestamp()


# States


@pytest.mark.parametrize(
    ("wait_for", "states", "missing", "verdict"),
    [
        ("all", {}, [], "waiting"),
        ("all", {"a": "finished"}, [], "waiting"),
        ("all", {"a": "finished", "b": "idle"}, [], "waiting"),
        ("all", {"a": "finished", "b": "finished"}, [], "reached"),
        ("all", {"a": "finished", "b": "cancelled"}, [], "lost"),
        ("all", {"a": "cancelled"}, [], "lost"),
        ("all", {"a": "idle"}, ["b"], "lost"),
        ("any", {"a": "idle", "b": "idle"}, [], "waiting"),
        ("any", {"b": "finished"}, [], "reached"),
        ("any", {"b": "finished"}, ["a"], "reached"),
        ("any", {"a": "cancelled", "b": "idle"}, [], "waiting"),
        ("any", {"a": "cancelled"}, ["b"], "lost"),
        ("any", {}, ["a"], "waiting"),
    ],
)
def test_wait_for_many_is_over_when_nothing_can_change_it(
    wait_for: WaitFor, states: dict[str, str], missing: list[str], verdict: str
) -> None:
    goal = StateGoal(["a", "b"], ["finished"], ["cancelled"], wait_for)
    assert goal.verdict(states, missing) == verdict


def test_failed_state_is_no_target_even_if_every_state_is_one() -> None:
    goal = StateGoal(["a", "b"], None, ["cancelled"], "any")
    assert goal.verdict({"a": "cancelled"}, []) == "waiting"
    assert goal.result({"a": "cancelled", "b": "started"}) == {"b": "started"}


def test_wait_for_all_of_none_is_over_at_once() -> None:
    goal = StateGoal([], None, [])
    assert goal.verdict({}, []) == "reached"
    assert goal.result({}) == {}


def test_error_names_failed_and_missing_appointments_first(monkeypatch: pytest.MonkeyPatch) -> None:
    goal = StateGoal(list("abcde"), ["finished"], ["cancelled"])
    states = {"a": "finished", "b": "idle", "c": "cancelled"}
    text = "4 of 5 have not: c is in state 'cancelled', d does not exist, b is in state 'idle'"
    assert goal.last_known(states, ["d"]) == f"{text}, e was never received"
    monkeypatch.setattr(waits, "NAMED_IDS_MAX", 3)
    assert goal.last_known(states, ["d"]) == f"{text}, and 1 more"


# Time


@pytest.mark.parametrize(
    ("minutes", "max_lateness", "state", "verdict"),
    [
        (-15.01, 900, "idle", "waiting"),
        (-15, 900, "idle", "reached"),
        (0, 900, "idle", "reached"),
        (0.01, 900, "idle", "late"),
        (0.01, None, "idle", "reached"),
        (-14.99, 0, "idle", "late"),
        (-600, 900, "cancelled", "lost"),
        (600, 900, "cancelled", "lost"),
    ],
)
def test_time_has_come_from_the_offset_to_the_maximum_lateness(
    minutes: float, max_lateness: float | None, state: str, verdict: str
) -> None:
    goal = TimeGoal("a", -15 * MINUTE, ["cancelled"], max_lateness)
    values: Any = {"a": {"date": DATE, "state": state}}
    assert goal.verdict(values, [], at(DATE) + minutes * MINUTE) == verdict


def test_missing_appointment_is_lost_and_an_unknown_date_is_waited_for() -> None:
    goal = TimeGoal("a", 0, [], None)
    assert goal.verdict({}, ["a"], 0) == "lost"
    assert goal.verdict({}, [], 1e12) == "waiting"


@pytest.mark.parametrize(
    ("date", "offset", "due"),
    [
        # In Amsterdam, clocks go forward on 31 March 2030 and back on 27 October.
        ("2030-03-31T10:00:00.000+02:00", -86400, "2030-03-30T09:00:00+01:00"),
        ("2030-10-27T10:00:00.000+01:00", -86400, "2030-10-26T11:00:00+02:00"),
        ("2030-10-27T02:10:00.000+01:00", -900, "2030-10-27T02:55:00+02:00"),
        ("2030-03-01T09:30:00Z", 3600, "2030-03-01T10:30:00Z"),
    ],
)
def test_offset_is_elapsed_time_although_clocks_change(date: str, offset: float, due: str) -> None:
    goal = TimeGoal("a", offset, [], None)
    assert goal.due({"a": goal.read({"id": "a", "date": date, "state": "idle"})}) == at(due)


@pytest.mark.parametrize("date", [None, "", "tomorrow", "2030-03-01", "2030-03-01T09:30", 5])
def test_appointment_without_a_date_cannot_be_read(date: object) -> None:
    with pytest.raises(WebcamconsultResponseError, match="without a valid date"):
        TimeGoal("a", 0, [], None).read({"id": "a", "date": date, "state": "idle"})


def test_state_matters_only_if_some_states_are_cancelled() -> None:
    appointment = {"id": "a", "date": DATE}
    assert TimeGoal("a", 0, [], None).read(appointment) == {"date": DATE, "state": None}
    with pytest.raises(WebcamconsultResponseError, match="without a valid state"):
        TimeGoal("a", 0, ["cancelled"], None).read(appointment)


@pytest.mark.parametrize(
    ("offset", "text"),
    [
        (-900, "2030-03-01 09:15:00+01:00, 0:15:00 before appointment a"),
        (3600, "2030-03-01 10:30:00+01:00, 1:00:00 after appointment a"),
        (0, "2030-03-01 09:30:00+01:00, the date of appointment a"),
        # Later than a datetime can be.
        (1e12, "11574074 days, 1:46:40 after appointment a"),
    ],
)
def test_purpose_says_when_the_wait_ends(offset: float, text: str) -> None:
    assert TimeGoal("a", offset, [], None).purpose({"a": {"date": DATE, "state": "idle"}}) == text
    assert TimeGoal("a", offset, [], None).purpose({}) == text.rpartition("+01:00, ")[2]
