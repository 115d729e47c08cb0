"""Which messages of a 422 response are shown: those that cannot contain personal data."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.api.redaction import (
    KNOWN_MESSAGES,
    MESSAGE_MAX_LENGTH,
    MESSAGES_MAX,
    select_known_messages,
)
from airflow_provider_webcamconsult.exceptions import WebcamconsultValidationError
from airflow_provider_webcamconsult.sandbox import service as sandbox_service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.unit.conftest import Connect, ErrorText, Log, Serve, Step

ENGLISH = {
    "accepted": ["must be accepted"],
    "blank": ["can't be blank"],
    "confirmation": ["doesn't match confirmation"],
    "empty": ["can't be empty"],
    "equal_to": ["must be equal to %{count}"],
    "even": ["must be even"],
    "exclusion": ["is reserved"],
    "greater_than": ["must be greater than %{count}"],
    "greater_than_or_equal_to": ["must be greater than or equal to %{count}"],
    "in": ["must be in %{count}..%{count}"],
    "inclusion": ["is not included in the list"],
    "invalid": ["is invalid"],
    "less_than": ["must be less than %{count}"],
    "less_than_or_equal_to": ["must be less than or equal to %{count}"],
    "not_a_number": ["is not a number"],
    "not_an_integer": ["must be an integer"],
    "odd": ["must be odd"],
    "other_than": ["must be other than %{count}"],
    "password_too_long": ["is too long"],
    "present": ["must be blank"],
    "required": ["must exist"],
    "taken": ["has already been taken", "is already taken"],
    "too_long": ["is too long (maximum is 1 character)", "is too long (maximum is %{count} characters)"],
    "too_short": ["is too short (minimum is 1 character)", "is too short (minimum is %{count} characters)"],
    "wrong_length": [
        "is the wrong length (should be 1 character)",
        "is the wrong length (should be %{count} characters)",
    ],
}
DUTCH = {
    "accepted": ["moet worden geaccepteerd"],
    "blank": ["moet opgegeven zijn"],
    "confirmation": ["komt niet met de bevestiging overeen"],
    "equal_to": ["moet gelijk zijn aan %{count}"],
    "even": ["moet even zijn"],
    "exclusion": ["is gereserveerd", "is niet beschikbaar"],
    "greater_than": ["moet groter zijn dan %{count}"],
    "greater_than_or_equal_to": ["moet groter dan of gelijk zijn aan %{count}"],
    "inclusion": ["is niet in de lijst opgenomen"],
    "invalid": ["is ongeldig"],
    "less_than": ["moet minder zijn dan %{count}"],
    "less_than_or_equal_to": ["moet minder dan of gelijk zijn aan %{count}"],
    "not_a_number": ["is geen getal"],
    "not_an_integer": ["moet een geheel getal zijn"],
    "odd": ["moet oneven zijn"],
    "other_than": ["moet anders zijn dan %{count}"],
    "present": ["moet leeg zijn"],
    "required": ["moet bestaan"],
    "taken": ["is al in gebruik"],
    "too_long": ["is te lang (maximaal %{count} teken)", "is te lang (maximaal %{count} tekens)"],
    "too_short": ["is te kort (minimaal %{count} teken)", "is te kort (minimaal %{count} tekens)"],
    "wrong_length": [
        "heeft onjuiste lengte (moet %{count} teken lang zijn)",
        "heeft onjuiste lengte (moet %{count} tekens lang zijn)",
    ],
}
SANDBOX = {
    "sandbox": [
        "is unknown",
        "is not a string",
        "is not a date",
        "is not a whole number",
        "is not a list of strings",
        "is not a state name",
        "does not exist: the clock goes forward at that hour in Amsterdam",
    ]
}
FAMILIES = [
    (language, family, phrase)
    for language, families in (("en", ENGLISH), ("nl", DUTCH), ("sandbox", SANDBOX))
    for family, phrases in families.items()
    for phrase in phrases
]
each_phrase = pytest.mark.parametrize(
    "phrase",
    [phrase for *_, phrase in FAMILIES],
    ids=[f"{language} {family}" for language, family, _ in FAMILIES],
)


def selected(message: Any) -> bool:
    """Return whether a message is shown."""
    known, withheld = select_known_messages({"email": [message]}, ["email"])
    assert (known, withheld) in (({"email": [message]}, 0), ({}, 1))
    return bool(known)


# Phrases


COUNTS = ["0", "1", "8", "255", "9999", "-5"]
ADDITIONS = [
    " Alders",
    ": j.alders@example.com",
    " (1979-08-13)",
    " 13-08-1979",
    " 8",
    ".",
    "\n",
    "\r\n[2030-01-01] INFO - forged",
    "\x1b[31m",
    "\u202e",
    "\u00a0",
    "\0",
]
NO_COUNTS = [
    "13-08-1979",
    "1979-08-13",
    "19790813",
    "0612345678",
    "+31",
    "Alders",
    "1 2",
    "\u0661",
    "\uff11",
    "",
]


@each_phrase
def test_known_phrase_with_a_number_is_shown(phrase: str) -> None:
    assert [count for count in COUNTS if not selected(phrase.replace("%{count}", count))] == []


@each_phrase
def test_known_phrase_with_anything_else_is_withheld(phrase: str) -> None:
    message = phrase.replace("%{count}", "8")
    for addition in ADDITIONS:
        variants = message + addition, addition + message, message.replace(" ", f"{addition} ", 1)
        assert [variant for variant in variants if selected(variant)] == []


@each_phrase
def test_known_phrase_with_what_is_no_small_number_is_withheld(phrase: str) -> None:
    if "%{count}" in phrase:
        shown = [value for value in NO_COUNTS if selected(phrase.replace("%{count}", value))]
        assert shown == []


def test_every_known_phrase_is_in_a_family() -> None:
    phrases = {phrase.replace("%{count}", "#").replace(" 1 ", " # ") for *_, phrase in FAMILIES}
    assert phrases == KNOWN_MESSAGES
    assert max(map(len, KNOWN_MESSAGES)) < MESSAGE_MAX_LENGTH


def test_the_sandbox_has_no_other_phrases() -> None:
    wrong: Any = {
        "date": "2030-03-31T02:30",
        "duration": "x",
        "division_id": 5,
        "external_participant_ids": 5,
    }
    organisation: Any = {name: {} for name in sandbox_service.RESOURCES}
    with pytest.raises(sandbox_service.ApiError) as error:
        sandbox_service._validate(
            sandbox_service.APPOINTMENTS, organisation, {"appointment": {**wrong, "created_by_user_id": 1}}
        )
    errors = error.value.errors
    assert errors
    assert select_known_messages(errors, errors) == (errors, 0)


# Responses


def rejected(connect: Connect, serve: Serve, errors: object) -> WebcamconsultValidationError:
    hook = connect(serve({"status": 422, "body": {"errors": errors}}).url)
    with pytest.raises(WebcamconsultValidationError) as error:
        hook.clients.create({"last_name": "Alders", "date_of_birth": "1979-08-13"})
    return error.value


REJECTED = (
    "POST /clients.json with connection 'webcamconsult_default' returned 422. "
    "Webcamconsult rejected the attributes."
)
COMPARE = "Compare the attributes with the API document."


@pytest.mark.parametrize(
    ("errors", "shown", "explanation"),
    [
        (
            {"email": ["is al in gebruik"], "base": ["is ongeldig"]},
            {"email": ["is al in gebruik"], "base": ["is ongeldig"]},
            "Correct these attributes: email: is al in gebruik; base: is ongeldig.",
        ),
        (
            {"date_of_birth": ["13-08-1979 is niet toegestaan", "is ongeldig"]},
            {"date_of_birth": ["is ongeldig"]},
            "Correct these attributes: date_of_birth: is ongeldig. 1 message is withheld because it "
            "may contain personal data.",
        ),
        (
            # stored data that was not sent
            {"email": ["is al in gebruik door B. Bakker", "bakker@example.com"]},
            {},
            f"2 messages are withheld because they may contain personal data. {COMPARE}",
        ),
        (
            {"Alders": ["is ongeldig"], "13-08-1979": "is ongeldig", "authentication_token": ["is ongeldig"]},
            {},
            f"3 messages are withheld because they may contain personal data. {COMPARE}",
        ),
        (
            {"email": "is ongeldig"},
            {"email": ["is ongeldig"]},
            "Correct these attributes: email: is ongeldig.",
        ),
        (
            {"email": [["is ongeldig"], {"is ongeldig": "is ongeldig"}, 8, None, True]},
            {},
            f"5 messages are withheld because they may contain personal data. {COMPARE}",
        ),
        (
            {"email": []},
            {},
            f"The response contains no reason. {COMPARE}",
        ),
    ],
    ids=str,
)
def test_only_known_messages_are_shown(
    errors: object,
    shown: Mapping[str, Any],
    explanation: str,
    connect: Connect,
    serve: Serve,
    error_text: ErrorText,
) -> None:
    error = rejected(connect, serve, errors)
    assert error.errors == shown
    assert str(error) == f"{REJECTED} {explanation}"
    assert not any(secret in error_text(error) for secret in ("Alders", "Bakker", "bakker", "1979"))


def test_attributes_that_are_not_in_the_api_document_are_named(
    connect: Connect, serve: Serve, error_text: ErrorText
) -> None:
    clients = connect(serve({"status": 422, "body": {"errors": {"email": ["is ongeldig"]}}}).url).clients
    attributes: Any = {"email": "x", "shoe_size": "s3cret", "lastname": "s3cret"}
    for write in (clients.create, lambda attributes: clients.update("a", attributes)):
        with pytest.raises(WebcamconsultValidationError) as error:
            write(attributes)
        assert str(error.value).endswith(
            "email: is ongeldig. Attribute 'shoe_size' of a client is not in the API document. "
            "Attribute 'lastname' of a client is not in the API document. Did you mean 'last_name'?"
        )
        assert "s3cret" not in error_text(error.value)


@pytest.mark.parametrize("character", ["\n", "\r", "\x1b[2J", "\u202e", "\u2028", "\0", "\x9b"], ids=repr)
def test_no_control_character_is_shown(
    character: str, connect: Connect, serve: Serve, error_text: ErrorText, log: Log
) -> None:
    errors = {"email": [f"is ongeldig{character}", character], f"email{character}": ["is ongeldig"]}
    error = rejected(connect, serve, errors)
    assert error.errors == {}
    assert character not in f"{error}{log.text.replace(chr(10), '')}"


def test_a_huge_response_is_short_and_quick(connect: Connect, serve: Serve) -> None:
    many = [f"is te lang (maximaal {number} tekens)" for number in range(20_000)]
    values = {f"value {number}": ["x" * 50] for number in range(5_000)}
    began = time.monotonic()
    error = rejected(connect, serve, {"email": [*many, "x" * 10**6], "last_name": many, **values})
    assert time.monotonic() - began < 5
    assert sum(map(len, error.errors.values())) == MESSAGES_MAX
    assert len(str(error)) < MESSAGES_MAX * (MESSAGE_MAX_LENGTH + 30)
    assert f"{2 * len(many) + 1 + len(values) - MESSAGES_MAX} messages are withheld" in str(error)


# Redirects


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (
            "https://eapi.webcamconsult.com:8443/users.json?token=s3cret",
            "https://eapi.webcamconsult.com:8443,",
        ),
        ("//other.example.com/", "an address that may be invalid and is not shown,"),
        ("https://user:s3cret@example.com/", "https://example.com,"),
        ("https://j.alders@example.com", "https://example.com,"),
        ("https://Jan%20Alders/", "an address that may be invalid and is not shown,"),
        ("https://\u202egro.elpmaxe/", "an address that may be invalid and is not shown,"),
        ("https://\x1b[31m.example.com/", "an address that may be invalid and is not shown,"),
        ("https://" + "a" * 10_000 + "/", "an address that may be invalid and is not shown,"),
        ("https://[::1%25s3cret]/", "an address that may be invalid and is not shown,"),
        ("https://example.com:99999/", "an address that may be invalid and is not shown,"),
        ("javascript://example.com/", "an address that may be invalid and is not shown,"),
        ("https://:80/", "an address that may be invalid and is not shown,"),
        ("s3cret", "another path,"),
    ],
)
def test_a_redirect_shows_only_a_plausible_host(
    location: str, shown: str, connect: Connect, serve: Serve, error_text: ErrorText
) -> None:
    step: Step = {"status": 302, "headers": {"Location": location}}
    hook = connect(serve(step).url)
    with pytest.raises(Exception, match="redirects to") as error:
        hook.clients.get("a")
    assert f"redirects to {shown} so the request was not processed" in str(error.value)
    assert "s3cret" not in error_text(error.value)
    assert len(str(error.value)) < 300
