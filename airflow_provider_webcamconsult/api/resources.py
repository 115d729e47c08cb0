"""
The Webcamconsult API, described once: what the service keeps, under which paths and names.

Each :class:`Resource` follows the section of the API document that bears its name ("User", "Client",
"Appointment"). Everything else in this package reads these descriptions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypedDict, TypeVar

if TYPE_CHECKING:
    import datetime


class TaskOutput(Protocol):
    """What an earlier task of the DAG returns: its ``.output``, Airflow's ``XComArg``."""

    def iter_references(self) -> Iterator[tuple[Any, str]]:
        """Return the tasks that it comes from."""


#: A date to write: a ``datetime`` or ISO 8601 text. Without an offset, it is in the connection's time zone.
DateInput: TypeAlias = "str | datetime.datetime | datetime.date | TaskOutput"

#: The id of another record; in a DAG often the ``.output`` of the task that created it.
IdInput: TypeAlias = "str | TaskOutput"

#: The state of a new appointment, the only one that the API document names.
INITIAL_STATE = "idle"


class UserAttributes(TypedDict, total=False):
    """What can be written of a user, a professional (API document, "User")."""

    titles: str | None
    initials: str | None
    last_name: str | None
    email: str | None
    address: str | None
    postal_code: str | None
    city: str | None


class _Identified(TypedDict):
    id: str


class User(UserAttributes, _Identified, total=False):
    """A user as the service answers it."""

    full_name: str
    roles: list[str]


class _ClientBase(TypedDict, total=False):
    email: str | None
    titles: str | None
    initials: str | None
    surname_prefix: str | None
    last_name: str | None
    external: Any
    gender: str | None
    reference_code: str | None
    division_ids: list[str] | None


class ClientAttributes(_ClientBase, total=False):
    """What can be written of a client, a patient (API document, "Client")."""

    date_of_birth: DateInput | None
    # Not in the document, seen on the live service.
    first_name: str | None
    mobile_number: str | None
    time_zone: str | None
    language: str | None


class Client(_ClientBase, _Identified, total=False):
    """A client as the service answers it."""

    date_of_birth: str | None
    client_full_name: str


class _AppointmentBase(TypedDict, total=False):
    duration: int | None
    external_participant_ids: list[str] | None
    # In every example of the document, though in neither of its lists.
    inloop_json: Mapping[str, Any] | None


class AppointmentAttributes(_AppointmentBase, total=False):
    """What can be written of an appointment (API document, "Appointment")."""

    user_id: IdInput | None
    client_id: IdInput | None
    created_by_user_id: IdInput | None
    division_id: IdInput | None
    date: DateInput | None
    # Not in the document, seen on the live service.
    questionnaire_id: IdInput | None


class Appointment(_AppointmentBase, _Identified, total=False):
    """An appointment as the service answers it."""

    user_id: str | None
    client_id: str | None
    created_by_user_id: str | None
    division_id: str | None
    date: str | None
    state: str
    orig_date: str | None
    started_at: str | None
    created_at: str | None


#: The parameter that takes the organisation's token in place of the header (API document, introduction).
TOKEN_PARAMETER = "authentication_token"  # noqa: S105

#: What opens a video consult or a person's account, wherever it stands in an answer.
CREDENTIALS = ("authentication_token", "token")

AttributesT = TypeVar("AttributesT", bound=Mapping[str, Any])
RecordT = TypeVar("RecordT", bound=Mapping[str, Any])


@dataclass(frozen=True)
class Resource(Generic[AttributesT, RecordT]):
    """
    One kind of record of the API.

    :param name: the envelope of a record, as in ``{"user": {…}}``.
    :param plural: the path of the collection, and the name of the hook's attribute.
    :param documented_detail: the first part of a record's path as the document has it.
    :param attributes: the TypedDict of what can be written.
    :param record: the TypedDict of what is answered.
    :param read_only: what the service makes itself; left out of a write.
    :param credentials: what opens a video consult; dropped from every answer, and left out of a write.
    :param non_personal: what a log or Airflow's database may show; all else is a person's.
    :param natural_keys: the names that together find a record again; the first that is given in full counts.
    :param datetimes: attributes that are a date with a time of day.
    :param dates: attributes that are a day, at midnight.
    :param must_match: other attributes that a booking goes wrong with if the service keeps something else.
    :param identity_attributes: attributes that tell persons apart who share an e-mail address.
    :param aliases: names that some answers use, with the name that is meant.
    """

    name: str
    plural: str
    documented_detail: str
    attributes: type[AttributesT]
    record: type[RecordT]
    read_only: Collection[str]
    non_personal: Collection[str]
    natural_keys: Sequence[Sequence[str]]
    credentials: Collection[str] = ()
    datetimes: Collection[str] = ()
    dates: Collection[str] = ()
    must_match: Collection[str] = ()
    identity_attributes: Collection[str] = ()
    aliases: Mapping[str, str] = field(default_factory=lambda: {"_id": "id"})

    @property
    def writable(self) -> Collection[str]:
        """Names of the attributes that can be written."""
        return self.attributes.__annotations__.keys()

    @property
    def with_article(self) -> str:
        """The name in a sentence, as in "an appointment"."""
        return f"{'an' if self.name[0] in 'aeio' else 'a'} {self.name}"

    @property
    def known(self) -> Collection[str]:
        """Names of all attributes that a record can have, credentials aside."""
        return [*self.writable, *self.read_only]


USER = Resource(
    name="user",
    plural="users",
    documented_detail="users",
    attributes=UserAttributes,
    record=User,
    read_only=("id", "full_name", "roles"),
    non_personal=("id", "roles"),
    natural_keys=[["email"]],
    credentials=CREDENTIALS,
    aliases={"_id": "id", "emails": "email"},
)

CLIENT = Resource(
    name="client",
    plural="clients",
    documented_detail="client",
    attributes=ClientAttributes,
    record=Client,
    read_only=("id", "client_full_name"),
    non_personal=("id", "division_ids"),
    natural_keys=[["reference_code"], ["email"]],
    credentials=CREDENTIALS,
    dates=("date_of_birth",),
    must_match=("date_of_birth",),
    identity_attributes=("initials", "date_of_birth"),
)

APPOINTMENT = Resource(
    name="appointment",
    plural="appointments",
    documented_detail="appointment",
    attributes=AppointmentAttributes,
    record=Appointment,
    read_only=("id", "state", "orig_date", "started_at", "created_at"),
    non_personal=(
        "id",
        "user_id",
        "client_id",
        "created_by_user_id",
        "date",
        "division_id",
        "duration",
        "external_participant_ids",
        "questionnaire_id",
        "state",
        "orig_date",
        "started_at",
        "created_at",
    ),
    natural_keys=[["user_id", "client_id", "date"]],
    credentials=CREDENTIALS,
    datetimes=("date",),
    must_match=("date", "user_id", "client_id", "created_by_user_id", "division_id", "duration"),
)
