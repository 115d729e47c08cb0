"""Build requests without sending them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from airflow_provider_webcamconsult.api.payload import check_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_webcamconsult.api.resources import Resource

#: What becomes of what is not a record in a list: an error, nothing, or None in its place.
Malformed: TypeAlias = Literal["raise", "skip", "none"]


@dataclass(frozen=True)
class Request:
    """
    One request to the service.

    :param method: HTTP method.
    :param path: path below the base URL.
    :param resource: the kind of record.
    :param body: JSON body, if any.
    :param is_list: whether the response is a list of records.
    :param only: ids of the records to return from a list. By default, all records.
    :param fields: names of the attributes to return besides the id. By default, all attributes.
    :param malformed: what to do with what is not a record in a list.
    :param positions: where the records of ``only`` were in the last list, by id; None if that does not
        matter. Reading a list updates this.
    :param record_id: id that the returned record must have. By default, any id.
    :param conn_id: id of the Airflow connection that sends it, for messages.
    """

    method: str
    path: str
    resource: Resource[Any, Any]
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    is_list: bool = False
    only: Collection[str] | None = None
    fields: Collection[str] | None = None
    malformed: Malformed = "raise"
    positions: dict[str, int] | None = field(default=None, repr=False)
    record_id: str | None = None
    conn_id: str | None = None

    @property
    def is_create(self) -> bool:
        """Whether sending the request twice creates two records."""
        return self.method == "POST"

    def __str__(self) -> str:
        """Describe the request for a message. A DAG can use several connections, so this names the one."""
        sender = f" with connection '{self.conn_id}'" if self.conn_id else ""
        return f"{self.method} {self.path}{sender}"


def list_request(
    resource: Resource[Any, Any],
    *,
    only: Collection[str] | None = None,
    fields: Collection[str] | None = None,
    malformed: Malformed = "raise",
    positions: dict[str, int] | None = None,
) -> Request:
    """
    Build a request for all records of a kind ("List All …").

    :param resource: the kind of record.
    :param only: ids of the records to return. By default, all records. The service always sends all of them;
        the others are not decoded.
    :param fields: names of the attributes to return besides the id. By default, all attributes.
    :param malformed: what to do with what is not a record, such as an object without an id. By default, it is
        an error, because it may be the record that the caller is looking for.
    :param positions: a dictionary that keeps where the records of ``only`` were in the last list, if it is
        passed with each request. If what is not a record is skipped, they are found faster.
    """
    return Request(
        "GET",
        f"/{resource.plural}.json",
        resource,
        is_list=True,
        only=only,
        fields=fields,
        malformed=malformed,
        positions=positions,
    )


def get_request(resource: Resource[Any, Any], record_id: str, *, plural_paths: bool = False) -> Request:
    """
    Build a request for one record ("View a … detail").

    :param resource: the kind of record.
    :param record_id: id of the record.
    :param plural_paths: whether the path starts with the plural.
    :raises WebcamconsultInputError: if the id is invalid.
    """
    path = _detail_path(resource, record_id, plural_paths)
    return Request("GET", path, resource, record_id=record_id)


def create_request(resource: Resource[Any, Any], attributes: Mapping[str, Any]) -> Request:
    """
    Build a request that creates a record ("Create a New …").

    :param resource: the kind of record.
    :param attributes: serialized attributes.
    """
    return Request("POST", f"/{resource.plural}.json", resource, {resource.name: attributes})


def update_request(
    resource: Resource[Any, Any], record_id: str, attributes: Mapping[str, Any], *, plural_paths: bool = False
) -> Request:
    """
    Build a request that updates a record ("Update a …").

    :param resource: the kind of record.
    :param record_id: id of the record.
    :param attributes: serialized attributes.
    :param plural_paths: whether the path starts with the plural.
    :raises WebcamconsultInputError: if the id is invalid.
    """
    path = _detail_path(resource, record_id, plural_paths)
    return Request("PUT", path, resource, {resource.name: attributes}, record_id=record_id)


def delete_request(resource: Resource[Any, Any], record_id: str, *, plural_paths: bool = False) -> Request:
    """
    Build a request that deletes a record ("Delete a …"). The API document requires a body.

    :param resource: the kind of record.
    :param record_id: id of the record.
    :param plural_paths: whether the path starts with the plural.
    :raises WebcamconsultInputError: if the id is invalid.
    """
    path = _detail_path(resource, record_id, plural_paths)
    return Request("DELETE", path, resource, {resource.name: {"id": record_id}})


def _detail_path(resource: Resource[Any, Any], record_id: str, plural_paths: bool) -> str:
    check_id(resource, record_id)
    return f"/{resource.plural if plural_paths else resource.documented_detail}/{record_id}.json"


def encode(body: Mapping[str, Any]) -> bytes:
    """
    Encode a request body as JSON.

    :param body: the body.
    """
    return json.dumps(body, allow_nan=False).encode()
