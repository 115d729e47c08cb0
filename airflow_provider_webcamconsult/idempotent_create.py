"""
A create leaves exactly one record, whatever happens to the answer, the worker or the task.

The service creates again each time it is sent a create. So the intent is noted before it is sent and the id
after; where an earlier send may have been carried out, the record is looked for by its natural key, and only
if it is not there is a create sent.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol

from airflow_provider_webcamconsult.api.matching import (
    differing_attributes,
    natural_key,
    natural_key_names,
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

#: What a create does with a record that has the same natural key.
IfExists = Literal["create", "reuse", "update", "fail"]
IF_EXISTS = ("create", "reuse", "update", "fail")

#: Seconds before each look for a record whose creation has an unknown outcome.
LOOKUP_DELAYS_SECONDS = (0.0, 1.0, 3.0)


class Checkpoint(Protocol):
    """What survives of a create when its process does not."""

    #: Whether the next try looks at this checkpoint before it creates.
    persistent: bool

    def read(self) -> Mapping[str, Any]:
        """
        Return what is known of earlier tries.

        Empty: there was none. With ``sent_at``: when a create was sent at the latest, in seconds since the
        epoch. With ``id``: the record that was created or taken. Anything else: there was one, perhaps.
        """

    def write(self, value: Mapping[str, Any]) -> None:
        """
        Keep a value.

        :param value: as :meth:`read` returns it; an empty one forgets.
        """


class NoCheckpoint:
    """For a create outside of an operator: each run begins anew."""

    persistent = False

    def read(self) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    def write(self, value: Mapping[str, Any]) -> None:
        """
        Keep nothing.

        :param value: is forgotten.
        """


class IdempotentCreate(Generic[RecordT]):
    """
    One record to create.

    :param transport: what sends the requests.
    :param resource: the kind of record.
    :param payload: its serialized attributes.
    :param if_exists: what to do with a record that has the same natural key.
    :param strict: whether an attribute that the service did not keep is an error.
    :param checkpoint: what survives of an earlier try.
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
                f"if_exists='{if_exists}' needs what {self.resource.with_article} is found by: "
                f"{natural_key_names(self.resource)}."
            )

    def run(self) -> RecordT:
        """Return the one record."""
        if "id" in self.earlier:
            remembered = self._from_checkpoint(self.earlier["id"])
            if remembered is not None:
                return remembered
        if "sent_at" in self.earlier:
            found = self._find_earlier_create()
        elif self.key is not None and (self.earlier or self.if_exists != "create"):
            found = self._at_most_one(self._look_up())
        else:
            found = None
        if found is None:
            return self._create()
        return self._accept_as_created(found) if self.earlier else self._resolve_existing(found)

    def _from_checkpoint(self, record_id: str) -> RecordT | None:
        try:
            record = self._get(record_id)
        except WebcamconsultNotFoundError:
            # Gone, or the connection says the wrong path: the list tells.
            there = [record for record in self._list() if record["id"] == record_id]
            if not there:
                self._log("was deleted since an earlier try created it; it is created anew", record_id)
                return None
            record = there[0]
        self._log("was created by an earlier try", record_id)
        if self.if_exists == "update":
            return self._updated_to_match(record)
        if not self.earlier.get("verified"):
            self._verify(record)
        return record

    def _find_earlier_create(self) -> RecordT | None:
        """Look for what an earlier try may have created, until its request can no longer be under way."""
        if self.key is None:
            self.checkpoint.write({})
            raise self._cannot_look_up(
                WebcamconsultError(f"An earlier try may have created the {self.resource.name}.")
            )
        timeout = self.transport.settings.timeout
        # At the most from now, whatever the clock of the other worker said.
        settled_at = min(self.earlier["sent_at"], time.time()) + timeout
        while True:
            found = self._at_most_one(self._look_up(self.earlier.get("fingerprint")))
            pause = settled_at - time.time()
            if found is not None or pause <= 0:
                return found
            self.transport.log.info(
                "An earlier try may still be creating the %s; looking again in %.0f s.",
                self.resource.name,
                pause,
            )
            time.sleep(pause)

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

        def intend() -> None:
            # Each time: a 429 can put the request off for longer than a retry waits for it.
            self.checkpoint.write({"sent_at": time.time(), "fingerprint": fingerprint})

        try:
            record = self._post(intend)
        except WebcamconsultUnknownOutcomeError as error:
            unknown = error
        except WebcamconsultError:
            self.checkpoint.write(self.earlier)  # surely not created; an earlier one perhaps
            raise
        else:
            self._verify(record)
            if "sent_at" in self.earlier:
                # Two workers that send at the same instant cannot be prevented, but told.
                self._at_most_one(self._look_up())
            return record
        found = self._find_after(unknown)
        if self.if_exists == "reuse":  # it was not there before
            self._verify(found)
            return found
        return self._accept_as_created(found)

    def _find_after(self, unknown: WebcamconsultUnknownOutcomeError) -> RecordT:
        if self.key is None:
            self.checkpoint.write({})
            raise self._cannot_look_up(unknown)
        for seconds in LOOKUP_DELAYS_SECONDS:
            time.sleep(seconds)
            try:
                found = self._at_most_one(self._look_up())
            except WebcamconsultConflictError:
                raise
            except WebcamconsultError as error:
                self.transport.log.warning("%s", error)
                continue
            if found is not None:
                return found
        if self.checkpoint.persistent or self.if_exists != "create":
            raise _reraise_as(
                unknown, WebcamconsultUnknownOutcomeError, "A retry looks for it before it creates one."
            )
        raise _reraise_as(
            unknown,
            WebcamconsultNonRetryableError,
            "Look whether it is at the service before you run this again.",
        )

    def _cannot_look_up(self, unknown: WebcamconsultError) -> WebcamconsultError:
        return _reraise_as(
            unknown,
            WebcamconsultNonRetryableError,
            f"It cannot be looked for: {self.resource.with_article} is found by "
            f"{natural_key_names(self.resource)}. If it is not at the service, clear this task.",
        )

    def _look_up(self, fingerprint: str | None = None) -> list[RecordT]:
        """Find by natural key; by that of an earlier try too, which may have had another."""
        matches = []
        for record in self._list():
            key = natural_key(self.resource, record, like=self.key)
            if key == self.key or (fingerprint and fingerprint in self._fingerprints(record)):
                matches.append(record)
        return matches

    def _fingerprints(self, record: RecordT) -> list[str]:
        likes = [tuple((name, None) for name in names) for names in self.resource.natural_keys]
        keys = [natural_key(self.resource, record, like=like) for like in likes]
        return [self._fingerprint(key) for key in keys if key is not None]

    def _fingerprint(self, key: NaturalKey | None) -> str:
        """Write a natural key so that it can be compared, but not read: it is stored, and a person's."""
        token = self.transport.settings.token.encode()
        return hmac.new(token, json.dumps(key, default=_utc).encode(), hashlib.sha256).hexdigest()

    def _at_most_one(self, found: list[RecordT]) -> RecordT | None:
        if len(found) > 1:
            ids = [record["id"] for record in found]
            raise WebcamconsultConflictError(
                f"There are {len(ids)} {self.resource.plural} with the same {self._key_names()}: "
                f"{', '.join(ids)}. Which is meant is not for this task to guess: delete the others.",
                ids=ids,
            )
        return found[0] if found else None

    def _accept_as_created(self, record: RecordT) -> RecordT:
        """Take what an earlier send seems to have created, unless it is somebody else's."""
        if self.if_exists in ("reuse", "update"):
            return self._resolve_existing(record)
        different = differing_attributes(self.resource, self.payload, record)
        # What is absent from the answer tells nothing: the service ignores what it does not know.
        different = [name for name in different if record.get(name) not in (None, "")]
        if different:
            raise WebcamconsultConflictError(
                f"{self.resource.name.capitalize()} {record['id']} has the same {self._key_names()}, but "
                f"another {', '.join(different)}. Whether an earlier try created it is not for this task "
                "to guess: look at it, and decide with if_exists.",
                ids=[record["id"]],
            )
        self._log("is there: the create was carried out, though its answer was lost", record["id"])
        self._verify(record)
        return record

    def _resolve_existing(self, record: RecordT) -> RecordT:
        different = differing_attributes(self.resource, self.payload, record)
        another = [
            name for name in different if name in self.resource.identity_attributes and record.get(name)
        ]
        if another and "reference_code" not in self._key_names() and self.if_exists != "fail":
            raise WebcamconsultConflictError(
                f"{self.resource.name.capitalize()} {record['id']} has the same {self._key_names()}, but "
                f"another {', '.join(another)}: it may be another person. Give both a reference_code.",
                ids=[record["id"]],
            )
        if self.if_exists == "fail":
            raise WebcamconsultConflictError(
                f"{self.resource.name.capitalize()} {record['id']} with the same {self._key_names()} exists. "
                "Use if_exists='reuse' to take it, or 'update' to bring it in line.",
                ids=[record["id"]],
            )
        if self.if_exists == "update":
            return self._updated_to_match(record)
        self._log("exists and is taken", record["id"])
        if different:
            self.transport.log.warning(
                "%s %s has another %s than was given; if_exists='update' brings it in line.",
                self.resource.name.capitalize(),
                record["id"],
                ", ".join(different),
            )
        self.checkpoint.write({"id": record["id"], "verified": True})
        return record

    def _updated_to_match(self, record: RecordT) -> RecordT:
        different = differing_attributes(self.resource, self.payload, record)
        if different:
            self._log(f"is brought in line in {', '.join(different)}", record["id"])
            record = self._put(record["id"], different)
            self._verify(record)
        else:
            self.checkpoint.write({"id": record["id"], "verified": True})
        return record

    def _verify(self, record: RecordT) -> None:
        """Note the id, and whether the service kept what was sent: where not, a retry says so again."""
        self.checkpoint.write({"id": record["id"]})
        if warning := verify_stored(self.resource, self.payload, record, strict=self.strict):
            self.transport.log.warning(warning)
        self.checkpoint.write({"id": record["id"], "verified": True})

    def _key_names(self) -> str:
        return " and ".join(name for name, _ in self.key or ())

    def _log(self, what: str, record_id: str) -> None:
        self.transport.log.info("%s %s %s.", self.resource.name.capitalize(), record_id, what)


def _utc(value: Any) -> str:
    return str(value.timestamp())


def _reraise_as(
    unknown: WebcamconsultError, error_class: type[WebcamconsultError], remedy: str
) -> WebcamconsultError:
    return error_class(
        f"{unknown} {remedy}",
        method=unknown.method,
        path=unknown.path,
        status_code=unknown.status_code,
        reason=unknown.reason,
    )
