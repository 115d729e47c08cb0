"""JSON becomes records: a list item by item, and one malformed item does not cost the other ones."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_webcamconsult.api.decoding import decode_object, items_nearby, split_list
from airflow_provider_webcamconsult.api.request import get_request, list_request
from airflow_provider_webcamconsult.api.resources import APPOINTMENT, USER
from airflow_provider_webcamconsult.api.response import read_response
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_provider_webcamconsult.api.redaction import Record
    from tests.unit.conftest import Connect, ErrorText, Serve

CREDENTIALS = ("authentication_token", "token")
NAMES = st.text() | st.sampled_from([*CREDENTIALS, "_id", "state"])
# Documented names, which are ASCII.
FIELDS = st.text(st.characters(codec="ascii")).filter(lambda name: name != "_id") | st.sampled_from(
    CREDENTIALS
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**64, -(2**63) - 1, 10**400])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=6)
RECORDS = st.builds(
    lambda more, id_name, id: {**more, id_name: id},
    st.dictionaries(NAMES.filter(lambda name: name != "id"), VALUES),
    st.sampled_from(["id", "_id"]),
    st.sampled_from("abc"),
)
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
# Where to change a list, and whether to remove a record there or to insert a new one.
EDITS = st.lists(st.tuples(st.integers(0, 19), st.booleans()), max_size=6)
MANY_IDS = [f"r{number}" for number in range(1000)]
SOME_IDS = MANY_IDS[::100]
BOM = b"\xef\xbb\xbf"
without_deadline = settings(deadline=None, max_examples=40)


def iterate(content: bytes, **selection: Any) -> Iterator[Record]:
    records: Iterator[Record] = read_response(list_request(APPOINTMENT, **selection), 200, {}, content)
    return records


def read(content: bytes, **selection: Any) -> list[Record] | None:
    """Read the response to a list request; return None if it is invalid."""
    try:
        return list(iterate(content, **selection))
    except (WebcamconsultResponseError, WebcamconsultConfigurationError):  # the latter for a web page
        return None


def without_credentials(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_credentials(item) for name, item in value.items() if name not in CREDENTIALS}
    return [without_credentials(item) for item in value] if isinstance(value, list) else value


def cleaned_up(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a record of the service becomes, as documented."""
    record = without_credentials(record)
    if "_id" in record:
        value = record.pop("_id")
        record.setdefault("id", value)
    return record


def selected(
    records: Collection[dict[str, Any]], only: Collection[str], fields: Collection[str]
) -> list[dict[str, Any]]:
    names = {"id", *fields}
    return [
        {name: record[name] for name in names if name in record}
        for record in map(cleaned_up, records)
        if record["id"] in only
    ]


def edited(records: list[Any], edits: list[tuple[int, bool]]) -> list[Any]:
    """Return a list in which other records were inserted and some removed."""
    records = records.copy()
    for number, (at, is_removed) in enumerate(edits):
        records[at : at + is_removed] = [] if is_removed else [{"id": f"new{number}", "state": "idle"}]
    return records


class TestNearbyItems:
    """Records of a long list that are looked for where they were in the last one."""

    def find(self, ids: list[str], only: Collection[str] = SOME_IDS) -> Any:
        items = split_list(json.dumps([{"id": id} for id in ids]).encode())
        assert items is not None
        return items_nearby(APPOINTMENT, items, only, {id: at for at, id in enumerate(MANY_IDS, 1)})

    @pytest.mark.parametrize(
        "ids",
        [
            MANY_IDS,
            ["new"] * 100 + MANY_IDS,
            MANY_IDS + ["new"] * 500,
            MANY_IDS[:50] + ["new"] * 100 + MANY_IDS[50:],
            MANY_IDS[:301] + ["new"] * 60 + MANY_IDS[301:550] + ["new"] * 60 + MANY_IDS[550:],
            MANY_IDS[:201] + MANY_IDS[210:701] + MANY_IDS[790:],
            MANY_IDS[:901],
        ],
        ids=["unchanged", "before", "after", "inserted", "inserted twice", "removed twice", "shortened"],
    )
    def test_are_found_after_some_were_inserted_or_removed(self, ids: list[str]) -> None:
        found = self.find(ids)
        assert [json.loads(bytes(item))["id"] for _, item in found] == SOME_IDS
        assert [ids[position - 1] for position, _ in found] == SOME_IDS

    @pytest.mark.parametrize(
        "ids",
        [
            [],
            ["new"] * 101 + MANY_IDS,
            MANY_IDS[::-1],
            MANY_IDS[:300] + MANY_IDS[301:],
            [f"x{id}" for id in MANY_IDS],
        ],
        ids=["empty", "far away", "reversed", "one is missing", "all are missing"],
    )
    def test_are_not_found_elsewhere(self, ids: list[str]) -> None:
        assert self.find(ids) is None

    def test_are_not_found_without_a_position(self) -> None:
        assert self.find(MANY_IDS, ["r1", "another"]) is None


