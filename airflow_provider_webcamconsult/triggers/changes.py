"""The trigger that starts DAGs when records change, and the asset that it belongs to."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from airflow.triggers import base

from airflow_provider_webcamconsult.api.baseline import DIGEST_KEY
from airflow_provider_webcamconsult.api.changes import Marker, find_resource, list_digest
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultError,
    WebcamconsultInputError,
)
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.polling import policy
from airflow_provider_webcamconsult.polling.poller import LIST, Poller
from airflow_provider_webcamconsult.version_compat import asset_with_watcher

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from airflow.sdk import Asset
    from airflow.triggers.base import BaseEventTrigger, TriggerEvent

    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.polling.poller import Subscription
    from airflow_provider_webcamconsult.polling.target import Update
else:
    # Airflow before 3.0 has no event triggers, but imports this file.
    BaseEventTrigger = getattr(base, "BaseEventTrigger", base.BaseTrigger)

#: Seconds between two polls, by default.
POKE_INTERVAL_SECONDS = 60.0
#: Seconds until the second event for the same list, if no task has taken it in. Each pause is twice as long.
PAUSE_SECONDS = 30.0
#: Maximum of these pauses in seconds.
PAUSE_MAX_SECONDS = 1800.0
#: Seconds after which the trigger checks whether the baseline was reset.
RECHECK_SECONDS = 300.0


def webcamconsult_changes(
    resource: str = "appointments",
    *,
    webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
    name: str | None = None,
    poke_interval: float = POKE_INTERVAL_SECONDS,
) -> Asset:
    """
    Return an asset that starts DAGs when a record changes: ``schedule=[webcamconsult_changes()]``.

    Each DAG run needs a
    :class:`~airflow_provider_webcamconsult.operators.changes.WebcamconsultListChangesOperator` with the asset
    in ``inlets``, which finds out what changed. Until it has run, the asset starts further runs, with growing
    pauses.

    :param resource: what to watch: ``"appointments"``, ``"clients"`` or ``"users"``.
    :param webcamconsult_conn_id: id of the Airflow connection.
    :param name: name of the asset. The operator keeps its baseline under this name, so a second DAG that
        watches the same needs an asset with a name of its own. By default, the name follows from the
        connection and the resource.
    :param poke_interval: seconds between two polls.
    :return: the asset.
    :raises WebcamconsultInputError: if ``resource`` or ``poke_interval`` is invalid.
    :raises WebcamconsultConfigurationError: before Airflow 3.3.
    """
    find_resource(resource)
    _check_interval(poke_interval)
    name = name or f"webcamconsult_{resource}_{webcamconsult_conn_id}"
    asset: Asset | None = asset_with_watcher(
        name,
        lambda: WebcamconsultChangesTrigger(
            resource=resource,
            asset_name=name,
            webcamconsult_conn_id=webcamconsult_conn_id,
            poke_interval=poke_interval,
        ),
    )
    if asset is None:
        raise WebcamconsultConfigurationError(
            "webcamconsult_changes() needs Airflow 3.3 or newer, because older versions do not keep the "
            "state of an asset. Start the DAG by a timer, such as schedule='*/5 * * * *', and set the "
            "baseline_path of its WebcamconsultListChangesOperator."
        )
    return asset


class WebcamconsultChangesTrigger(BaseEventTrigger):
    """
    Fire an event while a list differs from the one that a task took in last.

    The asset of :func:`webcamconsult_changes` has this trigger. The list is polled together with the waits of
    the connection; see :mod:`~airflow_provider_webcamconsult.polling.poller`. The task that takes it in, a
    :class:`~airflow_provider_webcamconsult.operators.changes.WebcamconsultListChangesOperator`, stores a
    digest in the state of the asset. While that is another one, the trigger fires: at once if the list has
    changed, and again with growing pauses.

    The payload is ``{"resource": …, "digest": …}``: Airflow may combine events, so they do not say what
    changed. Errors are logged and do not end the trigger.

    :param resource: what to watch: ``"appointments"``, ``"clients"`` or ``"users"``.
    :param asset_name: name of the asset. Airflow would treat triggers with equal arguments as one.
    :param webcamconsult_conn_id: id of the Airflow connection.
    :param poke_interval: seconds between two polls.
    """

    def __init__(
        self, resource: str, asset_name: str, webcamconsult_conn_id: str, poke_interval: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.resource = resource
        self.asset_name = asset_name
        self.webcamconsult_conn_id = webcamconsult_conn_id
        self.poke_interval = poke_interval
        self._subscription: Subscription[_List] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which Airflow restores this trigger."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "resource": self.resource,
                "asset_name": self.asset_name,
                "webcamconsult_conn_id": self.webcamconsult_conn_id,
                "poke_interval": self.poke_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire events for ever."""
        while True:
            try:
                async with aclosing(self._events()) as events:
                    async for event in events:
                        yield event
            except Exception as error:
                # Airflow would start the trigger again every second. The text of an unexpected error may
                # contain a value.
                text = error if isinstance(error, WebcamconsultError) else type(error).__name__
                self.log.error(
                    "Watching the %s failed (%s). Next try in %.0f s.", self.resource, text, PAUSE_SECONDS
                )
            await asyncio.sleep(PAUSE_SECONDS)

    async def _events(self) -> AsyncGenerator[TriggerEvent, None]:
        resource = find_resource(self.resource)
        _check_interval(self.poke_interval)
        self._subscription = subscription = Poller.of_connection(
            self.webcamconsult_conn_id, resource
        ).subscribe(
            [LIST],
            _List,
            fields=resource.known,
            interval_after=lambda polls, value: policy.next_interval_seconds(self.poke_interval),
        )
        updates = _Updates(subscription)
        now = asyncio.get_running_loop().time
        digest, events, check_at = None, 0, math.inf
        try:
            while True:
                update = await updates.next(check_at - now())
                if update and update.error:
                    self.log.warning("%s Still watching the %s.", update.error, self.resource)
                elif update and update.value:
                    old, token = digest, subscription.settings.token
                    # In a thread: a long list would block the other triggers.
                    digest = await asyncio.to_thread(update.value.digest, resource, token)
                    if digest != old:
                        events, check_at = 0, now()
                if digest is None or now() < check_at:
                    continue
                if await self._taken_in() == digest:
                    events, check_at = 0, now() + RECHECK_SECONDS
                    continue
                self.log.info("The list of %s has changed.", self.resource)
                yield base.TriggerEvent({"resource": self.resource, "digest": digest})  # type: ignore[no-untyped-call]
                check_at = now() + _pause_seconds(events)
                events += 1
        finally:
            updates.cancel()
            subscription.unsubscribe()

    async def _taken_in(self) -> Any:
        """Return the digest of the list that a task took in last."""
        state: Any = self.asset_state_store
        return None if state is None else await state.aget(DIGEST_KEY)

    async def cleanup(self) -> None:
        """Unsubscribe from the poller, even if Airflow did not run :meth:`run` to its end."""
        if self._subscription:
            self._subscription.unsubscribe()


