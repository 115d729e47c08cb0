"""Keep people's data and credentials out of what is shown: reprs, messages and answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T", re.ASCII)

#: What stands in the place of a person's data.
MASK = "***"

#: Characters from which on a value that was sent is masked inside of other words too.
MASKED_IN_WORDS_FROM = 4


class Record(dict[str, Any]):
    """A record of the service. It shows its id alone, since what is shown ends up in logs."""

    def __repr__(self) -> str:
        return f"<Record {self.get('id')}>"


def mask_sent_values(messages: Any, sent: Any, *, names: Collection[str]) -> Any:
    """
    Mask the values that were sent where the service repeats them: its messages are logged.

    :param messages: JSON from the service.
    :param sent: JSON that was sent to it.
    :param names: names of attributes, which are never masked.
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
    # Longest first: one value may begin with another. A short one may be a part of any word.
    found = (
        re.escape(text) if len(text) >= MASKED_IN_WORDS_FROM else rf"(?<!\w){re.escape(text)}(?!\w)"
        for text in sorted(texts, key=len, reverse=True)
    )
    return re.compile("|".join(found) or r"(?!)", re.IGNORECASE)


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
    Drop credentials from JSON, however deep they are.

    :param credentials: their names.
    :param value: a dict or a list.
    """
    # Called for what holds others alone: a list has thousands of records, of which most attributes are text.
    if isinstance(value, dict):
        return {
            name: without_credentials(credentials, item) if isinstance(item, (dict, list)) else item
            for name, item in value.items()
            if name not in credentials
        }
    return [
        without_credentials(credentials, item) if isinstance(item, (dict, list)) else item for item in value
    ]
