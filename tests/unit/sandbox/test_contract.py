"""The sandbox against the API document: every endpoint, with the document's own requests and answers."""

from __future__ import annotations

import http.client
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_webcamconsult.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = (Path(__file__).parent / "webcamconsult-api.txt").read_text(encoding="utf-8")
# Not in the document's examples, but in the answers of the live service.
EXTRA_KEYS = {"appointments": {"token"}}


def mended(text: str) -> Any:
    """Read the first JSON value of a text, in spite of the document's typos.

    These are a comma after the last item, no comma between two lines, and a closing brace too many (which is
    beyond the end of the first value).
    """
    text = re.sub(r'"\s*\n(\s*")', r'",\n\1', text)
    text = re.sub(r",(\s*[}\]])", r"\1", text)
    value, _ = json.JSONDecoder().raw_decode(text.lstrip())
    return value


@dataclass(frozen=True)
class Endpoint:
    """One endpoint as the document has it."""

    method: str
    path: str
    authorization: str
    request: Any
    answers: dict[int, Any]

    @property
    def resource(self) -> str:
        return re.sub(r"s?[/.].*", "s", self.path[1:])

    def url(self, sandbox: Sandbox, record_id: str = "") -> str:
        return sandbox.url + re.sub(r"\{\w+\}", record_id, self.path)


def endpoints(document: str) -> Iterator[Endpoint]:
    """Find the endpoints in the document."""
    _, *parts = re.split(r"^(GET|POST|PUT|DELETE)(/\S+)$", document, flags=re.MULTILINE)
    for method, path, section in zip(*[iter(parts)] * 3, strict=True):
        asked, *answered = re.split(r"^Response\s+(\d+)$", section, flags=re.MULTILINE)
        authorization = re.search(r"^Authorization: (.+)$", asked, re.MULTILINE)
        assert authorization
        _, _, body = asked.partition("\nBody\n")
        yield Endpoint(
            method,
            path,
            authorization[1],
            mended(body) if body else None,
            {
                int(status): mended(text.partition("\nBody\n")[2])
                for status, text in zip(answered[::2], answered[1::2], strict=True)
            },
        )


ENDPOINTS = list(endpoints(DOCUMENT))
CREATE = {endpoint.resource: endpoint for endpoint in ENDPOINTS if endpoint.method == "POST"}
each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: f"{e.method} {e.path}")


@pytest.fixture
def sandbox(documented_sandbox: Sandbox) -> Sandbox:
    """Give the sandbox with the document's own tokens, emptied."""
    for delete in (endpoint for endpoint in ENDPOINTS if endpoint.method == "DELETE"):
        for token in documented_sandbox.tokens:
            for record in documented_sandbox.records(delete.resource, token):
                headers = {"Authorization": f"Token token={token}"}
                assert send(delete, documented_sandbox, record["id"], headers=headers).status_code == 200
    return documented_sandbox


@pytest.fixture(scope="module")
def documented_sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def send(endpoint: Endpoint, sandbox: Sandbox, record_id: str = "", **options: Any) -> requests.Response:
    options = {"headers": {"Authorization": endpoint.authorization}, "json": endpoint.request, **options}
    return requests.request(endpoint.method, endpoint.url(sandbox, record_id), timeout=30, **options)


def create(endpoint: Endpoint, sandbox: Sandbox) -> str:
    """Create the document's example in the organisation of the endpoint's own example."""
    headers = {"Authorization": endpoint.authorization}
    answer = send(CREATE[endpoint.resource], sandbox, headers=headers)
    assert answer.status_code == 200
    ((record),) = answer.json().values()
    return str(record["id"])


