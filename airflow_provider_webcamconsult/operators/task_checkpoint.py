"""Keep the checkpoint of a create in Airflow's task state store, for the next try of the task."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.version_compat import is_automatic_retry, task_state_store, try_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_webcamconsult.version_compat import Context


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
        self._was_read = False

    def _load(self, context: Context) -> dict[str, Any]:
        stored = None if self._store is None else self._store.get(self._KEY)
        if stored or (stored is not None and is_automatic_retry(context)):
            # Stored for the retries of this try: they cannot detect that the task was cleared.
            marks = {} if is_automatic_retry(context) else _marks_of_clear(stored)
            if marks:
                self.write({**stored, **marks})
            return {**stored, **marks}
        if stored is not None and try_number(context) > 1:
            self.write({"was_cleared": True})
            return {"was_cleared": True}
        if try_number(context) <= 1:
            self.write({})  # tells the next try that this one has sent nothing yet
            return {}
        now = time.time()
        if is_automatic_retry(context):
            return {"sent_at": now - _min_retry_seconds(context["ti"].task)}
        # The task was cleared, perhaps just after its previous try sent a create.
        return {"sent_at": now, "looked_up": True}

    def read(self) -> Mapping[str, Any]:
        """
        Return what is known about earlier tries. Another call returns what one of them has written since.

        :return: a mapping as :meth:`~airflow_provider_webcamconsult.create_checkpoint.Checkpoint.read`
            describes it.
        """
        if self._was_read and self._store is not None:
            self._value = self._store.get(self._KEY) or self._value
        self._was_read = True
        return self._value

    def write(self, value: Mapping[str, Any]) -> None:
        """
        Replace the checkpoint. On Airflow before 3.3, this does nothing.

        :param value: a value as :meth:`read` returns it.
        """
        if self._store is not None:
            self._store.set(self._KEY, dict(value))


def _marks_of_clear(stored: Mapping[str, Any]) -> dict[str, bool]:
    """Return what it means for a checkpoint that a person has cleared the task."""
    marks = {"was_cleared": "id" in stored, "looked_up": bool(stored.get("reported"))}
    return {name: True for name, is_set in marks.items() if is_set}


def _min_retry_seconds(task: Any) -> float:
    """Return for how long at least the previous try of a task has ended."""
    seconds: float = task.retry_delay.total_seconds()
    # True doubles the delay with each try; a number is the factor of Airflow 3.
    backoff = getattr(task, "retry_exponential_backoff", False)
    if backoff and not isinstance(backoff, bool) and backoff < 1:
        return 0.0
    max_retry_delay = getattr(task, "max_retry_delay", None)
    if max_retry_delay is not None:
        seconds = min(seconds, getattr(max_retry_delay, "total_seconds", lambda: max_retry_delay)())
    return seconds
