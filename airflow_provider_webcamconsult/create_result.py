"""Accept a record as the result of a create: a new one, or one that existed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal

from airflow_provider_webcamconsult.api.matching import (
    differing_attributes,
    join_names,
    verify_stored,
    was_created_between,
)
from airflow_provider_webcamconsult.api.resources import RecordT
from airflow_provider_webcamconsult.exceptions import WebcamconsultConflictError, WebcamconsultInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_webcamconsult.api.evidence import Target
    from airflow_provider_webcamconsult.create_checkpoint import CreateOutcome, Progress
    from airflow_provider_webcamconsult.record_requests import RecordRequests

#: What a create does if a record with the same natural key already exists.
IfExists = Literal["create", "reuse", "update", "fail"]
IF_EXISTS = ("create", "reuse", "update", "fail")

_WITHOUT_RESPONSE = "%s was created, although the response was lost."


def check_if_exists(if_exists: object) -> None:
    """
    Check what a create is to do if a record already exists.

    :param if_exists: the value to check.
    :raises WebcamconsultInputError: if it is not one of :data:`IfExists`.
    """
    if if_exists not in IF_EXISTS:
        raise WebcamconsultInputError(f"if_exists must be one of {', '.join(IF_EXISTS)}.")


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


class Acceptance(Generic[RecordT]):
    """
    Checks the record that a create has made or found, updates it if it has to, and stores its id.

    :param requests: sends the requests.
    :param target: the record that the create is to make.
    :param progress: the checkpoint.
    :param if_exists: what to do if a record with the same natural key already exists.
    :param strict: whether to raise an error if the service did not store an attribute as sent.
    """

    def __init__(
        self,
        requests: RecordRequests[RecordT],
        target: Target[RecordT],
        progress: Progress,
        *,
        if_exists: IfExists,
        strict: bool,
    ) -> None:
        self._requests = requests
        self._target = target
        self._progress = progress
        self._if_exists = if_exists
        self._strict = strict
        self._log = requests.transport.log

    def accept_new(self, record: RecordT, *, has_response: bool = True) -> RecordT:
        """
        Accept a record that the create has made.

        :param record: the record.
        :param has_response: whether the response to the create has shown it.
        """
        self._progress.note("created")
        message = "Created %s." if has_response else _WITHOUT_RESPONSE
        self._log.info(message, self._describe(record, is_start=not has_response))
        self._verify(record)
        return record

    def accept_earlier(self, record: RecordT) -> RecordT:
        """
        Accept the record of an earlier try, if it is for the same natural key and person.

        :param record: the record.
        :raises WebcamconsultConflictError: if it is not.
        :raises WebcamconsultMismatchError: if it does not have the attributes of now.
        """
        if self._progress.was_for_another_key(record):
            raise self._target.other_key_error([record["id"]])
        is_changed = self._progress.was_for_other_attributes
        if not self._progress.is_comparable:
            self._target.check_earlier_key(record)
        if is_changed or not self._progress.is_comparable:
            self._target.check_earlier_person(record)
        self._log.info("Using %s from an earlier try.", self._describe(record))
        if self._if_exists == "update":
            return self._update_to_match(record)
        if is_changed:
            self._warn_about_differences(record, self._target.check_earlier(record, strict=self._strict))
        self._progress.note("reused")
        if not self._progress.earlier.get("verified"):
            self._verify(record)
        elif self._progress.earlier.get("was_cleared"):
            self._progress.store_record(record["id"], verified=True)  # a retry does not count as cleared
        return record

    def accept_existing(self, record: RecordT, *, is_new: bool = False) -> RecordT:
        """
        Reuse or update a record with the same natural key that exists already.

        :param record: the record.
        :param is_new: whether another task has just created it.
        :raises WebcamconsultConflictError: with ``if_exists="fail"``, or if it may be another person's or
            another appointment.
        """
        if self._if_exists == "fail":
            raise WebcamconsultConflictError(
                f"{self._describe(record, is_start=True)} with the same {self._target.key_names} "
                "already exists. To accept it, use if_exists='reuse' or 'update'.",
                ids=[record["id"]],
            )
        self._target.check_person(record, self._progress.evidence)
        if not is_new:
            self._target.check_state(record, self._progress.evidence)
        is_own = was_created_between(record, self._progress.sent.at, time.time())
        if is_own:
            self._progress.note("created")
            self._log.info(
                "%s was created, although the response was lost.", self._describe(record, is_start=True)
            )
        if self._if_exists == "update":
            return self._update_to_match(record)
        if not is_own:
            self._progress.note("reused")
            self._log.info("Reusing existing %s.", self._describe(record))
        self._warn_about_differences(record, self._differing_attributes(record))
        self._progress.store_record(record["id"], verified=True)
        return record

    def _describe(self, record: RecordT, *, is_start: bool = False) -> str:
        name = self._target.resource.name
        return f"{name.capitalize() if is_start else name} {record['id']}"

    def _differing_attributes(self, record: RecordT) -> list[str]:
        return differing_attributes(self._target.resource, self._target.payload, record)

    def _warn_about_differences(self, record: RecordT, different: Sequence[str]) -> None:
        if different:
            self._log.warning(
                "%s differs from the given attributes in %s. It was reused without changes. "
                "Use if_exists='update' to update it.",
                self._describe(record, is_start=True),
                join_names(different),
            )

    def _update_to_match(self, record: RecordT) -> RecordT:
        different = self._differing_attributes(record)
        if not different:
            self._log.info(
                "Existing %s already has the given attributes. Nothing was written.", self._describe(record)
            )
            self._progress.store_record(record["id"], verified=True)
            return record
        changes = {name: self._target.payload[name] for name in different}
        record = self._requests.update(record["id"], changes)
        self._progress.note("updated")
        self._log.info("Updated %s of existing %s.", join_names(different), self._describe(record))
        self._verify(record)
        return record

    def _verify(self, record: RecordT) -> None:
        """Store the id, then compare the record with what was sent; a retry repeats a failed comparison."""
        self._progress.store_record(record["id"])
        resource, payload = self._target.resource, self._target.payload
        if warning := verify_stored(resource, payload, record, strict=self._strict):
            self._log.warning(warning)
        self._progress.store_record(record["id"], verified=True)
