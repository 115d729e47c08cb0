"""The sandbox matches the API document: every endpoint, with the document's requests and responses."""

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
# Not in the document's examples, but in the responses of the live service.
EXTRA_KEYS = {"appointments": {"token"}}


def parse_lenient(text: str) -> Any:
    """
    Read the first JSON value of a text, despite the document's typos.

    The typos are a comma after the last item, a missing comma between two lines, and an extra closing brace
    after the end of the first value.
    """
    text = re.sub(r'"\s*\n(\s*")', r'",\n\1', text)
    text = re.sub(r",(\s*[}\]])", r"\1", text)
    value, _ = json.JSONDecoder().raw_decode(text.lstrip())
    return value


@dataclass(frozen=True)
class Endpoint:
    """One documented endpoint."""

    method: str
    path: str
    authorization: str
    request: Any
    responses: dict[int, Any]

    @property
    def resource(self) -> str:
        return re.sub(r"s?[/.].*", "s", self.path[1:])

    def url(self, sandbox: Sandbox, record_id: str = "") -> str:
        return sandbox.url + re.sub(r"\{\w+\}", record_id, self.path)


def endpoints(document: str) -> Iterator[Endpoint]:
    """Find the endpoints in the document."""
    _, *parts = re.split(r"^(GET|POST|PUT|DELETE)(/\S+)$", document, flags=re.MULTILINE)
    for method, path, section in zip(*[iter(parts)] * 3, strict=True):
        request, *responses = re.split(r"^Response\s+(\d+)$", section, flags=re.MULTILINE)
        authorization = re.search(r"^Authorization: (.+)$", request, re.MULTILINE)
        assert authorization
        _, _, body = request.partition("\nBody\n")
        yield Endpoint(
            method,
            path,
            authorization[1],
            parse_lenient(body) if body else None,
            {
                int(status): parse_lenient(text.partition("\nBody\n")[2])
                for status, text in zip(responses[::2], responses[1::2], strict=True)
            },
        )


ENDPOINTS = list(endpoints(DOCUMENT))
CREATE = {endpoint.resource: endpoint for endpoint in ENDPOINTS if endpoint.method == "POST"}
each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: f"{e.method} {e.path}")


@pytest.fixture
def sandbox(documented_sandbox: Sandbox) -> Sandbox:
    """Return the sandbox with the document's tokens and no records."""
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
    """Create the document's example record in the organisation of the endpoint's example."""
    headers = {"Authorization": endpoint.authorization}
    response = send(CREATE[endpoint.resource], sandbox, headers=headers)
    assert response.status_code == 200
    ((record),) = response.json().values()
    return str(record["id"])


