"""Replace values of records by keyed digests."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.matching import join_names
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultInputError,
)
from airflow_provider_webcamconsult.version_compat import AirflowNotFoundException, BaseHook

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Minimum length of a key, in characters: a shorter one can be guessed.
KEY_MIN_LENGTH = 16


def check_pseudonymize(names: object, conn_id: str | None, columns: Sequence[str]) -> list[str]:
    """
    Check which attributes to replace.

    :param names: names of the attributes, or None.
    :param conn_id: id of the connection with the key, or None.
    :param columns: names of the attributes to return.
    :return: the names.
    :raises WebcamconsultInputError: if this is not a list of names, one of them is not returned, or only the
        names or only the connection is given: nobody's data is left as it is by mistake.
    """
    if names is not None and not isinstance(names, (list, tuple, set, frozenset)):
        raise WebcamconsultInputError("pseudonymize must be a list of attribute names.")
    if bool(names) != bool(conn_id):
        raise WebcamconsultInputError(
            "pseudonymize and pseudonymize_conn_id belong together, and one of them is missing or empty. "
            "Name the attributes, and the connection whose password is the key."
        )
    listed = [str(name) for name in names or ()]
    if absent := sorted({*listed} - {*columns}):
        raise WebcamconsultInputError(
            f"pseudonymize contains {join_names(absent)}, which this task does not return. "
            f"It returns {join_names(list(columns))}. Correct pseudonymize or fields."
        )
    return listed


def read_key(conn_id: str) -> bytes:
    """
    Return the key of the digests: the password of an Airflow connection of any type.

    :param conn_id: id of the connection.
    :raises WebcamconsultConnectionError: if Airflow does not find the connection.
    :raises WebcamconsultConfigurationError: if its password is missing or too short.
    """
    try:
        key = BaseHook.get_connection(conn_id).password or ""
    except AirflowNotFoundException:
        key = None
    if key is None:
        # Not a WebcamconsultConfigurationError: a retry helps if a secrets backend was down.
        raise WebcamconsultConnectionError(
            f"There is no connection '{conn_id}', or Airflow cannot read it. Create it with a key for "
            "pseudonyms as the password, or correct pseudonymize_conn_id."
        )
    if len(key) < KEY_MIN_LENGTH:
        raise WebcamconsultConfigurationError(
            f"The password of connection '{conn_id}' is missing or too short to be a key for pseudonyms. "
            f"Enter a random text of {KEY_MIN_LENGTH} characters or more."
        )
    return key.encode()


def pseudonym(key: bytes, value: Any) -> Any:
    """
    Return the digest of a value: HMAC-SHA256 of its text in UTF-8, as 64 hexadecimal digits.

    The same value has the same digest in every attribute, so that exports can be joined.

    :param key: the key.
    :param value: the value. A text counts as it is, anything else as JSON. In a list, each item is replaced.
        None stays None.
    """
    if value is None:
        return None
    if isinstance(value, list):
        return [pseudonym(key, item) for item in value]
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
