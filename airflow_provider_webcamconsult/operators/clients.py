"""Operators for clients (a patients)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.base import (
    BaseCreateOperator,
    BaseDeleteOperator,
    BaseGetOperator,
    BaseListOperator,
    BaseUpdateOperator,
)
from airflow_provider_webcamconsult.resources import CLIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from airflow.sdk import XComArg

    from airflow_provider_webcamconsult._compat import Context
    from airflow_provider_webcamconsult.resources import ClientAttributes


class WebcamconsultCreateClientOperator(BaseCreateOperator):
    """
    Create a client, a patient (API document, "Create a New Client"); the task returns the id.

    :param attributes: what to write, under the API's own names (templated); or a callable that takes the
        context and returns that: it is called in the task, and its answer is neither rendered nor stored.
        What is not given is not sent; None is sent as ``null``. ``date_of_birth`` is a day or a moment.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = CLIENT
    template_fields: Sequence[str] = ("attributes", "webcamconsult_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"attributes": "json"}

    def __init__(
        self,
        *,
        attributes: ClientAttributes | Callable[[Context], ClientAttributes] | XComArg,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.attributes = attributes
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultUpdateClientOperator(BaseUpdateOperator):
    """
    Change a client, a patient (API document, "Update a Client"); the task returns the id.

    :param client_id: id of the client (templated).
    :param attributes: what to write, under the API's own names (templated); or a callable that takes the
        context and returns that: it is called in the task, and its answer is neither rendered nor stored.
        What is not given stays as it is; None clears. ``date_of_birth`` is a day or a moment.
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
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.client_id = client_id
        self.attributes = attributes
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultDeleteClientOperator(BaseDeleteOperator):
    """
    Delete a client, a patient (API document, "Delete a Client"); the task returns nothing.

    :param client_id: id of the client (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = CLIENT
    template_fields: Sequence[str] = ("client_id", "webcamconsult_conn_id")

    def __init__(
        self,
        *,
        client_id: str | XComArg,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.client_id = client_id
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
