"""A filtered list is decoded record by record, with the same result as decoding the whole list."""

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
    # Without a small size, most draws have too many leaves, and are thrown away.
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
RECORDS = st.builds(
    lambda more, id: {**more, "id": id}, st.dictionaries(st.text(), VALUES), st.sampled_from("abc")
)
without_deadline = settings(deadline=None, max_examples=50)
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
    """Read the response to a list request; return None if it is invalid."""
    try:
        records: list[Any] = read_response(list_request(APPOINTMENT, only=only), 200, {}, content)
    except (WebcamconsultResponseError, WebcamconsultConfigurationError):  # the latter for a web page
        return None
    return records


@without_deadline
@given(LISTS, LAYOUTS)
def test_filtered_read_of_all_ids_equals_full_read(records: list[Any], layout: dict[str, Any]) -> None:
    content = json.dumps(records, **layout).encode("utf-8", "surrogatepass")
    assert read(content, frozenset("abc")) == read(content, None)


@without_deadline
@given(LISTS)
def test_records_with_other_ids_are_omitted(records: list[Any]) -> None:
    records_read = read(json.dumps(records).encode(), frozenset("ab"))
    assert records_read is not None
    assert [record["id"] for record in records_read] == [
        record["id"] for record in records if record["id"] != "c"
    ]


def test_only_requested_attributes_are_returned() -> None:
    content = b'[{"id": "a", "state": "idle", "duration": 30}, {"_id": "b", "token": "t"}, {"id": "c"}]'
    request = list_request(APPOINTMENT, only={"a", "b"}, fields=["state"])
    assert read_response(request, 200, {}, content) == [{"id": "a", "state": "idle"}, {"id": "b"}]


@without_deadline
@given(LISTS, st.data())
def test_truncated_list_is_an_error(records: list[Any], data: st.DataObject) -> None:
    content = json.dumps(records).encode()
    end = data.draw(st.integers(0, len(content) - 1))
    assert read(content[:end], frozenset("abc")) is None


@without_deadline
@given(LISTS, st.binary(min_size=1), st.data())
@example([{"id": "a"}], b"]", None)
@example([], b"<", None)
def test_filtered_read_of_damaged_list_equals_full_read(
    records: list[Any], garbage: bytes, data: Any
) -> None:
    content = json.dumps(records).encode("utf-8")
    at = data.draw(st.integers(0, len(content))) if data else len(content)
    content = content[:at] + garbage + content[at:]
    full = read(content, None)
    expected = full and [record for record in full if record["id"] in {*"abc"}]
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
def test_invalid_list_is_an_error(content: bytes) -> None:
    assert read(content, frozenset("ab")) is None
