from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_webcamconsult.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator


class Api:
    """An organisation's access to a sandbox, over real HTTP."""

    def __init__(self, sandbox: Sandbox, token: str | None = None) -> None:
        self.sandbox = sandbox
        self.token = token or sandbox.token
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Token token={self.token}"

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, f"{self.sandbox.url}{path}", timeout=30, **options)

    def create(self, kind: str, **attributes: Any) -> dict[str, Any]:
        """Create a user, client or appointment, and return it."""
        response = self("POST", f"/{kind}s.json", json={kind: attributes or {"id": "ignored"}})
        assert response.status_code == 200, response.text
        created: dict[str, Any] = response.json()[kind]
        return created


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox(tokens=[f"organisation-{number}" for number in range(1000)]) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def unused_tokens(shared_sandbox: Sandbox) -> Iterator[str]:
    return iter(shared_sandbox.tokens)


@pytest.fixture
def api(shared_sandbox: Sandbox, unused_tokens: Iterator[str]) -> Iterator[Api]:
    """Give each test its own organisation: as isolated as a separate server and 0.3 s faster."""
    api = Api(shared_sandbox, next(unused_tokens))
    with api.session:
        yield api


@pytest.fixture
def other_api(shared_sandbox: Sandbox, unused_tokens: Iterator[str]) -> Iterator[Api]:
    api = Api(shared_sandbox, next(unused_tokens))
    with api.session:
        yield api


@pytest.fixture
def access() -> type[Api]:
    """Return the class, for tests that start their own sandbox."""
    return Api
