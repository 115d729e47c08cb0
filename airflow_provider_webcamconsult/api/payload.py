"""Validate ids and attributes, serialize attributes, and select the attributes to return."""

from __future__ import annotations

import datetime
import difflib
import json
import numbers
import re
import reprlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from airflow_provider_webcamconsult.api.dates import parse_datetime, serialize_datetime
from airflow_provider_webcamconsult.api.matching import join_names
from airflow_provider_webcamconsult.api.missing import is_no_key, is_no_value
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError

if TYPE_CHECKING:
    from pendulum import Timezone

    from airflow_provider_webcamconsult.api.resources import Resource

# Known ids have 24 hexadecimal digits, but the format is undocumented: reject only what could change a path.
_ID = re.compile(r"[A-Za-z0-9_-]+")

# A whole number in a text, as a template or a CSV file has it.
_WHOLE_NUMBER = re.compile(r"\s*(\d+)(?:\.0*)?\s*", re.ASCII)

#: Largest number that is sent for a number attribute or a code: larger ones are not exact in JSON.
NUMBER_MAX = 2**53

#: Levels of nesting in a request body: Rails rejects deeper JSON.
JSON_MAX_LEVELS = 100
#: How similar an unknown name in ``fields`` has to be to a known one to count as misspelt, from 0 to 1.
MISSPELT_RATIO = 0.8
#: How similar it has to be for an error to suggest the known name. A Dutch name resembles some by chance.
SUGGESTED_RATIO = 0.65

#: Minutes by which the date of a new appointment may be past without a warning: a task takes time to start.
PAST_TOLERANCE_MINUTES = 5
# The two levels of the body around an attribute's value, as in {"user": {"last_name": …}}.
_BODY_LEVELS = 2


def check_id(resource: Resource[Any, Any], record_id: object) -> None:
    """
    Check that an id can be part of a path.

    :param resource: the kind of record.
    :param record_id: id of the record.
    :raises WebcamconsultInputError: if the id is not a string, stands for a missing value, as a template that
        rendered to ``None`` does, or would change the request's path.
    """
    _check_id(f"{resource.name}_id", record_id)


def _check_id(name: str, value: object) -> None:
    if value is None or (isinstance(value, str) and is_no_key(value)):
        raise _missing_value(name, value)
    if not isinstance(value, str):
        raise WebcamconsultInputError(f"{name} is of type {type(value).__name__}. Pass a string.")
    if not _ID.fullmatch(value):
        raise WebcamconsultInputError(
            f"{name} contains characters other than letters, digits, '-' and '_'. "
            "Pass only the id, not a path or a URL."
        )


def _missing_value(name: str, value: object) -> WebcamconsultInputError:
    if isinstance(value, str) and not value.strip():
        return WebcamconsultInputError(
            f"{name} is {reprlib.repr(value)}, but it must be an id. If a row has no id there, correct or "
            "skip the row. If a template or an XCom gives it, check the run's params and the upstream task."
        )
    # "Nan" can be a part of a person's name.
    is_harmless = not isinstance(value, str) or is_no_value(value)
    shown = reprlib.repr(value) if is_harmless else "a text that stands for no value"
    return WebcamconsultInputError(
        f"{name} is {shown}. A template or an XCom probably had no value. "
        "Check the run's params, and that the upstream task ran and returned an id."
    )


def check_switch(name: str, value: object) -> None:
    """
    Check a parameter that is on or off.

    :param name: name of the parameter.
    :param value: value of the parameter.
    :raises WebcamconsultInputError: if the value is not a bool.
    """
    if not isinstance(value, bool):
        raise WebcamconsultInputError(
            f"{name} is of type {type(value).__name__}, which cannot turn it on or off. Pass True or False."
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
            "To pass the result of another task, use its .output, or a callable that returns the dict."
        )
    if invalid := [name for name in attributes if not isinstance(name, str)]:
        raise WebcamconsultInputError(
            f"The attributes of {resource.with_article} have {len(invalid)} key(s) that are not strings. "
            "Use attribute names as keys."
        )
    for alias, name in resource.aliases.items():
        if alias in attributes and name in attributes and attributes[alias] != attributes[name]:
            raise WebcamconsultInputError(
                f"The attributes have '{name}' twice, as '{alias}' too, with different values. "
                f"Remove '{alias}'."
            )
        if name == "id" and record_id is not None:
            for key in (alias, name):
                if key in attributes and not _is_same_id(attributes[key], record_id):
                    raise WebcamconsultInputError(
                        f"The '{key}' in the attributes differs from {resource.name}_id. "
                        f"Remove '{key}' from the attributes, or correct {resource.name}_id."
                    )
    if not any(_is_writable(resource, name) for name in attributes):
        raise WebcamconsultInputError(
            f"The attributes of {resource.with_article} contain nothing that can be written. "
            f"Set at least one of: {', '.join(resource.writable)}."
        )
    warnings = []
    if record_id is None:
        warnings += _check_expected(resource, attributes)
    if read_only := [name for name in attributes if not _is_writable(resource, name)]:
        warnings.append(f"Read-only attributes of the {resource.name} are not sent: {', '.join(read_only)}.")
    sent = [name for name in attributes if _is_writable(resource, name) and name not in resource.aliases]
    warnings += [
        f"{problem} The attribute is sent unchanged." for problem in describe_unknown(resource, sent)
    ]
    if suspicious := [name for name, value in attributes.items() if _is_suspicious(resource, name, value)]:
        warnings.append(
            f"Attributes of the {resource.name} are texts that usually stand for a missing value: "
            f"{', '.join(suspicious)}. They are sent unchanged. To send no value, use None."
        )
    return warnings


