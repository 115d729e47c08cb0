"""
The Webcamconsult API without I/O: builds requests, and reads answers into values or errors.

Paths, envelopes and attributes come from :mod:`~airflow_provider_webcamconsult.resources`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias
from urllib.parse import urlsplit

from airflow_provider_webcamconsult import exceptions
from airflow_provider_webcamconsult.dates import parse_datetime, serialize_datetime
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultError,
    WebcamconsultInputError,
    WebcamconsultUnknownOutcomeError,
    WebcamconsultValidationError,
)

if TYPE_CHECKING:
    import datetime
    from collections.abc import Collection, Iterator

    from pendulum import Timezone

    from airflow_provider_webcamconsult.resources import Resource

# Ids seen are 24 hexadecimal digits; no more is known, so only what could change a path is refused.
_ID = re.compile(r"[A-Za-z0-9_-]+")

# What a template renders to where there is no value.
_NO_VALUE = ("", "None")

#: Names and values that together find a record again.
NaturalKey: TypeAlias = tuple[tuple[str, Any], ...]

_HTML = re.compile(rb"\s*<", re.ASCII)

_LIST_BEGIN, _LIST_COMMA, _LIST_END = (
    re.compile(rf"[ \t\n\r]*{mark}[ \t\n\r]*") for mark in (r"\[", ",", r"\]")
)

_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T", re.ASCII)

#: What stands in the place of a person's data.
MASK = "***"

#: Characters from which on a value that was sent is masked inside of other words too.
MASKED_IN_WORDS_FROM = 4


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


@dataclass(frozen=True)
class Response:
    """
    What a look at the service brought.

    :param value: a record or a list of records; None where nothing changed since the ETag that was sent.
    :param etag: the answer's ETag, to send with the next look; None where the service gives none.
    :param size: bytes of its body.
    """

    value: Any
    etag: str | None
    size: int


class Record(dict[str, Any]):
    """A record of the service. It shows its id alone, since what is shown ends up in logs."""

    def __repr__(self) -> str:
        return f"<Record {self.get('id')}>"


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
    :param attributes: what to write, from :func:`serialize_attributes`.
    """
    return Request("POST", f"/{resource.plural}.json", resource, {resource.name: attributes})


