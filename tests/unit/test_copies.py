"""Copies of a hook that was used."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Serve, Service

COPY: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301
}
each_way = pytest.mark.parametrize("way", COPY)


def use(hook: WebcamconsultHook) -> None:
    hook.users.list()
    hook.clients.create({"last_name": "Alders"})
    assert hook.appointments.list() == []
    hook.get_conn()


@each_way
@pytest.mark.parametrize("is_used", [False, True], ids=["new", "used"])
def test_a_hook_can_be_copied(way: str, is_used: bool, hook: WebcamconsultHook, service: Service) -> None:
    if is_used:
        use(hook)
    copied = COPY[way](hook)
    assert copied.webcamconsult_conn_id == hook.webcamconsult_conn_id
    assert not {"transport", "settings", "users", "clients", "appointments"} & {*vars(copied)}
    use(copied)
    assert copied.transport is not hook.transport
    use(hook)


def test_a_pickle_of_a_hook_has_no_token(hook: WebcamconsultHook, service: Service) -> None:
    use(hook)
    assert service.token.encode() not in pickle.dumps(hook)


@each_way
def test_records_can_be_copied(way: str, hook: WebcamconsultHook) -> None:
    use(hook)
    copied = COPY[way](hook.clients)
    assert "_session" not in vars(copied.transport) or way == "copy"
    assert len(copied.list()) == 1


@each_way
def test_a_session_can_be_copied(way: str, connect: Connect, serve: Serve) -> None:
    server = serve({"body": []})
    session = connect(server.url, "s3cret").get_conn()
    session.get(f"{server.url}/users.json")
    COPY[way](session).get(f"{server.url}/users.json")
    assert [request.headers["Authorization"] for request in server.requests] == ["Token token=s3cret"] * 2
