"""What changed between two lists, and that no kill or Clear loses or repeats a change."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_webcamconsult.api import baseline as baselines
from airflow_provider_webcamconsult.api.baseline import Baseline, take_in
from airflow_provider_webcamconsult.api.changes import CHANGE_KINDS, Marker, diff, list_digest, select, unite
from airflow_provider_webcamconsult.api.resources import APPOINTMENT, CLIENT, USER

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.api.changes import Mark

SECRET = "a-token"
MARKER = Marker(APPOINTMENT, SECRET)
OLD = {
    "id": "a1",
    "state": "idle",
    "date": "2030-03-01T09:00:00.000+01:00",
    "duration": 30,
    "external_participant_ids": ["p1", "p2"],
    "inloop_json": {"complaint": "ZqComplaint"},
}


def mark(*records: dict[str, Any], marker: Marker = MARKER) -> dict[str, Mark]:
    marks = {record["id"]: marker.mark({"state": "idle", **record}) for record in records}
    return {record_id: each for record_id, each in marks.items() if each}


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [
        ({}, None),
        ({"state": "finished", "started_at": "2030-03-01T09:01:00.000+01:00"}, ["state"]),
        ({"date": "2030-03-01T08:00:00.000Z"}, None),
        ({"date": "2030-03-01T09:15:00.000+01:00", "orig_date": OLD["date"]}, ["moved"]),
        ({"date": None}, ["moved"]),
        ({"date": "soon"}, ["moved", "attributes"]),
        ({"duration": 45}, ["attributes"]),
        ({"duration": 30.0}, None),
        ({"external_participant_ids": ["p2", "p1"]}, None),
        ({"external_participant_ids": ["p1"]}, ["attributes"]),
        ({"questionnaire_id": " "}, None),
        ({"inloop_json": {"complaint": "Other"}}, ["attributes"]),
        ({"division_id": None}, None),
        ({"token": "a credential", "unknown": 1}, None),
        ({"state": "x", "date": None, "duration": None}, ["state", "moved", "attributes"]),
    ],
)
def test_diff_tells_what_changed(changed: dict[str, Any], kinds: list[str] | None) -> None:
    changes = diff(mark(OLD), mark({**OLD, **changed}))
    assert [change["kinds"] for change in changes.values()] == ([kinds] if kinds else [])


@pytest.mark.parametrize(
    ("state", "kinds"),
    [("idle", ["created"]), ("finished", ["created", "state"])],
)
def test_created_appointment_beyond_the_initial_state_has_changed_its_state(
    state: str, kinds: list[str]
) -> None:
    (change,) = diff({}, mark({**OLD, "state": state})).values()
    assert (change["kinds"], change["old_state"], change["new_state"]) == (kinds, None, state)


def test_change_has_states_and_dates_and_nothing_else() -> None:
    changes = diff(mark(OLD, {"id": "a2"}), mark({"id": "a3", "state": "idle"}, {"id": "a2"}))
    assert [*changes.values()] == [
        {
            "id": "a1",
            "kinds": ["deleted"],
            "old_state": "idle",
            "new_state": None,
            "old_date": OLD["date"],
            "new_date": None,
        },
        {
            "id": "a3",
            "kinds": ["created"],
            "old_state": None,
            "new_state": "idle",
            "old_date": None,
            "new_date": None,
        },
    ]


def test_clients_have_no_state_and_date() -> None:
    marker = Marker(CLIENT, SECRET)
    old, new = ({"id": "c1", "last_name": name, "state": name, "date": name} for name in ("A", "B"))
    (change,) = diff(mark(old, marker=marker), mark(new, marker=marker)).values()
    assert change["kinds"] == ["attributes"]
    assert {change["old_state"], change["new_state"], change["old_date"], change["new_date"]} == {None}


@pytest.mark.parametrize(
    ("resource", "old", "new"),
    [
        (
            CLIENT,
            {"date_of_birth": "1931-05-01T00:00:00.000+00:20"},
            {"date_of_birth": "1931-04-30T23:40:00Z"},
        ),
        (CLIENT, {"email": "Zq@example.com"}, {"email": "zq@example.com "}),
        (USER, {"roles": ["admin", "user"]}, {"roles": ["user", "admin"]}),
    ],
)
def test_another_form_of_the_same_value_is_no_change(
    resource: Any, old: dict[str, Any], new: dict[str, Any]
) -> None:
    marker = Marker(resource, SECRET)
    old, new = {"id": "c1", **old}, {"id": "c1", **new}
    assert not diff(mark(old, marker=marker), mark(new, marker=marker))


@pytest.mark.parametrize("state", [None, "", 7, "Jan Jansen has phoned", "x" * 41])
def test_appointment_whose_state_is_no_name_has_no_mark(state: Any) -> None:
    assert MARKER.mark({**OLD, "state": state}) is None


def test_date_that_is_none_is_only_in_the_digest() -> None:
    first, second = (MARKER.mark({**OLD, "date": date}) for date in ("Jan Jansen", "Piet"))
    assert first
    assert second
    assert first.date is None
    assert first.digest != second.digest


def test_digest_needs_the_secret_and_the_same_attributes() -> None:
    other = Marker(APPOINTMENT, "another-token")
    assert mark(OLD) != mark(OLD, marker=other)
    assert len({MARKER.check, other.check, Marker(CLIENT, SECRET).check}) == 3


def test_baseline_contains_no_personal_value() -> None:
    client = {"id": "c1", "last_name": "ZqName", "email": "zq@example.com", "date_of_birth": "1931-05-01"}
    for marks in (mark(OLD), mark(client, marker=Marker(CLIENT, SECRET))):
        stored = json.dumps(baselines.dump(Baseline(marks, "check")))
        text = json.dumps([*baselines.load(json.loads(stored)).marks.items()]) + stored
        for value in ("ZqComplaint", "ZqName", "zq@example.com", "1931-05-01", SECRET):
            assert value not in text


def test_list_digest_depends_on_each_mark_and_not_on_the_order() -> None:
    two = mark(OLD, {"id": "a2"})
    assert list_digest(two) == list_digest(dict(reversed(two.items())))
    assert len({list_digest(each) for each in (two, mark(OLD), mark({**OLD, "duration": 1}), {})}) == 4


@pytest.mark.parametrize(
    ("new_state", "kinds", "states", "expected"),
    [
        ("finished", CHANGE_KINDS, None, ["state", "moved"]),
        ("finished", ["state"], ["finished"], ["state"]),
        ("finished", ["state"], ["idle"], None),
        ("finished", ["created"], None, None),
        (None, ["deleted"], ["idle"], ["deleted"]),
        (None, ["deleted"], ["finished"], None),
    ],
)
def test_select_reports_the_chosen_kinds_of_appointments_in_the_chosen_states(
    new_state: str | None, kinds: Any, states: Any, expected: list[str] | None
) -> None:
    new = mark({**OLD, "state": new_state, "date": "2031-01-01T00:00:00.000Z"}) if new_state else {}
    selected = select(diff(mark(OLD), new), kinds, states)
    assert [change["kinds"] for change in selected.values()] == ([expected] if expected else [])


def test_unite_tells_the_first_old_and_the_last_new_values() -> None:
    lists = [mark({**OLD, "state": state}) for state in ("idle", "started", "finished")]
    first, second = diff(lists[0], lists[1]), diff(lists[1], {})
    (change,) = unite(first.values(), second)
    assert (change["kinds"], change["old_state"], change["new_state"]) == (["state", "deleted"], "idle", None)


def test_first_run_reports_nothing_or_everything() -> None:
    for initial, expected in (("none", []), ("all", [["created"]])):
        taken = take_in(None, mark(OLD), MARKER.check, "run", kinds=CHANGE_KINDS, initial=initial)  # type: ignore[arg-type]
        assert [change["kinds"] for change in taken.report("run")] == expected


def test_new_token_hides_no_change_but_those_of_attributes() -> None:
    other = Marker(APPOINTMENT, "another-token")
    taken = take_in(None, mark(OLD, {"id": "a2"}), MARKER.check, "first", kinds=CHANGE_KINDS)
    new = mark({**OLD, "state": "finished", "duration": 1}, {"id": "a2"}, marker=other)
    taken = take_in(taken, new, other.check, "second", kinds=CHANGE_KINDS)
    assert [change["kinds"] for change in taken.report("second")] == [["state"]]
    new = mark({**OLD, "state": "finished", "duration": 2}, {"id": "a2"}, marker=other)
    taken = take_in(taken, new, other.check, "third", kinds=CHANGE_KINDS)
    assert [change["kinds"] for change in taken.report("third")] == [["attributes"]]


TWO = mark(OLD, {**OLD, "id": "a2"})


@pytest.mark.parametrize(
    ("unreadable", "kinds"),
    [((), {"a1": ["deleted"], "a2": ["deleted"]}), (["a1"], {"a2": ["deleted"]}), (None, {})],
)
def test_unreadable_records_are_neither_deleted_nor_created(
    unreadable: Any, kinds: dict[str, list[str]]
) -> None:
    taken = take_in(None, TWO, MARKER.check, "first", kinds=CHANGE_KINDS)
    taken = take_in(taken, {}, MARKER.check, "second", kinds=CHANGE_KINDS, unreadable=unreadable)
    assert {change["id"]: change["kinds"] for change in taken.report("second")} == kinds
    readable = {record_id: each for record_id, each in TWO.items() if record_id not in kinds}
    taken = take_in(taken, readable, MARKER.check, "third", kinds=CHANGE_KINDS)
    assert not taken.report("third")


def test_unreadable_record_after_a_new_token_shows_no_false_change() -> None:
    other = Marker(APPOINTMENT, "another-token")
    taken = take_in(None, TWO, MARKER.check, "first", kinds=CHANGE_KINDS)
    taken = take_in(taken, {}, other.check, "second", kinds=CHANGE_KINDS, unreadable=None)
    new = mark({**OLD, "state": "finished"}, {**OLD, "id": "a2"}, marker=other)
    taken = take_in(taken, new, other.check, "third", kinds=CHANGE_KINDS)
    assert {change["id"]: change["kinds"] for change in taken.report("third")} == {"a1": ["state"]}


def test_reports_of_old_runs_are_dropped() -> None:
    baseline = take_in(None, {}, MARKER.check, "first", kinds=CHANGE_KINDS)
    for number in range(baselines.REPORTS_MAX + 1):
        marks = mark({**OLD, "state": str(number)})
        baseline = take_in(baseline, marks, MARKER.check, f"run {number}", kinds=CHANGE_KINDS)
    assert len(baseline.reports) == baselines.REPORTS_MAX
    assert not baseline.report("run 0")
    assert baseline.report("run 1")


@pytest.mark.parametrize(
    "stored", [None, {}, [], "text", {"format": 2}, {"format": 1, "marks": "x", "check": "", "reports": {}}]
)
def test_load_refuses_what_is_not_a_baseline(stored: Any) -> None:
    with pytest.raises(ValueError, match="not a baseline"):
        baselines.load(stored)


def test_baseline_takes_at_most_40_bytes_for_each_appointment() -> None:
    spread = random.Random(1)  # noqa: S311
    records = [
        {
            "id": spread.randbytes(12).hex(),
            "state": spread.choice(["idle", "started", "finished", "cancelled"]),
            "date": f"2030-{spread.randint(1, 12):02}-{spread.randint(1, 28):02}T"
            f"{spread.randint(8, 17):02}:{spread.choice(['00', '15', '30', '45'])}:00.000+01:00",
            "duration": spread.choice([15, 30, 45]),
        }
        for _ in range(3000)
    ]
    stored = baselines.dump(Baseline(mark(*records), MARKER.check))
    assert len(json.dumps(stored)) <= 40 * len(records)
    assert baselines.load(stored).marks == mark(*records)


# Sequences

MUTATIONS = {
    "created": None,
    "state": {"state": "finished"},
    "moved": {"date": "2030-03-02T09:00:00.000+01:00"},
    "attributes": {"duration": 45},
    "deleted": None,
}

CHANGE = st.tuples(st.just("change"), st.sampled_from(CHANGE_KINDS))
#: A run, and how often it is killed before and after it has stored the baseline.
RUN = st.tuples(st.just("run"), st.lists(st.sampled_from(["before", "after"]), max_size=2))
#: A run for which a record is unreadable, and whether its id is readable.
GLITCH = st.tuples(st.just("glitch"), st.tuples(st.integers(0, 24), st.booleans()))
CLEAR = st.tuples(st.just("clear"), st.integers(0, 9))


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(CHANGE | RUN | GLITCH | CLEAR, max_size=25))
def test_each_change_is_in_exactly_one_report_through_kills_clears_and_unreadable_records(
    steps: list[tuple[str, Any]],
) -> None:
    records = {f"a{number}": {**OLD, "id": f"a{number}"} for number in range(len(steps))}
    for number, (step, kind) in enumerate(steps):
        if (step, kind) == ("change", "created"):
            del records[f"a{number}"]
    stored = json.dumps(baselines.dump(take_in(None, mark(*records.values()), "", "0", kinds=CHANGE_KINDS)))
    reports: dict[str, list[Any]] = {}

    def run(name: str, kills: list[str], hidden: str = "", unreadable: Any = ()) -> None:
        nonlocal stored
        for kill in [*kills, None]:
            baseline = baselines.load(json.loads(stored))
            marks = mark(*records.values())
            marks.pop(hidden, None)
            taken = take_in(baseline, marks, "", name, kinds=CHANGE_KINDS, unreadable=unreadable)
            if kill != "before":
                stored = json.dumps(baselines.dump(taken))
        reports[name] = taken.report(name)

    for number, (step, value) in enumerate(steps):
        record_id = f"a{number}"
        if step == "run":
            run(f"run {number}", value)
        elif step == "glitch":
            hidden = f"a{value[0]}"
            run(f"run {number}", [], hidden, [hidden] if value[1] and hidden in records else None)
        elif step == "clear":
            if reports:
                run([*reports][value % len(reports)], [])
        elif value == "deleted":
            del records[record_id]
        else:
            records[record_id] = {**OLD, "id": record_id, **(MUTATIONS[value] or {})}
    run("last", [])
    told = Counter(
        (change["id"], kind) for report in reports.values() for change in report for kind in change["kinds"]
    )
    changed = {(f"a{number}", kind) for number, (step, kind) in enumerate(steps) if step == "change"}
    assert told == Counter(changed)
