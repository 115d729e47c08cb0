"""What a caller gives: check ids and attributes, serialize attributes, select the attributes to return."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.dates import serialize_datetime
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError

if TYPE_CHECKING:
    from pendulum import Timezone

    from airflow_provider_webcamconsult.api.resources import Resource

# Ids seen are 24 hexadecimal digits; no more is known, so only what could change a path is refused.
_ID = re.compile(r"[A-Za-z0-9_-]+")

# What a template renders to where there is no value.
_NO_VALUE = ("", "None")


def check_id(resource: Resource[Any, Any], record_id: object) -> None:
    """
    Refuse an id that cannot be one.

    :param resource: the kind of record.
    :param record_id: its id.
    :raises WebcamconsultInputError: if it is empty, no text, a template that rendered to ``None``, or would
        change the request's path.
    """
    name = f"{resource.name}_id"
    if record_id is None or record_id in _NO_VALUE:
        raise _no_value(name, record_id)
    if not isinstance(record_id, str):
        raise WebcamconsultInputError(f"{name} is a {type(record_id).__name__}. Give the id as text.")
    if not _ID.fullmatch(record_id):
        raise WebcamconsultInputError(
            f"{name} has characters that no id has (only letters, digits, - and _ can be). "
            "Give the id alone, not a path or a URL."
        )


def _no_value(name: str, value: object) -> WebcamconsultInputError:
    return WebcamconsultInputError(
        f"{name} is {value!r}: a template or an XCom gave no value. "
        "Check the run's params, or that the task that it comes from ran and returned an id."
    )


def check_attributes(
    resource: Resource[Any, Any], attributes: object, *, record_id: str | None = None
) -> list[str]:
    """
    Look at the attributes of a write before anything is sent.

    :param resource: the kind of record.
    :param attributes: what the caller wants to write.
    :param record_id: the record that is addressed, in an update.
    :return: warnings for the log; they show names, never values.
    :raises WebcamconsultInputError: if they are no dict, empty, or another record's.
    """
    if not isinstance(attributes, Mapping):
        raise WebcamconsultInputError(
            f"attributes of {resource.with_article} must be a dict, not {type(attributes).__name__}. "
            "To pass what another task returned use its .output, or render_template_as_native_obj=True on "
            "the DAG."
        )
    if unusable := [name for name in attributes if not isinstance(name, str)]:
        raise WebcamconsultInputError(
            f"attributes of {resource.with_article} has {len(unusable)} keys that are no text."
        )
    for name, meant in resource.aliases.items():
        if meant == "id" and record_id is not None:
            for key in (name, meant):
                if key in attributes and attributes[key] != record_id:
                    raise WebcamconsultInputError(
                        f"attributes has another '{key}' than the {resource.name}_id that is addressed. "
                        "Leave it out, or address the record that is meant."
                    )
    if not any(_is_written(resource, name) for name in attributes):
        raise WebcamconsultInputError(
            f"attributes of {resource.with_article} has nothing that can be written. "
            f"Give at least one of: {', '.join(resource.writable)}."
        )
    warnings = []
    if left_out := [name for name in attributes if not _is_written(resource, name)]:
        warnings.append(
            f"Left out of the {resource.name}, since the service makes them itself: {', '.join(left_out)}."
        )
    for name in attributes:
        if _is_written(resource, name) and name not in resource.writable and name not in resource.aliases:
            warnings.append(_unknown(resource, name) + " It is sent as it stands.")
    return warnings


def _is_written(resource: Resource[Any, Any], name: str) -> bool:
    name = resource.aliases.get(name, name)
    return name not in resource.read_only and name not in resource.credentials


def _unknown(resource: Resource[Any, Any], name: str) -> str:
    nearest = difflib.get_close_matches(name, resource.known, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"{resource.with_article.capitalize()} has no attribute '{name}' in the API document.{hint}"


def serialize_attributes(
    resource: Resource[Any, Any], attributes: Mapping[str, Any], *, zone: Timezone
) -> dict[str, Any]:
    """
    Turn checked attributes into what is sent.

    :param resource: the kind of record.
    :param attributes: what the caller wants to write, already through :func:`check_attributes`.
    :param zone: the time zone of dates without offset.
    :return: what can be written, under the service's names, with dates as the service wants them.
    :raises WebcamconsultInputError: if a date or another value cannot be sent.
    """
    payload: dict[str, Any] = {}
    for alias, value in attributes.items():
        if not _is_written(resource, alias):
            continue
        name = resource.aliases.get(alias, alias)
        if value is not None and (name in resource.datetimes or name in resource.dates):
            value = serialize_datetime(value, name=name, zone=zone, day_only=name in resource.dates)
        elif name.endswith("_id") and value in _NO_VALUE:
            raise _no_value(f"Attribute '{name}'", value)
        else:
            _refuse_unsendable(name, value)
        payload[name] = value
    return payload


def _refuse_unsendable(name: str, value: object) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        pass
    else:
        return
    raise WebcamconsultInputError(
        f"Attribute '{name}' holds a value that JSON has not ({type(value).__name__}). "
        "Give text, numbers, lists, dicts, or None for nothing."
    )


def select(resource: Resource[Any, Any], record: Mapping[str, Any], fields: Any = None) -> dict[str, Any]:
    """
    Take from a record what may be stored.

    :param resource: its kind.
    :param record: the record.
    :param fields: names to take; None takes the id and what is not personal.
    :return: the attributes that were asked for; one that the record lacks is None.
    """
    if fields is None:
        return {name: record[name] for name in resource.non_personal if name in record}
    return {name: record.get(name) for name in fields}


def check_fields(resource: Resource[Any, Any], fields: object) -> list[str]:
    """
    Look at the names of the attributes to return.

    :param resource: the kind of record.
    :param fields: the names, or None.
    :return: warnings for the log.
    :raises WebcamconsultInputError: if it is no list of names, or names a credential.
    """
    if fields is None:
        return []
    if isinstance(fields, str) or not isinstance(fields, (list, tuple, set, frozenset)):
        raise WebcamconsultInputError("fields must be a list of attribute names.")
    if secret := [name for name in fields if name in resource.credentials]:
        raise WebcamconsultInputError(
            f"fields names {', '.join(secret)}, a credential: those are never returned. "
            "hook.get_conn() gives the plain session for who really needs them."
        )
    return [_unknown(resource, str(name)) for name in fields if name not in resource.known]
