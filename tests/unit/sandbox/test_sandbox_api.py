"""What the sandbox accepts, stores, rejects and returns beyond the document's examples."""

from __future__ import annotations

import http.client
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_webcamconsult.sandbox import Sandbox

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Api

JSON_HEADERS = {"Content-Type": "application/json"}
KINDS = ["user", "client", "appointment"]
DETAIL = {"user": "users", "client": "client", "appointment": "appointment"}


def detail(kind: str, record: dict[str, Any]) -> str:
    return f"/{DETAIL[kind]}/{record['id']}.json"


def validation_errors(api: Api, kind: str, **attributes: Any) -> dict[str, list[str]]:
    before = api.sandbox.records(f"{kind}s", api.token)
    response = api("POST", f"/{kind}s.json", json={kind: attributes})
    assert response.status_code == 422
    assert api.sandbox.records(f"{kind}s", api.token) == before
    errors: dict[str, list[str]] = response.json()["errors"]
    return errors


# Paths


@pytest.mark.parametrize("path", ["/", "/users", "/client.json", "/users.json/", "/user/1.json", "/users/1"])
def test_undocumented_route_returns_404_even_without_token(api: Api, path: str) -> None:
    assert api("GET", path).status_code == 404
    assert api("GET", path, headers={"Authorization": None}).status_code == 404


@pytest.mark.parametrize("path", ["/clients/{}.json", "/appointments/{}.json"])
def test_plural_detail_path_returns_404_by_default(api: Api, path: str) -> None:
    kind = path[1:].partition("s/")[0]
    assert api("GET", path.format(api.create(kind)["id"])).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "/users.json"), ("PUT", "/users.json"), ("POST", "/client/1.json")]
)
def test_undocumented_method_returns_404(api: Api, method: str, path: str) -> None:
    assert api(method, path).status_code == 404


def test_plural_paths_option_replaces_singular_paths(access: type[Api]) -> None:
    with Sandbox(plural_paths=True) as sandbox:
        api = access(sandbox)
        for kind in KINDS:
            record = api.create(kind)
            for method in ("GET", "DELETE"):
                assert api(method, f"/{kind}s/{record['id']}.json").status_code == 200
            assert api("GET", f"/{kind}/{record['id']}.json").status_code == 404
            assert api("GET", f"/{kind}s.json").status_code == 200


@pytest.mark.parametrize("path", ["//users.json", "///users.json", "/users//{}.json", "//users///{}.json"])
def test_repeated_slashes_are_collapsed(api: Api, path: str) -> None:
    connection = http.client.HTTPConnection(api.sandbox.url.removeprefix("http://"), timeout=30)
    headers = {"Authorization": f"Token token={api.token}"}
    connection.request("GET", path.format(api.create("user")["id"]), headers=headers)
    assert connection.getresponse().status == 200
    connection.close()


# Authentication


@pytest.mark.parametrize("form", ["Token token={}", 'Token token="{}"'])
def test_token_header_is_accepted_with_and_without_quotes(api: Api, form: str) -> None:
    response = api("GET", "/users.json", headers={"Authorization": form.format(api.token)})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "form",
    ["token token={}", "Token {}", "Bearer {}", 'Token token="{}', "Token token={}x", "Token token=", "{}"],
)
def test_other_authorization_header_returns_401(api: Api, form: str) -> None:
    response = api("GET", "/users.json", headers={"Authorization": form.format(api.token)})
    assert response.status_code == 401
    assert response.headers["Content-Type"].startswith("text/plain")
    assert response.text == "HTTP Token: Access denied."


@pytest.mark.parametrize("place", ["params", "json", "data"])
def test_token_parameter_is_accepted_in_query_json_and_form(api: Api, place: str) -> None:
    del api.session.headers["Authorization"]
    for token, status in ((api.token, 200), ("wrong", 401)):
        options: dict[str, Any] = {place: {"authentication_token": token}}
        assert api("GET", "/users.json", **options).status_code == status


def test_write_accepts_token_next_to_record(api: Api) -> None:
    del api.session.headers["Authorization"]
    body = {"authentication_token": api.token, "user": {"last_name": "Akkermans"}}
    assert api("POST", "/users.json", json=body).status_code == 200


def test_organisation_can_access_only_its_own_records(api: Api, other_api: Api) -> None:
    for kind in KINDS:
        record = api.create(kind)
        assert other_api("GET", f"/{kind}s.json").json() == []
        for method in ("GET", "PUT", "DELETE"):
            response = other_api(method, detail(kind, record), json={kind: {"id": "x"}})
            assert response.status_code == 404
        assert api("GET", detail(kind, record)).status_code == 200


