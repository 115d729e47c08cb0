"""The hook for the Webcamconsult API."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.request import list_request
from airflow_provider_webcamconsult.api.resources import (
    APPOINTMENT,
    CLIENT,
    USER,
    Client,
    ClientAttributes,
    User,
    UserAttributes,
)
from airflow_provider_webcamconsult.appointments import AppointmentRecords
from airflow_provider_webcamconsult.connection import Settings
from airflow_provider_webcamconsult.exceptions import WebcamconsultConnectionError, WebcamconsultError
from airflow_provider_webcamconsult.sync.records import SyncableRecords
from airflow_provider_webcamconsult.transport import Transport
from airflow_provider_webcamconsult.version_compat import AirflowNotFoundException, BaseHook

if TYPE_CHECKING:
    import requests


class WebcamconsultHook(BaseHook):
    """
    Call the Webcamconsult API with the settings and the API token of an Airflow connection.

    :attr:`users`, :attr:`clients` and :attr:`appointments` cover the whole API document.

    :param webcamconsult_conn_id: id of the Airflow connection, which has the type ``webcamconsult``.
    """

    conn_name_attr = "webcamconsult_conn_id"
    default_conn_name = "webcamconsult_default"
    conn_type = "webcamconsult"
    hook_name = "Webcamconsult"

    def __init__(self, webcamconsult_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.webcamconsult_conn_id = webcamconsult_conn_id

    def __getstate__(self) -> dict[str, Any]:
        # A copy reads the connection again: it shares no network connection, and contains no token.
        cached = {
            name for name, value in vars(WebcamconsultHook).items() if isinstance(value, cached_property)
        }
        return {name: value for name, value in vars(self).items() if name not in cached}

    @cached_property
    def users(self) -> SyncableRecords[UserAttributes, User]:
        """The users, who are professionals (API document, "User Collection" and "User")."""
        return SyncableRecords(self.transport, USER)

    @cached_property
    def clients(self) -> SyncableRecords[ClientAttributes, Client]:
        """The clients, who are patients (API document, "Client Collection" and "Client")."""
        return SyncableRecords(self.transport, CLIENT)

    @cached_property
    def appointments(self) -> AppointmentRecords:
        """The appointments (API document, "Appointment Collection" and "Appointment")."""
        return AppointmentRecords(self.transport, APPOINTMENT)

    @cached_property
    def settings(self) -> Settings:
        """
        The connection's settings, read when they are first used.

        :raises WebcamconsultConnectionError: if Airflow does not find the connection.
        :raises WebcamconsultConfigurationError: if the connection is invalid.
        """
        connection = self._find_connection()
        if connection is None:
            # Not a WebcamconsultConfigurationError: a retry helps if a secrets backend was down.
            raise WebcamconsultConnectionError(
                f"There is no connection '{self.webcamconsult_conn_id}'. Create it in Airflow under Admin > "
                "Connections with the type Webcamconsult, or set webcamconsult_conn_id to an existing "
                "connection. If the connection exists, check its secrets backend or environment variable: "
                "Airflow also reports a connection as missing if it cannot read it."
            )
        return Settings.from_connection(connection)

    def _find_connection(self) -> Any:
        try:
            return self.get_connection(self.webcamconsult_conn_id)
        except AirflowNotFoundException:
            return None

    @cached_property
    def transport(self) -> Transport:
        """The transport that sends the requests of this hook."""
        self._warn_if_unencrypted()
        return Transport(self.settings, self.log)

    def get_conn(self) -> requests.Session:
        """
        Return a session for requests that the hook has no method for.

        The session sends the token only to the connection's address, and limits the time and the size of a
        response. Its responses may contain credentials.

        :return: the session.
        :raises WebcamconsultConnectionError: if Airflow does not find the connection.
        :raises WebcamconsultConfigurationError: if the connection is invalid.
        """
        return self.transport.new_session()

    def _warn_if_unencrypted(self) -> None:
        if self.settings.is_unencrypted:
            self.log.warning(
                "Connection '%s' uses plain http: the API token and patients' data are sent unencrypted. "
                "Use https:// in the connection's Host.",
                self.webcamconsult_conn_id,
            )

    def test_connection(self) -> tuple[bool, str]:
        """
        Test the connection, for the Test button and ``airflow connections test``.

        :return: whether the service accepted the token, and a message for the user.
        """
        try:
            # Without retries: a user is waiting, and Airflow 2 aborts a page request after two minutes.
            users = self.transport.send_once(list_request(USER)).value
        except WebcamconsultError as error:
            # Airflow tests the form's values under a generated connection id, which the user does not know.
            conn_id = self.webcamconsult_conn_id
            message = str(error).replace(f" with connection '{conn_id}'", "")
            return False, message.replace(f"Connection '{conn_id}'", "The connection")
        count = "1 user" if len(users) == 1 else f"{len(users)} users"
        base_url = self.settings.base_url
        return True, f"Connected to Webcamconsult at {base_url}: the token's organisation has {count}."

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how Airflow 2's connection form shows standard fields; Airflow 3 uses the provider info."""
        from airflow_provider_webcamconsult.get_provider_info import UI_FIELD_BEHAVIOUR

        return {key.replace("-", "_"): value for key, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of Airflow 2's connection form; Airflow 3 uses the provider info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import BooleanField, IntegerField, StringField
        from wtforms.validators import Optional

        from airflow_provider_webcamconsult.get_provider_info import CONNECTION_FIELDS

        widgets = {}
        for name, field in CONNECTION_FIELDS.items():
            schema = field["schema"]
            keywords = {"label": field["label"], "description": field["description"]}
            if "boolean" in schema["type"]:
                widgets[name] = BooleanField(**keywords, default=schema["default"])
            else:
                kind = IntegerField if "integer" in schema["type"] else StringField
                widgets[name] = kind(
                    **keywords,
                    default=schema["default"],
                    validators=[Optional()],
                    widget=BS3TextFieldWidget(),
                )
        return widgets
