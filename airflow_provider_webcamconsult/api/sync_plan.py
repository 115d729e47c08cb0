"""
Decide what a synchronization writes: compare rows with records, without any I/O.

A row holds the attributes that a record should have. Rows and records are matched by one attribute, the key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_webcamconsult.api.matching import differing_attributes, join_names
from airflow_provider_webcamconsult.api.missing import is_blank
from airflow_provider_webcamconsult.api.payload import (
    check_attributes,
    describe_misspelt,
    serialize_attributes,
)
from airflow_provider_webcamconsult.api.record_index import RecordIndex, normalize_key, normalize_prefix
from airflow_provider_webcamconsult.exceptions import WebcamconsultConflictError, WebcamconsultInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pendulum import Timezone

    from airflow_provider_webcamconsult.api.resources import Resource

#: What a synchronization writes.
SyncMode = Literal["insert", "update", "upsert", "mirror"]
SYNC_MODES = ("insert", "update", "upsert", "mirror")

_CREATING = ("insert", "upsert", "mirror")
_UPDATING = ("update", "upsert", "mirror")

#: Maximum number of rows to name in a reason.
ROWS_SHOWN_MAX = 5
#: Share of the records that a run in mode ``"mirror"`` may delete, unless it is told otherwise.
MAX_DELETES = 0.05


@dataclass(frozen=True, slots=True)
class MalformedRow:
    """
    What a source has in place of a row.

    :param reason: why this is not a row, as a sentence without values.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class RowWrite:
    """
    A create or an update. Its repr shows no personal data.

    :param row: number of the row, counted from 1.
    :param key: the key, as it is sent.
    :param payload: the serialized attributes to write.
    :param record_id: id of the record to update; None for a create.
    """

    row: int
    key: str = field(repr=False)
    payload: dict[str, Any] = field(repr=False)
    record_id: str | None = None


@dataclass(frozen=True, slots=True)
class RowFailure:
    """
    A row that was not synchronized, or a record that was not deleted. Its repr shows no personal data.

    :param row: number of the row, counted from 1; None for a delete.
    :param key: the key of the row, if it has one; None for a delete.
    :param attributes: names of the attributes that are the cause, as far as they are known.
    :param reasons: sentences that contain names and record ids, but no values.
    :param can_retry: whether the same row may succeed later.
    """

    row: int | None
    key: str | None = field(repr=False)
    attributes: tuple[str, ...]
    reasons: tuple[str, ...]
    can_retry: bool = False


@dataclass
class SyncPlan:
    """
    What a synchronization is going to write.

    :param rows: number of rows that were read.
    :param unchanged: number of rows for which there is nothing to write in this mode.
    :param creates: records to create.
    :param updates: records to update, with only the attributes that differ.
    :param deletes: ids of records to delete: those that are in no row, in mode ``"mirror"``.
    :param failures: rows that cannot be written.
    :param warnings: warnings for the log, with the number of rows that each of them concerns.
    :param owned: number of records whose key begins with ``key_prefix``.
    :param ids: ids of the records of unchanged and updated rows by key, if they were asked for.
    """

    rows: int = 0
    unchanged: int = 0
    creates: list[RowWrite] = field(default_factory=list, repr=False)
    updates: list[RowWrite] = field(default_factory=list, repr=False)
    deletes: list[str] = field(default_factory=list)
    failures: list[RowFailure] = field(default_factory=list)
    warnings: Counter[str] = field(default_factory=Counter)
    owned: int = 0
    ids: dict[str, str] | None = field(default=None, repr=False)

    @property
    def may_delete(self) -> bool:
        """Whether the rows are complete enough to conclude that a record is gone."""
        return self.rows > 0 and not self.failures


def check_sync(
    resource: Resource[Any, Any], *, key: object, mode: object, key_prefix: object, max_deletes: object
) -> None:
    """
    Check the parameters of a synchronization.

    :param resource: the kind of record.
    :param key: name of the attribute that identifies a record.
    :param mode: what to write.
    :param key_prefix: beginning of the keys to synchronize, or None.
    :param max_deletes: maximum number or share of records to delete.
    :raises WebcamconsultInputError: if one of them is invalid.
    """
    keys = [names[0] for names in resource.natural_keys if len(names) == 1]
    if key not in keys:
        raise WebcamconsultInputError(f"key must be one of {', '.join(keys)}.")
    if mode not in SYNC_MODES:
        raise WebcamconsultInputError(f"mode must be one of {', '.join(SYNC_MODES)}.")
    if key_prefix is not None and not isinstance(key_prefix, str):
        raise WebcamconsultInputError(
            f"key_prefix is of type {type(key_prefix).__name__}. Pass a string, such as 'DL-'."
        )
    if mode == "mirror" and key_prefix is None:
        raise WebcamconsultInputError(
            "mode='mirror' needs a key_prefix: only records whose key begins with it are deleted. "
            "To delete any record that is in no row, pass key_prefix=''."
        )
    is_number = isinstance(max_deletes, (int, float)) and not isinstance(max_deletes, bool)
    if not is_number or not max_deletes >= 0 or (isinstance(max_deletes, float) and max_deletes > 1):  # type: ignore[operator]
        raise WebcamconsultInputError(
            "max_deletes must be a whole number, such as 20, or a share between 0.0 and 1.0, such as 0.05."
        )


