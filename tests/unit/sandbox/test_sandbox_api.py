"""What the sandbox takes, keeps, refuses and answers, beyond the document's own examples."""

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


def refused(api: Api, kind: str, **attributes: Any) -> dict[str, list[str]]:
    before = api.sandbox.records(f"{kind}s", api.token)
    answer = api("POST", f"/{kind}s.json", json={kind: attributes})
    assert answer.status_code == 422
    assert api.sandbox.records(f"{kind}s", api.token) == before
    errors: dict[str, list[str]] = answer.json()["errors"]
    return errors


# Paths


@pytest.mark.parametrize("path", ["/", "/users", "/client.json", "/users.json/", "/user/1.json", "/users/1"])
def test_a_route_that_the_document_does_not_have_is_404_even_without_a_token(api: Api, path: str) -> None:
    assert api("GET", path).status_code == 404
    assert api("GET", path, headers={"Authorization": None}).status_code == 404


@pytest.mark.parametrize("path", ["/clients/{}.json", "/appointments/{}.json"])
def test_plural_detail_paths_do_not_exist_by_default(api: Api, path: str) -> None:
    kind = path[1:].partition("s/")[0]
    assert api("GET", path.format(api.create(kind)["id"])).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "/users.json"), ("PUT", "/users.json"), ("POST", "/client/1.json")]
)
def test_a_method_that_the_document_does_not_have_is_404(api: Api, method: str, path: str) -> None:
    assert api(method, path).status_code == 404


def test_with_plural_paths_they_exist_instead_of_the_singular_ones(access: type[Api]) -> None:
    with Sandbox(plural_paths=True) as sandbox:
        api = access(sandbox)
        for kind in KINDS:
            record = api.create(kind)
            for method in ("GET", "DELETE"):
                assert api(method, f"/{kind}s/{record['id']}.json").status_code == 200
            assert api("GET", f"/{kind}/{record['id']}.json").status_code == 404
            assert api("GET", f"/{kind}s.json").status_code == 200


@pytest.mark.parametrize("path", ["//users.json", "///users.json", "/users//{}.json", "//users///{}.json"])
def test_repeated_slashes_are_squeezed(api: Api, path: str) -> None:
    connection = http.client.HTTPConnection(api.sandbox.url.removeprefix("http://"), timeout=30)
    headers = {"Authorization": f"Token token={api.token}"}
    connection.request("GET", path.format(api.create("user")["id"]), headers=headers)
    assert connection.getresponse().status == 200
    connection.close()


# Authentication


@pytest.mark.parametrize("form", ["Token token={}", 'Token token="{}"'])
def test_the_header_carries_the_token_with_or_without_quotes(api: Api, form: str) -> None:
    answer = api("GET", "/users.json", headers={"Authorization": form.format(api.token)})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "form",
    ["token token={}", "Token {}", "Bearer {}", 'Token token="{}', "Token token={}x", "Token token=", "{}"],
)
def test_any_other_header_is_refused(api: Api, form: str) -> None:
    answer = api("GET", "/users.json", headers={"Authorization": form.format(api.token)})
    assert answer.status_code == 401
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text == "HTTP Token: Access denied."


@pytest.mark.parametrize("place", ["params", "json", "data"])
def test_the_token_can_be_a_parameter_in_query_json_or_form(api: Api, place: str) -> None:
    del api.session.headers["Authorization"]
    for token, status in ((api.token, 200), ("wrong", 401)):
        options: dict[str, Any] = {place: {"authentication_token": token}}
        assert api("GET", "/users.json", **options).status_code == status


def test_a_write_can_carry_the_token_beside_the_record(api: Api) -> None:
    del api.session.headers["Authorization"]
    body = {"authentication_token": api.token, "user": {"last_name": "Akkermans"}}
    assert api("POST", "/users.json", json=body).status_code == 200


def test_an_organisation_sees_and_changes_only_its_own_records(api: Api, other_api: Api) -> None:
    for kind in KINDS:
        record = api.create(kind)
        assert other_api("GET", f"/{kind}s.json").json() == []
        for method in ("GET", "PUT", "DELETE"):
            answer = other_api(method, detail(kind, record), json={kind: {"id": "x"}})
            assert answer.status_code == 404
        assert api("GET", detail(kind, record)).status_code == 200


def test_two_organisations_can_have_a_user_with_the_same_email(api: Api, other_api: Api) -> None:
    api.create("user", email="jakkermans@example.com")
    other_api.create("user", email="jakkermans@example.com")


# Malformed writes and error pages