def update_request(
    resource: Resource[Any, Any], record_id: str, attributes: Mapping[str, Any], *, plural_paths: bool = False
) -> Request:
    """
    Build the request that changes a record.

    :param resource: its kind.
    :param record_id: its id.
    :param attributes: what to write, from :func:`serialize_attributes`.
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


def check_id(resource: Resource[Any, Any], record_id: object) -> None:
    """
    Refuse an id that cannot be one.

    :param resource: the kind of record.
    :param record_id: its id.
    :raises WebcamconsultInputError: if it is empty, no text, a template that rendered to ``None``, or would
        change the request's path.
    """
    name = f"{resource.name}_id"
    if record_id is None or record_id in _NO_VALUE:
        raise _no_value(name, record_id)
    if not isinstance(record_id, str):
        raise WebcamconsultInputError(f"{name} is a {type(record_id).__name__}. Give the id as text.")
    if not _ID.fullmatch(record_id):
        raise WebcamconsultInputError(
            f"{name} has characters that no id has (only letters, digits, - and _ can be). "
            "Give the id alone, not a path or a URL."
        )


def _no_value(name: str, value: object) -> WebcamconsultInputError:
    return WebcamconsultInputError(
        f"{name} is {value!r}: a template or an XCom gave no value. "
        "Check the run's params, or that the task that it comes from ran and returned an id."
    )


def _detail_path(resource: Resource[Any, Any], record_id: str, plural_paths: bool) -> str:
    check_id(resource, record_id)
    return f"/{resource.plural if plural_paths else resource.documented_detail}/{record_id}.json"


def check_attributes(
    resource: Resource[Any, Any], attributes: object, *, record_id: str | None = None
) -> list[str]:
    """
    Look at the attributes of a write before anything is sent.

    :param resource: the kind of record.
    :param attributes: what the caller wants to write.
    :param record_id: the record that is addressed, in an update.
    :return: warnings for the log; they show names, never values.
    :raises WebcamconsultInputError: if they are no dict, empty, or another record's.
    """
    if not isinstance(attributes, Mapping):
        raise WebcamconsultInputError(
            f"attributes of {with_article(resource)} must be a dict, not {type(attributes).__name__}. "
            "To pass what another task returned use its .output, or render_template_as_native_obj=True on "
            "the DAG."
        )
    if unusable := [name for name in attributes if not isinstance(name, str)]:
        raise WebcamconsultInputError(
            f"attributes of {with_article(resource)} has {len(unusable)} keys that are no text."
        )
    for name, meant in resource.aliases.items():
        if meant == "id" and record_id is not None:
            for key in (name, meant):
                if key in attributes and attributes[key] != record_id:
                    raise WebcamconsultInputError(
                        f"attributes has another '{key}' than the {resource.name}_id that is addressed. "
                        "Leave it out, or address the record that is meant."
                    )
    if not any(_is_written(resource, name) for name in attributes):
        raise WebcamconsultInputError(
            f"attributes of {with_article(resource)} has nothing that can be written. "
            f"Give at least one of: {', '.join(resource.writable)}."
        )
    warnings = []
    if left_out := [name for name in attributes if not _is_written(resource, name)]:
        warnings.append(
            f"Left out of the {resource.name}, since the service makes them itself: {', '.join(left_out)}."
        )
    for name in attributes:
        if _is_written(resource, name) and name not in resource.writable and name not in resource.aliases:
            warnings.append(_unknown(resource, name) + " It is sent as it stands.")
    return warnings


def _is_written(resource: Resource[Any, Any], name: str) -> bool:
    name = resource.aliases.get(name, name)
    return name not in resource.read_only and name not in resource.credentials


def with_article(resource: Resource[Any, Any]) -> str:
    """
    Name a kind of record in a sentence.

    :param resource: the kind.
    """
    return f"{'an' if resource.name[0] in 'aeio' else 'a'} {resource.name}"


def _unknown(resource: Resource[Any, Any], name: str) -> str:
    nearest = difflib.get_close_matches(name, resource.known, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"{with_article(resource).capitalize()} has no attribute '{name}' in the API document.{hint}"


def serialize_attributes(
    resource: Resource[Any, Any], attributes: Mapping[str, Any], *, zone: Timezone
) -> dict[str, Any]:
    """
    Turn checked attributes into what is sent.

    :param resource: the kind of record.
    :param attributes: what the caller wants to write, already through :func:`check_attributes`.
    :param zone: the time zone of dates without offset.
    :return: what can be written, under the service's names, with dates as the service wants them.
    :raises WebcamconsultInputError: if a date or another value cannot be sent.
    """
    payload: dict[str, Any] = {}
    for alias, value in attributes.items():
        if not _is_written(resource, alias):
            continue
        name = resource.aliases.get(alias, alias)
        if value is not None and (name in resource.datetimes or name in resource.dates):
            value = serialize_datetime(value, name=name, zone=zone, day_only=name in resource.dates)
        elif name.endswith("_id") and value in _NO_VALUE:
            raise _no_value(f"Attribute '{name}'", value)
        else:
            _refuse_unsendable(name, value)
        payload[name] = value
    return payload


def _refuse_unsendable(name: str, value: object) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        pass
    else:
        return
    raise WebcamconsultInputError(
        f"Attribute '{name}' holds a value that JSON has not ({type(value).__name__}). "
        "Give text, numbers, lists, dicts, or None for nothing."
    )


def encode(body: Mapping[str, Any]) -> bytes:
    """
    Write a body as JSON.

    :param body: the body.
    """
    return json.dumps(body, allow_nan=False).encode()


def read(
    request: Request,
    status_code: int,
    headers: Mapping[str, str],
    content: bytes,
    *,
    now: datetime.datetime | None = None,
    token: str = "",
) -> Any:
    """
    Read an answer.

    :param request: what it answers.
    :param status_code: HTTP status.
    :param headers: its headers, whatever their case.
    :param content: its body.
    :param now: the time, for a ``Retry-After`` that is a date.
    :param token: that was sent; no error shows it.
    :return: a record, a list of records, or None for a delete.
    :raises WebcamconsultError: what the answer means, if not success.
    """
    if 200 <= status_code < 300:
        if request.method == "DELETE" and not _HTML.match(content):
            return None
        return _read_records(request, status_code, content)
    if 300 <= status_code < 400:
        _raise_redirect(request, status_code, headers.get("Location", ""))
    if status_code >= 500 and request.is_create:
        unknown_outcome(
            request, f"{_said(request, status_code)}, the service failed.", status_code=status_code
        )
    details = _details(request, status_code)
    if status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        _raise_validation(request, content, token, details)
    if status_code == HTTPStatus.TOO_MANY_REQUESTS or status_code >= 500:
        details["retry_after"] = _retry_after(headers, now)
    error_class, remedy = _MEANINGS.get(status_code, _OTHER_MEANING)
    if status_code >= 500:
        error_class, remedy = exceptions.WebcamconsultServerError, "the service failed; try again later"
    if status_code == HTTPStatus.NOT_FOUND:
        if request.is_list or request.is_create:
            remedy = "the host has no such path; check the connection's Host"
        elif request.resource.documented_detail != request.resource.plural:
            remedy += ", and if both are right, turn the connection's 'plural_paths' the other way"
    raise error_class(
        f"{_said(request, status_code)}, {remedy.format(resource=request.resource)}.", **details
    )


_OTHER_MEANING: tuple[type[WebcamconsultError], str] = (
    exceptions.WebcamconsultRequestError,
    "the service does not take this request as it is",
)
_MEANINGS: dict[int, tuple[type[WebcamconsultError], str]] = {
    HTTPStatus.UNAUTHORIZED: (
        exceptions.WebcamconsultAuthenticationError,
        "the service refused the API token; enter the organisation's as the connection's password",
    ),
    HTTPStatus.FORBIDDEN: (
        exceptions.WebcamconsultAuthenticationError,
        "the API token may not do this; ask Webcamconsult for the right, or use another organisation's token",
    ),
    HTTPStatus.NOT_FOUND: (
        exceptions.WebcamconsultNotFoundError,
        "there is no such {resource.name} for this token, or no such path; check the id, and the Host",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        exceptions.WebcamconsultRateLimitError,
        "the service asks for fewer requests; lower the parallelism with a pool",
    ),
}


def unknown_outcome(request: Request, cause: str, *, status_code: int | None = None) -> NoReturn:
    """
    Say that a create may have been carried out.

    :param request: the create.
    :param cause: what happened, as a sentence.
    :param status_code: HTTP status of the answer, where there was one.
    :raises WebcamconsultUnknownOutcomeError: always.
    """
    raise WebcamconsultUnknownOutcomeError(
        f"{cause} Whether the {request.resource.name} was created is not known, so it was not sent again.",
        **_details(request, status_code),
    )


def _details(request: Request, status_code: int | None) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "status_code": status_code,
        "reason": _phrase(status_code),
    }


def _phrase(status_code: int | None) -> str | None:
    try:
        return None if status_code is None else HTTPStatus(status_code).phrase
    except ValueError:
        return None


def _said(request: Request, status_code: int) -> str:
    return f"{request.method} {request.path}: {status_code} {_phrase(status_code) or ''}".rstrip()


def _raise_redirect(request: Request, status_code: int, location: str) -> NoReturn:
    try:
        target = urlsplit(location)
        # Never the query: it can hold the token.
        address = f"{target.scheme}://{target.hostname or ''}{f':{target.port}' if target.port else ''}"
        elsewhere = f"to {address}" if target.netloc else "to another path"
    except ValueError:
        elsewhere = "to an address that is none"
    raise WebcamconsultConfigurationError(
        f"{_said(request, status_code)}, the host sends requests on {elsewhere}, and nothing was "
        "carried out; put the address that is meant into the connection's Host.",
        **_details(request, status_code),
    )


def _raise_validation(request: Request, content: bytes, token: str, details: dict[str, Any]) -> NoReturn:
    answer = _json(content)
    errors = answer.get("errors") if isinstance(answer, dict) else None
    sent = _sent_values([request.body, token])
    errors = _without_sent(errors, sent, request.resource.known) if isinstance(errors, dict) else {}
    reasons = "; ".join(
        f"{name}: {', '.join(map(str, messages)) if isinstance(messages, list) else messages}"
        for name, messages in errors.items()
    )
    raise WebcamconsultValidationError(
        f"{details['method']} {details['path']}: 422 {details['reason']}, "
        f"the service refused the attributes: {reasons or 'it gave no reason'}.",
        errors=errors,
        **details,
    )


def _without_sent(said: Any, sent: re.Pattern[str], names: Collection[str]) -> Any:
    """Mask what was sent where the service repeats it: its messages are logged."""
    if isinstance(said, dict):
        return {
            name if name in names else sent.sub(MASK, name): _without_sent(item, sent, names)
            for name, item in said.items()
        }
    if isinstance(said, list):
        return [_without_sent(item, sent, names) for item in said]
    return said if said is None or isinstance(said, bool) else sent.sub(MASK, str(said))


def _sent_values(sent: Any) -> re.Pattern[str]:
    texts = {value.strip() for value in _leaves(sent)} - {""}
    texts |= {text.partition("T")[0] for text in texts if _DATE_AND_TIME.match(text)}
    # Longest first: one value may begin with another. A short one may be a part of any word.
    found = (
        re.escape(text) if len(text) >= MASKED_IN_WORDS_FROM else rf"(?<!\w){re.escape(text)}(?!\w)"
        for text in sorted(texts, key=len, reverse=True)
    )
    return re.compile("|".join(found) or r"(?!)", re.IGNORECASE)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _retry_after(headers: Mapping[str, str], now: datetime.datetime | None) -> float | None:
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
        return max(0.0, (moment - now).total_seconds()) if now else None
    except (TypeError, ValueError, OverflowError):
        return None


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _read_records(request: Request, status_code: int, content: bytes) -> Any:
    if request.is_list:
        records = _read_list(request, content)
        if records is not None:
            return records
    elif isinstance(answer := _json(content), dict):
        item = answer.get(request.resource.name)
        if _id_of(request.resource, item):
            return _record(request.resource, item)
    details = _details(request, status_code)
    said = _said(request, status_code)
    if _HTML.match(content):
        cause = f"{said}, but the host answered with a web page, not as the API; check the connection's Host."
        if request.is_create:
            unknown_outcome(request, cause, status_code=status_code)
        raise WebcamconsultConfigurationError(cause, **details)
    cause = f"{said}, but the answer is not the documented JSON, or was cut off"
    if request.is_create:
        unknown_outcome(request, f"{cause}.", status_code=status_code)
    raise exceptions.WebcamconsultResponseError(
        f"{cause}; try again, and if it stays, check the connection's Host.", **details
    )


def _read_list(request: Request, content: bytes) -> list[Record] | None:
    """Read the records that are asked for; None if the answer is no list of records."""
    aliases = request.resource.aliases.items()
    taken = {"id", *(request.fields or ())}
    taken |= {alias for alias, name in aliases if name in taken}
    records = []
    try:
        for item in _items(content) if request.only is None else _items_one_by_one(content):
            record_id = _id_of(request.resource, item)
            if record_id is None:
                return None
            if request.only is None or record_id in request.only:
                if request.fields is not None:
                    item = {name: item[name] for name in taken if name in item}
                records.append(_record(request.resource, item))
    except (ValueError, RecursionError):
        return None
    return records


def _items(content: bytes) -> list[Any]:
    items = json.loads(content)
    if not isinstance(items, list):
        raise ValueError("no list")
    return items


def _items_one_by_one(content: bytes) -> Iterator[Any]:
    """Read a list that may be huge: read at once, it would hold up every other thread of the process."""
    text = content.decode("utf-8-sig")
    read_item = json.JSONDecoder().raw_decode
    mark = _LIST_BEGIN.match(text)
    if not mark:
        raise ValueError("no list")
    at = mark.end()
    if not text.startswith("]", at):
        while mark:
            item, at = read_item(text, mark.end())
            yield item
            mark = _LIST_COMMA.match(text, at)
    if not _LIST_END.fullmatch(text, at):
        raise ValueError("no end of a list, or more than a list")


def _id_of(resource: Resource[Any, Any], item: Any) -> str | None:
    """Return a record's id; None if it is no record."""
    if not isinstance(item, dict):
        return None
    record_id = item.get("id")
    if "id" not in item:
        names = (alias for alias, name in resource.aliases.items() if name == "id")
        record_id = next((item[alias] for alias in names if alias in item), None)
    return record_id if isinstance(record_id, str) and record_id else None


