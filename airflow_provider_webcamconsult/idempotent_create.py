"""
Create a record so that a retry never creates a second one.

The service creates a new record for every create request that it receives. So a checkpoint is written before
the request is sent, and the id is stored afterwards. If an earlier request may have succeeded, the record is
looked up by its natural key. Another request is sent only if the record does not exist, and not before
:data:`CREATE_FLOOR_SECONDS` have passed.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic

from airflow_provider_webcamconsult.api.evidence import Target
from airflow_provider_webcamconsult.api.matching import (
    describe_missing_key,
    join_names,
    was_created_before,
)
from airflow_provider_webcamconsult.api.resources import RecordT
from airflow_provider_webcamconsult.create_checkpoint import Progress
from airflow_provider_webcamconsult.create_result import Acceptance, CreateResult, check_if_exists
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConflictError,
    WebcamconsultError,
    WebcamconsultInputError,
    WebcamconsultNonRetryableError,
    WebcamconsultNotFoundError,
    WebcamconsultUnknownOutcomeError,
    WebcamconsultValidationError,
)
from airflow_provider_webcamconsult.record_requests import RecordRequests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.create_checkpoint import Checkpoint
    from airflow_provider_webcamconsult.create_result import IfExists
    from airflow_provider_webcamconsult.transport import Transport

#: Seconds after a create was sent before another one may create the same record. The service may process a
#: request long after its sender has stopped waiting.
CREATE_FLOOR_SECONDS = 300.0
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
        self.log = transport.log
        self.requests = RecordRequests(transport, resource)
        self.resource = resource
        self.payload = payload
        self.if_exists = if_exists
        self.target = Target(resource, payload)
        if self.target.key is None and if_exists != "create":
            raise WebcamconsultInputError(
                f"Cannot look up the {resource.name} for if_exists='{if_exists}': "
                f"{describe_missing_key(resource)}. Complete the attributes, or use if_exists='create'."
            )
        self.progress = Progress(checkpoint, self.target, transport.settings.token)
        self.result = Acceptance(
            self.requests, self.target, self.progress, if_exists=if_exists, strict=strict
        )
        # The ids in the last list; None if there was none.
        self._listed_ids: set[str] | None = None
        # The records with the natural key in the last list that existed before the create was sent.
        self._existing: list[RecordT] = []

    def run(self) -> CreateResult[RecordT]:
        """
        Create or find the record.

        :return: the record, and whether it was created, updated, reused or left unchanged.
        """
        record = self._create_or_find()
        return CreateResult(record, self.progress.outcome)

    def _create_or_find(self) -> RecordT:
        progress, found = self.progress, None
        if "withdrawn_id" in progress.earlier:
            self._delete_withdrawn(progress.earlier["withdrawn_id"])
        if "id" in progress.earlier:
            record = self._get_earlier()
            if record is not None:
                return self.result.accept_earlier(record)
        if "sent_at" in progress.earlier:
            found = self._find_earlier_create()
            if found is not None and "id" in progress.earlier:
                return self.result.accept_earlier(found)
        elif self.target.key is not None and (progress.earlier or self.if_exists != "create"):
            found = self._find()
        if found is None:
            return self._create()
        # A try that has sent nothing has created nothing.
        may_be_own = "sent_at" in progress.earlier or (progress.earlier and self.if_exists == "create")
        return self._accept_as_created(found) if may_be_own else self.result.accept_existing(found)

    # Hooks for the records of one kind

    def _list(self) -> Iterator[RecordT]:
        """List all records."""
        ids = set()
        for record in self.requests.iterate():
            ids.add(record["id"])
            yield record
        self._listed_ids = ids

    def _before_create(self) -> None:
        """Check whether the record may be created."""

    def _after_create(self, record: RecordT, *, is_own: bool) -> None:
        """
        Check whether the created record may stay.

        :param record: the record.
        :param is_own: whether this create has certainly made the record.
        """

    # Earlier tries

    def _get_earlier(self) -> RecordT | None:
        """Return the record of an earlier try, unless it is deleted, or a person has changed the task."""
        progress, resource = self.progress, self.resource
        record_id = progress.earlier["id"]
        record = self.requests.get_or_list(record_id)
        is_another = progress.was_for_another_key(record)
        if record is not None and not is_another:
            return record
        if record is None:
            self.log.info(
                "%s %s from an earlier try no longer exists. Creating it again.",
                resource.name.capitalize(),
                record_id,
            )
        elif progress.earlier.get("was_cleared"):
            self.log.warning(
                "An earlier try of this task was for a different %s. Its record, %s %s, stays and is not "
                "changed.",
                self.target.key_names or "person",
                resource.name,
                record_id,
            )
        else:
            raise self.target.other_key_error([record_id])
        if is_another:
            progress.forget()
        progress.outcome = "unchanged"
        return None

    def _find_earlier_create(self) -> RecordT | None:
        """Look up what an earlier try may have created, until its request can no longer be in progress."""
        progress, found = self.progress, None
        if self.target.key is None and not progress.earlier.get("looked_up"):
            progress.store_reported()
            raise self._cannot_look_up(
                WebcamconsultError(f"An earlier try may have created the {self.resource.name}.")
            )
        settled_at = progress.settled_at(CREATE_FLOOR_SECONDS)
        while True:
            if self.target.key is not None:
                found = self._find_of_earlier_try()
            delay = settled_at - time.time()
            if found is not None or delay <= 0:
                break
            self.log.info(
                "The request of an earlier try may still be in progress. Next check for the %s in %.0f s.",
                self.resource.name,
                delay,
            )
            time.sleep(delay)
            if progress.reload():
                settled_at = progress.settled_at(CREATE_FLOOR_SECONDS)
            if "id" in progress.earlier:
                return self.requests.get_or_list(progress.earlier["id"])
        if found is None:
            found = self.target.select_one(self._existing)
        if found is None and self.target.key is not None and "disputed_id" in progress.earlier:
            disputed = self.requests.get_or_list(progress.earlier["disputed_id"])
            if disputed is not None:
                raise self.target.dispute_error(disputed, progress.evidence)
        return found

    def _find_of_earlier_try(self) -> RecordT | None:
        """Return the record that an earlier try created; fail if it did so for another natural key."""
        progress = self.progress
        matches, others = {}, {}
        for record in self._list():
            if self.target.shows_key(record):
                matches[record["id"]] = record
            elif progress.has_earlier_key(record) and not progress.sent.came_after(record):
                others[record["id"]] = record
        if len(others) == 1:
            # The proof that the earlier create was carried out, for when a person clears the task.
            progress.store_other_record(*others)
        if others:
            raise self.target.other_key_error([*others])
        return self._select_new([*matches.values()])

    # Look-ups

    def _look_up(self) -> list[RecordT]:
        return self.target.select(self._list())

    def _try_look_up(self) -> list[RecordT]:
        """Return the records with the natural key, or none if the list cannot be read."""
        try:
            return self._look_up() if self.target.key is not None else []
        except WebcamconsultError as error:
            self.log.warning("%s", error)
            return []

    def _find(self) -> RecordT | None:
        return self.target.select_one(self._look_up())

    def _select_new(self, matches: list[RecordT]) -> RecordT | None:
        """Return the record that a create may have made: not one that existed before it was sent."""
        self._existing = [record for record in matches if self.progress.sent.came_after(record)]
        return self.target.select_one([record for record in matches if record not in self._existing])

    # Creates

    def _create(self, round_number: int = 1) -> RecordT:
        self._before_create()
        ids_before = self._listed_ids
        try:
            # Before each attempt, because a 429 can delay the request for longer than a retry waits for it.
            record = self.requests.create(
                self.payload, before_attempt=lambda: self.progress.store_sending(ids_before)
            )
        except WebcamconsultUnknownOutcomeError as error:
            unknown = error
        except WebcamconsultError as error:
            # This request created nothing, but an earlier one may have.
            self.progress.store_rejected()
            # Another task may have created the record between the look-up and the create.
            is_taken = self.if_exists != "create" and isinstance(error, WebcamconsultValidationError)
            found = self._find() if is_taken else None
            if found is None:
                raise
            return self.result.accept_existing(found)
        else:
            return self._accept_response(record, round_number)
        found = self._find_after_unknown_outcome(unknown)
        if self.if_exists != "create":  # run() found no record before, so this request created it
            self.progress.note("created")
        if self.if_exists == "reuse":
            self.target.check_person(found, self.progress.evidence)
            self._after_create(found, is_own=False)
            return self.result.accept_new(found, has_response=False)
        return self._accept_as_created(found)

    def _accept_as_created(self, record: RecordT) -> RecordT:
        """Accept a record that an earlier request seems to have created, or fail if that cannot be."""
        if self.if_exists in ("create", "fail"):
            self.target.check_created(record, self.progress.evidence)
        # If no response has shown it, a person may have booked it after an earlier try failed.
        self._after_create(record, is_own=record["id"] == self.progress.earlier.get("own_id"))
        if self.if_exists in ("reuse", "update"):
            return self.result.accept_existing(record)
        return self.result.accept_new(record, has_response=False)

    def _accept_response(self, record: RecordT, round_number: int) -> RecordT:
        record = self.requests.complete(record, [name for name, _ in self.target.key or ()])
        if dispute := self.target.find_dispute(record, self.progress.evidence):
            return self._resolve_dispute(record, dispute.problem)
        if self.if_exists != "create":
            # The id is stored only after this. A retry must not use this record if there is another one.
            settled = self._settle_race(record, round_number)
            if settled["id"] != record["id"]:
                return settled
        self._after_create(record, is_own=self.target.is_own(record, self.progress.evidence))
        self.result.accept_new(record)
        if self.if_exists == "create" and "sent_at" in self.progress.earlier and self.target.key is not None:
            # Duplicates from simultaneous requests cannot be prevented, but they can be reported.
            self._find()
        return record

    # Responses that may belong to another request

    def _resolve_dispute(self, record: RecordT, problem: str) -> RecordT:
        """Find the created record if the response shows another one, without another create."""
        # Without a natural key, only a person can find the record. They clear the task if it is missing.
        reported = {"reported": True} if self.target.key is None else {}
        self.progress.store_sent(disputed_id=record["id"], **reported)
        matches, evidence = self._try_look_up(), self.progress.evidence
        found = self.target.select_one(
            [match for match in matches if not self.target.find_dispute(match, evidence)]
        )
        if found is None:
            raise self.target.dispute_error(record, self.progress.evidence)
        self.log.warning(
            "The response to the create showed %s. Using %s, which matches.", problem, found["id"]
        )
        return self._accept_as_created(found)

    # Simultaneous creates

    def _settle_race(self, own: RecordT, round_number: int) -> RecordT:
        """
        Keep only one record if another task has created one with the same natural key at the same time.

        The task whose record was created second withdraws it, because nobody knows its id yet, and uses the
        first.
        """
        others = self._rivals(own, lambda: self.target.select_rivals(own, self._look_up()))
        if not others:
            return own
        other = others[0]
        is_used = self.if_exists != "fail"
        self.target.check_withdrawal(own, other, self.progress.evidence, is_used=is_used)
        self.log.info(
            "Another task created %s %s at the same time. Deleting %s, which nothing refers to yet.",
            self.resource.name,
            other["id"],
            own["id"],
        )
        self._withdraw(own["id"])
        if self.requests.get_or_list(other["id"]) is not None:
            return self.result.accept_existing(other, is_new=True)
        if round_number >= RACE_ROUNDS_MAX:
            raise WebcamconsultConflictError(
                f"Other tasks created {self.resource.plural} with the same {self.target.key_names} at the "
                f"same time, and all were withdrawn, {round_number} times in a row. Run this task again."
            )
        time.sleep(random.uniform(0, RACE_SECONDS))  # noqa: S311
        found = self._find()
        if found is not None:
            return self.result.accept_existing(found, is_new=True)
        return self._create(round_number + 1)

    def _rivals(self, own: RecordT, find: Callable[[], list[RecordT]]) -> list[RecordT]:
        """
        Return the records that conflict with the one of this create, unless their tasks withdraw them.

        :param own: the record of this create.
        :param find: lists the records that conflict with it now.
        """
        others = find()
        # A record that stays is that of a task which did not see this one, and will not withdraw it.
        for _ in range(RACE_CHECKS_MAX):
            if not others or any(was_created_before(each, own) for each in others):
                break
            self.log.info(
                "Another task created %s %s at the same time as %s. Next check in %.0f s.",
                self.resource.name,
                join_names([each["id"] for each in others]),
                own["id"],
                RACE_SECONDS,
            )
            time.sleep(RACE_SECONDS)
            others = find()
        return others

    def _withdraw(self, record_id: str) -> None:
        """Delete the record of this create again."""
        self.progress.withdraw(record_id)  # if the delete fails, a retry repeats it
        self._delete_withdrawn(record_id)

    def _delete_withdrawn(self, record_id: str) -> None:
        with suppress(WebcamconsultNotFoundError):
            self.requests.delete_and_confirm(record_id)
        self.progress.forget()

    # Unknown outcomes

    def _find_after_unknown_outcome(self, unknown: WebcamconsultError) -> RecordT:
        if self.target.key is None:
            self.progress.store_sent(reported=True)
            raise self._cannot_look_up(unknown)
        for seconds in self._lookup_delays():
            time.sleep(seconds)
            found = self._select_new(self._try_look_up())
            if found is not None:
                return found
        if self._existing:
            ids = join_names([record["id"] for record in self._existing])
            unknown = _with_remedy(
                unknown,
                WebcamconsultUnknownOutcomeError,
                f"{self.resource.name.capitalize()} {ids} with the same {self.target.key_names} existed "
                "before, so it was not used.",
            )
        if self.progress.is_persistent or self.if_exists != "create":
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
        if self.if_exists == "create" or self.progress.is_persistent:
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