class TestList:
    @without_deadline
    @given(LISTS, LAYOUTS, st.sampled_from([b"", BOM]))
    def test_is_what_json_is_after_clean_up(
        self, records: list[Any], layout: dict[str, Any], bom: bytes
    ) -> None:
        content = bom + json.dumps(records, **layout).encode()
        # As text, because True equals 1, and dicts are equal in any order.
        assert json.dumps([*iterate(content)]) == json.dumps([*map(cleaned_up, json.loads(content))])

    @without_deadline
    @given(LISTS, LAYOUTS, st.sets(st.sampled_from("abc")), st.sets(FIELDS))
    def test_contains_only_selected_records_and_attributes(
        self, records: list[Any], layout: dict[str, Any], only: set[str], fields: set[str]
    ) -> None:
        content = json.dumps(records, **layout).encode()
        assert [*iterate(content, only=only, fields=fields)] == selected(records, only, fields)
        assert [*iterate(content, fields=fields)] == selected(records, "abc", fields)
        assert [*iterate(content, only=only)] == [
            record for record in map(cleaned_up, records) if record["id"] in only
        ]

    @without_deadline
    @given(EDITS, st.sets(st.integers(0, 19), min_size=1))
    def test_contains_the_same_records_wherever_they_were_in_the_last_list(
        self, edits: list[tuple[int, bool]], numbers: set[int]
    ) -> None:
        records = [{"id": f"r{number}", "state": "idle"} for number in range(20)]
        only, positions = {f"r{number}" for number in numbers}, dict[str, int]()
        for each in (records, edited(records, edits), list(reversed(records)), records[::2]):
            content = json.dumps(each).encode()
            found = iterate(content, only=only, malformed="skip", positions=positions)
            assert [*found] == [record for record in each if record["id"] in only]
            assert positions == {
                record["id"]: at for at, record in enumerate(each, 1) if record["id"] in only
            }

    def test_has_records_that_show_only_their_id(self) -> None:
        for selection in ({}, {"only": {"a"}}, {"fields": ["state"]}):
            (record,) = iterate(b'[{"id": "a", "state": "idle"}]', **selection)
            assert repr(record) == "<Record a>"

    def test_uses_documented_names_of_selected_attributes(self) -> None:
        content = b'[{"_id": "a", "emails": "x@example.com", "last_name": "x"}]'
        request = list_request(USER, only={"a"}, fields=["email"])
        assert [*read_response(request, 200, {}, content)] == [{"id": "a", "email": "x@example.com"}]

    def test_takes_little_more_memory_than_the_response(self) -> None:
        # test_wire.py shows that the transport has the response in memory once.
        record = {
            "date": "2030-03-01T09:30:00.000+01:00",
            "created_at": "2030-02-01T09:30:00.000+01:00",
            "external_participant_ids": ["1234567890abcdef12345678"] * 5,
            "inloop_json": {"email": "someemail@somedomain.com"},
        }
        content = json.dumps([{**record, "id": str(number)} for number in range(20_000)]).encode()
        next(iterate(content))  # imports
        tracemalloc.start()
        try:
            assert sum(1 for _ in iterate(content)) == 20_000
            assert tracemalloc.get_traced_memory()[1] < 0.4 * len(content)
            # The measurement does see decoded records.
            kept = [*iterate(content)]
            assert tracemalloc.get_traced_memory()[1] > 2 * len(content)
            assert len(kept) == 20_000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("selection", [{}, {"only": {"a"}}, {"fields": ["state"]}], ids=repr)
    def test_uses_the_last_of_duplicate_names(self, selection: dict[str, Any]) -> None:
        content = b'[{"id": 1, "state": {}, "id": "a", "state": "idle"}]'
        assert [*iterate(content, **selection)] == [{"id": "a", "state": "idle"}]

    @pytest.mark.parametrize("selection", [{}, {"only": {"a"}, "malformed": "skip"}], ids=repr)
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
            b'[{"id": "a"}]\x00',
            b"[" * 100_000,
            b'[{"id": "a", "state": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
            b'"[]"',
            b"\xff[]",
            BOM + BOM + b"[]",
            b'[{"id": "a", "duration": NaN}]',
            b'[{"id": "a", "duration": -Infinity}]',
            b'[{"id": "a", "state": "\\ud800"}]',
            b'[{"id": "a", "state": "line\nbreak"}]',
            '[{"id": "a"}]'.encode("utf-16"),
            '[{"id": "a"}]'.encode("utf-16-le"),
        ],
        ids=lambda content: repr(content[:30]) if isinstance(content, bytes) else None,
    )
    def test_that_is_invalid_is_an_error_before_the_first_record(
        self, content: bytes, selection: dict[str, Any]
    ) -> None:
        with pytest.raises(WebcamconsultResponseError, match="the response is not the documented JSON"):
            iterate(content, **selection)

    @without_deadline
    @given(LISTS, st.data())
    def test_that_is_truncated_is_an_error_before_the_first_record(
        self, records: list[Any], data: st.DataObject
    ) -> None:
        content = json.dumps(records).encode()
        end = data.draw(st.integers(0, len(content) - 1))
        with pytest.raises(WebcamconsultResponseError, match="the response is not the documented JSON"):
            iterate(content[:end], malformed="skip")

    @without_deadline
    @given(LISTS, st.binary(min_size=1), st.data())
    @example([{"id": "a"}], b"]", None)
    @example([], b"<", None)
    def test_that_is_damaged_is_an_error_or_still_json(
        self, records: list[Any], garbage: bytes, data: Any
    ) -> None:
        content = json.dumps(records).encode()
        at = data.draw(st.integers(0, len(content))) if data else len(content)
        content = content[:at] + garbage + content[at:]
        found = read(content)
        assert found is None or found == [*map(cleaned_up, json.loads(content.decode("utf-8-sig")))]
        for selection in ({"only": set("abc")}, {"fields": ["state"]}, {"malformed": "skip"}):
            read(content, **selection)  # raises no other error