def _check_interval(poke_interval: float) -> None:
    is_number = isinstance(poke_interval, (int, float)) and not isinstance(poke_interval, bool)
    if not (is_number and 0 < poke_interval < math.inf):
        raise WebcamconsultInputError("poke_interval must be a positive number of seconds. Correct it.")


def _pause_seconds(events: int) -> float:
    """Return the seconds until the next event for a list that has caused some events already."""
    return min(PAUSE_SECONDS * 2.0 ** min(events, 32), PAUSE_MAX_SECONDS)


class _List:
    """A list of records, which is a new one only if the service has sent it again."""

    def __init__(self, records: Mapping[str, Any]) -> None:
        self._records = records

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _List) and self._records is other._records

    __hash__ = None  # type: ignore[assignment]

    def digest(self, resource: Resource[Any, Any], token: str) -> str:
        return list_digest(Marker(resource, token).marks(self._records.values()))


class _Updates:
    """The updates of a subscription, one by one, each with a time limit."""

    def __init__(self, subscription: Subscription[_List]) -> None:
        self._subscription = subscription
        self._next: asyncio.Task[dict[str, Update[_List]]] | None = None

    async def next(self, seconds: float) -> Update[_List] | None:
        """Return the next update, or None if the time is over."""
        self._next = self._next or asyncio.ensure_future(self._subscription.next_updates(math.inf))
        timeout = None if math.isinf(seconds) else max(seconds, 0.0)
        if not (await asyncio.wait({self._next}, timeout=timeout))[0]:
            return None
        updates, self._next = self._next.result(), None
        return updates.get(LIST)

    def cancel(self) -> None:
        if self._next:
            self._next.cancel()
