"""Select records by the values of their attributes."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_webcamconsult.api.dates import serialize_datetime
from airflow_provider_webcamconsult.api.matching import normalize
from airflow_provider_webcamconsult.api.missing import is_no_value
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError

if TYPE_CHECKING:
    from pendulum import Timezone

    from airflow_provider_webcamconsult.api.resources import Resource

#: Names of attributes, each with the normalized values of which a record must have one.
Conditions: TypeAlias = Mapping[str, frozenset[Any]]


def parse_conditions(resource: Resource[Any, Any], where: object, *, zone: Timezone) -> Conditions:
    """
    Check the conditions for records, and normalize their values for comparison.

    :param resource: the kind of record.
    :param where: a dict of attribute names, each with a value or a list of values.
    :param zone: time zone of dates without a UTC offset.
    :return: the conditions.
    :raises WebcamconsultInputError: if this is not a dict, an attribute is unknown, or a value cannot be
        compared or stands for a missing value.
    """
    if not isinstance(where, Mapping):
        raise WebcamconsultInputError(
            f"where must be a dict of attribute names and values, not {type(where).__name__}."
        )
    conditions = {}
    for name, wanted in where.items():
        if name not in resource.known:
            nearest = difflib.get_close_matches(str(name), resource.known, n=1)
            hint = f"Did you mean '{nearest[0]}'?" if nearest else f"Use one of: {', '.join(resource.known)}."
            raise WebcamconsultInputError(
                f"where contains '{name}', which is not an attribute of {resource.with_article}. {hint}"
            )
        is_list = isinstance(wanted, (Sequence, set, frozenset)) and not isinstance(wanted, (str, bytes))
        values = wanted if is_list else [wanted]
        conditions[name] = frozenset(_parse(resource, name, value, zone) for value in values)
    return conditions


def _parse(resource: Resource[Any, Any], name: str, value: object, zone: Timezone) -> Any:
    if isinstance(value, str) and name not in resource.numbers and is_no_value(value):
        raise WebcamconsultInputError(
            f"where has a text for '{name}' that stands for a missing value. A template or an XCom probably "
            "had no value. To select records without a value, use None."
        )
    if name in resource.datetimes and _is_day(value):
        raise WebcamconsultInputError(
            f"where has a day without a time for '{name}'. A value in where has to be equal to the record's, "
            "which has a time. To select a day or another range, list the records and compare their dates in "
            "a task."
        )
    if value is not None and (name in resource.datetimes or name in resource.dates):
        value = serialize_datetime(value, name=name, zone=zone, day_only=name in resource.dates)
    if value is None or isinstance(value, (str, int, float)):
        return normalize(resource, name, value)
    advice = "Use its text as the service returns it." if isinstance(value, datetime.date) else ""
    raise WebcamconsultInputError(
        f"where has a value of type {type(value).__name__} for '{name}', which cannot be compared. "
        f"{advice or 'Use a text, a number, a boolean, None, or a list of these.'}"
    )


def _is_day(value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"\d{4}-\d{2}-\d{2}", value.strip(), re.ASCII) is not None
    return isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)


def matches(resource: Resource[Any, Any], conditions: Conditions, record: Mapping[str, Any]) -> bool:
    """
    Return whether a record meets all conditions.

    An attribute that is a list meets a condition with any of its items. A missing attribute counts as None.

    :param resource: the kind of record.
    :param conditions: result of :func:`parse_conditions`.
    :param record: the record.
    """
    return all(_has(resource, name, wanted, record.get(name)) for name, wanted in conditions.items())


def _has(resource: Resource[Any, Any], name: str, wanted: frozenset[Any], value: Any) -> bool:
    if isinstance(value, Mapping):
        return False
    values = value or [None] if isinstance(value, list) else [value]
    return any(
        normalize(resource, name, item) in wanted for item in values if not isinstance(item, (dict, list))
    )
