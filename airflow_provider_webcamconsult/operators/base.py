"""Base classes of the operators in ``users``, ``clients`` and ``appointments``; not for use in a DAG."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_webcamconsult.api.conditions import matches, parse_conditions
from airflow_provider_webcamconsult.api.matching import join_names
from airflow_provider_webcamconsult.api.missing import is_blank
from airflow_provider_webcamconsult.api.payload import check_fields, check_id, check_switch, select
from airflow_provider_webcamconsult.create_result import check_if_exists
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError, WebcamconsultNotFoundError
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.masked_attributes import MaskedAttributes, names_without_value
from airflow_provider_webcamconsult.operators.pseudonyms import check_pseudonymize, pseudonym, read_key
from airflow_provider_webcamconsult.operators.record_files import parse_path, write_records
from airflow_provider_webcamconsult.operators.task_checkpoint import TaskCheckpoint
from airflow_provider_webcamconsult.version_compat import (
    AirflowSkipException,
    BaseOperator,
    is_automatic_retry,
    is_mapped,
    task_state_store,
    try_number,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_provider_webcamconsult.api.conditions import Conditions
    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.create_checkpoint import CreateOutcome
    from airflow_provider_webcamconsult.create_result import IfExists
    from airflow_provider_webcamconsult.records import Records
    from airflow_provider_webcamconsult.version_compat import Context, ObjectStoragePath


#: More records than this in an XCom are worth a warning.
XCOM_MAX_RECORDS = 1000


#: XCom key of what a create or a delete did.
OUTCOME_KEY = "outcome"

#: Where Airflow keeps the arguments of an operator, which some listeners send to another system.
_INIT_KWARGS = "_BaseOperator__init_kwargs"

# Where a delete keeps the id of the record that it may have deleted.
_DELETE_KEY = "webcamconsult_delete"
#: What a delete did. ``"missing"``: there was no record, so nothing was deleted.
DeleteOutcome = Literal["deleted", "missing"]


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

    def _hide_init_kwarg(self, name: str, wrapped: object) -> None:
        """Replace a parameter by its wrapper in a second place where Airflow keeps it."""
        if name in (init_kwargs := vars(self).get(_INIT_KWARGS, {})):
            vars(self)[_INIT_KWARGS] = {**init_kwargs, name: wrapped}

    def _push_outcome(self, context: Context, outcome: CreateOutcome | DeleteOutcome) -> None:
        """Push what the task did as a second XCom; ``do_xcom_push`` applies to it as to the first."""
        ti: Any = context.get("ti")
        if self.do_xcom_push and ti is not None:  # a unit test may have no task instance
            ti.xcom_push(key=OUTCOME_KEY, value=outcome)


class _WithMasked(WebcamconsultBaseOperator):
    """Keeps the values of one parameter out of what Airflow stores and shows."""

    #: Name of the parameter.
    masked: ClassVar[str]

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """
        Render a value; masked attributes stay masked.

        :param content: the value to render.
        :return: the rendered value.
        """
        if not isinstance(content, MaskedAttributes):
            return super().render_template(content, *args, **kwargs)
        self._hide_init_kwarg(self.masked, content)
        rendered = super().render_template(content.value, *args, **kwargs)
        callable(content.value) or isinstance(content.value, Mapping)
        return MaskedAttributes(
            rendered,
            self.resource,
            names_without_value(content.value, rendered),
            is_from_xcom=content.is_from_xcom
            or not (callable(content.value) or isinstance(content.value, Mapping)),
        )

    def _mask(self, value: Any) -> MaskedAttributes:
        return value if isinstance(value, MaskedAttributes) else MaskedAttributes(value, self.resource)

    def _unmask(self, masked: MaskedAttributes, advice: str, context: Context) -> Any:
        if names := masked.without_value:
            raise WebcamconsultInputError(
                f"The template or XCom for {join_names(sorted(names))} had no value. An upstream task was "
                f"probably skipped or returned nothing. Check it and its trigger rule. {advice}"
            )
        return masked.value(context) if callable(masked.value) else masked.value


def check_literal_if_exists(if_exists: object) -> None:
    """
    Check ``if_exists`` when the DAG is parsed, unless it is a template or the output of a task.

    :param if_exists: what to do if a record already exists.
    :raises WebcamconsultInputError: if the value is unknown.
    """
    if isinstance(if_exists, str) and "{{" not in if_exists and "{%" not in if_exists:
        check_if_exists(if_exists)


class _WithAttributes(_WithMasked):
    masked = "attributes"
    _attributes: MaskedAttributes

    @property
    def write_options(self) -> dict[str, Any]:
        """The arguments of the write that only this kind of record has."""
        return {}

    @property
    def attributes(self) -> MaskedAttributes:
        """The attributes to write, masked, because Airflow stores the value of this property."""
        return self._attributes

    @attributes.setter
    def attributes(self, value: Any) -> None:
        self._attributes = self._mask(value)

    def _attributes_now(self, context: Context, *, may_clear: bool = False) -> Any:
        masked = self._attributes
        advice = "To clear an attribute, write None in the attributes, or use a callable."
        attributes = self._unmask(masked, advice, context)
        # A row of a table has no value for what it does not know, and what is cleared cannot be restored.
        may_be_row = masked.is_from_xcom or (is_mapped(self) and not callable(masked.value))
        if may_clear and may_be_row and isinstance(attributes, Mapping):
            cleared = [str(name) for name, value in attributes.items() if is_blank(value)]
            if cleared:
                raise WebcamconsultInputError(
                    f"The template, XCom or mapped argument for the attributes has no value for "
                    f"{join_names(cleared)}, which would clear what Webcamconsult has. Leave out what has no "
                    "value. To clear an attribute, use a callable."
                )
        return attributes


class BaseCreateOperator(_WithAttributes):
    """Creates a record; a retry never creates a second one."""

    if_exists: IfExists
    strict: bool

    def execute(self, context: Context) -> str:
        """
        Create the record, and push the outcome as an XCom.

        :param context: the task's context.
        :return: id of the record.
        """
        checkpoint = TaskCheckpoint(context)  # before anything can fail
        check_switch("strict", self.strict)
        attributes = self._attributes_now(context, may_clear=self.if_exists == "update")
        if task_state_store(context) is None and is_automatic_retry(context):
            self.log.warning(
                "This is a retry, and this Airflow does not store what an earlier try sent. %s of an "
                "earlier try is found only if the attributes that identify it (%s) are the same now. If they "
                "change with each try, as now() in a template does, this try may create a second %s.",
                self.resource.with_article.capitalize(),
                " or ".join(join_names(names) for names in self.resource.natural_keys),
                self.resource.name,
            )
        result = self.records.create_with_outcome(
            attributes,
            if_exists=self.if_exists,
            strict=self.strict,
            checkpoint=checkpoint,
            **self.write_options,
        )
        self._push_outcome(context, result.outcome)
        record_id: str = result.record["id"]
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
        attributes = self._attributes_now(context, may_clear=True)
        self.records.update(record_id, attributes, strict=self.strict, **self.write_options)
        self.log.info("Updated %s %s.", self.resource.name, record_id)
        return record_id


class BaseDeleteOperator(WebcamconsultBaseOperator):
    """Deletes a record."""

    ui_color = "#f6e3e1"

    ignore_if_missing: bool

    def execute(self, context: Context) -> None:
        """
        Delete the record, and push the outcome as an XCom.

        :param context: the task's context.
        """
        check_switch("ignore_if_missing", self.ignore_if_missing)
        store = task_state_store(context)
        # An earlier try may have deleted the record and lost the response.
        if store is None:
            may_be_deleted = try_number(context) > 1
        else:
            may_be_deleted = store.get(_DELETE_KEY) == {"id": self.record_id}
            store.set(_DELETE_KEY, {"id": self.record_id})
        try:
            self.records.delete(self.record_id)
        except WebcamconsultNotFoundError:
            if not self.ignore_if_missing and not may_be_deleted:
                if store is not None:
                    store.delete(_DELETE_KEY)
                raise
            self.log.info(
                "%s %s does not exist; nothing to delete.", self.resource.name.capitalize(), self.record_id
            )
            self._push_outcome(context, "missing")
        else:
            self.log.info("Deleted %s %s.", self.resource.name, self.record_id)
            self._push_outcome(context, "deleted")


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

    ignore_if_missing: bool

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Get the record.

        :param context: the task's context.
        :return: the attributes in ``fields``.
        :raises AirflowSkipException: if the record does not exist and ``ignore_if_missing`` is set.
        """
        self._check_fields()
        check_switch("ignore_if_missing", self.ignore_if_missing)
        if not self.ignore_if_missing:
            return self._select(self.records.get(self.record_id))
        record = self.records.get_if_exists(self.record_id)
        if record is None:
            # Not None: it would render in the templates of the next tasks.
            raise AirflowSkipException(
                f"{self.resource.name.capitalize()} {self.record_id} does not exist; skipping."
            )
        return self._select(record)


