"""
Decide which record is meant: natural keys, evidence of identity, and what was stored.

Values are compared in the form in which the service stores and returns them, never as they were given.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_webcamconsult.api.dates import parse_datetime
from airflow_provider_webcamconsult.api.missing import is_no_value
from airflow_provider_webcamconsult.api.resources import INITIAL_STATE
from airflow_provider_webcamconsult.exceptions import WebcamconsultMismatchError

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.api.resources import Resource

#: Names and values of the attributes that together identify a record.
NaturalKey: TypeAlias = tuple[tuple[str, Any], ...]

#: What an unknown date of birth is in tables, and what the service stores for a date that it cannot read.
PLACEHOLDER_DATES_OF_BIRTH = ("1900-01-01", "1970-01-01")

#: Seconds by which the clocks of a worker and of the service may differ.
CLOCK_SKEW_SECONDS = 60.0

# The service's ids are MongoDB's, which begin with their creation time.
_OBJECT_ID = re.compile(r"[0-9a-f]{24}", re.ASCII)
# MongoDB's first release, in 2009: an id with an earlier time does not begin with a time.
_OBJECT_IDS_SINCE = 1230768000.0


@dataclass(frozen=True)
class Identity:
    """
    What tells whether two records are about the same person.

    :param agrees: names of the attributes that confirm the same person.
    :param differs: names of the attributes that show a different person.
    """

    agrees: tuple[str, ...]
    differs: tuple[str, ...]


def describe_missing_key(resource: Resource[Any, Any]) -> str:
    """
    Describe which attributes are missing if :func:`natural_key` returns None.

    :param resource: the kind of record.
    :return: a clause for a message, such as "neither reference_code nor email was given".
    """
    if len(resource.natural_keys) > 1:
        return f"neither {' nor '.join(join_names(names) for names in resource.natural_keys)} was given"
    (names,) = resource.natural_keys
    return f"{names[0]} was not given" if len(names) == 1 else f"{join_names(names)} were not all given"


def join_names(names: Sequence[str]) -> str:
    """
    Join names for a message, as in "user_id, client_id and date".

    :param names: the names.
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def natural_key(
    resource: Resource[Any, Any], values: Mapping[str, Any], *, like: NaturalKey | None = None
) -> NaturalKey | None:
    """
    Return the natural key of a record, normalized for comparison.

    :param resource: the kind of record.
    :param values: a record, or serialized attributes.
    :param like: a natural key whose attribute names to use. By default, the first key that is complete.
    :return: names and values, or None if a value is missing.
    """
    for names in [[name for name, _ in like]] if like else resource.natural_keys:
        parts = [(name, normalize(resource, name, values.get(name))) for name in names]
        if all(value not in (None, "") for _, value in parts):
            return tuple(parts)
    return None


def compare_identity(
    resource: Resource[Any, Any], payload: Mapping[str, Any], record: Mapping[str, Any]
) -> Identity:
    """
    Compare the attributes that distinguish people, as far as both sides have them.

    :param resource: the kind of record.
    :param payload: serialized attributes.
    :param record: the record.
    """
    agrees, differs = [], []
    for name in resource.identity_attributes:
        sent, stored = (_simplify(resource, name, values.get(name)) for values in (payload, record))
        if sent in (None, "") or stored in (None, ""):
            continue
        if sent != stored:
            differs.append(name)
        elif name in resource.identity_proofs and not _is_placeholder(payload[name]):
            agrees.append(name)
    return Identity(tuple(agrees), tuple(differs))


def _is_placeholder(value: Any) -> bool:
    """Return whether a name or date of birth is what tables and services have for an unknown one."""
    return isinstance(value, str) and (is_no_value(value) or value.startswith(PLACEHOLDER_DATES_OF_BIRTH))


def _simplify(resource: Resource[Any, Any], name: str, value: Any) -> Any:
    """Drop case, dots and spaces from a name: "J.P." and "jp" are the same initials."""
    value = normalize(resource, name, value)
    if not isinstance(value, str):
        return value
    text = unicodedata.normalize("NFKC", value).casefold()
    # The vowels of some scripts are marks, which count as no letters.
    return "".join(each for each in text if each.isalnum() or unicodedata.category(each)[0] == "M") or text


def differing_attributes(
    resource: Resource[Any, Any], payload: Mapping[str, Any], record: Mapping[str, Any]
) -> list[str]:
    """
    Return the names of the attributes whose values differ from the record's.

    :param resource: the kind of record.
    :param payload: serialized attributes.
    :param record: the record.
    """
    return [
        name
        for name, value in payload.items()
        # The same text needs no normalization, which takes time for thousands of records.
        if not (type(value) is str and value == record.get(name))
        and normalize(resource, name, value) != normalize(resource, name, record.get(name))
    ]


