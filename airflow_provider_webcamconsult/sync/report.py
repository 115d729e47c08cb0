"""What a synchronization tells: its progress and its outcome, in the log, in errors and as a result."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.matching import join_names
from airflow_provider_webcamconsult.api.sync_plan import RowFailure, SyncPlan, exceeds
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultMismatchError,
    WebcamconsultSyncError,
    WebcamconsultSyncRejectedError,
    WebcamconsultValidationError,
)
from airflow_provider_webcamconsult.version_compat import AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.api.sync_plan import MalformedRow, RowWrite
    from airflow_provider_webcamconsult.exceptions import WebcamconsultError
    from airflow_provider_webcamconsult.transport import Log

#: Seconds between two lines about the progress in the log.
PROGRESS_SECONDS = 10.0
#: Maximum number of failures, and of warnings, to show in an error or in the log.
SHOWN_MAX = 20


@dataclass(frozen=True)
class SyncResult:
    """
    What a synchronization did, or in a plan is going to do.

    :param rows: number of rows.
    :param created: number of records that were created.
    :param updated: number of records that were updated.
    :param unchanged: number of rows for which there was nothing to write in this mode.
    :param deleted: number of records that were deleted.
    :param failed: number of rows that were not synchronized, and of records that were not deleted.
    :param failures: the failures, in the order of the rows.
    :param ids: ids of the records by key; None if they were not asked for.
    """

    rows: int
    created: int
    updated: int
    unchanged: int
    deleted: int
    failed: int
    failures: tuple[RowFailure, ...] = field(default=(), repr=False)
    ids: Mapping[str, str] | None = field(default=None, repr=False)

    def counts(self) -> dict[str, int]:
        """Return only the counts."""
        names = ("rows", "created", "updated", "unchanged", "deleted", "failed")
        return {name: getattr(self, name) for name in names}


class SyncReport:
    """
    Counts what a synchronization does, and reports it.

    :param resource: the kind of record.
    :param log: logger for progress and warnings.
    :param max_deletes: maximum number (int) or share (float) of records to delete.
    :param max_failures: number of failures to tolerate.
    :param plan_only: whether nothing is written.
    """

    def __init__(
        self,
        resource: Resource[Any, Any],
        log: Log,
        *,
        max_deletes: float,
        max_failures: int,
        plan_only: bool,
    ) -> None:
        self.resource = resource
        self.log = log
        self.max_deletes = max_deletes
        self.max_failures = max_failures
        self.plan_only = plan_only
        self.plan = SyncPlan()
        self.failures: list[RowFailure] = []
        self._counts = Counter[str]()
        #: Number of deletes that were not sent, because rows failed.
        self._withheld = 0
        self._different = Counter[str]()
        self._retries = Counter[str]()
        self._lock = threading.Lock()
        self._progress_at = time.monotonic() + PROGRESS_SECONDS
        self._writing_since = 0.0

    def begin(self, plan: SyncPlan) -> None:
        """
        Take in the plan, and log its warnings.

        :param plan: the plan.
        """
        self.plan, self._writing_since = plan, time.monotonic()
        self.failures += plan.failures
        for warning, count in plan.warnings.most_common(SHOWN_MAX):
            self.log.warning("%s (%s of %s rows)", warning, f"{count:,}", f"{plan.rows:,}")

    def withhold_deletes(self) -> None:
        """Note that nothing is deleted, because rows failed."""
        self._withheld = len(self.plan.deletes)

    def add_retry(self, error: WebcamconsultError) -> None:
        """
        Count a retry of a request.

        :param error: why it is retried.
        """
        with self._lock:
            self._retries[str(error)] += 1

    def add_different(self, names: Iterable[str]) -> None:
        """
        Count the attributes that the service stored differently.

        :param names: their names.
        """
        with self._lock:
            self._different.update(names)

    def count(self, name: str, key: str | None = None, record_id: str | None = None) -> None:
        """
        Count a row or a record, and keep the id of its record.

        :param name: what was done.
        :param key: the key of the row.
        :param record_id: id of the record.
        """
        with self._lock:
            self._counts[name] += 1
            if self.plan.ids is not None and key is not None and record_id is not None:
                self.plan.ids[key] = record_id

    def add_failure(
        self,
        write: RowWrite,
        reason: str,
        error: WebcamconsultError | None = None,
        *,
        can_retry: bool = False,
    ) -> None:
        """
        Add a row that was not synchronized, or a record that was not deleted.

        :param write: the write.
        :param reason: why, as sentences without values.
        :param error: the error, if there was one. It decides whether a retry may succeed.
        :param can_retry: whether a retry may succeed, if there was none.
        """
        names: Collection[str] = ()
        if isinstance(error, WebcamconsultValidationError):
            names = error.errors
        elif isinstance(error, WebcamconsultMismatchError):
            names = error.attributes
        if error is not None:
            can_retry = not isinstance(error, AirflowFailException)
        if not write.row and write.record_id:
            reason = f"{self.resource.name.capitalize()} {write.record_id} was not deleted. {reason}"
        self.failures.append(
            RowFailure(write.row or None, write.key or None, tuple(names), (reason,), can_retry)
        )

    def log_compared(
        self, rows: Iterable[Mapping[str, Any] | MalformedRow]
    ) -> Iterator[Mapping[str, Any] | MalformedRow]:
        """
        Log from time to time how many rows have been read.

        :param rows: the rows.
        :return: an iterator over them.
        """
        for number, row in enumerate(rows):
            if time.monotonic() >= self._progress_at:
                self._progress_at = time.monotonic() + PROGRESS_SECONDS
                self.log.info("%s rows compared.", f"{number:,}")
            yield row

    def log_progress(self) -> None:
        """Log from time to time how many writes have been sent."""
        now = time.monotonic()
        if now < self._progress_at:
            return
        self._progress_at = now + PROGRESS_SECONDS
        plan, counts = self.plan, self._counts
        done = counts["created"] + counts["updated"] + counts["deleted"]
        total = len(plan.creates) + len(plan.updates) + len(plan.deletes)
        seconds = (now - self._writing_since) / max(done, 1) * max(total - done, 0)
        self.log.info(
            "%s of %s writes sent: %s created, %s updated, %s deleted, %s failed; about %.0f s left.",
            f"{done:,}",
            f"{total:,}",
            *(f"{counts[name]:,}" for name in ("created", "updated", "deleted")),
            f"{len(self.failures):,}",
            seconds,
        )

    def describe_no_rows(self) -> str:
        """Say that all records would be deleted, because there were no rows."""
        return (
            f"There were no rows, so all {self.plan.owned:,} {self.resource.plural} with this key_prefix "
            "would be deleted"
        )

    def describe_deletes(self) -> str:
        """Say that there are more deletes than may be sent."""
        plan = self.plan
        limit = f"{self.max_deletes:.1%}" if isinstance(self.max_deletes, float) else str(self.max_deletes)
        return (
            f"{len(plan.deletes):,} of {plan.owned:,} {self.resource.plural} are in no row and would be "
            f"deleted, which is more than max_deletes ({limit})"
        )

    def report_plan(self) -> SyncResult:
        """Log what a run would do, and return it."""
        plan = self.plan
        if plan.failures:
            self.withhold_deletes()
        elif plan.deletes and not plan.rows:
            self.log.warning("%s. A run would fail and write nothing.", self.describe_no_rows())
        elif exceeds(self.max_deletes, plan):
            self.log.warning("%s. A run would write nothing.", self.describe_deletes())
        self._counts.update(
            created=len(plan.creates),
            updated=len(plan.updates),
            deleted=len(plan.deletes) if plan.may_delete else 0,
        )
        result = self.result()
        self._log_result("Plan", result)
        if result.failed:
            self.log.warning("%s", self._describe_failures(result))
        return result

    def finish(self, pauses: int) -> SyncResult:
        """
        Log what was done, and return it.

        :param pauses: how often the service asked to wait.
        :return: what was done.
        :raises WebcamconsultSyncError: if too many rows failed.
        """
        for message, count in self._retries.most_common(SHOWN_MAX):
            self.log.warning("%s Retried %d times.", message, count)
        if pauses:
            self.log.warning(
                "Webcamconsult asked %d times to wait, and all workers paused. Use fewer workers.",
                pauses,
            )
        if self._different:
            names = ", ".join(f"{name} ({count:,})" for name, count in self._different.most_common())
            self.log.warning(
                "Webcamconsult accepted the requests, but attributes are different or missing in the "
                "responses, with the number of %s: %s.",
                self.resource.plural,
                names,
            )
        result = self.result()
        self._log_result("Done", result)
        if not result.failed:
            return result
        message = self._describe_failures(result)
        if result.failed <= self.max_failures:
            self.log.warning("%s", message)
            return result
        if any(failure.can_retry for failure in result.failures):
            raise WebcamconsultSyncError(message, result=result)
        raise WebcamconsultSyncRejectedError(message, result=result)

    def _log_result(self, title: str, result: SyncResult) -> None:
        counts = ", ".join(f"{count:,} {name}" for name, count in result.counts().items())
        self.log.info("%s, %s: %s.", title, self.resource.plural, counts)

    def _describe_failures(self, result: SyncResult) -> str:
        lines = [
            f"{'delete' if failure.row is None else f'row {failure.row}'}"
            f"{f' ({join_names(failure.attributes)})' if failure.attributes else ''}: "
            f"{' '.join(failure.reasons)}"
            for failure in result.failures[:SHOWN_MAX]
        ]
        more = result.failed - len(lines)
        if more > 0:
            lines.append(f"and {more:,} more")
        subject = "1 failure" if result.failed == 1 else f"{result.failed:,} failures"
        summary = f"{subject} in {result.rows:,} rows; the other rows are not affected."
        if self._withheld:
            summary += (
                f" Nothing {'would be' if self.plan_only else 'was'} deleted, because rows failed; "
                f"{self.resource.plural} in no row: {self._withheld:,}."
            )
        return "\n".join([summary, *lines])

    def result(self) -> SyncResult:
        """Return what was done so far."""
        failures = sorted(self.failures, key=lambda failure: (failure.row is None, failure.row or 0))
        return SyncResult(
            rows=self.plan.rows,
            created=self._counts["created"],
            updated=self._counts["updated"],
            unchanged=self.plan.unchanged + self._counts["unchanged"],
            deleted=self._counts["deleted"],
            failed=len(failures),
            failures=tuple(failures),
            ids=self.plan.ids,
        )
