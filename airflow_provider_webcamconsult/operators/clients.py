"""Operators for clients, the patients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_webcamconsult.api.resources import CLIENT
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

    from airflow_provider_webcamconsult.api.resources import ClientAttributes
    from airflow_provider_webcamconsult.idempotent_create import IfExists
    from airflow_provider_webcamconsult.version_compat import Context


class WebcamconsultCreateClientOperator(BaseCreateOperator):
    """
    Create a client, a patient (API document, "Create a New Client").

    Exactly one, whatever happens to the answer, the worker or the task. The task returns the id.

    :param attributes: what to write, under the API's own names (templated; of what is personal, Airflow
        stores and shows the names alone); or a callable that takes the context and returns that: it is
        called in the task, and its answer is neither rendered nor stored.
        What is not given is not sent; None is sent as ``null``. ``date_of_birth`` is a day or a moment.
    :param if_exists: what to do if a client exists that has the same ``reference_code``, else
        by ``email`` (templated).
        ``"create"`` creates without looking; ``"reuse"`` returns its id; ``"update"`` brings the attributes
        that differ in line; ``"fail"`` fails. In each of them, a retry never creates a second one.
    :param strict: whether an attribute that the service did not keep is an error, not a warning. A date,
        a duration or an id that it did not keep always is.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = CLIENT
    template_fields: Sequence[str] = ("attributes", "if_exists", "webcamconsult_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"attributes": "json"}

    def __init__(
        self,
        *,
        attributes: ClientAttributes | Callable[[Context], ClientAttributes] | XComArg,
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


class WebcamconsultUpdateClientOperator(BaseUpdateOperator):
    """
    Change a client, a patient (API document, "Update a Client"); the task returns the id.

    :param client_id: id of the client (templated).
    :param attributes: what to write, under the API's own names (templated; of what is personal, Airflow
        stores and shows the names alone); or a callable that takes the context and returns that: it is
        called in the task, and its answer is neither rendered nor stored.
        What is not given stays as it is; None clears. ``date_of_birth`` is a day or a moment.
    :param strict: whether an attribute that the service did not keep is an error, not a warning. A date,
        a duration or an id that it did not keep always is.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = CLIENT
    template_fields: Sequence[str] = ("client_id", "attributes", "webcamconsult_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"attributes": "json"}

    def __init__(
        self,
        *,
        client_id: str | XComArg,
        attributes: ClientAttributes | Callable[[Context], ClientAttributes] | XComArg,
        strict: bool = False,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.client_id = client_id
        self.attributes = attributes
        self.strict = strict
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultDeleteClientOperator(BaseDeleteOperator):
    """
    Delete a client, a patient (API document, "Delete a Client"); the task returns nothing.

    :param client_id: id of the client (templated).
    :param ignore_if_missing: whether a client that is not there is a success. On a retry it always is.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = CLIENT
    template_fields: Sequence[str] = ("client_id", "webcamconsult_conn_id")

    def __init__(
        self,
        *,
        client_id: str | XComArg,
        ignore_if_missing: bool = False,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.client_id = client_id
        self.ignore_if_missing = ignore_if_missing
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultGetClientOperator(BaseGetOperator):
    """
    Read a client, a patient (API document, "View a Client detail"); the task returns a dict.

    :param client_id: id of the client (templated).
    :param fields: names of the attributes to return, and so to store in Airflow's database;
        by default the id and the divisions, which are not personal (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = CLIENT
    template_fields: Sequence[str] = ("client_id", "fields", "webcamconsult_conn_id")

    def __init__(
        self,
        *,
        client_id: str | XComArg,
        fields: Collection[str] | None = None,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.client_id = client_id
        self.fields = fields
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultListClientsOperator(BaseListOperator):
    """
    Read all clients of the token's organisation (API document, "List All Clients").

    The task returns a list of dicts.

    :param fields: names of the attributes to return, and so to store in Airflow's database;
        by default the id and the divisions, which are not personal (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = CLIENT
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
