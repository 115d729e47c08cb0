"""Validate ids and attributes, serialize attributes, and select the attributes to return."""

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

# Known ids have 24 hexadecimal digits, but the format is undocumented: reject only what could change a path.
_ID = re.compile(r"[A-Za-z0-9_-]+")

# A template without a value renders to one of these.
_NO_VALUE = ("", "None")


def check_id(resource: Resource[Any, Any], record_id: object) -> None:
    """
    Check that an id can be part of a path.

    :param resource: the kind of record.
    :param record_id: id of the record.
    :raises WebcamconsultInputError: if the id is empty, is not a string, is a template that rendered to
        ``None``, or would change the request's path.
    """
    name = f"{resource.name}_id"
    if record_id is None or record_id in _NO_VALUE:
        raise _missing_value(name, record_id)
    if not isinstance(record_id, str):
        raise WebcamconsultInputError(f"{name} is of type {type(record_id).__name__}. Pass a string.")
    if not _ID.fullmatch(record_id):
        raise WebcamconsultInputError(
            f"{name} contains characters other than letters, digits, '-' and '_'. "
            "Pass only the id, not a path or a URL."
        )


def _missing_value(name: str, value: object) -> WebcamconsultInputError:
    return WebcamconsultInputError(
        f"{name} is {value!r}. A template or an XCom probably had no value. "
        "Check the run's params, and that the upstream task ran and returned an id."
    )


def check_attributes(
    resource: Resource[Any, Any], attributes: object, *, record_id: str | None = None
) -> list[str]:
    """
    Check the attributes of a create or update before it is sent.

    :param resource: the kind of record.
    :param attributes: attributes to write.
    :param record_id: id of the record to update; None for a create.
    :return: warnings for the log, which contain names but no values.
    :raises WebcamconsultInputError: if the attributes are not a dict, have a different id, or nothing in them
        can be written.
    """
    if not isinstance(attributes, Mapping):
        raise WebcamconsultInputError(
            f"The attributes of {resource.with_article} must be a dict, not {type(attributes).__name__}. "
            "To pass the result of another task, use its .output, or set render_template_as_native_obj=True "
            "on the DAG."
        )
    if invalid := [name for name in attributes if not isinstance(name, str)]:
        raise WebcamconsultInputError(
            f"The attributes of {resource.with_article} have {len(invalid)} key(s) that are not strings. "
            "Use attribute names as keys."
        )
    for alias, name in resource.aliases.items():
        if name == "id" and record_id is not None:
            for key in (alias, name):
                if key in attributes and attributes[key] != record_id:
                    raise WebcamconsultInputError(
                        f"The attributes have a different '{key}' than {resource.name}_id. "
                        f"Remove '{key}' from the attributes, or correct {resource.name}_id."
                    )
    if not any(_is_writable(resource, name) for name in attributes):
        raise WebcamconsultInputError(
            f"The attributes of {resource.with_article} contain nothing that can be written. "
            f"Set at least one of: {', '.join(resource.writable)}."
        )
    warnings = []
    if read_only := [name for name in attributes if not _is_writable(resource, name)]:
        warnings.append(f"Read-only attributes of the {resource.name} are not sent: {', '.join(read_only)}.")
    for name in attributes:
        if _is_writable(resource, name) and name not in resource.writable and name not in resource.aliases:
            warnings.append(_unknown(resource, name) + " The attribute is sent unchanged.")
    return warnings


def _is_writable(resource: Resource[Any, Any], name: str) -> bool:
    name = resource.aliases.get(name, name)
    return name not in resource.read_only and name not in resource.credentials


def _unknown(resource: Resource[Any, Any], name: str) -> str:
    nearest = difflib.get_close_matches(name, resource.known, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"Attribute '{name}' of {resource.with_article} is not in the API document.{hint}"


def serialize_attributes(
    resource: Resource[Any, Any], attributes: Mapping[str, Any], *, zone: Timezone
) -> dict[str, Any]:
    """
    Serialize attributes for a create or update.

    :param resource: the kind of record.
    :param attributes: attributes that passed :func:`check_attributes`.
    :param zone: time zone of dates without a UTC offset.
    :return: the writable attributes under the service's names, with dates in the service's format.
    :raises WebcamconsultInputError: if a date or another value cannot be sent.
    """
    payload: dict[str, Any] = {}
    for alias, value in attributes.items():
        if not _is_writable(resource, alias):
            continue
        name = resource.aliases.get(alias, alias)
        if value is not None and (name in resource.datetimes or name in resource.dates):
            value = serialize_datetime(value, name=name, zone=zone, day_only=name in resource.dates)
        elif name.endswith("_id") and value in _NO_VALUE:
            raise _missing_value(f"Attribute '{name}'", value)
        else:
            _check_json(name, value)
        payload[name] = value
    return payload


def _check_json(name: str, value: object) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        pass
    else:
        return
    raise WebcamconsultInputError(
        f"Attribute '{name}' has a value of type {type(value).__name__} that JSON cannot represent. "
        "Use strings, finite numbers, booleans, lists, dicts or None."
    )


def select(resource: Resource[Any, Any], record: Mapping[str, Any], fields: Any = None) -> dict[str, Any]:
    """
    Return the selected attributes of a record.

    :param resource: the kind of record.
    :param record: the record.
    :param fields: names of the attributes; None selects the id and the non-personal attributes.
    :return: the attributes. Those in ``fields`` that the record does not have are None.
    """
    if fields is None:
        return {name: record[name] for name in resource.non_personal if name in record}
    return {name: record.get(name) for name in fields}


def check_fields(resource: Resource[Any, Any], fields: object) -> list[str]:
    """
    Check the names of the attributes to return.

    :param resource: the kind of record.
    :param fields: names of the attributes, or None.
    :return: warnings for the log.
    :raises WebcamconsultInputError: if this is not a list, or contains the name of a credential.
    """
    if fields is None:
        return []
    if isinstance(fields, str) or not isinstance(fields, (list, tuple, set, frozenset)):
        raise WebcamconsultInputError("fields must be a list of attribute names.")
    if credentials := [name for name in fields if name in resource.credentials]:
        raise WebcamconsultInputError(
            f"fields contains credentials, which are never returned: {', '.join(credentials)}. "
            "Remove them from fields, or request them with the session of hook.get_conn()."
        )
    return [_unknown(resource, str(name)) for name in fields if name not in resource.known]