@pytest.mark.parametrize("body", [{}, {"user": {}}, {"user": None}, {"user": []}, {"user": " "}, [], 1])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_write_with_nothing_in_it_is_400(api: Api, method: str, body: Any) -> None:
    path = "/users.json" if method == "POST" else detail("user", api.create("user"))
    answer = api(method, path, data=json.dumps(body), headers=JSON_HEADERS)
    assert answer.status_code == 400


@pytest.mark.parametrize("value", ["abc", 1, True, False, [1]])
def test_a_record_that_is_no_object_is_500(api: Api, value: Any) -> None:
    assert api("POST", "/users.json", json={"user": value}).status_code == 500


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"user": {"city": "Ergens",}}', b'{"user": {"city": "\xff"}}', b'{"user": {"city": "\\ud800"}}',
     b'{"user": {"city": NaN}}', b"[" * 100_000],
)  # fmt: skip
def test_malformed_json_is_400_with_an_empty_html_body(api: Api, body: bytes) -> None:
    answer = api("POST", "/users.json", data=body, headers=JSON_HEADERS)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.content == b""


def test_json_that_is_not_called_json_is_not_read(api: Api) -> None:
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
def test_error_pages_are_html_unless_the_request_accepts_json(
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
def test_a_delete_takes_any_body_or_none_and_the_record_is_gone(api: Api, body: Any) -> None:
    path = detail("user", api.create("user"))
    answer = api("DELETE", path, json=body)
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}
    for method in ("GET", "DELETE"):
        assert api(method, path).status_code == 404
    assert api("GET", "/users.json").json() == []


# Lists and details


def test_a_list_has_everything_in_the_order_of_creation(api: Api) -> None:
    ids = [api.create("client", reference_code=f"DL-{number}")["id"] for number in range(30)]
    assert [client["id"] for client in api("GET", "/clients.json").json()] == ids


def test_the_list_of_users_says_emails_where_the_detail_says_email(api: Api) -> None:
    user = api.create("user", email="jakkermans@example.com")
    (listed,) = api("GET", "/users.json").json()
    assert listed.pop("emails") == user.pop("email")
    assert listed == user


def test_a_clients_credential_is_in_the_list_alone(api: Api) -> None:
    client = api.create("client")
    assert "authentication_token" not in client
    assert "authentication_token" not in api("GET", detail("client", client)).json()["client"]
    (listed,) = api("GET", "/clients.json").json()
    assert listed.pop("authentication_token")
    assert listed == client


def test_an_appointments_credential_is_in_list_and_detail(api: Api) -> None:
    appointment = api.create("appointment")
    assert appointment["token"]
    assert api("GET", "/appointments.json").json() == [appointment]
    assert api("GET", detail("appointment", appointment)).json() == {"appointment": appointment}


def test_every_record_has_an_id_and_a_credential_of_its_own(api: Api) -> None:
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
def test_generated_attributes_and_credentials_are_ignored_when_sent(
    api: Api, kind: str, ignored: list[str]
) -> None:
    sent = dict.fromkeys(ignored, "of my own")
    record = api.create(kind, **sent)
    updated = api("PUT", detail(kind, record), json={kind: sent}).json()[kind]
    assert updated == record
    assert "of my own" not in json.dumps(api.sandbox.records(f"{kind}s", api.token))


def test_a_name_is_made_of_its_parts_and_follows_them(api: Api) -> None:
    client = api.create("client", initials="T", surname_prefix="de", last_name="Ester", gender="female")
    assert client["client_full_name"] == "Mevr. T de Ester"
    changed = api("PUT", detail("client", client), json={"client": {"gender": None, "initials": "U"}})
    assert changed.json()["client"]["client_full_name"] == "U de Ester"


def test_an_update_changes_what_is_sent_and_null_clears(api: Api) -> None:
    user = api.create("user", last_name="Akkermans", city="Ergens", email="jakkermans@example.com")
    answer = api("PUT", detail("user", user), json={"user": {"city": None, "address": "Vlietlaan 1"}})
    changed = {**user, "city": None, "address": "Vlietlaan 1"}
    assert answer.json() == {"user": changed}
    assert api("GET", detail("user", user)).json() == {"user": changed}


def test_a_user_keeps_its_own_email_in_an_update(api: Api) -> None:
    user = api.create("user", email="jakkermans@example.com")
    answer = api("PUT", detail("user", user), json={"user": {"email": "jakkermans@example.com"}})
    assert answer.status_code == 200


