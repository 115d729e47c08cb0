"""
Synchronize all records of a kind with rows: one list, one comparison, and the writes that are needed.

A create whose outcome is unknown is never sent again before :data:`CREATE_FLOOR_SECONDS` have passed, in this
run and in a retry. Then the records are listed and compared once more.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Generic

from airflow_provider_webcamconsult.api.evidence import Sent, Target
from airflow_provider_webcamconsult.api.matching import differing_attributes, verify_stored
from airflow_provider_webcamconsult.api.record_index import RecordIndex, normalize_key
from airflow_provider_webcamconsult.api.resources import RecordT
from airflow_provider_webcamconsult.api.sync_plan import (
    RowWrite,
    SyncPlan,
    check_sync,
    exceeds,
    plan_sync,
    plan_write,
)
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultError,
    WebcamconsultInputError,
    WebcamconsultNotFoundError,
    WebcamconsultRateLimitError,
    WebcamconsultSyncError,
    WebcamconsultSyncRejectedError,
    WebcamconsultUnknownOutcomeError,
)
from airflow_provider_webcamconsult.idempotent_create import CREATE_FLOOR_SECONDS
from airflow_provider_webcamconsult.record_requests import RecordRequests
from airflow_provider_webcamconsult.sync.report import SyncReport, SyncResult
from airflow_provider_webcamconsult.sync.workers import Brake, StoppedError, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.api.sync_plan import MalformedRow, SyncMode
    from airflow_provider_webcamconsult.create_checkpoint import Checkpoint
    from airflow_provider_webcamconsult.transport import Transport

#: Threads that send writes, unless the run is told otherwise.
WORKERS = 4
#: Maximum number of threads: the network connections that the session keeps open.
WORKERS_MAX = 10
#: Seconds for which a checkpoint allows to send creates, so that it is not written before each of them.
LEASE_SECONDS = 60.0
#: How often creates with an unknown outcome are looked up and sent again.
CREATE_ROUNDS_MAX = 3


class _Lease:
    """
    Allows creates for a while, and stores in the checkpoint until when.

    :param checkpoint: checkpoint for the next try.
    :param began_at: when the first create may have been sent.
    :param stop: set when the run is interrupted.
    """

    def __init__(self, checkpoint: Checkpoint, began_at: float, stop: threading.Event) -> None:
        self._checkpoint = checkpoint
        self._began_at = began_at
        self._stop = stop
        self._until = 0.0

    def renew(self) -> None:
        """Store a later end if this one is near. Only the main thread of a task may use Airflow's store."""
        now = time.time()
        if self._until - now < LEASE_SECONDS / 2:
            self._checkpoint.write({"began_at": self._began_at, "sent_at": now + LEASE_SECONDS})
            self._until = now + LEASE_SECONDS

    def end(self, *, needs_check: bool) -> None:
        """Store that no more creates are sent, and whether a retry has to check what they created."""
        now = time.time()
        self._checkpoint.write({"began_at": self._began_at, "sent_at": now} if needs_check else {})

    def wait(self) -> None:
        """Wait until creates are allowed."""
        while time.time() >= self._until:
            if self._stop.wait(0.01):
                raise StoppedError


