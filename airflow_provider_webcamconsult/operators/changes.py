"""The operator that lists what changed since it last ran."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from airflow_provider_webcamconsult.api import baseline as baselines
from airflow_provider_webcamconsult.api.baseline import DIGEST_KEY, Baseline, Initial, take_in
from airflow_provider_webcamconsult.api.changes import CHANGE_KINDS, Marker, find_resource, list_digest
from airflow_provider_webcamconsult.api.states import is_state_name
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultInputError,
    WebcamconsultResponseError,
)
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.base import XCOM_MAX_RECORDS
from airflow_provider_webcamconsult.operators.baseline_store import AssetBaselineStore, FileBaselineStore
from airflow_provider_webcamconsult.version_compat import (
    AirflowSkipException,
    BaseOperator,
    asset_state,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow_provider_webcamconsult.api.changes import Change, ChangeKind, Mark
    from airflow_provider_webcamconsult.operators.baseline_store import BaselineStore
    from airflow_provider_webcamconsult.operators.record_files import FilePath
    from airflow_provider_webcamconsult.records import Records
    from airflow_provider_webcamconsult.version_compat import Context


#: Maximum number of positions in the list that a warning names.
POSITIONS_MAX = 10


@dataclass
class _List:
    """The marks of a list, and what of it cannot be read."""

    marks: dict[str, Mark] = field(default_factory=dict)
    length: int = 0
    malformed: list[int] = field(default_factory=list)
    """Positions in the list, counted from 1."""
    unreadable: set[Any] = field(default_factory=set)
    """The ids of these records; None for a record without a valid id."""

    @property
    def has_all_ids(self) -> bool:
        return None not in self.unreadable


class WebcamconsultListChangesOperator(BaseOperator):
    """
    List what changed since this task last ran (API document, "List All …").

    The task compares the list with a baseline, and is skipped if nothing changed. It returns a list of dicts
    with the keys ``id``, ``kinds``, ``old_state``, ``new_state``, ``old_date`` and ``new_date``, one for each
    changed record. The baseline moves together with what the run reports. So a run that is killed and
    retried, or cleared, reports the same again and what is new since, and no other run reports it. A change
    that is undone before the task sees it is not reported. A malformed record counts as unchanged until it
    can be read, and a warning names its position in the list.

    The baseline contains ids, states, dates and keyed digests. It is stored in the state of the asset that
    the task has in ``inlets``, such as that of
    :func:`~airflow_provider_webcamconsult.triggers.changes.webcamconsult_changes`, or in the file
    ``baseline_path``. Each task needs a baseline of its own, and so does each index of a mapped task.

    :param resource: what to list: ``"appointments"``, ``"clients"`` or ``"users"`` (templated).
    :param changes: which kinds of changes to report (templated): ``"created"``, ``"state"`` (an appointment
        is in a different state, or is new and no longer ``"idle"``), ``"moved"`` (it has a different date),
        ``"attributes"`` (anything else) and ``"deleted"``. By default, all.
    :param states: report only appointments that are in one of these states now, or if deleted, were in one of
        them (templated). By default, all.
    :param initial: what the first run reports, which has no baseline (templated): ``"none"`` reports nothing,
        ``"all"`` every record as created.
    :param baseline_path: path or URL of a file for the baseline, as text or as an ``ObjectStoragePath``
        (templated). Needed before Airflow 3.3. By default, the state of the asset in ``inlets``.
    :param max_active_tis_per_dag: maximum number of this task's runs at the same time. More than one would
        report the same changes twice.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    template_fields: Sequence[str] = (
        "resource",
        "changes",
        "states",
        "initial",
        "baseline_path",
        "webcamconsult_conn_id",
    )
    ui_color = "#eaf3e6"
    custom_operator_name = "ListChanges"

    def __init__(
        self,
        *,
        resource: str = "appointments",
        changes: Collection[ChangeKind] = CHANGE_KINDS,
        states: Collection[str] | None = None,
        initial: Initial = "none",
        baseline_path: FilePath | None = None,
        max_active_tis_per_dag: int | None = 1,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_active_tis_per_dag=max_active_tis_per_dag, **kwargs)
        self.resource = resource
        self.changes = changes
        self.states = states
        self.initial = initial
        self.baseline_path = baseline_path
        self.webcamconsult_conn_id = webcamconsult_conn_id

    def execute(self, context: Context) -> list[Change]:
        """
        Return what changed.

        :param context: the task's context.
        :return: a dict for each changed record.
        :raises AirflowSkipException: if nothing changed.
        """
        resource = find_resource(self.resource)
        self._check_choices()
        state = asset_state(context, self.inlets)
        store = self._store(state)
        old = self._load(store.read())
        hook = WebcamconsultHook(self.webcamconsult_conn_id)
        marker = Marker(resource, hook.settings.token)
        records = getattr(hook, resource.plural)
        listed = self._list(records, marker)
        if old and listed.has_all_ids and old.marks.keys() - listed.marks.keys() - listed.unreadable:
            # A list that lacks records for a moment must not report them as deleted, and later as created.
            earlier, listed = listed, self._list(records, marker)
            listed.marks = {**earlier.marks, **listed.marks}
            listed.unreadable |= earlier.unreadable
        marks = listed.marks
        self._warn_of_malformed(listed)
        ti: Any = context["ti"]
        run = ti.run_id if ti.map_index < 0 else f"{ti.run_id} [{ti.map_index}]"
        new = take_in(
            old,
            marks,
            marker.check,
            run,
            kinds=self.changes,
            states=self.states,
            initial=self.initial,
            unreadable=listed.unreadable if listed.has_all_ids else None,
        )
        if old is None:
            self.log.info("There is no baseline yet. It now has %d %s.", len(marks), resource.plural)
        elif old.check != new.check:
            self.log.warning(
                "The API token or the provider has changed since the last run, so this run cannot tell which "
                "attributes besides state and date have changed. The next one can."
            )
        if old and old.is_full and run not in old.reports and ti.try_number > 1:
            self.log.warning(
                "This is not the first try of this run. If an earlier one has reported changes, they are no "
                "longer stored, and this one returns only what is new since the last run. The reports of the "
                "last %d runs are stored.",
                len(old.reports),
            )
        if new != old:
            store.write(baselines.dump(new, task=self._task, resource=self._listed))
        if state is not None:
            # For the trigger. If this is lost, it only starts another run, which finds nothing new.
            state.set(DIGEST_KEY, list_digest(marks))
        report = new.report(run)
        if not report:
            raise AirflowSkipException(f"No {resource.plural} to report have changed; skipping.")
        self.log.info("%d of %d %s have changed.", len(report), len(marks), resource.plural)
        if len(report) > XCOM_MAX_RECORDS:
            self.log.warning(
                "The task returns %d changes, which Airflow stores in its database as one XCom.", len(report)
            )
        return report

    def _list(self, records: Records[Any, Any], marker: Marker) -> _List:
        """Return the marks of all records, and what of the list cannot be read."""
        listed = _List()
        iterator = records.requests.iterate_with_malformed(fields=marker.fields)
        for listed.length, record in enumerate(iterator, 1):
            mark = marker.mark(record) if record else None
            if record is None or mark is None:
                listed.malformed.append(listed.length)
                listed.unreadable.add(record and record["id"])
            elif listed.marks.setdefault(record["id"], mark) != mark:
                raise WebcamconsultResponseError(
                    f"The list shows {records.resource.name} {record['id']} twice, with different "
                    "attributes, so nothing was compared. Try again; if the error persists, check the "
                    "record in Webcamconsult."
                )
        if listed.malformed and not listed.marks:
            raise WebcamconsultResponseError(
                f"None of the {listed.length} {self.resource} in the list could be read, so nothing was "
                "compared. Try again; if the error persists, check the connection's Host."
            )
        return listed

    def _warn_of_malformed(self, listed: _List) -> None:
        if not listed.malformed:
            return
        numbers = ", ".join(map(str, listed.malformed[:POSITIONS_MAX]))
        self.log.warning(
            "%d of %d %s in the list could not be read: number %s%s. What cannot be read counts as unchanged "
            "until it can.%s Check it in Webcamconsult.",
            len(listed.malformed),
            listed.length,
            self.resource,
            numbers,
            " …" if len(listed.malformed) > POSITIONS_MAX else "",
            " One has no valid id, so until then no deletion is reported." if not listed.has_all_ids else "",
        )

    @property
    def _task(self) -> str:
        return f"{self.dag_id}.{self.task_id}"

    @property
    def _listed(self) -> str:
        return f"{self.resource} of connection '{self.webcamconsult_conn_id}'"

    def _check_choices(self) -> None:
        _check_list("changes", self.changes, CHANGE_KINDS)
        if self.states is not None:
            _check_list("states", self.states)
            if not all(map(is_state_name, self.states)):
                raise WebcamconsultInputError(
                    "states may only contain names: up to 40 letters, digits, - and _. Correct it."
                )
        if self.resource != "appointments" and (
            self.states is not None or {*self.changes} <= {"state", "moved"}
        ):
            raise WebcamconsultInputError(
                f"The {self.resource} have no states and dates, so no change would ever be reported. Remove "
                "states, and select other changes."
            )
        if self.initial not in get_args(Initial):
            raise WebcamconsultInputError("initial must be 'none' or 'all'. Correct it.")

    def _store(self, state: Any) -> BaselineStore:
        if self.baseline_path is not None:
            return FileBaselineStore(self.baseline_path)
        if state is None:
            raise WebcamconsultInputError(
                "The task has no place for its baseline. On Airflow 3.3 and newer, give it one asset as "
                "inlets=[…], such as that of webcamconsult_changes(). On older versions, set baseline_path."
            )
        return AssetBaselineStore(state)

    def _load(self, stored: Any) -> Baseline | None:
        if stored is None:
            return None
        try:
            baseline = baselines.load(stored)
            owner = (stored["task"], stored["resource"])
        except (ValueError, LookupError):
            raise WebcamconsultConfigurationError(
                "The stored baseline cannot be read. It was damaged, or written by a newer version of the "
                "provider. Restore it, or delete it to start from a new one."
            ) from None
        if owner != (self._task, self._listed):
            raise WebcamconsultConfigurationError(
                f"The stored baseline belongs to task '{owner[0]}', which lists {owner[1]}. That task would "
                "miss what this one reports. Give this task an asset or a baseline_path of its own. If the "
                "task or its connection was renamed, delete the baseline to start from a new one."
            )
        return baseline


def _check_list(name: str, value: object, choices: Collection[str] = ()) -> None:
    if not isinstance(value, (list, tuple, set, frozenset)) or not value:
        raise WebcamconsultInputError(f"{name} must be a list, and not empty. Correct it.")
    if choices and not {*value} <= {*choices}:
        raise WebcamconsultInputError(f"{name} may only contain {', '.join(choices)}. Correct it.")