def _record(resource: Resource[Any, Any], item: Any) -> Record:
    """Read one record under the document's names."""
    item = _without(resource.credentials, item)
    for alias, name in resource.aliases.items():
        if alias in item:
            value = item.pop(alias)
            item.setdefault(name, value)
    return Record(item)


def _without(credentials: Any, value: Any) -> Any:
    # Called for what holds others alone: a list has thousands of records, of which most attributes are text.
    if isinstance(value, dict):
        return {
            name: _without(credentials, item) if isinstance(item, (dict, list)) else item
            for name, item in value.items()
            if name not in credentials
        }
    return [_without(credentials, item) if isinstance(item, (dict, list)) else item for item in value]


def natural_key_names(resource: Resource[Any, Any]) -> str:
    """
    Say what finds a record of a kind again.

    :param resource: the kind.
    """
    return ", else by ".join(" and ".join(names) for names in resource.natural_keys)


def natural_key(
    resource: Resource[Any, Any], values: Mapping[str, Any], *, like: NaturalKey | None = None
) -> NaturalKey | None:
    """
    Return what finds a record again, in a form that can be compared.

    :param resource: its kind.
    :param values: a record, or prepared attributes.
    :param like: take the names of this key, not the first that are given in full.
    :return: names and values; None if they are not given.
    """
    for names in [[name for name, _ in like]] if like else resource.natural_keys:
        parts = [(name, normalize(resource, name, values.get(name))) for name in names]
        if all(value not in (None, "") for _, value in parts):
            return tuple(parts)
    return None


