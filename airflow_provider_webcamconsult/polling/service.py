"""Sends the requests of a poller, in threads and with the settings of an Airflow connection."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async

from airflow_provider_webcamconsult.api.request import get_request, list_request
from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.exceptions import WebcamconsultConnectionError, WebcamconsultError
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.api.response import Response
    from airflow_provider_webcamconsult.connection import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Maximum seconds to wait for Airflow to load the connection.
CONNECTION_READ_MAX_SECONDS = 10.0


class Service:
    """
    The service as one Airflow connection reaches it.

    :param webcamconsult_conn_id: id of the connection.
    :param resource: the kind of record to request.
    """

    def __init__(self, webcamconsult_conn_id: str, resource: Resource[Any, Any] = APPOINTMENT) -> None:
        self.webcamconsult_conn_id = webcamconsult_conn_id
        self.resource = resource
        self._hook: WebcamconsultHook | None = None
        self._reading: asyncio.Future[tuple[WebcamconsultHook, Settings]] | None = None

    async def read_connection(self) -> bool:
        """
        Read the connection. If that fails later on, the last known settings stay in use.

        :return: whether the settings have changed.
        :raises WebcamconsultError: if the connection has never been read.
        """
        # One that hangs is not started again: it keeps a thread of the triggerer.
        reading = self._reading = self._reading or asyncio.ensure_future(self._read())
        try:
            if not (await asyncio.wait({reading}, timeout=CONNECTION_READ_MAX_SECONDS))[0]:
                raise TimeoutError
            if self._reading is reading:
                self._reading = None
            hook, settings = reading.result()
        except Exception as error:
            could_not = f"connection '{self.webcamconsult_conn_id}' ({type(error).__name__})"
            if self._hook:
                logger.warning("Could not reload %s. The last known settings stay in use.", could_not)
                return False
            if isinstance(error, WebcamconsultError):
                raise
            raise WebcamconsultConnectionError(
                f"Could not load {could_not} from Airflow. Try again."
            ) from None
        if self._hook and settings == self._hook.settings:
            return False
        self._hook = hook
        return True

    async def _read(self) -> tuple[WebcamconsultHook, Settings]:
        hook = WebcamconsultHook(self.webcamconsult_conn_id)
        # A plain thread does not work: on Airflow 3.0 and 3.1 the look-up there ends the triggerer.
        return hook, await sync_to_async(lambda: hook.settings, thread_sensitive=False)()

    async def get(self, appointment_id: str, timeout: float) -> Any:
        """
        Request one appointment (API document, "View an Appointment detail").

        :param appointment_id: id of the appointment.
        :param timeout: maximum seconds until the response is complete.
        :return: the appointment.
        """
        hook = self._connected_hook
        request = get_request(self.resource, appointment_id, plural_paths=hook.settings.plural_paths)
        return (await _in_daemon_thread(lambda: hook.transport.send_once(request, timeout=timeout))).value

    async def list(
        self,
        only: Collection[str] | None,
        fields: Collection[str],
        etag: str | None,
        positions: dict[str, int],
    ) -> Response:
        """
        Request the list of appointments (API document, "List All Appointments").

        :param only: ids of the appointments to return; None means all.
        :param fields: attributes to return besides the id.
        :param etag: ETag of an earlier response.
        :param positions: a dictionary that keeps where the appointments were in the last list.
        """
        hook = self._connected_hook
        request = list_request(self.resource, only=only, fields=fields, malformed="skip", positions=positions)
        return await _in_daemon_thread(lambda: hook.transport.send_once(request, etag=etag))

    @property
    def settings(self) -> Settings:
        """The settings of the connection, once it was read."""
        return self._connected_hook.settings

    @property
    def _connected_hook(self) -> WebcamconsultHook:
        assert self._hook is not None  # noqa: S101
        return self._hook


async def _in_daemon_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread that, unlike those of an executor, does not delay the process's exit."""
    future = Future[T]()
    future.set_running_or_notify_cancel()  # a cancelled caller does not cancel the thread

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as raised:
            # asyncio takes no StopIteration. Others would end the loop or look like a cancellation.
            is_plain = isinstance(raised, Exception) and not isinstance(raised, StopIteration)
            future.set_exception(raised if is_plain else RuntimeError(type(raised).__name__))

    threading.Thread(target=run, name="webcamconsult-poll", daemon=True).start()
    return await asyncio.wrap_future(future)
