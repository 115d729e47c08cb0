"""Which record is meant, and what differs: natural keys, and what was stored against what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_webcamconsult.api.dates import parse_datetime
from airflow_provider_webcamconsult.exceptions import WebcamconsultMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_webcamconsult.api.resources import Resource

#: Names and values that together find a record again.
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
    Return what finds a record again, in a form that can be compared.

    :param resource: its kind.
    :param values: a record, or prepared attributes.
    :param like: take the names of this key, not the first that are given in full.
    :return: names and values; None if they are not given.
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
    Return the names of the attributes that a record does not have as they were written.

    :param resource: its kind.
    :param payload: prepared attributes.
    :param record: the record.
    """
    return [
        name
        for name, value in payload.items()
        if normalize(resource, name, value) != normalize(resource, name, record.get(name))
    ]


def normalize(resource: Resource[Any, Any], name: str, value: Any) -> Any:
    """
    Return a value in the form in which two values of an attribute are compared.

    :param resource: the kind of record.
    :param name: name of the attribute.
    :param value: the value, as it was sent or as the service returned it.
    """
    if name in resource.datetimes or name in resource.dates:
        return parse_datetime(value) or value
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # what a template renders is text, and the service reads it as the number
    if isinstance(value, str):
        # The service trims, and takes e-mail addresses of any case as the same.
        return (value.strip().casefold() if name == "email" else value.strip()) or None
    if isinstance(value, list) and name.endswith("_ids"):
        return sorted(set(map(str, value))) or None
    return value


def verify_stored(
    resource: Resource[Any, Any], payload: Mapping[str, Any], record: Mapping[str, Any], *, strict: bool
) -> str | None:
    """
    Compare a record with what was sent: the service answers success to what it ignores or changes.

    :param resource: its kind.
    :param payload: the attributes that were sent.
    :param record: the record as the service answered it.
    :param strict: whether any difference is an error, not a warning.
    :return: a warning for the log, if there is one; it shows names, never values.
    :raises WebcamconsultMismatchError: if a date, a duration or an id differs; with ``strict``, anything.
    """
    different = differing_attributes(resource, payload, record)
    # What is absent from the answer was not told, which is not the same as stored otherwise.
    wrong = [name for name in different if strict or (name in resource.must_match and name in record)]
    what = f"The service answered success, but {resource.name} {record['id']} does not have"
    if wrong:
        raise WebcamconsultMismatchError(
            f"{what} what was sent as {', '.join(wrong)}. Look at it there, and update or delete it.",
            record_id=record["id"],
            attributes=wrong,
        )
    return f"{what} what was sent as {', '.join(different)}." if different else None