def shape(value: Any) -> Any:
    """Reduce a JSON value to its keys and types."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def without_extra_keys(answer: Any, resource: str) -> Any:
    for record in answer if isinstance(answer, list) else answer.values():
        if isinstance(record, dict):
            for key in EXTRA_KEYS.get(resource, ()):
                assert isinstance(record.pop(key), str)
    return answer


def test_the_document_has_fifteen_endpoints_five_for_each_resource() -> None:
    assert [(endpoint.method, endpoint.path) for endpoint in ENDPOINTS] == [
        ("GET", "/users.json"),
        ("POST", "/users.json"),
        ("GET", "/users/{user_id}.json"),
        ("PUT", "/users/{user_id}.json"),
        ("DELETE", "/users/{user_id}.json"),
        ("GET", "/clients.json"),
        ("POST", "/clients.json"),
        ("GET", "/client/{client_id}.json"),
        ("PUT", "/client/{client_id}.json"),
        ("DELETE", "/client/{client_id}.json"),
        ("GET", "/appointments.json"),
        ("POST", "/appointments.json"),
        ("GET", "/appointment/{appointment_id}.json"),
        ("PUT", "/appointment/{appointment_id}.json"),
        ("DELETE", "/appointment/{appointment_id}.json"),
    ]
    assert {endpoint.resource for endpoint in ENDPOINTS} == {"users", "clients", "appointments"}
    assert all(endpoint.request for endpoint in ENDPOINTS if endpoint.method != "GET")
    assert all(200 in endpoint.answers for endpoint in ENDPOINTS)


@each_endpoint
def test_takes_the_documented_request_and_gives_the_documented_answer(
    sandbox: Sandbox, endpoint: Endpoint
) -> None:
    record_id = "" if endpoint.method == "POST" else create(endpoint, sandbox)
    answer = send(endpoint, sandbox, record_id)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
    assert shape(without_extra_keys(answer.json(), endpoint.resource)) == shape(endpoint.answers[200])


@each_endpoint
def test_answers_the_values_of_the_document(sandbox: Sandbox, endpoint: Endpoint) -> None:
    record_id = "" if endpoint.method == "POST" else create(endpoint, sandbox)
    answered = without_extra_keys(send(endpoint, sandbox, record_id).json(), endpoint.resource)
    documented = endpoint.answers[200]
    if endpoint.method != "DELETE":
        generated = {"id", "authentication_token"}
        (answered,) = answered if isinstance(answered, list) else answered.values()
        (documented,) = documented if isinstance(documented, list) else documented.values()
        answered = {key: value for key, value in answered.items() if key not in generated}
        documented = {key: value for key, value in documented.items() if key not in generated}
    assert answered == documented


@each_endpoint
def test_takes_the_token_as_the_documented_parameter(sandbox: Sandbox, endpoint: Endpoint) -> None:
    record_id = "" if endpoint.method == "POST" else create(endpoint, sandbox)
    token = endpoint.authorization.partition("=")[2]
    answer = send(endpoint, sandbox, record_id, headers={}, params={"authentication_token": token})
    assert answer.status_code == 200


@each_endpoint
def test_takes_the_address_of_the_document_with_its_two_slashes(sandbox: Sandbox, endpoint: Endpoint) -> None:
    record_id = "" if endpoint.method == "POST" else create(endpoint, sandbox)
    # Not by requests, some versions of which send only one of them.
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=30)
    path = "/" + endpoint.url(sandbox, record_id).removeprefix(sandbox.url)
    headers = {"Authorization": endpoint.authorization, "Content-Type": "application/json"}
    connection.request(endpoint.method, path, json.dumps(endpoint.request or {}), headers)
    assert connection.getresponse().status == 200
    connection.close()
    assert sandbox.requests[-1] == (endpoint.method, path, 200)


@each_endpoint
def test_refuses_a_request_without_a_token(sandbox: Sandbox, endpoint: Endpoint) -> None:
    answer = send(endpoint, sandbox, "1234567890abcdef12345678", headers={})
    assert answer.status_code == 401
    assert answer.headers["Content-Type"].partition(";")[0] == "text/plain"
    assert answer.text == "HTTP Token: Access denied."


@pytest.mark.parametrize(
    "endpoint", [e for e in ENDPOINTS if "{" in e.path], ids=lambda e: f"{e.method} {e.path}"
)
def test_does_not_find_a_record_that_is_not_there(sandbox: Sandbox, endpoint: Endpoint) -> None:
    answer = send(endpoint, sandbox, "1234567890abcdef12345678")
    assert answer.status_code == 404
    assert answer.json() == {"status": 404, "error": "Not Found"}


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_refuses_a_second_user_with_the_same_email_in_the_documented_words(
    sandbox: Sandbox, method: str
) -> None:
    users = CREATE["users"]
    create(users, sandbox)
    if method == "POST":
        answer = send(users, sandbox)
    else:
        other = send(users, sandbox, json={"user": {"email": "other@example.com"}}).json()["user"]["id"]
        update = next(e for e in ENDPOINTS if e.path == "/users/{user_id}.json" and e.method == "PUT")
        answer = send(update, sandbox, other, json={"user": {"email": "JAkkermans@example.com"}})
    assert answer.status_code == 422
    assert answer.json() == users.answers[422]


@pytest.mark.parametrize("resource", ["clients", "appointments"])
def test_refuses_with_the_documented_errors_object(sandbox: Sandbox, resource: str) -> None:
    endpoint = CREATE[resource]
    (envelope,) = endpoint.request
    answer = send(endpoint, sandbox, json={envelope: {**endpoint.request[envelope], "nonsense": 1}})
    assert answer.status_code == 422
    assert answer.json().keys() == endpoint.answers[422].keys() == {"errors"}


@pytest.mark.parametrize("resource", ["users", "clients", "appointments"])
def test_takes_every_attribute_that_the_document_lists_as_writable(sandbox: Sandbox, resource: str) -> None:
    section = DOCUMENT[DOCUMENT.index(f"\n{resource[:-1].title()}\n\n") :].partition("generated:")[0]
    listed = re.findall(r"• (\w+)", section)
    endpoint = CREATE[resource]
    (envelope,) = endpoint.request
    assert len(listed) >= 7
    answer = send(endpoint, sandbox, json={envelope: dict.fromkeys(listed)})
    assert answer.status_code == 200
    assert set(listed) <= answer.json()[envelope].keys()
