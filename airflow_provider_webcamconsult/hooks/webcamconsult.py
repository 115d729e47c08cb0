"""The hook: what an Airflow connection opens."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.request import list_request
from airflow_provider_webcamconsult.api.resources import (
    APPOINTMENT,
    CLIENT,
    USER,
    Appointment,
    AppointmentAttributes,
    Client,
    ClientAttributes,
    User,
    UserAttributes,
)
from airflow_provider_webcamconsult.connection import Settings
from airflow_provider_webcamconsult.exceptions import WebcamconsultConfigurationError, WebcamconsultError
from airflow_provider_webcamconsult.records import Records
from airflow_provider_webcamconsult.transport import Transport
from airflow_provider_webcamconsult.version_compat import AirflowNotFoundException, BaseHook

if TYPE_CHECKING:
    import requests


class WebcamconsultHook(BaseHook):
    """
    Talk to Webcamconsult with the token of an Airflow connection.

    The whole API document is behind :attr:`users`, :attr:`clients` and :attr:`appointments`.

    :param webcamconsult_conn_id: the connection, of type ``webcamconsult``.
    """

    conn_name_attr = "webcamconsult_conn_id"
    default_conn_name = "webcamconsult_default"
    conn_type = "webcamconsult"
    hook_name = "Webcamconsult"

    def __init__(self, webcamconsult_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.webcamconsult_conn_id = webcamconsult_conn_id

    @cached_property
    def users(self) -> Records[UserAttributes, User]:
        """The users, professionals (API document, "User Collection" and "User")."""
        return Records(self.transport, USER)

    @cached_property
    def clients(self) -> Records[ClientAttributes, Client]:
        """The clients, patients (API document, "Client Collection" and "Client")."""
        return Records(self.transport, CLIENT)

    @cached_property
    def appointments(self) -> Records[AppointmentAttributes, Appointment]:
        """The appointments (API document, "Appointment Collection" and "Appointment")."""
        return Records(self.transport, APPOINTMENT)

    @cached_property
    def settings(self) -> Settings:
        """
        The connection's settings, read at the first use.

        :raises WebcamconsultConfigurationError: if there is no such connection, or it is not usable.
        """
        connection = self._find_connection()
        if connection is None:
            raise WebcamconsultConfigurationError(
                f"There is no connection '{self.webcamconsult_conn_id}'. Create it in Airflow under Admin, "
                "Connections, of type Webcamconsult, or name one that exists in webcamconsult_conn_id. (One "
                "that is in the environment, but cannot be read, is reported as missing too.)"
            )
        return Settings.from_connection(connection)

    def _find_connection(self) -> Any:
        try:
            return self.get_connection(self.webcamconsult_conn_id)
        except AirflowNotFoundException:
            return None

    @cached_property
    def transport(self) -> Transport:
        """What sends the requests of this hook."""
        self._warn_if_unencrypted()
        return Transport(self.settings, self.log)

    def get_conn(self) -> requests.Session:
        """
        Return a plain session that gives the token to the connection's address, and to no other.

        For what the rest of the hook does not do. Its answers are not cleared of credentials.

        :raises WebcamconsultConfigurationError: if the connection is not usable.
        """
        from airflow_provider_webcamconsult.session import WebcamconsultSession

        self._warn_if_unencrypted()
        return WebcamconsultSession(self.settings)

    def _warn_if_unencrypted(self) -> None:
        if self.settings.is_unencrypted:
            self.log.warning(
                "Connection '%s' uses plain http: token and patients' data cross the network unencrypted.",
                self.webcamconsult_conn_id,
            )

    def test_connection(self) -> tuple[bool, str]:
        """
        Look whether the service takes the token; for the Test button and ``airflow connections test``.

        :return: whether it does, and a sentence to show.
        """
        try:
            # Once: a person waits, and Airflow 2 ends a page that takes two minutes.
            users = self.transport.send_once(list_request(USER)).value
        except WebcamconsultError as error:
            # The form's connection is tested under an id that Airflow makes up.
            return False, str(error).replace(f"Connection '{self.webcamconsult_conn_id}'", "The connection")
        count = "1 user" if len(users) == 1 else f"{len(users)} users"
        base_url = self.settings.base_url
        return True, f"Connected to Webcamconsult at {base_url}: the token's organisation has {count}."

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Say how Airflow 2's form shows the standard fields; Airflow 3 reads the provider's info."""
        from airflow_provider_webcamconsult.get_provider_info import UI_FIELD_BEHAVIOUR

        return {key.replace("-", "_"): value for key, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of Airflow 2's connection form; Airflow 3 reads the provider's info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import BooleanField, IntegerField, StringField
        from wtforms.validators import Optional

        from airflow_provider_webcamconsult.get_provider_info import CONNECTION_FIELDS

        widgets = {}
        for name, described in CONNECTION_FIELDS.items():
            schema = described["schema"]
            keywords = {"label": described["label"], "description": described["description"]}
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