def exceeds(max_deletes: float, plan: SyncPlan) -> bool:
    """
    Return whether a plan deletes more than it may.

    :param max_deletes: an int is a number of records, a float a share of those that the plan owns.
    :param plan: the plan.
    """
    limit = max_deletes * plan.owned if isinstance(max_deletes, float) else max_deletes
    return len(plan.deletes) > limit


def plan_sync(
    resource: Resource[Any, Any],
    rows: Iterable[Mapping[str, Any] | MalformedRow],
    records: Iterable[Mapping[str, Any]],
    *,
    key: str,
    mode: SyncMode,
    zone: Timezone,
    key_prefix: str | None = None,
    with_ids: bool = False,
    since: float | None = None,
    until: float = 0.0,
) -> SyncPlan:
    """
    Compare rows with records, and decide what to write.

    :param resource: the kind of record.
    :param rows: attributes of each record as it should be. They are read once. Attributes that a row lacks
        are left alone.
    :param records: all records as they are.
    :param key: name of the attribute that identifies a record.
    :param mode: ``"insert"`` only creates, ``"update"`` only updates, ``"upsert"`` does both, and
        ``"mirror"`` deletes the records that are in no row, too.
    :param zone: time zone of dates without a UTC offset.
    :param key_prefix: beginning of the keys to synchronize. A row with another key is a failure.
    :param with_ids: whether to collect the ids of the records.
    :param since: when an earlier try began to create records, in seconds since the epoch, if it may have
        created some that it does not know of.
    :param until: the current time.
    :return: the plan.
    """
    index = RecordIndex(resource, key, records)
    plan = SyncPlan(ids={} if with_ids else None)
    prefix = normalize_prefix(key, key_prefix or "")
    first_rows: dict[str, int] = {}
    repeated: dict[str, list[RowWrite]] = {}
    first_strong: dict[str, int] = {}
    repeated_strong: dict[str, list[RowWrite]] = {}
    for number, row in enumerate(rows, 1):
        plan.rows = number
        equal = index.find_equal(row, zone)
        if equal is not None:
            write: RowWrite | None = RowWrite(number, row[key], {}, equal[1])  # type: ignore[index]
        else:
            write = _read_row(resource, key, row, number, zone, plan)
        if write is None:
            continue
        value = normalize_key(resource, key, write.key) if equal is None else equal[0]
        assert value is not None  # noqa: S101  # the row would have been refused
        if not value.startswith(prefix):
            reason = f"The {key} does not begin with the key_prefix."
            plan.failures.append(RowFailure(number, write.key, (key,), (reason,)))
        elif first_rows.setdefault(value, number) != number:
            repeated.setdefault(value, []).append(write)
        elif equal is not None:
            _count_unchanged(plan, write.key, equal[1])
        elif (strong := index.strong_value(write.payload)) and (
            first_strong.setdefault(strong, number) != number
        ):
            repeated_strong.setdefault(strong, []).append(write)
        else:
            plan_write(plan, index, write, value, mode, since=since, until=until)
    _fail_repeated(resource, plan, key, first_rows, repeated)
    if index.strong_key is not None:
        _fail_repeated(resource, plan, index.strong_key, first_strong, repeated_strong)
    if mode == "mirror":
        # A record is not missing because its row failed.
        in_rows = {*first_rows, *(normalize_key(resource, key, failure.key) for failure in plan.failures)}
        plan.owned, plan.deletes = index.ids_with_prefix(prefix, besides=in_rows)
    return plan


