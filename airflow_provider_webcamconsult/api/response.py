"""Parse responses into records, or raise the error that they mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias
from urllib.parse import urlsplit

from airflow_provider_webcamconsult import exceptions
from airflow_provider_webcamconsult.api.decoding import (
    decode_object,
    items_nearby,
    record_decoder,
    split_list,
    to_record,
    without_others,
)
from airflow_provider_webcamconsult.api.missing import is_no_value
from airflow_provider_webcamconsult.api.payload import describe_unknown
from airflow_provider_webcamconsult.api.redaction import select_known_messages
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultError,
    WebcamconsultUnknownOutcomeError,
    WebcamconsultValidationError,
)

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import msgspec

    from airflow_provider_webcamconsult.api.redaction import Record
    from airflow_provider_webcamconsult.api.request import Request
    from airflow_provider_webcamconsult.api.resources import Resource

#: Maximum length of a host name in a message, in characters; the maximum of the DNS.
HOST_MAX_LENGTH = 253

# A host that others choose can contain a token or a person's name and date of birth.
_HOST = re.compile(rf"(?!.*\d{{4}})(?!.*[^.]{{21}})[a-z0-9.-]{{1,{HOST_MAX_LENGTH}}}")
_HTML = re.compile(rb"\s*<", re.ASCII)


@dataclass(frozen=True)
class Response:
    """
    The result of a conditional request.

    :param value: a record or a list of records; None if nothing has changed since the ETag that was sent.
    :param etag: ETag to send with the next request; None if the service sent none.
    :param size: size of the body in bytes.
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
) -> Any:
    """
    Return the records of a response, or raise its error.

    :param request: the request.
    :param status_code: HTTP status.
    :param headers: headers, as a case-insensitive mapping.
    :param content: body.
    :param now: the current time, for a ``Retry-After`` that is a date.
    :return: a record, an iterator over the records of a list, or None for a delete. The iterator raises a
        WebcamconsultResponseError when it reaches what is not a record, unless the request skips that.
    :raises WebcamconsultError: if the request failed.
    """
    if 200 <= status_code < 300:
        if request.method == "DELETE" and _confirms_delete(status_code, content):
            return None
        return _read_records(request, status_code, content)
    if 300 <= status_code < 400:
        _raise_redirect(request, status_code, headers.get("Location", ""))
    if status_code >= 500 and request.is_create:
        raise_unknown_outcome(request, f"{_returned(request, status_code)}.", status_code=status_code)
    details = _details(request, status_code)
    if request.is_create and status_code < 500 and status_code not in NOT_PROCESSED:
        raise_unknown_outcome(request, f"{_returned(request, status_code)}.", status_code=status_code)
    if status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        if request.is_create and not content.lstrip().startswith((b"{", b"[")):
            _raise_foreign(request, details)
        _raise_validation(request, content, details)
    if status_code == HTTPStatus.TOO_MANY_REQUESTS or status_code >= 500:
        details["retry_after"] = _retry_after(headers, now)
    if status_code >= 500:
        error_class, explanation = _SERVER_ERROR
    elif status_code == HTTPStatus.NOT_FOUND:
        if decode_object(content) is None:
            _raise_foreign(request, details)
        error_class, explanation = exceptions.WebcamconsultNotFoundError, _explain_not_found(request)
    else:
        if status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) and _HTML.match(content):
            _raise_foreign(request, details)
        error_class, explanation = _CLIENT_ERRORS.get(status_code, _OTHER_CLIENT_ERROR)
    message = f"{_returned(request, status_code)}. {explanation}"
    if status_code == HTTPStatus.NOT_FOUND and request.record_id is not None:
        message = f"{explain_missing(request.resource, request.record_id)} {message}"
    raise error_class(message, **details)


#: The redirects that only name another address for the same request. After another one, such as the
#: 302 or 303 that web applications return for a form that they have processed, a create may be carried out.
SENT_ELSEWHERE = frozenset({301, 307, 308})

#: The 4xx that are certainly sent before a request is processed. After another one, such as a gateway's 408
#: or 499, a create may still be carried out.
NOT_PROCESSED = frozenset(
    {400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 417, 421, 422, 426, 428, 429, 431}
)


def _confirms_delete(status_code: int, content: bytes) -> bool:
    """
    Return whether a response says that the record was deleted.

    The document has ``{"status": "ok"}``, and the live service ``{"message": "…"}``. Any other object may be
    an error or the response to another request. The delete is then repeated, and a 404 confirms it.
    """
    if status_code == HTTPStatus.NO_CONTENT:
        return True
    data = decode_object(content) if status_code == HTTPStatus.OK else None
    if not data or any(data.get(name) for name in ("error", "errors")):
        return False
    return data.get("status", "ok") in ("ok", HTTPStatus.OK) and bool(data.keys() & {"status", "message"})


