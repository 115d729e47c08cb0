"""Operators for appointments, the consults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.base import (
    BaseCreateOperator,
    BaseDeleteOperator,
    BaseGetOperator,
    BaseListOperator,
    BaseUpdateOperator,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from airflow.sdk import XComArg

    from airflow_provider_webcamconsult.api.resources import AppointmentAttributes
    from airflow_provider_webcamconsult.idempotent_create import IfExists
    from airflow_provider_webcamconsult.version_compat import Context


class WebcamconsultCreateAppointmentOperator(BaseCreateOperator):
    """
    Create an appointment (API document, "Create a New Appointment").

    Exactly one, whatever happens to the answer, the worker or the task. The task returns the id.

    :param attributes: what to write, under the API's own names (templated; of what is personal, Airflow
        stores and shows the names alone); or a callable that takes the context and returns that: it is
        called in the task, and its answer is neither rendered nor stored.
        What is not given is not sent; None is sent as ``null``. ``date`` is a ``datetime`` or ISO 8601 text,
        without offset in the connection's time zone.
    :param if_exists: what to do if an appointment exists that has the same ``user_id``,
        ``client_id`` and ``date`` (templated).
        ``"create"`` creates without looking; ``"reuse"`` returns its id; ``"update"`` brings the attributes
        that differ in line; ``"fail"`` fails. In each of them, a retry never creates a second one.
    :param strict: whether an attribute that the service did not keep is an error, not a warning. A date,
        a duration or an id that it did not keep always is.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = APPOINTMENT
    template_fields: Sequence[str] = ("attributes", "if_exists", "webcamconsult_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"attributes": "json"}

    def __init__(
        self,
        *,
        attributes: AppointmentAttributes | Callable[[Context], AppointmentAttributes] | XComArg,
        if_exists: IfExists = "create",
        strict: bool = False,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.attributes = attributes
        self.if_exists = if_exists
        self.strict = strict
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultUpdateAppointmentOperator(BaseUpdateOperator):
    """
    Change an appointment (API document, "Update an Appointment"); the task returns the id.

    :param appointment_id: id of the appointment (templated).
    :param attributes: what to write, under the API's own names (templated; of what is personal, Airflow
        stores and shows the names alone); or a callable that takes the context and returns that: it is
        called in the task, and its answer is neither rendered nor stored.
        What is not given stays as it is; None clears. ``date`` is a ``datetime`` or ISO 8601 text,
        without offset in the connection's time zone.
    :param strict: whether an attribute that the service did not keep is an error, not a warning. A date,
        a duration or an id that it did not keep always is.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = APPOINTMENT
    template_fields: Sequence[str] = ("appointment_id", "attributes", "webcamconsult_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"attributes": "json"}

    def __init__(
        self,
        *,
        appointment_id: str | XComArg,
        attributes: AppointmentAttributes | Callable[[Context], AppointmentAttributes] | XComArg,
        strict: bool = False,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.appointment_id = appointment_id
        self.attributes = attributes
        self.strict = strict
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultDeleteAppointmentOperator(BaseDeleteOperator):
    """
    Delete an appointment (API document, "Delete an Appointment"); the task returns nothing.

    :param appointment_id: id of the appointment (templated).
    :param ignore_if_missing: whether an appointment that is not there is a success. On a retry it always is.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = APPOINTMENT
    template_fields: Sequence[str] = ("appointment_id", "webcamconsult_conn_id")

    def __init__(
        self,
        *,
        appointment_id: str | XComArg,
        ignore_if_missing: bool = False,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.appointment_id = appointment_id
        self.ignore_if_missing = ignore_if_missing
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultGetAppointmentOperator(BaseGetOperator):
    """
    Read an appointment (API document, "View an Appointment detail"); the task returns a dict.

    :param appointment_id: id of the appointment (templated).
    :param fields: names of the attributes to return, and so to store in Airflow's database;
        by default all that is not personal (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = APPOINTMENT
    template_fields: Sequence[str] = ("appointment_id", "fields", "webcamconsult_conn_id")

    def __init__(
        self,
        *,
        appointment_id: str | XComArg,
        fields: Collection[str] | None = None,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.appointment_id = appointment_id
        self.fields = fields
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultListAppointmentsOperator(BaseListOperator):
    """
    Read all appointments of the token's organisation (API document, "List All Appointments").

    The task returns a list of dicts.

    :param fields: names of the attributes to return, and so to store in Airflow's database;
        by default all that is not personal (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = APPOINTMENT
    template_fields: Sequence[str] = ("fields", "webcamconsult_conn_id")

    def __init__(
        self,
        *,
        fields: Collection[str] | None = None,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fields = fields
        self.webcamconsult_conn_id = webcamconsult_conn_id
