"""Decode JSON into records without credentials and with the documented attribute names."""

from __future__ import annotations

import codecs
import re
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_webcamconsult.api.redaction import Record, remove_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    import msgspec

    from airflow_provider_webcamconsult.api.resources import Resource

#: Maximum depth of JSON, counted in nested objects and arrays. Rails refuses deeper JSON too.
JSON_MAX_DEPTH = 100
#: Maximum length of an id in a response, in characters. Known ids have 24.
ID_MAX_LENGTH = 64
#: Maximum number of records that are inserted or removed at one place between two lists, for a quick search.
MOVED_MAX = 100

# Other text may be something else than an id, and ids are logged.
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_MAX_LENGTH}}}")
# 0, -1, 1, -2, 2, …
_DISTANCES = sorted(range(-MOVED_MAX, MOVED_MAX + 1), key=abs)


def decode_object(content: bytes) -> dict[str, Any] | None:
    """
    Decode a JSON object.

    :param content: JSON in UTF-8.
    :return: the object; None if this is not a JSON object.
    """
    value: dict[str, Any] | None = _decoder(dict)(content.removeprefix(codecs.BOM_UTF8))
    return value


def split_list(content: bytes) -> list[msgspec.Raw] | None:
    """
    Split a JSON list into its items without decoding them: this takes little time and memory.

    :param content: JSON in UTF-8.
    :return: the items, which keep ``content`` in memory; None if this is not a JSON list.
    """
    import msgspec

    items: list[msgspec.Raw] | None = _decoder(list[msgspec.Raw])(content.removeprefix(codecs.BOM_UTF8))
    return items


def record_decoder(
    resource: Resource[Any, Any], names: frozenset[str] | None = None
) -> Callable[[msgspec.Raw], dict[str, Any] | None]:
    """
    Return a function that decodes the JSON object of one record, or returns None if this is not an object.

    :param resource: the kind of record.
    :param names: names of the attributes to decode, in ASCII. By default, all attributes.
    """
    if names is None:
        return _decoder(dict)
    return _decoder(_object_of(names | {alias for alias, name in resource.aliases.items() if name in names}))


def without_others(
    resource: Resource[Any, Any], items: Iterable[msgspec.Raw], ids: Collection[str], *, skip_malformed: bool
) -> Iterator[tuple[int, msgspec.Raw]]:
    """
    Yield the items of a list except those that certainly have other ids, with their positions from 1.

    :param resource: the kind of record.
    :param items: the items from :func:`split_list`.
    :param ids: the ids.
    :param skip_malformed: whether an item without a valid id counts as one that has another id.
    """
    read_id = _id_reader(resource)
    for position, item in enumerate(items, 1):
        record_id = read_id(item)
        if record_id in ids or not (
            skip_malformed
            or (record_id.isalnum() and record_id.isascii() and len(record_id) <= ID_MAX_LENGTH)
        ):
            yield position, item


def items_nearby(
    resource: Resource[Any, Any],
    items: Sequence[msgspec.Raw],
    ids: Collection[str],
    positions: Mapping[str, int],
) -> list[tuple[int, msgspec.Raw]] | None:
    """
    Return the items of records that have hardly moved since an earlier list, with their positions from 1.

    For some records of a long list, this takes much less time than :func:`without_others`.

    :param resource: the kind of record.
    :param items: the items from :func:`split_list`.
    :param ids: the ids.
    :param positions: the positions in the earlier list, by id.
    :return: the items; None if one of the records was not found.
    """
    if any(record_id not in positions for record_id in ids):
        return None
    read_id = _id_reader(resource)
    found: list[tuple[int, msgspec.Raw]] = []
    moved = 0
    for record_id in sorted(ids, key=positions.__getitem__):
        # What was inserted or removed before the previous record has moved this one too.
        expected = positions[record_id] + moved
        for position in (expected + distance for distance in _DISTANCES):
            if 1 <= position <= len(items) and read_id(items[position - 1]) == record_id:
                break
        else:
            return None
        found.append((position, items[position - 1]))
        moved += position - expected
    return sorted(found, key=lambda each: each[0])


def _id_reader(resource: Resource[Any, Any]) -> Callable[[msgspec.Raw], str]:
    """Return a function that reads the id of a list item, or returns "" if there is no valid one."""
    import msgspec

    # For a hundred thousand records, a struct is faster than a dictionary.
    decode = msgspec.json.Decoder(msgspec.defstruct("_Identified", [("id", str)])).decode
    decode_dict = record_decoder(resource, frozenset({"id"}))
    errors = _decoding_errors()

    def read_id(item: msgspec.Raw) -> str:
        try:
            return decode(item).id  # type: ignore[attr-defined, no-any-return]
        except errors:
            identified = decode_dict(item)
            return (identified and id_of(resource, identified)) or ""

    return read_id


@cache
def _object_of(names: frozenset[str]) -> Any:
    """Return a type for JSON objects, of which only attributes with these names are decoded."""
    return TypedDict("_Object", dict.fromkeys(names, Any), total=False)  # type: ignore[operator]


@cache
def _decoder(type_: Any) -> Callable[[Any], Any]:
    """Return a function that decodes JSON into a type, or returns None if that is not possible."""
    # Imported late: parsing a DAG file must not load msgspec on Airflow 2.
    import msgspec

    decode = msgspec.json.Decoder(type_).decode
    errors = _decoding_errors()

    def decode_or_none(content: Any) -> Any:
        try:
            return decode(content)
        except errors:
            return None

    return decode_or_none


@cache
def _decoding_errors() -> tuple[type[Exception], ...]:
    import msgspec

    # Older releases of msgspec do not derive their errors from ValueError, which Python raises for bad UTF-8.
    return msgspec.DecodeError, ValueError, RecursionError


def id_of(resource: Resource[Any, Any], item: dict[str, Any]) -> str | None:
    """
    Return the id of a record.

    :param resource: the kind of record.
    :param item: the decoded JSON object.
    :return: the id; None if there is no valid one.
    """
    record_id = item.get("id")
    if "id" not in item:
        names = (alias for alias, name in resource.aliases.items() if name == "id")
        record_id = next((item[alias] for alias in names if alias in item), None)
    if not isinstance(record_id, str):
        return None
    # Faster than the pattern, for thousands of records.
    if record_id.isalnum() and record_id.isascii() and len(record_id) <= ID_MAX_LENGTH:
        return record_id
    return record_id if _ID.fullmatch(record_id) else None


def to_record(resource: Resource[Any, Any], item: Any) -> Record | None:
    """
    Return a record without credentials and with the documented attribute names.

    :param resource: the kind of record.
    :param item: the decoded JSON, which is changed.
    :return: the record; None if the item is not a record, or is nested too deeply.
    """
    if not isinstance(item, dict) or id_of(resource, item) is None:
        return None
    try:
        # The record is inside of an object or an array.
        remove_credentials(resource.credentials, item, JSON_MAX_DEPTH - 1)
    except ValueError:
        return None
    for alias, name in resource.aliases.items():
        if alias in item:
            value = item.pop(alias)
            item.setdefault(name, value)
    return Record(item)