_ErrorDescription: TypeAlias = tuple[type[WebcamconsultError], str]

_SERVER_ERROR: _ErrorDescription = (
    exceptions.WebcamconsultServerError,
    "Webcamconsult failed to process the request. A later attempt may succeed.",
)
_CLIENT_ERRORS: dict[int, _ErrorDescription] = {
    # What gateways send if a request takes too long.
    **dict.fromkeys((408, 425, 499), _SERVER_ERROR),
    HTTPStatus.UNAUTHORIZED: (
        exceptions.WebcamconsultAuthenticationError,
        "Webcamconsult rejected the API token. Enter the organisation's API token as the connection's "
        "password.",
    ),
    HTTPStatus.FORBIDDEN: (
        exceptions.WebcamconsultAuthenticationError,
        "The API token has no permission for this request. Check that it is your organisation's API token, "
        "then ask Webcamconsult for the permission.",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        exceptions.WebcamconsultRateLimitError,
        "Webcamconsult received too many requests. Limit the number of parallel tasks with an Airflow pool.",
    ),
}
_OTHER_CLIENT_ERROR: _ErrorDescription = (
    exceptions.WebcamconsultRequestError,
    "Webcamconsult rejected the request and would reject a retry. Check the id and the attributes.",
)


def _explain_not_found(request: Request) -> str:
    resource = request.resource
    if request.is_list or request.is_create:
        return "The host does not have this path. Check the connection's Host."
    explanation = f"If the {resource.name} does exist, check the connection's Host"
    if resource.documented_detail != resource.plural:
        explanation += " and its extra 'plural_paths'"
    return f"{explanation}."


def explain_missing(resource: Resource[Any, Any], record_id: str) -> str:
    """
    Say that a record is gone.

    :param resource: the kind of record.
    :param record_id: id of the record.
    :return: a sentence for a message.
    """
    return (
        f"{resource.name.capitalize()} {record_id} does not exist for this API token: "
        "it was deleted, or the id is wrong."
    )


def _raise_foreign(request: Request, details: dict[str, Any]) -> NoReturn:
    """Raise the error of a rejection by a gateway or another host, which proves nothing about the record."""
    status_code = details["status_code"]
    cause = f"{_returned(request, status_code)}, but the response did not come from the Webcamconsult API"
    if request.is_create:
        raise_unknown_outcome(
            request, f"{cause}. The connection's Host may be wrong.", status_code=status_code
        )
    if status_code == HTTPStatus.NOT_FOUND and not request.is_list:
        cause += f", so the {request.resource.name} may exist"
    raise exceptions.WebcamconsultResponseError(
        f"{cause}. Try again; if the error persists, check the connection's Host.", **details
    )