def test_an_email_is_free_again_after_its_user_is_deleted_and_none_is_not_unique(api: Api) -> None:
    user = api.create("user", email="jakkermans@example.com")
    api("DELETE", detail("user", user))
    api.create("user", email="jakkermans@example.com")
    for _ in range(2):
        api.create("user", email=None)


def test_appointments_may_name_users_and_clients_that_do_not_exist(api: Api) -> None:
    assert api.create("appointment", user_id="nobody", client_id="nobody")["user_id"] == "nobody"


def test_text_comes_back_as_it_was_sent(api: Api) -> None:
    name = "Ünal-O'Brien «\u2028» 🩺 </script>"
    assert api.create("user", last_name=name)["last_name"] == name


# Stricter than the service


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_attribute_is_refused_by_name(api: Api, kind: str) -> None:
    assert refused(api, kind, emial="a@example.com") == {"emial": ["is unknown"]}


def test_an_attribute_beside_the_envelope_is_refused_by_name(api: Api) -> None:
    answer = api("POST", "/users.json", json={"user": {"city": "Ergens"}, "email": "a@example.com"})
    assert answer.status_code == 422
    assert answer.json() == {"errors": {"email": ["is unknown"]}}


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
def test_an_attribute_of_the_live_service_alone_is_answered_once_written(
    api: Api, kind: str, name: str
) -> None:
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
def test_a_value_of_the_wrong_type_is_refused_by_name(api: Api, kind: str, name: str, value: Any) -> None:
    assert refused(api, kind, **{name: value}).keys() == {name}


def test_every_wrong_attribute_is_named_and_nothing_is_changed(api: Api) -> None:
    appointment = api.create("appointment", duration=30)
    wrong = {"duration": "abc", "date": "soon", "nonsense": 1, "user_id": "1"}
    answer = api("PUT", detail("appointment", appointment), json={"appointment": wrong})
    assert answer.status_code == 422
    assert answer.json()["errors"].keys() == {"duration", "date", "nonsense"}
    assert api("GET", detail("appointment", appointment)).json() == {"appointment": appointment}


@pytest.mark.parametrize(("sent", "kept"), [(30, 30), ("30", 30), (30.0, 30), (0, 0), (None, None)])
def test_a_duration_is_a_whole_number(api: Api, sent: Any, kept: int | None) -> None:
    duration = api.create("appointment", duration=sent)["duration"]
    assert duration == kept
    assert not isinstance(duration, float)


@pytest.mark.parametrize("sent", ["abc", "", 30.5, "30.5", True, -1, [30], "\uff11\uff10"])
def test_any_other_duration_is_refused(api: Api, sent: Any) -> None:
    assert refused(api, "appointment", duration=sent) == {"duration": ["is not a whole number"]}


# Dates


@pytest.mark.parametrize(
    ("sent", "answered"),
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
def test_a_date_is_answered_in_amsterdam_time_with_milliseconds(api: Api, sent: str, answered: str) -> None:
    assert api.create("appointment", date=sent)["date"] == answered


@pytest.mark.parametrize(
    "sent",
    [
        "12-18-2014", "18/12/2014", "tomorrow", "", True, 1435758084, {"date": "2015-07-01"},
        "2015-02-30T10:00:00+01:00", "2023-02-29T10:00:00Z", "2015-07-01T25:00:00Z", "2015-07-01T10:60:00Z",
        "2015-07-01T10:00:00+99:00", "2015-07-01T10:00:00 CET", "20150701T100000Z", "2015-07-01T10:00:00Z\n",
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-10:00", "0000-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_an_unreadable_or_impossible_date_is_refused(api: Api, sent: Any) -> None:
    assert refused(api, "appointment", date=sent) == {"date": ["is not a date"]}
    assert refused(api, "client", date_of_birth=sent) == {"date_of_birth": ["is not a date"]}


def test_a_local_time_that_the_clock_skips_is_refused(api: Api) -> None:
    (error,) = refused(api, "appointment", date="2026-03-29T02:30:00")["date"]
    assert "clock goes forward" in error


def test_a_birth_date_of_long_ago_loses_the_seconds_of_its_offset(api: Api) -> None:
    offset = datetime(1930, 1, 1, tzinfo=ZoneInfo("Europe/Amsterdam")).strftime("%z")
    answered = f"1930-01-01T00:00:00.000{offset[:3]}:{offset[3:5]}"
    assert api.create("client", date_of_birth="1930-01-01")["date_of_birth"] == answered


# ETags


@pytest.mark.parametrize("kind", KINDS)
def test_lists_and_details_have_weak_etags_that_give_304_until_something_changes(api: Api, kind: str) -> None:
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
