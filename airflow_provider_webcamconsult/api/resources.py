"""
The resources of the Webcamconsult API: their paths, attributes and natural keys.

Each :class:`Resource` follows the section of the API document with its name ("User", "Client",
"Appointment"). The rest of the package uses these descriptions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeAlias, TypedDict, TypeVar

if TYPE_CHECKING:
    import datetime


class TaskOutput(Protocol):
    """The result of an upstream task: its ``.output``, an Airflow ``XComArg``."""

    def iter_references(self) -> Iterator[tuple[Any, str]]:
        """Return the upstream tasks with their XCom keys."""


class Untyped(Protocol):
    """
    The value of a mapping that says nothing about its values, such as a ``dict[str, Any]``.

    No value has this type, so a type checker accepts such a mapping, but not a literal with a misspelt key.
    """

    _is_untyped: NoReturn


#: Attributes of which a type checker knows nothing, such as a ``dict[str, Any]``.
UntypedAttributes: TypeAlias = "Mapping[str, Untyped]"

#: Text to write: a value, a template or the ``.output`` of a task.
TextInput: TypeAlias = "str | TaskOutput"

#: A whole number to write: an ``int``, a template that renders to one, or the ``.output`` of a task.
NumberInput: TypeAlias = "int | str | TaskOutput"

#: A text that may be given as a whole number, such as a reference code.
CodeInput: TypeAlias = "str | int | TaskOutput"

#: A date to write: a ``datetime`` or ISO 8601 text, for a date of birth also a day. A time without a UTC
#: offset is in the connection's time zone, for a date of birth in Europe/Amsterdam.
DateInput: TypeAlias = "str | datetime.datetime | datetime.date | TaskOutput"

#: Id of another record, in a DAG often the ``.output`` of the task that created it.
IdInput: TypeAlias = "str | TaskOutput"

#: Ids of other records, or a template that renders to a list of them.
IdsInput: TypeAlias = "Sequence[IdInput] | TaskOutput"

#: State of a new appointment. The API document names no other state.
INITIAL_STATE = "idle"


class UserAttributes(TypedDict, total=False):
    """Writable attributes of a user, who is a professional (API document, "User")."""

    titles: TextInput | None
    initials: TextInput | None
    last_name: TextInput | None
    email: TextInput | None
    address: TextInput | None
    postal_code: TextInput | None
    city: TextInput | None


class User(TypedDict):
    """A user as returned by the service."""

    id: str
    titles: str | None
    initials: str | None
    last_name: str | None
    full_name: str
    email: str | None
    address: str | None
    postal_code: str | None
    city: str | None
    roles: list[str]


class ClientAttributes(TypedDict, total=False):
    """Writable attributes of a client, who is a patient (API document, "Client")."""

    email: TextInput | None
    titles: TextInput | None
    initials: TextInput | None
    surname_prefix: TextInput | None
    last_name: TextInput | None
    external: Any
    gender: TextInput | None
    division_ids: IdsInput | None
    date_of_birth: DateInput | None
    # Not in the document, seen on the live service.
    first_name: TextInput | None
    mobile_number: TextInput | None
    time_zone: TextInput | None
    language: TextInput | None
    # A number is sent as text.
    reference_code: CodeInput | None


class _UndocumentedOfClient(TypedDict, total=False):
    first_name: str | None
    mobile_number: str | None
    time_zone: str | None
    language: str | None


class Client(_UndocumentedOfClient):
    """A client as returned by the service."""

    id: str
    email: str | None
    titles: str | None
    initials: str | None
    surname_prefix: str | None
    last_name: str | None
    client_full_name: str
    external: Any
    gender: str | None
    date_of_birth: str | None
    reference_code: str | None
    division_ids: list[str] | None


class AppointmentAttributes(TypedDict, total=False):
    """Writable attributes of an appointment (API document, "Appointment")."""

    duration: NumberInput | None
    external_participant_ids: IdsInput | None
    # In all examples of the API document, but in none of its attribute lists.
    inloop_json: Mapping[str, Any] | TaskOutput | None
    user_id: IdInput | None
    client_id: IdInput | None
    created_by_user_id: IdInput | None
    division_id: IdInput | None
    date: DateInput | None
    # Not in the document, seen on the live service.
    questionnaire_id: IdInput | None


class _NotInEachAppointment(TypedDict, total=False):
    orig_date: str | None
    started_at: str | None
    created_at: str | None
    questionnaire_id: str | None


class Appointment(_NotInEachAppointment):
    """
    An appointment as returned by the service.

    The types are those of a consult that can take place: one with a professional, a client and a date. In an
    appointment that was created without them, they are None.
    """

    id: str
    user_id: str
    client_id: str
    created_by_user_id: str | None
    date: str
    state: str
    division_id: str | None
    duration: int | None
    external_participant_ids: list[str] | None
    inloop_json: Mapping[str, Any] | None


#: Parameter for the organisation's API token instead of the header (API document, introduction).
TOKEN_PARAMETER = "authentication_token"  # noqa: S105

#: Attributes that give access to a video consult or an account, at any depth of a response.
CREDENTIALS = ("authentication_token", "token")

AttributesT = TypeVar("AttributesT", bound=Mapping[str, Any])
RecordT = TypeVar("RecordT", bound=Mapping[str, Any])


@dataclass(frozen=True)
class Resource(Generic[AttributesT, RecordT]):
    """
    One kind of record.

    :param name: key that wraps a record in JSON, as in ``{"user": {…}}``.
    :param plural: path of the collection, and name of the hook's attribute.
    :param documented_detail: first part of the path of a record in the API document.
    :param attributes: TypedDict of the writable attributes.
    :param record: TypedDict of the returned record.
    :param read_only: attributes that only the service sets. They are not sent.
    :param credentials: attributes that give access to a video consult or an account. They are removed from
        responses and not sent.
    :param non_personal: attributes that may appear in logs and in Airflow's database. All others are
        personal.
    :param natural_keys: groups of attributes that together identify a record. The first complete group is
        used.
    :param datetimes: attributes with a date and a time.
    :param dates: attributes with a date only, sent as midnight.
    :param must_match: attributes for which a different stored value is an error, even without ``strict``.
    :param weak_keys: natural keys that are weak evidence of identity, because people can share them.
    :param identity_attributes: attributes that show a different person if they differ.
    :param identity_proofs: those of them that confirm a weak key if they agree. Families share the others.
    :param expected_in_create: attributes that a new record needs to be useful: None is an error, and an
        omitted one a warning.
    :param aliases: alternative attribute names in some responses, with the documented names.
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
    weak_keys: Collection[str] = ()
    identity_attributes: Collection[str] = ()
    identity_proofs: Collection[str] = ()
    expected_in_create: Sequence[str] = ()
    aliases: Mapping[str, str] = field(default_factory=lambda: {"_id": "id"})

    @property
    def writable(self) -> Collection[str]:
        """Names of the writable attributes."""
        return self.attributes.__annotations__.keys()

    @cached_property
    def texts(self) -> Collection[str]:
        """Names of the writable attributes that are text."""
        return self._annotated_as("TextInput | None")

    @cached_property
    def codes(self) -> Collection[str]:
        """Names of the writable attributes that are text, and for which a whole number is accepted too."""
        return self._annotated_as("CodeInput | None")

    @cached_property
    def numbers(self) -> Collection[str]:
        """Names of the writable attributes that are whole numbers."""
        return self._annotated_as("NumberInput | None")

    def _annotated_as(self, annotation: str) -> Collection[str]:
        annotations = self.attributes.__annotations__
        return [name for name, hint in annotations.items() if hint.__forward_arg__ == annotation]

    @cached_property
    def key_attributes(self) -> Collection[str]:
        """Names of all attributes that are part of a natural key."""
        return {name for names in self.natural_keys for name in names}

    @property
    def with_article(self) -> str:
        """The name with its article, as in "an appointment"."""
        return f"{'an' if self.name[0] in 'aeio' else 'a'} {self.name}"

    @property
    def known(self) -> Collection[str]:
        """Names of all attributes except credentials."""
        return [*self.writable, *self.read_only]

    def knows_any(self, names: Iterable[str]) -> bool:
        """
        Return whether any of some names is known. If not, they may be values of a file without a header.

        :param names: the names.
        """
        return not {*self.known}.isdisjoint(names)


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
    must_match=("email",),
    # The service keeps users' addresses unique, so nothing else has to confirm them.
    weak_keys=("email",),
    identity_attributes=("last_name", "initials"),
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
    must_match=("reference_code", "email", "date_of_birth"),
    weak_keys=("email",),
    identity_attributes=(
        "first_name",
        "initials",
        "surname_prefix",
        "last_name",
        "gender",
        "date_of_birth",
    ),
    identity_proofs=("first_name", "date_of_birth"),
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
    expected_in_create=("user_id", "client_id", "date"),
)