def _is_same_id(value: object, record_id: str) -> bool:
    return isinstance(value, str) and value == record_id


def _check_expected(resource: Resource[Any, Any], attributes: Mapping[str, Any]) -> list[str]:
    given = {resource.aliases.get(name, name): value for name, value in attributes.items()}
    if empty := [name for name in resource.expected_in_create if name in given and given[name] is None]:
        raise WebcamconsultInputError(
            f"New {resource.plural} need {join_names(resource.expected_in_create)}, but None was given for "
            f"{join_names(empty)}. An upstream task was probably skipped or returned nothing. "
            "Check it and its trigger rule."
        )
    if missing := [name for name in resource.expected_in_create if name not in given]:
        return [f"The {resource.name} has no {join_names(missing)}. Check that this is intended."]
    return []


def _is_suspicious(resource: Resource[Any, Any], name: str, value: object) -> bool:
    # A blank text is stored as what it is: nothing.
    if not isinstance(value, str) or not value.strip() or name in resource.numbers:
        return False
    return _is_writable(resource, name) and is_no_value(value)


def _is_writable(resource: Resource[Any, Any], name: str) -> bool:
    name = resource.aliases.get(name, name)
    return name not in resource.read_only and name not in resource.credentials


def describe_unknown(resource: Resource[Any, Any], names: Collection[str]) -> list[str]:
    """
    Describe attributes that are not in the API document.

    :param resource: the kind of record.
    :param names: names of attributes that are sent.
    :return: a sentence for each of those that are unknown. Several without a known one are not named: in a
        file without a header, they may be values.
    """
    unknown = [name for name in names if name not in resource.writable]
    if len(unknown) < 2 or resource.knows_any(names):
        return [_unknown(resource, name) for name in unknown]
    return [
        f"None of the {len(unknown)} attributes is in the API document. They are not named here, because "
        "they may be values. Check the names."
    ]


def describe_misspelt(resource: Resource[Any, Any], attributes: Mapping[str, Any]) -> list[str]:
    """
    Describe attributes whose names are probably misspelt, each with the name that was probably meant.

    Other unknown names are left out: in a file without a header, they may be values.

    :param resource: the kind of record.
    :param attributes: attributes that passed :func:`check_attributes`.
    :return: a sentence for each of them, with names but no values.
    """
    return [
        _unknown(resource, name)
        for name in attributes
        if name not in resource.known and name not in resource.aliases and _nearest(resource, name)
    ]


def _nearest(resource: Resource[Any, Any], name: str) -> list[str]:
    return difflib.get_close_matches(name, resource.known, n=1, cutoff=SUGGESTED_RATIO)


