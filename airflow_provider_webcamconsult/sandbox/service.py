"""The Webcamconsult API of the sandbox without HTTP: its resources, their validation and their data."""

from __future__ import annotations

import copy
import itertools
import json
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow_provider_webcamconsult.sandbox.data_file import DataFile, SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
DOCUMENT_TOKENS = ("38826f79010b41b5aaeb4710debb09db", "eb4710debb09db38826f79010b41b5aa")

Record = dict[str, Any]
Organisation = dict[str, dict[str, Record]]


class ApiError(Exception):
    """The API rejects a request.

    :param status: the HTTP status code of the response.
    :param errors: for a 422, the messages for each invalid attribute.
    """

    def __init__(self, status: int, errors: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.errors = errors


# Validators of attributes. Each returns the value to store, or raises ValueError with the API's message.


def _anything(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a string")
    return value


def _email(value: Any) -> str:
    email = _text(value)
    # An empty text is no address, as in Rails' usual check.
    if email and not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        raise ValueError("is ongeldig")
    return email


def _ids(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("is not a list of strings")
    return value


def _whole_number(value: Any) -> int:
    # Airflow renders templates as strings, and Rails converts "30" to 30.
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("is not a whole number")
    return value


_DATE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)


def _date(value: Any) -> str:
    match = _DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("is not a date")
    date, time, offset = match.groups()
    clock_time, _, fraction = (time or "00:00").partition(".")
    try:
        local = datetime.fromisoformat(f"{date}T{clock_time}")
        local = local.replace(microsecond=int(f"{fraction:0<3.3}") * 1000)
        if offset:
            offset = f"{offset}00" if len(offset) == 3 else offset
            return format_datetime(local.replace(tzinfo=datetime.strptime(offset, "%z").tzinfo))
        formatted = format_datetime(local.replace(tzinfo=AMSTERDAM))
    except (ValueError, OverflowError):
        raise ValueError("is not a date") from None
    # A date without a time is a date of birth, which clock changes do not affect.
    if time and not formatted.startswith(local.isoformat(timespec="milliseconds")):
        raise ValueError("does not exist: the clock goes forward at that hour in Amsterdam")
    return formatted


def format_datetime(value: datetime) -> str:
    """Format a datetime as the service does: Amsterdam time with milliseconds and UTC offset.

    :param value: an aware datetime.
    :return: the datetime in ISO 8601 format.
    """
    # Before 1937 Amsterdam's offset had seconds (+00:19:32). The service omits them, and so does the slice.
    return value.astimezone(timezone.utc).astimezone(AMSTERDAM).isoformat(timespec="milliseconds")[:29]


def _joined(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _user_names(user: Record) -> Record:
    return {"full_name": _joined(user["titles"], user["initials"], user["last_name"])}


def _client_names(client: Record) -> Record:
    salutation = {"male": "Dhr.", "female": "Mevr."}.get(client["gender"])
    parts = (client["titles"], client["initials"], client["surname_prefix"], client["last_name"])
    return {"client_full_name": _joined(salutation, *parts)}


def _new_appointment(appointment: Record) -> Record:
    return {"created_at": format_datetime(datetime.now(timezone.utc)), "orig_date": appointment["date"]}


@dataclass(frozen=True)
class Resource:
    """One of the three resources of the API document.

    :param name: name of the collection, as in ``/users.json``.
    :param envelope: the key that wraps a single record in requests and responses.
    :param detail: the documented path segment of a single record.
    :param attributes: the writable attributes with their validators.
    :param undocumented: the same for attributes that only the live service has. Responses contain them once
        they are set.
    :param ignored: generated attributes and credentials, which have no effect in a request.
    :param detail_keys: keys of a single record in a response, with the attribute of each.
    :param list_keys: keys of a record in a list response, with the attribute of each.
    :param credential: name of the generated credential, if any.
    :param at_creation: generates attributes when a record is created.
    :param at_every_write: generates attributes that depend on others, at every write.
    """

    name: str
    envelope: str
    detail: str
    attributes: Mapping[str, Callable[[Any], Any]]
    ignored: frozenset[str]
    detail_keys: Mapping[str, str]
    list_keys: Mapping[str, str]
    undocumented: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    credential: str | None = None
    at_creation: Callable[[Record], Record] = lambda _record: {}
    at_every_write: Callable[[Record], Record] = lambda _record: {}


def _keys(names: str, **renamed: str) -> dict[str, str]:
    return {renamed.get(name, name): name for name in names.split()}


_USER = "id titles initials last_name full_name email address postal_code city roles"
_CLIENT = (
    "id email titles initials surname_prefix last_name client_full_name external gender date_of_birth"
    " reference_code division_ids"
)
# The responses in the API document omit orig_date, started_at and created_at. They only show idle
# appointments, which cannot have started_at, so the sandbox returns it once an appointment has started.
_APPOINTMENT = (
    "id user_id client_id created_by_user_id date state division_id duration external_participant_ids"
    " inloop_json token"
)

USERS = Resource(
    name="users",
    envelope="user",
    detail="users",
    attributes={
        **dict.fromkeys(("titles", "initials", "last_name", "address", "postal_code", "city"), _text),
        "email": _email,
    },
    ignored=frozenset({"id", "full_name", "roles"}),
    detail_keys=_keys(_USER),
    list_keys=_keys(_USER, email="emails"),
    at_creation=lambda _user: {"roles": ["consultant"]},
    at_every_write=_user_names,
)
CLIENTS = Resource(
    name="clients",
    envelope="client",
    detail="client",
    attributes={
        **dict.fromkeys(("titles", "initials", "surname_prefix", "last_name"), _text),
        "email": _email,
        "external": _anything,
        "gender": _text,
        "date_of_birth": _date,
        "reference_code": _text,
        "division_ids": _ids,
    },
    undocumented=dict.fromkeys(("first_name", "mobile_number", "time_zone", "language"), _text),
    ignored=frozenset({"id", "client_full_name", "authentication_token"}),
    detail_keys=_keys(_CLIENT),
    list_keys=_keys(f"{_CLIENT} authentication_token"),
    credential="authentication_token",
    at_every_write=_client_names,
)
APPOINTMENTS = Resource(
    name="appointments",
    envelope="appointment",
    detail="appointment",
    attributes={
        **dict.fromkeys(("user_id", "client_id", "created_by_user_id"), _text),
        "date": _date,
        "division_id": _text,
        "duration": _whole_number,
        "external_participant_ids": _ids,
        "inloop_json": _anything,
    },
    undocumented={"questionnaire_id": _text},
    ignored=frozenset({"id", "state", "orig_date", "started_at", "created_at", "token"}),
    detail_keys=_keys(_APPOINTMENT),
    list_keys=_keys(_APPOINTMENT),
    credential="token",
    at_creation=_new_appointment,
)
RESOURCES = {resource.name: resource for resource in (USERS, CLIENTS, APPOINTMENTS)}


@lru_cache
def parse_states(states: str) -> tuple[tuple[str, timedelta | None], ...]:
    """Parse a schedule of states such as ``idle:5s,started:2m,finished``.

    :param states: states in order, separated by commas, each except the last with a duration in s, m or h.
    :return: each state with its duration; None for the last.
    :raises SandboxError: if the schedule is invalid.
    """
    units = {"s": "seconds", "m": "minutes", "h": "hours"}
    *timed, final = (part.strip() for part in states.split(","))
    schedule: list[tuple[str, timedelta | None]] = []
    for part in timed:
        match = re.fullmatch(r"([^:]+):([0-9]{1,6}(?:\.[0-9]{1,6})?)([smh])", part)
        if match is None:
            raise SandboxError(
                f"Invalid states {states!r}: cannot parse {part!r}. "
                "Give each state except the last a duration, as in idle:5s,started:2m,finished."
            )
        schedule.append((match[1], timedelta(**{units[match[3]]: float(match[2])})))
    if not final or ":" in final:
        raise SandboxError(
            f"Invalid states {states!r}: the last state must be a name without a duration, "
            "as in idle:5s,started:2m,finished."
        )
    return (*schedule, (final, None))


def _advance(appointment: Record) -> None:
    """Update the state of an appointment according to its schedule."""
    if appointment["schedule"] is None:
        return
    state_began = datetime.fromisoformat(appointment["created_at"])
    now = datetime.now(timezone.utc)
    for state, duration in parse_states(appointment["schedule"]):
        appointment["state"] = state
        if state != "idle":
            appointment.setdefault("started_at", format_datetime(state_began))
        if duration is None:
            appointment["schedule"] = None
        elif now < state_began + duration:
            return
        else:
            state_began += duration


class Service:
    """The records of the organisations, and the five actions of the API for each resource.

    All actions take the same arguments, even if they do not use all of them. They return the body of the 200
    response.

    :param tokens: one API token for each organisation.
    :param states: the schedule of states for new appointments.
    :param data: the JSON file to store all data in. By default, the data is only in memory.
    :raises SandboxError: if an argument is invalid, or if the data file cannot be read or written.
    """

    def __init__(self, tokens: Iterable[str], states: str, data: str | Path | None = None) -> None:
        self.tokens = tuple(dict.fromkeys((tokens,) if isinstance(tokens, str) else tokens))
        # Only characters that need no quotes in the header.
        if not self.tokens or not all(re.fullmatch(r"[!#-+\--~]+", token) for token in self.tokens):
            raise SandboxError(
                "Missing or invalid token. Give at least one token of printable ASCII characters "
                "without spaces, commas and double quotes."
            )
        parse_states(states)
        self._states = states
        # The records are shared between the server's thread and callers of Sandbox.
        self._lock = threading.RLock()
        self._ids = _object_ids()
        self._file = DataFile(data) if data is not None else None
        self._organisations = self._without_records()
        self.open()

    def open(self) -> None:
        """Lock and load the data file, unless it is locked already.

        :raises SandboxError: if another sandbox uses the data file, or if it cannot be read or written.
        """
        with self._lock:
            if self._file is None or self._file.is_locked:
                return
            try:
                self._file.lock()
                self._organisations = {**self._without_records(), **self._load(self._file.path)}
                self._save()
            except OSError as error:
                self._file.release()
                raise SandboxError(
                    f"Cannot write the data file {self._file.path}: {error.strerror}. "
                    "Check the path and its permissions."
                ) from error
            except BaseException:
                self._file.release()
                raise

    def close(self) -> None:
        """Let other sandboxes use the data file. The records stay readable."""
        with self._lock:
            if self._file is not None:
                self._file.release()

    def list_all(
        self, resource: Resource, token: str, _id: str = "", _body: Mapping[str, Any] | None = None
    ) -> list[Record]:
        """Return all records of the organisation. The API document has no pagination or filters."""
        with self._lock:
            records = self._organisations[token][resource.name].values()
            return [_to_response(resource, record, resource.list_keys) for record in records]

    def view(
        self, resource: Resource, token: str, record_id: str, _body: Mapping[str, Any] | None = None
    ) -> Record:
        """Return one record."""
        with self._lock:
            return self._detail(resource, self._find(resource, token, record_id))

    def create(self, resource: Resource, token: str, _id: str, body: Mapping[str, Any]) -> Record:
        """Create a record."""
        with self._lock:
            organisation = self._organisations[token]
            attributes = _validate(resource, organisation, body)
            record = {"id": next(self._ids), **dict.fromkeys(resource.attributes), **attributes}
            if resource.credential:
                record[resource.credential] = secrets.token_urlsafe(15)
            record.update(resource.at_creation(record))
            record.update(resource.at_every_write(record))
            if resource is APPOINTMENTS:
                record["schedule"] = self._states
            organisation[resource.name][record["id"]] = record
            return self._save_and_return(resource, record)

    def update(self, resource: Resource, token: str, record_id: str, body: Mapping[str, Any]) -> Record:
        """Update only the given attributes. Null clears an attribute."""
        with self._lock:
            record = self._find(resource, token, record_id)
            record.update(_validate(resource, self._organisations[token], body, record_id))
            record.update(resource.at_every_write(record))
            return self._save_and_return(resource, record)

    def delete(
        self, resource: Resource, token: str, record_id: str, _body: Mapping[str, Any] | None = None
    ) -> Record:
        """Delete a record. The request body that the API document shows is ignored."""
        with self._lock:
            self._find(resource, token, record_id)
            del self._organisations[token][resource.name][record_id]
            self._save()
            return {"status": "ok"}

    def set_state(self, resource: Resource, token: str, record_id: str, body: Mapping[str, Any]) -> Record:
        """Set the state of an appointment, and stop its schedule. This is not part of the real API."""
        state = body.get("state")
        if not isinstance(state, str) or not state:
            raise ApiError(422, {"state": ["is not a state name"]})
        with self._lock:
            appointment = self._find(resource, token, record_id)
            _advance(appointment)
            appointment.update(state=state, schedule=None)
            if state != "idle":
                appointment.setdefault("started_at", format_datetime(datetime.now(timezone.utc)))
            return self._save_and_return(resource, appointment)

    def records(self, name: str, token: str) -> list[Record]:
        """Return a copy of the stored records, including generated attributes and credentials.

        :param name: ``users``, ``clients`` or ``appointments``.
        :param token: the organisation's token.
        :return: the records.
        """
        with self._lock:
            records = self._organisations[token][name].values()
            if name == APPOINTMENTS.name:
                for record in records:
                    _advance(record)
            return copy.deepcopy([*records])

    def owner(self, name: str, record_id: str) -> str | None:
        """Return the token of the organisation that has a record.

        :param name: ``users``, ``clients`` or ``appointments``.
        :param record_id: id of the record.
        :return: the token, or None if no organisation has the record.
        """
        with self._lock:
            return next((t for t in self.tokens if record_id in self._organisations[t][name]), None)

    def _find(self, resource: Resource, token: str, record_id: str) -> Record:
        try:
            return self._organisations[token][resource.name][record_id]
        except KeyError:
            raise ApiError(404) from None

    def _detail(self, resource: Resource, record: Record) -> Record:
        return {resource.envelope: _to_response(resource, record, resource.detail_keys)}

    def _save_and_return(self, resource: Resource, record: Record) -> Record:
        response = self._detail(resource, record)
        self._save()
        return response

    def _without_records(self) -> dict[str, Organisation]:
        return {token: {name: {} for name in RESOURCES} for token in self.tokens}

    def _load(self, path: Path) -> dict[str, Organisation]:
        try:
            stored = json.loads(path.read_bytes())["organisations"]
            organisations: dict[str, Organisation] = {
                token: {name: {record["id"]: record for record in records[name]} for name in RESOURCES}
                for token, records in stored.items()
            }
            for organisation in organisations.values():
                for resource in RESOURCES.values():
                    for record in organisation[resource.name].values():
                        _to_response(resource, record, resource.list_keys)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SandboxError(
                f"Cannot read the data file {path}: {error.strerror}. Check the path and its permissions."
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SandboxError) as error:
            raise SandboxError(
                f"{path} is not a sandbox data file, or it is damaged. The file was not changed. "
                "Delete it or use another file."
            ) from error
        return organisations

    def _save(self) -> None:
        if self._file is None:
            return
        stored = {
            token: {name: [*records.values()] for name, records in organisation.items()}
            for token, organisation in self._organisations.items()
        }
        self._file.save({"organisations": stored})


def _to_response(resource: Resource, record: Record, keys: Mapping[str, str]) -> Record:
    if resource is APPOINTMENTS:
        _advance(record)
    response = {key: record[attribute] for key, attribute in keys.items()}
    for name in (*resource.undocumented, "started_at"):
        if name in record:
            response[name] = record[name]
    return response


def _validate(
    resource: Resource, organisation: Organisation, body: Mapping[str, Any], record_id: str | None = None
) -> Record:
    """Return the attributes to store from a request body, or raise the error of the API."""
    values = body.get(resource.envelope)
    if values in (None, {}, []) or (isinstance(values, str) and not values.strip()):
        raise ApiError(400)
    if not isinstance(values, dict):
        raise ApiError(500)
    validators = {**resource.attributes, **resource.undocumented}
    attributes: Record = {}
    # The real service ignores unknown attributes, inside and outside the envelope. The sandbox rejects them.
    errors = {name: ["is unknown"] for name in body.keys() - {resource.envelope, "authentication_token"}}
    for name, value in values.items():
        if name in resource.ignored:
            continue
        if name not in validators:
            errors[name] = ["is unknown"]
            continue
        try:
            attributes[name] = None if value is None else validators[name](value)
        except ValueError as error:
            errors[name] = [str(error)]
    if resource is USERS and attributes.get("email"):
        email = attributes["email"].lower()
        others = (user for user in organisation[USERS.name].values() if user["id"] != record_id)
        if any((other["email"] or "").lower() == email for other in others):
            errors["email"] = ["is al in gebruik"]
    if errors:
        raise ApiError(422, errors)
    if not _is_storable(attributes):
        raise ApiError(500)
    return attributes


def _is_storable(value: Any) -> bool:
    """Return whether MongoDB can store a JSON value."""
    if isinstance(value, dict):
        return all("\0" not in key and _is_storable(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_storable(item) for item in value)
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _object_ids() -> Iterator[str]:
    """Generate ids as MongoDB does: the time in seconds, five random bytes and a counter."""
    process = secrets.token_hex(5)
    # The counter starts in the lower half of its three bytes, so that it does not overflow for long.
    for count in itertools.count(secrets.randbits(23)):
        yield f"{int(time.time()):08x}{process}{count % 2**24:06x}"