SECRET = "s3cret"
# What is not a record, although the list around it is valid.
WITHOUT_ID = {
    "null": "null",
    "number": "5",
    "text": f'"{SECRET}"',
    "list": f'["{SECRET}"]',
    "no id": f'{{"state": "{SECRET}"}}',
    "id is null": f'{{"id": null, "_id": "b", "state": "{SECRET}"}}',
    "id is empty": f'{{"id": "", "state": "{SECRET}"}}',
    "id is a number": f'{{"id": 5, "state": "{SECRET}"}}',
    "id is a list": f'{{"id": ["{SECRET}"]}}',
    "id is a name": f'{{"id": "Jan {SECRET}"}}',
    "id is a short name": f'{{"id": "Zoë", "state": "{SECRET}"}}',
    "id is too long": f'{{"id": "{SECRET * 20}"}}',
    "id is not UTF-8": f'{{"id": "{SECRET}\udcff"}}',
}
WITH_ID = {
    "nested too deeply": f'{{"id": "b", "state": {"[" * 99}"{SECRET}"{"]" * 99}}}',
    "not UTF-8": f'{{"id": "b", "state": "{SECRET}\udcff"}}',
    "name is not UTF-8": f'{{"id": "b", "state": "", "{SECRET}\udcff": ""}}',
    "huge integer": f'{{"id": "b", "{SECRET}": {"1" * 5000}}}',
    "huge float": f'{{"id": "b", "{SECRET}": 1e400}}',
}
MALFORMED = WITHOUT_ID | WITH_ID
each_malformed = pytest.mark.parametrize("item", MALFORMED.values(), ids=MALFORMED.keys())
each_without_id = pytest.mark.parametrize("item", WITHOUT_ID.values(), ids=WITHOUT_ID.keys())
each_with_id = pytest.mark.parametrize("item", WITH_ID.values(), ids=WITH_ID.keys())


def list_with(item: str) -> bytes:
    return f'[{{"id": "a"}}, {item}, {{"id": "c"}}]'.encode("utf-8", "surrogateescape")


