"""Base classes of the operators in ``users``, ``clients`` and ``appointments``; not for use in a DAG."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_webcamconsult.api.attributes import check_fields, check_id, select
from airflow_provider_webcamconsult.api.redaction import MASK
from airflow_provider_webcamconsult.exceptions import WebcamconsultNotFoundError
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.version_compat import (
    BaseOperator,
    ResolveMixin,
    XComArg,
    is_automatic_retry,
    task_state_store,
    try_number,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.idempotent_create import IfExists
    from airflow_provider_webcamconsult.records import Records
    from airflow_provider_webcamconsult.version_compat import Context


class MaskedAttributes(ResolveMixin):
    """
    Wraps ``attributes`` so that Airflow stores and shows only the names and the values that are not personal.

    Airflow shows a template field in three places: in the serialized DAG, in the rendered templates, and in
    the log if rendering fails. :meth:`_WithAttributes.render_template` renders the wrapped value.

    :param value: the attributes, or a callable, an XComArg or a template that returns them.
    :param resource: the kind of record.
    """

    def __init__(self, value: Any, resource: Resource[Any, Any]) -> None:
        self.value = value
        self._resource = resource

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, MaskedAttributes) else other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return str(self.serialize())

    def serialize(self) -> Any:
        """Return the masked attributes, for Airflow 3 to store; Airflow 2 stores their ``repr``."""
        if callable(self.value):
            return f"<attributes from {getattr(self.value, '__qualname__', type(self.value).__name__)}>"
        if isinstance(self.value, Mapping):
            return {
                str(name): str(value) if self._is_shown(name) else MASK for name, value in self.value.items()
            }
        return MASK

    def _is_shown(self, name: Any) -> bool:
        return self._resource.aliases.get(name, name) in self._resource.non_personal

    def iter_references(self) -> Iterator[tuple[Any, str]]:
        """Return the upstream tasks whose XComs the attributes contain, with the XCom keys."""
        return XComArg.iter_xcom_references(self.value)


class WebcamconsultBaseOperator(BaseOperator):
    """An operator for one kind of record."""

    resource: ClassVar[Resource[Any, Any]]
    ui_color = "#d7edf4"

    custom_operator_name: str
    webcamconsult_conn_id: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "custom_operator_name" not in vars(cls):
            # In the graph, the full name would be cut off after the prefix that all operators share.
            name = cls.__name__.removeprefix("Webcamconsult").removesuffix("Operator")
            cls.custom_operator_name = name

    @cached_property
    def hook(self) -> WebcamconsultHook:
        """The hook of this operator's connection."""
        return WebcamconsultHook(self.webcamconsult_conn_id)

    @property
    def records(self) -> Records[Any, Any]:
        """The hook's ``users``, ``clients`` or ``appointments``."""
        records: Records[Any, Any] = getattr(self.hook, self.resource.plural)
        return records

    @property
    def record_id(self) -> str:
        """The value of ``user_id``, ``client_id`` or ``appointment_id``."""
        record_id: str = getattr(self, f"{self.resource.name}_id")
        return record_id


class _WithAttributes(WebcamconsultBaseOperator):
    _attributes: Any

    @property
    def attributes(self) -> MaskedAttributes:
        """The attributes to write, masked, because Airflow stores the value of this property."""
        return MaskedAttributes(self._attributes, self.resource)

    @attributes.setter
    def attributes(self, value: Any) -> None:
        self._attributes = value.value if isinstance(value, MaskedAttributes) else value

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """
        Render a value; masked attributes stay masked.

        :param content: the value to render.
        :return: the rendered value.
        """
        if isinstance(content, MaskedAttributes):
            return MaskedAttributes(super().render_template(content.value, *args, **kwargs), self.resource)
        return super().render_template(content, *args, **kwargs)

    def _attributes_now(self, context: Context) -> Any:
        return self._attributes(context) if callable(self._attributes) else self._attributes