class BaseListOperator(_WithFields, _WithMasked):
    """Lists records: all, or those that ``where`` selects."""

    masked = "where"
    _where: MaskedAttributes | None

    path: str | ObjectStoragePath | None
    pseudonymize: Collection[str] | None
    pseudonymize_conn_id: str | None

    @property
    def where(self) -> MaskedAttributes | None:
        """The conditions, masked, because Airflow stores the value of this property."""
        return self._where

    @where.setter
    def where(self, value: Any) -> None:
        self._where = None if value is None else self._mask(value)

    def execute(self, context: Context) -> list[dict[str, Any]] | dict[str, Any]:
        """
        List the records of the token's organisation that ``where`` selects.

        :param context: the task's context.
        :return: the attributes in ``fields`` of each record; with ``path``, the path and the number of
            records.
        """
        self._check_fields()
        path = None if self.path is None else parse_path(self.path)
        columns = self._columns()
        names = check_pseudonymize(self.pseudonymize, self.pseudonymize_conn_id, columns)
        key = read_key(self.pseudonymize_conn_id) if self.pseudonymize_conn_id else b""
        conditions = self._conditions(context)
        # A file has the same columns for each record, also those that a record lacks.
        fields = self.fields if path is None else columns

        listed = 0

        def rows() -> Iterator[dict[str, Any]]:
            nonlocal listed
            for record in self.records.iterate():
                listed += 1
                if matches(self.resource, conditions, record):
                    row = select(self.resource, record, fields)
                    yield {**row, **{name: pseudonym(key, row[name]) for name in names if name in row}}

        if path is not None:
            count = write_records(path, self.resource, columns, rows())
            self.log.info("Wrote %d of %d %s to %s.", count, listed, self.resource.plural, path)
            return {"path": str(path), "records": count}
        records = list(rows())
        self.log.info("Selected %d of %d %s.", len(records), listed, self.resource.plural)
        if len(records) > XCOM_MAX_RECORDS:
            self.log.warning(
                "The task returns %d %s, which Airflow stores in its database as one XCom. That takes time "
                "and space for each run. Select fewer with 'where', or write them to a file with 'path'.",
                len(records),
                self.resource.plural,
            )
        return records

    def _columns(self) -> list[str]:
        names = self.resource.non_personal if self.fields is None else self.fields
        return sorted(names) if isinstance(names, (set, frozenset)) else list(dict.fromkeys(names))

    def _conditions(self, context: Context) -> Conditions:
        if self._where is None:
            return {}
        where = self._unmask(self._where, "To select records without a value, write None.", context)
        return parse_conditions(self.resource, where, zone=self.hook.settings.timezone)
