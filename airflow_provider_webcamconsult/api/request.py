"""Build the requests of the API document, without sending them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.attributes import check_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_webcamconsult.api.resources import Resource


@dataclass(frozen=True)
class Request:
    """
    One request to the service.

    :param method: HTTP method.
    :param path: path below the base URL.
    :param resource: the kind of record that it is about.
    :param body: what is sent as JSON, if anything.
    :param is_list: whether the answer is a list of records.
    :param only: ids of the records to take from a list; None takes all.
    :param fields: names of the attributes to take of those, beside the id; None takes all.
    """

    method: str
    path: str
    resource: Resource[Any, Any]
    body: Mapping[str, Any] | None = None
    is_list: bool = False
    only: Collection[str] | None = None
    fields: Collection[str] | None = None

    @property
    def is_create(self) -> bool:
        """Whether sending it twice makes two records."""
        return self.method == "POST"


def list_request(
    resource: Resource[Any, Any],
    *,
    only: Collection[str] | None = None,
    fields: Collection[str] | None = None,
) -> Request:
    """
    Build the request for all records of a kind.

    :param resource: the kind.
    :param only: ids of those to take from the answer, where it is read often or is huge; None takes all.
    :param fields: names of the attributes to take of those, beside the id; None takes all.
    """
    return Request("GET", f"/{resource.plural}.json", resource, is_list=True, only=only, fields=fields)


def get_request(resource: Resource[Any, Any], record_id: str, *, plural_paths: bool = False) -> Request:
    """
    Build the request for one record.

    :param resource: its kind.
    :param record_id: its id.
    :param plural_paths: whether all detail paths start with the plural.
    :raises WebcamconsultInputError: if the id cannot be one.
    """
    return Request("GET", _detail_path(resource, record_id, plural_paths), resource)


def create_request(resource: Resource[Any, Any], attributes: Mapping[str, Any]) -> Request:
    """
    Build the request that creates a record.

    :param resource: its kind.
    :param attributes: what to write, serialized.
    """
    return Request("POST", f"/{resource.plural}.json", resource, {resource.name: attributes})


def update_request(
    resource: Resource[Any, Any], record_id: str, attributes: Mapping[str, Any], *, plural_paths: bool = False
) -> Request:
    """
    Build the request that changes a record.

    :param resource: its kind.
    :param record_id: its id.
    :param attributes: what to write, serialized.
    :param plural_paths: whether all detail paths start with the plural.
    :raises WebcamconsultInputError: if the id cannot be one.
    """
    path = _detail_path(resource, record_id, plural_paths)
    return Request("PUT", path, resource, {resource.name: attributes})


def delete_request(resource: Resource[Any, Any], record_id: str, *, plural_paths: bool = False) -> Request:
    """
    Build the request that deletes a record; the document gives it a body.

    :param resource: its kind.
    :param record_id: its id.
    :param plural_paths: whether all detail paths start with the plural.
    :raises WebcamconsultInputError: if the id cannot be one.
    """
    path = _detail_path(resource, record_id, plural_paths)
    return Request("DELETE", path, resource, {resource.name: {"id": record_id}})


def _detail_path(resource: Resource[Any, Any], record_id: str, plural_paths: bool) -> str:
    check_id(resource, record_id)
    return f"/{resource.plural if plural_paths else resource.documented_detail}/{record_id}.json"


def encode(body: Mapping[str, Any]) -> bytes:
    """
    Write a body as JSON.

    :param body: the body.
    """
    return json.dumps(body, allow_nan=False).encode()
