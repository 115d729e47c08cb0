"""The hook: requests and responses for every endpoint of the API document."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import certifi
import pytest

from airflow_provider_webcamconsult.api.resources import APPOINTMENT, CLIENT, USER
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultAuthenticationError,
    WebcamconsultConnectionError,
    WebcamconsultInputError,
    WebcamconsultNotFoundError,
)
from airflow_provider_webcamconsult.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, ErrorText, Log, ScriptedServer, Serve, Service

TOKEN = "38826f79010b41b5aaeb4710debb09db"
ID = "1234567890abcdef12345678"

# The examples of the API document, without the typos that make them invalid JSON.
CREATE_USER = {
    "titles": "Dokter",
    "initials": "J",
    "last_name": "Akkermans",
    "email": "jakkermans@example.com",
    "address": "Vlietlaan 1",
    "postal_code": "3011AA",
    "city": "Ergens",
}
UPDATE_USER = {**CREATE_USER, "full_name": "Dokter J Akkermans"}
USER_RESPONSE = {"id": ID, **UPDATE_USER, "roles": ["consultant"]}
CREATE_CLIENT = {
    "email": "urias@sensestudios.com",
    "titles": "Dr.",
    "initials": "T",
    "surname_prefix": "de",
    "last_name": "Ester",
    "gender": "male",
    "date_of_birth": "2014-12-18T00:00:00.000+01:00",
    "reference_code": "12345",
    "division_ids": ["5492ba6da19ea682ea000001", "5492ba6da19ea682ea000001"],
}
CLIENT_RESPONSE = {"id": ID, **CREATE_CLIENT, "client_full_name": "Dhr. Dr. T de Ester", "external": None}
WRITTEN_APPOINTMENT = {
    "user_id": ID,
    "client_id": ID,
    "created_by_user_id": ID,
    "date": "2015-07-01T15:41:24.306+02:00",
    "division_id": ID,
    "duration": 100,
    "external_participant_ids": [ID, ID],
    "inloop_json": {"email": "someemail@somedomain.com"},
}
CREATE_APPOINTMENT = {
    "id": ID,
    **WRITTEN_APPOINTMENT,
    **dict.fromkeys(("orig_date", "started_at", "created_at"), "2015-07-01T15:41:24.306+02:00"),
}
UPDATE_APPOINTMENT = {"id": ID, **WRITTEN_APPOINTMENT, "state": "idle"}
APPOINTMENT_RESPONSE = UPDATE_APPOINTMENT

KINDS = ("users", "clients", "appointments")


class Endpoint(NamedTuple):
    """One documented endpoint: the call, the request, the response and the return value."""

    kind: str
    action: str
    arguments: tuple[Any, ...]
    method: str
    path: str
    body: Any
    response: Any
    result: Any

    def call(self, hook: WebcamconsultHook) -> Any:
        return getattr(getattr(hook, self.kind), self.action)(*self.arguments)


def _endpoints() -> Iterator[Endpoint]:
    appointment = (CREATE_APPOINTMENT, UPDATE_APPOINTMENT, WRITTEN_APPOINTMENT, APPOINTMENT_RESPONSE)
    for kind, detail, (create, update, written, response) in (
        ("users", "users", (CREATE_USER, UPDATE_USER, CREATE_USER, USER_RESPONSE)),
        ("clients", "client", (CREATE_CLIENT, CREATE_CLIENT, CREATE_CLIENT, CLIENT_RESPONSE)),
        ("appointments", "appointment", appointment),
    ):
        name, every, one = kind[:-1], f"/{kind}.json", f"/{detail}/{ID}.json"
        body, envelope = {name: written}, {name: response}
        yield Endpoint(kind, "list", (), "GET", every, None, [response], [response])
        yield Endpoint(kind, "create", (create,), "POST", every, body, envelope, response)
        yield Endpoint(kind, "get", (ID,), "GET", one, None, envelope, response)
        yield Endpoint(kind, "update", (ID, update), "PUT", one, body, envelope, response)
        yield Endpoint(kind, "delete", (ID,), "DELETE", one, {name: {"id": ID}}, {"status": "ok"}, None)


ENDPOINTS = [*_endpoints()]
ALL_ENDPOINTS = pytest.mark.parametrize(
    "endpoint", ENDPOINTS, ids=[f"{endpoint.action} {endpoint.kind}" for endpoint in ENDPOINTS]
)


def test_all_documented_endpoints_are_covered() -> None:
    assert len(ENDPOINTS) == 15


@ALL_ENDPOINTS
def test_request_matches_document(endpoint: Endpoint, connect: Connect, serve: Serve) -> None:
    server = serve({"body": endpoint.response})
    endpoint.call(connect(server.url, TOKEN))
    (request,) = server.requests
    assert (request.method, request.target) == (endpoint.method, endpoint.path)
    assert (request.json if request.body else None) == endpoint.body
    assert request.headers["Authorization"] == f"Token token={TOKEN}"
    assert request.headers["Accept"] == "application/json"
    assert request.headers.get("Content-Type") == ("application/json" if endpoint.body else None)


@ALL_ENDPOINTS
def test_documented_response_is_read(endpoint: Endpoint, connect: Connect, serve: Serve) -> None:
    server = serve({"body": endpoint.response})
    assert endpoint.call(connect(server.url)) == endpoint.result


@ALL_ENDPOINTS
def test_token_parameter_is_in_query_of_reads_and_in_body_of_writes(
    endpoint: Endpoint, connect: Connect, serve: Serve
) -> None:
    server = serve({"body": endpoint.response})
    endpoint.call(connect(server.url, TOKEN, auth_as_parameter=True))
    (request,) = server.requests
    token = {"authentication_token": TOKEN}
    assert "Authorization" not in request.headers
    assert request.path == endpoint.path
    if endpoint.body is None:
        assert (request.query, request.body) == ({"authentication_token": [TOKEN]}, b"")
    else:
        assert (request.query, request.json) == ({}, {**endpoint.body, **token})


@pytest.mark.parametrize("plural_paths", [False, True])
@pytest.mark.parametrize("auth_as_parameter", [False, True])
def test_each_resource_can_be_created_read_updated_and_deleted(
    plural_paths: bool, auth_as_parameter: bool, connect: Connect
) -> None:
    with Sandbox(plural_paths=plural_paths) as sandbox:
        hook = connect(
            sandbox.url, sandbox.token, plural_paths=plural_paths, auth_as_parameter=auth_as_parameter
        )
        user, client = (
            hook.users.create({"last_name": "Akkermans"}),
            hook.clients.create({"last_name": "Ester"}),
        )
        appointment = hook.appointments.create(
            {"user_id": user["id"], "client_id": client["id"], "date": "2030-03-01T09:30"}
        )
        for kind, record, change in (
            (hook.appointments, appointment, {"duration": 45}),
            (hook.clients, client, {"last_name": "Oester"}),
            (hook.users, user, {"last_name": "Bakkermans"}),
        ):
            records: Any = kind
            assert records.get(record["id"]) == record
            changed = records.update(record["id"], change)
            assert changed.items() >= change.items()
            assert records.list() == [changed]
            records.delete(record["id"])
            assert records.list() == []
        assert {request.status_code for request in sandbox.requests} == {200}


@pytest.mark.parametrize(
    ("kind", "plural_paths", "path"),
    [
        ("users", False, f"/users/{ID}.json"),
        ("users", True, f"/users/{ID}.json"),
        ("clients", False, f"/client/{ID}.json"),
        ("clients", True, f"/clients/{ID}.json"),
        ("appointments", False, f"/appointment/{ID}.json"),
        ("appointments", True, f"/appointments/{ID}.json"),
    ],
)
def test_detail_path_follows_plural_paths_setting(
    kind: str, plural_paths: bool, path: str, connect: Connect, serve: Serve
) -> None:
    server = serve({"status": 204})
    getattr(connect(server.url, plural_paths=plural_paths), kind).delete(ID)
    assert server.requests[0].target == path


@pytest.mark.parametrize(
    ("kind", "mentions_setting"), [("users", False), ("clients", True), ("appointments", True)]
)
def test_404_error_mentions_plural_paths_only_where_it_applies(
    kind: str, mentions_setting: bool, hook: WebcamconsultHook
) -> None:
    with pytest.raises(WebcamconsultNotFoundError) as error:
        getattr(hook, kind).get(ID)
    assert ("'plural_paths'" in str(error.value)) is mentions_setting


@pytest.mark.parametrize(
    ("kind", "attributes", "other"),
    [
        ("users", {"email": "j@example.com"}, {"email": "k@example.com"}),
        ("clients", {"reference_code": "DL-1", "email": "j@example.com"}, {"reference_code": "DL-2"}),
        ("clients", {"email": "j@example.com"}, {"email": "k@example.com"}),
        (
            "appointments",
            {"user_id": "a", "client_id": "b", "date": "2030-03-01T09:30"},
            {"user_id": "a", "client_id": "b", "date": "2030-03-01T10:30"},
        ),
    ],
)
def test_record_is_found_by_natural_key(
    kind: str, attributes: dict[str, str], other: dict[str, str], hook: WebcamconsultHook
) -> None:
    records = getattr(hook, kind)
    assert records.find(attributes) == []
    created = records.create(attributes)
    records.create(other)
    assert [record["id"] for record in records.find(attributes)] == [created["id"]]


def test_record_that_a_list_shows_twice_is_found_once(connect: Connect, serve: Serve) -> None:
    listed = {"id": ID, "reference_code": "DL-1"}
    clients = connect(serve({"body": [listed, listed]}).url).clients
    assert len(clients.find({"reference_code": "DL-1"})) == 1


def test_find_without_natural_key_is_rejected_before_any_request(
    hook: WebcamconsultHook, service: Service
) -> None:
    with pytest.raises(WebcamconsultInputError, match="neither reference_code nor email was given"):
        hook.clients.find({"last_name": "de Vries"})
    assert service.requests == []


# Responses


@pytest.mark.parametrize(
    ("kind", "returned", "expected"),
    [
        ("users", {"id": ID, "emails": "j@example.com"}, {"id": ID, "email": "j@example.com"}),
        ("users", {"_id": ID, "city": None}, {"id": ID, "city": None}),
        ("clients", {"_id": ID, "shoe_size": 43}, {"id": ID, "shoe_size": 43}),
        ("appointments", {"_id": ID, "id": ID}, {"id": ID}),
        ("clients", {"id": ID, "authentication_token": "M94sNGjyKEH2U3yTxRAx"}, {"id": ID}),
        ("appointments", {"id": ID, "token": "opens-the-waiting-room"}, {"id": ID}),
        (
            "appointments",
            {"id": ID, "client": {"id": ID, "authentication_token": "M94s", "more": [{"token": "opens"}]}},
            {"id": ID, "client": {"id": ID, "more": [{}]}},
        ),
    ],
)
@pytest.mark.parametrize("action", ["list", "get", "create", "update"])
def test_record_has_documented_attribute_names_and_no_credentials(
    action: str, kind: str, returned: object, expected: object, connect: Connect, serve: Serve
) -> None:
    server = serve({"body": [returned] if action == "list" else {kind[:-1]: returned}})
    records = getattr(connect(server.url), kind)
    attributes: dict[str, Any] = {"external_participant_ids": [], "division_ids": [], "city": None}
    arguments = {"list": (), "get": (ID,), "create": (attributes,), "update": (ID, attributes)}[action]
    assert getattr(records, action)(*arguments) == ([expected] if action == "list" else expected)


@pytest.mark.parametrize(
    "step",
    [
        {"body": {"status": "ok"}},
        {"body": {"message": "Your appointment was destroyed."}},
        {"status": 204},
    ],
    ids=str,
)
def test_delete_accepts_the_success_responses_of_the_api(step: Any, connect: Connect, serve: Serve) -> None:
    server = serve(step)
    connect(server.url).appointments.delete(ID)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "step",
    [
        {},
        {"status": 202},
        {"status": 202, "body": {"status": "ok"}},
        {"status": 207, "body": {"status": "ok"}},
        {"body": []},
        {"body": "ok"},
        {"body": {}},
        {"body": {"appointment": {"id": ID}}},
        {"body": {"status": "error", "message": "maintenance"}},
        {"body": {"status": 404, "error": "Not Found"}},
        {"body": {"message": "No.", "errors": {"base": ["locked"]}}},
    ],
    ids=str,
)
def test_delete_confirms_a_success_that_may_not_be_the_api_s(
    step: Any, connect: Connect, serve: Serve
) -> None:
    server = serve(step, {"status": 404}, {"body": []})
    connect(server.url).appointments.delete(ID)
    assert [request.method for request in server.requests] == ["DELETE", "DELETE", "GET"]


# Requests


KEYS: dict[str, dict[str, Any]] = {
    "user": {"email": USER_RESPONSE["email"]},
    "client": {"reference_code": CLIENT_RESPONSE["reference_code"]},
    "appointment": {},
}
"""What a response to a create has to show."""


def sent_body(
    call: Callable[[Any], object],
    connect: Connect,
    serve: Serve,
    keys: Mapping[str, Any] | None = None,
    **extra: Any,
) -> Any:
    shown = keys or {kind: {} for kind in KEYS}
    server: ScriptedServer = serve({"body": {kind: {"id": ID, **key} for kind, key in shown.items()}})
    call(connect(server.url, **extra))
    return server.requests[0].json


def test_none_is_sent_as_null_and_omitted_attributes_are_not_sent(connect: Connect, serve: Serve) -> None:
    body = sent_body(
        lambda hook: hook.clients.update(ID, {"date_of_birth": None, "email": None}), connect, serve
    )
    assert body == {"client": {"date_of_birth": None, "email": None}}


@pytest.mark.parametrize(
    ("date", "serialized"),
    [
        ("2030-03-01T09:30", "2030-03-01T09:30:00.000-05:00"),
        (
            datetime.datetime(2030, 3, 1, 9, 30, tzinfo=datetime.timezone.utc),
            "2030-03-01T09:30:00.000+00:00",
        ),
    ],
)
def test_datetime_without_offset_is_sent_in_time_zone_of_connection(
    date: object, serialized: str, connect: Connect, serve: Serve
) -> None:
    body = sent_body(
        lambda hook: hook.appointments.create({"date": date}), connect, serve, timezone="America/New_York"
    )
    assert body == {"appointment": {"date": serialized}}


def test_date_of_birth_may_be_a_date_without_time(connect: Connect, serve: Serve) -> None:
    body = sent_body(lambda hook: hook.clients.create({"date_of_birth": "1984-12-18"}), connect, serve)
    assert body == {"client": {"date_of_birth": "1984-12-18T00:00:00.000+01:00"}}


def test_names_in_any_script_are_stored(hook: WebcamconsultHook, service: Service) -> None:
    name = "Müller-Łuczak 医師 \N{WAVING HAND SIGN}"
    hook.users.create({"last_name": name})
    assert service.records("users")[0]["last_name"] == name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", ["get", "list"])
def test_record_can_be_read_changed_and_written_back(
    kind: str, read: str, hook: WebcamconsultHook, service: Service
) -> None:
    records: Any = getattr(hook, kind)
    changes: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "users": (CREATE_USER, {"city": "Elders"}),
        "clients": (CREATE_CLIENT, {"last_name": "Oester"}),
        "appointments": (CREATE_APPOINTMENT, {"duration": 45}),
    }
    first, change = changes[kind]
    record_id = records.create(first)["id"]
    (before,) = service.records(kind)
    record = records.get(record_id) if read == "get" else records.list()[0]
    records.update(record_id, {**record, **change})
    (after,) = service.records(kind)
    assert {name for name in after if after[name] != before[name]} - {"client_full_name"} == change.keys()


@pytest.mark.parametrize(
    ("call", "warning_parts"),
    [
        (
            lambda hook: hook.users.create(USER_RESPONSE),
            ["Read-only attributes of the user", "id, full_name, roles."],
        ),
        (
            lambda hook: hook.clients.create({**CLIENT_RESPONSE, "authentication_token": "s3cret"}),
            ["Read-only attributes of the client", "id, client_full_name, authentication_token."],
        ),
        (
            lambda hook: hook.appointments.update(
                ID, {**CREATE_APPOINTMENT, "state": "idle", "token": "s3cret"}
            ),
            [
                "Read-only attributes of the appointment",
                "id, orig_date, started_at, created_at, state, token.",
            ],
        ),
    ],
    ids=["user", "client", "appointment"],
)
def test_read_only_attributes_are_omitted_with_one_warning(
    call: Callable[[Any], object], warning_parts: list[str], connect: Connect, serve: Serve, log: Log
) -> None:
    (written,) = sent_body(call, connect, serve, KEYS).values()
    (warning,) = [
        warning for warning in log.warnings if "are different or missing in the response" not in warning
    ]
    assert warning.startswith(warning_parts[0])
    assert warning.endswith(warning_parts[1])
    assert not written.keys() & set(warning_parts[1].rstrip(".").split(", "))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lastname", "Did you mean 'last_name'? "),
        ("dateofbirth", "Did you mean 'date_of_birth'? "),
        ("shoe_size", ""),
    ],
)
def test_undocumented_attribute_is_sent_with_warning_and_suggestion(
    name: str, hint: str, connect: Connect, serve: Serve, log: Log
) -> None:
    body = sent_body(lambda hook: hook.clients.create({name: "s3cret"}), connect, serve)
    (warning,) = [
        warning for warning in log.warnings if "are different or missing in the response" not in warning
    ]
    assert body == {"client": {name: "s3cret"}}
    assert f"'{name}'" in warning
    assert warning.endswith(f"{hint}The attribute is sent unchanged.")
    assert ("Did you mean" in warning) is bool(hint)
    assert "s3cret" not in warning


def test_names_are_not_shown_if_none_is_known(connect: Connect, serve: Serve, log: Log) -> None:
    # A row of a file without a header.
    row = {"Jansen": "de Vries", "1984-12-18": "1950-01-31", "p.jansen@example.nl": "x@example.nl"}
    sent_body(lambda hook: hook.clients.create(row), connect, serve)
    assert any("None of the 3 attributes is in the API document" in warning for warning in log.warnings)
    assert not any(name in warning for name in row for warning in log.warnings)


@pytest.mark.parametrize(
    "attributes",
    [{name: None} for resource in (USER, CLIENT, APPOINTMENT) for name in resource.writable],
    ids=str,
)
def test_documented_attribute_does_not_warn(
    attributes: dict[str, None], connect: Connect, serve: Serve, log: Log
) -> None:
    (name,) = attributes
    kind = next(resource.plural for resource in (USER, CLIENT, APPOINTMENT) if name in resource.writable)
    sent_body(lambda hook: getattr(hook, kind).update(ID, attributes), connect, serve)
    assert log.warnings == []


class Unsendable:
    def __repr__(self) -> str:
        return "s3cret"


def _endless() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        (None, "must be a dict, not NoneType"),
        ("{'last_name': 's3cret'}", "must be a dict, not str"),
        ([("last_name", "s3cret")], "must be a dict, not list"),
        ({}, "contain nothing that can be written"),
        ({"id": ID, "full_name": "s3cret"}, "contain nothing that can be written"),
        ({1: "s3cret"}, "1 key(s) that are not strings"),
        ({"last_name": float("nan")}, "'last_name' is of type float, but the API has it as text"),
        (
            {"last_name": Unsendable()},
            "'last_name' is of type Unsendable, but the API has it as text",
        ),
        ({"last_name": b"s3cret"}, "'last_name' is of type bytes, but the API has it as text"),
        ({"last_name": {"s3cret"}}, "'last_name' is of type set, but the API has it as text"),
        ({"last_name": _endless()}, "'last_name' is of type list, but the API has it as text"),
        ({"last_name": _deep()}, "'last_name' is of type list, but the API has it as text"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
@pytest.mark.parametrize("action", ["create", "update"])
def test_invalid_attributes_are_rejected_before_any_request(
    action: str,
    attributes: Any,
    problem: str,
    hook: WebcamconsultHook,
    service: Service,
    error_text: ErrorText,
) -> None:
    with pytest.raises(WebcamconsultInputError) as error:
        hook.users.create(attributes) if action == "create" else hook.users.update(ID, attributes)
    assert problem in str(error.value)
    assert "s3cret" not in error_text(error.value)
    assert service.requests == []


@pytest.mark.parametrize("key", ["id", "_id"])
def test_attributes_of_another_record_are_rejected(
    key: str, hook: WebcamconsultHook, service: Service
) -> None:
    attributes: Any = {key: "an-other", "last_name": "Akkermans"}
    with pytest.raises(WebcamconsultInputError, match=f"'{key}' in the attributes differs from user_id"):
        hook.users.update(ID, attributes)
    assert service.requests == []


@pytest.mark.parametrize(
    "record_id",
    [
        None,
        "",
        "None",
        12,
        ["a"],
        " ",
        "a b",
        "a/b",
        "../users",
        "a?b",
        "a#b",
        "a.json",
        "a\n",
        "é",
        "{{ ti }}",
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", ["get", "update", "delete"])
def test_invalid_id_is_rejected_before_any_request(
    action: str, kind: str, record_id: Any, hook: WebcamconsultHook, service: Service
) -> None:
    arguments = (record_id, {"duration": 1}) if action == "update" else (record_id,)
    with pytest.raises(WebcamconsultInputError, match=f"^{kind[:-1]}_id "):
        getattr(getattr(hook, kind), action)(*arguments)
    assert service.requests == []


# The token


def test_wrong_token_raises_authentication_error(connect: Connect, service: Service) -> None:
    with pytest.raises(WebcamconsultAuthenticationError):
        connect(service.url, "another-token").users.list()


@pytest.mark.parametrize("auth_as_parameter", [False, True])
def test_session_sends_token_only_to_url_of_connection(
    auth_as_parameter: bool, connect: Connect, serve: Serve
) -> None:
    other = serve({})
    server = serve({"status": 302, "headers": {"Location": f"{other.url}/elsewhere"}}, {})
    session = connect(f"{server.url}/api", TOKEN, auth_as_parameter=auth_as_parameter).get_conn()
    session.get(f"{server.url}/api/users.json")
    session.get(f"{server.url}/apiary/users.json")
    session.get(f"{server.url}/api/../users.json")
    session.get(f"{other.url}/api/users.json")
    has_token = [
        TOKEN in f"{request.target} {request.headers}" for request in [*server.requests, *other.requests]
    ]
    assert has_token == [True, False, False, False, False]


@pytest.mark.parametrize("path", ["", "/api", "/%7Ecare", "/zörg", "/zorg%20en%20meer", "/zorg/../api"])
@pytest.mark.parametrize("auth_as_parameter", [False, True])
def test_token_is_sent_for_every_spelling_of_the_url(
    path: str, auth_as_parameter: bool, connect: Connect, serve: Serve
) -> None:
    server = serve({"body": []})
    connect(f"{server.url}{path}", TOKEN, auth_as_parameter=auth_as_parameter).users.list()
    assert TOKEN in f"{server.requests[0].target} {server.requests[0].headers}"


def test_token_with_url_characters_is_sent_unchanged(connect: Connect, serve: Serve) -> None:
    server = serve({"body": []})
    connect(server.url, "a+b/c=&d%41#e", auth_as_parameter=True).users.list()
    assert server.requests[0].query == {"authentication_token": ["a+b/c=&d%41#e"]}


@pytest.mark.parametrize(
    "step",
    [
        {"body": []},
        {"status": 503},
        {"cut": "after the request"},
        {"status": 302, "headers": {"Location": "/elsewhere?authentication_token=s3cret%2Btoken"}},
    ],
    ids=str,
)
def test_token_parameter_is_not_logged(step: Any, connect: Connect, serve: Serve, log: Log) -> None:
    hook = connect(serve(step).url, "s3cret+token", auth_as_parameter=True, retries=1)
    try:
        hook.users.list()
    except Exception as error:
        hook.log.warning("Request failed.", exc_info=error)
    assert "users.json" in log.text
    assert "s3cret" not in log.text


@pytest.mark.parametrize("auth_as_parameter", [False, True])
def test_netrc_is_not_used(
    auth_as_parameter: bool, connect: Connect, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve({"body": []})
    connect(server.url, TOKEN, auth_as_parameter=auth_as_parameter).users.list()
    expected = None if auth_as_parameter else f"Token token={TOKEN}"
    assert server.requests[0].headers.get("Authorization") == expected


# TLS with a self-signed certificate


def test_untrusted_certificate_is_rejected(connect: Connect, serve: Serve) -> None:
    server = serve({"body": []}, tls=True)
    with pytest.raises(WebcamconsultConnectionError, match="certificate could not be verified"):
        connect(server.url, retries=0).users.list()
    assert server.requests == []


def test_certificate_trusted_by_environment_is_accepted(
    connect: Connect, serve: Serve, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert connect(serve({"body": []}, tls=True).url, retries=0).users.list() == []


@pytest.mark.parametrize(
    "bundle", [None, certifi.where()], ids=["without REQUESTS_CA_BUNDLE", "with REQUESTS_CA_BUNDLE"]
)
@pytest.mark.parametrize("plain_session", [False, True])
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_insecure_accepts_any_certificate_regardless_of_environment(
    plain_session: bool,
    bundle: str | None,
    connect: Connect,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if bundle:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    server = serve({"body": []}, tls=True)
    hook = connect(server.url, insecure=True, retries=0)
    if plain_session:
        hook.get_conn().get(f"{server.url}/users.json")
    else:
        hook.users.list()
    assert len(server.requests) == 1
