"""List, find, create, update and delete the records of one kind: users, clients or appointments."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic

from airflow_provider_webcamconsult.api.evidence import Target
from airflow_provider_webcamconsult.api.matching import describe_missing_key, verify_stored
from airflow_provider_webcamconsult.api.payload import (
    check_attributes,
    check_id,
    check_new,
    serialize_attributes,
)
from airflow_provider_webcamconsult.api.resources import AttributesT, RecordT, Resource
from airflow_provider_webcamconsult.create_checkpoint import Checkpoint, NoCheckpoint
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError, WebcamconsultNotFoundError
from airflow_provider_webcamconsult.idempotent_create import IdempotentCreate
from airflow_provider_webcamconsult.record_requests import RecordRequests

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Mapping

    from airflow_provider_webcamconsult.api.resources import UntypedAttributes
    from airflow_provider_webcamconsult.create_result import CreateResult, IfExists
    from airflow_provider_webcamconsult.transport import Transport


class Records(Generic[AttributesT, RecordT]):
    """
    The records of one kind: ``hook.users``, ``hook.clients`` or ``hook.appointments``.

    If a method fails, it raises a :class:`~airflow_provider_webcamconsult.exceptions.WebcamconsultError`.

    :param transport: transport that sends the requests.
    :param resource: the kind of record.
    """

    def __init__(self, transport: Transport, resource: Resource[AttributesT, RecordT]) -> None:
        self.transport = transport
        self.resource = resource
        self.requests: RecordRequests[RecordT] = RecordRequests(transport, resource)

    def list(self) -> builtins.list[RecordT]:
        """
        Return all records of the token's organisation (API document, "List All …").

        The service has neither paging nor filters. For a long list, :meth:`iterate` needs less memory.

        :return: the records.
        :raises WebcamconsultResponseError: if one of the records is malformed, as for :meth:`iterate`.
        """
        return [*self.iterate()]

    def iterate(self) -> Iterator[RecordT]:
        """
        Return an iterator over all records of the token's organisation (API document, "List All …").

        This call sends the request, with retries, and receives the whole response. The iterator then decodes
        the records one by one, so the memory needed is little more than the size of the response. It sends
        nothing. It can be used once.

        :return: an iterator over the records.
        :raises WebcamconsultResponseError: by the iterator when it reaches a malformed record: one that has
            no valid id, is not a JSON object, or is nested too deeply. The error names its position in the
            list, counted from 1. The request is not retried, because the response would be the same.
        """
        return self.requests.iterate()

    def get(self, record_id: str) -> RecordT:
        """
        Return one record (API document, "View a … detail").

        :param record_id: id of the record.
        :return: the record.
        """
        return self.requests.get(record_id)

    def get_if_exists(self, record_id: str) -> RecordT | None:
        """
        Return one record, or None if it does not exist.

        :param record_id: id of the record.
        :return: the record; None if the list of all records confirms that it does not exist, because a wrong
            path returns 404 too.
        :raises WebcamconsultConfigurationError: if the service returned 404, but the record still exists.
        """
        try:
            return self.get(record_id)
        except WebcamconsultNotFoundError as error:
            self.requests.confirm_missing({record_id: error})
        return None

    def find(self, attributes: AttributesT | RecordT | UntypedAttributes) -> builtins.list[RecordT]:
        """
        Return the records that have the natural key in ``attributes``; this lists all records.

        Users are looked up by ``email``. Clients are looked up by ``reference_code``, or by ``email`` if
        ``reference_code`` is not given. Appointments are looked up by ``user_id``, ``client_id`` and
        ``date``, compared as a point in time.

        :param attributes: attributes that include the natural key; others are ignored.
        :return: the records, which may be none or several.
        :raises WebcamconsultInputError: if ``attributes`` does not include the natural key.
        """
        target = Target(self.resource, self._serialize(attributes))
        if target.key is None:
            raise WebcamconsultInputError(
                f"Cannot look up {self.resource.with_article}: {describe_missing_key(self.resource)}. "
                "Complete the attributes."
            )
        return target.select(self.iterate())

    def create(
        self,
        attributes: AttributesT | RecordT | UntypedAttributes,
        *,
        if_exists: IfExists = "create",
        strict: bool = False,
        checkpoint: Checkpoint | None = None,
    ) -> RecordT:
        """
        Create a record and return it (API document, "Create a New …").

        The request is not repeated if it may have succeeded. Instead, the record is looked up by its natural
        key; see :mod:`~airflow_provider_webcamconsult.idempotent_create`.

        :param attributes: attributes to write, with the API's own names. Omitted attributes are not sent;
            ``None`` is sent as ``null``. A date is a ``datetime`` or ISO 8601 text. Without a UTC offset, it
            is in the connection's time zone.
        :param if_exists: what to do if a record with the same natural key already exists: ``"create"``
            creates a new record without checking, ``"reuse"`` returns the existing record, ``"update"``
            updates the attributes that differ and returns the updated record, and ``"fail"`` raises an error.
            The last three list all records.
        :param strict: whether to raise an error if the service did not store an attribute as sent. By
            default, this is only logged as a warning, but a date, duration or id that was not stored as sent
            always raises an error.
        :param checkpoint: checkpoint of an earlier try; the operators pass the task's.
        :return: the record.
        """
        return self.create_with_outcome(
            attributes, if_exists=if_exists, strict=strict, checkpoint=checkpoint
        ).record

    def create_with_outcome(
        self,
        attributes: AttributesT | RecordT | UntypedAttributes,
        *,
        if_exists: IfExists = "create",
        strict: bool = False,
        checkpoint: Checkpoint | None = None,
    ) -> CreateResult[RecordT]:
        """
        Create a record as :meth:`create` does, and return what was done too.

        :param attributes: attributes to write, as for :meth:`create`.
        :param if_exists: what to do if a record with the same natural key already exists, as for
            :meth:`create`.
        :param strict: whether to raise an error if the service did not store an attribute as sent.
        :param checkpoint: checkpoint of an earlier try; the operators pass the task's.
        :return: the record and the outcome: ``"created"``, ``"updated"``, ``"reused"`` or ``"unchanged"``.
        """
        payload = self._serialize_new(attributes)
        create: IdempotentCreate[RecordT] = IdempotentCreate(
            self.transport,
            self.resource,
            payload,
            if_exists=if_exists,
            strict=strict,
            checkpoint=checkpoint or NoCheckpoint(),
        )
        return create.run()

    def update(
        self, record_id: str, attributes: AttributesT | RecordT | UntypedAttributes, *, strict: bool = False
    ) -> RecordT:
        """
        Update a record and return it (API document, "Update a …").

        :param record_id: id of the record.
        :param attributes: attributes to write, as for :meth:`create`. Omitted attributes keep their values;
            ``None`` clears an attribute.
        :param strict: whether to raise an error if the service did not store an attribute as sent. By
            default, this is only logged as a warning, but a date, duration or id that was not stored as sent
            always raises an error.
        :return: the updated record.
        """
        check_id(self.resource, record_id)
        payload = self._serialize(attributes, record_id)
        record = self.requests.update(record_id, payload)
        if warning := verify_stored(self.resource, payload, record, strict=strict):
            self.transport.log.warning(warning)
        return record

    def delete(self, record_id: str) -> None:
        """
        Delete a record (API document, "Delete a …").

        :param record_id: id of the record.
        :raises WebcamconsultNotFoundError: if the record does not exist. The list of all records confirms it,
            because a wrong path returns 404 too.
        :raises WebcamconsultConfigurationError: if the service returned 404, but the record still exists.
        """
        self.requests.delete_and_confirm(record_id)

    def _serialize_new(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        payload = self._serialize(attributes)
        for warning in check_new(self.resource, payload, now=datetime.now(timezone.utc)):
            self.transport.log.warning(warning)
        return payload

    def _serialize(self, attributes: Mapping[str, Any], record_id: str | None = None) -> dict[str, Any]:
        for warning in check_attributes(self.resource, attributes, record_id=record_id):
            self.transport.log.warning(warning)
        return serialize_attributes(self.resource, attributes, zone=self.transport.settings.timezone)
