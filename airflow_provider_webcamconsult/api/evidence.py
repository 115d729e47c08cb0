"""
Decide whether a record is the one that a create was to make: what proves it, and what disputes it.

What is not proved is an error. It names the record and the attributes, but no values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic

from airflow_provider_webcamconsult.api.matching import (
    compare_identity,
    differing_attributes,
    existed_before,
    is_in_initial_state,
    join_names,
    natural_key,
    normalize,
    was_created_between,
    was_created_since,
)
from airflow_provider_webcamconsult.api.missing import is_no_key
from airflow_provider_webcamconsult.api.resources import RecordT
from airflow_provider_webcamconsult.api.states import describe_state
from airflow_provider_webcamconsult.exceptions import WebcamconsultConflictError, WebcamconsultMismatchError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from airflow_provider_webcamconsult.api.matching import NaturalKey
    from airflow_provider_webcamconsult.api.resources import Resource

#: Seconds by which the record in a create's response must be older than the create to be certainly another
#: one. Less proves nothing, because the clock of a worker can be hours off.
ANSWER_AGE_SECONDS = 86400.0


@dataclass(frozen=True)
class Sent:
    """
    When a create was sent, and what existed before. Times are in seconds since the epoch.

    :param at: when it was last sent; None if none was sent that may have made a record.
    :param until: the current time.
    :param first_at: when the first create of any try was sent; None if that is not known.
    :param ids_before: ids of all records in a list from before the create; None if there was no list.
    """

    at: float | None = None
    until: float = 0.0
    first_at: float | None = None
    ids_before: Collection[str] | None = None

    def came_after(self, record: Mapping[str, Any]) -> bool:
        """
        Return whether a record existed before the create was sent.

        :param record: the record.
        """
        # A list is better evidence than the clocks.
        if self.ids_before is not None:
            return record["id"] in self.ids_before
        return existed_before(record, self.first_at)


@dataclass(frozen=True)
class Dispute:
    """
    What shows that a record is not the one that a create has made.

    :param problem: a noun phrase for a message.
    :param attributes: names of the attributes that show it.
    """

    problem: str
    attributes: Sequence[str] = ()


class Target(Generic[RecordT]):
    """
    The record that a create is to make, and the judgement whether a record is that one.

    :param resource: the kind of record.
    :param payload: the serialized attributes.
    :param key_name: name of the attribute that identifies the record. By default, the first natural key that
        is complete.
    """

    def __init__(
        self, resource: Resource[Any, RecordT], payload: Mapping[str, Any], *, key_name: str | None = None
    ) -> None:
        self.resource = resource
        self.payload = payload
        like = None if key_name is None else ((key_name, None),)
        #: The natural key; None if it is not complete.
        self.key: NaturalKey | None = natural_key(resource, payload, like=like)
        #: Its names, for a message.
        self.key_names = join_names([name for name, _ in self.key or ()])
        #: Whether people can share it.
        self.has_weak_key = bool(self.key) and all(name in resource.weak_keys for name, _ in self.key or ())

    def _describe(self, record: RecordT) -> str:
        """Return the beginning of a sentence about a record with the same natural key."""
        return f"{self.resource.name.capitalize()} {record['id']} has the same {self.key_names}"

    def shows_key(self, record: RecordT) -> bool:
        """
        Return whether a record has the natural key.

        :param record: the record.
        """
        return self.key is not None and natural_key(self.resource, record, like=self.key) == self.key

    def select(self, records: Iterable[RecordT]) -> list[RecordT]:
        """
        Return the records with the natural key.

        :param records: the records. A list may show one twice.
        """
        return [*{record["id"]: record for record in records if self.shows_key(record)}.values()]

    def _differing_identity(self, record: RecordT) -> list[str]:
        """Return the attributes by which a record is a different one, or a different person's."""
        # An attribute of the key that the record lacks does not count.
        names = {name for name, _ in self.key or () if name in record}
        people: Sequence[str] = ()
        if self.key is None or self.has_weak_key:
            names |= {name for name in self.resource.key_attributes if not is_no_key(record.get(name) or "")}
            people = compare_identity(self.resource, self.payload, record).differs
        return sorted({*filter(lambda name: self._differs(name, record), names), *people})

    def _differs(self, name: str, record: RecordT) -> bool:
        sent = self.payload.get(name)
        if sent in (None, ""):
            return False
        return bool(normalize(self.resource, name, sent) != normalize(self.resource, name, record[name]))

    def _lost(self, name: str, record: RecordT) -> bool:
        sent = normalize(self.resource, name, self.payload.get(name))
        return sent not in (None, "") and record.get(name, name) in (None, "")

    def _shows_identity(self, record: RecordT) -> bool:
        """Return whether a record has everything that was sent to tell people apart."""
        resource = self.resource
        sent = {name: self.payload[name] for name in resource.identity_attributes if name in self.payload}
        return not differing_attributes(resource, sent, record)

    def find_dispute(self, record: RecordT, sent: Sent) -> Dispute | None:
        """
        Return what shows that a record is not the one that a create has made.

        :param record: the record in the response, or in a list.
        :param sent: the create.
        """
        shown = f"{self.resource.name} {record['id']}"
        different = self._differing_identity(record)
        if self.key is None or self.has_weak_key:
            # A new record has what was sent, while that of another person may have nothing there.
            different += [name for name in self.resource.identity_attributes if self._lost(name, record)]
        if different:
            return Dispute(f"a different {join_names(different)} on {shown}", different)
        if absent := [name for name, _ in self.key or () if name not in record]:
            return Dispute(f"no {join_names(absent)} on {shown}", absent)
        if sent.ids_before is not None and record["id"] in sent.ids_before:
            return Dispute(f"{shown}, which existed before")
        if sent.at is None:
            return None
        if sent.ids_before is None and existed_before(record, sent.at - ANSWER_AGE_SECONDS):
            return Dispute(f"{shown}, which existed before, unless the clock of this machine is wrong")
        if not (is_in_initial_state(record) or was_created_between(record, sent.at, sent.until)):
            return Dispute(f"{shown} in {describe_state(record.get('state'))}")
        return None

    def is_own(self, record: RecordT, sent: Sent) -> bool:
        """
        Return whether a create certainly made a record, so that it may be deleted again.

        :param record: the record.
        :param sent: the create.
        """
        return (
            self.shows_key(record)
            and (not self.has_weak_key or self._shows_identity(record))
            and record["id"] not in (sent.ids_before or ())
            and was_created_between(record, sent.at, sent.until)
        )

    def find_person_problem(self, record: RecordT, sent: Sent) -> str | None:
        """
        Return why a record with the natural key may be a different person's.

        :param record: the record.
        :param sent: the create that may have made it.
        :return: a clause for a message, or None.
        """
        if not self.has_weak_key:
            return None
        if differs := self._differing_identity(record):
            return f"differs in {join_names(differs)}. It may be a different person"
        is_confirmed = not self.resource.identity_proofs or (
            compare_identity(self.resource, self.payload, record).agrees
            or (was_created_since(record, sent.at, sent.until) and self._shows_identity(record))
        )
        return (
            None
            if is_confirmed
            else "people can share that, and no other attribute confirms that it is the same person"
        )

    @cached_property
    def person_remedy(self) -> str:
        """What to do if a record may be a different person's."""
        if "reference_code" in self.resource.writable:
            return f"Give both {self.resource.plural} a reference_code."
        return f"To change this {self.resource.name}, update it by its {self.resource.name}_id."

    def check_person(self, record: RecordT, sent: Sent) -> None:
        """
        Fail if a record with the natural key may be a different person's.

        :param record: the record.
        :param sent: the create that may have made it.
        :raises WebcamconsultConflictError: if it may be.
        """
        if problem := self.find_person_problem(record, sent):
            raise WebcamconsultConflictError(
                f"{self._describe(record)}, but {problem}, so it was not used or changed. "
                f"{self.person_remedy}",
                ids=[record["id"]],
            )

    def dispute_error(self, record: RecordT, sent: Sent) -> WebcamconsultMismatchError:
        """
        Return the error of a create whose response showed another record, if its own was not found.

        :param record: the record in the response.
        :param sent: the create.
        """
        dispute = self.find_dispute(record, sent) or Dispute(
            f"a different {self.key_names} on {self.resource.name} {record['id']}"
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
        return WebcamconsultMismatchError(
            f"The response to the create showed {dispute.problem}. Either Webcamconsult stored a different "
            f"value, or the response belongs to another request. No other create is sent. {remedy}",
            record_id=record["id"],
            attributes=dispute.attributes,
        )

    def check_state(self, record: RecordT, sent: Sent) -> None:
        """
        Fail if an appointment was held or cancelled, unless a create provably made it.

        :param record: the record.
        :param sent: the create that may have made it.
        :raises WebcamconsultConflictError: if it was.
        """
        # The clocks' difference is no excuse here: an appointment that was just cancelled is not a new one.
        if is_in_initial_state(record) or was_created_since(record, sent.at, sent.until, certainly=True):
            return
        raise WebcamconsultConflictError(
            f"{self._describe(record)}, but is in {describe_state(record.get('state'))}, and nothing shows "
            "that an earlier try created it. It was not used. Check the appointment. To book again, choose a "
            "different date, or delete the appointment if it was cancelled.",
            ids=[record["id"]],
        )

    def check_created(self, record: RecordT, sent: Sent) -> None:
        """
        Fail if a record with the natural key is not the one that a create without a response has made.

        :param record: the record.
        :param sent: the create that may have made it.
        :raises WebcamconsultConflictError: if it may be another one.
        """
        if sent.came_after(record):
            raise WebcamconsultConflictError(
                f"{self._describe(record)}, but existed before the create was sent. The create does not seem "
                f"to have been carried out, and the {self.resource.name} was not used. Check it. To accept "
                "it, use if_exists='reuse' or 'update'.",
                ids=[record["id"]],
            )
        # An absent value proves nothing, because the service ignores attributes that it does not know.
        different = [
            name
            for name in differing_attributes(self.resource, self.payload, record)
            if record.get(name) not in (None, "")
        ]
        if different:
            raise WebcamconsultConflictError(
                f"{self._describe(record)}, but differs in {join_names(different)}. Cannot tell whether an "
                f"earlier try created it. Check the {self.resource.name}. To accept it, use "
                "if_exists='reuse' or 'update'.",
                ids=[record["id"]],
            )
        self.check_state(record, sent)
        self.check_person(record, sent)

    def check_earlier_person(self, record: RecordT) -> None:
        """
        Fail if the record of an earlier try with other attributes may be a different person's.

        :param record: the record.
        :raises WebcamconsultConflictError: if it may be.
        """
        if (self.key is None or self.has_weak_key) and (different := self._differing_identity(record)):
            raise WebcamconsultConflictError(
                f"{self.resource.name.capitalize()} {record['id']} of an earlier try of this task differs "
                f"in {join_names(different)} from the attributes of now. It may be a different person, so it "
                f"was not used or changed. If it is the same, update it by its {self.resource.name}_id. If "
                "it is not, use another task.",
                ids=[record["id"]],
            )

    def check_earlier_key(self, record: RecordT) -> None:
        """
        Fail if the record of an earlier try whose attributes are unknown has a different natural key.

        :param record: the record.
        :raises WebcamconsultConflictError: if it has.
        """
        if self.key is not None and not self.shows_key(record):
            raise WebcamconsultConflictError(
                f"{self.resource.name.capitalize()} {record['id']} of an earlier try of this task has a "
                f"different {self.key_names} from the attributes of now. The API token has been replaced "
                f"since, so the task cannot tell which of them has changed. The {self.resource.name} was not "
                "used or changed, and no other was created. Check it. If it is right, mark this task as "
                "successful; to create one with the attributes of now, start another run.",
                ids=[record["id"]],
            )

    def other_key_error(self, ids: list[str]) -> WebcamconsultConflictError:
        """
        Return the error of a retry for a different natural key.

        :param ids: ids of the records that an earlier try has created.
        """
        return WebcamconsultConflictError(
            f"An earlier try of this task, with other attributes, created {self.resource.name} "
            f"{join_names(ids)}. This try is for a different {self.key_names or 'record'}, so the "
            f"{self.resource.name} was not used or changed, and no other was created. Check it. If "
            "it is right, mark this task as successful; to create one with the attributes of now too, clear "
            "it.",
            ids=ids,
        )

    def check_earlier(self, record: RecordT, *, strict: bool) -> list[str]:
        """
        Compare the record of an earlier try with attributes that have changed since.

        :param record: the record.
        :param strict: whether any difference is an error.
        :return: the attributes that differ, if that is no error.
        :raises WebcamconsultMismatchError: if a date, duration, id or natural key differs.
        """
        different = differing_attributes(self.resource, self.payload, record)
        wrong = [name for name in different if strict or name in self.resource.must_match]
        if wrong:
            raise WebcamconsultMismatchError(
                f"{self.resource.name.capitalize()} {record['id']} of an earlier try of this task differs in "
                f"{join_names(wrong)} from the attributes of now. It was not changed. To change it, use "
                f"if_exists='update', or update it by its {self.resource.name}_id.",
                record_id=record["id"],
                attributes=wrong,
            )
        return different

    def select_one(self, matches: Sequence[RecordT]) -> RecordT | None:
        """
        Return the only record with the natural key, if there is one.

        :param matches: all records with it.
        :raises WebcamconsultConflictError: if there are several.
        """
        if len(matches) > 1:
            ids = [record["id"] for record in matches]
            remedy = (
                "They may be different people. Give each of them a reference_code."
                if self.has_weak_key and "reference_code" in self.resource.writable
                else "Cannot choose between them; delete the duplicate."
            )
            raise WebcamconsultConflictError(
                f"Found {len(ids)} {self.resource.plural} with the same {self.key_names}: "
                f"{', '.join(ids)}. {remedy}",
                ids=ids,
            )
        return matches[0] if matches else None

    def select_rivals(self, own: RecordT, matches: Iterable[RecordT]) -> list[RecordT]:
        """
        Return the record of the same person that another task has created at the same time, if there is one.

        :param own: the record of this task.
        :param matches: the records with the natural key.
        :raises WebcamconsultConflictError: if there are several.
        """
        others = [
            record
            for record in matches
            if record["id"] != own["id"] and not (self.has_weak_key and self._differing_identity(record))
        ]
        if len(others) > 1:
            self.select_one([own, *others])
        return others

    def check_withdrawal(self, own: RecordT, other: RecordT, sent: Sent, *, is_used: bool) -> None:
        """
        Fail if a create may not delete its record again in favour of the one of another task.

        :param own: the record of this task.
        :param other: the record of the other task.
        :param sent: the create of this task.
        :param is_used: whether this task goes on to use the other record.
        :raises WebcamconsultConflictError: if nothing proves that the create has made its record, or the
            other one may be a different person's.
        """
        if not self.is_own(own, sent):
            problem = f"nothing proves that this task created {own['id']}"
            remedy = "Delete the one that is a duplicate, and clear this task."
        elif is_used and (person := self.find_person_problem(other, Sent())):
            problem, remedy = person, self.person_remedy
        else:
            return
        raise WebcamconsultConflictError(
            f"Found {self.resource.plural} {own['id']} and {other['id']} with the same {self.key_names} "
            f"after the create, but {problem}. Neither was deleted. {remedy}",
            ids=[own["id"], other["id"]],
        )
