"""The records that can be synchronized: users and clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.payload import check_switch
from airflow_provider_webcamconsult.api.resources import AttributesT, RecordT
from airflow_provider_webcamconsult.api.sync_plan import MAX_DELETES
from airflow_provider_webcamconsult.create_checkpoint import Checkpoint, NoCheckpoint
from airflow_provider_webcamconsult.records import Records
from airflow_provider_webcamconsult.sync.run import WORKERS, Sync

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_webcamconsult.api.sync_plan import MalformedRow, SyncMode
    from airflow_provider_webcamconsult.sync.report import SyncResult


class SyncableRecords(Records[AttributesT, RecordT]):
    """
    The records of one kind, ``hook.users`` or ``hook.clients``.

    :param transport: transport that sends the requests.
    :param resource: the kind of record.
    """

    def sync(
        self,
        rows: Iterable[AttributesT | Mapping[str, Any] | MalformedRow],
        *,
        key: str,
        mode: SyncMode = "upsert",
        key_prefix: str | None = None,
        max_deletes: float = MAX_DELETES,
        max_failures: int = 0,
        plan_only: bool = False,
        workers: int = WORKERS,
        with_ids: bool = False,
        checkpoint: Checkpoint | None = None,
    ) -> SyncResult:
        """
        Bring the records in line with rows: list all records once, compare, and write what differs.

        :param rows: attributes of each record as it should be, with the API's own names. They are read once.
            Attributes that a row lacks are left alone; ``None`` clears an attribute.
        :param key: name of the attribute that identifies a record: ``"reference_code"`` or ``"email"`` for
            clients, ``"email"`` for users.
        :param mode: ``"insert"`` creates records that are missing, ``"update"`` updates those that differ,
            ``"upsert"`` does both, and ``"mirror"`` also deletes those that are in no row.
        :param key_prefix: beginning of the keys to synchronize, such as ``"DL-"``. Records with another key
            are not touched, and a row with another key is a failure. ``"mirror"`` requires it; ``""`` means
            all keys. Records without a key are never deleted.
        :param max_deletes: maximum number of deletes: an int is a number of records, a float a share of the
            records with the prefix. If more are due, nothing at all is written. If there are no rows, the
            run fails and writes nothing. If a row fails, nothing is deleted.
        :param max_failures: number of failures to tolerate. Each costs only its row.
        :param plan_only: whether to write nothing, and only return what a run would do.
        :param workers: number of threads that send writes, 1 to 10.
        :param with_ids: whether to return the ids of the records by key.
        :param checkpoint: checkpoint of an earlier try; the operators pass the task's.
        :return: the counts, the failures, and the ids.
        :raises WebcamconsultInputError: if a parameter is invalid.
        :raises WebcamconsultSyncError: if more rows failed than ``max_failures``, or if there are no rows
            and ``"mirror"`` would delete records. It is a WebcamconsultSyncRejectedError if a retry would
            not help, or if there are too many deletes.
        """
        check_switch("plan_only", plan_only)
        sync: Sync[RecordT] = Sync(
            self.transport,
            self.resource,
            key=key,
            mode=mode,
            key_prefix=key_prefix,
            max_deletes=max_deletes,
            max_failures=max_failures,
            plan_only=plan_only,
            workers=workers,
            with_ids=with_ids,
            checkpoint=checkpoint or NoCheckpoint(),
        )
        return sync.run(rows)