class Sync(Generic[RecordT]):
    """
    Synchronizes the records of one kind with rows.

    :param transport: transport that sends the requests.
    :param resource: the kind of record.
    :param key: name of the attribute that identifies a record.
    :param mode: what to write.
    :param key_prefix: beginning of the keys to synchronize.
    :param max_deletes: maximum number (int) or share (float) of records to delete.
    :param max_failures: number of failures to tolerate.
    :param plan_only: whether to write nothing.
    :param workers: number of threads.
    :param with_ids: whether to return the ids of the records.
    :param checkpoint: checkpoint of earlier tries.
    :raises WebcamconsultInputError: if one of them is invalid.
    """

    def __init__(
        self,
        transport: Transport,
        resource: Resource[Any, RecordT],
        *,
        key: str,
        mode: SyncMode,
        key_prefix: str | None,
        max_deletes: float,
        max_failures: int,
        plan_only: bool,
        workers: int,
        with_ids: bool,
        checkpoint: Checkpoint,
    ) -> None:
        check_sync(resource, key=key, mode=mode, key_prefix=key_prefix, max_deletes=max_deletes)
        _check_count("max_failures", max_failures, 0, None)
        _check_count("workers", workers, 1, WORKERS_MAX)
        self.transport = transport
        self.resource = resource
        self.key = key
        self.mode = mode
        self.key_prefix = key_prefix
        self.max_deletes = max_deletes
        self.plan_only = plan_only
        self.with_ids = with_ids
        self.checkpoint = checkpoint
        self.plan = SyncPlan()
        self.report = SyncReport(
            resource,
            transport.log,
            max_deletes=max_deletes,
            max_failures=max_failures,
            plan_only=plan_only,
        )
        #: Whether an earlier try may have created records that it does not know of.
        self._is_retry = False
        #: Why the records could not be listed again.
        self._list_error: WebcamconsultError | None = None
        #: Creates with an unknown outcome, and what disputed the response to them.
        self._unknown: list[RowWrite] = []
        self._unknown_rows: set[int] = set()
        self._disputes: dict[int, str] = {}
        self._not_found: list[tuple[RowWrite, WebcamconsultError]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._brake = Brake(self._stop)
        self._requests = RecordRequests(transport, resource)
        self._writes = RecordRequests(
            transport, resource, before_attempt=self._brake.wait, before_retry=self._before_retry
        )
        #: The ids of all records in the lists, which are from before the creates.
        self._listed_ids: set[str] = set()
        self._began_at = 0.0
        self._lease = _Lease(checkpoint, self._began_at, self._stop)
        self._workers: Workers[RowWrite] = Workers(
            workers, send=self._send_write, on_error=self._fail, stop=self._stop
        )

    def run(self, rows: Iterable[Mapping[str, Any] | MalformedRow]) -> SyncResult:
        """
        Compare the rows with the records, and write what differs.

        :param rows: attributes of each record as it should be. They are read once.
        :return: what was done.
        :raises WebcamconsultSyncError: if more rows failed than ``max_failures``, and a retry may help, or if
            there are no rows, and records would be deleted.
        :raises WebcamconsultSyncRejectedError: if a retry would not help, or if there are too many deletes.
        """
        earlier, now = self.checkpoint.read(), time.time()
        # The clock of the earlier worker may be ahead, so never wait longer than the floor from now.
        sent_at = min(earlier["sent_at"], now) if "sent_at" in earlier else None
        self._is_retry = sent_at is not None
        self._began_at = now if sent_at is None else min(earlier.get("began_at", sent_at), sent_at)
        self.plan = plan = plan_sync(
            self.resource,
            self.report.log_compared(rows),
            self._iterate(),
            key=self.key,
            mode=self.mode,
            zone=self.transport.settings.timezone,
            key_prefix=self.key_prefix,
            with_ids=self.with_ids,
            since=None if sent_at is None else self._began_at,
            until=now,
        )
        self.report.begin(plan)
        if self.plan_only:
            return self.report.report_plan()
        if plan.deletes and not plan.rows:
            raise WebcamconsultSyncError(
                f"{self.report.describe_no_rows()}. Nothing was written. Check the source of the rows, and "
                "run again. If the records are to be deleted, delete them in Webcamconsult.",
                result=self.report.result(),
            )
        if plan.may_delete and exceeds(self.max_deletes, plan):
            raise WebcamconsultSyncRejectedError(
                f"{self.report.describe_deletes()}, so nothing was written. Check that the rows are "
                "complete. If they are, run again with a larger max_deletes.",
                result=self.report.result(),
            )
        self._write(0.0 if sent_at is None else sent_at + CREATE_FLOOR_SECONDS, now)
        return self.report.finish(self._brake.count)

    # The phases: creates, updates, unknown outcomes, deletes

    def _write(self, settled_at: float, listed_at: float) -> None:
        """
        Send all writes.

        :param settled_at: when no create of an earlier try can be in progress any more.
        :param listed_at: when the records were listed; reading the rows can take long after that.
        """
        plan = self.plan
        # An empty list may be a hiccup, after which everybody would be created again: list once more.
        if plan.creates and (settled_at > listed_at or not self._listed_ids):
            self._unknown = plan.creates
        else:
            settled_at = self._create(plan.creates)
        self._send(plan.updates)
        self._settle(settled_at)
        self._explain_not_found()
        if self.report.failures:
            self.report.withhold_deletes()
        else:
            # Deletes are writes without attributes.
            self._send([RowWrite(0, "", {}, record_id) for record_id in plan.deletes])
            self._explain_not_found()

    def _create(self, writes: list[RowWrite]) -> float:
        """Send creates, and return when those of them that have an unknown outcome can be sent again."""
        if not writes or self._workers.fatal is not None:
            self._send(writes)
            return 0.0
        self._lease = _Lease(self.checkpoint, self._began_at, self._stop)
        self._lease.renew()
        self._send(writes, check=self._lease.renew)
        # Without an unknown outcome, a retry has nothing to wait for.
        self._lease.end(needs_check=bool(self._unknown))
        return time.time() + CREATE_FLOOR_SECONDS

    def _settle(self, settled_at: float) -> None:
        """Find the records of creates with an unknown outcome, and create those that do not exist."""
        for _ in range(CREATE_ROUNDS_MAX):
            if not self._unknown or self._workers.fatal is not None:
                break
            delay = settled_at - time.time()
            is_listed = self._look_up(is_final=delay <= 0)
            if not self._unknown:
                break
            if delay > 0:
                self.transport.log.info(
                    "%d %s may still be created by requests whose outcome is unknown. Next check in %.0f s.",
                    len(self._unknown),
                    self.resource.plural,
                    delay,
                )
                time.sleep(max(0.0, settled_at - time.time()))
                is_listed = self._look_up(is_final=True)
            if not is_listed:
                break
            again, self._unknown = self._unknown, []
            settled_at = self._create(again)
        for write in self._unknown:
            if self._is_retry or write.row in self._unknown_rows:
                self.report.add_failure(
                    write,
                    f"The {self.resource.name} may have been created, but the list does not show it yet. "
                    "A retry checks the list again before it creates a record.",
                    can_retry=True,
                )
            else:
                self._add_unsent(write, self._workers.fatal or self._list_error)
        self._unknown = []

    def _look_up(self, *, is_final: bool) -> bool:
        """List the records, and accept those of unknown outcomes. Return whether the list was received."""
        values = {
            write.row: normalize_key(self.resource, self.key, write.key) or "" for write in self._unknown
        }
        try:
            index = RecordIndex(self.resource, self.key, self._iterate(), only={*values.values()})
        except WebcamconsultError as error:
            self.transport.log.warning("%s", error)
            self._list_error = error
            return False
        found = SyncPlan(ids=self.plan.ids)
        for write in self._unknown:
            value = values[write.row]
            plan_write(found, index, write, value, self.mode, since=self._began_at, until=time.time())
            if found.unchanged:
                found.unchanged = 0
                self.report.count("created" if write.row in self._unknown_rows else "unchanged")
        self._unknown = found.creates
        self.report.failures += found.failures
        if is_final:
            self._fail_disputed()
        self._send(found.updates)
        return True

    def _fail_disputed(self) -> None:
        """Do not create again what a response showed as a different record: it may be stored like that."""
        for write in [write for write in self._unknown if write.row in self._disputes]:
            self.report.add_failure(
                write,
                f"The response to the create showed {self._disputes[write.row]}. Check it; if it is wrong, "
                "delete it.",
            )
        self._unknown = [write for write in self._unknown if write.row not in self._disputes]

    # One write, in a thread

    def _send(self, writes: list[RowWrite], *, check: Callable[[], None] | None = None) -> None:
        def check_all() -> None:
            if check is not None:
                check()
            self.report.log_progress()

        unsent = self._workers.run(writes, check=check_all)
        for write in unsent:
            self._add_unsent(write, self._workers.fatal)

    def _send_write(self, write: RowWrite) -> None:
        if write.record_id is None:
            self._send_create(write)
        elif write.payload:
            self._send_update(write, write.record_id)
        else:
            self._writes.delete(write.record_id)
            self.report.count("deleted")

    def _send_create(self, write: RowWrite) -> None:
        sent_at = 0.0

        def before_attempt() -> None:
            nonlocal sent_at
            self._brake.wait()
            self._lease.wait()
            sent_at = time.time()

        record = self._writes.create(write.payload, before_attempt=before_attempt)
        record = self._writes.complete(record, [self.key])
        target = Target(self.resource, write.payload, key_name=self.key)
        sent = Sent(sent_at, until=time.time(), ids_before=self._listed_ids)
        if dispute := target.find_dispute(record, sent):
            with self._lock:
                self._disputes[write.row] = dispute.problem
                self._add_unknown(write)
            return
        self._verify(write, record)
        self.report.count("created", write.key, record["id"])

    def _send_update(self, write: RowWrite, record_id: str) -> None:
        self._verify(write, self._writes.update(record_id, write.payload))
        # The record of a create with an unknown outcome, which is updated to match.
        outcome = "created" if write.row in self._unknown_rows else "updated"
        self.report.count(outcome, write.key, record_id)

    def _before_retry(self, error: WebcamconsultError, delay: float) -> None:
        if error.retry_after or isinstance(error, WebcamconsultRateLimitError):
            self._brake.apply(delay)
        self.report.add_retry(error)

    def _verify(self, write: RowWrite, record: Mapping[str, Any]) -> None:
        if verify_stored(self.resource, write.payload, record, strict=False):
            self.report.add_different(differing_attributes(self.resource, write.payload, record))

    # Failures

    def _fail(self, write: RowWrite, error: WebcamconsultError) -> None:
        with self._lock:
            if isinstance(error, WebcamconsultUnknownOutcomeError):
                self._add_unknown(write)
            elif isinstance(error, WebcamconsultNotFoundError) and write.record_id is not None:
                self._not_found.append((write, error))
            else:
                self.report.add_failure(write, str(error), error)

    def _add_unknown(self, write: RowWrite) -> None:
        self._unknown.append(write)
        self._unknown_rows.add(write.row)

    def _add_unsent(self, write: RowWrite, error: WebcamconsultError | None) -> None:
        self.report.add_failure(write, f"Not sent, because of an earlier error: {error}", error)

    def _explain_not_found(self) -> None:
        """Decide what a 404 meant: the record was deleted by others, or the connection has wrong paths."""
        not_found, self._not_found = self._not_found, []
        if not not_found:
            return
        ids = {str(write.record_id) for write, _ in not_found}
        try:
            listed = {*self._requests.list_after_404(ids, not_found[0][1], fields=[])}
        except WebcamconsultError as list_error:
            self.transport.log.warning("%s", list_error)
            listed = ids
        for write, error in not_found:
            if write.record_id in listed:
                self.report.add_failure(write, str(error), error)
            elif write.row:
                reason = f"{self.resource.name.capitalize()} {write.record_id} was deleted during the run."
                self.report.add_failure(write, reason, can_retry=True)
            else:
                self.report.count("deleted")

    def _iterate(self) -> Iterator[RecordT]:
        for record in self._requests.iterate():
            self._listed_ids.add(record["id"])
            yield record


def _check_count(name: str, value: object, lowest: int, highest: int | None) -> None:
    is_valid = isinstance(value, int) and not isinstance(value, bool) and value >= lowest
    if not is_valid or (highest is not None and value > highest):  # type: ignore[operator]
        limits = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
        raise WebcamconsultInputError(f"{name} must be a whole number, {limits}.")
