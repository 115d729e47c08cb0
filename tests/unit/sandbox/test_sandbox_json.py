"""
The sandbox reads and stores the JSON that Rails and MongoDB do, and refuses the rest as they do.

The expected status codes are those of Rails 6.1 (json 2.6) with BSON 4.15, for the same bytes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import requests

    from tests.unit.sandbox.conftest import Api


def post(api: Api, body: bytes | str) -> requests.Response:
    data = body.encode() if isinstance(body, str) else body
    return api("POST", "/clients.json", data=data, headers={"Content-Type": "application/json"})


def with_external(value: str) -> str:
    return f'{{"client": {{"external": {value}}}}}'


def nested(opening: str, closing: str, levels: int) -> str:
    """Return a body of so many levels in all, two of which are the record and its envelope."""
    return with_external(opening * (levels - 2) + "1" + closing * (levels - 2))


SHAPES = [("[", "]"), ('{"a": ', "}"), ('[{"a": ', "}]")]


@pytest.mark.parametrize(("opening", "closing"), SHAPES[:2])
def test_a_hundred_levels_are_stored(api: Api, opening: str, closing: str) -> None:
    body = nested(opening, closing, 100)
    response = post(api, body)
    assert response.status_code == 200
    external = json.loads(body)["client"]["external"]
    assert response.json()["client"]["external"] == external
    assert api("GET", "/clients.json").json()[0]["external"] == external


@pytest.mark.parametrize(
    "body",
    [
        *(nested(*shape, levels) for shape in SHAPES[:2] for levels in (101, 600, 100_000)),
        nested(*SHAPES[2], 60),
        f'{{"client": {{"last_name": "x"}}, "deep": {"[" * 100}{"]" * 100}}}',
        "[" * 101 + "]" * 101,
        with_external("NaN"), with_external("Infinity"), with_external("[-Infinity]"),
        with_external('"\\ud800"'), with_external('"x\\udc00"'), with_external('{"\\ud800": 1}'),
        with_external("1") + " x", with_external('"a\nb"'),
        b"\xef\xbb\xbf" + with_external("1").encode(),
        with_external("1").encode("utf-16-le"), with_external("1").encode("utf-16"),
        with_external("1").encode("utf-32-be"), with_external('"\u00e9"').encode("latin-1"),
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
def test_json_that_rails_cannot_parse_is_400_with_an_empty_html_body(api: Api, body: bytes | str) -> None:
    response = post(api, body)
    assert (response.status_code, response.content) == (400, b"")
    assert response.headers["Content-Type"].startswith("text/html")
    assert api.sandbox.records("clients", api.token) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)), ("1e300", 1e300),
        ('"\\ud83e\\ude7a"', "\U0001fa7a"), ('"a\\u0000b"', "a\0b"), ("-0", 0), ("1e-999", 0.0),
        ("123456789012345678901234567890.5", 1.2345678901234568e29),
    ],
)  # fmt: skip
def test_the_limits_of_what_rails_stores_are_stored(api: Api, text: str, value: Any) -> None:
    response = post(api, with_external(text))
    assert response.status_code == 200
    assert response.json()["client"]["external"] == value


@pytest.mark.parametrize(
    "body", [with_external("1")[:-1] + ', "client": {"external": 2}}', with_external('1, "external": 2')]
)
def test_of_two_equal_keys_the_last_counts(api: Api, body: str) -> None:
    assert post(api, body).json()["client"]["external"] == 2


@pytest.mark.parametrize(
    "value",
    ["9223372036854775808", "-9223372036854775809", '[{"a": 1' + "0" * 100 + "}]", '{"a\\u0000b": 1}'],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_what_mongodb_cannot_store_is_500_and_changes_nothing(api: Api, value: str, method: str) -> None:
    path = "/clients.json" if method == "POST" else f"/client/{api.create('client')['id']}.json"
    before = api.sandbox.records("clients", api.token)
    response = api(method, path, data=with_external(value), headers={"Content-Type": "application/json"})
    assert response.status_code == 500
    assert api.sandbox.records("clients", api.token) == before


def test_a_duration_that_mongodb_cannot_store_is_500(api: Api) -> None:
    for duration in (2**63, 1e30):
        response = api("POST", "/appointments.json", json={"appointment": {"duration": duration}})
        assert response.status_code == 500
    assert api.sandbox.records("appointments", api.token) == []


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 5000])
def test_a_number_that_python_cannot_hold_is_refused(api: Api, number: str) -> None:
    # Rails stores an infinity for the first two and returns null, and answers the last with 500.
    assert post(api, with_external(number)).status_code == 400
    assert api.sandbox.records("clients", api.token) == []
