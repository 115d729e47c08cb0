"""Remove personal data and credentials from reprs, messages and responses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T", re.ASCII)

#: Replaces personal data.
MASK = "***"

#: Minimum length of a sent value to be masked inside of words too.
MASK_INSIDE_WORDS_MIN_LENGTH = 4


class Record(dict[str, Any]):
    """A record of the service. Its repr shows only the id, because reprs end up in logs."""

    def __repr__(self) -> str:
        return f"<Record {self.get('id')}>"


def mask_sent_values(messages: Any, sent: Any, *, names: Collection[str]) -> Any:
    """
    Mask sent values that the service repeats in its messages, because the messages are logged.

    :param messages: JSON from the service.
    :param sent: JSON that was sent to the service.
    :param names: names of attributes, which stay readable as keys.
    :return: the messages with :data:`MASK` instead of the values.
    """
    return _mask(messages, _pattern(sent), names)


def _mask(messages: Any, sent: re.Pattern[str], names: Collection[str]) -> Any:
    if isinstance(messages, dict):
        return {
            name if name in names else sent.sub(MASK, name): _mask(item, sent, names)
            for name, item in messages.items()
        }
    if isinstance(messages, list):
        return [_mask(item, sent, names) for item in messages]
    if messages is None or isinstance(messages, bool):
        return messages
    return sent.sub(MASK, str(messages))


def _pattern(sent: Any) -> re.Pattern[str]:
    texts = {value.strip() for value in _leaves(sent)} - {""}
    texts |= {text.partition("T")[0] for text in texts if _DATE_AND_TIME.match(text)}
    # Longest first, because one value can start with another. A short value could be part of any word.
    patterns = (
        re.escape(text) if len(text) >= MASK_INSIDE_WORDS_MIN_LENGTH else rf"(?<!\w){re.escape(text)}(?!\w)"
        for text in sorted(texts, key=len, reverse=True)
    )
    return re.compile("|".join(patterns) or r"(?!)", re.IGNORECASE)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def without_credentials(credentials: Collection[str], value: Any) -> Any:
    """
    Remove credentials from JSON at any depth.

    :param credentials: names of the credentials.
    :param value: a dict or a list.
    :return: a copy without the credentials.
    """
    # Recurse only into containers: lists have thousands of records, and most attributes are text.
    if isinstance(value, dict):
        return {
            name: without_credentials(credentials, item) if isinstance(item, (dict, list)) else item
            for name, item in value.items()
            if name not in credentials
        }
    return [
        without_credentials(credentials, item) if isinstance(item, (dict, list)) else item for item in value
    ]