def shape(value: Any) -> Any:
    """Reduce a JSON value to its keys and types."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def without_extra_keys(response: Any, resource: str) -> Any:
    for record in response if isinstance(response, list) else response.values():
        if isinstance(record, dict):
            for key in EXTRA_KEYS.get(resource, ()):
                assert isinstance(record.pop(key), str)
    return response


def test_document_has_five_endpoints_for_each_resource() -> None:
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
    assert all(200 in endpoint.responses for endpoint in ENDPOINTS)


@each_endpoint
def test_documented_request_returns_documented_structure(sandbox: Sandbox, endpoint: Endpoint) -> None:
    record_id = "" if endpoint.method == "POST" else create(endpoint, sandbox)
    response = send(endpoint, sandbox, record_id)
    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == "application/json"
    assert shape(without_extra_keys(response.json(), endpoint.resource)) == shape(endpoint.responses[200])


@each_endpoint
def test_documented_request_returns_documented_values(sandbox: Sandbox, endpoint: Endpoint) -> None:
    record_id = "" if endpoint.method == "POST" else create(endpoint, sandbox)
    returned = without_extra_keys(send(endpoint, sandbox, record_id).json(), endpoint.resource)
    documented = endpoint.responses[200]
    if endpoint.method != "DELETE":
        read_only = {"id", "authentication_token"}
        (returned,) = returned if isinstance(returned, list) else returned.values()
        (documented,) = documented if isinstance(documented, list) else documented.values()
        returned = {key: value for key, value in returned.items() if key not in read_only}
        documented = {key: value for key, value in documented.items() if key not in read_only}
    assert returned == documented


@each_endpoint
def test_token_is_accepted_as_documented_parameter(sandbox: Sandbox, endpoint: Endpoint) -> None:
    record_id = "" if endpoint.method == "POST" else create(endpoint, sandbox)
    token = endpoint.authorization.partition("=")[2]
    response = send(endpoint, sandbox, record_id, headers={}, params={"authentication_token": token})
    assert response.status_code == 200


@each_endpoint
def test_documented_url_with_double_slash_is_accepted(sandbox: Sandbox, endpoint: Endpoint) -> None:
    record_id = "" if endpoint.method == "POST" else create(endpoint, sandbox)
    # Some versions of requests send only one of the slashes.
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=30)
    path = "/" + endpoint.url(sandbox, record_id).removeprefix(sandbox.url)
    headers = {"Authorization": endpoint.authorization, "Content-Type": "application/json"}
    connection.request(endpoint.method, path, json.dumps(endpoint.request or {}), headers)
    assert connection.getresponse().status == 200
    connection.close()
    assert sandbox.requests[-1] == (endpoint.method, path, 200)


@each_endpoint
def test_request_without_token_returns_401(sandbox: Sandbox, endpoint: Endpoint) -> None:
    response = send(endpoint, sandbox, "1234567890abcdef12345678", headers={})
    assert response.status_code == 401
    assert response.headers["Content-Type"].partition(";")[0] == "text/plain"
    assert response.text == "HTTP Token: Access denied."


@pytest.mark.parametrize(
    "endpoint", [e for e in ENDPOINTS if "{" in e.path], ids=lambda e: f"{e.method} {e.path}"
)
def test_missing_record_returns_404(sandbox: Sandbox, endpoint: Endpoint) -> None:
    response = send(endpoint, sandbox, "1234567890abcdef12345678")
    assert response.status_code == 404
    assert response.json() == {"status": 404, "error": "Not Found"}


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_duplicate_email_is_rejected_with_documented_error(sandbox: Sandbox, method: str) -> None:
    users = CREATE["users"]
    create(users, sandbox)
    if method == "POST":
        response = send(users, sandbox)
    else:
        other = send(users, sandbox, json={"user": {"email": "other@example.com"}}).json()["user"]["id"]
        update = next(e for e in ENDPOINTS if e.path == "/users/{user_id}.json" and e.method == "PUT")
        response = send(update, sandbox, other, json={"user": {"email": "JAkkermans@example.com"}})
    assert response.status_code == 422
    assert response.json() == users.responses[422]


@pytest.mark.parametrize("resource", ["clients", "appointments"])
def test_invalid_attribute_is_rejected_with_documented_errors_object(sandbox: Sandbox, resource: str) -> None:
    endpoint = CREATE[resource]
    (envelope,) = endpoint.request
    response = send(endpoint, sandbox, json={envelope: {**endpoint.request[envelope], "nonsense": 1}})
    assert response.status_code == 422
    assert response.json().keys() == endpoint.responses[422].keys() == {"errors"}


@pytest.mark.parametrize("resource", ["users", "clients", "appointments"])
def test_documented_writable_attributes_are_accepted(sandbox: Sandbox, resource: str) -> None:
    section = DOCUMENT[DOCUMENT.index(f"\n{resource[:-1].title()}\n\n") :].partition("generated:")[0]
    documented = re.findall(r"• (\w+)", section)
    endpoint = CREATE[resource]
    (envelope,) = endpoint.request
    assert len(documented) >= 7
    response = send(endpoint, sandbox, json={envelope: dict.fromkeys(documented)})
    assert response.status_code == 200
    assert set(documented) <= response.json()[envelope].keys()