def test_email_may_be_used_in_two_organisations(api: Api, other_api: Api) -> None:
    api.create("user", email="jakkermans@example.com")
    other_api.create("user", email="jakkermans@example.com")


# Malformed writes and error responses


@pytest.mark.parametrize("body", [{}, {"user": {}}, {"user": None}, {"user": []}, {"user": " "}, [], 1])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_empty_write_returns_400(api: Api, method: str, body: Any) -> None:
    path = "/users.json" if method == "POST" else detail("user", api.create("user"))
    response = api(method, path, data=json.dumps(body), headers=JSON_HEADERS)
    assert response.status_code == 400


@pytest.mark.parametrize("value", ["abc", 1, True, False, [1]])
def test_record_that_is_not_an_object_returns_500(api: Api, value: Any) -> None:
    assert api("POST", "/users.json", json={"user": value}).status_code == 500


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"user": {"city": "Ergens",}}', b'{"user": {"city": "\xff"}}', b'{"user": {"city": "\\ud800"}}',
     b'{"user": {"city": NaN}}', b"[" * 100_000],
)  # fmt: skip
def test_malformed_json_returns_400_with_empty_html_body(api: Api, body: bytes) -> None:
    response = api("POST", "/users.json", data=body, headers=JSON_HEADERS)
    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith("text/html")
    assert response.content == b""


def test_json_body_with_other_content_type_returns_400(api: Api) -> None:
    body = json.dumps({"user": {"city": "Ergens"}})
    assert api("POST", "/users.json", data=body, headers={"Content-Type": "text/plain"}).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/nothing.json", {}, 404, "Not Found"),
        ("/users.json", {}, 400, "Bad Request"),
        ("/users.json", {"user": "abc"}, 500, "Internal Server Error"),
    ],
)
def test_error_response_is_html_unless_request_accepts_json(
    api: Api, path: str, body: Any, status: int, error: str
) -> None:
    html = api("POST", path, json=body)
    assert html.status_code == status
    assert html.headers["Content-Type"].startswith("text/html")
    assert error in html.text
    accepting = api("POST", path, json=body, headers={"Accept": "application/json"})
    assert accepting.status_code == status
    assert accepting.json() == {"status": status, "error": error}


@pytest.mark.parametrize("body", [None, {}, {"user": {"id": "1234567890abcdef12345678"}}])
def test_delete_removes_record_with_any_body_or_none(api: Api, body: Any) -> None:
    path = detail("user", api.create("user"))
    response = api("DELETE", path, json=body)
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}
    for method in ("GET", "DELETE"):
        assert api(method, path).status_code == 404
    assert api("GET", "/users.json").json() == []


# Lists and details


def test_list_returns_all_records_in_creation_order(api: Api) -> None:
    ids = [api.create("client", reference_code=f"DL-{number}")["id"] for number in range(30)]
    assert [client["id"] for client in api("GET", "/clients.json").json()] == ids


def test_user_has_emails_in_list_and_email_in_detail(api: Api) -> None:
    user = api.create("user", email="jakkermans@example.com")
    (listed,) = api("GET", "/users.json").json()
    assert listed.pop("emails") == user.pop("email")
    assert listed == user


def test_client_credential_is_only_in_list(api: Api) -> None:
    client = api.create("client")
    assert "authentication_token" not in client
    assert "authentication_token" not in api("GET", detail("client", client)).json()["client"]
    (listed,) = api("GET", "/clients.json").json()
    assert listed.pop("authentication_token")
    assert listed == client


def test_appointment_credential_is_in_list_and_detail(api: Api) -> None:
    appointment = api.create("appointment")
    assert appointment["token"]
    assert api("GET", "/appointments.json").json() == [appointment]
    assert api("GET", detail("appointment", appointment)).json() == {"appointment": appointment}


def test_each_record_has_unique_id_and_credential(api: Api) -> None:
    appointments = [api.create("appointment") for _ in range(20)]
    assert len({a["id"] for a in appointments}) == len({a["token"] for a in appointments}) == 20


@pytest.mark.parametrize(
    ("kind", "ignored"),
    [
        ("user", ["id", "full_name", "roles"]),
        ("client", ["id", "client_full_name", "authentication_token"]),
        ("appointment", ["id", "state", "orig_date", "started_at", "created_at", "token"]),
    ],
)
def test_read_only_attributes_and_credentials_are_ignored_when_sent(
    api: Api, kind: str, ignored: list[str]
) -> None:
    sent = dict.fromkeys(ignored, "client-supplied")
    record = api.create(kind, **sent)
    updated = api("PUT", detail(kind, record), json={kind: sent}).json()[kind]
    assert updated == record
    assert "client-supplied" not in json.dumps(api.sandbox.records(f"{kind}s", api.token))


