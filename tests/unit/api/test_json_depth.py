"""JSON that is nested too deeply is not the documented JSON, however deep it is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from airflow_provider_webcamconsult.api.decoding import JSON_MAX_DEPTH
from airflow_provider_webcamconsult.api.redaction import remove_credentials
from airflow_provider_webcamconsult.api.request import get_request, list_request
from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.api.response import read_response
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultError,
    WebcamconsultResponseError,
    WebcamconsultUnknownOutcomeError,
    WebcamconsultValidationError,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Connect, Serve

ID = "1234567890abcdef12345678"
TOO_DEEP = (JSON_MAX_DEPTH + 1, 600, 5_000, 100_000)
# The depth of what contains the value of an attribute: a record in an object or in a list.
OUTER = 2


def nested(depth: int, *, objects: bool = False) -> str:
    """Return JSON of some depth."""
    return '{"a":' * depth + "1" + "}" * depth if objects else "[" * depth + "]" * depth


def record(depth: int, *, objects: bool = False) -> str:
    return f'{{"id": "{ID}", "inloop_json": {nested(depth - OUTER, objects=objects)}}}'


def single(depth: int, *, objects: bool = False) -> str:
    return f'{{"appointment": {record(depth, objects=objects)}}}'


@pytest.mark.parametrize("objects", [False, True], ids=["arrays", "objects"])
@pytest.mark.parametrize("depth", [JSON_MAX_DEPTH - 1, JSON_MAX_DEPTH])
def test_the_deepest_json_is_read(depth: int, objects: bool) -> None:
    content = single(depth, objects=objects).encode()
    assert read_response(get_request(APPOINTMENT, ID), 200, {}, content)["id"] == ID
    content = f"[{record(depth, objects=objects)}]".encode()
    for only in (None, {ID}):
        assert len([*read_response(list_request(APPOINTMENT, only=only), 200, {}, content)]) == 1


@pytest.mark.parametrize("objects", [False, True], ids=["arrays", "objects"])
@pytest.mark.parametrize("depth", TOO_DEEP)
def test_deeper_json_is_an_error(depth: int, objects: bool, connect: Connect, serve: Serve) -> None:
    hook = connect(serve({"body": single(depth, objects=objects)}).url, retries=0)
    with pytest.raises(WebcamconsultResponseError, match="not the documented JSON"):
        hook.appointments.get(ID)
    with pytest.raises(WebcamconsultResponseError, match="not the documented JSON"):
        hook.appointments.update(ID, {"duration": 5})
    with pytest.raises(WebcamconsultUnknownOutcomeError, match="not the documented JSON"):
        hook.appointments.create({"duration": 5})
    hook = connect(serve({"body": f"[{record(depth, objects=objects)}]"}).url, retries=0)
    with pytest.raises(WebcamconsultResponseError, match="not the documented JSON"):
        hook.appointments.list()
    content = f"[{record(depth, objects=objects)}]".encode()
    with pytest.raises(WebcamconsultResponseError, match="not the documented JSON"):
        [*read_response(list_request(APPOINTMENT, only={ID}), 200, {}, content)]


@pytest.mark.parametrize("depth", TOO_DEEP)
def test_the_depth_of_what_is_left_out_does_not_matter_if_it_can_be_parsed(depth: int) -> None:
    content = f'[{{"id": "other", "state": {nested(depth)}}}, {{"id": "{ID}", "state": "idle"}}]'.encode()
    request = list_request(APPOINTMENT, only={ID}, fields=["state"])
    try:
        assert [*read_response(request, 200, {}, content)] == [{"id": ID, "state": "idle"}]
    except WebcamconsultResponseError:
        assert depth > 600


@pytest.mark.parametrize("depth", TOO_DEEP)
@pytest.mark.parametrize(
    "body",
    [
        '{{"errors": {{"email": {0}}}}}',
        '{{"errors": {{"email": ["is invalid", {0}]}}}}',
        '{{"errors": {0}}}',
        "{0}",
    ],
)
def test_a_deep_validation_error_is_a_validation_error(
    body: str, depth: int, connect: Connect, serve: Serve
) -> None:
    hook = connect(serve({"status": 422, "body": body.format(nested(depth))}).url)
    with pytest.raises(WebcamconsultValidationError) as error:
        hook.users.create({"email": "j@example.com"})
    assert len(str(error.value)) < 300
    assert error.value.errors in ({}, {"email": ["is invalid"]})


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("depth", TOO_DEEP)
def test_a_deep_error_is_an_error_of_its_status(
    depth: int, status: int, connect: Connect, serve: Serve
) -> None:
    hook = connect(serve({"status": status, "body": nested(depth)}).url, retries=0)
    with pytest.raises(WebcamconsultError) as error:
        hook.users.get(ID)
    assert error.value.status_code == status


def test_credentials_are_removed_down_to_the_deepest_level() -> None:
    value: object = {"token": "s3cret", "kept": 1}
    for _ in range(JSON_MAX_DEPTH - 1):
        value = [value]
    remove_credentials(["token"], value, JSON_MAX_DEPTH)
    assert "s3cret" not in repr(value)
    assert "kept" in repr(value)
    with pytest.raises(ValueError, match="nested too deeply"):
        remove_credentials(["token"], [value], JSON_MAX_DEPTH)


def test_the_limit_is_below_that_of_python() -> None:
    # Each level takes two frames on older versions of Python.
    assert sys.getrecursionlimit() / 2 > 2 * JSON_MAX_DEPTH
