"""Errors while personal data is in use. Every task fails, each for only one reason."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import people
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_webcamconsult import idempotent_create
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.clients import (
    WebcamconsultCreateClientOperator,
    WebcamconsultSyncClientsOperator,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_webcamconsult.api.resources import ClientAttributes

CLIENT: ClientAttributes = {
    "last_name": "{{ read('failing').last_name }}",
    "email": "{{ read('failing').email }}",
    "date_of_birth": "{{ read('failing').date_of_birth }}",
}
FAULTS = ("echoes", "redirects", "fails", "web_page", "disconnects", "stores_other", "refused", "wrong_token")


def rejected_rows(context: Any) -> list[dict[str, Any]]:
    """Return a row that cannot be sent, and one that the service rejects."""
    person = people.read("failing")
    return [
        {**person, "date_of_birth": f"{person['date_of_birth']}T25"},
        {**person, "email": f"other-{person['email']}", "colour": person["last_name"]},
    ]


@dag(schedule=None, catchup=False, user_defined_macros={"read": people.read})
def failing() -> None:
    WebcamconsultCreateClientOperator.partial(task_id="service", attributes=CLIENT, strict=True).expand(
        webcamconsult_conn_id=["echoes", "stores_other_as_parameter"]
    )
    not_rendered: ClientAttributes = {**CLIENT, "reference_code": "{{ 1 // 0 }}"}
    WebcamconsultCreateClientOperator(task_id="not_rendered", attributes=not_rendered)
    no_date: ClientAttributes = {**CLIENT, "date_of_birth": "{{ read('failing').date_of_birth }}T25"}
    WebcamconsultCreateClientOperator(task_id="no_date", attributes=no_date)

    WebcamconsultSyncClientsOperator.partial(task_id="sync", rows=rejected_rows, key="email").expand(
        webcamconsult_conn_id=["webcamconsult_default", "echoes", "fails_as_parameter"]
    )

    @task
    def own_code() -> None:
        # No record appears later in this test.
        idempotent_create.LOOKUP_DELAYS_SECONDS = (0.0, 0.0, 0.0)
        idempotent_create.CREATE_FLOOR_SECONDS = 0.0
        log = logging.getLogger(__name__)
        person = people.read("failing")
        for conn_id in (f"{name}{how}" for name in FAULTS for how in ("", "_as_parameter")):
            hook = WebcamconsultHook(conn_id)
            session, url = hook.get_conn(), hook.settings.base_url
            tries: list[Callable[[], Any]] = [
                hook.clients.list,
                lambda hook=hook: hook.clients.create(person, strict=True),  # type: ignore[misc]
                lambda hook=hook: hook.clients.update("an-id", person, strict=True),  # type: ignore[misc]
                lambda session=session, url=url: session.get(f"{url}/nowhere.json").raise_for_status(),  # type: ignore[misc]
            ]
            for attempt in tries:
                try:
                    attempt()
                except Exception:
                    log.exception("%s %s", hook, hook.settings)
        hook = WebcamconsultHook()
        client = hook.clients.create(person)
        raise RuntimeError(f"something went wrong with {client} in {hook.clients.list()}")

    own_code()


failing()