def test_full_name_is_built_from_its_parts_and_updated_with_them(api: Api) -> None:
    client = api.create("client", initials="T", surname_prefix="de", last_name="Ester", gender="female")
    assert client["client_full_name"] == "Mevr. T de Ester"
    changed = api("PUT", detail("client", client), json={"client": {"gender": None, "initials": "U"}})
    assert changed.json()["client"]["client_full_name"] == "U de Ester"


def test_update_changes_only_sent_attributes_and_null_clears(api: Api) -> None:
    user = api.create("user", last_name="Akkermans", city="Ergens", email="jakkermans@example.com")
    response = api("PUT", detail("user", user), json={"user": {"city": None, "address": "Vlietlaan 1"}})
    changed = {**user, "city": None, "address": "Vlietlaan 1"}
    assert response.json() == {"user": changed}
    assert api("GET", detail("user", user)).json() == {"user": changed}


def test_user_can_be_updated_with_its_own_email(api: Api) -> None:
    user = api.create("user", email="jakkermans@example.com")
    response = api("PUT", detail("user", user), json={"user": {"email": "jakkermans@example.com"}})
    assert response.status_code == 200


def test_email_can_be_used_again_after_delete_and_null_need_not_be_unique(api: Api) -> None:
    user = api.create("user", email="jakkermans@example.com")
    api("DELETE", detail("user", user))
    api.create("user", email="jakkermans@example.com")
    for _ in range(2):
        api.create("user", email=None)


@pytest.mark.parametrize("kind", ["user", "client"])
@pytest.mark.parametrize(
    "email", ["jakkermans", "@example.com", "jakkermans@", "a@b@c", "j akkermans@example.com"]
)
def test_email_that_is_not_an_address_is_rejected_as_by_rails(api: Api, kind: str, email: str) -> None:
    assert validation_errors(api, kind, email=email) == {"email": ["is ongeldig"]}


@pytest.mark.parametrize("email", ["jakkermans@example.com", "j.o'neil+1@müller.example", ""])
def test_email_that_may_be_an_address_is_accepted(api: Api, email: str) -> None:
    assert api.create("client", email=email)["email"] == email


def test_any_gender_is_accepted(api: Api) -> None:
    assert api.create("client", gender="unknown")["gender"] == "unknown"


def test_appointment_may_refer_to_missing_user_and_client(api: Api) -> None:
    assert api.create("appointment", user_id="nobody", client_id="nobody")["user_id"] == "nobody"


def test_text_is_returned_as_sent(api: Api) -> None:
    name = "Ünal-O'Brien «\u2028» 🩺 </script>"
    assert api.create("user", last_name=name)["last_name"] == name


# Validation that is stricter than the service's


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_attribute_is_rejected_by_name(api: Api, kind: str) -> None:
    assert validation_errors(api, kind, emial="a@example.com") == {"emial": ["is unknown"]}


def test_attribute_outside_envelope_is_rejected_by_name(api: Api) -> None:
    response = api("POST", "/users.json", json={"user": {"city": "Ergens"}, "email": "a@example.com"})
    assert response.status_code == 422
    assert response.json() == {"errors": {"email": ["is unknown"]}}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("client", "first_name"),
        ("client", "mobile_number"),
        ("client", "time_zone"),
        ("client", "language"),
        ("appointment", "questionnaire_id"),
    ],
)
def test_undocumented_attribute_is_returned_once_written(api: Api, kind: str, name: str) -> None:
    assert name not in api.create(kind)
    record = api.create(kind, **{name: "value"})
    assert record[name] == "value"
    assert api("GET", f"/{kind}s.json").json()[1][name] == "value"


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("user", "last_name", 1),
        ("user", "email", ["a@example.com"]),
        ("client", "division_ids", "1"),
        ("client", "division_ids", [1]),
        ("appointment", "user_id", {"id": "1"}),
    ],
)
def test_value_of_wrong_type_is_rejected_by_name(api: Api, kind: str, name: str, value: Any) -> None:
    assert validation_errors(api, kind, **{name: value}).keys() == {name}


def test_all_invalid_attributes_are_named_and_nothing_changes(api: Api) -> None:
    appointment = api.create("appointment", duration=30)
    wrong = {"duration": "abc", "date": "soon", "nonsense": 1, "user_id": "1"}
    response = api("PUT", detail("appointment", appointment), json={"appointment": wrong})
    assert response.status_code == 422
    assert response.json()["errors"].keys() == {"duration", "date", "nonsense"}
    assert api("GET", detail("appointment", appointment)).json() == {"appointment": appointment}


