"""The checkpoint of a create: what the next try of its task has to know."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from airflow_provider_webcamconsult.api.evidence import Sent
from airflow_provider_webcamconsult.api.matching import natural_key, normalize

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_webcamconsult.api.evidence import Target

#: What a create did. ``"created"``: the record is new. ``"updated"``: it existed, and attributes that
#: differed were updated. ``"reused"`` and ``"unchanged"``: it existed and nothing was written, with
#: ``if_exists="reuse"`` and ``if_exists="update"``.
CreateOutcome = Literal["created", "updated", "reused", "unchanged"]
# If the tries of a task differ, the earliest in this list counts.
_OUTCOMES: tuple[CreateOutcome, ...] = ("created", "updated", "reused", "unchanged")


class Checkpoint(Protocol):
    """The progress of a create, for the next try of its task."""

    #: Whether the next try reads this checkpoint before it creates a record.
    persistent: bool

    def read(self) -> Mapping[str, Any]:
        """
        Return what is known about earlier tries.

        :return: a mapping that is empty if no earlier try sent a create. ``sent_at`` is the latest time at
            which one may have been sent, in seconds since the epoch, and ``first_sent_at`` the time of the
            first one, if that is known. ``id`` is the id of the record that was
            created or reused, and ``outcome`` is what was done to it. ``fingerprint``, ``attributes`` and
            ``token`` are keyed hashes of its natural key, of all its attributes and of nothing: they show
            whether a later try is for the same record, and whether the token has changed. ``disputed_id``
            is the id of a record that the response to a create showed, but that may belong to another
            request, and ``own_id`` of one that the create has certainly made, but that may have to be
            deleted again. ``withdrawn_id`` is the id of a record that is to be deleted. ``was_cleared``
            means that a person has cleared the task. ``reported`` means that the task has asked a person to
            look for the record. ``looked_up`` means that it has been cleared since.
        """

    def write(self, value: Mapping[str, Any]) -> None:
        """
        Replace the checkpoint.

        :param value: a value as :meth:`read` returns it.
        """


class NoCheckpoint:
    """A checkpoint that stores nothing, for a create outside of an operator."""

    persistent = False

    def read(self) -> Mapping[str, Any]:
        """Return an empty mapping."""
        return {}

    def write(self, value: Mapping[str, Any]) -> None:
        """
        Do nothing.

        :param value: ignored.
        """


class Progress:
    """
    What the tries of a create have done, as their checkpoint stores it.

    A checkpoint must not contain personal data, so it has keyed hashes of the attributes.

    :param checkpoint: the checkpoint.
    :param target: the record that the create is to make.
    :param token: the token, which is the key of the hashes.
    """

    def __init__(self, checkpoint: Checkpoint, target: Target[Any], token: str) -> None:
        self.is_persistent = checkpoint.persistent
        self.earlier: Mapping[str, Any] = checkpoint.read()
        self.outcome: CreateOutcome = self.earlier.get("outcome", _OUTCOMES[-1])
        self.sent = Sent()
        self._note_sent()
        self._checkpoint = checkpoint
        self._target = target
        self._token = token.encode()
        values = {name: normalize(target.resource, name, value) for name, value in target.payload.items()}
        self._hashes = {
            "fingerprint": self._hash(target.key),
            "attributes": self._hash(sorted(values.items(), key=lambda item: item[0])),
            "token": self._hash(None),
        }

    def _note_sent(self) -> None:
        self.sent = replace(
            self.sent, at=self.earlier.get("sent_at"), first_at=self.earlier.get("first_sent_at")
        )

    def _hash(self, value: object) -> str:
        return hmac.new(self._token, json.dumps(value, default=_utc).encode(), hashlib.sha256).hexdigest()

    def reload(self) -> bool:
        """
        Read the checkpoint again: an earlier try may still be running, and have sent another create.

        :return: whether it has changed.
        """
        latest = self._checkpoint.read()
        if latest == self.earlier:
            return False
        self.earlier = latest
        self._note_sent()
        return True

    @property
    def evidence(self) -> Sent:
        """The create that was sent, up to now."""
        return replace(self.sent, until=time.time())

    def settled_at(self, floor: float) -> float:
        """
        Return when the last create of an earlier try can no longer be in progress.

        :param floor: for how many seconds it can be.
        """
        # The clock of the earlier worker may be ahead, so never wait longer than the floor from now.
        return min(self.sent.at or 0.0, time.time()) + floor

    def forget(self) -> None:
        """Go on as if no earlier try had created a record."""
        self._checkpoint.write({})
        self.earlier = {}

    def withdraw(self, record_id: str) -> None:
        """
        Store that the create of this try is about to be undone.

        :param record_id: id of the record that it made.
        """
        self._checkpoint.write({"withdrawn_id": record_id})
        self.sent = Sent()

    def note(self, outcome: CreateOutcome) -> None:
        """
        Note what was done to the record, unless an earlier step or try did more.

        :param outcome: what was done.
        """
        self.outcome = min(self.outcome, outcome, key=_OUTCOMES.index)

    def store_sending(self, ids_before: Collection[str] | None) -> None:
        """
        Store that a create is about to be sent.

        :param ids_before: ids of all records before it; None if they were not listed.
        """
        now = time.time()
        first_at = self.sent.first_at
        if first_at is None and "sent_at" not in self.earlier:
            first_at = now
        self.sent = Sent(now, first_at=first_at, ids_before=ids_before)
        self.store_sent()

    def store_sent(self, **more: object) -> None:
        """
        Store that a create was sent, and what else is known about it.

        :param more: further items of the checkpoint.
        """
        value = {"sent_at": self.sent.at, "fingerprint": self._hashes["fingerprint"], **more}
        if self.sent.first_at is not None:
            value["first_sent_at"] = self.sent.first_at
        self._checkpoint.write(value)

    def store_rejected(self) -> None:
        """Store that the create made nothing. An earlier one may have."""
        self._checkpoint.write(self.earlier)
        self.sent = Sent()

    def store_reported(self) -> None:
        """Store that an error has asked a person to look for the record of an earlier try."""
        self._checkpoint.write({**self.earlier, "reported": True})

    def store_record(self, record_id: str, **more: object) -> None:
        """
        Store the id of the record, and for which attributes it was created or reused.

        :param record_id: the id.
        :param more: further items of the checkpoint.
        """
        self._checkpoint.write({"id": record_id, "outcome": self.outcome, **self._hashes, **more})

    def store_other_record(self, record_id: str) -> None:
        """
        Store the record that an earlier try created for another natural key, for when its task is cleared.

        :param record_id: the id.
        """
        hashes = {"fingerprint": self.earlier["fingerprint"], "token": self._hashes["token"]}
        self._checkpoint.write({"id": record_id, "outcome": "created", **hashes})

    def was_for_another_key(self, record: Mapping[str, Any] | None) -> bool:
        """
        Return whether the earlier tries were for a natural key that is not that of now.

        :param record: their record; None if it no longer exists.
        """
        if not self.is_comparable or self.earlier["fingerprint"] == self._hashes["fingerprint"]:
            return False
        return record is None or not self._target.shows_key(record)

    @property
    def was_for_other_attributes(self) -> bool:
        """Whether the earlier tries were for attributes that are not those of now."""
        earlier = self.earlier.get("attributes")
        return self.is_comparable and earlier not in (None, self._hashes["attributes"])

    @property
    def is_comparable(self) -> bool:
        """Whether the attributes of the earlier tries are known: the token, their key, is still the same."""
        return "fingerprint" in self.earlier and self.earlier.get("token") == self._hashes["token"]

    def has_earlier_key(self, record: Mapping[str, Any]) -> bool:
        """
        Return whether a record has the natural key of the earlier tries.

        :param record: the record.
        """
        if "fingerprint" not in self.earlier:
            return False
        resource = self._target.resource
        shapes = [tuple((name, None) for name in names) for names in resource.natural_keys]
        keys = [natural_key(resource, record, like=shape) for shape in shapes]
        return self.earlier["fingerprint"] in [self._hash(key) for key in keys if key is not None]


def _utc(value: Any) -> str:
    return str(value.timestamp())
