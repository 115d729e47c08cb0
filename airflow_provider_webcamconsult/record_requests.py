"""Send the requests for the records of one kind, and ask the list what a 404 means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from airflow_provider_webcamconsult.api.request import (
    create_request,
    delete_request,
    get_request,
    list_request,
    update_request,
)
from airflow_provider_webcamconsult.api.resources import RecordT
from airflow_provider_webcamconsult.api.response import explain_missing
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultError,
    WebcamconsultNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from airflow_provider_webcamconsult.api.request import Request
    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.transport import Transport


class RecordRequests(Generic[RecordT]):
    """
    Sends the requests for the records of one kind.

    :param transport: transport that sends them.
    :param resource: the kind of record.
    :param before_attempt: called before each attempt.
    :param before_retry: called with the error and the delay in seconds before each retry, which is logged by
        default.
    """

    def __init__(
        self,
        transport: Transport,
        resource: Resource[Any, RecordT],
        *,
        before_attempt: Callable[[], None] | None = None,
        before_retry: Callable[[WebcamconsultError, float], None] | None = None,
    ) -> None:
        self.transport = transport
        self.resource = resource
        self._before_attempt = before_attempt
        self._before_retry = before_retry

    def iterate(
        self, *, only: Collection[str] | None = None, fields: Collection[str] | None = None
    ) -> Iterator[RecordT]:
        """
        List the records.

        :param only: ids of the records to return. By default, all records.
        :param fields: names of the attributes to return besides the id. By default, all attributes.
        """
        records: Iterator[RecordT] = self._send(list_request(self.resource, only=only, fields=fields))
        return records

    def iterate_with_malformed(self, *, fields: Collection[str]) -> Iterator[RecordT | None]:
        """
        List the records, with None in place of what is not a record.

        :param fields: names of the attributes to return besides the id.
        """
        request = list_request(self.resource, fields=fields, malformed="none")
        records: Iterator[RecordT | None] = self._send(request)
        return records

    def get(self, record_id: str) -> RecordT:
        """
        Return one record.

        :param record_id: id of the record.
        """
        record: RecordT = self._send(get_request(self.resource, record_id, plural_paths=self._plural_paths))
        return record

    def get_or_list(self, record_id: str) -> RecordT | None:
        """
        Return one record, from the list if its own path returns 404.

        :param record_id: id of the record.
        :return: the record; None if the list shows that it does not exist.
        """
        try:
            return self.get(record_id)
        except WebcamconsultNotFoundError as error:
            return self.list_after_404({record_id}, error).get(record_id)

    def create(
        self, payload: Mapping[str, Any], *, before_attempt: Callable[[], None] | None = None
    ) -> RecordT:
        """
        Create a record.

        :param payload: serialized attributes.
        :param before_attempt: called before each attempt.
        """
        record: RecordT = self._send(create_request(self.resource, payload), before_attempt)
        return record

    def complete(self, record: RecordT, names: Collection[str]) -> RecordT:
        """
        Get a record if the response to a create does not show all attributes that identify it.

        :param record: the record in the response.
        :param names: names of these attributes.
        :return: the record, which is still incomplete if it cannot be read.
        """
        if all(name in record for name in names):
            return record
        try:
            return self.get(record["id"])
        except WebcamconsultError as error:
            self.transport.log.warning("%s", error)
            return record

    def update(self, record_id: str, payload: Mapping[str, Any]) -> RecordT:
        """
        Update a record.

        :param record_id: id of the record.
        :param payload: serialized attributes.
        """
        request = update_request(self.resource, record_id, payload, plural_paths=self._plural_paths)
        record: RecordT = self._send(request)
        return record

    def delete(self, record_id: str) -> None:
        """
        Delete a record.

        :param record_id: id of the record.
        """
        self._send(delete_request(self.resource, record_id, plural_paths=self._plural_paths))

    def delete_and_confirm(self, record_id: str) -> None:
        """
        Delete a record, and do not believe a 404 before the list confirms it.

        :param record_id: id of the record.
        :raises WebcamconsultNotFoundError: if the record did not exist.
        :raises WebcamconsultConfigurationError: if the service returned 404, but the record still exists.
        """
        try:
            self.delete(record_id)
        except WebcamconsultError as error:
            if error.status_code != 404:
                raise
            self.confirm_missing({record_id: error})
            # An earlier attempt may have deleted the record, although its response was lost.
            if not error.may_have_succeeded:
                raise _after(
                    error,
                    WebcamconsultNotFoundError,
                    "The list confirms this.",
                    happened=explain_missing(self.resource, record_id),
                ) from None

    def confirm_missing(self, not_found: Mapping[str, WebcamconsultError]) -> None:
        """
        Raise an error unless the list shows that records do not exist.

        :param not_found: the 404 of each record, by id.
        :raises WebcamconsultConfigurationError: if one of them exists.
        """
        for record_id in self.list_after_404(not_found, next(iter(not_found.values())), fields=[]):
            conn_id = self.transport.settings.conn_id
            remedy = f"Check the Host of connection '{conn_id}'"
            if self.resource.documented_detail != self.resource.plural:
                remedy = f"Change the extra 'plural_paths' of connection '{conn_id}', which is probably wrong"
            raise _after(
                not_found[record_id],
                WebcamconsultConfigurationError,
                f"The list shows that {self.resource.name} {record_id} still exists. {remedy}.",
            ) from None

    def list_after_404(
        self, ids: Collection[str], not_found: WebcamconsultError, *, fields: Collection[str] | None = None
    ) -> dict[str, RecordT]:
        """
        Return which records still exist after a 404. A wrong path returns 404 too, but the list has no other.

        :param ids: ids of the records.
        :param not_found: the 404 of one of them.
        :param fields: names of the attributes to return besides the id. By default, all attributes.
        :return: the records by id.
        :raises WebcamconsultConfigurationError: if the list returned 404 too.
        """
        try:
            return {record["id"]: record for record in self.iterate(only=ids, fields=fields)}
        except WebcamconsultNotFoundError:
            raise _after(
                not_found,
                WebcamconsultConfigurationError,
                f"The list of {self.resource.plural} returned 404 too. The host does not have this path. "
                f"Check the Host of connection '{self.transport.settings.conn_id}'.",
            ) from None

    @property
    def _plural_paths(self) -> bool:
        return self.transport.settings.plural_paths

    def _send(self, request: Request, before_attempt: Callable[[], None] | None = None) -> Any:
        return self.transport.send(
            request,
            before_attempt=before_attempt or self._before_attempt,
            before_retry=self._before_retry,
        )


def _after(
    not_found: WebcamconsultError,
    error_class: type[WebcamconsultError],
    explanation: str,
    happened: str | None = None,
) -> WebcamconsultError:
    returned = f"{not_found.method} {not_found.path} returned {not_found.status_code}."
    return error_class(
        " ".join(filter(None, [happened, returned, explanation])),
        method=not_found.method,
        path=not_found.path,
        status_code=not_found.status_code,
        reason=not_found.reason,
    )