def normalize(resource: Resource[Any, Any], name: str, value: Any) -> Any:
    """
    Normalize a value so that a sent and a returned value can be compared.

    :param resource: the kind of record.
    :param name: name of the attribute.
    :param value: value that was sent or returned.
    """
    if name in resource.datetimes or name in resource.dates:
        return parse_datetime(value) or value
    if name in resource.numbers and isinstance(value, str):
        # A template renders to text, which the service reads as a number.
        try:
            value = float(value)
        except ValueError:
            return value.strip() or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(int(value)) if value == value // 1 else str(value)
    if isinstance(value, str):
        # The service strips whitespace and ignores the case of e-mail addresses.
        text = unicodedata.normalize("NFC", value).strip()
        return (text.lower() if name == "email" else text) or None
    if isinstance(value, Mapping):
        return {str(key): normalize(resource, "", item) for key, item in value.items()}
    if isinstance(value, Sequence):
        items = [normalize(resource, "", item) for item in value]
        has_order = not (name.endswith("_ids") or name == "roles")
        return items if has_order else sorted(set(map(str, items))) or None
    return value


def verify_stored(
    resource: Resource[Any, Any], payload: Mapping[str, Any], record: Mapping[str, Any], *, strict: bool
) -> str | None:
    """
    Compare a record with the attributes that were sent.

    The service reports success even if it ignored or changed an attribute.

    :param resource: the kind of record.
    :param payload: attributes that were sent.
    :param record: the record that the service returned.
    :param strict: whether any difference is an error instead of a warning.
    :return: a warning for the log, which contains names but no values; None if there is no difference.
    :raises WebcamconsultMismatchError: if a date, duration, id or natural key differs; with ``strict``, if
        any attribute differs.
    """
    different = differing_attributes(resource, payload, record)
    # An attribute that is missing from the response may still be stored correctly.
    wrong = [name for name in different if strict or (name in resource.must_match and name in record)]
    record_name = f"{resource.name} {record['id']}"
    if different and len(payload) > 1 and not resource.knows_any(payload):
        different, wrong = [f"{len(different)} unknown ones"], wrong and ["unknown attribute"]
    if wrong:
        raise WebcamconsultMismatchError(
            f"Webcamconsult accepted the request but stored a different {', '.join(wrong)} on {record_name}. "
            "Check it, then update or delete it.",
            record_id=record["id"],
            attributes=wrong,
        )
    if different:
        return (
            f"Webcamconsult accepted the request, but attributes of {record_name} are different or missing "
            f"in the response: {', '.join(different)}. Check the {resource.name}."
        )
    return None


def is_in_initial_state(record: Mapping[str, Any]) -> bool:
    """
    Return whether an appointment is still in its initial state. Other records have no state.

    :param record: the record.
    """
    return record.get("state") in (None, INITIAL_STATE)


def was_created_between(record: Mapping[str, Any], start: float | None, end: float) -> bool:
    """
    Return whether a record provably was created in a period.

    :param record: the record.
    :param start: start of the period, in seconds since the epoch; None proves nothing.
    :param end: end of the period.
    """
    created_at, _ = _creation_time(record)
    if start is None or created_at is None:
        return False
    return start - CLOCK_SKEW_SECONDS <= created_at <= end + CLOCK_SKEW_SECONDS


def was_created_since(
    record: Mapping[str, Any], start: float | None, end: float, *, certainly: bool = False
) -> bool:
    """
    Return whether a record was created in a period, if the clocks agree.

    :param record: the record.
    :param start: start of the period, in seconds since the epoch; None proves nothing.
    :param end: end of the period.
    :param certainly: whether a record that may be from just before the start does not count: an id tells only
        the second.
    """
    created_at, resolution = _creation_time(record)
    if start is None or created_at is None:
        return False
    if not certainly:
        created_at += resolution
    return start <= created_at <= end + CLOCK_SKEW_SECONDS


def existed_before(record: Mapping[str, Any], start: float | None) -> bool:
    """
    Return whether a record provably was created before a time.

    :param record: the record.
    :param start: the time, in seconds since the epoch; None proves nothing.
    """
    created_at, resolution = _creation_time(record)
    if start is None or created_at is None:
        return False
    return created_at + resolution < start - CLOCK_SKEW_SECONDS


def was_created_before(record: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """
    Return whether a record was created before another one.

    If their times do not tell, the smaller id counts as the first.

    :param record: the record.
    :param other: the other record.
    """
    times = [parse_datetime(each.get("created_at")) for each in (record, other)]
    if times[0] is not None and times[1] is not None and times[0] != times[1]:
        return times[0] < times[1]
    return str(record["id"]) < str(other["id"])


def _creation_time(record: Mapping[str, Any]) -> tuple[float | None, float]:
    """Return when a record was created, rounded down, and to how many seconds it was rounded."""
    created_at = parse_datetime(record.get("created_at"))
    if created_at is not None:
        return created_at.timestamp(), 0.001
    record_id = record.get("id")
    if isinstance(record_id, str) and _OBJECT_ID.fullmatch(record_id):
        created = float(int(record_id[:8], 16))
        if created >= _OBJECT_IDS_SINCE:
            return created, 1.0
    return None, 0.0
