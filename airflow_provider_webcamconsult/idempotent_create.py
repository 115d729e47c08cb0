"""
Create a record so that a retry never creates a second one.

The service creates a new record for every create request that it receives. So a checkpoint is written before
the request is sent, and the id is stored afterwards. If an earlier request may have succeeded, the record is
looked up by its natural key. Another request is sent only if the record does not exist, and not before
:data:`CREATE_FLOOR_SECONDS` have passed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Protocol

from airflow_provider_webcamconsult.api.matching import (
    compare_identity,
    describe_missing_key,
    differing_attributes,
    existed_before,
    is_in_initial_state,
    join_names,
    natural_key,
    normalize,
    verify_stored,
    was_created_before,
    was_created_between,
    was_created_since,
)
from airflow_provider_webcamconsult.api.request import (
    create_request,
    delete_request,
    get_request,
    list_request,
    update_request,
)
from airflow_provider_webcamconsult.api.resources import RecordT
from airflow_provider_webcamconsult.api.states import describe_state
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConflictError,
    WebcamconsultError,
    WebcamconsultInputError,
    WebcamconsultMismatchError,
    WebcamconsultNonRetryableError,
    WebcamconsultNotFoundError,
    WebcamconsultUnknownOutcomeError,
    WebcamconsultValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from airflow_provider_webcamconsult.api.matching import NaturalKey
    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.transport import Transport

#: What a create does if a record with the same natural key already exists.
IfExists = Literal["create", "reuse", "update", "fail"]
IF_EXISTS = ("create", "reuse", "update", "fail")

#: What a create did. ``"created"``: the record is new. ``"updated"``: it existed, and attributes that
#: differed were updated. ``"reused"`` and ``"unchanged"``: it existed and nothing was written, with
#: ``if_exists="reuse"`` and ``if_exists="update"``.
CreateOutcome = Literal["created", "updated", "reused", "unchanged"]
# If the tries of a task differ, the earliest in this list counts.
_OUTCOMES: tuple[CreateOutcome, ...] = ("created", "updated", "reused", "unchanged")


def check_if_exists(if_exists: object) -> None:
    """
    Check what a create is to do if a record already exists.

    :param if_exists: the value to check.
    :raises WebcamconsultInputError: if it is not one of :data:`IfExists`.
    """
    if if_exists not in IF_EXISTS:
        raise WebcamconsultInputError(f"if_exists must be one of {', '.join(IF_EXISTS)}.")


#: Seconds after a create was sent before another one may create the same record. The service may process a
#: request long after its sender has stopped waiting.
CREATE_FLOOR_SECONDS = 300.0
#: Seconds by which the record in a create's response must be older than the create to be certainly another
#: one. Less proves nothing, because the clock of a worker can be hours off.
ANSWER_AGE_SECONDS = 86400.0
#: Seconds before each look-up of a record after a create with an unknown outcome.
LOOKUP_DELAYS_SECONDS = (0.0, 1.0, 3.0)
#: Seconds between further look-ups, if no later try will make them.
LOOKUP_INTERVAL_SECONDS = 30.0
#: Seconds between the checks of the first of two simultaneous creates for the second to withdraw its record.
RACE_SECONDS = 5.0
#: How often it checks before it withdraws its own record instead.
RACE_CHECKS_MAX = 6
#: How often simultaneous creates may withdraw all their records and start again.
RACE_ROUNDS_MAX = 3


@dataclass(frozen=True)
class CreateResult(Generic[RecordT]):
    """
    The record of a create, and what the create did.

    :param record: the record.
    :param outcome: ``"created"``, ``"updated"``, ``"reused"`` or ``"unchanged"``. In a task, it covers all
        tries: a record that an earlier try created is ``"created"``.
    """

    record: RecordT
    outcome: CreateOutcome


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
            request. ``was_cleared`` means that a person has cleared the task. ``reported`` means that they
            did so although the record cannot be looked up.
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


class IdempotentCreate(Generic[RecordT]):
    """
    Creates one record, or finds the record that an earlier try created.

    :param transport: transport that sends the requests.
    :param resource: the kind of record.
    :param payload: the serialized attributes.
    :param if_exists: what to do if a record with the same natural key already exists.
    :param strict: whether to raise an error if the service did not store an attribute as sent.
    :param checkpoint: checkpoint of earlier tries.
    :raises WebcamconsultInputError: if ``if_exists`` is invalid, or requires a natural key that is missing.
    """

    def __init__(
        self,
        transport: Transport,
        resource: Resource[Any, RecordT],
        payload: dict[str, Any],
        *,
        if_exists: IfExists,
        strict: bool,
        checkpoint: Checkpoint,
    ) -> None:
        check_if_exists(if_exists)
        self.transport = transport
        self.resource = resource
        self.payload = payload
        self.if_exists = if_exists
        self.strict = strict
        self.checkpoint = checkpoint
        self.earlier = checkpoint.read()
        self.outcome: CreateOutcome = self.earlier.get("outcome", _OUTCOMES[-1])
        self.key = natural_key(self.resource, payload)
        if self.key is None and if_exists != "create":
            raise WebcamconsultInputError(
                f"Cannot look up the {self.resource.name} for if_exists='{if_exists}': "
                f"{describe_missing_key(self.resource)}. Complete the attributes, or use if_exists='create'."
            )
        # The ids in the last list, and in that before the create; None if there was no list.
        self._listed_ids: set[str] | None = None
        self._ids_before: set[str] | None = None
        # When the first create of any try was sent; None if that is not known.
        self._first_sent_at: float | None = self.earlier.get("first_sent_at")
        # The records with the natural key in the last list that existed before that.
        self._existing: list[RecordT] = []

    def run(self) -> CreateResult[RecordT]:
        """
        Create or find the record.

        :return: the record, and whether it was created, updated, reused or left unchanged.
        """
        record = self._create_or_find()
        return CreateResult(record, self.outcome)

    def _create_or_find(self) -> RecordT:
        if "id" in self.earlier:
            record = self._get_if_exists(self.earlier["id"])
            if not self._was_for_another_key(record):
                if record is not None:
                    return self._use_earlier(record)
                self.transport.log.info(
                    "%s %s from an earlier try no longer exists. Creating it again.",
                    self.resource.name.capitalize(),
                    self.earlier["id"],
                )
            else:
                if record is not None:
                    self._leave_earlier(record["id"])
                self.earlier = {}
            self.outcome = _OUTCOMES[-1]
        if "sent_at" in self.earlier:
            found = self._find_earlier_create()
            if found is not None and "id" in self.earlier:
                if self._was_for_another_key(found):
                    raise self._other_key_error([found["id"]])
                return self._use_earlier(found)
        elif self.key is not None and (self.earlier or self.if_exists != "create"):
            found = self._single_match(self._look_up())
        else:
            found = None
        if found is None:
            return self._create()
        return self._accept_as_created(found) if self.earlier else self._resolve_existing(found)

    def _was_for_another_key(self, record: RecordT | None) -> bool:
        """Return whether the record of an earlier try was for a natural key that is not that of now."""
        # Fingerprints can only be compared if the token, which is their key, is still the same.
        if not self._is_comparable() or self.earlier["fingerprint"] == self._fingerprint(self.key):
            return False
        return record is None or self.key is None or not self._shows_key(record)

    def _is_comparable(self) -> bool:
        return "fingerprint" in self.earlier and self.earlier.get("token") == self._fingerprint(None)

    def _leave_earlier(self, record_id: str) -> None:
        """Forget the record of an earlier try for another natural key, if a person has cleared the task."""
        if not self.earlier.get("was_cleared"):
            raise self._other_key_error([record_id])
        self.transport.log.warning(
            "An earlier try of this task was for a different %s. Its record, %s %s, stays and is not "
            "changed.",
            self._key_names() or "person",
            self.resource.name,
            record_id,
        )
        self.checkpoint.write({})

    def _other_key_error(self, ids: list[str]) -> WebcamconsultConflictError:
        return WebcamconsultConflictError(
            f"An earlier try of this task, with other attributes, created {self.resource.name} "
            f"{join_names(ids)}. This try is for a different {self._key_names() or 'record'}, so the "
            f"{self.resource.name} was not used or changed, and no other was created. Check it. If "
            "it is right, mark this task as successful; to create one with the attributes of now too, clear "
            "it.",
            ids=ids,
        )

    def _use_earlier(self, record: RecordT) -> RecordT:
        """Use the record of an earlier try for the same natural key, if it agrees with changed attributes."""
        is_changed = self._is_comparable() and self.earlier.get("attributes") not in (
            None,
            self._attributes_fingerprint(),
        )
        if is_changed and (self.key is None or self._has_weak_key()):
            self._check_same_person(record)
        self.transport.log.info("Using %s %s from an earlier try.", self.resource.name, record["id"])
        if self.if_exists == "update":
            return self._update_to_match(record)
        if is_changed:
            self._check_unchanged(record)
        self._note("reused")
        if not self.earlier.get("verified"):
            self._verify(record)
        return record

    def _check_same_person(self, record: RecordT) -> None:
        different = self._disputing_attributes(record)
        if different:
            raise WebcamconsultConflictError(
                f"{self.resource.name.capitalize()} {record['id']} of an earlier try of this task differs "
                f"in {join_names(different)} from the attributes of now. It may be a different person, so it "
                f"was not used or changed. If it is the same, update it by its {self.resource.name}_id. If "
                "it is not, use another task.",
                ids=[record["id"]],
            )

    def _check_unchanged(self, record: RecordT) -> None:
        """Fail or warn if the record of an earlier try does not have the attributes of now."""
        different = differing_attributes(self.resource, self.payload, record)
        wrong = [name for name in different if self.strict or name in self.resource.must_match]
        if wrong:
            raise WebcamconsultMismatchError(
                f"{self.resource.name.capitalize()} {record['id']} of an earlier try of this task differs in "
                f"{join_names(wrong)} from the attributes of now. It was not changed. To change it, use "
                f"if_exists='update', or update it by its {self.resource.name}_id.",
                record_id=record["id"],
                attributes=wrong,
            )
        self._warn_about_differences(record, different)

    def _find_earlier_create(self) -> RecordT | None:
        """Look up what an earlier try may have created, until its request can no longer be in progress."""
        if self.key is None and not self.earlier.get("reported"):
            self.checkpoint.write({**self.earlier, "reported": True})
            raise self._cannot_look_up(
                WebcamconsultError(f"An earlier try may have created the {self.resource.name}.")
            )
        # The clock of the earlier worker may be ahead, so never wait longer than the floor from now.
        settled_at = min(self.earlier["sent_at"], time.time()) + CREATE_FLOOR_SECONDS
        while True:
            found = None
            if self.key is not None:
                found = self._single_earlier_match()
            delay = settled_at - time.time()
            if found is not None or delay <= 0:
                break
            self.transport.log.info(
                "The request of an earlier try may still be in progress. Next check for the %s in %.0f s.",
                self.resource.name,
                delay,
            )
            time.sleep(delay)
            settled_at = self._read_again(settled_at)
            if "id" in self.earlier:
                return self._get_if_exists(self.earlier["id"])
        if found is None:
            found = self._single_match(self._existing)
        if found is None and self.key is not None and "disputed_id" in self.earlier:
            disputed = self._get_if_exists(self.earlier["disputed_id"])
            if disputed is not None:
                self._raise_disputed(disputed, None)
        return found

    def _read_again(self, settled_at: float) -> float:
        """Read the checkpoint again: an earlier try may still be running, and have sent another create."""
        latest = self.checkpoint.read()
        if latest == self.earlier:
            return settled_at
        self.earlier = latest
        self._first_sent_at = latest.get("first_sent_at")
        sent_at: float = latest.get("sent_at", 0.0)
        return min(sent_at, time.time()) + CREATE_FLOOR_SECONDS

    def _single_earlier_match(self) -> RecordT | None:
        """Return the record that an earlier try created; fail if it did so for another natural key."""
        fingerprint = self.earlier.get("fingerprint")
        matches = self._look_up(fingerprint)
        others = [
            record["id"]
            for record in matches
            if not self._shows_key(record) and not self._existed_before_create(record)
        ]
        if others:
            if len(others) == 1:
                # The proof that the earlier create was carried out, for when a person clears the task.
                self.checkpoint.write(
                    {
                        "id": others[0],
                        "outcome": "created",
                        "fingerprint": fingerprint,
                        "token": self._fingerprint(None),
                    }
                )
            raise self._other_key_error(others)
        return self._single_match(self._without_earlier([each for each in matches if self._shows_key(each)]))

    def _without_earlier(self, matches: list[RecordT]) -> list[RecordT]:
        """Return the records that a create may have made: not those that existed before it was sent."""
        self._existing = [record for record in matches if self._existed_before_create(record)]
        return [record for record in matches if record not in self._existing]

    def _existed_before_create(self, record: RecordT) -> bool:
        if self._ids_before is not None:
            return record["id"] in self._ids_before
        return existed_before(record, self._first_sent_at)

    def _iterate(self, only: Collection[str] | None = None) -> Iterator[RecordT]:
        records: Iterator[RecordT] = self.transport.send(list_request(self.resource, only=only))
        ids = set()
        for record in records:
            ids.add(record["id"])
            yield record
        if only is None:
            self._listed_ids = ids

    def _get_if_exists(self, record_id: str) -> RecordT | None:
        plural_paths = self.transport.settings.plural_paths
        try:
            record: RecordT = self.transport.send(
                get_request(self.resource, record_id, plural_paths=plural_paths)
            )
        except WebcamconsultNotFoundError:
            # Either the record was deleted, or 'plural_paths' is wrong. The list works in both cases.
            return next(self._iterate(only={record_id}), None)
        return record

    def _post(self, before_attempt: Callable[[], None]) -> RecordT:
        request = create_request(self.resource, self.payload)
        record: RecordT = self.transport.send(request, before_attempt=before_attempt)
        return record

    def _put(self, record_id: str, names: list[str]) -> RecordT:
        payload = {name: self.payload[name] for name in names}
        plural_paths = self.transport.settings.plural_paths
        request = update_request(self.resource, record_id, payload, plural_paths=plural_paths)
        record: RecordT = self.transport.send(request)
        return record

    def _delete(self, record_id: str) -> None:
        plural_paths = self.transport.settings.plural_paths
        try:
            self.transport.send(delete_request(self.resource, record_id, plural_paths=plural_paths))
        except WebcamconsultNotFoundError:
            # An earlier attempt has deleted the record and lost the response, or 'plural_paths' is wrong.
            if self._get_if_exists(record_id) is not None:
                raise

    def _before_create(self) -> None:
        """Check whether the record may be created."""

    def _after_create(self, record: RecordT, *, is_own: bool) -> None:
        """
        Check whether the created record may stay.

        :param record: the record.
        :param is_own: whether this create, or an earlier try of it, has certainly created the record.
        """

    def _create(self, round_number: int = 1) -> RecordT:
        self._before_create()
        self._ids_before = self._listed_ids
        fingerprint = self._fingerprint(self.key)
        sent: dict[str, Any] = {}

        def write_checkpoint() -> None:
            # Before each attempt, because a 429 can delay the request for longer than a retry waits for it.
            sent.update(sent_at=time.time(), fingerprint=fingerprint)
            if self._first_sent_at is None and "sent_at" not in self.earlier:
                self._first_sent_at = sent["sent_at"]
            if self._first_sent_at is not None:
                sent["first_sent_at"] = self._first_sent_at
            self.checkpoint.write(sent)

        try:
            record = self._post(write_checkpoint)
        except WebcamconsultUnknownOutcomeError as error:
            unknown = error
        except WebcamconsultError as error:
            # This request created nothing, but an earlier one may have.
            self.checkpoint.write(self.earlier)
            found = self._find_after_rejection(error)
            if found is None:
                raise
            return self._resolve_existing(found)
        else:
            return self._accept_response(record, sent, round_number)
        found = self._find_after_unknown_outcome(unknown, sent)
        if self.if_exists != "create":  # run() found no record before, so this request created it
            self._note("created")
        if self.if_exists == "reuse":
            self._after_create(found, is_own=self._is_provably_own(found, sent["sent_at"]))
            self._log_created_without_response(found)
            self._verify(found)
            return found
        return self._accept_as_created(found, since=sent["sent_at"])

    def _find_after_rejection(self, error: WebcamconsultError) -> RecordT | None:
        """Find the record that another task created between the look-up and the create."""
        if self.if_exists == "create" or not isinstance(error, WebcamconsultValidationError):
            return None
        return self._single_match(self._look_up())

    def _accept_response(self, record: RecordT, sent: dict[str, Any], round_number: int) -> RecordT:
        record = self._complete(record)
        if self._find_dispute(record, sent["sent_at"]):
            return self._resolve_dispute(record, sent)
        if self.if_exists != "create":
            # The id is stored only after this. A retry must not use this record if there is another one.
            settled = self._settle_race(record, sent["sent_at"], round_number)
            if settled["id"] != record["id"]:
                return settled
        self._after_create(record, is_own=self._is_provably_own(record, sent["sent_at"]))
        self._note("created")
        self.transport.log.info("Created %s %s.", self.resource.name, record["id"])
        self._verify(record)
        if self.if_exists == "create" and "sent_at" in self.earlier and self.key is not None:
            # Duplicates from simultaneous requests cannot be prevented, but they can be reported.
            self._single_match(self._look_up())
        return record

    def _complete(self, record: RecordT) -> RecordT:
        """Get the record if the response to the create does not show its natural key."""
        if self.key is None or all(name in record for name, _ in self.key):
            return record
        plural_paths = self.transport.settings.plural_paths
        try:
            complete: RecordT = self.transport.send(
                get_request(self.resource, record["id"], plural_paths=plural_paths)
            )
        except WebcamconsultError as error:
            self.transport.log.warning("%s", error)
            return record
        return complete

    def _find_dispute(self, record: RecordT, sent_at: float | None) -> _Dispute | None:
        """Return what shows that a record is not the one that a create, sent at a time, has created."""
        shown = f"{self.resource.name} {record['id']}"
        if different := self._disputing_attributes(record):
            return _Dispute(f"a different {join_names(different)} on {shown}", different)
        # A list from before the create is better evidence than the clocks.
        if record["id"] in (self._ids_before or ()):
            return _Dispute(f"{shown}, which existed before")
        newest = None if sent_at is None else sent_at - ANSWER_AGE_SECONDS
        if self._ids_before is None and existed_before(record, newest):
            return _Dispute(f"{shown}, which existed before, unless the clock of this machine is wrong")
        if sent_at and not (is_in_initial_state(record) or was_created_between(record, sent_at, time.time())):
            return _Dispute(f"{shown} in {describe_state(record.get('state'))}")
        return None

    def _disputing_attributes(self, record: RecordT) -> list[str]:
        """Return the attributes by which a record is not the one that is to be created."""
        if self.key is not None:
            names = [name for name, _ in self.key if name in record]
        else:
            names = [name for name in self.resource.key_attributes if record.get(name) not in (None, "")]
        different = [
            name
            for name in names
            if self.payload.get(name) not in (None, "")
            and normalize(self.resource, name, self.payload[name])
            != normalize(self.resource, name, record[name])
        ]
        if self.key is None or self._has_weak_key():
            different += compare_identity(self.resource, self.payload, record).differs
        return sorted(set(different))

    def _is_provably_own(self, record: RecordT, sent_at: float | None) -> bool:
        """Return whether a create certainly made a record, so that it may be deleted again."""
        return (
            self._shows_key(record)
            and record["id"] not in (self._ids_before or ())
            and was_created_between(record, sent_at, time.time())
        )

    def _resolve_dispute(self, record: RecordT, sent: dict[str, Any]) -> RecordT:
        """Find the created record if the response shows another one, without another create."""
        # Without a natural key, only a person can find the record. They clear the task if it is missing.
        reported = {"reported": True} if self.key is None else {}
        self.checkpoint.write({**sent, "disputed_id": record["id"], **reported})
        found = None
        try:
            if self.key is not None:
                matches = [
                    match for match in self._look_up() if not self._find_dispute(match, sent["sent_at"])
                ]
                found = self._single_match(matches)
        except WebcamconsultConflictError:
            raise
        except WebcamconsultError as error:
            self.transport.log.warning("%s", error)
        if found is None:
            self._raise_disputed(record, sent["sent_at"])
        self.transport.log.warning(
            "The response to the create showed %s. Using %s, which matches.",
            (self._find_dispute(record, sent["sent_at"]) or _Dispute(record["id"])).problem,
            found["id"],
        )
        return self._accept_as_created(found, since=sent["sent_at"])

    def _raise_disputed(self, record: RecordT, sent_at: float | None) -> NoReturn:
        dispute = self._find_dispute(record, sent_at) or _Dispute(
            f"a different {self._key_names()} on {self.resource.name} {record['id']}"
        )
        if self.key is None:
            remedy = (
                f"Look for the {self.resource.name} in Webcamconsult. If it exists, mark this task as "
                "successful; if it is missing, clear this task to create it."
            )
        else:
            remedy = (
                f"Check the {self.resource.name}; if this task created it and it is wrong, delete it and "
                "clear this task."
            )
        raise WebcamconsultMismatchError(
            f"The response to the create showed {dispute.problem}. Either Webcamconsult stored a different "
            f"value, or the response belongs to another request. No other create is sent. {remedy}",
            record_id=record["id"],
            attributes=dispute.attributes,
        )

    def _settle_race(self, own: RecordT, sent_at: float, round_number: int) -> RecordT:
        """
        Keep only one record if another task has created one with the same natural key at the same time.

        The task whose record was created second withdraws it, because nobody knows its id yet, and uses the
        first.
        """
        other = self._other_match(own)
        checks = 0
        # A record that stays is that of a task which did not see this one, and will not withdraw it.
        while other is not None and was_created_before(own, other) and checks < RACE_CHECKS_MAX:
            self.transport.log.info(
                "Another task created %s %s at the same time as %s. Next check in %.0f s.",
                self.resource.name,
                other["id"],
                own["id"],
                RACE_SECONDS,
            )
            time.sleep(RACE_SECONDS)
            checks += 1
            other = self._other_match(own)
        if other is None:
            return own
        self._check_withdrawal(own, other, sent_at)
        self.transport.log.info(
            "Another task created %s %s at the same time. Deleting %s, which nothing refers to yet.",
            self.resource.name,
            other["id"],
            own["id"],
        )
        # If the delete fails, a retry looks up both records.
        self.checkpoint.write({})
        self._delete(own["id"])
        if self._get_if_exists(other["id"]) is not None:
            return self._resolve_existing(other, is_new=True)
        if round_number >= RACE_ROUNDS_MAX:
            raise WebcamconsultConflictError(
                f"Other tasks created {self.resource.plural} with the same {self._key_names()} at the same "
                f"time, and all were withdrawn, {round_number} times in a row. Run this task again."
            )
        time.sleep(random.uniform(0, RACE_SECONDS))  # noqa: S311
        found = self._single_match(self._look_up())
        if found is not None:
            return self._resolve_existing(found, is_new=True)
        return self._create(round_number + 1)

    def _check_withdrawal(self, own: RecordT, other: RecordT, sent_at: float) -> None:
        """Fail if this create may not have made its record, or if the other one may be a different person."""
        if not self._is_provably_own(own, sent_at):
            problem = f"nothing proves that this task created {own['id']}"
            remedy = "Delete the one that is a duplicate, and clear this task."
        elif self.if_exists != "fail" and (person := self._person_problem(other, None)):
            problem, remedy = person, self._person_remedy()
        else:
            return
        raise WebcamconsultConflictError(
            f"Found {self.resource.plural} {own['id']} and {other['id']} with the same {self._key_names()} "
            f"after the create, but {problem}. Neither was deleted. {remedy}",
            ids=[own["id"], other["id"]],
        )

    def _other_match(self, own: RecordT) -> RecordT | None:
        """Return the record of the same person that another task has created."""
        others = [record for record in self._look_up() if record["id"] != own["id"]]
        if self._has_weak_key():
            others = [
                record
                for record in others
                if not compare_identity(self.resource, self.payload, record).differs
            ]
        if len(others) > 1:
            self._single_match([own, *others])
        return others[0] if others else None

    def _find_after_unknown_outcome(self, unknown: WebcamconsultError, sent: dict[str, Any]) -> RecordT:
        if self.key is None:
            self.checkpoint.write({**sent, "reported": True})
            raise self._cannot_look_up(unknown)
        for seconds in self._lookup_delays():
            time.sleep(seconds)
            try:
                found = self._single_match(self._without_earlier(self._look_up()))
            except WebcamconsultConflictError:
                raise
            except WebcamconsultError as error:
                self.transport.log.warning("%s", error)
                continue
            if found is not None:
                return found
        if self._existing:
            ids = join_names([record["id"] for record in self._existing])
            unknown = _with_remedy(
                unknown,
                WebcamconsultUnknownOutcomeError,
                f"{self.resource.name.capitalize()} {ids} with the same {self._key_names()} existed before, "
                "so it was not used.",
            )
        if self.checkpoint.persistent or self.if_exists != "create":
            raise _with_remedy(
                unknown,
                WebcamconsultUnknownOutcomeError,
                f"A retry checks whether the {self.resource.name} exists before it creates one.",
            )
        raise _with_remedy(
            unknown,
            WebcamconsultNonRetryableError,
            f"Check whether the {self.resource.name} exists in Webcamconsult before you run this again.",
        )

    def _lookup_delays(self) -> Iterator[float]:
        yield from LOOKUP_DELAYS_SECONDS
        if self.if_exists == "create" or self.checkpoint.persistent:
            return
        # The next call does not know when this request was sent, so the floor has to pass in this one.
        remaining = CREATE_FLOOR_SECONDS - sum(LOOKUP_DELAYS_SECONDS)
        while remaining > 0:
            yield min(LOOKUP_INTERVAL_SECONDS, remaining)
            remaining -= LOOKUP_INTERVAL_SECONDS

    def _cannot_look_up(self, unknown: WebcamconsultError) -> WebcamconsultError:
        return _with_remedy(
            unknown,
            WebcamconsultNonRetryableError,
            f"Cannot check whether it exists: {describe_missing_key(self.resource)}. "
            f"Look for the {self.resource.name} in Webcamconsult. If it exists, mark this task as "
            "successful; if it is missing, clear this task to create it.",
        )

    def _look_up(self, fingerprint: str | None = None) -> list[RecordT]:
        """Return the records with the natural key, or with the fingerprint of an earlier try's key."""
        matches = {}
        for record in self._iterate():
            if self._shows_key(record) or (fingerprint and fingerprint in self._fingerprints(record)):
                matches[record["id"]] = record  # a list may show a record twice
        return [*matches.values()]

    def _shows_key(self, record: RecordT) -> bool:
        return self.key is not None and natural_key(self.resource, record, like=self.key) == self.key

    def _fingerprints(self, record: RecordT) -> list[str]:
        shapes = [tuple((name, None) for name in names) for names in self.resource.natural_keys]
        keys = [natural_key(self.resource, record, like=shape) for shape in shapes]
        return [self._fingerprint(key) for key in keys if key is not None]

    def _attributes_fingerprint(self) -> str:
        values = [(name, normalize(self.resource, name, value)) for name, value in self.payload.items()]
        return self._fingerprint(tuple(sorted(values, key=lambda value: value[0])))

    def _fingerprint(self, key: NaturalKey | None) -> str:
        """Return a keyed hash of attributes, because a checkpoint must not contain personal data."""
        token = self.transport.settings.token.encode()
        return hmac.new(token, json.dumps(key, default=_utc).encode(), hashlib.sha256).hexdigest()

    def _single_match(self, matches: list[RecordT]) -> RecordT | None:
        if len(matches) > 1:
            ids = [record["id"] for record in matches]
            remedy = (
                "They may be different people. Give each of them a reference_code."
                if self._has_weak_key() and "reference_code" in self.resource.writable
                else "Cannot choose between them; delete the duplicate."
            )
            raise WebcamconsultConflictError(
                f"Found {len(ids)} {self.resource.plural} with the same {self._key_names()}: "
                f"{', '.join(ids)}. {remedy}",
                ids=ids,
            )
        return matches[0] if matches else None

    def _accept_as_created(self, record: RecordT, *, since: float | None = None) -> RecordT:
        """
        Accept a record that an earlier request seems to have created, or fail if that cannot be.

        :param since: when the request was sent.
        """
        since = self.earlier.get("sent_at") if since is None else since
        if self.if_exists in ("create", "fail") and self._existed_before_create(record):
            raise WebcamconsultConflictError(
                f"{self._describe(record)}, but existed before the create was sent. The create does not seem "
                f"to have been carried out, and the {self.resource.name} was not used. Check it. To accept "
                "it, use if_exists='reuse' or 'update'.",
                ids=[record["id"]],
            )
        self._after_create(record, is_own=self._is_provably_own(record, since))
        if self.if_exists in ("reuse", "update"):
            return self._resolve_existing(record, since=since)
        different = differing_attributes(self.resource, self.payload, record)
        # An absent value proves nothing, because the service ignores attributes that it does not know.
        different = [name for name in different if record.get(name) not in (None, "")]
        if different:
            raise WebcamconsultConflictError(
                f"{self._describe(record)}, but differs in {join_names(different)}. Cannot tell whether an "
                f"earlier try created it. Check the {self.resource.name}. To accept it, use "
                "if_exists='reuse' or 'update'.",
                ids=[record["id"]],
            )
        self._check_state(record, since)
        self._check_person(record, since)
        self._note("created")
        self._log_created_without_response(record)
        self._verify(record)
        return record

    def _log_created_without_response(self, record: RecordT) -> None:
        self.transport.log.info(
            "%s %s was created, although the response was lost.",
            self.resource.name.capitalize(),
            record["id"],
        )

    def _resolve_existing(
        self, record: RecordT, *, since: float | None = None, is_new: bool = False
    ) -> RecordT:
        if self.if_exists == "fail":
            raise WebcamconsultConflictError(
                f"{self.resource.name.capitalize()} {record['id']} with the same {self._key_names()} "
                "already exists. To accept it, use if_exists='reuse' or 'update'.",
                ids=[record["id"]],
            )
        self._check_person(record, since)
        if not is_new:
            self._check_state(record, since)
        is_own = was_created_between(record, since, time.time())
        if is_own:
            self._note("created")
            self._log_created_without_response(record)
        if self.if_exists == "update":
            return self._update_to_match(record)
        if not is_own:
            self._note("reused")
            self.transport.log.info("Reusing existing %s %s.", self.resource.name, record["id"])
        self._warn_about_differences(record, differing_attributes(self.resource, self.payload, record))
        self._write_id(record, verified=True)
        return record

    def _warn_about_differences(self, record: RecordT, different: list[str]) -> None:
        if different:
            self.transport.log.warning(
                "%s %s differs from the given attributes in %s. It was reused without changes. "
                "Use if_exists='update' to update it.",
                self.resource.name.capitalize(),
                record["id"],
                join_names(different),
            )

    def _check_person(self, record: RecordT, since: float | None) -> None:
        """Fail if the record may be a different person's, because people can share the natural key."""
        if problem := self._person_problem(record, since):
            raise WebcamconsultConflictError(
                f"{self._describe(record)}, but {problem}, so it was not used or changed. "
                f"{self._person_remedy()}",
                ids=[record["id"]],
            )

    def _person_problem(self, record: RecordT, since: float | None) -> str | None:
        if not self._has_weak_key():
            return None
        identity = compare_identity(self.resource, self.payload, record)
        if identity.differs:
            return f"differs in {join_names(identity.differs)}. It may be a different person"
        if self.resource.identity_proofs and not (
            identity.agrees or was_created_since(record, since, time.time())
        ):
            return "people can share that, and no other attribute confirms that it is the same person"
        return None

    def _person_remedy(self) -> str:
        return (
            "Give both clients a reference_code."
            if "reference_code" in self.resource.writable
            else f"To change this {self.resource.name}, update it by its {self.resource.name}_id."
        )

    def _check_state(self, record: RecordT, since: float | None) -> None:
        """Fail if the appointment was held or cancelled, unless an earlier request provably created it."""
        # The clocks' difference is no excuse here: an appointment that was just cancelled is not a new one.
        if is_in_initial_state(record) or was_created_since(record, since, time.time(), certainly=True):
            return
        raise WebcamconsultConflictError(
            f"{self._describe(record)}, but is in {describe_state(record.get('state'))}, and nothing shows "
            "that an earlier try created it. It was not used. Check the appointment. To book again, choose a "
            "different date, or delete the appointment if it was cancelled.",
            ids=[record["id"]],
        )

    def _has_weak_key(self) -> bool:
        return self.key is not None and all(name in self.resource.weak_keys for name, _ in self.key)

    def _describe(self, record: RecordT) -> str:
        return f"{self.resource.name.capitalize()} {record['id']} has the same {self._key_names()}"

    def _update_to_match(self, record: RecordT) -> RecordT:
        different = differing_attributes(self.resource, self.payload, record)
        if different:
            record = self._put(record["id"], different)
            self._note("updated")
            self.transport.log.info(
                "Updated %s of existing %s %s.", join_names(different), self.resource.name, record["id"]
            )
            self._verify(record)
        else:
            self.transport.log.info(
                "Existing %s %s already has the given attributes. Nothing was written.",
                self.resource.name,
                record["id"],
            )
            self._write_id(record, verified=True)
        return record

    def _verify(self, record: RecordT) -> None:
        """Store the id, then compare the record with the payload; a retry repeats a failed comparison."""
        self._write_id(record)
        if warning := verify_stored(self.resource, self.payload, record, strict=self.strict):
            self.transport.log.warning(warning)
        self._write_id(record, verified=True)

    def _write_id(self, record: RecordT, **progress: bool) -> None:
        self.checkpoint.write(
            {
                "id": record["id"],
                "outcome": self.outcome,
                "fingerprint": self._fingerprint(self.key),
                "attributes": self._attributes_fingerprint(),
                "token": self._fingerprint(None),
                **progress,
            }
        )

    def _note(self, outcome: CreateOutcome) -> None:
        """Note what was done to the record, unless an earlier step or try did more."""
        self.outcome = min(self.outcome, outcome, key=_OUTCOMES.index)

    def _key_names(self) -> str:
        return join_names([name for name, _ in self.key or ()])


@dataclass(frozen=True)
class _Dispute:
    """What shows that a response belongs to another request."""

    problem: str
    attributes: Sequence[str] = ()


def _utc(value: Any) -> str:
    return str(value.timestamp())


def _with_remedy(
    unknown: WebcamconsultError, error_class: type[WebcamconsultError], remedy: str
) -> WebcamconsultError:
    return error_class(
        f"{unknown} {remedy}",
        method=unknown.method,
        path=unknown.path,
        status_code=unknown.status_code,
        reason=unknown.reason,
    )