def raise_unknown_outcome(request: Request, cause: str, *, status_code: int | None = None) -> NoReturn:
    """
    Raise the error of a create request that may have succeeded.

    :param request: the create request.
    :param cause: what happened, as a full sentence.
    :param status_code: HTTP status of the response, if there was one.
    :raises WebcamconsultUnknownOutcomeError: always.
    """
    raise WebcamconsultUnknownOutcomeError(
        f"{cause} The {request.resource.name} may have been created, so the request was not retried.",
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


def _returned(request: Request, status_code: int) -> str:
    return f"{request} returned {status_code}"


def _raise_redirect(request: Request, status_code: int, location: str) -> NoReturn:
    try:
        target = urlsplit(location)
        if target.netloc and not (
            target.scheme in ("http", "https") and _HOST.fullmatch(target.hostname or "")
        ):
            raise ValueError("not a web address")
        # Without the query, which can contain the token.
        address = f"{target.scheme}://{target.hostname}{f':{target.port}' if target.port else ''}"
        description = address if target.netloc else "another path"
    except ValueError:
        description = "an address that may be invalid and is not shown"
    cause = f"{_returned(request, status_code)}. The host redirects to {description}"
    if request.is_create and status_code not in SENT_ELSEWHERE:
        raise_unknown_outcome(
            request, f"{cause}. The connection's Host may be wrong.", status_code=status_code
        )
    may_be_processed = request.method != "GET" and status_code not in SENT_ELSEWHERE
    consequence = (
        "perhaps after it has processed the request"
        if may_be_processed
        else "so the request was not processed"
    )
    raise WebcamconsultConfigurationError(
        f"{cause}, {consequence}. Enter the correct address as the connection's Host.",
        **_details(request, status_code),
    )


def _raise_validation(request: Request, content: bytes, details: dict[str, Any]) -> NoReturn:
    errors = (decode_object(content) or {}).get("errors")
    known, withheld = select_known_messages(
        errors if isinstance(errors, dict) else {}, request.resource.known
    )
    reasons = "; ".join(f"{name}: {', '.join(messages)}" for name, messages in known.items())
    sentences = [f"{_returned(request, details['status_code'])}. Webcamconsult rejected the attributes."]
    if reasons:
        sentences.append(f"Correct these attributes: {reasons}.")
    if withheld:
        subject = (
            "1 message is withheld because it"
            if withheld == 1
            else f"{withheld} messages are withheld because they"
        )
        sentences.append(f"{subject} may contain personal data.")
    if not reasons:
        if not withheld:
            sentences.append("The response contains no reason.")
        sentences.append("Compare the attributes with the API document.")
    sentences += describe_unknown(request.resource, (request.body or {}).get(request.resource.name, ()))
    raise WebcamconsultValidationError(" ".join(sentences), errors=known, **details)


def _retry_after(headers: Mapping[str, str], now: datetime.datetime | None) -> float | None:
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        return max(0.0, (date - now).total_seconds()) if now else None
    except (TypeError, ValueError, OverflowError):
        return None


def _read_records(request: Request, status_code: int, content: bytes) -> Any:
    details = _details(request, status_code)
    returned = _returned(request, status_code)
    if request.is_list:
        # Any other 2xx can be a part of the list, or of another host.
        items = split_list(content) if status_code == HTTPStatus.OK else None
        if items is not None:
            return _iterate_records(request, items, status_code)
    elif request.method != "DELETE" and (data := decode_object(content)) is not None:
        record = to_record(request.resource, data.get(request.resource.name))
        if request.is_create and record is not None and (data.get("errors") or is_no_value(record["id"])):
            record = None
        if record is not None and request.record_id in (None, record["id"]):
            return record
        if record is not None:
            raise exceptions.WebcamconsultResponseError(
                f"{returned} with another {request.resource.name} than the requested one. Check that the id "
                "has the same upper and lower case as in Webcamconsult, and check the connection's Host.",
                **details,
            )
    if _HTML.match(content):
        cause = f"{returned} with a web page instead of JSON."
        if request.is_create:
            raise_unknown_outcome(
                request, f"{cause} The connection's Host may be wrong.", status_code=status_code
            )
        raise WebcamconsultConfigurationError(f"{cause} Check the connection's Host.", **details)
    cause = f"{returned}, but the response is not the documented JSON or is incomplete."
    if request.is_create:
        raise_unknown_outcome(request, cause, status_code=status_code)
    raise exceptions.WebcamconsultResponseError(
        f"{cause} Try again; if the error persists, check the connection's Host.", **details
    )


def _iterate_records(
    request: Request, items: Sequence[msgspec.Raw], status_code: int
) -> Iterator[Record | None]:
    """Decode the requested records of a list one by one. A single long call would block all other threads."""
    resource, only = request.resource, request.only
    positions = {} if request.positions is None else request.positions
    decode = record_decoder(resource, None if request.fields is None else frozenset({"id", *request.fields}))
    requested = _requested_items(request, items)
    positions.clear()
    for position, item in requested:
        record = to_record(resource, decode(item))
        if record is not None:
            if only is None:
                yield record
            elif record["id"] in only:
                positions[record["id"]] = position
                yield record
        elif request.malformed == "none":
            yield None
        elif request.malformed == "raise":
            raise exceptions.WebcamconsultResponseError(
                f"{_returned(request, status_code)}, but record {position} of the list is not the documented "
                "JSON or is incomplete. Try again; if the error persists, check the connection's Host.",
                **_details(request, status_code),
            )


def _requested_items(request: Request, items: Sequence[msgspec.Raw]) -> Iterable[tuple[int, msgspec.Raw]]:
    """Return the items that may be requested, with their positions from 1."""
    resource, only, skip_malformed = request.resource, request.only, request.malformed == "skip"
    if only is None:
        return enumerate(items, 1)
    if request.positions and skip_malformed:
        nearby = items_nearby(resource, items, only, request.positions)
        if nearby is not None:
            return nearby
    return without_others(resource, items, only, skip_malformed=skip_malformed)
