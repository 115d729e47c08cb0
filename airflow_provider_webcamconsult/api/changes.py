"""
Compare two lists of records by their marks.

A :class:`Mark` is what is kept of a record. For an appointment, that is its state, its date and a digest of
its other attributes; for other records, only the digest. The digest has a secret key, so that nobody can find
out a value by trying.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from airflow_provider_webcamconsult.api.dates import has_form_of_date, parse_datetime
from airflow_provider_webcamconsult.api.matching import normalize
from airflow_provider_webcamconsult.api.resources import APPOINTMENT, CLIENT, INITIAL_STATE, USER
from airflow_provider_webcamconsult.api.states import is_state_name
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError

if TYPE_CHECKING:
    import datetime
    from collections.abc import Collection, Iterable, Mapping

    from airflow_provider_webcamconsult.api.resources import Resource

#: What can change. ``"state"``: an appointment is in a different state, or is new and not in the initial one.
#: ``"moved"``: it has a different date. ``"attributes"``: anything else.
ChangeKind = Literal["created", "state", "moved", "attributes", "deleted"]
CHANGE_KINDS: tuple[ChangeKind, ...] = ("created", "state", "moved", "attributes", "deleted")

#: The resources whose changes can be found, by their plural names.
RESOURCES: Mapping[str, Resource[Any, Any]] = {each.plural: each for each in (USER, CLIENT, APPOINTMENT)}

#: Length of the digest of a record in bytes. It is long enough that no change is missed, and keeps a baseline
#: small.
DIGEST_BYTES = 8

#: The digest of a record that was not read with the current key.
UNKNOWN_DIGEST = ""

#: Attributes that are not in the digest: a mark has them as they are, or they follow the state and the date.
_NOT_DIGESTED = ("id", "state", "date", "started_at", "orig_date")


def find_resource(plural: object) -> Resource[Any, Any]:
    """
    Return the kind of record with a plural name.

    :param plural: the name.
    :raises WebcamconsultInputError: if there is none.
    """
    if not isinstance(plural, str) or plural not in RESOURCES:
        raise WebcamconsultInputError(f"resource must be one of {', '.join(RESOURCES)}. Correct it.")
    return RESOURCES[plural]


class Change(TypedDict):
    """
    What changed in a record.

    The old values are None if the record was created, the new ones if it was deleted, and all of them if the
    record is not an appointment.
    """

    id: str
    kinds: list[ChangeKind]
    old_state: str | None
    new_state: str | None
    old_date: str | None
    new_date: str | None


class Mark(NamedTuple):
    """
    What is kept of a record.

    :param state: its state.
    :param date: its date, as the service wrote it; None if that is not a date.
    :param digest: digest of its other attributes, in hexadecimal digits.
    """

    state: str | None
    date: str | None
    digest: str


class Marker:
    """
    Makes the marks of records.

    :param resource: the kind of record.
    :param secret: the secret from which the key of the digests is derived.
    """

    def __init__(self, resource: Resource[Any, Any], secret: str) -> None:
        self._resource = resource
        self._has_state = "state" in resource.known
        self._key = hmac.digest(secret.encode(), b"webcamconsult changes", "sha256")
        self._names = sorted({*resource.known} - {*_NOT_DIGESTED})
        self.fields = frozenset(resource.known)
        """Names of the attributes that a mark needs."""
        self.check = self._digest(self._names)
        """Tells whether digests can be compared: it is different for another key or other attributes."""

    def marks(self, records: Iterable[Mapping[str, Any]]) -> dict[str, Mark]:
        """
        Return the marks of the records that have one, by id.

        :param records: the records.
        """
        return {record["id"]: mark for record in records if (mark := self.mark(record))}

    def mark(self, record: Mapping[str, Any]) -> Mark | None:
        """
        Return the mark of a record.

        :param record: the record.
        :return: the mark; None if the record is an appointment without a valid state.
        """
        state = date = None
        if self._has_state:
            state, date = record.get("state"), record.get("date")
            if not is_state_name(state):
                return None
        # None is left out: the service may add an empty attribute to all records.
        values = {
            name: value
            for name in self._names
            if (value := record.get(name)) is not None
            and (value := normalize(self._resource, name, value)) is not None
        }
        if date is not None and not has_form_of_date(date):
            # It may be anything, so it is stored only as a part of the digest.
            values["date"], date = date, None
        return Mark(state, date, self._digest(values))

    def _digest(self, value: Any) -> str:
        text = json.dumps(value, sort_keys=True, default=_seconds).encode()
        return hashlib.blake2b(text, key=self._key, digest_size=DIGEST_BYTES).hexdigest()


def _seconds(date: datetime.datetime) -> float:
    return date.timestamp()


def diff(
    old: Mapping[str, Mark], new: Mapping[str, Mark], *, with_attributes: bool = True
) -> dict[str, Change]:
    """
    Return what changed, by the records' ids.

    :param old: the earlier marks by the records' ids.
    :param new: the marks now.
    :param with_attributes: whether to compare the digests.
    """
    changes = {}
    for record_id in sorted({*old, *new}):
        before, after = old.get(record_id), new.get(record_id)
        if kinds := _kinds(before, after, with_attributes):
            changes[record_id] = Change(
                id=record_id,
                kinds=kinds,
                old_state=before and before.state,
                new_state=after and after.state,
                old_date=before and before.date,
                new_date=after and after.date,
            )
    return changes


def _kinds(before: Mark | None, after: Mark | None, with_attributes: bool) -> list[ChangeKind]:
    if before == after:
        return []
    if after is None:
        return ["deleted"]
    if before is None:
        # It was created in the initial state, and has changed that since.
        return ["created"] if after.state in (None, INITIAL_STATE) else ["created", "state"]
    has: dict[ChangeKind, bool] = {
        "state": before.state != after.state,
        "moved": not _is_same_date(before.date, after.date),
        "attributes": with_attributes and before.digest not in (after.digest, UNKNOWN_DIGEST),
    }
    return [kind for kind, is_so in has.items() if is_so]


def _is_same_date(before: str | None, after: str | None) -> bool:
    # The offset of the same instant may differ.
    return before == after or (
        (instant := parse_datetime(before)) is not None and instant == parse_datetime(after)
    )


def select(
    changes: Mapping[str, Change], kinds: Collection[str], states: Collection[str] | None
) -> dict[str, Change]:
    """
    Return the changes of some kinds, in appointments that are in some states.

    :param changes: the changes by the records' ids.
    :param kinds: the kinds.
    :param states: the states; None means any. A deleted appointment counts as in its last known state.
    """
    return {
        record_id: Change(**{**change, "kinds": wanted})
        for record_id, change in changes.items()
        if (wanted := [kind for kind in change["kinds"] if kind in kinds])
        and (states is None or _last_state(change) in states)
    }


def _last_state(change: Change) -> str | None:
    return change["old_state" if change["kinds"] == ["deleted"] else "new_state"]


def unite(earlier: Iterable[Change], later: Mapping[str, Change]) -> list[Change]:
    """
    Return what changed in two consecutive periods, with one item for each record.

    :param earlier: the changes of the first period.
    :param later: the changes of the second one, by the records' ids.
    """
    united = {change["id"]: change for change in earlier}
    for record_id, change in later.items():
        first = united.get(record_id, change)
        kinds = {*first["kinds"], *change["kinds"]}
        united[record_id] = Change(
            id=record_id,
            kinds=[kind for kind in CHANGE_KINDS if kind in kinds],
            old_state=first["old_state"],
            new_state=change["new_state"],
            old_date=first["old_date"],
            new_date=change["new_date"],
        )
    return [*united.values()]


def list_digest(marks: Mapping[str, Mark]) -> str:
    """
    Return a digest of a whole list, which does not depend on its order.

    :param marks: the marks by the records' ids.
    """
    text = json.dumps(sorted(marks.items())).encode()
    return hashlib.blake2b(text, digest_size=2 * DIGEST_BYTES).hexdigest()
