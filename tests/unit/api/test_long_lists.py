"""A list of which few records are taken is read one by one, and says the same as one that is read at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_webcamconsult.api.request import list_request
from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.api.response import read_response
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultResponseError,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)
RECORDS = st.builds(
    lambda more, id: {**more, "id": id}, st.dictionaries(st.text(), VALUES), st.sampled_from("abc")
)
unhurried = settings(deadline=None, max_examples=50)
LISTS = st.lists(RECORDS, max_size=4)
LAYOUTS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"indent": 2},
        {"separators": (",", ":")},
        {"separators": ("\t,\r\n", " : ")},
        {"ensure_ascii": False},
    ]
)


def read(content: bytes, only: frozenset[str] | None) -> list[Any] | None:
    """Read a list's answer; None if it is not one."""
    try:
        records: list[Any] = read_response(list_request(APPOINTMENT, only=only), 200, {}, content)
    except (WebcamconsultResponseError, WebcamconsultConfigurationError):  # the latter for a web page
        return None
    return records


@unhurried
@given(LISTS, LAYOUTS)
def test_all_records_are_taken_as_if_read_at_once(records: list[Any], layout: dict[str, Any]) -> None:
    content = json.dumps(records, **layout).encode("utf-8", "surrogatepass")
    assert read(content, frozenset("abc")) == read(content, None)


@unhurried
@given(LISTS)
def test_those_that_are_not_asked_for_are_left_out(records: list[Any]) -> None:
    found = read(json.dumps(records).encode(), frozenset("ab"))
    assert found is not None
    assert [record["id"] for record in found] == [record["id"] for record in records if record["id"] != "c"]


def test_of_each_record_only_the_attributes_that_are_asked_for_are_taken() -> None:
    content = b'[{"id": "a", "state": "idle", "duration": 30}, {"_id": "b", "token": "t"}, {"id": "c"}]'
    request = list_request(APPOINTMENT, only={"a", "b"}, fields=["state"])
    assert read_response(request, 200, {}, content) == [{"id": "a", "state": "idle"}, {"id": "b"}]


@unhurried
@given(LISTS, st.data())
def test_one_that_is_cut_off_is_an_error(records: list[Any], data: st.DataObject) -> None:
    content = json.dumps(records).encode()
    end = data.draw(st.integers(0, len(content) - 1))
    assert read(content[:end], frozenset("abc")) is None


@unhurried
@given(LISTS, st.binary(min_size=1), st.data())
@example([{"id": "a"}], b"]", None)
@example([], b"<", None)
def test_what_is_broken_is_broken_however_it_is_read(records: list[Any], garbage: bytes, data: Any) -> None:
    content = json.dumps(records).encode("utf-8")
    at = data.draw(st.integers(0, len(content))) if data else len(content)
    content = content[:at] + garbage + content[at:]
    at_once = read(content, None)
    expected = at_once and [record for record in at_once if record["id"] in {*"abc"}]
    assert read(content, frozenset("abc")) == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"{}",
        b"]",
        b"[",
        b"[]]",
        b"[,]",
        b'[{"id": "a"},]',
        b'[{"id": "a"} {"id": "b"}]',
        b'[{"id": ""}]',
        b'[{"id": "c"}, null]',
        b'[{"id": "c"}, {"state": "idle"}]',
        b"[" * 100_000,
        b'"[]"',
        b"\xff[]",
    ],
    ids=lambda content: repr(content[:30]),
)
def test_what_is_no_list_of_records_is_an_error(content: bytes) -> None:
    assert read(content, frozenset("ab")) is None