class TaskCheckpoint:
    """
    The checkpoint of a create in a task.

    Airflow 3.3 and newer store it in the task state store. On older versions, the try number shows whether an
    earlier try may have created the record.

    :param context: the task's context.
    """

    persistent = True
    _KEY = "webcamconsult_create"

    def __init__(self, context: Context) -> None:
        self._store = task_state_store(context)
        self._value = self._load(context)

    def _load(self, context: Context) -> dict[str, Any]:
        stored = None if self._store is None else self._store.get(self._KEY)
        if stored or (stored is not None and is_automatic_retry(context)):
            return dict(stored)
        if stored is not None and try_number(context) > 1:
            # Stored for the retries of this try: they cannot detect that the task was cleared.
            self.write({"was_cleared": True})
            return {"was_cleared": True}
        if try_number(context) <= 1:
            self.write({})  # tells the next try that this one has sent nothing yet
            return {}
        now = time.time()
        if is_automatic_retry(context):
            # The previous try ended at least retry_delay ago.
            return {"sent_at": now - context["ti"].task.retry_delay.total_seconds()}
        # The task was cleared, perhaps just after its previous try sent a create.
        return {"sent_at": now, "reported": True}

    def read(self) -> Mapping[str, Any]:
        """
        Return what is known about earlier tries.

        :return: a mapping as :meth:`~airflow_provider_webcamconsult.idempotent_create.Checkpoint.read`
            describes it.
        """
        return self._value

    def write(self, value: Mapping[str, Any]) -> None:
        """
        Replace the checkpoint. On Airflow before 3.3, this does nothing.

        :param value: a value as :meth:`read` returns it.
        """
        if self._store is not None:
            self._store.set(self._KEY, dict(value))


class BaseCreateOperator(_WithAttributes):
    """Creates a record; a retry never creates a second one."""

    if_exists: IfExists
    strict: bool

    def execute(self, context: Context) -> str:
        """
        Create the record.

        :param context: the task's context.
        :return: id of the record.
        """
        checkpoint = TaskCheckpoint(context)  # before anything can fail
        record = self.records.create(
            self._attributes_now(context),
            if_exists=self.if_exists,
            strict=self.strict,
            checkpoint=checkpoint,
        )
        record_id: str = record["id"]
        self.log.info("Returning the id of %s %s.", self.resource.name, record_id)
        return record_id


class BaseUpdateOperator(_WithAttributes):
    """Updates a record."""

    ui_color = "#e3ecf7"

    strict: bool

    def execute(self, context: Context) -> str:
        """
        Update the record.

        :param context: the task's context.
        :return: id of the record.
        """
        record_id = self.record_id
        check_id(self.resource, record_id)
        self.records.update(record_id, self._attributes_now(context), strict=self.strict)
        self.log.info("Updated %s %s.", self.resource.name, record_id)
        return record_id


class BaseDeleteOperator(WebcamconsultBaseOperator):
    """Deletes a record."""

    ui_color = "#f6e3e1"

    ignore_if_missing: bool

    def execute(self, context: Context) -> None:
        """
        Delete the record.

        :param context: the task's context.
        """
        try:
            self.records.delete(self.record_id)
        except WebcamconsultNotFoundError:
            # On a retry, an earlier try may have deleted the record and lost the response.
            if not self.ignore_if_missing and try_number(context) <= 1:
                raise
            self.log.info(
                "%s %s does not exist; nothing to delete.", self.resource.name.capitalize(), self.record_id
            )
        else:
            self.log.info("Deleted %s %s.", self.resource.name, self.record_id)


class _WithFields(WebcamconsultBaseOperator):
    ui_color = "#eaf3e6"

    fields: Collection[str] | None

    def _check_fields(self) -> None:
        for warning in check_fields(self.resource, self.fields):
            self.log.warning(warning)

    def _select(self, record: Mapping[str, Any]) -> dict[str, Any]:
        return select(self.resource, record, self.fields)


class BaseGetOperator(_WithFields):
    """Gets a record."""

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Get the record.

        :param context: the task's context.
        :return: the attributes in ``fields``.
        """
        self._check_fields()
        return self._select(self.records.get(self.record_id))


class BaseListOperator(_WithFields):
    """Lists all records."""

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """
        List all records of the token's organisation.

        :param context: the task's context.
        :return: the attributes in ``fields`` of each record.
        """
        self._check_fields()
        records = self.records.list()
        self.log.info("Read %d %s.", len(records), self.resource.plural)
        return [self._select(record) for record in records]
