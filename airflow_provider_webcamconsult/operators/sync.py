"""Base class of the operators that synchronize ``users`` and ``clients``; not for use in a DAG."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.payload import check_switch
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError, WebcamconsultSyncError
from airflow_provider_webcamconsult.operators.base import WebcamconsultBaseOperator
from airflow_provider_webcamconsult.operators.lineage import sync_lineage
from airflow_provider_webcamconsult.operators.row_files import is_path, read_rows, write_json_lines
from airflow_provider_webcamconsult.operators.task_checkpoint import TaskCheckpoint
from airflow_provider_webcamconsult.version_compat import ResolveMixin, XComArg, raise_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_webcamconsult.api.sync_plan import MalformedRow, SyncMode
    from airflow_provider_webcamconsult.operators.record_files import FilePath
    from airflow_provider_webcamconsult.sync.report import SyncResult
    from airflow_provider_webcamconsult.version_compat import Context


class RowSource(ResolveMixin):
    """
    Wraps ``rows`` so that Airflow stores the path or the name of a callable, and no rows.

    :param value: a callable, or the path of a file, which may be a template or an XComArg.
    """

    # The value is not in vars(): some listeners send all of a task's vars() to another system.
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return self.serialize()

    def serialize(self) -> str:
        """Return what Airflow 3 stores; Airflow 2 stores the ``repr``. It is the same at each parse."""
        if is_path(self.value) or isinstance(self.value, XComArg):
            return str(self.value)
        return f"<rows from {getattr(self.value, '__qualname__', type(self.value).__name__)}>"

    def iter_references(self) -> Iterator[tuple[Any, str]]:
        """Return the upstream tasks whose XComs the path contains, with the XCom keys."""
        return XComArg.iter_xcom_references(self.value)

    def resolve(self, context: Context, **kwargs: Any) -> Any:
        """
        Not used: :meth:`BaseSyncOperator.render_template` renders the wrapped value.

        :param context: the task's context.
        """
        return self

    def read(self, context: Context) -> Iterable[Mapping[str, Any] | MalformedRow]:
        """
        Return the rows.

        :param context: the task's context.
        :raises WebcamconsultInputError: if there is no source of rows.
        """
        if is_path(self.value) and str(self.value):
            return read_rows(self.value)
        if not callable(self.value):
            raise WebcamconsultInputError(
                f"rows is of type {type(self.value).__name__}. Pass the path of a file, or a callable that "
                "takes the context and returns the rows, so that Airflow does not store them."
            )
        rows = self.value(context)
        if not isinstance(rows, Iterable) or isinstance(rows, (str, bytes, Mapping)):
            raise WebcamconsultInputError(
                f"The callable for rows returned {type(rows).__name__}. Return or yield dicts."
            )
        return rows


class BaseSyncOperator(WebcamconsultBaseOperator):
    """Brings all records in line with rows."""

    ui_color = "#d7edf4"

    key: str
    mode: SyncMode
    key_prefix: str | None
    max_deletes: float | str
    max_failures: int
    plan_only: bool
    errors_path: FilePath | None
    ids_path: FilePath | None
    workers: int
    _rows: RowSource
    # What OpenLineage is told. No result: some listeners send all of a task's vars() to another system.
    _attributes: frozenset[str] = frozenset()
    _counts: Mapping[str, int] = MappingProxyType({})
    _is_running = False

    @property
    def rows(self) -> RowSource:
        """The source of the rows, wrapped, because Airflow stores the value of this property."""
        return self._rows

    @rows.setter
    def rows(self, value: Any) -> None:
        self._rows = value if isinstance(value, RowSource) else RowSource(value)

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """
        Render a value; the wrapped source of the rows stays wrapped.

        :param content: the value to render.
        :param args: passed on to Airflow.
        :return: the rendered value.
        """
        if not isinstance(content, RowSource):
            return super().render_template(content, *args, **kwargs)
        self._hide_init_kwarg("rows", content)
        return RowSource(super().render_template(content.value, *args, **kwargs))

    def execute(self, context: Context) -> dict[str, int]:
        """
        Synchronize the records.

        :param context: the task's context.
        :return: the counts ``rows``, ``created``, ``updated``, ``unchanged``, ``deleted`` and ``failed``.
        """
        checkpoint = TaskCheckpoint(context)  # before anything can fail
        check_switch("plan_only", self.plan_only)
        rows = self._rows.read(context)
        for path in (self.errors_path, self.ids_path):
            if path:
                write_json_lines(path, [])  # before anything is sent, and no file of an earlier run is left
        records = self.hook.users if self.resource.plural == "users" else self.hook.clients
        self._is_running = True
        try:
            result = records.sync(
                self._with_names_noted(rows),
                key=self.key,
                mode=self.mode,
                key_prefix=self.key_prefix,
                max_deletes=_to_number(self.max_deletes),
                max_failures=self.max_failures,
                plan_only=self.plan_only,
                workers=self.workers,
                with_ids=bool(self.ids_path),
                checkpoint=checkpoint,
            )
        except WebcamconsultSyncError as error:
            self._report(error.result)
            raise
        finally:
            self._is_running = False
        self._report(result)
        return result.counts()

    def on_kill(self) -> None:
        """
        End the run when Airflow ends the task. Requests in progress are finished.

        :raises AirflowException: on Airflow 3, which would otherwise go on until it is killed.
        """
        if self._is_running:
            raise_on_sigterm()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """
        Return what Airflow's OpenLineage provider sends: datasets, counts and names of attributes.

        The records are the dataset ``users`` or ``clients`` in the namespace ``webcamconsult://`` with the id
        of the connection, because one host has the records of many organisations.

        :param task_instance: the task instance.
        :return: the lineage of this try, which may have failed.
        """
        source = self._rows.value
        return sync_lineage(
            (f"webcamconsult://{self.webcamconsult_conn_id}", self.resource.plural),
            source=source if is_path(source) else None,
            reports=[path for path in (self.errors_path, self.ids_path) if path],
            attributes=self._attributes,
            counts=self._counts,
            plan_only=self.plan_only,
        )

    def _with_names_noted(
        self, rows: Iterable[Mapping[str, Any] | MalformedRow]
    ) -> Iterator[Mapping[str, Any] | MalformedRow]:
        for row in rows:
            if isinstance(row, Mapping) and not self._attributes.issuperset(row):
                # In a file without a header, the other names are values of the first row.
                self._attributes |= {*row}.intersection(self.resource.writable)
            yield row

    def _report(self, result: SyncResult) -> None:
        self._counts = result.counts()
        if self.errors_path:
            write_json_lines(
                self.errors_path,
                (
                    {
                        "row": failure.row,
                        "key": failure.key,
                        "attributes": failure.attributes,
                        "reasons": failure.reasons,
                    }
                    for failure in result.failures
                ),
            )
        if self.ids_path:
            ids = (result.ids or {}).items()
            write_json_lines(self.ids_path, ({"key": key, "id": record_id} for key, record_id in ids))


def _to_number(value: float | str) -> float:
    """Return the number in a text, which is what a template renders to. Another value is checked later."""
    for kind in (int, float):
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = kind(value)
    return value  # type: ignore[return-value]
