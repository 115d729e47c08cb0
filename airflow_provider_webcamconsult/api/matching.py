"""Find records by natural key, and compare stored records with the attributes that were sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_webcamconsult.api.dates import parse_datetime
from airflow_provider_webcamconsult.exceptions import WebcamconsultMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_webcamconsult.api.resources import Resource

#: Names and values of the attributes that together identify a record.
NaturalKey: TypeAlias = tuple[tuple[str, Any], ...]


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
        if normalize(resource, name, value) != normalize(resource, name, record.get(name))
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
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # a template renders to text, which the service reads as a number
    if isinstance(value, str):
        # The service strips whitespace and ignores the case of e-mail addresses.
        return (value.strip().casefold() if name == "email" else value.strip()) or None
    if isinstance(value, list) and name.endswith("_ids"):
        return sorted(set(map(str, value))) or None
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
    :raises WebcamconsultMismatchError: if a date, duration or id differs; with ``strict``, if any attribute
        differs.
    """
    different = differing_attributes(resource, payload, record)
    # An attribute that is missing from the response may still be stored correctly.
    wrong = [name for name in different if strict or (name in resource.must_match and name in record)]
    record_name = f"{resource.name} {record['id']}"
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
