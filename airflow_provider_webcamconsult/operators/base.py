"""Base classes of the operators in ``users``, ``clients`` and ``appointments``; not for use in a DAG."""

from __future__ import annotations

import copy
import datetime
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_webcamconsult.api.attributes import check_fields, check_id, check_switch, select
from airflow_provider_webcamconsult.api.matching import join_names
from airflow_provider_webcamconsult.api.redaction import MASK
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError, WebcamconsultNotFoundError
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


class MaskedValue:
    """Stands for a personal value in :class:`MaskedAttributes`. It shows as ``***`` and cannot be sent."""

    def __repr__(self) -> str:
        return MASK


class MaskedAttributes(ResolveMixin, Mapping[str, Any]):
    """
    Wraps ``attributes`` so that Airflow stores and shows only the names and the values that are not personal.

    Airflow shows a template field in three places: in the serialized DAG, in the rendered templates, and in
    the log if rendering fails. :meth:`_WithAttributes.render_template` renders the wrapped value.

    As a mapping, this has the values that are not personal, for templates such as ``map_index_template``, and
    a :class:`MaskedValue` for each of the others. :attr:`value` has the attributes unmasked.

    :param value: the attributes, or a callable, an XComArg or a template that returns them.
    :param resource: the kind of record.
    :param without_value: names of attributes whose template or XCom had no value when it was rendered.
    """

    # The values are not in vars(): some listeners send all of a task's vars() to another system.
    __slots__ = ("_resource", "_value", "without_value")

    def __init__(self, value: Any, resource: Resource[Any, Any], without_value: Collection[str] = ()) -> None:
        self._value = value
        self._resource = resource
        self.without_value = without_value

    @property
    def value(self) -> Any:
        """The attributes, unmasked."""
        return self._value

    def __getitem__(self, name: str) -> Any:
        if not isinstance(self._value, Mapping):
            return MaskedValue()
        return self._value[name] if self._is_shown(name) or name not in self._value else MaskedValue()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __bool__(self) -> bool:
        return True  # Airflow 2 ignores a rendered value that is false

    def _names(self) -> Collection[str]:
        if isinstance(self._value, Mapping):
            return self._value.keys()
        raise WebcamconsultInputError(
            f"The attributes are not a dict, but of type {type(self._value).__name__}. "
            "Use 'attributes.value' to access them."
        )

    def __eq__(self, other: object) -> bool:
        return bool(self._value == (other.value if isinstance(other, MaskedAttributes) else other))

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskedAttributes:
        return MaskedAttributes(copy.deepcopy(self._value, memo), self._resource, self.without_value)

    def __repr__(self) -> str:
        return str(self.serialize())

    def serialize(self) -> Any:
        """Return the masked attributes, for Airflow 3 to store; Airflow 2 stores their ``repr``."""
        if callable(self._value):
            return f"<attributes from {getattr(self._value, '__qualname__', type(self._value).__name__)}>"
        if isinstance(self._value, Mapping):
            return {
                str(_describe(name)): str(_describe(value)) if self._is_shown(name) else MASK
                for name, value in self._value.items()
            }
        return MASK

    def _is_shown(self, name: Any) -> bool:
        return isinstance(name, str) and (
            self._resource.aliases.get(name, name) in self._resource.non_personal
        )

    def resolve(self, context: Context, **kwargs: Any) -> Any:
        """
        Not used: :meth:`_WithAttributes.render_template` renders the wrapped value.

        :param context: the task's context.
        """
        raise NotImplementedError

    def iter_references(self) -> Iterator[tuple[Any, str]]:
        """Return the upstream tasks whose XComs the attributes contain, with the XCom keys."""
        return XComArg.iter_xcom_references(self._value)


def _describe(value: Any) -> Any:
    """
    Return a value whose text is the same each time the DAG file is parsed.

    Otherwise each parse would be a new version of the DAG. The default repr contains a memory address.
    """
    if value is None or isinstance(value, _STABLE_TYPES):
        return value if isinstance(value, (bool, int, float)) or value is None else str(value)
    if isinstance(value, Mapping):
        return {str(_describe(name)): _describe(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_describe(item) for item in value]
    return f"<{type(value).__name__}>"


_STABLE_TYPES = (str, bool, int, float, datetime.date, datetime.time, datetime.timedelta, XComArg)


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
    _attributes: MaskedAttributes

    @property
    def attributes(self) -> MaskedAttributes:
        """The attributes to write, masked, because Airflow stores the value of this property."""
        return self._attributes

    @attributes.setter
    def attributes(self, value: Any) -> None:
        is_masked = isinstance(value, MaskedAttributes)
        self._attributes = value if is_masked else MaskedAttributes(value, self.resource)

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """
        Render a value; masked attributes stay masked.

        :param content: the value to render.
        :return: the rendered value.
        """
        if not isinstance(content, MaskedAttributes):
            return super().render_template(content, *args, **kwargs)
        if "attributes" in (init_kwargs := vars(self).get(_INIT_KWARGS, {})):
            vars(self)[_INIT_KWARGS] = {**init_kwargs, "attributes": content}
        rendered = super().render_template(content.value, *args, **kwargs)
        return MaskedAttributes(rendered, self.resource, _names_without_value(content.value, rendered))

    def _attributes_now(self, context: Context) -> Any:
        if names := self._attributes.without_value:
            raise WebcamconsultInputError(
                f"The template or XCom for {join_names(sorted(names))} had no value. An upstream task was "
                "probably skipped or returned nothing. Check it and its trigger rule. To clear an attribute, "
                "write None in the attributes, or use a callable."
            )
        value = self._attributes.value
        return value(context) if callable(value) else value


#: Where Airflow keeps the arguments of an operator, which some listeners send to another system.
_INIT_KWARGS = "_BaseOperator__init_kwargs"


def _names_without_value(content: Any, rendered: Any) -> list[str]:
    """Return the names of the attributes that became None when they were rendered."""
    if not isinstance(content, Mapping) or not isinstance(rendered, Mapping):
        return []
    return [str(name) for name, value in content.items() if _lost_value(value, rendered.get(name))]


def _lost_value(content: Any, rendered: Any) -> bool:
    if rendered is None:
        return content is not None
    if isinstance(content, Mapping) and isinstance(rendered, Mapping):
        return any(_lost_value(value, rendered.get(name)) for name, value in content.items())
    if isinstance(content, (list, tuple)) and isinstance(rendered, (list, tuple)):
        return any(_lost_value(*pair) for pair in zip(content, rendered, strict=False))
    return False


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
        check_switch("strict", self.strict)
        attributes = self._attributes_now(context)
        if task_state_store(context) is None and is_automatic_retry(context):
            self.log.warning(
                "This is a retry, and this Airflow does not store what an earlier try sent. A %s of an "
                "earlier try is found only if the attributes that identify it (%s) are the same now. If they "
                "change with each try, as now() in a template does, this try may create a second %s.",
                self.resource.name,
                " or ".join(join_names(names) for names in self.resource.natural_keys),
                self.resource.name,
            )
        record = self.records.create(
            attributes,
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
        check_switch("strict", self.strict)
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
        check_switch("ignore_if_missing", self.ignore_if_missing)
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
