"""Read the service's answers: into records, or into the error that they mean."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from airflow_provider_webcamconsult import exceptions
from airflow_provider_webcamconsult.api.redaction import (
    Record,
    mask_sent_values,
    without_credentials,
)
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultError,
    WebcamconsultUnknownOutcomeError,
    WebcamconsultValidationError,
)

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator, Mapping

    from airflow_provider_webcamconsult.api.request import Request
    from airflow_provider_webcamconsult.api.resources import Resource

_HTML = re.compile(rb"\s*<", re.ASCII)

_LIST_BEGIN, _LIST_COMMA, _LIST_END = (
    re.compile(rf"[ \t\n\r]*{mark}[ \t\n\r]*") for mark in (r"\[", ",", r"\]")
)


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


def read_response(
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
        raise_unknown_outcome(
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


def raise_unknown_outcome(request: Request, cause: str, *, status_code: int | None = None) -> NoReturn:
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
    known = request.resource.known
    errors = mask_sent_values(errors, [request.body, token], names=known) if isinstance(errors, dict) else {}
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
            raise_unknown_outcome(request, cause, status_code=status_code)
        raise WebcamconsultConfigurationError(cause, **details)
    cause = f"{said}, but the answer is not the documented JSON, or was cut off"
    if request.is_create:
        raise_unknown_outcome(request, f"{cause}.", status_code=status_code)
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
    item = without_credentials(resource.credentials, item)
    for alias, name in resource.aliases.items():
        if alias in item:
            value = item.pop(alias)
            item.setdefault(name, value)
    return Record(item)
