"""Recognize texts that stand for a missing value."""

from __future__ import annotations

import unicodedata

# Without their punctuation: "<NA>", "#N/A N/A", "n.v.t.", "-1.#IND" and so on.
_NO_VALUE = frozenset(
    {
        *("none", "null", "nil", "undefined", "nan", "nat", "na", "nana", "1ind", "1qnan"),
        *("unknown", "onbekend", "nvt", "geen"),
    }
)


def is_no_value(text: str) -> bool:
    """
    Return whether a text stands for a missing value, as "None", "nan", "n/a", "-" or "000" do.

    Templates render a missing value to such a text, and tables contain them. Punctuation and case do not
    matter.

    :param text: the text.
    """
    characters = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
    return not characters.strip("0") or characters in _NO_VALUE