def plan_write(
    plan: SyncPlan,
    index: RecordIndex,
    write: RowWrite,
    value: str,
    mode: SyncMode,
    *,
    since: float | None = None,
    until: float = 0.0,
) -> None:
    """
    Add one row to a plan.

    :param plan: the plan, which is changed.
    :param index: the records.
    :param write: the row, with all of its attributes.
    :param value: the normalized key of the row.
    :param mode: what to write.
    :param since: when a create of this row with an unknown outcome was sent, in seconds since the epoch.
    :param until: the current time.
    """
    try:
        record = index.match(value, write.payload, since=since, until=until)
    except WebcamconsultConflictError as error:
        plan.failures.append(RowFailure(write.row, write.key, (index.key,), (str(error),)))
        return
    if record is None:
        if mode in _CREATING:
            plan.creates.append(write)
        else:
            plan.unchanged += 1
        return
    record_id: str = record["id"]
    different = differing_attributes(index.resource, write.payload, record) if mode in _UPDATING else []
    if different:
        changes = {name: write.payload[name] for name in different}
        plan.updates.append(RowWrite(write.row, write.key, changes, record_id))
        return
    _count_unchanged(plan, write.key, record_id)


def _count_unchanged(plan: SyncPlan, key: str, record_id: str) -> None:
    plan.unchanged += 1
    if plan.ids is not None:
        plan.ids[key] = record_id


def _read_row(
    resource: Resource[Any, Any],
    key: str,
    row: Mapping[str, Any] | MalformedRow,
    number: int,
    zone: Timezone,
    plan: SyncPlan,
) -> RowWrite | None:
    """Validate and serialize a row. Add it to the failures of the plan if that is not possible."""
    if isinstance(row, MalformedRow):
        plan.failures.append(RowFailure(number, None, (), (row.reason,)))
        return None
    try:
        warnings = check_attributes(resource, row)
        value = row.get(key)
        if is_blank(value):
            misspelt = describe_misspelt(resource, row) if resource.knows_any(row) else []
            raise WebcamconsultInputError(" ".join([f"The row has no {key}.", *misspelt]))
        # Only now: in a file without a header, the names are values.
        plan.warnings.update(warnings)
        payload = serialize_attributes(resource, row, zone=zone)
        return RowWrite(number, payload[key], payload)
    except WebcamconsultInputError as error:
        problems = _find_problems(resource, row, zone) or [(None, str(error))]
    shown = row.get(key) if isinstance(row, Mapping) else None
    plan.failures.append(
        RowFailure(
            number,
            str(shown) if isinstance(shown, (str, int)) else None,
            tuple(name for name, _ in problems if name is not None) or (key,),
            tuple(reason for _, reason in problems),
        )
    )
    return None


def _find_problems(resource: Resource[Any, Any], row: object, zone: Timezone) -> list[tuple[str | None, str]]:
    """Return the name and the problem of each attribute that cannot be sent."""
    problems: list[tuple[str | None, str]] = []
    if isinstance(row, Mapping):
        for name, value in row.items():
            if isinstance(name, str):
                try:
                    serialize_attributes(resource, {name: value}, zone=zone)
                except WebcamconsultInputError as error:
                    problems.append((name, str(error)))
    return problems


def _fail_repeated(
    resource: Resource[Any, Any],
    plan: SyncPlan,
    key: str,
    first_rows: Mapping[str, int],
    repeated: Mapping[str, list[RowWrite]],
) -> None:
    """Turn all rows with the same key into failures, because nothing tells which of them is right."""
    if not repeated:
        return
    decided = {write.row for write in (*plan.creates, *plan.updates)}
    failed = {failure.row for failure in plan.failures}
    taken_back = set()
    for value, writes in repeated.items():
        first = first_rows[value]
        rows = [first, *(write.row for write in writes)]
        numbers = join_names([str(row) for row in rows[:ROWS_SHOWN_MAX]])
        more = f" and {len(rows) - ROWS_SHOWN_MAX} more" if len(rows) > ROWS_SHOWN_MAX else ""
        reason = f"Rows {numbers}{more} have the same {key}."
        keys = {write.row: write.key for write in writes}
        if normalize_key(resource, key, writes[0].key) == value:
            keys[first] = writes[0].key
        for row in rows:
            if row not in failed:
                plan.failures.append(RowFailure(row, keys.get(row), (key,), (reason,)))
        if first in decided:
            taken_back.add(first)
        elif first not in failed:
            plan.unchanged -= 1
    if plan.ids is not None:
        plan.ids = {
            name: record_id
            for name, record_id in plan.ids.items()
            if normalize_key(resource, key, name) not in repeated
        }
    plan.creates = [write for write in plan.creates if write.row not in taken_back]
    plan.updates = [write for write in plan.updates if write.row not in taken_back]
    plan.failures.sort(key=lambda failure: failure.row or 0)
