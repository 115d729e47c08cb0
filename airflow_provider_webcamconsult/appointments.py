"""The records of appointments, whose times can overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_webcamconsult.api.matching import join_names, was_created_before
from airflow_provider_webcamconsult.api.overlaps import (
    FREE_STATES,
    OVERLAP_ATTRIBUTES,
    describe_overlap,
    overlaps,
)
from airflow_provider_webcamconsult.api.resources import Appointment, AppointmentAttributes
from airflow_provider_webcamconsult.create_checkpoint import NoCheckpoint
from airflow_provider_webcamconsult.exceptions import WebcamconsultConflictError, WebcamconsultInputError
from airflow_provider_webcamconsult.idempotent_create import IdempotentCreate
from airflow_provider_webcamconsult.records import Records

if TYPE_CHECKING:
    import builtins
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from airflow_provider_webcamconsult.api.resources import UntypedAttributes
    from airflow_provider_webcamconsult.create_checkpoint import Checkpoint
    from airflow_provider_webcamconsult.create_result import CreateResult, IfExists
    from airflow_provider_webcamconsult.transport import Log

#: What to do if an appointment overlaps with another one.
IfOverlaps = Literal["ignore", "warn", "fail"]
IF_OVERLAPS = ("ignore", "warn", "fail")


class AppointmentRecords(Records[AppointmentAttributes, Appointment]):
    """
    The appointments: ``hook.appointments``.

    An appointment takes the time from its ``date`` to the end of its ``duration``, which is in minutes.
    Without a duration, it takes 30 minutes. Two appointments of the same user or client overlap if their
    times do.
    """

    def overlaps(
        self,
        attributes: AppointmentAttributes | Appointment | UntypedAttributes,
        *,
        free_states: Collection[str] = FREE_STATES,
    ) -> builtins.list[Appointment]:
        """
        Return the appointments that overlap with ``attributes``; this lists all appointments.

        :param attributes: the ``date``, ``duration``, ``user_id`` and ``client_id`` to check; others are
            ignored.
        :param free_states: states in which an appointment takes no time.
        :return: the appointments, which may be none or several.
        """
        payload = self._serialize(attributes)
        return self._overlapping(payload, _checked_states(free_states))

    def create(
        self,
        attributes: AppointmentAttributes | Appointment | UntypedAttributes,
        *,
        if_exists: IfExists = "create",
        strict: bool = False,
        checkpoint: Checkpoint | None = None,
        if_overlaps: IfOverlaps = "ignore",
        free_states: Collection[str] = FREE_STATES,
    ) -> Appointment:
        """
        Create an appointment and return it (API document, "Create a New Appointment").

        :param attributes: attributes to write, as for :meth:`.Records.create`.
        :param if_exists: what to do if an appointment with the same ``user_id``, ``client_id`` and ``date``
            already exists, as for :meth:`.Records.create`.
        :param strict: whether to raise an error if the service did not store an attribute as sent, as for
            :meth:`.Records.create`.
        :param checkpoint: checkpoint of an earlier try; the operators pass the task's.
        :param if_overlaps: what to do if another appointment overlaps with the new one: ``"ignore"`` creates
            it without checking, ``"warn"`` logs a warning, and ``"fail"`` raises an error. The last two list
            all appointments before and after the create. Of two that are created at the same moment,
            ``"fail"`` deletes the second again, and raises an error that names both. An existing appointment
            that ``if_exists`` reuses or updates is not checked.
        :param free_states: states in which another appointment takes no time.
        :return: the appointment.
        :raises WebcamconsultConflictError: with ``if_overlaps="fail"``, if another appointment overlaps.
        """
        return self.create_with_outcome(
            attributes,
            if_exists=if_exists,
            strict=strict,
            checkpoint=checkpoint,
            if_overlaps=if_overlaps,
            free_states=free_states,
        ).record

    def create_with_outcome(
        self,
        attributes: AppointmentAttributes | Appointment | UntypedAttributes,
        *,
        if_exists: IfExists = "create",
        strict: bool = False,
        checkpoint: Checkpoint | None = None,
        if_overlaps: IfOverlaps = "ignore",
        free_states: Collection[str] = FREE_STATES,
    ) -> CreateResult[Appointment]:
        """
        Create an appointment as :meth:`create` does, and return what was done too.

        :param attributes: attributes to write, as for :meth:`create`.
        :param if_exists: what to do if the appointment already exists, as for :meth:`create`.
        :param strict: whether to raise an error if the service did not store an attribute as sent.
        :param checkpoint: checkpoint of an earlier try; the operators pass the task's.
        :param if_overlaps: what to do if another appointment overlaps, as for :meth:`create`.
        :param free_states: states in which another appointment takes no time.
        :return: the appointment and the outcome: ``"created"``, ``"updated"``, ``"reused"`` or
            ``"unchanged"``.
        :raises WebcamconsultConflictError: with ``if_overlaps="fail"``, if another appointment overlaps.
        """
        create = AppointmentCreate(
            self.transport,
            self.resource,
            self._serialize_new(attributes),
            if_exists=if_exists,
            strict=strict,
            checkpoint=checkpoint or NoCheckpoint(),
            if_overlaps=_checked(if_overlaps),
            free_states=_checked_states(free_states),
        )
        return create.run()

    def update(
        self,
        record_id: str,
        attributes: AppointmentAttributes | Appointment | UntypedAttributes,
        *,
        strict: bool = False,
        if_overlaps: IfOverlaps = "ignore",
        free_states: Collection[str] = FREE_STATES,
    ) -> Appointment:
        """
        Update an appointment and return it (API document, "Update an Appointment").

        :param record_id: id of the appointment.
        :param attributes: attributes to write, as for :meth:`.Records.update`.
        :param strict: whether to raise an error if the service did not store an attribute as sent, as for
            :meth:`.Records.update`.
        :param if_overlaps: what to do if another appointment overlaps with the updated one: ``"ignore"``
            updates it without checking, ``"warn"`` logs a warning, and ``"fail"`` raises an error. The last
            two list all appointments before and after the update, if the attributes include a date, duration,
            user or client. If another task books the same time at the same moment, the update stays, and
            ``"fail"`` raises an error that names both.
        :param free_states: states in which another appointment takes no time.
        :return: the updated appointment.
        :raises WebcamconsultConflictError: with ``if_overlaps="fail"``, if another appointment overlaps.
        """
        states = _checked_states(free_states)
        if _checked(if_overlaps) == "ignore":
            return super().update(record_id, attributes, strict=strict)
        payload = self._serialize(attributes, record_id)
        if not payload.keys() & set(OVERLAP_ATTRIBUTES):
            return super().update(record_id, attributes, strict=strict)
        appointments = self.list()
        own = next((each for each in appointments if each["id"] == record_id), None)
        # Without it, the update itself finds out what is wrong.
        others = own and [
            each for each in appointments if overlaps({**own, **payload}, each, free_states=states)
        ]
        if own and others:
            _report(
                self.transport.log,
                if_overlaps,
                f"Appointment {record_id} would overlap with {_describe({**own, **payload}, others)}.",
                "It was not changed. Choose a different date.",
                others,
            )
        updated = super().update(record_id, attributes, strict=strict)
        known = {each["id"] for each in others or ()}
        if others := [each for each in self._overlapping(updated, states) if each["id"] not in known]:
            _report(
                self.transport.log,
                if_overlaps,
                f"Appointment {record_id} overlaps with {_describe(updated, others)}, "
                "which changed at the same time.",
                "The update was made nevertheless. Move one of them.",
                [updated, *others],
            )
        return updated

    def _overlapping(
        self, appointment: Mapping[str, Any], free_states: Collection[str]
    ) -> builtins.list[Appointment]:
        return [each for each in self.iterate() if overlaps(appointment, each, free_states=free_states)]


class AppointmentCreate(IdempotentCreate[Appointment]):
    """
    Creates an appointment, and checks whether it overlaps with another one.

    :param arguments: positional arguments of :class:`.IdempotentCreate`.
    :param if_overlaps: what to do if another appointment overlaps.
    :param free_states: states in which another appointment takes no time.
    :param keywords: keyword arguments of :class:`.IdempotentCreate`.
    """

    def __init__(
        self, *arguments: Any, if_overlaps: IfOverlaps, free_states: Collection[str], **keywords: Any
    ) -> None:
        super().__init__(*arguments, **keywords)
        self.if_overlaps = if_overlaps
        self.free_states = free_states
        # Those in the list of the look-up; None if nothing was listed since the last create.
        self._listed: list[Appointment] | None = None
        self._known: set[str] = set()

    def _list(self) -> Iterator[Appointment]:
        listed = []
        for each in super()._list():
            if self.if_overlaps != "ignore" and overlaps(self.payload, each, free_states=self.free_states):
                listed.append(each)
            yield each
        self._listed = listed

    def _overlapping(self) -> list[Appointment]:
        """Return those that overlap, except those that were reported before."""
        if self.if_overlaps == "ignore":
            return []
        if self._listed is None:
            for _ in self._list():
                pass
        listed, self._listed = self._listed or [], None
        return [each for each in listed if each["id"] not in self._known]

    def _before_create(self) -> None:
        if others := self._overlapping():
            self._known.update(each["id"] for each in others)
            _report(
                self.log,
                self.if_overlaps,
                f"The appointment would overlap with {_describe(self.payload, others)}.",
                "It was not created. Choose a different date.",
                others,
            )

    def _after_create(self, record: Appointment, *, is_own: bool) -> None:
        if is_own and self.if_overlaps == "fail":
            # The proof for a retry, if this task does not get to delete it.
            self.progress.store_sent(own_id=record["id"])

        def find() -> list[Appointment]:
            return [each for each in self._overlapping() if each["id"] != record["id"]]

        # Of two that are created at once, the task of the second one withdraws it.
        others = self._rivals(record, find) if self.if_overlaps == "fail" else find()
        if not others:
            return
        remedy = "Move or delete one of them."
        if is_own and self.if_overlaps == "fail":
            self._withdraw(record["id"])
            remedy = "It was deleted again. Choose a different date."
        is_second = all(was_created_before(each, record) for each in others)
        order = "first" if is_second else "at the same time"
        _report(
            self.log,
            self.if_overlaps,
            f"Appointment {record['id']} overlaps with {_describe(self.payload, others)}, "
            f"which was created {order}.",
            remedy,
            [record, *others],
        )


def _report(
    log: Log, if_overlaps: IfOverlaps, problem: str, remedy: str, appointments: Sequence[Appointment]
) -> None:
    if if_overlaps == "warn":
        log.warning("%s", problem)
        return
    raise WebcamconsultConflictError(f"{problem} {remedy}", ids=[each["id"] for each in appointments])


def _describe(appointment: Mapping[str, Any], others: Sequence[Appointment]) -> str:
    noun = "appointment" if len(others) == 1 else "appointments"
    return f"{noun} {join_names([describe_overlap(appointment, each) for each in others])}"


def _checked(if_overlaps: IfOverlaps) -> IfOverlaps:
    if if_overlaps not in IF_OVERLAPS:
        raise WebcamconsultInputError(f"if_overlaps must be one of {', '.join(IF_OVERLAPS)}.")
    return if_overlaps


def _checked_states(free_states: Collection[str]) -> tuple[str, ...]:
    if isinstance(free_states, str) or not all(isinstance(state, str) for state in free_states):
        raise WebcamconsultInputError("free_states must be a list of state names.")
    return tuple(free_states)
