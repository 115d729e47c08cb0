"""What can be done with the records of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from airflow_provider_webcamconsult.api.attributes import check_attributes, check_id, serialize_attributes
from airflow_provider_webcamconsult.api.matching import natural_key, natural_key_names, verify_stored
from airflow_provider_webcamconsult.api.request import (
    delete_request,
    get_request,
    list_request,
    update_request,
)
from airflow_provider_webcamconsult.api.resources import AttributesT, RecordT, Resource
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError
from airflow_provider_webcamconsult.idempotent_create import (
    Checkpoint,
    IdempotentCreate,
    IfExists,
    NoCheckpoint,
)

if TYPE_CHECKING:
    import builtins

    from airflow_provider_webcamconsult.transport import Transport


class Records(Generic[AttributesT, RecordT]):
    """
    The records of one kind, as ``hook.users``, ``hook.clients`` and ``hook.appointments``.

    Every method raises a :class:`~airflow_provider_webcamconsult.exceptions.WebcamconsultError`.

    :param transport: what sends the requests.
    :param resource: the kind.
    """

    def __init__(self, transport: Transport, resource: Resource[AttributesT, RecordT]) -> None:
        self.transport = transport
        self.resource = resource

    def list(self) -> builtins.list[RecordT]:
        """Return all records; the service has no paging and no filter ("List All …")."""
        records: builtins.list[RecordT] = self.transport.send(list_request(self.resource))
        return records

    def get(self, record_id: str) -> RecordT:
        """
        Return one record ("View a … detail").

        :param record_id: its id.
        """
        plural_paths = self.transport.settings.plural_paths
        record: RecordT = self.transport.send(
            get_request(self.resource, record_id, plural_paths=plural_paths)
        )
        return record

    def find(self, attributes: AttributesT | RecordT) -> builtins.list[RecordT]:
        """
        Return the records with the natural key that is in the attributes; costs a list.

        Users are found by ``email``; clients by ``reference_code``, else by ``email``; appointments by
        ``user_id``, ``client_id`` and the instant of ``date``.

        :param attributes: with the natural key, and perhaps more.
        """
        payload = self._serialize(attributes)
        key = natural_key(self.resource, payload)
        if key is None:
            raise WebcamconsultInputError(
                f"{self.resource.with_article.capitalize()} is found by "
                f"{natural_key_names(self.resource)}. Give it."
            )
        records = self.list()
        return [record for record in records if natural_key(self.resource, record, like=key) == key]

    def create(
        self,
        attributes: AttributesT | RecordT,
        *,
        if_exists: IfExists = "create",
        strict: bool = False,
        checkpoint: Checkpoint | None = None,
    ) -> RecordT:
        """
        Create a record and return it ("Create a New …").

        It is sent once. Where its outcome is unknown, the record is looked for by its natural key; see
        :mod:`~airflow_provider_webcamconsult.idempotent_create`.

        :param attributes: the API's own names; what is not given is not sent, None is sent as ``null``.
            Dates are ``datetime`` or ISO 8601 text, without offset in the connection's time zone.
        :param if_exists: what to do if a record with the natural key exists: ``"create"`` creates without
            looking; ``"reuse"`` returns it; ``"update"`` brings the attributes that differ in line, and
            returns it; ``"fail"`` raises. The last three cost a list.
        :param strict: whether an attribute that the service did not keep is an error, not a warning.
        :param checkpoint: what survives of an earlier try; the operators give the task's.
        """
        payload = self._serialize(attributes)
        create: IdempotentCreate[RecordT] = IdempotentCreate(
            self.transport,
            self.resource,
            payload,
            if_exists=if_exists,
            strict=strict,
            checkpoint=checkpoint or NoCheckpoint(),
        )
        return create.run()

    def update(self, record_id: str, attributes: AttributesT | RecordT, *, strict: bool = False) -> RecordT:
        """
        Change what is given of a record and return it ("Update a …").

        :param record_id: its id.
        :param attributes: as for :meth:`create`; what is not given stays as it is.
        :param strict: whether an attribute that the service did not keep is an error, not a warning.
        """
        check_id(self.resource, record_id)
        payload = self._serialize(attributes, record_id)
        plural_paths = self.transport.settings.plural_paths
        record: RecordT = self.transport.send(
            update_request(self.resource, record_id, payload, plural_paths=plural_paths)
        )
        if warning := verify_stored(self.resource, payload, record, strict=strict):
            self.transport.log.warning(warning)
        return record

    def delete(self, record_id: str) -> None:
        """
        Delete a record ("Delete a …").

        :param record_id: its id.
        """
        plural_paths = self.transport.settings.plural_paths
        self.transport.send(delete_request(self.resource, record_id, plural_paths=plural_paths))

    def _serialize(self, attributes: AttributesT | RecordT, record_id: str | None = None) -> dict[str, Any]:
        for warning in check_attributes(self.resource, attributes, record_id=record_id):
            self.transport.log.warning(warning)
        return serialize_attributes(self.resource, attributes, zone=self.transport.settings.timezone)
