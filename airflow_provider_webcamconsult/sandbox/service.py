"""The Webcamconsult API and its data, without HTTP: what is taken, kept, refused and answered."""

from __future__ import annotations

import copy
import json
import os
import re
import secrets
import tempfile
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
DOCUMENT_TOKENS = ("38826f79010b41b5aaeb4710debb09db", "eb4710debb09db38826f79010b41b5aa")

Record = dict[str, Any]
Organisation = dict[str, dict[str, Record]]


class SandboxError(Exception):
    """The sandbox cannot start; the message says why, in one sentence."""


class ApiError(Exception):
    """A request that the API refuses.

    :param status: the HTTP status of the answer.
    :param errors: for a 422, what is wrong with each attribute.
    """

    def __init__(self, status: int, errors: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.errors = errors


# What an attribute may hold: each check returns the value to keep, or raises ValueError with what is wrong.


def _anything(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a string")
    return value


def _ids(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("is not a list of strings")
    return value


def _whole_number(value: Any) -> int:
    # Airflow renders templates to strings, and Rails reads "30" as 30.
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
    day, time, offset = match.groups()
    clock, _, fraction = (time or "00:00").partition(".")
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}")
        moment = moment.replace(microsecond=int(f"{fraction:0<3.3}") * 1000)
        if offset:
            offset = f"{offset}00" if len(offset) == 3 else offset
            return answered_date(moment.replace(tzinfo=datetime.strptime(offset, "%z").tzinfo))
        answered = answered_date(moment.replace(tzinfo=AMSTERDAM))
    except (ValueError, OverflowError):
        raise ValueError("is not a date") from None
    # A day without a time is a birth date, never a moment that the clock skips.
    if time and not answered.startswith(moment.isoformat(timespec="milliseconds")):
        raise ValueError("does not exist: the clock goes forward at that hour in Amsterdam")
    return answered


def answered_date(moment: datetime) -> str:
    """Write a moment as the service answers it: Amsterdam time, milliseconds, offset.

    :param moment: any aware datetime.
    """
    # Before 1937 Amsterdam's offset had seconds (+00:19:32); the service leaves them out, as the slice does.
    return moment.astimezone(timezone.utc).astimezone(AMSTERDAM).isoformat(timespec="milliseconds")[:29]


def _joined(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _user_names(user: Record) -> Record:
    return {"full_name": _joined(user["titles"], user["initials"], user["last_name"])}


def _client_names(client: Record) -> Record:
    salutation = {"male": "Dhr.", "female": "Mevr."}.get(client["gender"])
    parts = (client["titles"], client["initials"], client["surname_prefix"], client["last_name"])
    return {"client_full_name": _joined(salutation, *parts)}


def _new_appointment(appointment: Record) -> Record:
    return {"created_at": answered_date(datetime.now(timezone.utc)), "orig_date": appointment["date"]}


@dataclass(frozen=True)
class Resource:
    """One of the three resources of the API document.

    :param name: its collection, as in ``/users.json``.
    :param envelope: the key around one record, in both directions.
    :param detail: the documented first part of a record's own path.
    :param attributes: what can be written, and the check of each.
    :param undocumented: the same for attributes of the live service alone; answered once written.
    :param ignored: generated attributes and credentials, which a write may name to no effect.
    :param detail_keys: what a single record is answered with: key in the answer, and attribute.
    :param list_keys: the same for a record in the list.
    :param credential: the generated credential, if there is one.
    :param at_creation: makes generated attributes once.
    :param at_every_write: makes generated attributes that follow from the others.
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
# The document's answers leave out orig_date, started_at and created_at. An idle appointment has not started,
# so for started_at alone that proves nothing: it is answered once there is one.
_APPOINTMENT = (
    "id user_id client_id created_by_user_id date state division_id duration external_participant_ids"
    " inloop_json token"
)

USERS = Resource(
    name="users",
    envelope="user",
    detail="users",
    attributes=dict.fromkeys(
        ("titles", "initials", "last_name", "email", "address", "postal_code", "city"), _text
    ),
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
        **dict.fromkeys(("email", "titles", "initials", "surname_prefix", "last_name"), _text),
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
    """Read a schedule like ``idle:5s,started:2m,finished``: each state with how long it lasts.

    :param states: states in order, separated by commas; each but the last with a duration in s, m or h.
    """
    units = {"s": "seconds", "m": "minutes", "h": "hours"}
    *passing, final = (part.strip() for part in states.split(","))
    schedule: list[tuple[str, timedelta | None]] = []
    for part in passing:
        match = re.fullmatch(r"([^:]+):([0-9]{1,6}(?:\.[0-9]{1,6})?)([smh])", part)
        if match is None:
            raise SandboxError(
                f"cannot read {part!r} in the states {states!r}: "
                "every state but the last needs a duration, as in idle:5s,started:2m,finished"
            )
        schedule.append((match[1], timedelta(**{units[match[3]]: float(match[2])})))
    if not final or ":" in final:
        raise SandboxError(
            f"cannot read the states {states!r}: the last one stays, so it is a name without a duration"
        )
    return (*schedule, (final, None))


def _advance(appointment: Record) -> None:
    """Bring an appointment to the state in which its schedule has it by now."""
    if appointment["schedule"] is None:
        return
    begins = datetime.fromisoformat(appointment["created_at"])
    now = datetime.now(timezone.utc)
    for state, lasts in parse_states(appointment["schedule"]):
        appointment["state"] = state
        if state != "idle":
            appointment.setdefault("started_at", answered_date(begins))
        if lasts is None:
            appointment["schedule"] = None
        elif now < begins + lasts:
            return
        else:
            begins += lasts


class Service:
    """The organisations with their records, and the five actions of the API on each resource.

    All actions take the same arguments, each using what it needs, and return what is answered with 200.

    :param tokens: one for each organisation.
    :param states: the schedule of new appointments.
    :param data: the JSON file to keep everything in; without it, memory.
    """

    def __init__(self, tokens: Iterable[str], states: str, data: str | Path | None = None) -> None:
        self.tokens = tuple(dict.fromkeys((tokens,) if isinstance(tokens, str) else tokens))
        # What a header can carry without quotes.
        if not self.tokens or not all(re.fullmatch(r"[!#-+\--~]+", token) for token in self.tokens):
            raise SandboxError("a token is printable ASCII without spaces, commas and double quotes")
        parse_states(states)
        self._states = states
        # The server's thread and the tests that look into the sandbox share the records.
        self._lock = threading.RLock()
        self._file = Path(data).resolve() if data is not None else None
        self._organisations = self._load()
        for token in self.tokens:
            self._organisations.setdefault(token, {name: {} for name in RESOURCES})
        try:
            self._save()
        except OSError as error:
            raise SandboxError(f"cannot write the data file {data}: {error.strerror}") from error

    def list_all(
        self, resource: Resource, token: str, _id: str = "", _body: Mapping[str, Any] | None = None
    ) -> list[Record]:
        """Answer every record of the organisation; the document knows neither pages nor filters."""
        with self._lock:
            records = self._organisations[token][resource.name].values()
            return [_answer(resource, record, resource.list_keys) for record in records]

    def view(
        self, resource: Resource, token: str, record_id: str, _body: Mapping[str, Any] | None = None
    ) -> Record:
        """Answer one record."""
        with self._lock:
            return self._detail(resource, self._find(resource, token, record_id))

    def create(self, resource: Resource, token: str, _id: str, body: Mapping[str, Any]) -> Record:
        """Make a record of what was sent."""
        with self._lock:
            organisation = self._organisations[token]
            sent = _checked(resource, organisation, body)
            record = {"id": secrets.token_hex(12), **dict.fromkeys(resource.attributes), **sent}
            if resource.credential:
                record[resource.credential] = secrets.token_urlsafe(15)
            record.update(resource.at_creation(record))
            record.update(resource.at_every_write(record))
            if resource is APPOINTMENTS:
                record["schedule"] = self._states
            organisation[resource.name][record["id"]] = record
            return self._written(resource, record)

    def update(self, resource: Resource, token: str, record_id: str, body: Mapping[str, Any]) -> Record:
        """Change the attributes that were sent, and no others; null clears."""
        with self._lock:
            record = self._find(resource, token, record_id)
            record.update(_checked(resource, self._organisations[token], body, record_id))
            record.update(resource.at_every_write(record))
            return self._written(resource, record)

    def delete(
        self, resource: Resource, token: str, record_id: str, _body: Mapping[str, Any] | None = None
    ) -> Record:
        """Remove a record; the body that the document shows adds nothing to the path."""
        with self._lock:
            self._find(resource, token, record_id)
            del self._organisations[token][resource.name][record_id]
            self._save()
            return {"status": "ok"}

    def set_state(self, resource: Resource, token: str, record_id: str, body: Mapping[str, Any]) -> Record:
        """Put an appointment in a state, and end its schedule. Not of the API: the sandbox's own control."""
        state = body.get("state")
        if not isinstance(state, str) or not state:
            raise ApiError(422, {"state": ["is not the name of a state"]})
        with self._lock:
            appointment = self._find(resource, token, record_id)
            _advance(appointment)
            appointment.update(state=state, schedule=None)
            if state != "idle":
                appointment.setdefault("started_at", answered_date(datetime.now(timezone.utc)))
            return self._written(resource, appointment)

    def records(self, name: str, token: str) -> list[Record]:
        """Copy what is stored, generated attributes and credentials included.

        :param name: ``users``, ``clients`` or ``appointments``.
        :param token: the organisation's.
        """
        with self._lock:
            records = self._organisations[token][name].values()
            if name == APPOINTMENTS.name:
                for record in records:
                    _advance(record)
            return copy.deepcopy([*records])

    def owner(self, name: str, record_id: str) -> str | None:
        """Find the token of the organisation that has a record.

        :param name: ``users``, ``clients`` or ``appointments``.
        :param record_id: the record's id.
        """
        with self._lock:
            return next((t for t in self.tokens if record_id in self._organisations[t][name]), None)

    def _find(self, resource: Resource, token: str, record_id: str) -> Record:
        try:
            return self._organisations[token][resource.name][record_id]
        except KeyError:
            raise ApiError(404) from None

    def _detail(self, resource: Resource, record: Record) -> Record:
        return {resource.envelope: _answer(resource, record, resource.detail_keys)}

    def _written(self, resource: Resource, record: Record) -> Record:
        answer = self._detail(resource, record)
        self._save()
        return answer

    def _load(self) -> dict[str, Organisation]:
        if self._file is None:
            return {}
        try:
            stored = json.loads(self._file.read_bytes())["organisations"]
            organisations: dict[str, Organisation] = {
                token: {name: {record["id"]: record for record in kept[name]} for name in RESOURCES}
                for token, kept in stored.items()
            }
            for kept in organisations.values():
                for resource in RESOURCES.values():
                    for record in kept[resource.name].values():
                        _answer(resource, record, resource.list_keys)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SandboxError(f"cannot read the data file {self._file}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SandboxError) as error:
            raise SandboxError(
                f"{self._file} is not a data file of the sandbox, or it is damaged; it was left as it is"
            ) from error
        return organisations

    def _save(self) -> None:
        if self._file is None:
            return
        stored = {
            token: {name: [*records.values()] for name, records in kept.items()}
            for token, kept in self._organisations.items()
        }
        # mkstemp lets nobody else read it: the file holds tokens.
        descriptor, written = tempfile.mkstemp(dir=self._file.parent, prefix=f".{self._file.name}-")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({"organisations": stored}, file, ensure_ascii=False)
            os.replace(written, self._file)
        except BaseException:
            os.unlink(written)
            raise


def _answer(resource: Resource, record: Record, keys: Mapping[str, str]) -> Record:
    if resource is APPOINTMENTS:
        _advance(record)
    answer = {key: record[attribute] for key, attribute in keys.items()}
    for name in (*resource.undocumented, "started_at"):
        if name in record:
            answer[name] = record[name]
    return answer


def _checked(
    resource: Resource, organisation: Organisation, body: Mapping[str, Any], record_id: str | None = None
) -> Record:
    """Return the attributes to keep of a write, or raise what the service answers to a wrong one."""
    sent = body.get(resource.envelope)
    if sent in (None, {}, []) or (isinstance(sent, str) and not sent.strip()):
        raise ApiError(400)
    if not isinstance(sent, dict):
        raise ApiError(500)
    checks = {**resource.attributes, **resource.undocumented}
    kept: Record = {}
    # Attributes beside the envelope do as little on the real service as unknown ones in it.
    errors = {name: ["is unknown"] for name in body.keys() - {resource.envelope, "authentication_token"}}
    for name, value in sent.items():
        if name in resource.ignored:
            continue
        if name not in checks:
            errors[name] = ["is unknown"]
            continue
        try:
            kept[name] = None if value is None else checks[name](value)
        except ValueError as error:
            errors[name] = [str(error)]
    if resource is USERS and kept.get("email"):
        email = kept["email"].lower()
        others = (user for user in organisation[USERS.name].values() if user["id"] != record_id)
        if any((other["email"] or "").lower() == email for other in others):
            errors["email"] = ["is al in gebruik"]
    if errors:
        raise ApiError(422, errors)
    return kept