def _unknown(resource: Resource[Any, Any], name: str) -> str:
    nearest = _nearest(resource, name)
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
    :return: the writable attributes under the service's names, as JSON has them, with dates in the service's
        format.
    :raises WebcamconsultInputError: if a date or another value cannot be sent.
    """
    payload: dict[str, Any] = {}
    for alias, value in attributes.items():
        if _is_writable(resource, alias):
            name = resource.aliases.get(alias, alias)
            payload[name] = None if value is None else _serialize(resource, name, value, zone)
    return payload


def check_new(
    resource: Resource[Any, Any], payload: Mapping[str, Any], *, now: datetime.datetime
) -> list[str]:
    """
    Check the values of a new record that can be sent, but are probably a mistake.

    :param resource: the kind of record.
    :param payload: the serialized attributes.
    :param now: the current time.
    :return: warnings for the log, which contain names but no values.
    """
    warnings = []
    earliest = now - datetime.timedelta(minutes=PAST_TOLERANCE_MINUTES)
    for name in resource.datetimes:
        date = parse_datetime(payload.get(name))
        if date is not None and date < earliest:
            warnings.append(f"The {name} of the new {resource.name} is in the past. Check it.")
    for name in resource.numbers:
        if payload.get(name) == 0:
            warnings.append(f"The {name} of the new {resource.name} is 0. Check it.")
    return warnings


def _serialize(resource: Resource[Any, Any], name: str, value: object, zone: Timezone) -> Any:
    if name in resource.datetimes or name in resource.dates:
        return serialize_datetime(value, name=name, zone=zone, day_only=name in resource.dates)
    if name.endswith("_id"):
        _check_id(f"Attribute '{name}'", value)
    elif name.endswith("_ids"):
        value = _to_ids(name, value)
    elif name in resource.numbers:
        return _to_number(name, value)
    elif name in resource.codes:
        value = _to_code(name, value)
    elif name in resource.texts:
        _check_text(name, value)
    if name in resource.key_attributes and isinstance(value, str) and is_no_key(value):
        # Another text than a known one may be personal.
        shown = f"is {reprlib.repr(value)}, which" if is_no_value(value) else "is a text that"
        raise WebcamconsultInputError(
            f"Attribute '{name}' {shown} usually stands for a missing value. "
            f"Records are looked up by their {name}, so different people would be taken for one. "
            f"If there is no {name}, omit the attribute or use None."
        )
    return _to_json(name, value)


def _to_ids(name: str, value: object) -> list[Any]:
    if not _is_list(value):
        raise WebcamconsultInputError(
            f"Attribute '{name}' is of type {type(value).__name__}. Pass a list of ids; "
            "to pass the result of another task, use its .output."
        )
    ids = list(value)
    for number, item in enumerate(ids, start=1):
        _check_id(f"Item {number} of attribute '{name}'", item)
    return ids


def _to_number(name: str, value: object) -> int:
    if isinstance(value, str) and (match := _WHOLE_NUMBER.fullmatch(value)):
        value = float(match[1])
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    # The comparison with the limits excludes nan and infinity, which int() does not accept.
    if is_number and 0 <= value <= NUMBER_MAX and value == int(value):  # type: ignore[operator,call-overload]
        return int(value)  # type: ignore[call-overload,no-any-return]
    raise WebcamconsultInputError(
        f"Attribute '{name}' is not a whole number that is 0 or more. Pass an int, such as 30."
    )


def _to_code(name: str, value: object) -> str:
    is_number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if is_number and abs(int(value)) <= NUMBER_MAX:  # type: ignore[call-overload]
        return str(int(value))  # type: ignore[call-overload]
    if isinstance(value, str):
        return value
    raise WebcamconsultInputError(
        f"Attribute '{name}' is of type {type(value).__name__}. Pass a text or a whole number. "
        "If a table has it as a float, read the column as text."
    )


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise WebcamconsultInputError(
            f"Attribute '{name}' is of type {type(value).__name__}, but the API has it as text. Pass a str. "
            "If the DAG renders templates as native objects, a text of digits becomes a number: "
            "use a callable or the .output of the upstream task instead of a template."
        )


def _to_json(name: str, value: object) -> Any:
    """Return what JSON makes of a value, so that it can be compared with a response."""
    if type(value) is str:  # JSON changes no text, and nearly all values are text
        return value
    try:
        return json.loads(json.dumps(_plain(value, _BODY_LEVELS), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        pass
    raise WebcamconsultInputError(
        f"Attribute '{name}' has a value of type {type(value).__name__} that JSON cannot represent. "
        "Use strings, finite numbers, booleans, lists, dicts or None."
    )


def _plain(value: object, levels: int) -> Any:
    """Return a value with dicts and lists for all mappings and sequences, such as Airflow's lazy ones."""
    is_mapping = isinstance(value, Mapping)
    if not is_mapping and not _is_list(value):
        return value
    levels += 1
    if levels > JSON_MAX_LEVELS:
        raise ValueError("nested too deeply")
    if not is_mapping:
        return [_plain(item, levels) for item in value]  # type: ignore[attr-defined]
    plain = {key: _plain(item, levels) for key, item in value.items()}  # type: ignore[attr-defined]
    if len(json.loads(json.dumps(dict.fromkeys(plain), allow_nan=False))) < len(plain):
        raise ValueError("two keys are the same in JSON")
    return plain


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview))


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
    :raises WebcamconsultInputError: if this is not a list, or contains a misspelt name or the name of a
        credential.
    """
    if fields is None:
        return []
    if isinstance(fields, str) or not isinstance(fields, (list, tuple, set, frozenset)):
        raise WebcamconsultInputError("fields must be a list of attribute names.")
    if not all(isinstance(name, str) for name in fields):
        raise WebcamconsultInputError("fields must be a list of attribute names, and each name a string.")
    if credentials := [name for name in fields if name in resource.credentials]:
        raise WebcamconsultInputError(
            f"fields contains credentials, which are never returned: {', '.join(credentials)}. "
            "Remove them from fields, or request them with the session of hook.get_conn()."
        )
    unknown = [name for name in fields if name not in resource.known]
    for name in unknown:
        if difflib.get_close_matches(name, resource.known, n=1, cutoff=MISSPELT_RATIO):
            raise WebcamconsultInputError(f"fields: {_unknown(resource, name)}")
    # The live service has more attributes than the API document.
    return [_unknown(resource, name) for name in unknown]
