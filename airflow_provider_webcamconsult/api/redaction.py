"""Remove personal data and credentials from reprs, messages and responses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Replaces personal data.
MASK = "***"

#: Maximum number of validation messages to show.
MESSAGES_MAX = 20
#: Maximum length of a validation message to show, in characters.
MESSAGE_MAX_LENGTH = 100

#: The validation messages that may be shown. ``#`` is a number of up to four digits, which is not a date of
#: birth, a telephone number or the like.
KNOWN_MESSAGES = frozenset(
    (
        # The API document, and Dutch defaults of Rails (errors.messages), in older versions too
        "heeft onjuiste lengte (moet # teken lang zijn)",
        "heeft onjuiste lengte (moet # tekens lang zijn)",
        "is al in gebruik",
        "is geen getal",
        "is gereserveerd",
        "is niet beschikbaar",
        "is niet in de lijst opgenomen",
        "is ongeldig",
        "is te kort (minimaal # teken)",
        "is te kort (minimaal # tekens)",
        "is te lang (maximaal # teken)",
        "is te lang (maximaal # tekens)",
        "komt niet met de bevestiging overeen",
        "moet anders zijn dan #",
        "moet bestaan",
        "moet een geheel getal zijn",
        "moet even zijn",
        "moet gelijk zijn aan #",
        "moet groter dan of gelijk zijn aan #",
        "moet groter zijn dan #",
        "moet leeg zijn",
        "moet minder dan of gelijk zijn aan #",
        "moet minder zijn dan #",
        "moet oneven zijn",
        "moet opgegeven zijn",
        "moet worden geaccepteerd",
        # English defaults of Rails and Mongoid
        "can't be blank",
        "can't be empty",
        "doesn't match confirmation",
        "has already been taken",
        "is already taken",
        "is invalid",
        "is not a number",
        "is not included in the list",
        "is reserved",
        "is the wrong length (should be # character)",
        "is the wrong length (should be # characters)",
        "is too long",
        "is too long (maximum is # character)",
        "is too long (maximum is # characters)",
        "is too short (minimum is # character)",
        "is too short (minimum is # characters)",
        "must be accepted",
        "must be an integer",
        "must be blank",
        "must be equal to #",
        "must be even",
        "must be greater than #",
        "must be greater than or equal to #",
        "must be in #..#",
        "must be less than #",
        "must be less than or equal to #",
        "must be odd",
        "must be other than #",
        "must exist",
        # The sandbox
        "does not exist: the clock goes forward at that hour in Amsterdam",
        "is not a date",
        "is not a list of strings",
        "is not a state name",
        "is not a string",
        "is not a whole number",
        "is unknown",
    )
)
_NUMBER = re.compile(r"-?[0-9]{1,4}")

# Rails' name for messages that concern no single attribute.
_WHOLE_RECORD = "base"


class Record(dict[str, Any]):
    """A record of the service. Its repr shows only the id, because reprs end up in logs."""

    __slots__ = ()  # takes less time and memory; lists have thousands of records

    def __repr__(self) -> str:
        return f"<Record {self.get('id')}>"


def select_known_messages(
    errors: Mapping[str, Any], names: Collection[str]
) -> tuple[dict[str, list[str]], int]:
    """
    Select the validation messages that cannot contain personal data.

    :param errors: the service's messages by attribute.
    :param names: names of attributes that may be shown.
    :return: the messages that may be shown, by attribute, and the number of the other messages.
    """
    known: dict[str, list[str]] = {}
    shown = withheld = 0
    for name, messages in errors.items():
        is_name_known = name in names or name == _WHOLE_RECORD
        for message in messages if isinstance(messages, list) else [messages]:
            if is_name_known and shown < MESSAGES_MAX and _is_known(message):
                known.setdefault(name, []).append(message)
                shown += 1
            else:
                withheld += 1
    return known, withheld


def _is_known(message: Any) -> bool:
    if not isinstance(message, str) or len(message) > MESSAGE_MAX_LENGTH:
        return False
    return _NUMBER.sub("#", message) in KNOWN_MESSAGES


def remove_credentials(credentials: Collection[str], value: Any, max_depth: int) -> None:
    """
    Remove credentials from decoded JSON at any depth.

    :param credentials: names of the credentials.
    :param value: a dict or a list, which is changed.
    :param max_depth: maximum number of nested dicts and lists, including ``value``.
    :raises ValueError: if the value is nested deeper.
    """
    if not max_depth:
        raise ValueError("nested too deeply")
    items = value
    if isinstance(value, dict):
        for name in credentials:
            if name in value:
                del value[name]
        items = value.values()
    for item in items:
        # Much faster than isinstance(), for thousands of records. Decoded JSON has no subclasses.
        if type(item) in _CONTAINERS:
            remove_credentials(credentials, item, max_depth - 1)


_CONTAINERS = frozenset((dict, list))
