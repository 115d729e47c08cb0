"""A minimal substitute for the Airflow task of an operator: its tries and its persistent state."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from typing import Any

RETRIES = 2
RETRY_DELAY = datetime.timedelta(minutes=5)


class TaskStateStore:
    """Airflow 3.3's task state store for one task: it stores only JSON and survives retries and clearing."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.history: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any, **_retention: Any) -> None:
        assert value is not None
        self.values[key] = json.dumps(value)
        self.history.append(self.values[key])

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def clear(self) -> None:
        self.values.clear()

    def age(self, by: datetime.timedelta) -> None:
        """Simulate elapsed time: move each timestamp into the past."""
        for key, text in self.values.items():
            value = json.loads(text)
            for name in {"sent_at", "first_sent_at"} & value.keys():
                value[name] -= by.total_seconds()
            self.values[key] = json.dumps(value)


@dataclass
class Task:
    """The attributes of a task that the provider reads."""

    retries: int = RETRIES
    retry_delay: datetime.timedelta = RETRY_DELAY


@dataclass
class TaskInstance:
    """
    A task instance, with or without the task state store of Airflow 3.3.

    :param has_store: whether this Airflow version has the store.
    """

    has_store: bool
    task: Task = field(default_factory=Task)
    try_number: int = 1
    max_tries: int = RETRIES
    store: TaskStateStore = field(default_factory=TaskStateStore)
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    @property
    def context(self) -> Any:
        """The context of the current try."""
        return {"ti": self, **({"task_state_store": self.store} if self.has_store else {})}

    def retry(self, after: datetime.timedelta | None = None) -> None:
        """Start the next try as an automatic retry does, by default after ``retry_delay``."""
        self._start_next_try()
        self.store.age(self.task.retry_delay if after is None else after)

    def clear(self) -> None:
        """Start the next try as clearing the task does, which resets the number of retries."""
        self.max_tries = self.try_number + self.task.retries
        self._start_next_try()
        self.store.age(self.task.retry_delay)

    def _start_next_try(self) -> None:
        self.try_number += 1
        self.xcoms.clear()  # as Airflow does