def differing_attributes(
    resource: Resource[Any, Any], payload: Mapping[str, Any], record: Mapping[str, Any]
) -> list[str]:
    """
    Return the names of the attributes that a record does not have as they were written.

    :param resource: its kind.
    :param payload: prepared attributes.
    :param record: the record.
    """
    return [
        name
        for name, value in payload.items()
        if normalize(resource, name, value) != normalize(resource, name, record.get(name))
    ]


def normalize(resource: Resource[Any, Any], name: str, value: Any) -> Any:
    """
    Return a value in the form in which two values of an attribute are compared.

    :param resource: the kind of record.
    :param name: name of the attribute.
    :param value: the value, as it was sent or as the service returned it.
    """
    if name in resource.datetimes or name in resource.dates:
        return parse_datetime(value) or value
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # what a template renders is text, and the service reads it as the number
    if isinstance(value, str):
        # The service trims, and takes e-mail addresses of any case as the same.
        return (value.strip().casefold() if name == "email" else value.strip()) or None
    if isinstance(value, list) and name.endswith("_ids"):
        return sorted(set(map(str, value))) or None
    return value


def select(resource: Resource[Any, Any], record: Mapping[str, Any], fields: Any = None) -> dict[str, Any]:
    """
    Take from a record what may be stored.

    :param resource: its kind.
    :param record: the record.
    :param fields: names to take; None takes the id and what is not personal.
    :return: the attributes that were asked for; one that the record lacks is None.
    """
    if fields is None:
        return {name: record[name] for name in resource.non_personal if name in record}
    return {name: record.get(name) for name in fields}


def check_fields(resource: Resource[Any, Any], fields: object) -> list[str]:
    """
    Look at the names of the attributes to return.

    :param resource: the kind of record.
    :param fields: the names, or None.
    :return: warnings for the log.
    :raises WebcamconsultInputError: if it is no list of names, or names a credential.
    """
    if fields is None:
        return []
    if isinstance(fields, str) or not isinstance(fields, (list, tuple, set, frozenset)):
        raise WebcamconsultInputError("fields must be a list of attribute names.")
    if secret := [name for name in fields if name in resource.credentials]:
        raise WebcamconsultInputError(
            f"fields names {', '.join(secret)}, a credential: those are never returned. "
            "hook.get_conn() gives the plain session for who really needs them."
        )
    return [_unknown(resource, str(name)) for name in fields if name not in resource.known]