@pytest.mark.parametrize(("sent", "stored"), [(30, 30), ("30", 30), (30.0, 30), (0, 0), (None, None)])
def test_duration_is_stored_as_whole_number(api: Api, sent: Any, stored: int | None) -> None:
    duration = api.create("appointment", duration=sent)["duration"]
    assert duration == stored
    assert not isinstance(duration, float)


@pytest.mark.parametrize("sent", ["abc", "", 30.5, "30.5", True, -1, [30], "\uff11\uff10"])
def test_invalid_duration_is_rejected(api: Api, sent: Any) -> None:
    assert validation_errors(api, "appointment", duration=sent) == {"duration": ["is not a whole number"]}


# Dates


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        ("2015-07-01T13:41:24.306Z", "2015-07-01T15:41:24.306+02:00"),
        ("2015-07-01T15:41:24.306+02:00", "2015-07-01T15:41:24.306+02:00"),
        ("2015-07-01T09:41:24-0400", "2015-07-01T15:41:24.000+02:00"),
        ("2015-07-01 13:41:24+00", "2015-07-01T15:41:24.000+02:00"),
        ("2015-07-01T15:41:24", "2015-07-01T15:41:24.000+02:00"),
        ("2015-12-01T15:41", "2015-12-01T15:41:00.000+01:00"),
        ("2015-07-01T15:41:24.306999+02:00", "2015-07-01T15:41:24.306+02:00"),
        ("2015-07-01T15:41:24.3+02:00", "2015-07-01T15:41:24.300+02:00"),
        ("2014-12-18", "2014-12-18T00:00:00.000+01:00"),
        ("2026-03-29T01:30:00Z", "2026-03-29T03:30:00.000+02:00"),
        ("2026-10-25T02:30:00", "2026-10-25T02:30:00.000+02:00"),
        ("2026-10-25T02:30:00+01:00", "2026-10-25T02:30:00.000+01:00"),
        ("2024-02-29T12:00:00Z", "2024-02-29T13:00:00.000+01:00"),
    ],
)
def test_date_is_returned_in_amsterdam_time_with_milliseconds(api: Api, sent: str, returned: str) -> None:
    assert api.create("appointment", date=sent)["date"] == returned


@pytest.mark.parametrize(
    "sent",
    [
        "12-18-2014", "18/12/2014", "tomorrow", "", True, 1435758084, {"date": "2015-07-01"},
        "2015-02-30T10:00:00+01:00", "2023-02-29T10:00:00Z", "2015-07-01T25:00:00Z", "2015-07-01T10:60:00Z",
        "2015-07-01T10:00:00+99:00", "2015-07-01T10:00:00 CET", "20150701T100000Z", "2015-07-01T10:00:00Z\n",
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-10:00", "0000-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_invalid_date_is_rejected(api: Api, sent: Any) -> None:
    assert validation_errors(api, "appointment", date=sent) == {"date": ["is not a date"]}
    assert validation_errors(api, "client", date_of_birth=sent) == {"date_of_birth": ["is not a date"]}


def test_local_time_skipped_by_clock_change_is_rejected(api: Api) -> None:
    (error,) = validation_errors(api, "appointment", date="2026-03-29T02:30:00")["date"]
    assert "clock goes forward" in error


def test_historic_date_of_birth_loses_seconds_of_its_offset(api: Api) -> None:
    offset = datetime(1930, 1, 1, tzinfo=ZoneInfo("Europe/Amsterdam")).strftime("%z")
    returned = f"1930-01-01T00:00:00.000{offset[:3]}:{offset[3:5]}"
    assert api.create("client", date_of_birth="1930-01-01")["date_of_birth"] == returned


# ETags


@pytest.mark.parametrize("kind", KINDS)
def test_weak_etag_returns_304_until_record_changes(api: Api, kind: str) -> None:
    record = api.create(kind)
    for path in (f"/{kind}s.json", detail(kind, record)):
        etag = api("GET", path).headers["ETag"]
        assert etag.startswith('W/"')
        unchanged = api("GET", path, headers={"If-None-Match": etag})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["ETag"] == etag
        assert api("GET", path, headers={"If-None-Match": etag.removeprefix("W/")}).status_code == 200
        name = "division_id" if kind == "appointment" else "last_name"
        assert api("PUT", detail(kind, record), json={kind: {name: f"new {path}"}}).status_code == 200
        assert api("GET", path, headers={"If-None-Match": etag}).status_code == 200