class TestMalformedRecord:
    @each_malformed
    def test_is_an_error_that_has_its_position_but_not_its_content(
        self, item: str, error_text: ErrorText
    ) -> None:
        records = iterate(list_with(item))
        assert next(records) == {"id": "a"}
        with pytest.raises(WebcamconsultResponseError) as error:
            next(records)
        assert str(error.value).startswith(
            "GET /appointments.json returned 200, but record 2 of the list is not the documented JSON"
        )
        assert SECRET not in error_text(error.value)
        assert error.value.__context__ is None

    @each_malformed
    def test_can_be_skipped(self, item: str) -> None:
        content = list_with(item)
        assert [*iterate(content, malformed="skip")] == [{"id": "a"}, {"id": "c"}]
        assert [*iterate(content, only={"c"}, fields=["state"], malformed="skip")] == [{"id": "c"}]

    @each_without_id
    def test_may_be_a_selected_record(self, item: str) -> None:
        with pytest.raises(WebcamconsultResponseError, match="record 2 of the list"):
            [*iterate(list_with(item), only={"c"}, fields=[])]

    @each_with_id
    def test_is_not_decoded_if_it_is_another_record(self, item: str) -> None:
        assert [*iterate(list_with(item), only={"a", "c"})] == [{"id": "a"}, {"id": "c"}]

    @each_with_id
    def test_has_attributes_that_can_be_decoded(self, item: str) -> None:
        assert [record["id"] for record in iterate(list_with(item), fields=["duration"])] == [*"abc"]


class TestHook:
    @pytest.mark.parametrize("kind", ["users", "clients", "appointments"])
    def test_iterates_over_records(self, kind: str, connect: Connect, serve: Serve) -> None:
        server = serve({"body": [{"id": "a", "token": SECRET}, {"_id": "b"}]})
        records = getattr(connect(server.url), kind).iterate()
        assert len(server.requests) == 1
        assert next(records) == {"id": "a"}
        assert [*records] == [{"id": "b"}]
        assert len(server.requests) == 1

    def test_repeats_a_request_whose_response_is_not_a_list(self, connect: Connect, serve: Serve) -> None:
        server = serve({"body": b'[{"id": "a"}, '}, {"body": []})
        assert [*connect(server.url).users.iterate()] == []
        assert len(server.requests) == 2

    def test_does_not_repeat_a_request_for_a_malformed_record(self, connect: Connect, serve: Serve) -> None:
        server = serve({"body": [{"id": "a"}, None]}, {"body": []})
        hook = connect(server.url)
        records = hook.users.iterate()
        assert next(records)["id"] == "a"
        with pytest.raises(WebcamconsultResponseError, match="record 2 of the list"):
            next(records)
        assert len(server.requests) == 1

    def test_lists_no_records_if_one_is_malformed(self, connect: Connect, serve: Serve) -> None:
        hook = connect(serve({"body": [{"id": "a"}, None]}).url)
        with pytest.raises(WebcamconsultResponseError, match="record 2 of the list"):
            hook.users.list()

    def test_polls_a_list_once(self, connect: Connect, serve: Serve) -> None:
        hook = connect(serve({"body": [None, {"id": "a", "state": "idle"}], "headers": {"ETag": "x"}}).url)
        request = list_request(APPOINTMENT, only={"a"}, fields=["state"], malformed="skip")
        response = hook.transport.send_once(request)
        assert response.value == [{"id": "a", "state": "idle"}]
        assert response.etag == "x"
        with pytest.raises(WebcamconsultResponseError, match="record 1 of the list"):
            hook.transport.send_once(list_request(APPOINTMENT))


class TestObject:
    @without_deadline
    @given(st.dictionaries(NAMES, VALUES), LAYOUTS, st.sampled_from([b"", BOM]))
    def test_is_what_json_is(self, value: dict[str, Any], layout: dict[str, Any], bom: bytes) -> None:
        content = bom + json.dumps(value, **layout).encode()
        assert json.dumps(decode_object(content)) == json.dumps(json.loads(content))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"null",
            b"[]",
            b"{",
            b"{} {}",
            b'{"id": NaN}',
            b'{"id": "\\ud800"}',
            b'{"id": "\xff"}',
            b'{"id": 1e400}',
            b'{"id": ' + b"1" * 5000 + b"}",
            b'{"id":' * 100_000 + b"1" + b"}" * 100_000,
            "{}".encode("utf-16"),
        ],
        ids=lambda content: repr(content[:30]),
    )
    def test_that_is_invalid_is_none(self, content: bytes) -> None:
        assert decode_object(content) is None
        with pytest.raises(WebcamconsultResponseError, match="the response is not the documented JSON"):
            read_response(get_request(APPOINTMENT, "a"), 200, {}, content)
