"""Recognize texts that stand for a missing value."""

from __future__ import annotations

import re
import unicodedata

# Without their punctuation: "<NA>", "#N/A N/A", "n.v.t.", "-1.#IND" and so on.
_NO_VALUE = frozenset(
    {
        *("none", "null", "nil", "undefined", "nan", "nat", "na", "nana", "1ind", "1qnan", "nonetype"),
        *("unknown", "notavailable", "notapplicable", "notset"),
        *("onbekend", "nvt", "nietvantoepassing", "geen"),
    }
)
# Letters that nobody sees.
_INVISIBLE = str.maketrans("", "", "\u115f\u1160\u3164\uffa0")
# These may be names of people.
_NO_KEYS = frozenset({"true", "false", "missing", "blank", "empty", "leeg", "niets"})
_NO_VALUE_WORDS = frozenset({"none", "null", "nan", "undefined"})
# Errors and rounded numbers of spreadsheets, objects of JavaScript, and templates that were not rendered.
_NO_KEY = re.compile(
    r"#[A-Z0-9/]+[!?]|\d([.,]\d+)?E\+\d+|\[object \w+\]|.*(\{\{|\{%).*", re.ASCII | re.DOTALL
)


def is_blank(value: object) -> bool:
    """
    Return whether a value is None or a text without any character but spaces.

    :param value: the value.
    """
    return value is None or (isinstance(value, str) and not value.strip())


def is_no_value(text: str) -> bool:
    """
    Return whether a text stands for a missing value, as "None", "nan", "n/a", "-" or "000" do.

    Templates render a missing value to such a text, and tables contain them. Punctuation and case do not
    matter.

    :param text: the text.
    """
    characters = _characters(text)
    return not characters.strip("0") or characters in _NO_VALUE


def is_no_key(text: str) -> bool:
    """
    Return whether a text identifies nothing: :func:`is_no_value`, or "DL-None", "#REF!", "1.2E+09", "True".

    :param text: the text of a key or an id.
    """
    if is_no_value(text) or _characters(text) in _NO_KEYS or _NO_KEY.fullmatch(text.strip()):
        return True
    # An e-mail address can contain the name Nan.
    return "@" not in text and not _NO_VALUE_WORDS.isdisjoint(re.split(r"[\W_]+", text.casefold()))


def _characters(text: str) -> str:
    visible = unicodedata.normalize("NFKC", text).translate(_INVISIBLE)
    return "".join(filter(str.isalnum, visible.casefold()))
