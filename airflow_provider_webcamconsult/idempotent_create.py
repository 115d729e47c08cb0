"""
Create a record so that a retry never creates a second one.

The service creates a new record for every create request that it receives. So a checkpoint is written before
the request is sent, and the id is stored afterwards. If an earlier request may have succeeded, the record is
looked up by its natural key. The request is sent only if the record does not exist.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol

from airflow_provider_webcamconsult.api.matching import (
    describe_missing_key,
    differing_attributes,
    join_names,
    natural_key,
    verify_stored,
)
from airflow_provider_webcamconsult.api.request import (
    create_request,
    get_request,
    list_request,
    update_request,
)
from airflow_provider_webcamconsult.api.resources import RecordT
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConflictError,
    WebcamconsultError,
    WebcamconsultInputError,
    WebcamconsultNonRetryableError,
    WebcamconsultNotFoundError,
    WebcamconsultUnknownOutcomeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_webcamconsult.api.matching import NaturalKey
    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.transport import Transport

#: What a create does if a record with the same natural key already exists.
IfExists = Literal["create", "reuse", "update", "fail"]
IF_EXISTS = ("create", "reuse", "update", "fail")

#: Seconds before each look-up of a record after a create with an unknown outcome.
LOOKUP_DELAYS_SECONDS = (0.0, 1.0, 3.0)


class Checkpoint(Protocol):
    """The progress of a create, for the next try of its task."""

    #: Whether the next try reads this checkpoint before it creates a record.
    persistent: bool

    def read(self) -> Mapping[str, Any]:
        """
        Return what is known about earlier tries.

        :return: a mapping that is empty if there was no earlier try. ``id`` is the id of the record that was
            created or reused. ``sent_at`` is the latest time at which a create may have been sent, in seconds
            since the epoch. Any other content means that an earlier try may have created the record.
        """

    def write(self, value: Mapping[str, Any]) -> None:
        """
        Replace the checkpoint.

        :param value: a value as :meth:`read` returns it; an empty mapping deletes the checkpoint.
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
        if if_exists not in IF_EXISTS:
            raise WebcamconsultInputError(f"if_exists must be one of {', '.join(IF_EXISTS)}.")
        self.transport = transport
        self.resource = resource
        self.payload = payload
        self.if_exists = if_exists
        self.strict = strict
        self.checkpoint = checkpoint
        self.earlier = checkpoint.read()
        self.key = natural_key(self.resource, payload)
        if self.key is None and if_exists != "create":
            raise WebcamconsultInputError(
                f"Cannot look up the {self.resource.name} for if_exists='{if_exists}': "
                f"{describe_missing_key(self.resource)}. Complete the attributes, or use if_exists='create'."
            )

    def run(self) -> RecordT:
        """
        Create or find the record.

        :return: the record.
        """
        if "id" in self.earlier:
            record = self._from_checkpoint(self.earlier["id"])
            if record is not None:
                return record
        if "sent_at" in self.earlier:
            found = self._find_earlier_create()
        elif self.key is not None and (self.earlier or self.if_exists != "create"):
            found = self._single_match(self._look_up())
        else:
            found = None
        if found is None:
            return self._create()
        return self._accept_as_created(found) if self.earlier else self._resolve_existing(found)

    def _from_checkpoint(self, record_id: str) -> RecordT | None:
        try:
            record = self._get(record_id)
        except WebcamconsultNotFoundError:
            # Either the record was deleted, or 'plural_paths' is wrong. The list works in both cases.
            matches = [record for record in self._list() if record["id"] == record_id]
            if not matches:
                self.transport.log.info(
                    "%s %s from an earlier try no longer exists. Creating it again.",
                    self.resource.name.capitalize(),
                    record_id,
                )
                return None
            record = matches[0]
        self.transport.log.info("Using %s %s from an earlier try.", self.resource.name, record_id)
        if self.if_exists == "update":
            return self._update_to_match(record)
        if not self.earlier.get("verified"):
            self._verify(record)
        return record

    def _find_earlier_create(self) -> RecordT | None:
        """Look up what an earlier try may have created, until its request can no longer be in progress."""
        if self.key is None:
            self.checkpoint.write({})
            raise self._cannot_look_up(
                WebcamconsultError(f"An earlier try may have created the {self.resource.name}.")
            )
        timeout = self.transport.settings.timeout
        # The clock of the earlier worker may be ahead, so never wait longer than the timeout from now.
        settled_at = min(self.earlier["sent_at"], time.time()) + timeout
        while True:
            found = self._single_match(self._look_up(self.earlier.get("fingerprint")))
            delay = settled_at - time.time()
            if found is not None or delay <= 0:
                return found
            self.transport.log.info(
                "The request of an earlier try may still be in progress. Next check for the %s in %.0f s.",
                self.resource.name,
                delay,
            )
            time.sleep(delay)

    def _list(self) -> list[RecordT]:
        records: list[RecordT] = self.transport.send(list_request(self.resource))
        return records

    def _get(self, record_id: str) -> RecordT:
        plural_paths = self.transport.settings.plural_paths
        record: RecordT = self.transport.send(
            get_request(self.resource, record_id, plural_paths=plural_paths)
        )
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

    def _create(self) -> RecordT:
        fingerprint = self._fingerprint(self.key)

        def write_checkpoint() -> None:
            # Before each attempt, because a 429 can delay the request for longer than a retry waits for it.
            self.checkpoint.write({"sent_at": time.time(), "fingerprint": fingerprint})

        try:
            record = self._post(write_checkpoint)
        except WebcamconsultUnknownOutcomeError as error:
            unknown = error
        except WebcamconsultError:
            # This request created nothing, but an earlier one may have.
            self.checkpoint.write(self.earlier)
            raise
        else:
            self._verify(record)
            if "sent_at" in self.earlier:
                # Duplicates from simultaneous requests cannot be prevented, but they can be reported.
                self._single_match(self._look_up())
            return record
        found = self._find_after_unknown_outcome(unknown)
        if self.if_exists == "reuse":  # run() found no record before, so this request created it
            self._verify(found)
            return found
        return self._accept_as_created(found)

    def _find_after_unknown_outcome(self, unknown: WebcamconsultUnknownOutcomeError) -> RecordT:
        if self.key is None:
            self.checkpoint.write({})
            raise self._cannot_look_up(unknown)
        for seconds in LOOKUP_DELAYS_SECONDS:
            time.sleep(seconds)
            try:
                found = self._single_match(self._look_up())
            except WebcamconsultConflictError:
                raise
            except WebcamconsultError as error:
                self.transport.log.warning("%s", error)
                continue
            if found is not None:
                return found
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

    def _cannot_look_up(self, unknown: WebcamconsultError) -> WebcamconsultError:
        return _with_remedy(
            unknown,
            WebcamconsultNonRetryableError,
            f"Cannot check whether it exists: {describe_missing_key(self.resource)}. "
            f"If the {self.resource.name} is missing from Webcamconsult, clear this task to create it.",
        )

    def _look_up(self, fingerprint: str | None = None) -> list[RecordT]:
        """Return the records with the natural key, or with the fingerprint of an earlier try's key."""
        matches = []
        for record in self._list():
            key = natural_key(self.resource, record, like=self.key)
            if key == self.key or (fingerprint and fingerprint in self._fingerprints(record)):
                matches.append(record)
        return matches

    def _fingerprints(self, record: RecordT) -> list[str]:
        shapes = [tuple((name, None) for name in names) for names in self.resource.natural_keys]
        keys = [natural_key(self.resource, record, like=shape) for shape in shapes]
        return [self._fingerprint(key) for key in keys if key is not None]

    def _fingerprint(self, key: NaturalKey | None) -> str:
        """Return a keyed hash of a natural key, because a checkpoint must not contain personal data."""
        token = self.transport.settings.token.encode()
        return hmac.new(token, json.dumps(key, default=_utc).encode(), hashlib.sha256).hexdigest()

    def _single_match(self, matches: list[RecordT]) -> RecordT | None:
        if len(matches) > 1:
            ids = [record["id"] for record in matches]
            raise WebcamconsultConflictError(
                f"Found {len(ids)} {self.resource.plural} with the same {self._key_names()}: "
                f"{', '.join(ids)}. Cannot choose between them; "
                f"delete the {'duplicate' if len(ids) == 2 else 'duplicates'}.",
                ids=ids,
            )
        return matches[0] if matches else None

    def _accept_as_created(self, record: RecordT) -> RecordT:
        """Accept a record that an earlier request seems to have created, or fail if its values differ."""
        if self.if_exists in ("reuse", "update"):
            return self._resolve_existing(record)
        different = differing_attributes(self.resource, self.payload, record)
        # An absent value proves nothing, because the service ignores attributes that it does not know.
        different = [name for name in different if record.get(name) not in (None, "")]
        if different:
            raise WebcamconsultConflictError(
                f"{self.resource.name.capitalize()} {record['id']} has the same {self._key_names()}, but "
                f"differs in {join_names(different)}. Cannot tell whether an earlier try created it. "
                f"Check the {self.resource.name}. To accept it, use if_exists='reuse' or 'update'.",
                ids=[record["id"]],
            )
        self.transport.log.info(
            "%s %s was created, although the response was lost.",
            self.resource.name.capitalize(),
            record["id"],
        )
        self._verify(record)
        return record

    def _resolve_existing(self, record: RecordT) -> RecordT:
        different = differing_attributes(self.resource, self.payload, record)
        different_identity = [
            name for name in different if name in self.resource.identity_attributes and record.get(name)
        ]
        if different_identity and "reference_code" not in self._key_names() and self.if_exists != "fail":
            raise WebcamconsultConflictError(
                f"{self.resource.name.capitalize()} {record['id']} has the same {self._key_names()}, but "
                f"differs in {join_names(different_identity)}. It may be a different person, so nothing "
                "was changed. Give both clients a reference_code.",
                ids=[record["id"]],
            )
        if self.if_exists == "fail":
            raise WebcamconsultConflictError(
                f"{self.resource.name.capitalize()} {record['id']} with the same {self._key_names()} "
                "already exists. To accept it, use if_exists='reuse' or 'update'.",
                ids=[record["id"]],
            )
        if self.if_exists == "update":
            return self._update_to_match(record)
        self.transport.log.info("Reusing existing %s %s.", self.resource.name, record["id"])
        if different:
            self.transport.log.warning(
                "%s %s differs from the given attributes in %s. It was reused without changes. "
                "Use if_exists='update' to update it.",
                self.resource.name.capitalize(),
                record["id"],
                join_names(different),
            )
        self.checkpoint.write({"id": record["id"], "verified": True})
        return record

    def _update_to_match(self, record: RecordT) -> RecordT:
        different = differing_attributes(self.resource, self.payload, record)
        if different:
            self.transport.log.info(
                "Updating %s of %s %s.", join_names(different), self.resource.name, record["id"]
            )
            record = self._put(record["id"], different)
            self._verify(record)
        else:
            self.checkpoint.write({"id": record["id"], "verified": True})
        return record

    def _verify(self, record: RecordT) -> None:
        """Store the id, then compare the record with the payload; a retry repeats a failed comparison."""
        self.checkpoint.write({"id": record["id"]})
        if warning := verify_stored(self.resource, self.payload, record, strict=self.strict):
            self.transport.log.warning(warning)
        self.checkpoint.write({"id": record["id"], "verified": True})

    def _key_names(self) -> str:
        return join_names([name for name, _ in self.key or ()])


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
