"""What can be done with the records of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from airflow_provider_webcamconsult import api
from airflow_provider_webcamconsult.exactly_once import Checkpoint, IdempotentCreate, IfExists, NoCheckpoint
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError, WebcamconsultMismatchError
from airflow_provider_webcamconsult.resources import AttributesT, RecordT, Resource

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Mapping

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook


class Records(Generic[AttributesT, RecordT]):
    """
    The records of one kind, as ``hook.users``, ``hook.clients`` and ``hook.appointments``.

    Every method raises a :class:`~airflow_provider_webcamconsult.exceptions.WebcamconsultError`.

    :param hook: the hook that sends.
    :param resource: the kind.
    """

    def __init__(self, hook: WebcamconsultHook, resource: Resource[AttributesT, RecordT]) -> None:
        self.hook = hook
        self.resource = resource

    def list(self) -> builtins.list[RecordT]:
        """Return all records; the service has no paging and no filter ("List All …")."""
        records: builtins.list[RecordT] = self.hook.send(api.list_request(self.resource))
        return records

    def get(self, record_id: str) -> RecordT:
        """
        Return one record ("View a … detail").

        :param record_id: its id.
        """
        api.check_id(self.resource, record_id)
        plural_paths = self.hook.settings.plural_paths
        record: RecordT = self.hook.send(api.get_request(self.resource, record_id, plural_paths=plural_paths))
        return record

    def find(self, attributes: AttributesT | RecordT) -> builtins.list[RecordT]:
        """
        Return the records with the natural key that is in the attributes; costs a list.

        Users are found by ``email``; clients by ``reference_code``, else by ``email``; appointments by
        ``user_id``, ``client_id`` and the instant of ``date``.

        :param attributes: with the natural key, and perhaps more.
        """
        payload = self._serialize(attributes)
        key = api.natural_key(self.resource, payload)
        if key is None:
            raise WebcamconsultInputError(
                f"{api.with_article(self.resource).capitalize()} is found by "
                f"{api.natural_key_names(self.resource)}. Give it."
            )
        records = self.list()
        return [record for record in records if api.natural_key(self.resource, record, like=key) == key]

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
        :mod:`~airflow_provider_webcamconsult.exactly_once`.

        :param attributes: the API's own names; what is not given is not sent, None is sent as ``null``.
            Dates are ``datetime`` or ISO 8601 text, without offset in the connection's time zone.
        :param if_exists: what to do if a record with the natural key exists: ``"create"`` creates without
            looking; ``"reuse"`` returns it; ``"update"`` brings the attributes that differ in line, and
            returns it; ``"fail"`` raises. The last three cost a list.
        :param strict: whether an attribute that the service did not keep is an error, not a warning.
        :param checkpoint: what survives of an earlier try; the operators give the task's.
        """
        return IdempotentCreate(
            self, self._serialize(attributes), if_exists, strict, checkpoint or NoCheckpoint()
        ).run()

    def update(self, record_id: str, attributes: AttributesT | RecordT, *, strict: bool = False) -> RecordT:
        """
        Change what is given of a record and return it ("Update a …").

        :param record_id: its id.
        :param attributes: as for :meth:`create`; what is not given stays as it is.
        :param strict: whether an attribute that the service did not keep is an error, not a warning.
        """
        api.check_id(self.resource, record_id)
        payload = self._serialize(attributes, record_id)
        record = self.put(record_id, payload)
        self.verify_stored(record, payload, strict=strict)
        return record

    def delete(self, record_id: str) -> None:
        """
        Delete a record ("Delete a …").

        :param record_id: its id.
        """
        api.check_id(self.resource, record_id)
        plural_paths = self.hook.settings.plural_paths
        self.hook.send(api.delete_request(self.resource, record_id, plural_paths=plural_paths))

    def _serialize(self, attributes: AttributesT | RecordT, record_id: str | None = None) -> dict[str, Any]:
        for warning in api.check_attributes(self.resource, attributes, record_id=record_id):
            self.hook.log.warning(warning)
        return api.serialize_attributes(self.resource, attributes, zone=self.hook.settings.timezone)

    def post(self, payload: dict[str, Any], before_attempt: Callable[[], None] | None = None) -> RecordT:
        """
        Send a create until it may have been carried out.

        :param payload: the prepared attributes.
        :param before_attempt: is called each time before it is sent.
        """
        request = api.create_request(self.resource, payload)
        record: RecordT = self.hook.send(request, before_attempt=before_attempt)
        return record

    def put(self, record_id: str, payload: dict[str, Any]) -> RecordT:
        """
        Send an update.

        :param record_id: the record.
        :param payload: the prepared attributes.
        """
        plural_paths = self.hook.settings.plural_paths
        request = api.update_request(self.resource, record_id, payload, plural_paths=plural_paths)
        record: RecordT = self.hook.send(request)
        return record

    def verify_stored(self, record: RecordT, payload: Mapping[str, Any], *, strict: bool) -> None:
        """
        Hold an answer against what was sent: the service answers success to what it ignores or changes.

        :param record: the answer.
        :param payload: the prepared attributes that were sent.
        :param strict: whether any difference is an error, not a warning.
        :raises WebcamconsultMismatchError: if a date, a duration or an id differs; with ``strict``, anything.
        """
        different = api.differing_attributes(self.resource, payload, record)
        # What is absent from the answer was not told, which is not the same as kept otherwise.
        wrong = [name for name in different if strict or (self.resource.is_exact(name) and name in record)]
        what = f"The service answered success, but {self.resource.name} {record['id']} does not have"
        if wrong:
            raise WebcamconsultMismatchError(
                f"{what} what was sent as {', '.join(wrong)}. Look at it there, and update or delete it.",
                record_id=record["id"],
                attributes=wrong,
            )
        if different:
            self.hook.log.warning("%s what was sent as %s.", what, ", ".join(different))
