"""Operators for appointments, which are video consults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_webcamconsult.api.overlaps import FREE_STATES
from airflow_provider_webcamconsult.api.resources import APPOINTMENT
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.base import (
    BaseCreateOperator,
    BaseDeleteOperator,
    BaseGetOperator,
    BaseListOperator,
    BaseUpdateOperator,
    check_literal_if_exists,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow.sdk import XComArg

    from airflow_provider_webcamconsult.api.resources import AppointmentAttributes, UntypedAttributes
    from airflow_provider_webcamconsult.appointments import IfOverlaps
    from airflow_provider_webcamconsult.create_result import IfExists
    from airflow_provider_webcamconsult.version_compat import ObjectStoragePath


class WebcamconsultCreateAppointmentOperator(BaseCreateOperator):
    """
    Create an appointment (API document, "Create a New Appointment").

    Appointments are video consults. A retry never creates a second appointment. The task returns the id of
    the appointment.

    :param attributes: attributes to write, with the API's own names (templated), or a callable that takes the
        context and returns the attributes. Omitted attributes are not sent; ``None`` is sent as ``null``.
        ``date`` is a ``datetime`` or ISO 8601 text; without a UTC offset, it is in the connection's time
        zone. Airflow stores and shows personal values as ``***``. The callable is called when the task runs,
        and its result is neither rendered nor stored.
    :param if_exists: what to do if an appointment with the same ``user_id``, ``client_id`` and ``date``
        already exists (templated): ``"create"`` creates a new appointment without checking, ``"reuse"``
        returns the id of the existing appointment, ``"update"`` updates the attributes that differ and
        returns the id, and ``"fail"`` fails the task.
    :param strict: whether to fail if the service did not store an attribute as sent. By default, this is only
        logged as a warning, but a date, duration or id that was not stored as sent always fails the task.
    :param if_overlaps: what to do if another appointment of the same user or client overlaps with this one
        (templated): ``"ignore"`` does not check, ``"warn"`` logs a warning, and ``"fail"`` fails the task.
    :param free_states: states in which another appointment takes no time (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = APPOINTMENT
    template_fields: Sequence[str] = (
        "attributes",
        "if_exists",
        "if_overlaps",
        "free_states",
        "webcamconsult_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"attributes": "json"}

    def __init__(
        self,
        *,
        attributes: AppointmentAttributes
        | UntypedAttributes
        | Callable[[Any], AppointmentAttributes | Mapping[str, object]]
        | XComArg,
        if_exists: IfExists = "create",
        strict: bool = False,
        if_overlaps: IfOverlaps = "ignore",
        free_states: Collection[str] = FREE_STATES,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.attributes = attributes
        self.if_exists = if_exists
        check_literal_if_exists(if_exists)
        self.strict = strict
        self.if_overlaps = if_overlaps
        self.free_states = free_states
        self.webcamconsult_conn_id = webcamconsult_conn_id

    @property
    def write_options(self) -> dict[str, Any]:
        """The arguments of the write that only appointments have."""
        return {"if_overlaps": self.if_overlaps, "free_states": self.free_states}


class WebcamconsultUpdateAppointmentOperator(BaseUpdateOperator):
    """
    Update an appointment (API document, "Update an Appointment").

    Appointments are video consults. The task returns the id of the appointment.

    :param appointment_id: id of the appointment (templated).
    :param attributes: attributes to write, with the API's own names (templated), or a callable that takes the
        context and returns the attributes. Omitted attributes keep their values; ``None`` clears an
        attribute. ``date`` is a ``datetime`` or ISO 8601 text; without a UTC offset, it is in the
        connection's time zone. Airflow stores and shows personal values as ``***``. The callable is called
        when the task runs, and its result is neither rendered nor stored.
    :param strict: whether to fail if the service did not store an attribute as sent. By default, this is only
        logged as a warning, but a date, duration or id that was not stored as sent always fails the task.
    :param if_overlaps: what to do if another appointment of the same user or client overlaps with this one
        (templated): ``"ignore"`` does not check, ``"warn"`` logs a warning, and ``"fail"`` fails the task.
    :param free_states: states in which another appointment takes no time (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = APPOINTMENT
    template_fields: Sequence[str] = (
        "appointment_id",
        "attributes",
        "if_overlaps",
        "free_states",
        "webcamconsult_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"attributes": "json"}

    def __init__(
        self,
        *,
        appointment_id: str | XComArg,
        attributes: AppointmentAttributes
        | UntypedAttributes
        | Callable[[Any], AppointmentAttributes | Mapping[str, object]]
        | XComArg,
        strict: bool = False,
        if_overlaps: IfOverlaps = "ignore",
        free_states: Collection[str] = FREE_STATES,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.appointment_id = appointment_id
        self.attributes = attributes
        self.strict = strict
        self.if_overlaps = if_overlaps
        self.free_states = free_states
        self.webcamconsult_conn_id = webcamconsult_conn_id

    @property
    def write_options(self) -> dict[str, Any]:
        """The arguments of the write that only appointments have."""
        return {"if_overlaps": self.if_overlaps, "free_states": self.free_states}


class WebcamconsultDeleteAppointmentOperator(BaseDeleteOperator):
    """
    Delete an appointment (API document, "Delete an Appointment").

    Appointments are video consults. The task returns nothing.

    :param appointment_id: id of the appointment (templated).
    :param ignore_if_missing: whether to succeed if the appointment does not exist. A retry always succeeds in
        this case, because an earlier try may have deleted the appointment.
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
    Get an appointment (API document, "View an Appointment detail").

    Appointments are video consults. The task returns a dict.

    :param appointment_id: id of the appointment (templated).
    :param fields: names of the attributes to return, and therefore to store in Airflow's database
        (templated). By default, only the attributes that are not personal: all documented ones except
        ``inloop_json``.
    :param ignore_if_missing: whether to skip the task, instead of failing it, if the appointment does not
        exist.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = APPOINTMENT
    template_fields: Sequence[str] = ("appointment_id", "fields", "webcamconsult_conn_id")

    def __init__(
        self,
        *,
        appointment_id: str | XComArg,
        fields: Collection[str] | None = None,
        ignore_if_missing: bool = False,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.appointment_id = appointment_id
        self.fields = fields
        self.ignore_if_missing = ignore_if_missing
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultListAppointmentsOperator(BaseListOperator):
    """
    List appointments of the token's organisation (API document, "List All Appointments").

    Appointments are video consults. The task returns a list of dicts. With ``path``, it writes a file and
    returns ``{"path": …, "records": …}`` with the number of records instead.

    :param fields: names of the attributes to return, and therefore to store in Airflow's database
        (templated). By default, only the attributes that are not personal: all documented ones except
        ``inloop_json``.
    :param where: which appointments to return: a dict of attribute names, each with a value or a list of
        values (templated), or a callable that takes the context and returns the dict. By default, all
        appointments.
    :param path: path of the file to write, as text or as an ``ObjectStoragePath`` (templated). The end of its
        name tells the format: ``.jsonl`` or ``.ndjson`` (JSON Lines), ``.csv``, or ``.parquet`` (needs the
        extra ``parquet``). By default, the task returns the appointments, which Airflow stores in its
        database.
    :param pseudonymize: names of the attributes in ``fields`` whose values to replace by keyed digests, which
        are the same in every run (templated). Needs ``pseudonymize_conn_id``.
    :param pseudonymize_conn_id: id of an Airflow connection of any type whose password is the key of the
        digests (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = APPOINTMENT
    template_fields: Sequence[str] = (
        "fields",
        "where",
        "path",
        "pseudonymize",
        "pseudonymize_conn_id",
        "webcamconsult_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"where": "json"}

    def __init__(
        self,
        *,
        fields: Collection[str] | None = None,
        where: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | XComArg | None = None,
        path: str | ObjectStoragePath | None = None,
        pseudonymize: Collection[str] | None = None,
        pseudonymize_conn_id: str | None = None,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fields = fields
        self.where = where
        self.path = path
        self.pseudonymize = pseudonymize
        self.pseudonymize_conn_id = pseudonymize_conn_id
        self.webcamconsult_conn_id = webcamconsult_conn_id
